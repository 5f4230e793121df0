"""llama.cpp's cache: cells by sequence, each of whole width, and the state of recurrent layers; knows no weights.

Follows llama.cpp 0.5: src/llama-context.cpp (a context is padded to 256 cells, for each slot or for all that share
one), src/llama-kv-cache.cpp (a cell is a row of keys and one of values; latent attention keeps keys only),
src/llama-kv-cache-iswa.cpp (layers with a window keep it and one physical batch), src/llama-memory-recurrent.cpp
(state and convolution in 32 bit, one row a slot), src/llama-kv-cache-dsa.cpp (the indexer's keys).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from corral.models.architecture import Attention, Block, LatentAttention, Recurrent
from corral.planner.formats import CacheFormat
from corral.planner.memory.anatomy import Anatomy, stage_counts

PADDING = 256  # cells


@dataclass(frozen=True, slots=True)
class Slots:
    """The context of llama-server: `slots` requests of `context` tokens, each with cells of its own, or all sharing."""

    context: int
    slots: int
    batch: int = 512  # the physical batch (--ubatch-size), tokens
    shared: bool = False  # --kv-unified

    @property
    def cells(self) -> int:
        """Cells of a layer that keeps everything, all slots together."""
        if self.shared:
            return padded(self.context * self.slots)
        return padded(self.context) * self.slots

    def window_cells(self, window: int) -> int:
        """Cells of a layer that keeps a window, all slots together."""
        streams = 1 if self.shared else self.slots
        size = padded(min(self.cells // streams, window * (self.slots if self.shared else 1) + self.batch))
        return size * streams


@dataclass(frozen=True, slots=True, eq=False)
class LayerCells:
    """What one rank keeps of its layers' caches: bytes a cell by window (0: no window), and bytes of a slot's state."""

    by_window: tuple[tuple[int, int], ...]
    state: int


def padded(tokens: int) -> int:
    """Cells for so many tokens."""
    return ceil(tokens / PADDING) * PADDING


@lru_cache(maxsize=512)
def stage_cells(
    anatomy: Anatomy, layers: tuple[int, ...], kv: CacheFormat, tp: int, *, draft: bool
) -> tuple[LayerCells, ...]:
    """The caches of a rank of each stage."""
    stages: list[LayerCells] = []
    last = len(layers) - 1
    for stage, counts in enumerate(stage_counts(anatomy, layers)):
        held = [(anatomy.kinds[index].block, count) for index, count in counts.items()]
        if draft and stage == last:
            held += [(kind.block, 1) for kind in anatomy.drafts]
        stages.append(_rank(held, kv, tp))
    return tuple(stages)


def _rank(held: Sequence[tuple[Block, int]], kv: CacheFormat, tp: int) -> LayerCells:
    by_window: dict[int, int] = {}
    state = 0
    for block, count in held:
        match block.mixer:
            case Attention(shares_kv=False) as attention:
                heads = ceil(attention.kv_heads / tp)
                width = heads * (attention.head_dim * kv.key_bits + attention.value_dim * kv.value_bits) / 8
                window = attention.window or 0
                by_window[window] = by_window.get(window, 0) + ceil(width) * count
            case LatentAttention() as latent:
                width = (latent.kv_rank + latent.rope_dim) * kv.key_bits / 8
                index = latent.index_dim * kv.key_bits / 8 if latent.index_heads else 0
                if latent.window:
                    by_window[latent.window] = by_window.get(latent.window, 0) + ceil(width) * count
                if not latent.window_only:
                    by_window[0] = by_window.get(0, 0) + ceil((width + index) / latent.ratio) * count
            case Recurrent() as recurrent:
                state += ceil((recurrent.state_values + recurrent.conv_values) * 4 / min(tp, recurrent.heads)) * count
            case _:
                pass
    return LayerCells(by_window=tuple(by_window.items()), state=state)


def cell_bytes(cells: LayerCells, slots: Slots) -> int:
    """Bytes of the attention cache."""
    return sum(size * (slots.window_cells(window) if window else slots.cells) for window, size in cells.by_window)
