"""Reports from outside: what one has to say, whose word weighs how much, and what its reporter is told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256

from portal.accounts.rules import check_email, storable
from portal.audit.rules import Event
from portal.cases.rules import Severity
from portal.core.errors import Invalid, TooMany
from portal.core.machine import Machine

WORDS_MIN, WORDS_MAX = 20, 5_000
LOCATOR_MAX = 1_000
NAME_MAX = 200
LINK_LIFE = timedelta(hours=24)
WINDOW = timedelta(hours=1)
PER_NETWORK = 30
MAILS_PER_ADDRESS = 5
NEUTRAL = 50
LEAST_HEARD, TRUSTED = 30, 70
USE = re.compile(r"(?<![0-9A-Za-z])req_[23456789abcdefghjkmnpqrstuvwxyz]{16}(?![0-9A-Za-z])")


class ReportState(StrEnum):
    """Where a report is in its life."""

    UNCONFIRMED = "unconfirmed"
    ATTACHED = "attached"
    ANSWERED = "answered"


class ReportAction(StrEnum):
    """What moves a report."""

    ATTACH = "attach"
    ANSWER = "answer"


REPORT = Machine(
    "report",
    ReportState.UNCONFIRMED,
    {
        (ReportState.UNCONFIRMED, ReportAction.ATTACH): ReportState.ATTACHED,
        (ReportState.ATTACHED, ReportAction.ANSWER): ReportState.ANSWERED,
    },
)


class ReportOutcome(StrEnum):
    """What came of a report."""

    BREACH = "breach"
    NO_BREACH = "no_breach"
    OPEN = "open"


@dataclass(frozen=True)
class ReportFiled(Event, name="reports:report:filed"):
    """Somebody reported a use that breaks the license; `about` is what of it the portal knows."""

    about: str
    clause: str


@dataclass(frozen=True)
class ReportAttached(Event, name="reports:report:attached"):
    """A report became part of a case."""

    case: str


@dataclass(frozen=True)
class ReportAnswered(Event, name="reports:report:answered"):
    """Whoever made a report was told what came of it."""

    outcome: str


@dataclass(frozen=True)
class Told:
    """What somebody says in a report, checked: the fields of article 16 of the Digital Services Act of the EU.

    Args:
        locator: where it was seen.
        explanation: why it breaks the license.
        clause: key of the use restriction that it breaks, or nothing if the reporter cannot tell.
        name, email: who reports it, and where to answer.
    """

    locator: str
    explanation: str
    clause: str
    name: str
    email: str


def check_told(
    *, locator: str, explanation: str, clause: str, name: str, email: str, good_faith: bool, clauses: Sequence[str]
) -> Told:
    """Return a report as it is kept, or raise `Invalid` with the first field that is wrong.

    Args:
        good_faith: the reporter states that they believe what they say to be accurate and complete.
        clauses: the use restrictions that can be named.
    """
    where, why = _words(locator, "locator", LOCATOR_MAX), _words(explanation, "explanation", WORDS_MAX)
    if not where:
        raise Invalid("locator_missing", "Say where you saw it: a link, or a request id.", field="locator")
    if len(why) < WORDS_MIN:
        message = f"Say in {WORDS_MIN} characters or more what happened and why it breaks the license."
        raise Invalid("explanation_short", message, field="explanation")
    if clause and clause not in clauses:
        raise Invalid("clause_unknown", "Choose a restriction of the list, or that you cannot tell.", field="clause")
    if not good_faith:
        message = "Confirm that you believe in good faith that what you say is accurate and complete."
        raise Invalid("good_faith_missing", message, field="good_faith")
    return Told(where, why, clause, _words(name, "name", NAME_MAX), check_email(email))


def _words(text: str, field: str, most: int) -> str:
    kept = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(kept) > most:
        raise Invalid(f"{field}_long", f"Keep this to {most:,} characters; it has {len(kept):,}.", field=field)
    if not storable(kept):
        raise Invalid(f"{field}_letters", "This holds characters that cannot be kept.", field=field)
    return kept


def check_pace(earlier: int) -> None:
    """Raise `TooMany` when a network has reported too often within the hour."""
    if earlier >= PER_NETWORK:
        message = f"There were {PER_NETWORK} reports from this network within an hour. Try again later."
        raise TooMany("reports_too_many", message, retry_after=int(WINDOW.total_seconds()))


def elsewhere(locator: str) -> str:
    """Name a place outside that the portal knows nothing of, the same for all who write it alike."""
    plain = re.sub(r"^https?://(www\.)?", "", "".join(locator.split()).casefold()).rstrip("/")
    return f"loc_{sha256(plain.encode()).hexdigest()[:32]}"


def dedupe_key(subject_ref: str, clause: str) -> str:
    """Return what makes reports one case: the same target and the same clause."""
    return f"report:{subject_ref}:{clause or '-'}"


def weight(*, borne_out: int, unfounded: int, proved: bool) -> int:
    """Return from 0 to 100 how far somebody's reports were borne out so far; who is new stands in the middle.

    Whoever did not prove to be who they say never stands above the middle, since anybody may write any address.
    """
    share = round(100 * (borne_out + 1) / (borne_out + unfounded + 2))
    return share if proved else min(share, NEUTRAL)


def severity(weight: int) -> Severity:
    """Return how severe a case is that rests on reports: what its most reliable reporter makes it.

    How many reports there are does not enter, so no crowd raises it.
    """
    if weight >= TRUSTED:
        return Severity.HIGH
    return Severity.LOW if weight < LEAST_HEARD else Severity.MEDIUM


_CLOSING = "This mail was sent by the BLOOM Portal at {base_url} . Nobody reads answers to it.\n"


def _mail(*parts: str, base_url: str) -> str:
    return "\n\n".join(["Hello,", *parts, _CLOSING.format(base_url=base_url)])


def compose_confirm(*, base_url: str, secret: str) -> str:
    """Write the mail that asks whoever made a report whether it was they; it repeats nothing of what they wrote."""
    return _mail(
        "somebody, probably you, wrote a report of misuse and gave this address. Please confirm that it was you:",
        f"{base_url}/report/confirm/{secret}",
        "The link works for 24 hours. If it was not you, ignore this mail, and the report is deleted.",
        base_url=base_url,
    )  # fmt: skip


def compose_received(*, base_url: str, ref: str) -> str:
    """Write the mail that confirms that a report was received."""
    return _mail(
        f"your report {ref} was received. A person will look into it, and you will be told here what came of it.",
        "No part of the decision is automated.", base_url=base_url,
    )  # fmt: skip


def compose_answer(*, base_url: str, ref: str, outcome: ReportOutcome) -> str:
    """Write the mail that tells whoever made a report what came of it, without saying about whom."""
    said = {
        ReportOutcome.BREACH: "a person looked into it and found that the license was broken. Measures were taken.",
        ReportOutcome.NO_BREACH: "a person looked into it and found no breach of the license.",
        ReportOutcome.OPEN: "a person looked into it and could not establish whether the license was broken.",
    }[outcome]
    return _mail(
        f"about your report {ref}: {said}",
        "What exactly was decided, and about whom, is told to the person concerned alone. If you know more, report it "
        f"anew at {base_url}/report ; new evidence opens a case again.", base_url=base_url,
    )  # fmt: skip
