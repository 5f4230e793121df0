"""How layers are shared out over pipeline stages; knows no memory and no engine."""

from collections.abc import Sequence


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each pipeline stage: as even as can be, what is left over on stages before the last.

    As vLLM's get_pp_indices does: the last stage has the output head, so it is spared first.
    """
    counts = [layers // stages] * stages
    for extra in range(layers % stages):
        counts[-2 - extra] += 1
    return tuple(counts)


def proportional_layers(layers: int, capacities: Sequence[int]) -> tuple[int, ...]:
    """Layers of each stage in proportion to what its rank can hold, by largest remainder, at least one each.

    As llama.cpp shares them out over devices of different size (llama-model.cpp, tensor_split). ValueError when there
    are fewer layers than stages, or a capacity that is not positive.
    """
    if layers < len(capacities) or min(capacities) <= 0:
        msg = f"{layers} layers cannot be shared by {len(capacities)} in proportion to {list(capacities)}"
        raise ValueError(msg)
    spare, whole = layers - len(capacities), sum(capacities)
    shares = [1 + spare * capacity // whole for capacity in capacities]
    by_remainder = sorted(range(len(capacities)), key=lambda index: (-(spare * capacities[index] % whole), index))
    for index in by_remainder[: layers - sum(shares)]:
        shares[index] += 1
    return tuple(shares)
