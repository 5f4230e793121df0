"""What each engine can do with a weight format on a device, by version, and where that is said; starts no engine."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, Literal

from corral.catalog.devices import DeviceSpec
from corral.catalog.entries import Table, entry_ids, entry_of
from corral.values import Value

Verdict = Literal["native", "emulated", "no"]

# The groups that the rules speak of, by how a format's name begins. The first that matches counts.
_GROUPS: Final[Sequence[tuple[str, str]]] = (
    ("awq", r"awq"),
    ("gptq", r"gptq|autoround|int4|w4a16|uint4|dflash"),
    ("bnb", r"bnb|nf4"),
    ("exl3", r"exl"),
    ("mlx", r"mlx"),
    ("nvfp4", r"nvfp4|fp4"),
    ("mxfp4", r"mxfp4"),
    ("mxfp8", r"mxfp8"),
    ("fp8", r"fp8|w8a8-fp8"),
    ("int8", r"int8|w8a8|w8a16|8bit"),
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"f16|fp16|float16|half"),
    ("fp32", r"f32|fp32|float32"),
    ("gguf", r"gguf|ud-|i?q\d|tq\d"),
)


class Support(Value):
    """Whether an engine runs a weight format on a device, in one sentence.

    "native": kernels that multiply in the format, or unpack it as it is meant to be. "emulated": it runs, but in
    another number format than the one it was made for, so that it saves memory and no time. "no": it does not run.
    """

    verdict: Verdict
    sentence: str
    source: str


class EngineSpec(Value):
    """What one engine offers, as its newest described version does."""

    id: str
    name: str
    vendors: tuple[str, ...]  # of devices: "nvidia", "amd", "apple", "intel", "cpu"
    parallelism: tuple[str, ...]  # "tp", "pp", "ep", "dp", "cp"
    kv_dtypes: tuple[str, ...]
    graph_modes: tuple[str, ...]
    multi_node: tuple[str, ...]  # how it spans machines: "ray", "mp", "rpc", ...
    speculative: tuple[str, ...]


@lru_cache(maxsize=16)
def engine(name: str) -> EngineSpec:
    """The engine of this catalog id, alias or name; BadInput with near matches when the catalog has none."""
    entry = _entry(name)
    lists = ("vendors", "parallelism", "kv_dtypes", "graph_modes", "multi_node", "speculative")
    return EngineSpec.model_validate(
        {"id": entry["id"], "name": entry["name"]} | {field: entry["facts"][field]["value"] for field in lists}
    )


def known_engines() -> tuple[str, ...]:
    """The ids of all engines of the catalog."""
    return entry_ids("engines")


@lru_cache(maxsize=4096)
def format_group(weight_format: str) -> str:
    """The group of formats that the rules speak of: "awq-int4" -> "awq", "q4_k_m" -> "gguf"; "" for none of them."""
    plain = weight_format.strip().lower()
    return next((group for group, pattern in _GROUPS if re.match(pattern, plain)), "")


def support(engine: str, version: str, device: DeviceSpec, weight_format: str, architecture: str = "") -> Support:
    """Whether this version of an engine runs weights of this format on the device.

    `architecture` is a name of config.json's `architectures`, for rules that differ by it (mixtures of experts).
    Whether the engine knows the architecture at all is for the engine's own room to say. An empty or unknown version
    is the newest.
    """
    return _support(engine, version, device.vendor, device.kind, device.capability or "", weight_format, architecture)


@lru_cache(maxsize=8192)
def _support(
    name: str, version: str, vendor: str, kind: str, capability: str, weight_format: str, architecture: str
) -> Support:
    entry = _entry(name)
    group = format_group(weight_format)
    target = "cpu" if kind == "cpu" else vendor
    for rule in entry["support"]:
        if _applies(rule, group, target, capability) and _covers(rule, version, architecture):
            return Support(verdict=rule["verdict"], sentence=rule["sentence"], source=rule["source"])
    sentence = f"{entry['name']} is not known to run {weight_format} on {target} {capability}".rstrip() + "."
    return Support(verdict="no", sentence=sentence, source=entry["facts"]["vendors"]["source"])


def _applies(rule: Table, group: str, target: str, capability: str) -> bool:
    if "formats" in rule and group not in rule["formats"]:
        return False
    if target not in rule["on"]:
        return False
    return _capable(rule.get("capability"), capability)


def _capable(wanted: Sequence[int] | Sequence[str] | None, capability: str) -> bool:
    """Whether a compute capability "12.1" lies within [120, 121], or a target "gfx1201" is one of those named."""
    if wanted is None:
        return True
    if capability.startswith("gfx"):
        return any(isinstance(name, str) and fnmatchcase(capability, name) for name in wanted)
    number = int(capability.replace(".", "")) if capability.replace(".", "").isdigit() else 0
    bounds = [bound for bound in wanted if isinstance(bound, int)]
    return len(bounds) == 2 and bounds[0] <= number <= bounds[1]


def _covers(rule: Table, version: str, architecture: str) -> bool:
    if "architectures" in rule and not any(fnmatchcase(architecture, pattern) for pattern in rule["architectures"]):
        return False
    said = _numbers(version)
    if not said:
        return "until" not in rule
    return _numbers(rule.get("since", "0")) <= said and ("until" not in rule or said < _numbers(rule["until"]))


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version that order it; () where it tells nothing, as a build without a release does.

    "0.26.1rc1.dev608" -> (0, 26, 1); "b10428 (885c5bbe8)" -> (10428,); "11fb327bf (7941)" -> (7941,);
    "0.1.dev12777" -> ().
    """
    build = re.search(r"\bb(\d{3,})\b|\((\d{3,})\)", version)
    if build is not None:
        return (int(build[1] or build[2]),)
    plain = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    numbers = tuple(int(part) for part in plain[1].split(".")) if plain is not None else ()
    return () if "dev" in version and numbers < (0, 2) else numbers


def _entry(name: str) -> Table:
    return entry_of("engines", name, "Name one of `corral catalog list engines`.")
