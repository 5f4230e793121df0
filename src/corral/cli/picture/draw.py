"""Draws a plan: its figures, then every node with its devices, what each rank holds, and what joins them."""

from typing import Final

from corral.cli.picture import svg
from corral.cli.picture.places import MARGIN, Card, Rectangle, cards
from corral.cli.picture.wiring import cables, cables_height, switches, switches_height
from corral.cli.plan.words import delay, number, rate, tokens, watts, way
from corral.cluster.values import Cluster, Node
from corral.errors import BadInput
from corral.planner.plan import Candidate, Plan, Rank
from corral.planner.search.devices import DeviceSpecs, peer_link
from corral.units import GIB

_COLOURS: Final = {
    "weights": "weights", "kv cache": "cache", "state": "state", "activations": "activations", "engine": "engine",
}  # fmt: skip
_FIGURES: Final = 78.0
_HEADER: Final = 76.0
_LEGEND: Final = 40.0


def picture(plan: Plan, cluster: Cluster) -> str:
    """The SVG text of a plan's first candidate. BadInput when it has none."""
    if not plan.candidates:
        raise BadInput("There is nothing to draw: no layout fits.", "See what `corral plan` says without --svg.")
    best = plan.candidates[0]
    top = MARGIN + _HEADER + _FIGURES + 22
    placed = cards(cluster, [_labels(node) for node in cluster.nodes], top + switches_height(cluster))
    width = max(card.frame.x + card.frame.width for card in placed) + MARGIN
    width = max(width, 760.0)
    bottom = max(card.frame.bottom for card in placed) + cables_height(cluster, placed)
    body = [
        *_header(plan, best, width),
        *_figures(plan, best, width),
        *switches(cluster, placed, top, best.nodes),
        *cables(cluster, placed, best.nodes),
        *(line for card in placed for line in _card(card, best)),
        *_legend(best, bottom + 26),
    ]
    title = f"{plan.title} on {plan.cluster}: {way(best)}"
    return svg.document(width, bottom + _LEGEND + MARGIN, title, body)


def _labels(node: Node) -> tuple[str, ...]:
    """What joins each group of devices, and what they are; nothing for a device alone."""
    if not node.devices:
        return ("",)
    specs, labels = DeviceSpecs(), list[str]()
    for entry in node.devices:
        joined = peer_link(entry, specs.of(entry, node.name), node.name)
        if joined is not None:
            words = joined.name.partition(" (")[0].partition(",")[0]
            labels.append(f"{words}  ·  {entry.name}")
        else:
            labels.append(entry.name if len(node.devices) > 1 else "")
    return tuple(labels)


def _header(plan: Plan, best: Candidate, width: float) -> list[str]:
    room = width - 2 * MARGIN
    return [
        svg.text(MARGIN, MARGIN + 24, svg.shortened(plan.title, 26, room), 26, bold=True),
        svg.text(MARGIN, MARGIN + 50, svg.shortened(f"{way(best)}  ·  {plan.machines}", 15, room), 15, fill="soft"),
    ]


def _figures(plan: Plan, best: Candidate, width: float) -> list[str]:
    work = plan.workload
    decode, spread = rate(best.speed.decode)
    first, delays = delay(best.speed.ttft)
    figures = [
        ("one stream", decode, spread),
        (f"first token of {tokens(work.prompt)}", first, delays),
        ("generating", watts(best.power.decode), f"{number(best.power.wh_per_1000)} Wh for 1,000 tokens"),
        ("longest context", f"{tokens(best.longest_context)}", f"tokens, {work.concurrency} at once"),
    ]
    each = (width - 2 * MARGIN - 3 * 12) / 4
    drawn: list[str] = []
    for place, (what, value, note) in enumerate(figures):
        x, y = MARGIN + place * (each + 12), MARGIN + _HEADER
        drawn += [
            svg.box(x, y, each, _FIGURES, "card", edge="edge", round_=10),
            svg.text(x + 14, y + 21, what, 12, fill="soft"),
            svg.text(x + 14, y + 47, value, 22, fill="accent", bold=True),
            svg.text(x + 14, y + 66, svg.shortened(note, 11, each - 20), 11, fill="soft"),
        ]
    return drawn


def _card(card: Card, best: Candidate) -> list[str]:
    frame = card.frame
    ranks = {max(rank.device, 0): rank for rank in best.ranks if rank.node == card.node.name}
    power = next((node for node in best.power.nodes if node.node == card.node.name), None)
    drawn = [
        svg.box(frame.x, frame.y, frame.width, frame.height, "card", edge="edge", round_=12),
        svg.text(frame.x + 14, frame.y + 26, svg.shortened(card.node.name, 15, frame.width * 0.55), 15, bold=True),
    ]
    if power is not None:
        words = watts(power.decode) if ranks else f"{watts(power.idle)} idle"
        drawn.append(svg.text(frame.x + frame.width - 14, frame.y + 26, words, 12, fill="soft", anchor="end"))
    for domain in card.domains:
        place = domain.frame
        if domain.label:
            label = svg.shortened(domain.label, 11, place.width - 20)
            drawn.append(svg.box(place.x, place.y, place.width, place.height, "domain", edge="edge", round_=8))
            drawn.append(svg.text(place.x + 10, place.y + 15, label, 11, fill="soft"))
        for index, tile in domain.tiles:
            drawn += _tile(tile, ranks.get(index), best, "free" if power is not None else "takes no rank")
    return drawn


def _tile(place: Rectangle, rank: Rank | None, best: Candidate, otherwise: str) -> list[str]:
    """A device: its rank and stage, and what fills it; or what to say of one without a rank."""
    drawn = [svg.box(place.x, place.y, place.width, place.height, "page", edge="edge", round_=7)]
    if rank is None:
        middle = place.y + place.height / 2 + 4
        return [*drawn, svg.text(place.middle, middle, otherwise, 12, fill="soft", anchor="middle")]
    words = _rank_words(rank, best, place.width - 14)
    held = f"{rank.total / GIB:.1f} of {rank.usable / GIB:.1f} GiB"
    if svg.width_of(held, 11) > place.width - 16:
        held = f"{rank.total / GIB:.0f} / {rank.usable / GIB:.0f} GiB"
    drawn += [
        svg.text(place.x + 9, place.y + 19, words, 12, bold=True),
        svg.text(place.x + 9, place.y + 57, svg.shortened(held, 11, place.width - 12), 11, fill="soft"),
    ]
    return drawn + _bar(place.x + 9, place.y + 28, place.width - 18, rank)


def _rank_words(rank: Rank, best: Candidate, room: float) -> str:
    """The rank with its stage and replica, in as many words as there is room for."""
    stage = f" · stage {rank.stage + 1}" if best.pp > 1 else ""
    replica = f" · replica {rank.replica + 1}" if best.dp > 1 and best.ep == 1 else ""
    whole = f"rank {rank.rank}{stage}{replica}"
    short = whole.replace("rank ", "").replace("stage ", "s").replace("replica ", "r")
    return next((words for words in (whole, short) if svg.width_of(words, 12) <= room), f"{rank.rank}")


def _bar(x: float, y: float, width: float, rank: Rank) -> list[str]:
    drawn = [svg.box(x, y, width, 14, "empty", round_=3)]
    start = 0.0
    for share in rank.holds:
        length = min(width - start, share.bytes / rank.usable * width)
        if length > 0.3:
            note = f"{share.name}: {share.bytes / GIB:.2f} GiB"
            drawn.append(svg.box(x + start, y, length, 14, _COLOURS.get(share.name, "engine"), note=note))
        start += length
    return drawn


def _legend(best: Candidate, y: float) -> list[str]:
    drawn: list[str] = []
    x = MARGIN
    names = dict.fromkeys(share.name for rank in best.ranks for share in rank.holds)
    for name in (*(name for name in _COLOURS if name in names), "free"):
        drawn.append(svg.box(x, y - 10, 12, 12, _COLOURS.get(name, "empty"), round_=3))
        drawn.append(svg.text(x + 18, y, name, 12, fill="soft"))
        x += 18 + svg.width_of(name, 12) + 22
    return drawn
