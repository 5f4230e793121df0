"""Serves a GGUF model with xllamacpp's built-in llama.cpp server, in a process of its own; knows nothing of Corral.

A single file of the standard library and xllamacpp. It takes llama-server's options (those that Corral uses), and
llama.cpp itself writes its log to standard error. A signal (SIGTERM, SIGINT) ends it at once; when the server cannot
start, it exits with status 1 and says so in a last line.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

xllamacpp: Any = importlib.import_module("xllamacpp")  # it has no type information
LOG_SECONDS = 0.1  # llama.cpp's log is written by a thread of its own; its errors should stand before the last line
ALL_LAYERS = -2  # llama.cpp's number for "all"


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; an unknown option is refused with status 2."""
    parser = argparse.ArgumentParser(description="llama.cpp's server out of xllamacpp's wheel.", allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ctx-size", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--kv-unified", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--kv-unified-per-slot", type=int, default=0)
    parser.add_argument("--cache-type-k", choices=("f16", "bf16", "f32"), default="f16")
    parser.add_argument("--cache-type-v", choices=("f16", "bf16", "f32"), default="f16")
    parser.add_argument("--cache-ram", type=int, default=8192)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--ubatch-size", type=int)
    parser.add_argument("--n-gpu-layers", choices=("all", "0"), default="0")
    parser.add_argument("--cors-origins", default="localhost")
    parser.add_argument("--fit", choices=("on", "off"), default="on")
    for name in ("--embeddings", "--metrics", "--no-warmup", "--no-ui", "--offline"):
        parser.add_argument(name, action="store_true")
    return parser.parse_args(arguments)


def parameters(options: argparse.Namespace) -> Any:  # noqa: ANN401 - xllamacpp has no types
    """Translate the options into xllamacpp's own values."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    params.kv_unified = options.kv_unified
    params.kv_unified_per_slot = options.kv_unified_per_slot
    params.cache_type_k = cache_type(options.cache_type_k)
    params.cache_type_v = cache_type(options.cache_type_v)
    params.cache_ram_mib = options.cache_ram
    params.n_gpu_layers = ALL_LAYERS if options.n_gpu_layers == "all" else 0
    params.cors_origins = options.cors_origins
    params.fit_params = options.fit == "on"
    params.embedding = options.embeddings
    params.endpoint_metrics = options.metrics
    params.warmup = not options.no_warmup
    params.ui = not options.no_ui
    params.offline = options.offline
    if options.threads is not None:
        params.cpuparams.n_threads = options.threads
    if options.batch_size is not None:
        params.n_batch = options.batch_size
    if options.ubatch_size is not None:
        params.n_ubatch = options.ubatch_size
    return params


def cache_type(name: str) -> Any:  # noqa: ANN401 - as above
    """Give ggml's type by llama-server's word for it."""
    return getattr(xllamacpp.ggml_type, f"GGML_TYPE_{name.upper()}")


def main() -> int:
    """Serve until a signal ends the process; 1 when the server did not start."""
    params = parameters(read_options())
    # The system's own action ends the process even while llama.cpp loads and no Python code runs.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        time.sleep(LOG_SECONDS)
        print(f"E corral: the embedded llama.cpp did not start: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"I corral: serving at {server.listening_address}", file=sys.stderr, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
