"""Headers of GGUF models as llama.cpp's converter writes them, made of their sizes; shapes in ggml's order."""

from corral.models.ggml_types import TENSOR_TYPES
from corral.models.gguf import Header, Tensor

BF16 = TENSOR_TYPES[30]


def header(architecture, keys, tensors, kind=BF16):
    made, offset = [], 0
    for name, shape in tensors:
        tensor = Tensor(name, tuple(shape), kind, offset)
        made.append(tensor)
        offset += tensor.bytes
    metadata = {"general.architecture": architecture} | {f"{architecture}.{key}": value for key, value in keys.items()}
    return Header(metadata, tuple(made), 4096)


def outside(hidden, vocabulary, *, tied=False):
    yield "token_embd.weight", (hidden, vocabulary)
    yield "output_norm.weight", (hidden,)
    if not tied:
        yield "output.weight", (hidden, vocabulary)


def attention(n, hidden, heads, kv, dim, *, bias=False, gated=False, qk_norm=False, norm="attn_norm"):
    yield f"blk.{n}.{norm}.weight", (hidden,)
    yield f"blk.{n}.attn_q.weight", (hidden, heads * dim * (2 if gated else 1))
    yield f"blk.{n}.attn_k.weight", (hidden, kv * dim)
    yield f"blk.{n}.attn_v.weight", (hidden, kv * dim)
    yield f"blk.{n}.attn_output.weight", (heads * dim, hidden)
    if bias:
        yield f"blk.{n}.attn_q.bias", (heads * dim,)
        yield f"blk.{n}.attn_k.bias", (kv * dim,)
        yield f"blk.{n}.attn_v.bias", (kv * dim,)
    if qk_norm:
        yield f"blk.{n}.attn_q_norm.weight", (dim,)
        yield f"blk.{n}.attn_k_norm.weight", (dim,)


def mlp(n, hidden, width, *, gated=True, kind="", norm="ffn_norm"):
    if norm:
        yield f"blk.{n}.{norm}.weight", (hidden,)
    if gated:
        yield f"blk.{n}.ffn_gate{kind}.weight", (hidden, width)
    yield f"blk.{n}.ffn_up{kind}.weight", (hidden, width)
    yield f"blk.{n}.ffn_down{kind}.weight", (width, hidden)


def experts(n, hidden, count, width, *, gated=True, norm="ffn_norm", inner=None):
    inner = inner or hidden
    if norm:
        yield f"blk.{n}.{norm}.weight", (hidden,)
    yield f"blk.{n}.ffn_gate_inp.weight", (hidden, count)
    if gated:
        yield f"blk.{n}.ffn_gate_exps.weight", (inner, width, count)
    yield f"blk.{n}.ffn_up_exps.weight", (inner, width, count)
    yield f"blk.{n}.ffn_down_exps.weight", (width, inner, count)


def llama(layers=32, hidden=4096, width=14336, heads=32, kv=8, dim=128, vocabulary=128256):
    tensors = list(outside(hidden, vocabulary))
    for n in range(layers):
        tensors += [*attention(n, hidden, heads, kv, dim), *mlp(n, hidden, width)]
    keys = {
        "block_count": layers,
        "embedding_length": hidden,
        "context_length": 131072,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
    }
    return header("llama", keys, tensors)


def qwen3moe():
    layers, hidden = 48, 2048
    tensors = list(outside(hidden, 151936))
    for n in range(layers):
        tensors += [*attention(n, hidden, 32, 4, 128, qk_norm=True), *experts(n, hidden, 128, 768)]
    keys = {
        "block_count": layers,
        "embedding_length": hidden,
        "context_length": 40960,
        "attention.head_count": 32,
        "attention.head_count_kv": 4,
        "attention.key_length": 128,
        "expert_count": 128,
        "expert_used_count": 8,
    }
    return header("qwen3moe", keys, tensors)


def gpt_oss(layers=24):
    hidden = 2880
    tensors = list(outside(hidden, 201088))
    for n in range(layers):
        tensors += [
            *attention(n, hidden, 64, 8, 64, bias=True),
            (f"blk.{n}.attn_output.bias", (hidden,)),
            (f"blk.{n}.attn_sinks.weight", (64,)),
            *experts(n, hidden, 32, 2880, norm="post_attention_norm"),
            (f"blk.{n}.ffn_gate_inp.bias", (32,)),
            (f"blk.{n}.ffn_gate_exps.bias", (2880, 32)),
            (f"blk.{n}.ffn_up_exps.bias", (2880, 32)),
            (f"blk.{n}.ffn_down_exps.bias", (hidden, 32)),
        ]
    keys = {
        "block_count": layers,
        "embedding_length": hidden,
        "context_length": 131072,
        "attention.head_count": 64,
        "attention.head_count_kv": 8,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "attention.sliding_window": 128,
        "expert_count": 32,
        "expert_used_count": 4,
    }
    return header("gpt-oss", keys, tensors)


def deepseek2(layers=61, draft=1):
    hidden, heads, latent, rope, nope, value = 7168, 128, 512, 64, 128, 128
    tensors = list(outside(hidden, 129280))
    for n in range(layers + draft):
        tensors += [
            (f"blk.{n}.attn_norm.weight", (hidden,)),
            (f"blk.{n}.attn_q_a.weight", (hidden, 1536)),
            (f"blk.{n}.attn_q_a_norm.weight", (1536,)),
            (f"blk.{n}.attn_q_b.weight", (1536, heads * (nope + rope))),
            (f"blk.{n}.attn_kv_a_mqa.weight", (hidden, latent + rope)),
            (f"blk.{n}.attn_kv_a_norm.weight", (latent,)),
            (f"blk.{n}.attn_k_b.weight", (nope, latent, heads)),
            (f"blk.{n}.attn_v_b.weight", (latent, value, heads)),
            (f"blk.{n}.attn_output.weight", (heads * value, hidden)),
        ]
        if n < 3:
            tensors += mlp(n, hidden, 18432)
        else:
            tensors += [*experts(n, hidden, 256, 2048), *mlp(n, hidden, 2048, kind="_shexp", norm="")]
            tensors.append((f"blk.{n}.exp_probs_b.bias", (256,)))
        if n >= layers:
            tensors.append((f"blk.{n}.nextn.eh_proj.weight", (2 * hidden, hidden)))
            tensors += [(f"blk.{n}.nextn.{x}.weight", (hidden,)) for x in ("enorm", "hnorm", "shared_head_norm")]
    keys = {
        "block_count": layers + draft,
        "embedding_length": hidden,
        "context_length": 163840,
        "attention.head_count": heads,
        "attention.head_count_kv": 1,
        "attention.kv_lora_rank": latent,
        "attention.key_length": latent + rope,
        "attention.value_length": latent,
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": value,
        "rope.dimension_count": rope,
        "expert_count": 256,
        "expert_used_count": 8,
        "nextn_predict_layers": draft,
    }
    return header("deepseek2", keys, tensors)


def qwen35moe(layers=40):
    hidden = 2048
    tensors = list(outside(hidden, 248320))
    for n in range(layers):
        if (n + 1) % 4:
            tensors += [
                (f"blk.{n}.attn_norm.weight", (hidden,)),
                (f"blk.{n}.attn_qkv.weight", (hidden, 8192)),
                (f"blk.{n}.attn_gate.weight", (hidden, 4096)),
                (f"blk.{n}.ssm_conv1d.weight", (4, 8192)),
                (f"blk.{n}.ssm_dt.bias", (32,)),
                (f"blk.{n}.ssm_a", (32,)),
                (f"blk.{n}.ssm_alpha.weight", (hidden, 32)),
                (f"blk.{n}.ssm_beta.weight", (hidden, 32)),
                (f"blk.{n}.ssm_norm.weight", (128,)),
                (f"blk.{n}.ssm_out.weight", (4096, hidden)),
            ]
        else:
            tensors += attention(n, hidden, 16, 2, 256, gated=True, qk_norm=True)
        tensors += [
            *experts(n, hidden, 256, 512, norm="post_attention_norm"),
            *mlp(n, hidden, 512, kind="_shexp", norm=""),
            (f"blk.{n}.ffn_gate_inp_shexp.weight", (hidden,)),
        ]
    keys = {
        "block_count": layers,
        "embedding_length": hidden,
        "context_length": 262144,
        "attention.head_count": 16,
        "attention.head_count_kv": 2,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "expert_count": 256,
        "expert_used_count": 8,
        "ssm.conv_kernel": 4,
        "ssm.state_size": 128,
        "ssm.group_count": 16,
        "ssm.time_step_rank": 32,
        "ssm.inner_size": 4096,
        "full_attention_interval": 4,
    }
    return header("qwen35moe", keys, tensors)


def nemotron_h():
    pattern, hidden = "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-", 3136
    tensors = list(outside(hidden, 131072))
    for n, letter in enumerate(pattern):
        if letter == "M":
            tensors += [
                (f"blk.{n}.attn_norm.weight", (hidden,)),
                (f"blk.{n}.ssm_in.weight", (hidden, 7680 + 9728 + 96)),
                (f"blk.{n}.ssm_conv1d.weight", (4, 9728)),
                (f"blk.{n}.ssm_conv1d.bias", (9728,)),
                (f"blk.{n}.ssm_dt.bias", (96,)),
                (f"blk.{n}.ssm_a", (1, 96)),
                (f"blk.{n}.ssm_d", (1, 96)),
                (f"blk.{n}.ssm_norm.weight", (960, 8)),
                (f"blk.{n}.ssm_out.weight", (7680, hidden)),
            ]
        elif letter == "*":
            tensors += attention(n, hidden, 40, 8, 128)
        else:
            tensors += mlp(n, hidden, 12544, gated=False, norm="attn_norm")
    keys = {
        "block_count": len(pattern),
        "embedding_length": hidden,
        "context_length": 262144,
        "attention.head_count": 40,
        "attention.head_count_kv": tuple(8 if letter == "*" else 0 for letter in pattern),
        "attention.key_length": 128,
        "attention.value_length": 128,
        "ssm.conv_kernel": 4,
        "ssm.state_size": 128,
        "ssm.group_count": 8,
        "ssm.time_step_rank": 96,
        "ssm.inner_size": 7680,
    }
    return header("nemotron_h", keys, tensors)


def gemma4_e2b():
    layers, hidden, inputs = 35, 1536, 256
    tensors = [
        *outside(hidden, 262144, tied=True),
        ("per_layer_token_embd.weight", (inputs * layers, 262144)),
        ("per_layer_model_proj.weight", (hidden, inputs * layers)),
        ("per_layer_proj_norm.weight", (inputs,)),
        ("rope_freqs.weight", (256,)),
    ]
    for n in range(layers):
        full, shared = (n + 1) % 5 == 0, n >= 15
        dim = 512 if full else 256
        mine = attention(n, hidden, 8, 1, dim, qk_norm=True)
        tensors += [item for item in mine if not (shared and any(x in item[0] for x in ("attn_k", "attn_v")))]
        tensors += mlp(n, hidden, 12288 if shared else 6144)
        tensors += [(f"blk.{n}.{x}.weight", (hidden,)) for x in ("post_attention_norm", "post_ffw_norm", "post_norm")]
        tensors += [
            (f"blk.{n}.inp_gate.weight", (hidden, inputs)),
            (f"blk.{n}.proj.weight", (inputs, hidden)),
            (f"blk.{n}.layer_output_scale.weight", (1,)),
        ]
    keys = {
        "block_count": layers,
        "embedding_length": hidden,
        "context_length": 131072,
        "attention.head_count": 8,
        "attention.head_count_kv": 1,
        "attention.key_length": 512,
        "attention.value_length": 512,
        "attention.key_length_swa": 256,
        "attention.value_length_swa": 256,
        "attention.sliding_window": 512,
        "attention.sliding_window_pattern": tuple((n + 1) % 5 != 0 for n in range(layers)),
        "attention.shared_kv_layers": 20,
        "embedding_length_per_layer_input": inputs,
    }
    return header("gemma4", keys, tensors)


def lfm2():
    layers, hidden = 30, 2048
    full = (2, 5, 9, 13, 17, 21, 24, 27)
    tensors = [("token_embd.weight", (hidden, 128000)), ("token_embd_norm.weight", (hidden,))]
    for n in range(layers):
        if n in full:
            tensors += attention(n, hidden, 32, 8, 64, qk_norm=True)
        else:
            tensors += [
                (f"blk.{n}.attn_norm.weight", (hidden,)),
                (f"blk.{n}.shortconv.conv.weight", (3, hidden)),
                (f"blk.{n}.shortconv.in_proj.weight", (hidden, 3 * hidden)),
                (f"blk.{n}.shortconv.out_proj.weight", (hidden, hidden)),
            ]
        tensors += mlp(n, hidden, 10752)
    keys = {
        "block_count": layers,
        "embedding_length": hidden,
        "context_length": 128000,
        "attention.head_count": 32,
        "attention.head_count_kv": tuple(8 if n in full else 0 for n in range(layers)),
        "shortconv.l_cache": 3,
    }
    return header("lfm2", keys, tensors)


# Of each: the catalog's name of the same model.
MODELS = {
    "llama-3.1-8b": llama,
    "qwen3-30b-a3b": qwen3moe,
    "gpt-oss-20b": gpt_oss,
    "deepseek-v3": deepseek2,
    "qwen3.5-35b-a3b": qwen35moe,
    "nemotron-3-nano-4b": nemotron_h,
    "gemma-4-e2b": gemma4_e2b,
    "lfm2.5-2.6b": lfm2,
}
