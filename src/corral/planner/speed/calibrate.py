"""Refines coefficients by a user's own runs; knows no file and no engine's flags.

A run of a device, engine and format corrects what is predicted for that combination, and nothing else: the more runs
agree, the more of the difference is taken over. One run already takes over most of it, because devices of one kind
differ less among themselves than kinds do.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from corral.planner.speed.coefficients import Coefficients, rates
from corral.planner.speed.load import estimate
from corral.planner.speed.quantities import properties
from corral.planner.speed.ranges import Measure
from corral.planner.speed.values import SpeedCase
from corral.planner.speed.work import work
from corral.values import Value

# How far a combination lies from what is predicted for it (as a logarithm), and how far one run lies from its like.
BETWEEN: Final = 0.3
WITHIN: Final = 0.1
# A measure's rates: by scaling them with one factor its time scales by nearly the same.
_PACE: Final = {"decode": "pace", "output": "pace", "prefill": "pace_prompt", "ttft": "pace_prompt"}


class Run(Value):
    """One measured run: decode, prefill and output in tok/s, ttft in seconds."""

    case: SpeedCase
    measured: dict[Measure, float]


def calibrate(runs: Sequence[Run], coefficients: Coefficients) -> Coefficients:
    """Coefficients that agree better with these runs, for their device, engine and format only."""
    found: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for quantity, log in _differences(run, coefficients):
            found.setdefault((quantity, combination(run.case)), []).append(log)
    effects = {name: dict(values) for name, values in coefficients.effects.items()}
    for (quantity, name), logs in found.items():
        kept = BETWEEN**2 / (BETWEEN**2 + WITHIN**2 / len(logs))
        of = effects.setdefault(quantity, {})
        of[name] = of.get(name, 0.0) + kept * sum(logs) / len(logs)
    return Coefficients(typical=coefficients.typical, effects=effects)


def combination(case: SpeedCase) -> str:
    """The property that a calibration is kept by."""
    return f"run={properties(case, work(case))['run']}"


def _differences(run: Run, coefficients: Coefficients) -> Iterable[tuple[str, float]]:
    """For each of a run's rates and times the logarithm of measured time / predicted time."""
    done = work(run.case)
    made = estimate(run.case, done, rates(coefficients, run.case, done))
    times = {"decode": made.tpot, "output": 1.0 / made.output, "prefill": 1.0 / made.prefill, "ttft": made.ttft}
    for measure, value in run.measured.items():
        yield _PACE[measure], math.log((value if measure == "ttft" else 1.0 / value) / times[measure])
