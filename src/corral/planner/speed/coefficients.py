"""Fitted coefficients and the rates they give a case; knows no measurement."""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Final

from corral.planner.speed.quantities import ORDER, QUANTITIES, properties, slowest
from corral.planner.speed.rates import Rates
from corral.planner.speed.values import SpeedCase
from corral.planner.speed.work import Work
from corral.values import Value

_KEPT_MOST: Final = 4096


class Coefficients(Value):
    """Logarithms of factors: for each quantity `typical`, and by "property=value" what it differs by."""

    typical: Mapping[str, float]
    effects: Mapping[str, Mapping[str, float]]

    def factor(self, quantity: str, has: Mapping[str, str]) -> float:
        """A quantity's value for a case with these properties."""
        effects = self.effects.get(quantity, {})
        log = self.typical[quantity]
        for name in QUANTITIES[quantity].by:
            log += effects.get(f"{name}={has[name]}", 0.0)
        return math.exp(log)


def prior() -> Coefficients:
    """Coefficients of someone who measured nothing."""
    return Coefficients(
        typical={name: math.log(q.typical) for name, q in QUANTITIES.items()},
        effects={name: dict(q.centres) for name, q in QUANTITIES.items()},
    )


def rates(coefficients: Coefficients, case: SpeedCase, work: Work) -> Rates:
    """A case's rates; kept by what decides them."""
    link = slowest(case.split)
    many = case.split.tp > 2
    run = (case.device.id, case.engine, case.engine_version, case.eager)
    key = (id(coefficients), *run, work.format.name, link.id if link else "", many)
    known = _KEPT.get(key)
    if known is None:
        if len(_KEPT) >= _KEPT_MOST:
            _KEPT.clear()
        has = properties(case, work)
        known = _KEPT[key] = (coefficients, Rates(*(coefficients.factor(name, has) for name in ORDER)))
    return known[1]


# By identity of the coefficients, which are kept beside the rates so that no others get their number.
_KEPT: Final[dict[tuple[object, ...], tuple[Coefficients, Rates]]] = {}


@lru_cache(maxsize=1)
def fitted() -> Coefficients:
    """The coefficients that Corral ships."""
    text = resources.files("corral.planner").joinpath("data", "speed.json").read_text("utf-8")
    entry = json.loads(text)["coefficients"]
    return Coefficients(typical=entry["typical"], effects=entry["effects"])
