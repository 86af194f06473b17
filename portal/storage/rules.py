"""What stored bytes are called, how fast they are looked through, and from when on nobody misses them."""

from datetime import timedelta
from enum import StrEnum

GRACE = timedelta(hours=48)  # how long bytes that no commit names stay: an upload may be about to name them
RESERVE = 256 << 20  # stays free for the database, the journal and the log


class Flaw(StrEnum):
    """What can be wrong with stored bytes."""

    MISSING = "missing"
    LENGTH = "wrong length"
    CORRUPT = "corrupt"
    UNREADABLE = "unreadable"


def git_oid_start(size: int) -> bytes:
    """Return what git hashes before a blob's content of `size` bytes."""
    return b"blob %d\0" % size


def pause(done: int, seconds: float, rate: float) -> float:
    """Return how many seconds to wait after `done` bytes in `seconds`, so that no more than `rate` a second are read.

    Args:
        rate: bytes a second; 0 for as fast as it goes.
    """
    return max(done / rate - seconds, 0.0) if rate else 0.0
