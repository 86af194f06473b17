"""Sanctions in force and their effects, who may order and review, and how every notice reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from portal.core.errors import Conflict, Invalid, Refused
from portal.core.ids import ALPHABET
from portal.core.machine import Machine

APPEAL_WINDOW = timedelta(days=183)
APPEAL_ANSWER = timedelta(days=7)
FACTS_MAX = 5_000
APPEAL_MAX = 2_000
REASONS_MAX = 5_000


class SanctionKind(StrEnum):
    """What a sanction does."""

    SUSPEND = "suspend"


class DecisionState(StrEnum):
    """Whether a case decision stands."""

    IN_FORCE = "in_force"
    OVERTURNED = "overturned"


class DecisionAction(StrEnum):
    """What moves a case decision."""

    OVERTURN = "overturn"


DECISION = Machine(
    "case decision",
    DecisionState.IN_FORCE,
    {(DecisionState.IN_FORCE, DecisionAction.OVERTURN): DecisionState.OVERTURNED},
)


class AppealState(StrEnum):
    """Where an appeal is."""

    FILED = "filed"
    DECIDED = "decided"


class AppealAction(StrEnum):
    """What moves an appeal."""

    DECIDE = "decide"


class AppealOutcome(StrEnum):
    """How an appeal ended."""

    UPHELD = "upheld"
    OVERTURNED = "overturned"


APPEAL = Machine("appeal", AppealState.FILED, {(AppealState.FILED, AppealAction.DECIDE): AppealState.DECIDED})


@dataclass(frozen=True)
class SanctionFact:
    """What the effects depend on."""

    public_id: str
    kind: SanctionKind
    starts_at: datetime
    until: datetime
    overturned: bool


@dataclass(frozen=True)
class Effects:
    """What the sanctions in force amount to: suspended until when and by which, or not."""

    suspended_until: datetime | None = None
    sanction_ref: str | None = None


def effects(sanctions: Sequence[SanctionFact], now: datetime) -> Effects:
    """Compute the effects of the sanctions in force; reversal recomputes them, no inverse is stored."""
    live = [s for s in sanctions if not s.overturned and s.starts_at <= now < s.until]
    longest = max(live, key=lambda s: (s.until, s.public_id), default=None)
    if longest is None:
        return Effects()
    return Effects(longest.until, longest.public_id)


def appeal_deadline(decided_at: datetime) -> datetime:
    """Return when the time to appeal is over: at the end of the UTC day on which the window closes."""
    last_day = (decided_at + APPEAL_WINDOW).astimezone(UTC)
    return last_day.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def check_order(*, facts: str, clause_keys: Sequence[str], until: datetime, now: datetime) -> None:
    """Raise `Invalid` unless a sanction cites a clause, says what happened, and ends."""
    if not clause_keys:
        raise Invalid("clause_missing", "Cite at least one clause that the person signed.", field="clause")
    _check_words(facts, field="facts", ask="Say what happened.", most=FACTS_MAX)
    if until <= now:
        raise Invalid("until_past", "The end of a suspension lies in the future.", field="until")


def check_reason(reason: str, *, field: str = "reason") -> None:
    """Raise `Invalid` unless a reversal or an answer says why."""
    _check_words(reason, field=field, ask="Give the reason; the person reads it.", most=REASONS_MAX)


def check_appeal(text: str, *, state: DecisionState, appeal_by: datetime, now: datetime) -> None:
    """Raise unless an appeal may be filed so: words, a case decision that stands, and time left."""
    if state is not DecisionState.IN_FORCE:
        raise Conflict("decision_overturned", "This decision no longer stands; there is nothing to contest.")
    if now >= appeal_by:
        raise Conflict("appeal_late", f"The time to appeal ended on {day(last_day(appeal_by))}.")
    _check_words(text, field="text", ask="Say why the decision is wrong.", most=APPEAL_MAX)


def _check_words(text: str, *, field: str, ask: str, most: int) -> None:
    if not text.strip():
        raise Invalid(f"{field}_missing", ask, field=field)
    if len(text) > most:
        raise Invalid(f"{field}_long", f"Keep this to {most:,} characters; it has {len(text):,}.", field=field)


def check_may_order(*, by_user: int | None, user_id: int, concerns_staff: bool, manages_staff: bool) -> None:
    """Raise `Refused` when somebody would decide about themselves, or about staff without the power to.

    Args:
        by_user: who decides; None for the operators, who act over the command line.
        user_id: the person concerned.
        concerns_staff: the person concerned holds a staff role.
        manages_staff: who decides may manage staff.
    """
    if by_user is None:
        return
    if by_user == user_id:
        raise Refused("own_case", "Somebody else decides about your own account.")
    if concerns_staff and not manages_staff:
        raise Refused("staff_case", "This person is staff; an admin decides about their account.")


def check_reviewer(*, reviewer: str, decided_by: str, concerned: str = "") -> None:
    """Raise `Refused` when an appeal would be answered by whoever took the decision, or by the person concerned."""
    if reviewer in {decided_by, concerned}:
        raise Refused("not_uninvolved", "Somebody who took no part in the decision answers the appeal.")


@dataclass(frozen=True)
class Citation:
    """A clause as it stands in the text that the person signed.

    Args:
        key: its stable key.
        label, title: its printed number and heading.
        body: its exact words.
        url: where it can be read in its text.
    """

    clause_id: int
    key: str
    label: str
    title: str
    body: str
    url: str


@dataclass(frozen=True)
class NoticePreview:
    """A notice of suspension exactly as it will be sent, and what it rests on."""

    ref: str
    text: str
    until: datetime
    appeal_by: datetime
    signature_id: int
    version_id: int
    citations: tuple[Citation, ...]

    @property
    def sha256(self) -> str:
        """Digest of the exact words; whoever confirms posts it back."""
        return sha256(self.text.encode()).hexdigest()


def sanction_ref(signature_ref: str, earlier: int) -> str:
    """Return the public id of the next sanction of somebody bound by a signature, after so many case decisions."""
    number = int.from_bytes(sha256(f"sanction {signature_ref} {earlier}".encode()).digest(), "big")
    letters = []
    for _ in range(16):
        number, rest = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[rest])
    return "san_" + "".join(letters)


def day(moment: datetime) -> str:
    """Write a day in words, UTC."""
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y}"


def last_day(deadline: datetime) -> datetime:
    """Return an instant on the last day before a deadline at midnight."""
    return deadline - timedelta(seconds=1)


def compose_notice(
    *, ref: str, base_url: str, signed: str, citations: Sequence[Citation], facts: str, until: datetime,
    appeal_by: datetime,
) -> str:  # fmt: skip
    """Write the notice of a suspension: what is restricted, why, who decided, what still works, how to appeal."""
    quoted = "\n\n".join(f"{c.label} {c.title}\n{_quote(c.body)}\nRead it in its text: {c.url}" for c in citations)
    address = f"{base_url}/appeal/{ref}"
    end = f"{day(until)}, {until.astimezone(UTC):%H:%M} UTC"
    return f"""Your account at {base_url} is suspended until {end}.

WHAT IS RESTRICTED
Until then you cannot use models here, download files, ask for access or make access tokens; your access tokens
are refused. Running answers and downloads are cut. The suspension ends by itself at the time above.

WHY
You signed {signed}. This decision rests on the following, in the words you signed:

{quoted}

WHAT HAPPENED
{plain(facts)}

WHO DECIDED
A person decided this. No part of the decision was automated.

WHAT STILL WORKS
You can sign in, read and download your signatures and receipts, see your use, end your access tokens and appeal.
Your signature stays as it is. This decision is about the service here; it declares nothing about permissions that
the license gave you for copies you already hold.

HOW TO CONTEST THIS
Appeal at {address} until the end of {day(last_day(appeal_by))} (UTC), also while suspended.
Somebody who took no part in the decision answers within {APPEAL_ANSWER.days} days. An appeal costs nothing and
closes no other way of redress, courts included.
"""


def plain(words: str) -> str:
    """Return words as they are kept: line ends as every form and file writes them, nothing around."""
    return words.replace("\r\n", "\n").replace("\r", "\n").strip()


def _quote(words: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in words.splitlines())


def compose_correction(*, ref: str, base_url: str, reason: str, suspended_until: datetime | None) -> str:
    """Write the correction of an earlier notice, once its decision was overturned."""
    if suspended_until is None:
        left = "Your account is active again; signatures and access tokens work as before."
    else:
        left = f"Another decision still stands: your account stays suspended until {day(suspended_until)}."
    return f"""The decision told to you under {base_url}/appeal/{ref} is overturned and counts no more.

WHY
{plain(reason)}

WHERE THIS LEAVES YOU
{left}
This corrects our earlier notice.
"""


def compose_appeal_received(*, ref: str, base_url: str, due_at: datetime) -> str:
    """Write the acknowledgment of an appeal."""
    return f"""Your appeal was received.

Somebody who took no part in the decision answers it by {day(due_at)}.
Follow it here: {base_url}/appeal/{ref}
"""


def compose_appeal_upheld(*, ref: str, base_url: str, reasons: str) -> str:
    """Write the answer to an appeal that did not succeed."""
    return f"""Your appeal was examined by somebody who took no part in the decision. The decision stands.

WHY
{plain(reasons)}

The decision and this answer: {base_url}/appeal/{ref}
Other ways of redress, courts included, stay open to you.
"""
