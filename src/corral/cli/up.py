"""`corral up`: writes down what is wanted, sees that a head runs, and follows until the model generates."""

import asyncio
import os
import re
import sys
import time
from pathlib import Path
from typing import Final

from rich.markup import escape

from corral.cli.console import console, print_json
from corral.cli.follow import HeadKeeper, follow
from corral.cli.serving import asks_for_keys, curl, notes, options, said
from corral.cli.stay import Interrupted, Interrupts, end, give_up, stay
from corral.cluster.file import load
from corral.cluster.topology import part_of
from corral.cluster.values import Cluster
from corral.errors import BadInput, CorralError
from corral.launcher.daemon import HeadAddress, ensure_head, head_lives
from corral.launcher.discovery import this_machine
from corral.models.source import ModelSource, parse_source
from corral.planner.layout import parse_layout, split_replicas
from corral.store.state import Store
from corral.store.values import LIVE, Deployment, DeploymentRequest
from corral.units import format_bytes
from corral.values import Value

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,95}")
ENGINES: Final = ("llamacpp", "vllm")
EXECUTORS: Final = ("ray", "mp", "embedded", "server")


class Asked(Value):
    """The options of the command."""

    model: str
    cluster: str | None
    name: str
    engine: str
    executor: str
    layout: str
    replicas: int
    nodes: tuple[str, ...]
    context: int
    concurrency: int
    dtype: str
    threads: int
    host: str | None
    port: int | None
    allow_unkeyed: bool
    tls_cert: str
    tls_key: str
    detach: bool
    as_json: bool


def run_up(asked: Asked) -> None:
    """Launch; in the foreground stay until Ctrl-C, which ends the deployment."""
    cluster = load_cluster(asked.cluster) if asked.cluster is not None else None
    if (
        cluster is not None
        and cluster.models
        and (not asked.model or any(asked.model == model.name for model in cluster.models))
    ):
        from corral.cli.serve import run_serve

        return run_serve(asked, cluster)
    return _run_one(asked, cluster)


def _run_one(asked: Asked, cluster: Cluster | None) -> None:
    requests = requests_of(asked, cluster)
    names = tuple(request.name for request in requests)
    endpoint = said(asked.cluster, options(asked.host, asked.port, asked.tls_cert, asked.tls_key))
    interrupts = Interrupts()

    def start() -> HeadAddress:
        return ensure_head(endpoint, unkeyed=asked.allow_unkeyed)

    with Store(time.time) as store:
        resumed = all(_runs_without_a_head(store, request) for request in requests)
        start()  # first, so that what cannot be served is not left behind as a wish
        if not resumed:
            store.request(*requests)
        keeper = HeadKeeper(store, start)
        try:
            ready = follow(store, names, keeper, interrupts.pause, quiet=asked.as_json)
            _tell(ready, start(), asked)
            if not asked.detach:
                stay(store, names, keeper, interrupts.pause)
        except Interrupted:
            end(store, names, interrupts.pause)
            raise SystemExit(130) from None
        except CorralError:
            give_up(store, names)
            raise


def _runs_without_a_head(store: Store, request: DeploymentRequest) -> bool:
    """Whether just this was launched by a head that has ended since; the next one takes its ranks up again."""
    known = store.get(request.name)
    if head_lives() or known is None or known.state not in LIVE or known.desired != "running":
        return False
    return request.model_copy(update={"cluster": known.request.cluster}) == known.request


def requests_of(asked: Asked, cluster: Cluster | None) -> tuple[DeploymentRequest, ...]:
    """Check the options and give what is wanted: one request for each replica."""
    layout, copies = split_replicas(asked.layout)
    if copies > 1 and asked.replicas > 1:
        raise BadInput(
            f"The layout {asked.layout} makes {copies} replicas, and --replicas asks for {asked.replicas}.",
            "Say it in one of the two.",
        )
    request = request_of(asked.model_copy(update={"layout": layout}), cluster)
    return request.replicas(max(copies, asked.replicas))


def request_of(asked: Asked, cluster: Cluster | None) -> DeploymentRequest:
    """Check the options and give what is wanted, once."""
    if asked.engine and asked.engine not in ENGINES:
        raise BadInput(f"There is no engine named {asked.engine!r}.", f"Use one of {', '.join(ENGINES)}.")
    if asked.executor and asked.executor not in EXECUTORS:
        raise BadInput(f"There is no executor named {asked.executor!r}.", f"Use one of {', '.join(EXECUTORS)}.")
    if asked.layout:
        parse_layout(asked.layout)
    source = parse_source(asked.model, Path.cwd())
    name = asked.name or name_of(source)
    if not NAME.fullmatch(name):
        raise BadInput(f"{name!r} cannot be a model's name.", "Use --name with letters, digits and . _ : / - only.")
    return DeploymentRequest(
        name=name,
        model=source.path if source.kind == "local" else asked.model,
        cluster=part_of((cluster or load_cluster(None)).machines(), asked.nodes),
        engine=asked.engine or None,  # pyright: ignore[reportArgumentType] - checked above
        variant=asked.executor,
        layout=asked.layout or None,
        context=asked.context or None,
        concurrency=asked.concurrency,
        dtype=asked.dtype or None,
        threads=asked.threads or None,
    )


def name_of(source: ModelSource) -> str:
    """The name of a model in the API: of a path its last part, of a Hub id the part after the owner."""
    if source.kind == "default":
        return "default"
    path = Path(source.path or source.repo or str(source))
    last = path.stem if path.suffix == ".gguf" else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "model"


def load_cluster(path: str | None) -> Cluster:
    """The cluster of the file; without one, this machine."""
    if path is None:
        return asyncio.run(this_machine())
    return load(Path(path))


def _tell(replicas: tuple[Deployment, ...], head: HeadAddress, asked: Asked) -> None:
    """Say where the model answers and how to ask it."""
    ready = replicas[0]
    detail = ready.detail
    if asked.as_json:
        print_json(
            {
                "schema": "corral.up/1",
                "deployment": ready.name,
                "base_url": f"{head.url}/v1",
                "engine": detail.engine,
                "layout": detail.layout,
                "nodes": list(detail.nodes),
                "context": detail.context,
                "first_token_seconds": detail.first_token_seconds,
                "demo": detail.demo,
                "replicas": [replica.name for replica in replicas],
            }
        )
        sys.stdout.flush()
        return
    console.print(f"\n[bold green]{escape(ready.name)} is ready[/] at [bold]{head.url}/v1[/]")
    places = "; ".join(", ".join(replica.detail.nodes) for replica in replicas)
    console.print(
        f"  {escape(detail.model)}, {format_bytes(detail.weights_bytes)} of weights, {detail.engine} {detail.layout} "
        f"on {escape(places)}, {detail.context} tokens a request"
    )
    keyed = asks_for_keys()
    for note in notes(head, keyed=keyed):
        console.print(f"  [yellow]{note}[/]", soft_wrap=True)
    if detail.demo:
        console.print("  [yellow]This is the built-in demo model: it proves the plumbing and knows nothing.[/]")
    body = f'{{"model": "{ready.name}", "messages": [{{"role": "user", "content": "Who are you?"}}]}}'
    console.print("  ask it:", style="dim")
    console.print(f"    {curl(head, body, keyed=keyed)}", markup=False, soft_wrap=True)
    end = f"`corral down {ready.name}` ends it" if asked.detach or not os.isatty(0) else "Ctrl-C ends it"
    console.print(f"  {escape(end)}", style="dim")
