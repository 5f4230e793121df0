"""Makes the engine's environment stand on every node; knows no rank and no model."""

import importlib.metadata
import json
import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol

from corral.engines.base import Environment, ExistingEnvironment, LlamaCppBuild, PythonEnvironment
from corral.errors import BadInput, NodeFailed
from corral.launcher.node import Node, NodeFacts
from corral.launcher.race import together

STAGE: Final = "environment"


class Report(Protocol):
    """How progress is told; see `progress.Reporter`."""

    def __call__(self, stage: str, text: str, *, fraction: float | None = None, subject: str = "") -> None:
        """Say what a stage does."""
        ...


async def ensure_all(
    wanted: Mapping[str, Environment], nodes: Mapping[str, Node], facts: Mapping[str, NodeFacts], report: Report
) -> dict[str, str]:
    """Give the folder of each node's environment, making those that are missing, all nodes at once."""
    return await together({name: _ensure(one, nodes[name], facts[name], report) for name, one in wanted.items()})


async def _ensure(wanted: Environment, node: Node, facts: NodeFacts, report: Report) -> str:
    if isinstance(wanted, ExistingEnvironment):
        return await _existing(wanted, node, report)
    if isinstance(wanted, PythonEnvironment) and node.host.is_local and satisfied_here(wanted):
        report(STAGE, f"{wanted.name}: Corral's own environment has it", fraction=1.0, subject=node.name)
        return sys.prefix
    request: dict[str, Any] = {
        "cache": facts.cache,
        "digest": wanted.digest,
        **wanted.model_dump(mode="json", exclude={"kind"}),
    }
    script = "llamacpp_build" if isinstance(wanted, LlamaCppBuild) else "environment"
    report(STAGE, f"{wanted.name}: looking", subject=node.name)
    told: dict[str, Any] = {}
    async with node.stream(script, request) as stream:
        async for line in stream:
            told = _message(line) or told
            if "progress" in told:
                fraction = min(float(told["progress"]), 0.99)
                report(STAGE, f"{wanted.name}: {told['text']}", fraction=fraction, subject=node.name)
        ended = await stream.wait()
    if "done" in told:
        report(STAGE, f"{wanted.name}: ready", fraction=1.0, subject=node.name)
        return str(told["done"]["folder"])
    error = told.get("error") or {
        "cause": f"its script ended with status {ended.status}: {_last_line(ended.stderr)}",
        "remedy": "Run the command again; what was finished is kept.",
    }
    raise NodeFailed(
        node.name, f"The environment {wanted.name} could not be made on {node.name}: {error['cause']}", error["remedy"]
    )


async def _existing(wanted: ExistingEnvironment, node: Node, report: Report) -> str:
    seen = await node.host.run(["test", "-d", f"{wanted.path}/bin"])
    if seen.status != 0:
        raise BadInput(
            f"{wanted.path} on {node.name}, named in the cluster file, is no environment: it has no folder bin/.",
            "Name the folder of a virtual environment (or of llama.cpp's programs) that exists on that node.",
        )
    report(STAGE, f"{wanted.name}: {wanted.path} as the cluster file says", fraction=1.0, subject=node.name)
    return wanted.path


def satisfied_here(wanted: PythonEnvironment) -> bool:
    """Whether the interpreter that runs Corral has exactly the pinned packages; then nothing need be made here."""
    if wanted.files or wanted.remove:
        return False
    try:
        return all(
            importlib.metadata.version(name) == version
            for name, _, version in (requirement.partition("==") for requirement in wanted.requirements)
        )
    except importlib.metadata.PackageNotFoundError:
        return False


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None  # pyright: ignore[reportUnknownVariableType] - JSON


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
