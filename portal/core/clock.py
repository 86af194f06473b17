"""The only place that asks what time it is."""

import time
from datetime import UTC, datetime


def utcnow() -> datetime:
    """Return the present instant, aware, in UTC."""
    return datetime.now(UTC)


class _Written:
    """The second that was written out last."""

    second, text = -1, ""


def written_now() -> str:
    """Write the present instant as records have it: ISO 8601, UTC, microseconds."""
    now = time.time()
    second = int(now)
    if second != _Written.second:
        _Written.second, _Written.text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_Written.text}.{int((now - second) * 1_000_000):06d}+00:00"


def stamp(moment: datetime) -> str:
    """Write an instant the one way that is both hashed and printed: UTC, microseconds, ``Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
