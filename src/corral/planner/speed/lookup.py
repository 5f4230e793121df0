"""Names of devices, links and models in a table, found in the catalog once each; knows no table."""

import re

from corral.catalog.devices import DeviceSpec, device
from corral.catalog.links import LinkSpec, link
from corral.errors import BadInput
from corral.models.architecture import ModelArchitecture
from corral.models.known import architecture
from corral.planner.speed.rows import Names


def catalog_names() -> Names:
    """Where a table's names are found: the catalog, asked once for each name."""
    devices: dict[str, DeviceSpec] = {}
    links: dict[tuple[str, str], LinkSpec] = {}
    models: dict[str, ModelArchitecture] = {}

    def find_device(name: str) -> DeviceSpec:
        if name not in devices:
            devices[name] = device(name)
        return devices[name]

    def find_link(name: str, of: DeviceSpec) -> LinkSpec:
        key = (name, of.id)
        if key not in links:
            links[key] = _link(name, of)
        return links[key]

    def find_model(name: str) -> ModelArchitecture:
        if name not in models:
            models[name] = architecture(name)
        return models[name]

    return Names(device=find_device, link=find_link, model=find_model)


def _link(name: str, of: DeviceSpec) -> LinkSpec:
    """A link of the catalog, or of those that it has the one that a name which it lacks sounds like."""
    try:
        return link(name, of)
    except BadInput:
        return link(_alike(name.lower()), of)


def _alike(plain: str) -> str:
    """A catalog id for a link by what its name says: its kind, and its rate in Gb/s."""
    gigabits = re.search(r"(\d+(?:\.\d+)?)\s*g", plain)
    rate = float(gigabits.group(1)) if gigabits else 10.0
    kinds = (
        (r"nvlink|nvswitch", "nvlink3"),
        (r"xgmi|infinity", "xgmi3"),
        (r"pci.*3", "pcie3"),
        (r"pci.*5", "pcie5"),
        (r"pci", "pcie4"),
        (r"(thunderbolt|tb).*rdma", "tb5-rdma"),
        (r"(thunderbolt|tb).*5", "tb5-tcp"),
        (r"thunderbolt|^tb", "tb4"),
        (r"roce|rdma|infiniband|^ib", f"roce-{_nearest(rate, (10, 25, 40, 50, 100, 200, 400))}g"),
    )
    tcp = f"tcp-{_nearest(rate, (1, 2.5, 5, 10, 20, 25, 40, 50, 100, 200, 400))}g"
    return next((known for pattern, known in kinds if re.search(pattern, plain)), tcp)


def _nearest(rate: float, rates: tuple[float, ...]) -> str:
    return f"{min(rates, key=lambda known: abs(known - rate)):g}"
