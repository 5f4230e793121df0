"""Which layers of a model go to which device of which node; knows no option of llama.cpp and no address.

llama.cpp splits by layers: the parts compute one after another, each token crossing the network once a part. The head
keeps the end of the model where it can (an accelerator), so that the logits (4 bytes for each of the vocabulary's
tokens) need not cross the network. A head without accelerator computes in its own process, which llama.cpp only does
for the first layers.
"""

from collections.abc import Sequence
from fractions import Fraction

from corral.engines.base import Placement
from corral.values import Value

# What llama.cpp calls the devices of each kind, counted from 0 after the node's visible ones are chosen.
_DEVICE_NAMES = {"cuda": "CUDA{}", "rocm": "ROCm{}", "metal": "MTL{}"}


class Part(Value):
    """The layers of one device. `layers` counts repeating layers; the output layer is not among them."""

    node: str
    device: str  # as llama.cpp on that node calls it: "CUDA0", "CPU"
    layers: int


class Split(Value):
    """All parts: those of other nodes, by node, then those of the head."""

    remote: tuple[Part, ...]
    local: tuple[Part, ...]

    @property
    def remote_nodes(self) -> tuple[str, ...]:
        """The nodes of remote parts in order, each once."""
        return tuple(dict.fromkeys(part.node for part in self.remote))


def apportion(total: int, weights: Sequence[Fraction]) -> tuple[int, ...]:
    """Share out `total` in proportion to positive weights, by largest remainder, at least 1 each.

    ValueError when there are fewer than one each.
    """
    if total < len(weights):
        msg = f"{total} cannot be shared by {len(weights)}"
        raise ValueError(msg)
    spare = total - len(weights)
    exact = [spare * weight / sum(weights) for weight in weights]
    shares = [1 + int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda index: int(exact[index]) - exact[index])
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return tuple(shares)


def device_names(placement: Placement, node: str) -> tuple[str, ...]:
    """Name the devices of a node that the placement uses, in the order of their seats."""
    if placement.accelerator == "cpu":
        return ("CPU",)
    template = _DEVICE_NAMES[placement.accelerator]
    return tuple(template.format(number) for number in range(len(device_indices(placement, node))))


def device_indices(placement: Placement, node: str) -> tuple[int, ...]:
    """Give the system's numbers of the devices of a node that the placement uses, in the order of their seats."""
    return tuple(dict.fromkeys(index for seat in placement.seats if seat.node == node for index in seat.devices))


def weighted_devices(placement: Placement) -> tuple[tuple[str, str, Fraction], ...]:
    """Give (node, device, weight) of every part: a node weighs as much as its seats, shared evenly by its devices.

    Where the placement gives each seat its layers, the parts weigh as these do.
    """
    weighted: list[tuple[str, str, Fraction]] = []
    for node in placement.nodes:
        names = device_names(placement, node)
        seats = [index for index, seat in enumerate(placement.seats) if seat.node == node]
        if placement.layers and len(names) == len(seats):
            weighted += (
                (node, name, Fraction(placement.layers[index])) for name, index in zip(names, seats, strict=True)
            )
            continue
        weight = sum(placement.layers[index] for index in seats) if placement.layers else len(seats)
        weighted += ((node, name, Fraction(weight, len(names))) for name in names)
    return tuple(weighted)


def split_layers(placement: Placement) -> Split:
    """Share out the layers in proportion to the weights; ValueError when there are fewer layers than devices."""
    weighted = weighted_devices(placement)
    weights = [weight for _, _, weight in weighted]
    given = placement.layers and sum(weights) == placement.model.layers and all(w.denominator == 1 for w in weights)
    shares = tuple(int(w) for w in weights) if given else apportion(placement.model.layers, weights)
    parts = [
        Part(node=node, device=device, layers=share) for (node, device, _), share in zip(weighted, shares, strict=True)
    ]
    head = placement.nodes[0]
    return Split(
        remote=tuple(part for part in parts if part.node != head),
        local=tuple(part for part in parts if part.node == head),
    )
