"""The door to counting requests: a window of a minute that slides, kept in the memory of this process."""

import time
from math import ceil

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

MINUTE = 60


class Rates:
    """Counts requests by kind and caller."""

    def __init__(self) -> None:
        self._window = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, kind: str, per_minute: int, who: str) -> int:
        """Count one more request, and return 0; or, where it is one too many, the seconds until the next is taken."""
        limit = RateLimitItemPerMinute(per_minute, namespace=kind)
        if self._window.hit(limit, who):
            return 0
        reset = self._window.get_window_stats(limit, who).reset_time
        return min(max(ceil(reset - time.time()), 1), MINUTE)
