"""The options that llama-server and the embedded server share, from a placement; knows no node and no split."""

from corral.engines.base import Placement, Site
from corral.units import MIB

_CACHE_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_CACHE_TYPE_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
# Host memory for prompts whose slot was taken by another; llama.cpp's own default is 8192.
_PROMPT_CACHE_MIB = 1024
# Bytes of weights below which one thread computes a token sooner than several agree on it. Measured on two cores with a
# model of 16 MB: as fast on an idle machine, and 800 tok/s in place of 80 on a busy one.
_ONE_THREAD = 64 * MIB
_BATCH = 2048  # llama.cpp's own default, tokens


def cache_type(placement: Placement) -> str:
    """Give the KV cache's type; float16 as llama.cpp itself chooses, unless the placement names a type."""
    return _CACHE_TYPES[placement.dtype or "float16"]


def pool_tokens(placement: Placement) -> int:
    """Tokens of KV cache that all slots have together.

    Without a limit every slot has its full context. `kv_bytes` is one rank's, and a rank holds the cache of its own
    layers only.
    """
    full = placement.context * placement.concurrency
    if placement.kv_bytes is None:
        return full
    model = placement.model
    layers = -(-model.layers // placement.layout.ranks)
    token_bytes = 2 * layers * model.kv_heads * model.head_dim * _CACHE_TYPE_BYTES[cache_type(placement)]
    return min(full, placement.kv_bytes // token_bytes)


def thread_options(placement: Placement) -> tuple[str, ...]:
    """Give the option for the number of CPU threads; none leaves it to llama.cpp (one a physical core)."""
    small = placement.accelerator == "cpu" and placement.model.weights_bytes < _ONE_THREAD
    threads = placement.threads or (1 if small else None)
    return () if threads is None else ("--threads", str(threads))


def server_options(placement: Placement, site: Site) -> tuple[str, ...]:
    """Give the options that say what is served and how, in llama-server's words."""
    kind = cache_type(placement)
    return (
        *("--model", site.model, "--alias", placement.served_name),
        *("--host", "127.0.0.1", "--port", str(site.ports["api"])),
        *_context(placement),
        *("--cache-type-k", kind, "--cache-type-v", kind),
        *("--cache-ram", str(_PROMPT_CACHE_MIB)),
        *thread_options(placement),
        *(_embeddings(placement) if placement.model.embeds else ()),
        "--metrics",
        # The first generation, which must succeed before the deployment counts as ready, is the warm-up.
        "--no-warmup",
        "--no-ui",
        "--offline",
        # A web page of another origin must not talk to the engine through its visitor's browser.
        *("--cors-origins", "localhost"),
        # The placement decides what goes where; what does not fit must fail, not run elsewhere and slowly.
        *("--fit", "off"),
    )


def _context(placement: Placement) -> tuple[str, ...]:
    """llama.cpp's --ctx-size is of all slots together: split evenly, or one pool that slots draw from as needed."""
    pool, full = pool_tokens(placement), placement.context * placement.concurrency
    size = ("--ctx-size", str(pool), "--parallel", str(placement.concurrency))
    if pool == full:
        return (*size, "--no-kv-unified")
    return (*size, "--kv-unified", "--kv-unified-per-slot", str(placement.context))


def _embeddings(placement: Placement) -> tuple[str, ...]:
    """An embedding needs its whole text in one physical batch."""
    batch = str(max(placement.context, _BATCH))
    return ("--embeddings", "--batch-size", batch, "--ubatch-size", batch)
