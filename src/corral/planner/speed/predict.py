"""Predicts a case's speed with ranges and terms; knows no table and no cluster file."""

from corral.planner.speed.coefficients import Coefficients, fitted, rates
from corral.planner.speed.load import Estimate, estimate
from corral.planner.speed.power import SPREAD, decode_watts
from corral.planner.speed.ranges import Measure, Ranges, fitted_ranges
from corral.planner.speed.values import Prediction, Speed, SpeedCase, Term
from corral.planner.speed.work import Work, work


def predict(case: SpeedCase, coefficients: Coefficients | None = None, ranges: Ranges | None = None) -> Speed:
    """The speed of a case under a steady load of its concurrency, by the shipped coefficients unless others are given.

    Raises BadInput for a weight or cache format that is not known. That it fits is not checked here: where memory
    holds fewer requests than are in flight, the rest wait, and a warning says so.
    """
    done = work(case)
    made = estimate(case, done, rates(coefficients or fitted(), case, done))
    return speed(case, done, made, ranges or fitted_ranges())


def estimated(case: SpeedCase, coefficients: Coefficients | None = None) -> Estimate:
    """What `predict` predicts, as plain numbers without ranges: for a search that asks thousands of times."""
    done = work(case)
    return estimate(case, done, rates(coefficients or fitted(), case, done))


def speed(case: SpeedCase, done: Work, made: Estimate, ranges: Ranges) -> Speed:
    """An estimate as predictions with ranges."""
    novelty = ranges.seen.novelty(case)
    basis = ranges.seen.basis(case)

    def within(value: float, measure: Measure, unit: str, *, inverse: bool = False) -> Prediction:
        low, high = ranges.factors(measure, novelty)
        if inverse:
            low, high = 1.0 / high, 1.0 / low
        return Prediction.model_construct(value=value, low=value * low, high=value * high, unit=unit, basis=basis)

    watts = decode_watts(case.device, case.power_limit)
    return Speed.model_construct(
        decode=within(made.decode, "decode", "tok/s"),
        prefill=within(made.prefill, "prefill", "tok/s"),
        ttft=within(made.ttft, "ttft", "s"),
        tpot=within(made.tpot, "decode", "s", inverse=True),
        output=within(made.output, "output", "tok/s"),
        power=Prediction.model_construct(
            value=watts, low=watts * (1 - SPREAD), high=watts * (1 + SPREAD), unit="W", basis="by kind of device"
        ),
        terms=tuple(
            Term.model_construct(phase=phase, name=name, seconds=seconds)
            for phase, terms in (("decode", made.step), ("prefill", made.prompt))
            for name, seconds in terms.items()
            if seconds > 0.0
        ),
        warnings=_warnings(case, done, made, int(novelty)),
    )


def _warnings(case: SpeedCase, done: Work, made: Estimate, novelty: int) -> tuple[str, ...]:
    found: list[str] = []
    streams = case.concurrency / case.split.dp
    if made.slots < streams:
        found.append(
            f"The cache holds about {made.slots:.0f} of {streams:.0f} requests at once; the others wait for a place."
        )
    if done.format.native == "fp4" and done.format.computes_in(case.device) in {"fp16", "bf16", "fp32"}:
        found.append(f"{case.device.name} stores {done.format.name} but computes in 16 bit.")
    if novelty == 3:
        found.append("No device or engine like this was measured: the range is wide, and one short run narrows it.")
    return tuple(found)
