"""The config.json that transformers' families have for the architectures of made_gguf."""

import json

from corral.models.architecture import Experts, LatentAttention, Recurrent

_COMMON = {
    "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
    "max_position_embeddings": 131072,
}  # fmt: skip


def write_config(model, folder, **changes):
    """Write the config.json of a made model into a folder; `changes` replace fields of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(model) | changes))
    return folder


def config_of(model):
    first = model.blocks[model.order[0]]
    if isinstance(first.mixer, LatentAttention):
        made = _deepseek_v3(model)
    elif isinstance(first.mixer, Recurrent):
        made = _granite(model)
    elif isinstance(first.feed_forward, Experts):
        made = _qwen3_moe(model)
    else:
        made = _gemma3(model) if first.mixer.window else _llama(model)
    return _COMMON | made | {
        "hidden_size": model.hidden, "num_hidden_layers": model.layers, "vocab_size": model.vocabulary,
        "tie_word_embeddings": model.tied,
    }  # fmt: skip


def _heads(attention):
    return {
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
    }


def _llama(model):
    block = model.blocks[0]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "intermediate_size": block.feed_forward.width,
        **_heads(block.mixer),
    }


def _gemma3(model):
    block = model.blocks[0]
    return {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
        "intermediate_size": block.feed_forward.width, "sliding_window": block.mixer.window,
        "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": block.mixer.head_dim,
        "layer_types": ["full_attention" if index else "sliding_attention" for index in model.order],
        **_heads(block.mixer),
    }  # fmt: skip


def _qwen3_moe(model):
    experts = model.blocks[0].feed_forward
    return {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "intermediate_size": experts.width,
        "moe_intermediate_size": experts.width, "num_experts": experts.experts,
        "num_experts_per_tok": experts.active, "decoder_sparse_step": 1, "norm_topk_prob": True,
        "mlp_only_layers": [], **_heads(model.blocks[0].mixer),
    }  # fmt: skip


def _deepseek_v3(model):
    mixer, mlp, experts = model.blocks[0].mixer, model.blocks[0].feed_forward, model.blocks[1].feed_forward
    return {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "intermediate_size": mlp.width,
        "moe_intermediate_size": experts.width, "n_routed_experts": experts.experts,
        "num_experts_per_tok": experts.active, "n_shared_experts": 1, "first_k_dense_replace": 1,
        "moe_layer_freq": 1, "n_group": 1, "topk_group": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
        "norm_topk_prob": True, "routed_scaling_factor": 1.0, "num_attention_heads": mixer.heads,
        "num_key_value_heads": mixer.heads, "q_lora_rank": mixer.q_rank, "kv_lora_rank": mixer.kv_rank,
        "qk_rope_head_dim": mixer.rope_dim, "qk_nope_head_dim": mixer.nope_dim, "v_head_dim": mixer.value_dim,
        "rope_theta": 10000.0, "num_nextn_predict_layers": 0,
    }  # fmt: skip


def _granite(model):
    recurrent, attention = model.blocks[0].mixer, model.blocks[1].mixer
    inner = 2 * model.hidden
    state, convolved = recurrent.state_values // inner, recurrent.conv_values // 3
    return {
        "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid",
        "intermediate_size": 0, "num_local_experts": 0, "num_experts_per_tok": 0,
        "shared_intermediate_size": model.blocks[0].feed_forward.width,
        "layer_types": ["attention" if index else "mamba" for index in model.order],
        "mamba_n_heads": recurrent.heads, "mamba_d_head": inner // recurrent.heads, "mamba_d_state": state,
        "mamba_n_groups": (convolved - inner) // (2 * state), "mamba_d_conv": 4, "mamba_expand": 2,
        "mamba_chunk_size": 256, "mamba_conv_bias": True, "mamba_proj_bias": False,
        "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0,
        "attention_multiplier": 1.0, "position_embedding_type": "nope", **_heads(attention),
    }  # fmt: skip
