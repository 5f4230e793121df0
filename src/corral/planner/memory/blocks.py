"""vLLM's paged cache: blocks, groups of layers that share them, and what requests take of them; knows no weights.

Every layer's cache is cut into pages of one size, and layers into groups of one size; a block is a page in each layer
of a group, and all groups draw blocks from one pool. Follows vLLM 0.32: v1/core/kv_cache_utils.py (grouping, bytes of
a block, the null block), v1/kv_cache_interface.py (pages by kind of layer), platforms/interface.py (the attention block
of a hybrid model is made so large that a page holds one layer's recurrent state).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Final, Literal, TypeAlias

from corral.models.architecture import Attention, Block, LatentAttention, Recurrent
from corral.planner.formats import CacheFormat
from corral.planner.memory.anatomy import Anatomy, stage_counts

# Blocks of state that one request holds while prefixes are cached, which vLLM does unless told otherwise: the current
# one and the last at a block's end, and one more where a kernel can leave a state in mid-prompt.
_STATES: Final = {"mamba2": 3}

Need: TypeAlias = Literal["all", "window", "state"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What decides the size of pages: the cache format, tokens of a block, and how the model is split."""

    kv: CacheFormat
    block: int  # tokens
    tp: int
    activation: int  # bytes of one value of the activations, and of a convolution's state
    in_flight: int  # tokens scheduled but not settled, which a sliding window cannot yet drop
    draft: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The cache of one layer for one block: what it holds, its bytes, and the tokens of a block."""

    need: Need
    bytes: int
    block: int = 0
    window: int = 0
    copies: int = 1  # of a state: blocks that one request holds


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Layers that share block tables, by stage."""

    page: Page
    layers: tuple[int, ...]  # how many of each stage


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a cache holds, as vLLM's log tells it: requests of a given context at once, and as many tokens."""

    blocks: int
    requests: float
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The cache of a model on a layout: groups, and the bytes that one block takes of a rank of each stage."""

    groups: tuple[Group, ...]
    block_bytes: tuple[int, ...]
    in_flight: int

    def blocks(self, context: int, need: Need | None = None) -> int:
        """Blocks of one request of this many tokens, of all groups or of those that keep this."""
        return sum(
            _blocks(group.page, context, self.in_flight) for group in self.groups if need in {None, group.page.need}
        )

    def capacity(self, held: Sequence[int], context: int) -> "Capacity":
        """What so many bytes on a rank of each stage hold; the smallest stage decides."""
        blocks = min(size // each for size, each in zip(held, self.block_bytes, strict=True))
        requests = blocks / self.blocks(context)
        return Capacity(blocks=blocks, requests=requests, tokens=int(requests * context))


def _blocks(page: Page, context: int, in_flight: int) -> int:
    if page.need == "state":
        return page.copies
    if page.need == "all":
        return ceil(context / page.block)
    return ceil(min(page.window - 1 + in_flight, context) / page.block) + 1


@lru_cache(maxsize=512)
def pool(anatomy: Anatomy, layers: tuple[int, ...], terms: Terms) -> Pool:
    """The cache's groups and block sizes, for stages of so many layers."""
    pages = {index: _pages(kind.block, terms) for index, kind in enumerate(anatomy.kinds)}
    drafts = [page for kind in anatomy.drafts for page in _pages(kind.block, terms)] if terms.draft else []
    every = [page for found in pages.values() for page in found] + drafts
    packed = any(isinstance(kind.block.mixer, LatentAttention) and kind.block.mixer.window for kind in anatomy.kinds)
    unify = {page: page for page in every} if packed else _unifier(every, terms)
    stages: list[Counter[Page]] = []
    for counts in stage_counts(anatomy, layers):
        held: Counter[Page] = Counter()
        for index, count in counts.items():
            for page in pages[index]:
                held[unify[page]] += count
        stages.append(held)
    stages[-1].update(unify[page] for page in drafts)
    groups = _packed(stages) if packed else _groups(stages)
    return Pool(
        groups=groups,
        block_bytes=tuple(
            max((group.layers[stage] * group.page.bytes for group in groups), default=0) for stage in range(len(layers))
        ),
        in_flight=terms.in_flight,
    )


def _pages(block: Block, terms: Terms) -> tuple[Page, ...]:
    """The pages that a layer of this kind keeps before they are made equal; none without a cache of its own."""
    match block.mixer:
        case Attention(shares_kv=False) as attention:
            heads = ceil(attention.kv_heads / terms.tp)
            values = attention.head_dim * terms.kv.key_bits + attention.value_dim * terms.kv.value_bits
            size = ceil(heads * values * terms.block / 8)
            need: Need = "window" if attention.window else "all"
            return (Page(need, size, terms.block, attention.window or 0),)
        case LatentAttention() as latent:
            return _latent_pages(latent, terms)
        case Recurrent() as recurrent:
            state = recurrent.state_values * 4 + recurrent.conv_values * terms.activation
            copies = _STATES.get(recurrent.family, 2)
            return (Page("state", ceil(state / min(terms.tp, recurrent.heads)), copies=copies),)
        case _:
            return ()


def _latent_pages(latent: LatentAttention, terms: Terms) -> tuple[Page, ...]:
    """A vector a token, or one for several tokens beside a window of their own, and what the indexer keeps."""
    token = (latent.kv_rank + latent.rope_dim) * terms.kv.key_bits / 8
    pages: list[Page] = []
    if latent.window:
        pages.append(Page("window", ceil(token * terms.block), terms.block, latent.window))
    if not latent.window_only:
        pages.append(Page("all", ceil(token * terms.block), terms.block * latent.ratio))
    if indexer := _indexer_bytes(latent) * terms.block:
        pages.append(Page("all", indexer, terms.block * latent.ratio))
    return tuple(pages)


def _indexer_bytes(latent: LatentAttention) -> int:
    """Bytes a token of a sparse attention's indexer: keys in 8 bit, and a 32-bit scale for each 128 of them.

    As vLLM's DeepseekV32IndexerCache (model_executor/models/deepseek_v2.py).
    """
    return latent.index_dim + 4 * ceil(latent.index_dim / 128) if latent.index_heads else 0


def _unifier(pages: list[Page], terms: Terms) -> dict[Page, Page]:
    """For each page the one that is used in its place, so that all are of one size.

    A layer with a smaller page gets a larger block where that divides, else a page with unused room. Recurrent state
    never decides: attention's block grows until its page holds the state.
    """
    attention = [page for page in pages if page.need != "state"]
    state = max((page.bytes for page in pages if page.need == "state"), default=0)
    if state and attention:
        token = max(page.bytes // page.block for page in attention)
        block = terms.block * ceil(state / (terms.block * token))
        grown = {page: replace(page, bytes=page.bytes // page.block * block, block=block) for page in attention}
    else:
        grown = {page: page for page in attention}
    if not attention:  # nothing caches prefixes: each request holds its state once
        return {page: replace(page, copies=1) for page in pages}
    if len({page.need for page in pages}) == 1:  # one group, whatever the sizes
        return grown
    largest = max(page.bytes for page in grown.values())
    return {page: _stretched(grown.get(page, page), largest) for page in pages}


def _stretched(page: Page, size: int) -> Page:
    if page.need != "state" and size % page.bytes == 0:
        return replace(page, bytes=size, block=page.block * (size // page.bytes))
    return replace(page, bytes=size)


def _groups(stages: list[Counter[Page]]) -> tuple[Group, ...]:
    """Groups of as many layers each as the rarest kind has, or the commonest where that wastes less."""
    whole: Counter[Page] = Counter()
    for stage in stages:
        whole.update(stage)
    if not whole:
        return ()
    if len({page.need for page in whole}) == 1 and len({page.window for page in whole}) == 1:
        return (_joined(stages),)
    rarest, commonest = min(whole.values()), max(whole.values())
    size = commonest if commonest < rarest * 1.5 else rarest
    groups: list[Group] = []
    for page, count in whole.items():
        parts = ceil(count / size)
        groups += [Group(page, tuple(_dealt(stages, page, parts, part))) for part in range(parts)]
    return tuple(groups)


def _packed(stages: list[Counter[Page]]) -> tuple[Group, ...]:
    """Groups of pages of any size that are needed alike, side by side in one block (DeepSeek V4)."""
    alike = {(page.need, page.window, page.block): None for stage in stages for page in stage}
    return tuple(
        _joined([Counter({p: n for p, n in stage.items() if (p.need, p.window, p.block) == kind}) for stage in stages])
        for kind in alike
    )


def _joined(stages: list[Counter[Page]]) -> Group:
    """One group of layers that may differ in size: told as so many layers of the first one's page."""
    first = next(page for stage in stages for page in stage)
    sizes = [sum(page.bytes * count for page, count in stage.items()) for stage in stages]
    return Group(replace(first, bytes=1), tuple(sizes))


def _dealt(stages: list[Counter[Page]], page: Page, parts: int, part: int) -> list[int]:
    """How many of a page's layers each stage has in this group: layers are dealt to the groups in turn."""
    dealt: list[int] = []
    before = 0
    for stage in stages:
        after = before + stage[page]
        dealt.append(sum(1 for number in range(before, after) if number % parts == part))
        before = after
    return dealt
