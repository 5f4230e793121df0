"""What is fitted: each open figure's prior, and by which properties of a case it may differ; knows no values fitted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from corral.catalog.devices import DeviceSpec
from corral.catalog.links import LinkSpec
from corral.planner.speed.engines import engine_family
from corral.planner.speed.rates import Rates
from corral.planner.speed.values import SpeedCase, Split
from corral.planner.speed.work import Work


@dataclass(frozen=True, slots=True)
class Quantity:
    """A figure's prior: its typical value, how far that may be off (as a logarithm), and the same by property.

    A property's effect is a factor exp(x), x drawn around zero with the property's width. A case that has a property
    that was never measured gets the factor one: it falls back to the generation, then the vendor, then all.
    """

    typical: float
    width: float
    by: Mapping[str, float]
    centres: Mapping[str, float] = field(default_factory=dict[str, float])  # of effects not around 0

    def looser(self, factor: float) -> "Quantity":
        """The same prior, with all its widths `factor` times as wide."""
        wider = {name: width * factor for name, width in self.by.items()}
        return Quantity(self.typical, self.width * factor, wider, self.centres)


# Typical values: figures of the field's literature rounded; the fit moves them where there is data. Software latency of
# collectives by fabric is that of `facts` on communication: NCCL and custom all-reduces of some kilobytes.
_PRIORS: Final[dict[str, Quantity]] = {
    "read": Quantity(
        0.8,
        0.08,
        {
            "engine": 0.07,
            "vendor": 0.07,
            "class": 0.07,
            "engine+kind": 0.1,
            "generation": 0.08,
            "device": 0.1,
            "format": 0.08,
            "engine+class": 0.1,
            "engine+format": 0.1,
            "generation+format": 0.08,
            "class+format": 0.15,
            "engine+device": 0.08,
            "era": 0.05,
        },
        {"engine+format=exllama+exl3": -0.35},  # its trellis is decoded in arithmetic, not only read
    ),
    "width": Quantity(0.1, 0.3, {"engine+class": 1.0}),
    "swift": Quantity(0.05, 0.2, {"engine": 1.0}),
    "read_experts": Quantity(0.8, 0.1, {"engine": 0.1, "engine+class": 0.15, "format": 0.1, "engine+format": 0.15}),
    "read_cache": Quantity(
        0.75,
        0.1,
        {"engine": 0.2, "class": 0.1, "engine+class": 0.2, "engine+generation": 0.15},
        {"engine=llamacpp": -0.3},
    ),
    # Cards decode at their power limit; chips that share memory with a processor far below it (`power`).
    "rested": Quantity(
        0.05,
        0.5,
        {"class": 0.25},
        {"class=nvidia/soc": -9.0, "class=amd/soc": -9.0, "class=apple/soc": -9.0, "class=arm/cpu": -9.0},
    ),
    "state": Quantity(1.5, 0.3, {"engine": 0.5}),
    "compute": Quantity(0.5, 0.1, {"engine": 0.2, "class": 0.2, "engine+class": 0.3, "format": 0.2, "device": 0.15}),
    "layer": Quantity(
        1e-5,
        0.15,
        {
            "engine": 0.3,
            "vendor": 0.15,
            "class": 0.2,
            "engine+class": 0.5,
            "device": 0.1,
            "engine+device": 0.2,
            "eager": 0.7,
            "graphs": 0.3,
        },
        {
            "eager=yes": 0.7,
            "graphs=llamacpp+before": 0.4,
            "class=nvidia/soc": 0.7,
            "class=nvidia/consumer": 0.3,
            "class=apple/soc": 0.3,
            "class=amd/soc": 0.7,
            "class=amd/consumer": 0.3,
            "engine=llamacpp": 1.2,
        },
    ),
    "recurrent": Quantity(1e-5, 0.2, {"engine": 0.2, "class": 0.3, "engine+class": 0.3}),
    "routed": Quantity(2e-5, 0.2, {"engine": 0.2, "class": 0.3, "engine+class": 0.3}),
    "step": Quantity(3e-4, 0.2, {"engine": 0.2, "engine+class": 0.4}),
    "sequence": Quantity(8e-6, 0.2, {"engine": 0.2, "engine+class": 0.5}, {"class=nvidia/soc": 0.5}),
    "spread": Quantity(0.95, 0.02, {"engine": 0.03}),
    "collective": Quantity(
        1e-5,
        0.2,
        {"engine": 0.2, "fabric": 0.4, "link": 0.3, "engine+fabric": 0.3},
        {"fabric=nvlink": -0.5, "fabric=pcie": 0.7, "fabric=rdma": 1.0, "fabric=tcp": 2.3},
    ),
    "latency": Quantity(1.5, 0.2, {"engine": 0.2, "fabric": 0.3}),
    "wire": Quantity(
        0.7,
        0.15,
        {"engine": 0.1, "fabric": 0.3, "link": 0.3, "fabric+ranks": 0.6, "engine+fabric": 0.2},
        # Two GPUs on PCIe exchange directly; with more, engines' own all-reduces step aside for rings through the host.
        {"fabric=pcie": -0.7, "fabric+ranks=pcie+two": 0.6, "fabric+ranks=pcie+many": -0.6},
    ),
    "hop": Quantity(1.5, 0.3, {"engine": 0.5, "fabric": 0.5}),
    "mfu": Quantity(
        0.88,
        0.1,
        {
            "engine": 0.1,
            "vendor": 0.2,
            "class": 0.15,
            "engine+kind": 0.15,
            "generation": 0.15,
            "device": 0.15,
            "format": 0.1,
            "engine+format": 0.15,
            "engine+class": 0.25,
            "generation+format": 0.15,
            "class+format": 0.2,
            "engine+device": 0.15,
            "era": 0.15,
        },
        {
            "engine=llamacpp": -0.4,
            "class=nvidia/soc": -0.3,  # one power limit for processor and GPU
            "class=amd/soc": -0.3,
            "vendor=apple": 0.3,  # no matrix cores up to M4: plain arithmetic comes nearer to its peak
            "engine+class=llamacpp+nvidia/consumer": 0.4,  # GeForce halves rates that accumulate in FP32, ggml does not
        },
    ),
    "scale": Quantity(0.15, 0.2, {"engine": 0.1}, {"engine=llamacpp": 0.7}),
    "mfu_experts": Quantity(
        0.5, 0.2, {"engine": 0.15, "vendor": 0.2, "engine+class": 0.3, "format": 0.2, "engine+format": 0.2}
    ),
    "mfu_attention": Quantity(
        0.4,
        0.15,
        {"engine": 0.3, "vendor": 0.2, "class": 0.2, "engine+class": 0.4, "engine+generation": 0.2, "era": 0.14},
        {"engine=llamacpp": -0.7},
    ),
    # Without FlashAttention vLLM computes attention in Triton; llama.cpp has kernels for wide heads.
    "wide": Quantity(0.3, 0.5, {"engine": 0.8}, {"engine=llamacpp": 1.0}),
    "scan": Quantity(0.03, 0.4, {"engine": 0.4, "engine+class": 0.3, "engine+scan": 0.4}),
    "half": Quantity(150.0, 0.2, {"engine": 0.2, "engine+class": 0.5}),
    "layer_prompt": Quantity(2e-5, 0.2, {"engine": 0.2, "engine+class": 0.3}),
    "request": Quantity(0.008, 0.2, {"engine": 0.2, "class": 0.4, "engine+class": 0.5}, {"class=nvidia/soc": 0.7}),
    "interference": Quantity(1.0, 0.07, {"engine": 0.07}),
    "peers": Quantity(2.0, 0.5, {"engine": 0.4}),
    "queue": Quantity(3.0, 0.7, {"engine": 0.5}),
    # A run of ten rounds has one in which all begin together: each waits for half of the others. SGLang computes all
    # waiting prompts before it decodes on, so that streams that began together stay together.
    "lockstep": Quantity(0.05, 0.5, {"engine": 0.5}, {"engine=sglang": 2.3}),
    "power": Quantity(0.4, 0.3, {"class": 0.2}),
    "power_read": Quantity(0.2, 0.7, {"engine": 0.3}),
    # Not fitted on others' runs: a calibration sets them for a device, engine and format (`calibrate`).
    "pace": Quantity(1.0, 1e-6, {"run": 1e-6}),
    "pace_prompt": Quantity(1.0, 1e-6, {"run": 1e-6}),
}
# How fast prompts are read differs more between devices and engines than the priors above allow: of the factors 1, 1.5
# and 2.2 the last had the smallest errors on sources held out, for decoding too.
_OF_PROMPTS: Final = frozenset(("mfu", "mfu_experts", "mfu_attention", "scan", "half", "layer_prompt", "request"))
_LOOSER: Final = 2.2
QUANTITIES: Final[dict[str, Quantity]] = {
    name: quantity.looser(_LOOSER) if name in _OF_PROMPTS else quantity for name, quantity in _PRIORS.items()
}
ORDER: Final = Rates._fields

_OLD: Final = re.compile(r"\b202[0-4]\b")

_FABRICS: Final = (
    ("nvlink", "nvlink"),
    ("infinity", "nvlink"),
    ("xgmi", "nvlink"),
    ("pcie", "pcie"),
    ("roce", "rdma"),
    ("ib", "rdma"),
    ("tb5-rdma", "rdma"),
    ("infiniband", "rdma"),
    ("tcp", "tcp"),
    ("tb", "tcp"),
    ("usb4", "tcp"),
    ("ethernet", "tcp"),
)


def fabric(link: LinkSpec | None) -> str:
    """The kind of a link, by its id: nvlink, pcie, rdma or tcp."""
    if link is None:
        return "none"
    return next((kind for start, kind in _FABRICS if link.id.startswith(start)), "rdma" if link.rdma else "tcp")


def slowest(split: Split) -> LinkSpec | None:
    """The link that a message between ranks may have to cross."""
    return split.node_link if split.nodes > 1 and split.node_link else split.device_link


def era(case: SpeedCase) -> str:
    """Whether an engine is of an earlier time: llama.cpp up to 2024, by the year that its version names."""
    family = engine_family(case.engine)
    old = family == "llamacpp" and case.engine_version is not None and _OLD.search(case.engine_version)
    return f"{family}+{'before' if old else 'now'}"


def properties(case: SpeedCase, work: Work) -> dict[str, str]:
    """The case's value of each property that a quantity may differ by."""
    device: DeviceSpec = case.device
    engine = engine_family(case.engine)
    link = slowest(case.split)
    joined = fabric(link)
    form = work.format.family
    # One generation's name covers a data-centre part and a laptop's: what pools is a generation within a class.
    kind_of_device = f"{device.vendor}/{device.kind}"
    generation = f"{device.generation}/{device.kind}"
    return {
        "engine": engine,
        "vendor": device.vendor,
        "class": kind_of_device,
        "generation": generation,
        "device": device.id,
        "format": form,
        "era": (time := era(case)),
        # llama.cpp launches a step's kernels as one CUDA graph since; other vendors' backends changed less.
        "graphs": time if device.vendor == "nvidia" else "as ever",
        "eager": "yes" if case.eager else "no",
        "link": link.id if link else "none",
        "fabric": joined,
        "fabric+ranks": f"{joined}+{'many' if case.split.tp > 2 else 'two'}",
        "engine+format": f"{engine}+{form}",
        "engine+scan": f"{engine}+{work.body.scan}",
        "engine+fabric": f"{engine}+{joined}",
        "engine+device": f"{engine}+{device.id}",
        "run": f"{device.id}+{engine}+{form}",
        "engine+kind": f"{engine}+{device.kind}",
        "engine+class": f"{engine}+{kind_of_device}",
        "engine+generation": f"{engine}+{generation}",
        "generation+format": f"{generation}+{form}",
        "class+format": f"{kind_of_device}+{form}",
    }
