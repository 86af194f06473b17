"""Which requests fetch one copy, and when the ranges that they brought make it whole."""

from collections.abc import Iterable
from datetime import timedelta

JOINED_FOR = timedelta(days=7)  # so long may a copy take that is fetched in several requests


def covers_file(spans: Iterable[tuple[int, int]], size: int) -> bool:
    """Say whether byte spans [start, end) together hold a file of `size` bytes."""
    reached = 0
    for start, end in sorted(spans):
        if start > reached:
            break
        reached = max(reached, end)
    return reached >= size
