"""Tensors of checkpoints as they are on the Hub, sorted by their names."""

import pytest

from corral.models.known import architecture
from corral.models.weights import tensor_class, weights_by_class

NAMES = """
model.embed_tokens.weight                                      embedding
model.language_model.embed_tokens_per_layer.weight             embedding
backbone.embeddings.weight                                     embedding
embed.weight                                                   embedding
lm_head.weight                                                 head
head.weight                                                    head
model.norm.weight                                              norm
backbone.norm_f.weight                                         norm
model.layers.3.input_layernorm.weight                          norm
model.layers.3.self_attn.q_norm.weight                         norm
model.layers.3.self_attn.qkv_proj.weight                       attention
model.layers.3.self_attn.kv_a_proj_with_mqa.weight_scale_inv   attention
model.layers.3.self_attn.sinks                                 attention
model.layers.3.self_attn.indexer.wq_b.weight                   attention
layers.3.attn.wq_a.weight                                      attention
model.layers.3.mlp.gate_up_proj.weight                         mlp
model.layers.3.mlp.gate_proj.weight_packed                     mlp
model.layers.3.feed_forward.w1.weight                          mlp
model.layers.3.mlp.gate.weight                                 router
model.layers.3.mlp.gate.e_score_correction_bias                router
model.layers.3.mlp.router.weight                               router
model.layers.3.block_sparse_moe.gate.weight                    router
model.layers.3.block_sparse_moe.router.layer.weight            router
model.layers.3.block_sparse_moe.experts.7.w1.weight            experts
model.layers.3.block_sparse_moe.input_linear.weight            experts
model.layers.3.mlp.experts.gate_up_proj_blocks                 experts
model.layers.3.mlp.experts.7.down_proj.weight_scale            experts
backbone.layers.3.mixer.experts.7.up_proj.weight               experts
model.layers.3.mlp.shared_experts.gate_proj.weight             shared
model.layers.3.mlp.shared_expert_gate.weight                   shared
backbone.layers.3.mixer.fc1_latent_proj.weight                 shared
model.language_model.layers.3.linear_attn.in_proj_qkv.weight   recurrent
model.layers.3.conv.in_proj.weight                             recurrent
backbone.layers.3.mixer.A_log                                  recurrent
backbone.layers.3.mixer.in_proj.weight                         recurrent
backbone.layers.3.mixer.q_proj.weight                          attention
backbone.layers.3.mixer.up_proj.weight                         mlp
model.layers.61.mlp.experts.7.down_proj.weight                 draft
mtp.layers.0.self_attn.q_proj.weight                           draft
mtp.fc.weight                                                  draft
model.visual.blocks.3.attn.qkv.weight                          vision
vision_tower.encoder.blocks.3.mlp.fc1.weight                   vision
model.audio_tower.layers.3.self_attn.q_proj.weight             vision
multi_modal_projector.linear_1.weight                          vision
model.embed_vision.embedding_projection.weight                 vision
mm_projector.proj.0.weight                                     vision
blk.3.attn_k_b.weight                                          attention
blk.3.ffn_gate_exps.weight                                     experts
blk.3.ffn_gate_shexp.weight                                    shared
blk.3.ffn_gate_inp.weight                                      router
blk.3.ffn_gate.weight                                          mlp
blk.3.nextn.eh_proj.weight                                     draft
blk.61.ffn_down.weight                                         draft
output.weight                                                  head
output_norm.weight                                             norm
per_layer_token_embd.weight                                    embedding
"""


@pytest.mark.parametrize(("name", "kind"), [line.split() for line in NAMES.strip().splitlines()])
def test_a_tensor_is_sorted_by_its_name(name, kind):
    found, layer = tensor_class(name, layers=61)
    assert found == kind
    if ".3." in name and kind not in {"vision", "draft"}:
        assert layer == 3


def test_weights_add_up_to_their_tensors():
    tensors = [(line.split()[0], 2**n) for n, line in enumerate(NAMES.strip().splitlines())]
    weights = weights_by_class(tensors, 61)
    assert weights.total == sum(size for _, size in tensors)
    assert len(weights.layers) == 61


def test_deepseek_v4_s_draft_compresses_as_its_configuration_says():
    drafted = architecture("deepseek-v4-flash").draft[0].mixer
    assert drafted.window_only
    assert drafted.index_heads == 0
