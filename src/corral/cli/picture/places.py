"""Where nodes, domains and devices stand in the picture; knows no colour and no rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from corral.cluster.values import Cluster, Node

MARGIN: Final = 28.0
GUTTER: Final = 34.0
PAD: Final = 14.0
TILE_HEIGHT: Final = 66.0
_GAP: Final = 8.0
_HEAD: Final = 40.0  # of a card: the node's name
_DOMAIN_HEAD: Final = 22.0
_WIDEST: Final = 1180.0


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A place, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """The middle of its width."""
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class DomainPlace:
    """A group of devices: its frame, what it is called, and each device's tile by the node's index."""

    frame: Rectangle
    label: str
    tiles: tuple[tuple[int, Rectangle], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """A node."""

    node: Node
    column: int
    row: int
    frame: Rectangle
    domains: tuple[DomainPlace, ...]


def groups_of(node: Node) -> tuple[tuple[int, str], ...]:
    """The devices of each entry and what joins them; a node without any computes on its CPU."""
    if not node.devices:
        return ((1, ""),)
    return tuple((device.count, device.link or "") for device in node.devices)


def columns_of(cluster: Cluster) -> int:
    """How many nodes stand side by side."""
    count = len(cluster.nodes)
    if count <= 4:
        return count
    most = max(sum(number for number, _ in groups_of(node)) for node in cluster.nodes)
    return 2 if most > 4 else 4 if count % 4 == 0 or count > 6 else 3


def cards(cluster: Cluster, labels: Sequence[Sequence[str]], top: float) -> tuple[Card, ...]:
    """A card for each node, row by row below `top`; `labels` name the domains of each node."""
    columns = columns_of(cluster)
    start = MARGIN + (GUTTER if any(link.switch for link in cluster.links) else 0.0)
    widest = 704.0 if columns == 1 else 560.0
    width = min(widest, (_WIDEST - MARGIN - start - GUTTER * (columns - 1)) / columns)
    found: list[Card] = []
    y = top
    for row in range(ceil(len(cluster.nodes) / columns)):
        first = row * columns
        nodes = cluster.nodes[first : first + columns]
        made = [
            _card(node, labels[first + column], column, row, start + column * (width + GUTTER), y, width)
            for column, node in enumerate(nodes)
        ]
        found += made
        y = max(card.frame.bottom for card in made) + GUTTER
    return tuple(found)


def _card(node: Node, labels: Sequence[str], column: int, row: int, x: float, y: float, width: float) -> Card:
    domains: list[DomainPlace] = []
    first, below = 0, y + _HEAD
    for (count, _), label in zip(groups_of(node), labels, strict=True):
        place = _domain(first, count, label, x + PAD, below, width - 2 * PAD)
        domains.append(place)
        below = place.frame.bottom + _GAP
        first += count
    return Card(node, column, row, Rectangle(x, y, width, below - _GAP + PAD - y), tuple(domains))


def _domain(first: int, count: int, label: str, x: float, y: float, width: float) -> DomainPlace:
    """One device fills the card; several stand in rows of up to four inside a frame with their link's name."""
    if count == 1 and not label:
        return DomainPlace(Rectangle(x, y, width, TILE_HEIGHT), "", ((first, Rectangle(x, y, width, TILE_HEIGHT)),))
    across = min(count, 4 if width > 300 else 2)
    inner = x + 10
    each = (width - 20 - _GAP * (across - 1)) / across
    tiles = tuple(
        (
            first + number,
            Rectangle(
                inner + number % across * (each + _GAP),
                y + _DOMAIN_HEAD + number // across * (TILE_HEIGHT + _GAP),
                each,
                TILE_HEIGHT,
            ),
        )
        for number in range(count)
    )
    return DomainPlace(Rectangle(x, y, width, tiles[-1][1].bottom + 10 - y), label, tiles)
