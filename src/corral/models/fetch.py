"""Brings whatever model the user named onto this machine, as a path; keeps the heavy libraries in other processes.

The demo model and the Hub's files are made and fetched by programs of their own (`corral.models.demo` and
`corral.models.hub`), so that numpy and the Hub's library never enter the head's memory, and so that a fetch can be
cancelled at any moment: what is half fetched is gone on with the next time.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from corral.errors import BadInput, CorralError, ExitCode
from corral.models import hubstore
from corral.models.demo import NAME, RECIPE
from corral.models.source import ModelSource
from corral.values import Value


class Step(Value):
    """A line of the fetching program: how far it is, or how it ended."""

    done: int = 0  # bytes that are there
    total: int = 0  # bytes of the whole; 0: not known
    path: str = ""  # ended well: the file or folder
    unreachable: bool = False  # the Hub does not answer; only said of the default model
    cause: str = ""  # ended badly
    remedy: str = ""
    code: int = 0


OnProgress = Callable[[str, int, int], None]  # (text, bytes done, bytes in all or 0)


async def fetch(
    source: ModelSource,
    cache: Path,
    on_progress: OnProgress,
    *,
    demo_format: Literal["gguf", "safetensors"] = "gguf",
) -> Path:
    """The path of the model, fetched or made where it is not there yet; CorralError says why it could not be.

    The default model is the demo model where the Hub does not answer within two seconds, and where an engine asks for
    another form than the default model has.
    """
    if source.kind == "local":
        return Path(source.path)
    if source.kind == "demo" or (source.kind == "default" and demo_format != "gguf"):
        return await make_demo(cache, on_progress, demo_format)
    there = await asyncio.to_thread(hubstore.find, source, cache)
    if there is not None:
        return there
    on_progress(f"asking the Hub for {source}", 0, 0)
    ended = await _ask_hub(source, cache, on_progress)
    if ended.unreachable:
        return await make_demo(cache, on_progress, demo_format)
    return Path(ended.path)


async def make_demo(cache: Path, on_progress: OnProgress, form: Literal["gguf", "safetensors"]) -> Path:
    """The path of the demo model in the cache, made where it is not there yet."""
    folder = cache / "demo" / RECIPE
    path = folder / f"{NAME}.gguf" if form == "gguf" else folder / NAME
    if path.exists():
        return path
    on_progress("making the demo model", 0, 0)
    async with _program("corral.models.demo", "--format", form, str(path)) as program:
        _, said = await program.communicate()
    if program.returncode:
        words = said.decode(errors="replace").strip().splitlines()
        raise CorralError(
            f"The demo model could not be made: {words[-1] if words else f'status {program.returncode}'}",
            "Free some disk space, or give a model of your own.",
        )
    return path


async def _ask_hub(source: ModelSource, cache: Path, on_progress: OnProgress) -> Step:
    async with _program("corral.models.hub", str(cache)) as program:
        assert program.stdin is not None  # noqa: S101 - all three are pipes
        assert program.stdout is not None  # noqa: S101 - as above
        program.stdin.write(source.model_dump_json().encode() + b"\n")
        errors = asyncio.create_task(_last_words(program))
        ended: Step | None = None
        async for line in program.stdout:
            step = _read(line)
            if step is None:
                continue
            if step.path or step.cause or step.unreachable:
                ended = step
                break
            on_progress(f"fetching {source}", step.done, step.total)
        if ended is None:
            raise CorralError(f"The program that fetches {source} ended: {await errors}.", "Try again.")
        errors.cancel()
    if ended.cause:
        kind = BadInput if ended.code == ExitCode.MISUSE else CorralError
        raise kind(ended.cause, ended.remedy)
    return ended


@contextlib.asynccontextmanager
async def _program(module: str, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """One of this package's programs; it is ended when the block is left, however that comes about."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the user's folder is no place to import from
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        start_new_session=True,  # Ctrl-C reaches the head alone, which then ends this
    )
    try:
        yield program
    finally:
        if program.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                program.terminate()
        await asyncio.shield(program.wait())


async def _last_words(program: asyncio.subprocess.Process) -> str:
    """The last line of its standard error, which is read so that it never blocks."""
    assert program.stderr is not None  # noqa: S101 - a pipe
    tail = b""
    while data := await program.stderr.read(4096):
        tail = (tail + data)[-4096:]
    lines = tail.decode(errors="replace").split("\n")
    return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "without a word")


def _read(line: bytes) -> Step | None:
    """A line as a Step; None for what else a library may have printed."""
    try:
        return Step.model_validate_json(line)
    except ValidationError:
        return None
