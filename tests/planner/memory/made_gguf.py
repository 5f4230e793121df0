"""Architectures, and the GGUF files that llama.cpp reads them from: one function a family."""

from corral.models.architecture import (
    Attention,
    Block,
    Experts,
    LatentAttention,
    Mlp,
    ModelArchitecture,
    Recurrent,
)
from planner.memory.sparse_gguf import Sparse


def architecture(name, blocks, order, **changes):
    """A ModelArchitecture of these kinds of layers."""
    values = {
        "id": name, "name": name, "architecture": name, "context": 131072, "tied": False, "source": "made",
        "blocks": tuple(blocks), "order": tuple(order),
    }  # fmt: skip
    return ModelArchitecture(**(values | changes))


def dense(name, *, layers, hidden, heads, kv_heads, head_dim, width, vocabulary, tied=False):
    attention = Attention(heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim)
    block = Block(mixer=attention, feed_forward=Mlp(width=width))
    return architecture(name, [block], [0] * layers, hidden=hidden, vocabulary=vocabulary, tied=tied)


def sliding(name, *, layers, hidden, heads, kv_heads, head_dim, width, vocabulary, window, every=6):
    """Like Gemma 3: all layers but each `every`th slide; tied."""
    local, far = (
        Block(
            mixer=Attention(
                heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim, window=size, qk_norm=True
            ),
            feed_forward=Mlp(width=width),
            norms=4,
        )
        for size in (window, None)
    )
    order = [1 if (layer + 1) % every == 0 else 0 for layer in range(layers)]
    return architecture(name, [local, far], order, hidden=hidden, vocabulary=vocabulary, tied=True)


def moe(name, *, layers, hidden, heads, kv_heads, head_dim, experts, active, width, vocabulary):
    attention = Attention(heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim, qk_norm=True)
    block = Block(mixer=attention, feed_forward=Experts(experts=experts, active=active, width=width))
    return architecture(name, [block], [0] * layers, hidden=hidden, vocabulary=vocabulary)


def latent(
    name, *, layers, hidden, heads, q_rank, kv_rank, rope, nope, value, experts, active, width, dense_width, vocabulary
):
    """Like DeepSeek V3: the first layer dense, then experts with a shared one."""
    mixer = LatentAttention(heads=heads, q_rank=q_rank, kv_rank=kv_rank, rope_dim=rope, nope_dim=nope, value_dim=value)
    routed = Experts(experts=experts, active=active, width=width, shared_width=width)
    blocks = [Block(mixer=mixer, feed_forward=Mlp(width=dense_width)), Block(mixer=mixer, feed_forward=routed)]
    return architecture(name, blocks, [0] + [1] * (layers - 1), hidden=hidden, vocabulary=vocabulary)


def hybrid(name, *, layers, hidden, heads, kv_heads, head_dim, width, vocabulary, state, ssm_heads, groups=1, every=4):
    """Like Granite 4 hybrid: Mamba-2, each `every`th layer attention, each with a feed-forward."""
    inner = 2 * hidden
    convolved = inner + 2 * groups * state
    recurrent = Recurrent(
        family="mamba2",
        parameters=hidden * (2 * inner + 2 * groups * state + ssm_heads)
        + 5 * convolved
        + 3 * ssm_heads
        + inner
        + inner * hidden,
        state_values=state * inner,
        conv_values=3 * convolved,
        heads=ssm_heads,
    )
    attention = Attention(heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim)
    blocks = [
        Block(mixer=recurrent, feed_forward=Mlp(width=width)),
        Block(mixer=attention, feed_forward=Mlp(width=width)),
    ]
    order = [1 if (layer + 1) % every == 0 else 0 for layer in range(layers)]
    return architecture(name, blocks, order, hidden=hidden, vocabulary=vocabulary, tied=True)


def delta(
    name, *, layers, hidden, heads, kv_heads, head_dim, experts, active, width, vocabulary, key_heads, value_heads,
    state=128, every=4,
):  # fmt: skip
    """Like Qwen3-Next: gated delta nets, each `every`th layer gated attention, each with experts and a shared one."""
    keys, values = key_heads * state, value_heads * state
    convolved = 2 * keys + values
    recurrent = Recurrent(
        family="delta-net",
        parameters=hidden * (convolved + values + 2 * value_heads)
        + 4 * convolved
        + 2 * value_heads
        + state
        + values * hidden,
        state_values=value_heads * state * state,
        conv_values=3 * convolved,
        heads=key_heads,
    )
    attention = Attention(
        heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim, gated=True, qk_norm=True
    )
    routed = Experts(experts=experts, active=active, width=width, shared_width=width, shared_gate=True)
    blocks = [Block(mixer=recurrent, feed_forward=routed), Block(mixer=attention, feed_forward=routed)]
    order = [1 if (layer + 1) % every == 0 else 0 for layer in range(layers)]
    return architecture(name, blocks, order, hidden=hidden, vocabulary=vocabulary)


def gguf_of(model, kind="f16"):
    """The file of a model made above, with its matrices in `kind`."""
    first = model.blocks[model.order[0]]
    if isinstance(first.mixer, LatentAttention):
        return _deepseek2(model, kind)
    if isinstance(first.mixer, Recurrent):
        return _granite(model, kind) if first.mixer.family == "mamba2" else _qwen3next(model, kind)
    if isinstance(first.feed_forward, Experts):
        return _qwen3moe(model, kind)
    return _gemma3(model, kind) if first.mixer.window else _llama(model, kind)


def _start(family, model, kind, **fields):
    made = Sparse(
        family,
        model.vocabulary,
        {
            "context_length": model.context, "embedding_length": model.hidden, "block_count": model.layers,
            "attention.layer_norm_rms_epsilon": 1e-5, **fields,
        },
    )  # fmt: skip
    made.add("token_embd.weight", model.hidden, model.vocabulary, kind=kind)
    made.add("output_norm.weight", model.hidden)
    if not model.tied:
        made.add("output.weight", model.hidden, model.vocabulary, kind=kind)
    return made


def _attention_fields(attention):
    return {
        "attention.head_count": attention.heads,
        "attention.head_count_kv": attention.kv_heads,
        "attention.key_length": attention.head_dim,
        "attention.value_length": attention.value_dim,
        "rope.dimension_count": attention.head_dim,
    }


def _norms(made, layer, hidden, *names):
    for name in names:
        made.add(f"blk.{layer}.{name}.weight", hidden)


def _attention(made, layer, attention, hidden, kind):
    start = f"blk.{layer}.attn_"
    queries = attention.heads * attention.head_dim * (2 if attention.gated else 1)
    made.add(f"{start}q.weight", hidden, queries, kind=kind)
    made.add(f"{start}k.weight", hidden, attention.kv_heads * attention.head_dim, kind=kind)
    made.add(f"{start}v.weight", hidden, attention.kv_heads * attention.value_dim, kind=kind)
    made.add(f"{start}output.weight", attention.heads * attention.value_dim, hidden, kind=kind)
    if attention.qk_norm:
        _norms(made, layer, attention.head_dim, "attn_q_norm", "attn_k_norm")


def _mlp(made, layer, hidden, width, kind, end=""):
    for name in ("gate", "up"):
        made.add(f"blk.{layer}.ffn_{name}{end}.weight", hidden, width, kind=kind)
    made.add(f"blk.{layer}.ffn_down{end}.weight", width, hidden, kind=kind)


def _experts(made, layer, experts, hidden, kind):
    start, count, width = f"blk.{layer}.ffn_", experts.experts, experts.width
    made.add(f"{start}gate_inp.weight", hidden, count, kind="f32")
    for name in ("gate", "up"):
        made.add(f"{start}{name}_exps.weight", hidden, width, count, kind=kind)
    made.add(f"{start}down_exps.weight", width, hidden, count, kind=kind)


def _llama(model, kind):
    attention, mlp = model.blocks[0].mixer, model.blocks[0].feed_forward
    made = _start("llama", model, kind, feed_forward_length=mlp.width, **_attention_fields(attention))
    for layer in range(model.layers):
        _norms(made, layer, model.hidden, "attn_norm", "ffn_norm")
        _attention(made, layer, attention, model.hidden, kind)
        _mlp(made, layer, model.hidden, mlp.width, kind)
    return made


def _gemma3(model, kind):
    attention, mlp = model.blocks[0].mixer, model.blocks[0].feed_forward
    window = {"attention.sliding_window": attention.window}
    made = _start("gemma3", model, kind, feed_forward_length=mlp.width, **_attention_fields(attention), **window)
    for layer in range(model.layers):
        _norms(made, layer, model.hidden, "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        _attention(made, layer, attention, model.hidden, kind)
        _mlp(made, layer, model.hidden, mlp.width, kind)
    return made


def _qwen3moe(model, kind):
    attention, experts = model.blocks[0].mixer, model.blocks[0].feed_forward
    made = _start(
        "qwen3moe", model, kind,
        feed_forward_length=experts.width, expert_feed_forward_length=experts.width,
        expert_count=experts.experts, expert_used_count=experts.active, **_attention_fields(attention),
    )  # fmt: skip
    for layer in range(model.layers):
        _norms(made, layer, model.hidden, "attn_norm", "ffn_norm")
        _attention(made, layer, attention, model.hidden, kind)
        _experts(made, layer, experts, model.hidden, kind)
    return made


def _deepseek2(model, kind):
    mixer, mlp, experts = model.blocks[0].mixer, model.blocks[0].feed_forward, model.blocks[1].feed_forward
    key = mixer.nope_dim + mixer.rope_dim
    made = _start(
        "deepseek2", model, kind,
        feed_forward_length=mlp.width, expert_feed_forward_length=experts.width, leading_dense_block_count=1,
        expert_count=experts.experts, expert_used_count=experts.active, expert_shared_count=1,
        **{
            "attention.head_count": mixer.heads, "attention.head_count_kv": 1,
            "attention.q_lora_rank": mixer.q_rank, "attention.kv_lora_rank": mixer.kv_rank,
            "attention.key_length": mixer.kv_rank + mixer.rope_dim, "attention.value_length": mixer.kv_rank,
            "attention.key_length_mla": key, "attention.value_length_mla": mixer.value_dim,
            "rope.dimension_count": mixer.rope_dim,
        },
    )  # fmt: skip
    for layer in range(model.layers):
        start = f"blk.{layer}.attn_"
        _norms(made, layer, model.hidden, "attn_norm", "ffn_norm")
        made.add(f"{start}q_a_norm.weight", mixer.q_rank)
        made.add(f"{start}kv_a_norm.weight", mixer.kv_rank)
        made.add(f"{start}q_a.weight", model.hidden, mixer.q_rank, kind=kind)
        made.add(f"{start}q_b.weight", mixer.q_rank, mixer.heads * key, kind=kind)
        made.add(f"{start}kv_a_mqa.weight", model.hidden, mixer.kv_rank + mixer.rope_dim, kind=kind)
        made.add(f"{start}k_b.weight", mixer.nope_dim, mixer.kv_rank, mixer.heads, kind=kind)
        made.add(f"{start}v_b.weight", mixer.kv_rank, mixer.value_dim, mixer.heads, kind=kind)
        made.add(f"{start}output.weight", mixer.heads * mixer.value_dim, model.hidden, kind=kind)
        if layer == 0:
            _mlp(made, layer, model.hidden, mlp.width, kind)
        else:
            _experts(made, layer, experts, model.hidden, kind)
            _mlp(made, layer, model.hidden, experts.shared_width, kind, end="_shexp")
    return made


def _granite(model, kind):
    recurrent, attention = model.blocks[0].mixer, model.blocks[1].mixer
    width, inner = model.blocks[0].feed_forward.width, 2 * model.hidden
    state, convolved = recurrent.state_values // inner, recurrent.conv_values // 3
    groups = (convolved - inner) // (2 * state)
    kv_heads = [attention.kv_heads if index else 0 for index in model.order]
    made = _start(
        "granitehybrid", model, kind, feed_forward_length=width,
        **_attention_fields(attention) | {"attention.head_count_kv": kv_heads},
        **{
            "ssm.conv_kernel": 4, "ssm.inner_size": inner, "ssm.state_size": state,
            "ssm.time_step_rank": recurrent.heads, "ssm.group_count": groups,
        },
    )  # fmt: skip
    for layer, index in enumerate(model.order):
        _norms(made, layer, model.hidden, "attn_norm", "ffn_norm")
        _mlp(made, layer, model.hidden, width, kind)
        if index:
            _attention(made, layer, attention, model.hidden, kind)
            continue
        start = f"blk.{layer}.ssm_"
        made.add(f"{start}in.weight", model.hidden, 2 * inner + 2 * groups * state + recurrent.heads, kind=kind)
        made.add(f"{start}conv1d.weight", 4, convolved, kind="f32")
        made.add(f"{start}conv1d.bias", convolved)
        made.add(f"{start}dt.bias", recurrent.heads)
        made.add(f"{start}a", 1, recurrent.heads, kind="f32")
        made.add(f"{start}d", 1, recurrent.heads, kind="f32")
        made.add(f"{start}norm.weight", inner // groups, groups, kind="f32")
        made.add(f"{start}out.weight", inner, model.hidden, kind=kind)
    return made


def _qwen3next(model, kind):
    recurrent, attention = model.blocks[0].mixer, model.blocks[1].mixer
    experts = model.blocks[0].feed_forward
    convolved, state = recurrent.conv_values // 3, 128
    value_heads = recurrent.state_values // state**2
    values = value_heads * state
    made = _start(
        "qwen3next", model, kind,
        feed_forward_length=experts.width, expert_feed_forward_length=experts.width,
        expert_shared_feed_forward_length=experts.shared_width,
        expert_count=experts.experts, expert_used_count=experts.active, full_attention_interval=4,
        **_attention_fields(attention),
        **{
            "ssm.conv_kernel": 4, "ssm.inner_size": values, "ssm.state_size": state,
            "ssm.time_step_rank": value_heads, "ssm.group_count": recurrent.heads,
        },
    )  # fmt: skip
    for layer, index in enumerate(model.order):
        _norms(made, layer, model.hidden, "attn_norm", "post_attention_norm")
        _experts(made, layer, experts, model.hidden, kind)
        made.add(f"blk.{layer}.ffn_gate_inp_shexp.weight", model.hidden)
        _mlp(made, layer, model.hidden, experts.shared_width, kind, end="_shexp")
        if index:
            _attention(made, layer, attention, model.hidden, kind)
            continue
        start = f"blk.{layer}.ssm_"
        made.add(f"blk.{layer}.attn_qkv.weight", model.hidden, convolved, kind=kind)
        made.add(f"blk.{layer}.attn_gate.weight", model.hidden, values, kind=kind)
        made.add(f"{start}conv1d.weight", 4, convolved, kind="f32")
        made.add(f"{start}dt.bias", value_heads)
        made.add(f"{start}a", value_heads)
        made.add(f"{start}ba.weight", model.hidden, 2 * value_heads, kind=kind)
        made.add(f"{start}norm.weight", state)
        made.add(f"{start}out.weight", values, model.hidden, kind=kind)
    return made
