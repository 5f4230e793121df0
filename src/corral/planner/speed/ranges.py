"""How far a prediction may be off, by what was measured of its like; knows no formula.

The ranges are conformal: quantiles of the errors that predictions had on sources which were held out of the fit, apart
for each metric and for how much of a case had been measured by others.
"""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Final, Literal, TypeAlias

from corral.planner.speed.engines import EngineFamily, engine_family
from corral.planner.speed.values import SpeedCase
from corral.values import Value

Measure: TypeAlias = Literal["decode", "prefill", "ttft", "output"]
# 0: this engine on this device; 1: this device; 2: its generation, or its vendor with this engine; 3: nothing alike.
Novelty: TypeAlias = Literal[0, 1, 2, 3]
NOVELTIES: Final[tuple[Novelty, ...]] = (0, 1, 2, 3)


class Seen(Value):
    """Measured runs by what they ran on: "engine+device", "device", "generation", "engine+vendor" -> runs."""

    runs: Mapping[str, int] = {}

    def novelty(self, case: SpeedCase) -> Novelty:
        """How little of a case was measured."""
        family = engine_family(case.engine)
        device = case.device
        if f"{family}+{device.id}" in self.runs:
            return 0
        if device.id in self.runs:
            return 1
        if f"{device.vendor}/{device.generation}" in self.runs or f"{family}+{device.vendor}" in self.runs:
            return 2
        return 3

    def basis(self, case: SpeedCase) -> str:
        """One sentence: what a prediction rests on."""
        family = engine_family(case.engine)
        device = case.device
        match self.novelty(case):
            case 0:
                return f"fitted on {self.runs[f'{family}+{device.id}']} runs on {device.name} with {family}"
            case 1:
                return f"fitted on {self.runs[device.id]} runs on {device.name} with other engines"
            case 2:
                return f"nothing was measured on {device.name}; fitted on its generation and on {family} elsewhere"
            case _:
                return "nothing similar was measured: data sheet and the average of all devices"


def count_runs(cases: list[SpeedCase]) -> Seen:
    """What these cases, as measured, make seen."""
    runs: dict[str, int] = {}
    for case in cases:
        family: EngineFamily = engine_family(case.engine)
        device = case.device
        for key in (
            f"{family}+{device.id}",
            device.id,
            f"{device.vendor}/{device.generation}",
            f"{family}+{device.vendor}",
        ):
            runs[key] = runs.get(key, 0) + 1
    return Seen(runs=runs)


class Ranges(Value):
    """For each measure, by novelty, the logarithms of measured / predicted between which nine in ten lie."""

    seen: Seen
    bounds: Mapping[str, tuple[tuple[float, float], ...]]

    def factors(self, measure: Measure, novelty: Novelty) -> tuple[float, float]:
        """What a predicted value is multiplied with for its low and its high end."""
        low, high = self.bounds[measure][novelty]
        return math.exp(low), math.exp(high)


@lru_cache(maxsize=1)
def fitted_ranges() -> Ranges:
    """The ranges that Corral ships."""
    text = resources.files("corral.planner").joinpath("data", "speed.json").read_text("utf-8")
    return Ranges.model_validate(json.loads(text)["ranges"])
