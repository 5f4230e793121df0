"""What the speed model takes and gives; knows no table and no cluster file."""

from typing import Literal

from corral.catalog.devices import DeviceSpec
from corral.catalog.links import LinkSpec
from corral.models.architecture import ModelArchitecture
from corral.values import Value


class Prediction(Value):
    """A figure with the range that should hold the truth nine times in ten, and what its coefficients come from."""

    value: float
    low: float
    high: float
    unit: Literal["tok/s", "s", "W"]
    basis: str  # one sentence: "fitted on 681 runs on GB10 with vLLM", "nothing similar was measured"


class Term(Value):
    """A part of a step's or a prompt's time, in seconds; a phase's terms add up to it."""

    phase: Literal["decode", "prefill"]
    name: str  # "weights: experts", "kv cache", "all-reduce over roce-200g", "per-layer overhead", ...
    seconds: float


class Split(Value):
    """How ranks divide the work, and what they are joined by. Degrees multiply to the number of devices."""

    tp: int = 1
    pp: int = 1
    ep: int = 1  # expert parallelism; 1 when experts are split as tensors
    dp: int = 1
    nodes: int = 1
    device_link: LinkSpec | None = None  # between devices of one node; None with one device a node
    node_link: LinkSpec | None = None  # between nodes; None on one node


class Speculation(Value):
    """Speculative decoding: tokens drafted a step, the share accepted of each position, and what drafts."""

    method: str  # "mtp", "eagle", "draft-model", "ngram"
    length: int
    acceptance: float


class SpeedCase(Value):
    """Everything that decides the speed of one deployment under one load."""

    model: ModelArchitecture
    weights: str  # weight format: "fp8", "q4_k_m", "awq-int4", ...
    weights_bytes: int | None = None  # of all files, when known
    kv: str = "auto"  # cache format: "f16", "fp8", "q8_0", ...
    device: DeviceSpec  # with nodes that differ: the slowest
    split: Split = Split()
    engine: str  # "vllm", "sglang", "trt-llm", "llamacpp", "llamacpp-rpc", "exo", ...
    engine_version: str | None = None
    eager: bool = False  # graphs off
    chunk: int | None = None  # tokens of prompts that are computed at once; None: the engine's default
    weight_only: bool = False  # weights are unpacked and multiplied in 16 bit even where the device need not (Marlin)
    speculation: Speculation | None = None
    prompt: int  # tokens of a request's prompt
    cached: int = 0  # of them, answered by the prefix cache
    context: int  # tokens in the cache when decoding starts
    output: int
    concurrency: int = 1
    power_limit: float | None = None  # watts a device; None: stock


class Speed(Value):
    """What is predicted for a case. `decode` is the rate of one stream, `output` of all together."""

    decode: Prediction
    prefill: Prediction
    ttft: Prediction
    tpot: Prediction
    output: Prediction
    power: Prediction | None = None  # watts of one device while decoding
    terms: tuple[Term, ...]
    warnings: tuple[str, ...] = ()
