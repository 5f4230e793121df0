"""Cases that the speed tests share."""

import pytest

from corral.catalog.devices import device
from corral.catalog.links import link
from corral.models.known import architecture
from corral.planner.speed.values import SpeedCase, Split


@pytest.fixture(scope="session")
def case():
    """Makes a case; without a word one stream of Llama 3.1 8B in q4_k_m with llama.cpp on an RTX 3090."""

    def make(model="llama-3.1-8b", on="rtx3090", **changes):
        given = {
            "model": architecture(model),
            "weights": "q4_k_m",
            "device": device(on),
            "engine": "llamacpp",
            "prompt": 1024,
            "context": 1024,
            "output": 128,
        }
        return SpeedCase(**given | changes)

    return make


@pytest.fixture(scope="session")
def split():
    """Makes a split of so many ranks over a link of the catalog."""

    def make(over="pcie4", nodes=1, **degrees):
        found = link(over, device("h100-sxm"))
        if found.scope == "node":
            return Split(**degrees, nodes=nodes, node_link=found)
        return Split(**degrees, nodes=nodes, device_link=found)

    return make
