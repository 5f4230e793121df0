"""Degrees of parallelism as people write them, "tp4xpp2xdp2"; knows no device and no model."""

import re
from dataclasses import dataclass
from typing import Final

from corral.errors import BadInput

MOST_RANKS: Final = 1024
_PART: Final = re.compile(r"(tp|pp|dp|ep)(\d{1,4})")
_HELP: Final = (
    "Write tensor, pipeline, expert and data parallel degrees joined by x: tp2, pp3, tp4xpp2, tp4xdp2, tp8xep8."
)


@dataclass(frozen=True, slots=True, order=True)
class Degrees:
    """Tensor, pipeline, expert, data parallel; `tp * pp * dp` ranks.

    `ep` is over how many ranks of a stage whole experts are spread: 1 (experts are split as tensors), `tp`, or
    `tp * dp`. In the last case the data-parallel ranks share one set of experts and step together; else they are
    replicas that know nothing of each other.
    """

    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1

    @property
    def ranks(self) -> int:
        """Devices that it takes."""
        return self.tp * self.pp * self.dp

    @property
    def shares_experts(self) -> bool:
        """Whether data-parallel ranks hold one set of experts between them, and so are one engine."""
        return self.dp > 1 and self.ep == self.tp * self.dp

    @property
    def replicas(self) -> int:
        """Engines that run side by side."""
        return 1 if self.shares_experts else self.dp

    @property
    def replica(self) -> "Degrees":
        """One of them."""
        return self if self.shares_experts else Degrees(self.tp, self.pp, self.ep, 1)

    def __str__(self) -> str:
        parts = [("tp", self.tp), ("pp", self.pp), ("ep", self.ep), ("dp", self.dp)]
        return "x".join(f"{name}{degree}" for name, degree in parts if degree > 1) or "tp1"


def parse_degrees(text: str) -> Degrees:
    """Read "tp2", "pp3xtp4", "ep8" (which is tp8xep8), "dp8xep8". BadInput says what is expected."""
    given: dict[str, int] = {}
    for part in text.strip().lower().split("x"):
        matched = _PART.fullmatch(part)
        if matched is None or matched[1] in given or not 1 <= int(matched[2]) <= MOST_RANKS:
            raise BadInput(f"{text[:40]!r} is no layout.", _HELP)
        given[matched[1]] = int(matched[2])
    if set(given) == {"ep"}:
        given["tp"] = given["ep"]
    degrees = Degrees(**given)
    if degrees.ranks > MOST_RANKS:
        raise BadInput(f"{text[:40]!r} has {degrees.ranks} ranks, more than {MOST_RANKS}.", _HELP)
    if degrees.ep not in {1, degrees.tp, degrees.tp * degrees.dp}:
        raise BadInput(
            f"In {text[:40]!r} experts are spread over {degrees.ep} ranks, which is neither tp ({degrees.tp}) nor"
            f" tp x dp ({degrees.tp * degrees.dp}).",
            "Make ep one of these, or leave it out: then experts are split as tensors.",
        )
    return degrees
