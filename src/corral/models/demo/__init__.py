"""Corral's built-in demo model: made on the spot from a seed, it proves the plumbing and knows nothing else.

A Llama of about four million parameters that is not trained but written down: orthogonal embeddings and an output head
that holds the log-probabilities of a bigram model, so that the residual stream alone speaks the corpus's grammar.
Attention and feed-forward weights are random and small: they move every logit a little, so that a rank that computes
wrongly or is left out shows in the log-probabilities, but not so much that the greedy sentence breaks.

`python -m corral.models.demo --format gguf OUT` makes it in a process of its own: importing this package loads no
numpy.
"""

from typing import Final

NAME: Final = "corral-demo"
TITLE: Final = "Corral demo model"
# In the metadata of both forms; its value changes when other weights come out, so that a cached copy is not mistaken.
MARK: Final = "corral.demo"
RECIPE: Final = "1"
