"""The file with a line for each request, bounded; knows no request."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from corral.errors import CorralError
from corral.units import MIB

_LARGEST: Final = 16 * MIB
_EARLIER: Final = 4  # full files that are kept


@contextmanager
def access_file(folder: Path) -> Generator[None]:
    """Write what the gateway logs of requests into `access.log` of the folder, while the block lasts."""
    path = folder / "access.log"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=_LARGEST, backupCount=_EARLIER, encoding="utf-8")
    except OSError as error:
        raise CorralError(f"{path} cannot be written: {error.strerror}.", "Mend the permissions there.") from error
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("corral.gateway.access")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        handler.close()
