"""What the gateway costs beside asking the engine directly, beside nginx and beside LiteLLM; knows no real engine.

Every process is one of its own: the engine, each way to it, and this one, which loads them all in turn.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import engine as engines
import leaving
import ordered
import paths
import show
import soak
import speed
import uvloop

Parts = Iterator[tuple[str, dict[str, object]]]


async def gateway(upstream_port: int, *, keep_alive: bool) -> None:
    """Serve until ended."""
    from corral.gateway.collector import calm  # noqa: PLC0415 - the other processes are to be without it
    from corral.gateway.desk.settings import DeskSettings  # noqa: PLC0415 - as above
    from corral.gateway.desk.values import Replica  # noqa: PLC0415 - as above
    from corral.gateway.server import Gateway  # noqa: PLC0415 - as above
    from corral.gateway.table import Ready  # noqa: PLC0415 - as above

    # What fails here fails on purpose; a breaker would only make requests wait.
    served = Gateway(desk=DeskSettings(failures=1_000_000_000))
    url = f"http://127.0.0.1:{upstream_port}"
    for name in ("m", leaving.NARROW, *soak.MODELS):
        slots = 1 if name == leaving.NARROW else 0
        served.table.set(
            name, Ready(Replica(id=name, base_url=url, served_name=name, keep_alive=keep_alive, slots=slots))
        )
    await served.start(port=0)
    calm()  # as the head does
    print(served.port, flush=True)
    await asyncio.Event().wait()


def options() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of tables")
    parser.add_argument("--scale", type=float, default=1.0, help="length of all blocks; 1: about 2 minutes in all")
    parser.add_argument("--rate", type=float, default=200, help="requests a second in the delay test")
    parser.add_argument("--concurrency", type=int, default=64, help="requests at once in the throughput test")
    parser.add_argument("--streams", type=int, default=32, help="streams at once in the chunk test")
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between a stream's chunks")
    parser.add_argument("--no-keep-alive", action="store_true", help="a connection to the engine for each request")
    parser.add_argument("--litellm", action="store_true", help=f"install {paths.LITELLM} for the comparison first")
    parser.add_argument("--alone", action="store_true", help="without nginx and LiteLLM, even where they are there")
    parser.add_argument("--all", action="store_true", help="speed, --cancel and --ordered, one after the other")
    parser.add_argument("--soak", type=int, nargs="?", const=1_000_000, help="so many requests, and memory meanwhile")
    parser.add_argument("--cancel", action="store_true", help="how soon an engine sees that a client left")
    parser.add_argument("--ordered", action="store_true", help="200 fast streams and 2,000 slow ones, chunk by chunk")
    parser.add_argument("--role", choices=("engine", "bare", "corral"), help=argparse.SUPPRESS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def be(asked: argparse.Namespace) -> None:
    """One of the other processes."""
    match asked.role:
        case "engine":
            uvloop.run(engines.serve(engines.Engine))
        case "bare":
            uvloop.run(engines.serve(engines.Bare))
        case _:
            uvloop.run(gateway(asked.upstream, keep_alive=not asked.no_keep_alive))


def compared(asked: argparse.Namespace, stack: ExitStack, engine: paths.Way, corral: paths.Way) -> dict[str, object]:
    """Speed beside the others."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    ways = [paths.Way("direct", engine.port, 0), corral, stack.enter_context(paths.role("bare"))]
    if not asked.alone:
        if shutil.which("nginx"):
            ways.append(stack.enter_context(paths.nginx(engine.port, home)))
        if asked.litellm and not paths.LITELLM_HOME.exists():
            paths.install_litellm()
        if paths.LITELLM_HOME.exists():
            ways.append(stack.enter_context(paths.litellm(engine.port, home)))
    shape = speed.Shape(asked.scale, asked.rate, asked.concurrency, asked.streams, asked.interval)
    return uvloop.run(speed.compare(ways, engine.pid, shape))


def parts(asked: argparse.Namespace, stack: ExitStack, engine: paths.Way, corral: paths.Way) -> Parts:
    """What was asked for, each with its title; speed has none."""
    some = asked.soak or asked.cancel or asked.ordered
    if asked.all or asked.cancel:
        yield "Clients that leave", uvloop.run(leaving.leave(corral, engine))
    if asked.all or asked.ordered:
        yield "Streams, chunk by chunk", uvloop.run(ordered.check(corral))
    if asked.soak:
        yield "Memory over many requests", uvloop.run(soak.soak(corral, asked.soak))
    if asked.all or not some:
        yield "", compared(asked, stack, engine, corral)


def main() -> None:
    """Be one of the processes."""
    asked = options()
    if asked.role:
        be(asked)
        return
    paths.allow_many_files()
    paths.pin(0, measured=False)
    once = ["--no-keep-alive"] if asked.no_keep_alive else []
    with ExitStack() as stack:
        engine = stack.enter_context(paths.role("engine", measured=False))
        corral = stack.enter_context(paths.role("corral", "--upstream", str(engine.port), *once))
        for title, result in parts(asked, stack, engine, corral):
            if asked.json:
                sys.stdout.write(json.dumps(result) + "\n")
            elif title:
                show.facts(title, result)
            else:
                show.speed(result)


if __name__ == "__main__":
    main()
