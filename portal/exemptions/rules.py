"""Declared research: what rules would hold against somebody and do not, within which bounds, and for how long."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.audit.rules import Event
from portal.core.errors import Invalid, Refused

LONGEST = timedelta(days=366)
WORDS_MAX = 2_000


class Purpose(StrEnum):
    """What research is declared for."""

    DETECTION_RESEARCH = "detection_research"
    SAFETY_EVALUATION = "safety_evaluation"
    LANGUAGE_RESEARCH = "language_research"
    DOMAIN_RESEARCH = "domain_research"
    TEACHING = "teaching"


PURPOSE_WORDS = {
    Purpose.DETECTION_RESEARCH: "Research on recognizing misuse, such as machine-written disinformation",
    Purpose.SAFETY_EVALUATION: "Evaluating what the model does when it is asked for something harmful",
    Purpose.LANGUAGE_RESEARCH: "Linguistics and language technology",
    Purpose.DOMAIN_RESEARCH: "Research in a field such as medicine or law, with no advice to anybody",
    Purpose.TEACHING: "Teaching",
}


@dataclass(frozen=True)
class ExemptionGranted(Event, name="detection:exemption:granted"):
    """Declared research of a person was exempted, for one model or all, from rules that cite only these clauses."""

    user: str
    purpose: str
    model: str
    clauses: str
    until: str


@dataclass(frozen=True)
class ExemptionEnded(Event, name="detection:exemption:ended"):
    """An exemption ended before its time."""

    user: str


@dataclass(frozen=True)
class ExemptFact:
    """An exemption as far as hits depend on it.

    Args:
        model_id: the one model that it is for; None for every model.
        license: the license whose clauses it names.
        clauses: keys of the clauses that it covers.
        until: when it ends, or ended before its time.
    """

    id: int
    user_id: int
    purpose: Purpose
    model_id: int | None
    license: str
    clauses: frozenset[str]
    since: datetime
    until: datetime

    def covers(self, *, model_id: int | None, license_slug: str, clauses: frozenset[str], at: datetime) -> bool:
        """Say whether a hit on a use of a model lies within it: every clause that the rule cites must be covered."""
        named = self.license == license_slug and self.model_id in {None, model_id} and clauses <= self.clauses
        return named and self.since <= at < self.until


def check_grant(
    *, since: datetime, until: datetime, safeguards: str, own: bool, now: datetime
) -> str:  # fmt: skip
    """Return the safeguards as they are kept, or raise unless an exemption may be granted so.

    Args:
        own: who grants it would be exempt themselves.
    """
    if own:
        raise Refused("own_exemption", "Somebody else decides about research of your own.")
    if until <= since or until <= now:
        raise Invalid("until_past", "It ends after it begins, and in the future.", field="until")
    if until - since > LONGEST:
        raise Invalid("until_late", f"It lasts at most {LONGEST.days} days; it can be granted again.", field="until")
    return check_words(safeguards, field="safeguards", ask="Say what keeps the research from doing harm.")


def check_words(words: str, *, field: str, ask: str) -> str:
    """Return words that staff write as they are kept, or raise `Invalid`."""
    kept = words.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not kept:
        raise Invalid(f"{field}_missing", ask, field=field)
    if len(kept) > WORDS_MAX:
        raise Invalid(f"{field}_long", f"Keep this to {WORDS_MAX:,} characters; it has {len(kept):,}.", field=field)
    if not all(letter.isprintable() or letter in "\n\t" for letter in kept):
        raise Invalid(f"{field}_letters", "That holds characters that cannot be kept.", field=field)
    return kept


def compose_granted(*, purpose: Purpose, clauses: str, model: str, until: str, page: str) -> str:
    """Write the mail that tells somebody what their research is exempt from."""
    return (
        f"Your declared research ({PURPOSE_WORDS[purpose].lower()}) is exempt until {until}.\n\n"
        f"Use of {model or 'any model'} that rules would hold against you under {clauses} is recorded and nothing "
        f"more. Use for anything else, of another model or after that day counts as everybody's does.\n\n{page}\n"
    )


def compose_ended(*, purpose: Purpose, reason: str) -> str:
    """Write the mail that tells somebody that their exemption ended early."""
    return (
        f"The exemption of your declared research ({PURPOSE_WORDS[purpose].lower()}) ended today, before its time. "
        f"The reason given:\n\n{reason}\n\nFrom now on your use counts as everybody's does.\n"
    )
