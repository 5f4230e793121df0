"""llama.cpp as an engine: embedded in one process, or a server with RPC workers on other nodes; starts nothing."""

from corral.engines.llamacpp.engine import LlamaCpp

__all__ = ["LlamaCpp"]
