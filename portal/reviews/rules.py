"""A second look at what two people put in force at once: by when, by whom, and what it may find."""

from collections.abc import Collection
from datetime import datetime, timedelta

from portal.core.errors import Conflict, Invalid, Refused
from portal.licensing.rules import COMMENT_MAX, ReviewFinding

REVIEW_TIME = timedelta(days=7)
FINDING_WORDS = {
    ReviewFinding.STANDS: "It stands as it is",
    ReviewFinding.REPLACE: "It has to be replaced: a corrected version follows",
}


def check_reviewer(reviewer: str, involved: Collection[str]) -> None:
    """Raise unless somebody looks who neither wrote, approved nor put the version in force."""
    if reviewer in involved:
        message = "You wrote, approved or put this version in force, so somebody else has to look at it."
        raise Refused("reviewer_involved", message)


def check_open(reviewed_at: datetime | None) -> None:
    """Raise unless nobody looked yet: what was found once is never found differently."""
    if reviewed_at is not None:
        raise Conflict("reviewed_already", "Somebody looked at this version already, and what they found stays.")


def check_words(words: str) -> str:
    """Return what a second look found, in words, as it is kept."""
    kept = words.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not kept:
        raise Invalid("review_unsaid", "Say what you looked at and what you found.", field="words")
    if len(kept) > COMMENT_MAX:
        raise Invalid("review_long", f"That is longer than {COMMENT_MAX:,} characters.", field="words")
    if not all(letter.isprintable() or letter in "\n\t" for letter in kept):
        raise Invalid("review_letters", "That holds characters that cannot be kept.", field="words")
    return kept


def compose_asked(*, title: str, number: str, reason: str, due: str, page: str) -> str:
    """Write the mail that asks staff for a second look."""
    return (
        f"Version {number} of the {title} came into force at once, with no notice before. Two people decided that, and "
        f"gave this reason:\n\n{reason}\n\nSomebody who had no hand in it has to look at it by {due}:\n{page}\n"
    )


def compose_overdue(*, title: str, number: str, due: str, page: str) -> str:
    """Write the mail that tells staff that nobody looked in time."""
    return (
        f"Version {number} of the {title} was put in force at once, and somebody who had no hand in it had to look at "
        f"it by {due}. Nobody did. Its page says so to everybody until somebody looks:\n{page}\n"
    )
