"""What a person should know of the choice: whether to distribute at all, and what it would cost otherwise; in words."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from corral.planner.plan import Candidate
from corral.planner.reasons import communication_share, sentence, shares
from corral.planner.search.engines import title
from corral.planner.search.find import Weighed
from corral.planner.search.machines import Fleet

_HARDLY: Final = 1.15  # times as fast: less is hardly worth a second machine
_SOONER: Final = 1.5  # times as soon: a first token that is worth a second machine
_EIGHT: Final = 7.0  # bits of a weight from which quality is that of the original, by and large


def advice(
    fleet: Fleet, weighed: Sequence[Weighed], chosen: Weighed, made: Candidate, single: Sequence[Weighed] = ()
) -> tuple[str, ...]:
    """Sentences, the most important first.

    `single` are ways on one machine in formats that were not asked for.
    """
    said: list[str] = []
    machines = len(chosen.trial.shape.machines)
    alone = _best(weighed, lambda one: _machines(one) == 1)
    if machines == 1 and len(fleet.machines) > 1:
        said += _do_not(fleet, weighed, chosen, made)
    elif machines == 1:
        said += _left_free(fleet, weighed, chosen, made)
    elif machines > 1:
        said += _worth_it(fleet, weighed, chosen, alone)
        faster = _best(single, lambda one: one.speed.decode.value > chosen.speed.decode.value)
        if faster is not None:
            said.append(
                f"One node at {faster.trial.offer.weights} is faster: {_rate(faster)} with {_way(faster)}, against"
                f" {_rate(chosen)}. Use the other {len(fleet.machines) - 1} for replicas or another model."
            )
    said += _wider(weighed, chosen)
    return tuple(said)


def _do_not(fleet: Fleet, weighed: Sequence[Weighed], chosen: Weighed, made: Candidate) -> Iterator[str]:
    """Why one machine is enough, and what the others are good for."""
    bits = chosen.trial.offer.bits
    spread = _best(weighed, lambda one: _machines(one) > 1 and one.trial.offer.bits >= bits - 1)
    if spread is not None:
        share = communication_share(spread.speed)
        why = f" ({share * 100:.0f} % of each step there is {_talk(spread)})" if share > 0.01 else ""
        if spread.speed.decode.value > chosen.speed.decode.value:
            why = f", but its first token comes after {spread.speed.ttft.value:.2g} s instead of"
            why += f" {chosen.speed.ttft.value:.2g} s"
        yield (
            f"Do not distribute it: {_way(spread)} over {_machines(spread)} nodes makes {_rate(spread)},"
            f" one node {_rate(chosen)}{why}."
        )
    left = len(fleet.machines) - len(made.nodes)
    if left:
        yield f"Use the other {left} node{'s' if left > 1 else ''} for replicas or another model."


def _left_free(fleet: Fleet, weighed: Sequence[Weighed], chosen: Weighed, made: Candidate) -> Iterator[str]:
    """What a single machine's other devices are good for, when they would not make it faster."""
    left = sum(machine.devices for machine in fleet.machines) - made.devices
    bits, ranks = chosen.trial.offer.bits, chosen.trial.degrees.ranks
    wider = _best(weighed, lambda one: one.trial.degrees.ranks > ranks and one.trial.offer.bits >= bits - 1)
    if left <= 0 or wider is None:
        return
    share = communication_share(wider.speed)
    why = f" ({share * 100:.0f} % of each step is {_talk(wider)})" if share > 0.01 else ""
    free = f"{left} devices stay free" if left > 1 else "One device stays free"
    yield (
        f"{free}: {_way(wider)} over {wider.trial.degrees.ranks} makes {_rate(wider)}{why}. Use"
        f" {'them' if left > 1 else 'it'} for replicas or another model."
    )


def _worth_it(fleet: Fleet, weighed: Sequence[Weighed], chosen: Weighed, alone: Weighed | None) -> Iterator[str]:
    """What distributing brings, against one machine or against the fewest that hold it."""
    count = _machines(chosen)
    if alone is None:
        yield "No single node holds it in any of these formats."
        fewest = min(_machines(one) for one in weighed)
        fewer = _best(weighed, lambda one: _machines(one) == fewest)
        if fewer is not None and fewest < count:
            yield f"{fewest} nodes are the fewest that hold it: {_rate(fewer)} with {_way(fewer)}."
    else:
        gain = chosen.speed.decode.value / alone.speed.decode.value
        if gain >= _HARDLY:
            yield (
                f"{count} nodes make {_rate(chosen)}, {gain:.1f} times the {alone.speed.decode.value:.3g} of one node"
                f" ({_way(alone)})."
            )
        elif alone.speed.ttft.value > chosen.speed.ttft.value * _SOONER:
            yield (
                f"Distributing pays for prompts: the first token comes after {chosen.speed.ttft.value:.2g} s instead of"
                f" {alone.speed.ttft.value:.2g} s. Generating, one node makes {_rate(alone)} with {_way(alone)},"
                f" {count} nodes {_rate(chosen)}."
            )
        else:
            yield (
                f"Distributing hardly pays: one node makes {_rate(alone)} with {_way(alone)}, {count} nodes"
                f" {_rate(chosen)}. Use the other {len(fleet.machines) - 1} for replicas or another model."
            )
    share = communication_share(chosen.speed)
    if share >= 0.05:
        yield f"{share:.0%}".replace("%", " %") + f" of each step is {_talk(chosen)}."


def _wider(weighed: Sequence[Weighed], chosen: Weighed) -> Iterator[str]:
    """What weights of eight bits and more would cost, when fewer were chosen."""
    if chosen.trial.offer.bits >= _EIGHT:
        return
    wider = _best(weighed, lambda one: one.trial.offer.bits >= _EIGHT)
    if wider is not None:
        less = wider.speed.decode.value / chosen.speed.decode.value - 1
        yield (
            f"With {wider.trial.offer.weights} weights, closer to the original, {_way(wider)} makes {_rate(wider)}"
            f" ({less:+.0%}).".replace("%)", " %)")
        )


def _talk(one: Weighed) -> str:
    """The largest of the terms that are communication, by name."""
    talking = [part for part in shares(one.speed, "decode") if part[0].startswith(("all-", "hand-off"))]
    return sentence(talking[:1], 0.0).partition(" % ")[2] or "communication"


def _best(weighed: Iterable[Weighed], fits: Callable[[Weighed], bool]) -> Weighed | None:
    """The first that fits, of those without further replicas."""
    return next((one for one in weighed if one.trial.degrees.replicas == 1 and fits(one)), None)


def _machines(one: Weighed) -> int:
    return len(one.trial.shape.machines)


def _way(one: Weighed) -> str:
    return f"{one.trial.degrees} in {title(one.trial.offer.engine)} at {one.trial.offer.weights}"


def _rate(one: Weighed) -> str:
    rate = one.speed.decode.value
    return f"{rate:,.0f} tok/s" if rate >= 1000 else f"{rate:.3g} tok/s"
