"""What the user named as the model: a path, a Hub id, the demo, or nothing; reads no file and no network."""

import re
from pathlib import Path
from typing import Final, Literal

from corral.errors import BadInput
from corral.models.demo import NAME
from corral.values import Value

# A small instruct model under Apache-2.0, taken where the Hub can be reached and no model was named.
DEFAULT: Final = "Qwen/Qwen3-0.6B-GGUF:Q8_0"
_HUB: Final = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?::(?P<pick>[\w./+-]{1,200}))?(?:@(?P<revision>[\w./-]{1,100}))?"
)
_EXAMPLES: Final = (
    "Give a GGUF file, a folder with safetensors, or a Hub id such as Qwen/Qwen3-0.6B-GGUF:Q8_0; `demo` is the built-in"
    " model."
)


class ModelSource(Value):
    """Where a model comes from. `default` is the model that Corral chooses when none was named."""

    kind: Literal["local", "hub", "demo", "default"]
    path: str = ""  # local: absolute
    repo: str = ""  # hub and default: "owner/name"
    pick: str = ""  # hub: a file of the repository, or a quantization such as "Q8_0"; empty: Corral's choice
    revision: str = "main"  # hub: branch, tag or commit

    def __str__(self) -> str:
        """As the user would write it."""
        if self.kind in {"local", "demo"}:
            return self.path or NAME
        pick = f":{self.pick}" if self.pick else ""
        return f"{self.repo}{pick}" + (f"@{self.revision}" if self.revision != "main" else "")


def parse_source(text: str, here: Path) -> ModelSource:
    """Read what the user typed, relative paths from the folder `here`; what exists on disk counts first.

    BadInput when it is neither there nor could be a Hub id.
    """
    text = text.strip()
    if not text:
        return _hub(DEFAULT, "default")
    path = here / Path(text).expanduser() if _home_is_known(text) else here / text
    if _exists(path):
        return ModelSource(kind="local", path=str(path.absolute()))
    if _leads_nowhere(path):
        raise BadInput(f"{text[:200]!r} leads nowhere: its symbolic links end at nothing.", _EXAMPLES)
    if text in {NAME, "demo"}:
        return ModelSource(kind="demo")
    if text.startswith(("/", ".", "~")) or _HUB.fullmatch(text) is None:
        raise BadInput(f"{text[:200]!r} is not there, and is no Hub id.", _EXAMPLES)
    return _hub(text, "hub")


def _hub(text: str, kind: Literal["hub", "default"]) -> ModelSource:
    matched = _HUB.fullmatch(text)
    if matched is None or ".." in text or "--" in matched["repo"]:  # the Hub's own rule for names
        raise BadInput(f"{text[:200]!r} is no Hub id.", _EXAMPLES)
    return ModelSource(
        kind=kind, repo=matched["repo"], pick=matched["pick"] or "", revision=matched["revision"] or "main"
    )


def _home_is_known(text: str) -> bool:
    return text == "~" or text.startswith("~/")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, a NUL in it
        return False


def _leads_nowhere(path: Path) -> bool:
    """Whether it is a symbolic link to what is not there, or to itself."""
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False
