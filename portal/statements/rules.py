"""Statements of reasons: the clauses as signed, what is told to the person, and the public form of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

from portal.core.errors import Invalid
from portal.core.ids import ALPHABET
from portal.sanctions.rules import SanctionKind, moment

APPEAL_WINDOW = timedelta(days=183)
APPEAL_ANSWER = timedelta(days=7)
FACTS_MAX = 5_000
GROUND_MAX = 500
EXPLANATION_MAX = 2_000


class Automation(StrEnum):
    """How much of a decision a program did."""

    NONE = "none"
    DETECTED = "detected"
    DECIDED = "decided"


class Source(StrEnum):
    """What led to a decision, in the words of the DSA Transparency Database."""

    REPORT = "SOURCE_ARTICLE_16"
    OWN = "SOURCE_VOLUNTARY"
    OTHER = "SOURCE_TYPE_OTHER_NOTIFICATION"


WHO = {
    Automation.NONE: "A person decided this. No part of the decision was automated.",
    Automation.DETECTED: "A detection rule pointed to this; a person looked at it and decided.",
    Automation.DECIDED: "A detection rule decided this by itself, and no person has looked at it yet. "
    "Unless a named\nperson confirms it, it ends by itself within 72 hours; you are told either way.",
}


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
    """A notice exactly as it will be sent, and what it rests on; `ref` is the public id of the decision to come."""

    ref: str
    text: str
    appeal_by: datetime
    signature_id: int
    version_id: int
    citations: tuple[Citation, ...]

    @property
    def sha256(self) -> str:
        """Digest of the exact words; whoever confirms posts it back."""
        return sha256(self.text.encode()).hexdigest()


def appeal_deadline(decided_at: datetime) -> datetime:
    """Return when the time to appeal is over: at the end of the UTC day on which the window closes."""
    last = (decided_at + APPEAL_WINDOW).astimezone(UTC)
    return last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def check_grounds(*, facts: str, clause_keys: Sequence[str]) -> None:
    """Raise `Invalid` unless a statement cites a clause and says what happened."""
    if not clause_keys:
        raise Invalid("clause_missing", "Cite at least one clause that the person signed.", field="clause")
    check_words(facts, field="facts", ask="Say what happened.", most=FACTS_MAX)


def check_words(text: str, *, field: str, ask: str, most: int) -> None:
    """Raise `Invalid`, naming the field, unless words are given, not too many, and such as can be kept."""
    if not text.strip():
        raise Invalid(f"{field}_missing", ask, field=field)
    if len(text) > most:
        raise Invalid(f"{field}_long", f"Keep this to {most:,} characters; it has {len(text):,}.", field=field)
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise Invalid(f"{field}_letters", "This holds characters that cannot be kept.", field=field)


def decision_ref(signature_ref: str, earlier: int) -> str:
    """Return the public id of the next decision about somebody bound by a signature, after so many others."""
    number = int.from_bytes(sha256(f"decision {signature_ref} {earlier}".encode()).digest(), "big")
    letters = []
    for _ in range(16):
        number, rest = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[rest])
    return "dec_" + "".join(letters)


def day(at: datetime) -> str:
    """Write a day in words, UTC."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%B %Y}"


def last_day(deadline: datetime) -> datetime:
    """Return an instant on the last day before a deadline at midnight."""
    return deadline - timedelta(seconds=1)


def compose_notice(
    *, ref: str, base_url: str, signed: str, citations: Sequence[Citation], facts: str, restricted: Sequence[str],
    automation: Automation, lapses_at: datetime | None, strike: int, appeal_by: datetime,
) -> str:  # fmt: skip
    """Write the notice of a decision: what is restricted, why, who decided, what still works, how to contest it.

    Args:
        restricted: one sentence for each sanction; none where the decision is a notice alone.
        lapses_at: when an interim decision ends unless somebody confirms it.
        strike: what it counts towards later decisions, or 0.
    """
    quoted = "\n\n".join(f"{c.label} {c.title}\n{_quote(c.body)}\nRead it in its text: {c.url}" for c in citations)
    address = f"{base_url}/appeal/{ref}"
    what = "\n\n".join(restricted) or "Nothing. This tells you of a clause that was broken, and what comes of it."
    interim = f"\nThis ends by itself on {moment(lapses_at)} unless a person confirms it." if lapses_at else ""
    counted = f"\n\nThis counts {strike} towards later decisions, for a year." if strike else ""
    return f"""A decision was taken about your account at {base_url}.

WHAT IS RESTRICTED
{what}

WHY
You signed {signed}. This decision rests on the following, in the words you signed:

{quoted}

WHAT HAPPENED
{plain(facts)}

WHO DECIDED
{WHO[automation]}{interim}{counted}

WHAT STILL WORKS
You can sign in, read and download your signatures and receipts, see your use, end your access tokens and appeal.
Your signature stays as it is. This decision is about the service here; it declares nothing about permissions that
the license gave you for copies you already hold.

HOW TO CONTEST THIS
Appeal at {address} until the end of {day(last_day(appeal_by))} (UTC), whatever is restricted.
Somebody who took no part in the decision answers within {APPEAL_ANSWER.days} days. An appeal costs nothing and
closes no other way of redress, courts included.
"""


def plain(words: str) -> str:
    """Return words as they are kept: line ends as every form and file writes them, nothing around."""
    return words.replace("\r\n", "\n").replace("\r", "\n").strip()


def _quote(words: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in words.splitlines())


K = SanctionKind
PROVISION = {
    K.THROTTLE: "DECISION_PROVISION_PARTIAL_SUSPENSION",
    K.RECONFIRM: "DECISION_PROVISION_PARTIAL_SUSPENSION",
    K.FREEZE_ACCESS_TOKEN: "DECISION_PROVISION_PARTIAL_SUSPENSION",
    K.LIMIT_ACTION: "DECISION_PROVISION_PARTIAL_SUSPENSION",
    K.SUSPEND_ENTITLEMENT: "DECISION_PROVISION_TOTAL_SUSPENSION",
    K.REVOKE_ENTITLEMENT: "DECISION_PROVISION_TOTAL_TERMINATION",
}
ACCOUNT = {K.SUSPEND: "DECISION_ACCOUNT_SUSPENDED", K.CLOSE: "DECISION_ACCOUNT_TERMINATED"}
AUTOMATED = {
    Automation.NONE: "AUTOMATED_DECISION_NOT_AUTOMATED",
    Automation.DETECTED: "AUTOMATED_DECISION_PARTIALLY",
    Automation.DECIDED: "AUTOMATED_DECISION_FULLY",
}


@dataclass(frozen=True)
class StatementFact:
    """What the public form of a statement is drawn from; nothing of it names a person."""

    ref: str
    decided_at: datetime
    kinds: tuple[SanctionKind, ...]
    until: datetime | None
    license_name: str
    citations: tuple[Citation, ...]
    automation: Automation
    source: Source


def public_form(s: StatementFact) -> dict[str, Any]:
    """Return a statement as the DSA Transparency Database takes it, without facts, since those may tell of a person.

    Source: Regulation (EU) 2022/2065, articles 17 and 24(5), and the database's own description of its fields.
    """
    provision = [PROVISION[kind] for kind in s.kinds if kind in PROVISION]
    account = [ACCOUNT[kind] for kind in s.kinds if kind in ACCOUNT]
    ground = f"{s.license_name}: {', '.join(f'{c.label} {c.title}' for c in s.citations)}"
    words = " ".join(c.body for c in s.citations)
    return {
        "puid": s.ref, "decision_visibility": [], "decision_provision": max(provision, default=None),
        "decision_account": min(account, key=len, default=None) if len(account) < 2 else ACCOUNT[K.CLOSE],  # noqa: PLR2004
        "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
        "incompatible_content_ground": ground[:GROUND_MAX], "incompatible_content_explanation": words[:EXPLANATION_MAX],
        "decision_facts": "Kept back, since it may tell of a person.",
        "category": "STATEMENT_CATEGORY_SCOPE_OF_PLATFORM_SERVICE", "content_type": ["CONTENT_TYPE_TEXT"],
        "territorial_scope": ["WORLDWIDE"], "content_date": s.decided_at.date().isoformat(),
        "application_date": s.decided_at.date().isoformat(),
        "end_date_account_restriction": s.until.date().isoformat() if s.until and account else None,
        "end_date_service_restriction": s.until.date().isoformat() if s.until and provision else None,
        "source_type": s.source.value, "automated_detection": "No" if s.automation is Automation.NONE else "Yes",
        "automated_decision": AUTOMATED[s.automation],
    }  # fmt: skip
