"""The garbage collector, set for a process that answers requests for weeks; for a process's main function only."""

import gc
from typing import Final

_YOUNG: Final = 5_000  # objects made since the last look, before the next; Python's own 700 is one or two requests


def calm() -> None:
    """Leave what was imported out of all further looks, and look less often.

    A request that is answered leaves nothing to the collector, one that failed some tracebacks. Looking for them after
    every other request costs an eighth of the CPU time of a busy gateway (`make bench-gateway`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 5, 5)  # what is left is little, once the imports are out of it
