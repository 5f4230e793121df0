"""vLLM: tensor and pipeline parallel over one node or several, on Ray or on its own; pure, runs nothing."""

from corral.engines.vllm.engine import Vllm as Vllm
