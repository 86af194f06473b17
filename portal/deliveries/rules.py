"""When the ranges that a person received make a whole copy."""

from collections.abc import Iterable


def covers_file(spans: Iterable[tuple[int, int]], size: int) -> bool:
    """Say whether byte spans [start, end) together hold a file of `size` bytes."""
    reached = 0
    for start, end in sorted(spans):
        if start > reached:
            break
        reached = max(reached, end)
    return reached >= size
