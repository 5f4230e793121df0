"""The largest number for which something holds; knows not what."""

from collections.abc import Callable


def largest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest number in low..high for which a property holds that, once lost, stays lost; None when none does."""
    if high < low or not holds(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
