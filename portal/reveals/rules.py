"""Reading kept texts: within a case, for a reason, few at a time, and on record before anybody reads."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from portal.audit.rules import Event
from portal.core.errors import Conflict, Invalid, NotFound, Refused

REASON_MIN, REASON_MAX = 10, 1_000
ALONE_MAX = 50
A_DAY = 100
DAY = timedelta(hours=24)
OPEN_FOR = timedelta(minutes=15)


@dataclass(frozen=True)
class TextsRevealed(Event, name="contents:text:revealed"):
    """A member of staff asked to read kept texts within a case; `reason` is the digest of their words."""

    case: str
    texts: int
    reason: str


@dataclass(frozen=True)
class TextsSearched(Event, name="contents:text:searched"):
    """A member of staff looked for words in the kept texts of a case, and so many held them."""

    found: int


def check_reason(words: str) -> str:
    """Return why somebody reads texts, as it is kept, or raise `Invalid`."""
    kept = " ".join(words.split())
    if not REASON_MIN <= len(kept) <= REASON_MAX or not kept.isprintable():
        message = f"Say in {REASON_MIN} to {REASON_MAX:,} characters why you have to read these texts."
        raise Invalid("reason_missing", message, field="reason")
    return kept


def check_amount(asked: int, *, in_case: int, in_all: int) -> None:
    """Raise unless one person may read so many texts now.

    Args:
        asked: how many texts.
        in_case, in_all: how many they were shown within a day, in this case and altogether.

    Raises:
        Invalid: none was chosen.
        Refused: reading more of a case takes two people, which cannot be done here, or the day is used up.
    """
    if asked == 0:
        raise Invalid("texts_missing", "Choose the texts that you have to read.", field="text")
    if in_case + asked > ALONE_MAX:
        message = f"One person reads at most {ALONE_MAX} texts of a case within a day. Choose those that matter."
        raise Refused("two_people_needed", message)
    if in_all + asked > A_DAY:
        raise Refused("day_used_up", f"One person reads at most {A_DAY} texts within a day, whatever the cases.")


def check_open(*, reader_id: int, by_user: int, at: datetime, now: datetime) -> None:
    """Raise unless somebody may still look at what they asked to read."""
    if reader_id != by_user:
        raise NotFound("reveal_not_found", "There is no such page for you.")
    if now >= at + OPEN_FOR:
        raise Conflict("reveal_over", "This page was open for 15 minutes. Ask again in the case, with a reason.")
