# `make up` serves a model from this machine; `make test` runs all tests. Both install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=

.PHONY: help up test test-fast test-slow lint lab system bench-gateway bench-soak bench-start bench-memory bench-plan bench-ranking bench-routing bench-validate fit judge claims lock clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --editable .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.installed
	$(PIP) install --require-hashes -r requirements-dev.lock
	touch $@

up: $(VENV)/.installed ## Serve a model from this machine (ARGS='MODEL --detach ...')
	@$(BIN)/corral up $(ARGS)

lint: $(VENV)/.dev ## Style, types and the borders between rooms
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

test-fast: $(VENV)/.dev ## The tests that start no engine, environment or machine (under 90 s)
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/.dev system ## The tests that do, on the lab
	$(BIN)/pytest -m slow

test: system lint $(VENV)/.dev ## Everything
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile
	$(BIN)/pytest -m slow

system: ## Debian packages that the lab needs (as root; else says what is missing)
	@sh tests/install-system

lab: $(VENV)/.dev system ## Several machines out of this one, to play with (ARGS='up --hosts 3')
	$(BIN)/python tests/lab $(or $(ARGS),up)

bench-gateway: $(VENV)/.dev ## What the gateway costs, beside its engine, nginx and LiteLLM (ARGS=--all: and what else it must hold)
	$(BIN)/python benchmarks/gateway $(ARGS)

bench-soak: $(VENV)/.dev ## A million requests of all kinds through the gateway, and its memory meanwhile
	$(BIN)/python benchmarks/gateway --soak $(ARGS)

bench-start: $(VENV)/.dev ## How long a start takes and how much memory the head holds (ARGS=--cold: from a fresh clone)
	$(BIN)/python benchmarks/start.py $(ARGS)

bench-memory: $(VENV)/.dev ## What the planner predicts of memory beside what engines report (ARGS=--ask: start them)
	$(BIN)/python benchmarks/memory.py $(ARGS)

bench-validate: $(VENV)/.dev ## How long predicting takes, one case and a table of 1,000 rows
	$(BIN)/python benchmarks/validate.py $(ARGS)

fit: $(VENV)/.dev ## Fit the speed model's coefficients on measured/ anew, judged by leaving one source out
	$(BIN)/python tools/fit.py $(ARGS)

judge: $(VENV)/.dev ## Print the leave-one-source-out errors of the speed model (ARGS='--by device')
	$(BIN)/python tools/fit.py --judge-only $(ARGS)

bench-plan: $(VENV)/.dev ## How long planning takes: every layout of a model on 16 nodes of 8 devices
	$(BIN)/python benchmarks/plan.py $(ARGS)

bench-ranking: $(VENV)/.dev ## Of two measured layouts of one model: how often the faster is ranked first
	$(BIN)/python benchmarks/ranking.py $(ARGS)

bench-routing: $(VENV)/.dev ## How long people wait under each way to choose a replica: a simulation
	$(BIN)/python benchmarks/routing $(ARGS)

claims: $(VENV)/.installed ## Write docs/claims.md: what the source documents claim, beside what Corral computes
	$(BIN)/corral claims --output docs/claims.md

lock: ## Pin all dependencies anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml -o requirements-dev.lock

clean: ## Remove what was installed here
	rm -rf $(VENV) dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
