"""Makes the demo model from the command line, in a process of its own: `python -m corral.models.demo --format F OUT`.

Publishes whole or not at all: everything is written under a temporary name beside OUT and renamed. Knows no cache and
no engine. Exit status as everywhere: 0 made (or there already), 2 wrong use, 3 the disk did not take it.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from corral.errors import BadInput, CorralError
from corral.models.demo import MARK, RECIPE
from corral.models.demo.weights import make


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the model that the arguments ask for; the message of a failure goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m corral.models.demo", description="Make Corral's demo model.")
    parser.add_argument("--format", choices=["gguf", "safetensors"], required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1, help="safetensors files that share the tensors (default: 1)")
    parser.add_argument("out", type=Path, help="the GGUF file or the folder to make")
    options = parser.parse_args(arguments)
    try:
        build(options.out, options.format, seed=options.seed, shards=options.shards)
    except CorralError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program of its own: this is how it answers
        return error.code
    return 0


def build(out: Path, form: Literal["gguf", "safetensors"], *, seed: int = 0, shards: int = 1) -> None:
    """Make the model at `out`: a file that is there is replaced, a folder that holds this demo is left as it is."""
    if not 1 <= shards <= 8:
        raise BadInput(f"{shards} shards cannot be made.", "Ask for 1 to 8.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent, ignore_cleanup_errors=True) as work:
            if form == "gguf":
                _build_gguf(out, Path(work) / "model.gguf", seed)
            else:
                _build_folder(out, Path(work) / "model", seed, shards)
    except OSError as error:
        raise CorralError(
            f"The demo model could not be written to {out}: {error.strerror or error}.",
            "Free some disk space (it needs 17 MB), or give a folder that can be written.",
        ) from error


def _build_gguf(out: Path, work: Path, seed: int) -> None:
    from corral.models.demo import gguf_form  # noqa: PLC0415 - the formats' libraries are loaded by need

    gguf_form.write(make(seed), work)
    os.replace(work, out)  # noqa: PTH105 - the atomic rename, by its own name


def _build_folder(out: Path, work: Path, seed: int, shards: int) -> None:
    from corral.models.demo import hf_form  # noqa: PLC0415 - as above

    if out.exists():
        _refuse_unless_demo(out)
        return
    work.mkdir(mode=0o755)
    hf_form.write(make(seed), work, shards=shards)
    for file in work.iterdir():
        file.chmod(0o644)  # safetensors makes its files for their owner alone
    try:
        work.rename(out)
    except OSError:
        _refuse_unless_demo(out)  # another process was quicker
        shutil.rmtree(work)


def _refuse_unless_demo(folder: Path) -> None:
    try:
        text = (folder / "config.json").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    if f'"corral_demo": "{RECIPE}"' not in text:
        raise BadInput(f"{folder} is there already and holds no {MARK}.", "Give another folder, or remove it.")


if __name__ == "__main__":
    sys.exit(main())
