"""Contesting a decision: the life of an appeal, its questions and answers, and what is told along the way."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from portal.audit.rules import Event
from portal.core.errors import Conflict
from portal.core.machine import Machine
from portal.statements.rules import check_words, day, last_day, plain

APPEAL_MAX = 2_000
REASONS_MAX = 5_000


class AppealState(StrEnum):
    """Where an appeal is."""

    FILED = "filed"
    QUESTION_OPEN = "question_open"
    DECIDED = "decided"


class AppealAction(StrEnum):
    """What moves an appeal."""

    ASK = "ask"
    REPLY = "reply"
    DECIDE = "decide"


class AppealOutcome(StrEnum):
    """How an appeal ended."""

    UPHELD = "upheld"
    VARIED = "varied"
    OVERTURNED = "overturned"


S, A = AppealState, AppealAction
APPEAL = Machine(
    "appeal",
    S.FILED,
    {
        (S.FILED, A.ASK): S.QUESTION_OPEN,
        (S.QUESTION_OPEN, A.REPLY): S.FILED,
        (S.FILED, A.DECIDE): S.DECIDED,
        (S.QUESTION_OPEN, A.DECIDE): S.DECIDED,
    },
)
WAITING = (S.FILED, S.QUESTION_OPEN)


@dataclass(frozen=True)
class AppealMessaged(Event, name="moderation:appeal:messaged"):
    """A question was asked about an appeal, or answered; `sha256` names the words."""

    sha256: str


def check_appeal(text: str, *, stands: bool, appeal_by: datetime, now: datetime) -> None:
    """Raise unless an appeal may be filed so: words, a case decision that stands, and time left."""
    if not stands:
        raise Conflict("decision_overturned", "This decision no longer stands; there is nothing to contest.")
    if now >= appeal_by:
        raise Conflict("appeal_late", f"The time to appeal ended on {day(last_day(appeal_by))}.")
    check_words(text, field="text", ask="Say why the decision is wrong.", most=APPEAL_MAX)


def check_reason(reason: str, *, field: str = "reason") -> None:
    """Raise `Invalid` unless a reversal or an answer says why."""
    check_words(reason, field=field, ask="Give the reason; the person reads it.", most=REASONS_MAX)


def compose_received(*, ref: str, base_url: str, due_at: datetime) -> str:
    """Write the acknowledgment of an appeal."""
    return f"""Your appeal was received.

Somebody who took no part in the decision answers it by {day(due_at)}.
Follow it here: {base_url}/appeal/{ref}
"""


def compose_question(*, ref: str, base_url: str, words: str) -> str:
    """Write the message that asks the person something about their appeal."""
    return f"""There is a question about your appeal.

{plain(words)}

Answer it here: {base_url}/appeal/{ref}
"""


def compose_answer(*, ref: str, base_url: str, outcome: AppealOutcome, reasons: str) -> str:
    """Write the answer to an appeal after which the decision stands, as it was or made milder."""
    result = "The decision stands." if outcome is AppealOutcome.UPHELD else "The decision is made milder."
    return f"""Your appeal was examined by somebody who took no part in the decision. {result}

WHY
{plain(reasons)}

The decision and this answer: {base_url}/appeal/{ref}
Other ways of redress, courts included, stay open to you.
"""
