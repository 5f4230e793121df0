"""Gets hold of the model that was asked for on this machine: found, fetched or made; knows no node and no engine."""

import asyncio
from pathlib import Path
from typing import Final

from corral.launcher.environments import Report
from corral.models.fetch import fetch
from corral.models.inspect import inspect
from corral.models.source import parse_source
from corral.models.values import ModelFacts
from corral.store.values import DeploymentRequest
from corral.units import format_bytes

STAGE: Final = "model"


async def obtain(request: DeploymentRequest, cache: str, report: Report) -> ModelFacts:
    """Give the facts of the model's files; CorralError when it is not there, not whole, or cannot be had.

    `cache` is this machine's: what is fetched or made goes to its folder `models`.
    """

    def on_progress(text: str, done: int, total: int) -> None:
        report(STAGE, text, fraction=min(done / total, 0.99) if total else None)

    report(STAGE, f"looking for {request.model or 'a small one'}")
    source = parse_source(request.model, Path("/"))
    form = "safetensors" if request.engine == "vllm" else "gguf"
    facts = await asyncio.to_thread(inspect, await fetch(source, Path(cache) / "models", on_progress, demo_format=form))
    count = f"{facts.parameters / 1e9:.1f} B" if facts.parameters >= 1e8 else f"{facts.parameters / 1e6:.1f} M"
    size = f"{count} parameters, {format_bytes(facts.weights_bytes)}, {facts.quantization}"
    report(STAGE, f"{facts.name}: {size}", fraction=1.0)
    return facts
