"""A Llama forward pass in numpy, written from the architecture alone: what the engines' answers are held against."""

import numpy as np


def log_probabilities(demo, ids, *, without_blocks=False, skip=()):
    """Log-probabilities after each position, shape (len(ids), vocabulary), in float64.

    `skip` leaves out what a broken rank would: ("layer", 2), ("head", 3), ("feed_forward", 0).
    """
    shape, tensors = demo.shape, {name: tensor.astype(np.float64) for name, tensor in demo.tensors.items()}
    x = tensors["model.embed_tokens.weight"][list(ids)]
    for layer in range(0 if without_blocks else shape.layers):
        if ("layer", layer) in skip:
            continue
        weights = {
            name.removeprefix(f"model.layers.{layer}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"model.layers.{layer}.")
        }
        x = x + _attention(shape, weights, _norm(x, weights["input_layernorm.weight"], shape.epsilon), skip)
        if ("feed_forward", layer) not in skip:
            x = x + _feed_forward(weights, _norm(x, weights["post_attention_layernorm.weight"], shape.epsilon))
    logits = _norm(x, tensors["model.norm.weight"], shape.epsilon) @ tensors["lm_head.weight"].T
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * weight


def _attention(shape, weights, x, skip):
    length = len(x)
    q = _rotate(shape, (x @ weights["self_attn.q_proj.weight"].T).reshape(length, shape.heads, -1))
    k = _rotate(shape, (x @ weights["self_attn.k_proj.weight"].T).reshape(length, shape.kv_heads, -1))
    v = (x @ weights["self_attn.v_proj.weight"].T).reshape(length, shape.kv_heads, -1)
    out = np.zeros_like(q)
    group = shape.heads // shape.kv_heads
    for head in range(shape.heads):
        if ("head", head) in skip:
            continue
        scores = q[:, head] @ k[:, head // group].T / np.sqrt(shape.head_dim)
        scores[np.triu_indices(length, 1)] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[:, head] = scores / scores.sum(axis=-1, keepdims=True) @ v[:, head // group]
    return out.reshape(length, -1) @ weights["self_attn.o_proj.weight"].T


def _rotate(shape, x):
    half = shape.head_dim // 2
    angles = np.arange(len(x))[:, None] * shape.rope_theta ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    low, high = x[..., :half], x[..., half:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def _feed_forward(weights, x):
    gate = x @ weights["mlp.gate_proj.weight"].T
    return (gate / (1 + np.exp(-gate)) * (x @ weights["mlp.up_proj.weight"].T)) @ weights["mlp.down_proj.weight"].T
