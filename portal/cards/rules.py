"""When a published card is looked at again, and what happened to it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from portal.audit.rules import Event
from portal.core.errors import Invalid

REVIEW_EVERY = timedelta(days=365)
REVIEW_LATEST = timedelta(days=3 * 365)
NOTE_MAX = 500


@dataclass(frozen=True)
class CardReviewed(Event, name="model:card:reviewed"):
    """Somebody looked at a published card again and found that it still holds."""

    number: int


def due_at(published_at: datetime, next_at: datetime | None) -> datetime:
    """Return when a card is to be looked at again: when the last review said, or a year after it was published."""
    return next_at or published_at + REVIEW_EVERY


def check_next(next_at: datetime, now: datetime) -> datetime:
    """Return when a card is looked at next, or raise `Invalid`."""
    if not now < next_at <= now + REVIEW_LATEST:
        message = f"Name a day within the next {REVIEW_LATEST.days // 365} years."
        raise Invalid("review_next", message, field="next_at")
    return next_at


def check_note(note: str) -> str:
    """Return what a review found, as it is kept, or raise `Invalid`."""
    kept = " ".join(note.split())
    if not kept or len(kept) > NOTE_MAX or not kept.isprintable():
        raise Invalid("review_note", f"Say what you looked at, in 1 to {NOTE_MAX} characters.", field="note")
    return kept
