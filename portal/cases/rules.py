"""What is looked into: the life of a case, who may work on it and for how long, and which one comes first."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from portal.accounts.rules import tidy
from portal.audit.rules import Event
from portal.core.errors import Conflict, Invalid, Refused
from portal.core.machine import Machine

LEASE = timedelta(minutes=30)
NOTE_MAX = 5_000
CONTESTABLE = timedelta(days=184)  # the longest time in which somebody may still appeal
REACH_MAX = 100


class Origin(StrEnum):
    """Where a case comes from."""

    RULE = "rule"
    REPORT = "report"
    LEAK = "leak"
    APPEAL = "appeal"
    STAFF = "staff"


class Severity(IntEnum):
    """How bad it would be if it were true."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Confidence(IntEnum):
    """How sure whoever opened the case is."""

    DOUBTFUL = 1
    LIKELY = 2
    SURE = 3


DUE = {
    Severity.LOW: timedelta(days=7),
    Severity.MEDIUM: timedelta(days=3),
    Severity.HIGH: timedelta(days=1),
    Severity.CRITICAL: timedelta(hours=4),
}


class CaseState(StrEnum):
    """Where a case is in its life."""

    OPEN = "open"
    CLAIMED = "claimed"
    AWAITING_REPLY = "awaiting_reply"
    DECIDED = "decided"
    CLOSED = "closed"


class CaseAction(StrEnum):
    """What moves a case."""

    CLAIM = "claim"
    RELEASE = "release"
    ASK = "ask"
    DECIDE = "decide"
    SETTLE = "settle"
    CLOSE = "close"
    REOPEN = "reopen"


S, A = CaseState, CaseAction
CASE = Machine(
    "case",
    S.OPEN,
    {
        (S.OPEN, A.CLAIM): S.CLAIMED,
        (S.CLAIMED, A.CLAIM): S.CLAIMED,
        (S.AWAITING_REPLY, A.CLAIM): S.CLAIMED,
        (S.CLAIMED, A.RELEASE): S.OPEN,
        (S.AWAITING_REPLY, A.RELEASE): S.OPEN,
        (S.CLAIMED, A.ASK): S.AWAITING_REPLY,
        (S.CLAIMED, A.DECIDE): S.DECIDED,
        # What a case was about is settled elsewhere, by the operators or by a second person.
        (S.OPEN, A.SETTLE): S.DECIDED,
        (S.CLAIMED, A.SETTLE): S.DECIDED,
        (S.AWAITING_REPLY, A.SETTLE): S.DECIDED,
        (S.DECIDED, A.CLOSE): S.CLOSED,
        (S.DECIDED, A.REOPEN): S.OPEN,
        (S.CLOSED, A.REOPEN): S.OPEN,
    },
)
WAITING = (S.OPEN, S.CLAIMED, S.AWAITING_REPLY)


class LinkKind(StrEnum):
    """What a case is linked to; `SUBJECT` is one of several people that it is about."""

    CLAUSE = "clause"
    SUBJECT = "subject"
    HIT = "hit"
    REPORT = "report"
    DECISION = "decision"
    APPEAL = "appeal"
    CASE = "case"
    RECORD = "record"
    TEXT = "text"
    INVOLVED = "involved"


@dataclass(frozen=True)
class CaseOpened(Event, name="cases:case:opened"):
    """Something is looked into: about whom, and where it came from."""

    about: str
    origin: str
    severity: int


@dataclass(frozen=True)
class EvidenceTaken(Event, name="cases:evidence:taken"):
    """A snapshot of evidence was taken for a case; `sha256` names its exact bytes."""

    sha256: str


@dataclass(frozen=True)
class CaseMoved(Event, name="cases:case:moved"):
    """A case was claimed, given back, decided, closed or opened again."""

    action: str
    state: str


@dataclass(frozen=True)
class CaseNoted(Event, name="cases:note:added"):
    """A member of staff left an internal note on a case; `sha256` names its words."""

    sha256: str


@dataclass(frozen=True)
class HoldSet(Event, name="cases:hold:set"):
    """The evidence of a case must not be deleted."""

    because: str


@dataclass(frozen=True)
class HoldReleased(Event, name="cases:hold:released"):
    """The evidence of a case may be deleted in its time again."""

    because: str


def rank(severity: int, confidence: int, reach: int) -> int:
    """Return what a case weighs in the queue: severity times confidence times the people it is about (at most 100)."""
    return severity * confidence * min(max(reach, 1), REACH_MAX)


def clause_words(key: str) -> str:
    """Return the key of a clause as words: ``restriction.personal_data`` is personal data."""
    return key.partition(".")[2].replace("_", " ") or key


def due_at(severity: Severity, opened_at: datetime) -> datetime:
    """Return by when somebody should have decided a case."""
    return opened_at + DUE[severity]


@dataclass(frozen=True)
class Lease:
    """Who works on a case, and until when nobody else does."""

    holder_id: int | None
    until: datetime | None

    def held_at(self, now: datetime) -> bool:
        """Say whether somebody holds the case at an instant."""
        return self.holder_id is not None and self.until is not None and now < self.until


def check_claim(lease: Lease, *, by_user: int, now: datetime) -> None:
    """Raise `Conflict` while somebody else holds a case."""
    if lease.held_at(now) and lease.holder_id != by_user:
        raise Conflict("case_held", "A colleague works on this case. Look again when their time is over.")


def check_lease(lease: Lease, *, by_user: int, now: datetime) -> None:
    """Raise `Conflict` unless somebody holds a case at this instant."""
    if not lease.held_at(now) or lease.holder_id != by_user:
        raise Conflict("lease_lost", "You do not hold this case (any more). Claim it, look at it again, and go on.")


def check_uninvolved(*, by: str, involved: Collection[str], by_institution: str, institution: str) -> None:
    """Raise `Refused` where somebody would look into what they took part in, or into a person of their own institution.

    Args:
        by: public id of who would.
        involved: public ids of those who took part in what this is about, and of the person it is about.
        by_institution, institution: the affiliations of both, as they stand in their profiles.
    """
    if by in involved:
        raise Refused("not_uninvolved", "You took part in this, or it is about you, so somebody else looks into it.")
    if same_institution(by_institution, institution):
        raise Refused("own_institution", "This is about somebody of your own institution; somebody else looks into it.")


def same_institution(one: str, other: str) -> bool:
    """Say whether two affiliations name the same institution."""
    return bool(tidy(one)) and tidy(one).casefold() == tidy(other).casefold()


def check_note(words: str) -> str:
    """Return an internal note as it is kept, or raise `Invalid`."""
    kept = words.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not kept:
        raise Invalid("note_missing", "Write the note.", field="words")
    if len(kept) > NOTE_MAX:
        raise Invalid("note_long", f"A note has at most {NOTE_MAX:,} characters.", field="words")
    if not all(letter.isprintable() or letter in "\n\t" for letter in kept):
        raise Invalid("note_letters", "The note holds characters that cannot be kept.", field="words")
    return kept
