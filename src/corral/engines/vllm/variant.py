"""Which of vLLM's two modes a placement uses, and which seats are on a node; knows no command line."""

from typing import Literal, TypeAlias

from corral.engines.base import Placement
from corral.errors import BadInput

Variant: TypeAlias = Literal["ray", "mp"]


def variant_of(placement: Placement) -> Variant:
    """The mode that was asked for; else Ray over several nodes and plain processes on one."""
    match placement.variant:
        case "":
            return "ray" if len(placement.nodes) > 1 else "mp"
        case "ray":
            return "ray"
        case "mp":
            return "mp"
        case other:
            raise BadInput(f"vLLM has no variant {other!r}.", 'Ask for "ray" or "mp".')


def seats_on(placement: Placement, node: str) -> int:
    """How many ranks sit on the node."""
    return sum(seat.node == node for seat in placement.seats)


def devices_on(placement: Placement, node: str) -> tuple[int, ...]:
    """Indices of the node's accelerators that the placement uses, in the order of its seats."""
    return tuple(device for seat in placement.seats if seat.node == node for device in seat.devices)
