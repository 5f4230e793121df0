"""Time to first token, rate of a stream and of all, at a concurrency; knows no link and no table of figures.

A small model of continuous batching. A replica holds `streams` requests; each gives its slot to the next when it ends.
In one cycle every slot has one prompt and `output` tokens made, so a cycle lasts the prompts' time plus the steps.
"""

import math
from dataclasses import dataclass
from typing import Final

from corral.planner.speed.engines import batches_stages, chunks_in_flight, engine_family
from corral.planner.speed.rates import Rates
from corral.planner.speed.steps import Terms, decode_step, prompt_time, reading_rate
from corral.planner.speed.values import SpeedCase
from corral.planner.speed.work import Work

# Tokens of prompts that an engine computes at once, its default. vLLM and SGLang (EngineArgs, ServerArgs) choose by the
# device's memory: (less than so many bytes, tokens).
_BY_MEMORY: Final = {
    "vllm": ((70 * 2**30, 2048.0), (math.inf, 8192.0)),
    "sglang": ((35 * 2**30, 2048.0), (60 * 2**30, 4096.0), (160 * 2**30, 8192.0), (math.inf, 16384.0)),
}
_CHUNK: Final = {
    "trt-llm": 8192.0,
    "llamacpp": 512.0,
    "exllama": 2048.0,
    "mlx": 2048.0,
    "cpu-cluster": 32.0,
}
_CONTEXT_SHARE: Final = 0.9  # of a device's memory that weights and cache may fill
_OWN_BYTES: Final = 2.5e9  # what the engine takes besides


def chunk_tokens(case: SpeedCase) -> float:
    """Tokens of prompts that the case's engine computes at once."""
    if case.chunk:
        return float(case.chunk)
    family = engine_family(case.engine)
    if family in _BY_MEMORY:
        return next(tokens for bound, tokens in _BY_MEMORY[family] if case.device.memory < bound)
    return _CHUNK[family]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What comes out for one case, SI units; `terms` of a decode step and of the prompt at one stream's view."""

    decode: float  # tokens a second of one stream
    prompt_tokens: float  # new tokens of one prompt
    prefill: float  # prompt tokens a second, all requests of a replica together
    ttft: float
    tpot: float
    output: float  # generated tokens a second over the whole time, prompts included
    output_decoding: float  # the same since the first token
    step: Terms
    prompt: Terms
    slots: float


def estimate(
    case: SpeedCase,
    work: Work,
    rates: Rates,
    *,
    together: bool = False,
    alone: bool = False,
) -> Estimate:
    """Speeds of a case. `together`: all requests begin at once; `alone`: prompts and decoding never overlap."""
    split = case.split
    links = (split.device_link, split.node_link)
    streams = max(1.0, case.concurrency / split.dp)
    new = float(max(1, case.prompt - case.cached))
    depth = float(case.cached)
    output = float(max(1, case.output))
    middle = case.context + output / 2
    steady = not together and not alone
    # At a steady load requests are at all stages of their answers, and half of it is what each holds in the mean.
    held = output / 2 if steady and engine_family(case.engine) != "llamacpp" else output
    slots = min(streams, _slots(case, work, case.context + held))

    def step(batch: float, drafted: float = 1.0) -> Terms:
        waves = min(float(work.pp), batch) if batches_stages(case.engine) else 1.0
        return decode_step(
            work, rates, links, sequences=batch / waves, context=middle, tokens=drafted, busy=waves / work.pp
        )

    drafted, emitted, drafting = _speculation(case, work, rates)
    terms = step(slots, drafted)
    if drafting:
        terms["drafting"] = drafting
    if rates.pace != 1.0:
        terms = {name: t * rates.pace for name, t in terms.items()}
    seconds = sum(terms.values()) / emitted
    chunk = chunk_tokens(case)
    batched = max(1.0, min(slots, chunk / new)) if together or alone else 1.0
    flight = chunks_in_flight(case.engine)
    prompt = prompt_time(work, rates, links, tokens=new, depth=depth, chunk=chunk, prompts=batched, flight=flight)
    if not alone:
        prompt["per-request overhead"] = rates.request * batched
    if rates.pace_prompt != 1.0:
        prompt = {name: t * rates.pace_prompt for name, t in prompt.items()}
    group = sum(prompt.values())
    # Of several prompts one after the other, each occupies a stage only while the next passes the others.
    overlap = 1.0 + (work.pp - 1) / max(1.0, new * batched / chunk) if batches_stages(case.engine) else 1.0
    busy = group / overlap
    total = busy * slots / batched
    cycle = output * seconds + total * rates.interference
    others = slots / batched - 1.0
    waiting = others / 2.0
    if steady and others > 0.0:
        waiting = min(waiting, rates.peers * others / (others + rates.queue) + rates.lockstep * others)
    first = group + busy * waiting
    ttft = first + seconds * emitted + (streams / slots - 1.0) * cycle
    tpot = seconds if alone or slots <= 1.0 else max(seconds, (cycle - first) / output)
    made = slots * output * split.dp
    return Estimate(
        decode=1.0 / tpot,
        prefill=new * slots * split.dp / total,
        prompt_tokens=new,
        ttft=ttft,
        tpot=tpot,
        output=made / (output * seconds if alone else cycle),
        output_decoding=made / (output * seconds if alone else cycle - group),
        step=terms,
        prompt=prompt,
        slots=slots,
    )


def _slots(case: SpeedCase, work: Work, tokens: float) -> float:
    """How many requests of `tokens` a replica's memory holds at once; at least one."""
    cache = work.kv_token_bytes * tokens + work.state_bytes / 2 / work.pp
    free = case.device.usable * _CONTEXT_SHARE - work.weights_bytes - _OWN_BYTES
    return max(1.0, free / cache) if cache > 0 else 1e9


def _speculation(case: SpeedCase, work: Work, rates: Rates) -> tuple[float, float, float]:
    """Tokens verified a step, tokens emitted a step, seconds of drafting. Acceptance is taken as independent."""
    speculation = case.speculation
    if speculation is None or speculation.length < 1:
        return 1.0, 1.0, 0.0
    length = speculation.length
    emitted = sum(speculation.acceptance**i for i in range(length + 1))
    drafting = 0.0
    if work.body.draft and speculation.method != "ngram":
        read = work.body.draft * work.format.bits("draft") / 8.0 / work.tp + work.head_bytes
        drafting = length * read / reading_rate(work, rates)
    return length + 1.0, emitted, drafting
