"""Links as the planner needs them, in SI units; knows no topology."""

from typing import Literal

from corral.values import Value


class LinkSpec(Value):
    """What joins two devices of a node, or two nodes. `latency` is that of one small message, seconds, one way."""

    id: str  # "roce-200g", "nvlink2", "pcie3-p2p", "tb5-rdma", "none"
    name: str
    scope: Literal["device", "node"]
    bandwidth: float  # bytes a second, one direction, of one device's or one node's port, as achieved by real transfers
    line_rate: float  # bytes a second, as rated
    latency: float  # seconds
    rdma: bool = False
