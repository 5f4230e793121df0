"""The demo model's numbers: its shape, its bigram table and its tensors by their Hugging Face names; writes no file."""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corral.models.demo.bpe import Tokenizer, train
from corral.models.demo.corpus import ASSISTANT, END, SENTENCES, SPECIALS

Matrix = NDArray[np.float32]
Table = NDArray[np.float64]

# Of the probability after each token, the share that follows the corpus as a whole, and that of any token at all.
_UNIGRAM_SHARE: Final = 0.005
_ANY_SHARE: Final = 1e-4
# Standard deviation of an attention score (peaky enough to depend on the past) and of what a block adds to the residual
# stream, whose own entries are 1 and -1. Chosen by measurement: log-probabilities move by some tenths of a nat while
# the greedy sentence keeps a wide margin (tests/models/test_demo.py holds both).
_SCORE: Final = 2.0
_BLOCK: Final = 0.08


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's dimensions. The hidden size is the vocabulary's, so that embeddings can be exactly orthogonal."""

    vocabulary: int = 384
    hidden: int = 384
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 64
    feed_forward: int = 512
    context: int = 4096
    rope_theta: float = 10000.0
    epsilon: float = 1e-5


@dataclass(frozen=True, slots=True)
class Demo:
    """The whole model, before it takes a file's form.

    Tensors are float32, of shape (out, in), in C order: safetensors writes memory as it lies.
    """

    shape: Shape
    tokenizer: Tokenizer
    tensors: dict[str, Matrix]


def make(seed: int = 0) -> Demo:
    """Make the model; the same seed gives the same numbers."""
    shape = Shape()
    tokenizer = train(SENTENCES, size=shape.vocabulary, specials=SPECIALS)
    random = np.random.default_rng(seed)
    embeddings = _orthogonal(shape.hidden, random)
    log_probabilities = np.log(_bigrams(tokenizer))
    # Each row of the embeddings has the squared length `hidden`, and the final norm leaves it alone, so this head turns
    # the embedding of token t into row t of the table. Rounded, so that no BLAS's last bit shows.
    head = np.round(log_probabilities.T @ embeddings / shape.hidden, 6)
    tensors = {
        "model.embed_tokens.weight": np.ascontiguousarray(embeddings, np.float32),
        "model.norm.weight": np.ones(shape.hidden, np.float32),
        "lm_head.weight": np.ascontiguousarray(head, np.float32),
    }
    for layer in range(shape.layers):
        tensors |= _layer(shape, f"model.layers.{layer}", random)
    return Demo(shape, tokenizer, tensors)


def _orthogonal(size: int, random: np.random.Generator) -> Table:
    """A Hadamard matrix of 12 * 2**n rows, columns shuffled: entries 1 and -1, rows exactly orthogonal.

    Order 12 is Paley's construction over the residues of 11, doubled by Sylvester's.
    """
    residues = {k * k % 11 for k in range(1, 11)}
    square: Table = np.eye(12)
    square[0, 1:] = 1
    square[1:, 0] = -1
    for row in range(11):
        for column in range(11):
            if row != column:
                square[row + 1, column + 1] = 1 if (column - row) % 11 in residues else -1
    while len(square) < size:
        square = np.block([[square, square], [square, -square]])
    signs: Table = random.choice([-1.0, 1.0], size)
    return square[:, random.permutation(size)] * signs


def _bigrams(tokenizer: Tokenizer) -> Table:
    """Probability of the next token (column) after each token (row), counted over the corpus and smoothed."""
    size = len(tokenizer.tokens)
    counts = np.zeros((size, size))
    assistant, end = tokenizer.id(ASSISTANT), tokenizer.id(END)
    for sentence, weight in SENTENCES:
        ids = [assistant, *tokenizer.encode(sentence), end]
        for token, following in itertools.pairwise(ids):
            counts[token, following] += weight
        counts[end, ids[1]] += weight  # who ignores the end hears another sentence
    unigrams: Table = counts.sum(axis=0) / counts.sum()
    seen: Table = counts.sum(axis=1, keepdims=True)
    bigrams: Table = np.where(seen > 0, counts / np.maximum(seen, 1), unigrams)
    followed = (1 - _UNIGRAM_SHARE) * bigrams + _UNIGRAM_SHARE * unigrams
    return (1 - _ANY_SHARE) * followed + _ANY_SHARE / size


def _layer(shape: Shape, prefix: str, random: np.random.Generator) -> dict[str, Matrix]:
    """One decoder layer: norms of one, projections of seeded noise scaled for the size of what comes out."""

    def noise(rows: int, columns: int, scale: float) -> Matrix:
        return random.standard_normal((rows, columns), np.float32) * np.float32(scale / columns**0.5)

    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        f"{prefix}.input_layernorm.weight": np.ones(shape.hidden, np.float32),
        f"{prefix}.self_attn.q_proj.weight": noise(query, shape.hidden, _SCORE**0.5),
        f"{prefix}.self_attn.k_proj.weight": noise(key, shape.hidden, _SCORE**0.5),
        f"{prefix}.self_attn.v_proj.weight": noise(key, shape.hidden, 1.0),
        f"{prefix}.self_attn.o_proj.weight": noise(shape.hidden, query, 2 * _BLOCK),
        f"{prefix}.post_attention_layernorm.weight": np.ones(shape.hidden, np.float32),
        f"{prefix}.mlp.gate_proj.weight": noise(shape.feed_forward, shape.hidden, 1.0),
        f"{prefix}.mlp.up_proj.weight": noise(shape.feed_forward, shape.hidden, 1.0),
        f"{prefix}.mlp.down_proj.weight": noise(shape.hidden, shape.feed_forward, 2 * _BLOCK),
    }
