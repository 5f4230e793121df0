"""Small and large models with how an engine is started for them: what is predicted is compared with what it reports."""

from dataclasses import dataclass, field

from corral.catalog.devices import DeviceSpec
from corral.models.architecture import ModelArchitecture
from corral.planner.memory import MemoryCase
from corral.planner.speed.values import Split
from planner.memory import made_gguf as made

CPU = DeviceSpec(
    id="cpu", name="CPU", vendor="intel", kind="cpu", generation="", memory=2**40, usable=2**40, bandwidth=1e11,
    flops={}, matrix=frozenset(), power_limit=1,
)  # fmt: skip

CARD = CPU.model_copy(update={"id": "card", "kind": "consumer"})

_SMALL = {"hidden": 256, "heads": 8, "kv_heads": 2, "head_dim": 64, "vocabulary": 4100}
_LATENT = {
    "layers": 4, "hidden": 256, "heads": 8, "q_rank": 96, "kv_rank": 128, "rope": 32, "nope": 64, "value": 64,
    "experts": 16, "active": 4, "width": 128, "dense_width": 768, "vocabulary": 4096,
}  # fmt: skip
# Layers of real models: few of them, so that the file is small, but each as large as it is.
_V3 = {
    "layers": 2, "hidden": 7168, "heads": 128, "q_rank": 1536, "kv_rank": 512, "rope": 64, "nope": 128, "value": 128,
    "experts": 16, "active": 8, "width": 2048, "dense_width": 18432, "vocabulary": 4096,
}  # fmt: skip
_MOE = {"heads": 32, "kv_heads": 4, "head_dim": 128, "experts": 128, "active": 8, "vocabulary": 4096}


def _models():
    yield made.dense("dense", layers=12, width=768, **_SMALL)
    yield made.dense("dense-tied", layers=12, width=768, tied=True, **_SMALL)
    yield made.sliding("sliding", layers=12, width=768, window=512, **_SMALL)
    yield made.moe("moe", layers=4, experts=32, active=4, width=128, **_SMALL)
    yield made.latent("latent", **_LATENT)
    yield made.hybrid(
        "mamba2", layers=8, hidden=256, heads=8, kv_heads=2, head_dim=32, width=768, vocabulary=4096, state=64,
        ssm_heads=8,
    )  # fmt: skip
    yield made.delta(
        "delta-net", layers=4, hidden=256, heads=4, kv_heads=2, head_dim=64, experts=16, active=4, width=64,
        vocabulary=4096, key_heads=2, value_heads=4,
    )  # fmt: skip
    large = {"heads": 32, "kv_heads": 8, "head_dim": 128, "vocabulary": 4096}
    yield made.dense("8b-layers", layers=3, hidden=4096, width=14336, **large)
    yield made.dense("70b-layers", layers=2, hidden=8192, width=28672, **(large | {"heads": 64}))
    yield made.sliding(
        "27b-sliding-layers", layers=6, hidden=5376, width=21504, window=1024, **(large | {"kv_heads": 16})
    )
    yield made.moe("30b-moe-layers", layers=3, hidden=2048, width=768, **_MOE)
    yield made.moe("235b-moe-layers", layers=2, hidden=4096, width=1536, **(_MOE | {"heads": 64}))
    yield made.latent("671b-latent-layers", **_V3)
    yield made.hybrid("mamba2-layers", layers=4, hidden=4096, width=1536, state=128, ssm_heads=128, **large)
    yield made.delta(
        "80b-delta-net-layers", layers=4, hidden=2048, heads=16, kv_heads=2, head_dim=256, experts=32, active=10,
        width=512, vocabulary=4096, key_heads=16, value_heads=32,
    )  # fmt: skip


MODELS = {model.id: model for model in _models()}


@dataclass(frozen=True)
class Case:
    """One start of an engine."""

    name: str
    engine: str
    model: ModelArchitecture
    weights: str
    kv: str = "auto"
    context: int = 4096
    requests: int = 1
    split: Split = field(default_factory=Split)
    batch: int = 512
    config: dict = field(default_factory=dict)  # changes to config.json
    device: DeviceSpec = CPU
    layers: tuple[int, ...] = ()  # of each stage; (): even

    @property
    def memory(self):
        """The question to the planner."""
        return MemoryCase(
            model=self.model, split=self.split, engine=self.engine, devices=(self.device,) * self.split.pp,
            weights=self.weights, kv=self.kv, context=self.context, concurrency=self.requests,
            batch=self.batch, layers=self.layers,
        )  # fmt: skip


def _llamacpp(model, weights="f16", kv="f16", *, title="", **changes):
    return Case(f"{model}{title}", "llamacpp", MODELS[model], weights, kv, **changes)


LLAMACPP = (
    _llamacpp("dense"),
    _llamacpp("dense", "f32", "f32", title=" float32", context=1000),
    _llamacpp("dense", "q8_0", "q8_0", title=" q8_0", context=5000, requests=3),
    _llamacpp("dense", "bf16", title=" ubatch 1024", batch=1024),
    _llamacpp("dense-tied", "bf16"),
    _llamacpp("sliding", context=8000, requests=2),
    _llamacpp("sliding", title=" short", context=300),
    _llamacpp("moe", requests=2),
    _llamacpp("latent", requests=2),
    _llamacpp("mamba2", requests=3),
    _llamacpp("delta-net", requests=2),
)
LLAMACPP_LARGE = (
    _llamacpp("8b-layers", "q8_0"),
    _llamacpp("70b-layers", "q4_0", "q8_0", context=32768, requests=2),
    _llamacpp("27b-sliding-layers", "q4_0", context=32768),
    _llamacpp("30b-moe-layers", "q4_0", context=32768),
    _llamacpp("235b-moe-layers", "q4_0", context=8192),
    _llamacpp("671b-latent-layers", "q4_0", context=32768),
    _llamacpp("mamba2-layers", "q8_0", context=8192, requests=4),
    _llamacpp("80b-delta-net-layers", "q4_0", context=8192, requests=4),
)


# Two devices that a server reaches over RPC: what each holds, with layers one after another.
LLAMACPP_SPLIT = tuple(
    _llamacpp(model, requests=2, split=Split(pp=2), device=CARD, **changes)
    for model, changes in (
        ("dense", {}),
        ("dense-tied", {"title": " 9+3", "layers": (9, 3)}),
        ("sliding", {"context": 8000}),
        ("moe", {"layers": (1, 3), "title": " 1+3"}),
        ("latent", {}),
        ("mamba2", {}),
    )
)


def _vllm(model, weights="bf16", *, title="", tp=1, pp=1, ep=1, **changes):
    split = Split(tp=tp, pp=pp, ep=ep)
    return Case(f"{model}{title}", "vllm", MODELS[model], weights, requests=4, split=split, batch=4096, **changes)


VLLM = (
    _vllm("dense"),
    _vllm("dense", "fp32", title=" float32", config={"torch_dtype": "float32"}),
    _vllm("dense", title=" tp2", tp=2),
    _vllm("dense", title=" tp4, two KV heads", tp=4),
    _vllm("dense-tied", title=" pp2", pp=2),
    _vllm("sliding"),
    _vllm("sliding", title=" pp2", pp=2),
    _vllm("moe", title=" tp2", tp=2),
    _vllm("moe", title=" ep2", tp=2, ep=2),
    _vllm("latent"),
    _vllm("latent", title=" tp2", tp=2),
    _vllm("mamba2"),
    _vllm("mamba2", title=" tp2", tp=2),
)
# Started in tests: one of each kind, half a minute each; all of them by `make bench-memory`.
VLLM_STARTED = ("dense tp4, two KV heads", "dense-tied pp2", "sliding", "moe ep2", "latent tp2", "mamba2")
