"""Cables and switches of the picture; knows no rank."""

from collections.abc import Collection, Sequence
from typing import Final

from corral.cli.picture import svg
from corral.cli.picture.places import GUTTER, Card
from corral.cluster.values import Cluster, Link
from corral.planner.search.wires import link_spec
from corral.units import format_rate

_SWITCH: Final = 30.0
_LEVEL: Final = 26.0  # between arcs below the cards


def label_of(link: Link) -> str:
    """A link's kind and rate: "100 Gb/s Ethernet with RoCE", and what was measured of it."""
    name, _, _ = link_spec(link).name.partition(" (")
    measured = f", {format_rate(link.bandwidth)} measured" if link.bandwidth is not None else ""
    return f"{name}{measured}"


def _colour(link: Link, busy: Collection[str]) -> str:
    """Links that ranks talk over stand out."""
    return "accent" if sum(name in busy for name in link.between) > 1 else "wire"


def switches_height(cluster: Cluster) -> float:
    """Room above the cards that switches take."""
    return sum(_SWITCH + 14 for link in cluster.links if link.switch)


def switches(cluster: Cluster, cards: Sequence[Card], top: float, busy: Collection[str]) -> list[str]:
    """Each switch as a bar above the cards, with a wire to every node on it; `busy` are nodes with ranks."""
    drawn: list[str] = []
    y = top
    for number, link in enumerate(link for link in cluster.links if link.switch):
        on_it = [card for card in cards if card.node.name in link.between]
        if not on_it:
            continue
        left = min(card.frame.x for card in on_it)
        right = max(card.frame.x + card.frame.width for card in on_it)
        shift = 6.0 * number
        drawn += [
            wire
            for card in on_it
            for wire in _drop(card, y + _SWITCH, shift, card.node.name in busy and _colour(link, busy) == "accent")
        ]
        drawn.append(
            svg.box(left - GUTTER / 2 - 4, y, right - left + GUTTER / 2 + 4, _SWITCH, "card", edge="wire", round_=8)
        )
        drawn.append(svg.text(left + 4, y + 20, link.switch or "", 13, bold=True))
        drawn.append(svg.text(right - 12, y + 20, label_of(link), 12, fill="soft", anchor="end"))
        y += _SWITCH + 14
    return drawn


def _drop(card: Card, start: float, shift: float, used: bool) -> list[str]:  # noqa: FBT001 - see its caller
    colour = "accent" if used else "wire"
    x = card.frame.x - GUTTER / 2 + shift
    y = card.frame.y + 22 + shift
    return [
        svg.path(
            f"M{x:.1f} {start:.1f}V{y - 6:.1f}Q{x:.1f} {y:.1f} {x + 6:.1f} {y:.1f}H{card.frame.x:.1f}", colour=colour
        ),
        svg.dot(card.frame.x, y, 3.5, colour),
    ]


def cables_height(cluster: Cluster, cards: Sequence[Card]) -> float:
    """Room below the cards that arcs take."""
    return max((_LEVEL * level + 30 for _, _, _, level in _arcs(cluster, cards)), default=0.0)


def cables(cluster: Cluster, cards: Sequence[Card], busy: Collection[str]) -> list[str]:
    """Each cable as an arc below the cards, the longer ones deeper."""
    drawn: list[str] = []
    labels: list[str] = []
    bottom = max(card.frame.bottom for card in cards)
    ends: dict[str, int] = {}
    for link, one, two, level in _arcs(cluster, cards):
        x, to = (_port(card, ends) for card in (one, two))
        depth = bottom + _LEVEL * level + 4
        drawn.append(
            svg.path(
                f"M{x:.1f} {one.frame.bottom:.1f}V{depth - 10:.1f}Q{x:.1f} {depth:.1f} {x + 10:.1f} {depth:.1f}"
                f"H{to - 10:.1f}Q{to:.1f} {depth:.1f} {to:.1f} {depth - 10:.1f}V{two.frame.bottom:.1f}",
                colour=_colour(link, busy),
            )
        )
        labels.append(svg.text((x + to) / 2, depth - 6, label_of(link), 11, fill="soft", anchor="middle", halo=True))
    return drawn + labels


def _arcs(cluster: Cluster, cards: Sequence[Card]) -> list[tuple[Link, Card, Card, int]]:
    """Cables with their cards from left to right, and how deep each hangs."""
    by_name = {card.node.name: card for card in cards}
    pairs: list[tuple[Link, Card, Card]] = []
    for link in cluster.links:
        if link.switch is None and all(name in by_name for name in link.between):
            one, two = sorted((by_name[name] for name in link.between[:2]), key=lambda card: (card.frame.x, card.row))
            pairs.append((link, one, two))
    pairs.sort(key=lambda pair: (pair[2].column - pair[1].column, pair[1].column))
    levels: list[tuple[Link, Card, Card, int]] = []
    for link, one, two in pairs:
        taken = {level for _, left, right, level in levels if left.column < two.column and one.column < right.column}
        level = next(number for number in range(1, 99) if number not in taken)
        levels.append((link, one, two, level))
    return levels


def _port(card: Card, ends: dict[str, int]) -> float:
    """Where the next cable of a card begins: its ends stand apart."""
    number = ends.get(card.node.name, 0)
    ends[card.node.name] = number + 1
    return card.frame.middle + (number - 1) * 26.0
