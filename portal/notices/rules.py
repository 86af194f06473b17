"""How far a notice got: rungs of a ladder, of which the highest counts."""

from datetime import UTC, datetime
from enum import StrEnum

MAX_TRIES = 8
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
LEASE_SECONDS = 15 * 60  # longer than a batch can take, every send running into its time-out


class Rung(StrEnum):
    """How far a notice got on its way to a person."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SHOWN = "shown"
    VIEWED = "viewed"


ORDER = {rung: number for number, rung in enumerate(Rung)}
REACHED = frozenset({Rung.DELIVERED, Rung.SHOWN, Rung.VIEWED})
TRIED = frozenset({Rung.SENT, Rung.DELIVERED, Rung.BOUNCED})


def highest(rungs: list[Rung]) -> Rung:
    """Return the highest rung climbed."""
    return max(rungs, key=ORDER.__getitem__)


def retry_seconds(tries: int) -> int:
    """Seconds to wait after that many failed attempts to send: 5, 10, 20 … at most an hour."""
    return int(min(5 * 2 ** max(tries - 1, 0), 3600))


def moment(at: datetime) -> str:
    """Write an instant as a message says it: a day alone would leave open which hour of it is meant, and where."""
    there = at.astimezone(UTC)
    return f"{there.day} {MONTHS[there.month - 1]} {there.year}, {there:%H:%M} UTC"
