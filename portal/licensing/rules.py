"""Texts in force, what may be signed, and whether an old signature still suffices."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.clauses.rules import ClauseKind, Relation
from portal.core.errors import Invalid
from portal.core.machine import Machine

NOTICE_MINIMUM = timedelta(days=14)
SUMMARY_MAX = 4_000
COMMENT_MAX = 4_000
BODY_MAX = 200
VOTES_MAX = 1_000_000
NUMBER = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}")


LANGUAGES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "pt": "Portuguese", "ru": "Russian", "vi": "Vietnamese",
    "zh": "Chinese",
}  # fmt: skip


def language_name(code: str) -> str:
    """Return the English name of a language, or its code where the portal has no name for it."""
    return LANGUAGES.get(code, code)


class LicenseKind(StrEnum):
    """What sort of text it is."""

    LICENSE = "license"
    USE_POLICY = "use_policy"
    SERVICE_TERMS = "service_terms"
    PRIVACY_NOTICE = "privacy_notice"
    CONDUCT = "conduct"


class Materiality(StrEnum):
    """How much a version changes for those who signed its predecessor, lightest first."""

    EDITORIAL = "editorial"
    CLARIFYING = "clarifying"
    MATERIAL = "material"
    MATERIAL_IMMEDIATE = "material_immediate"


WEIGHT = {materiality: weight for weight, materiality in enumerate(Materiality)}


class VersionState(StrEnum):
    """Where a license version is in its life."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    IN_FORCE = "in_force"
    SUPERSEDED = "superseded"
    RETIRED = "retired"


class VersionAction(StrEnum):
    """What moves a license version."""

    SUBMIT = "submit"
    REQUEST_CHANGES = "request_changes"
    APPROVE = "approve"
    SCHEDULE = "schedule"
    PUBLISH_NOW = "publish_now"
    CANCEL = "cancel"
    ARRIVE = "arrive"
    SUPERSEDE = "supersede"
    RETIRE = "retire"


VERSION = Machine(
    "license version",
    VersionState.DRAFT,
    {
        (VersionState.DRAFT, VersionAction.SUBMIT): VersionState.IN_REVIEW,
        (VersionState.IN_REVIEW, VersionAction.REQUEST_CHANGES): VersionState.DRAFT,
        (VersionState.IN_REVIEW, VersionAction.APPROVE): VersionState.APPROVED,
        (VersionState.APPROVED, VersionAction.SCHEDULE): VersionState.SCHEDULED,
        (VersionState.APPROVED, VersionAction.PUBLISH_NOW): VersionState.IN_FORCE,
        (VersionState.APPROVED, VersionAction.RETIRE): VersionState.RETIRED,
        (VersionState.SCHEDULED, VersionAction.CANCEL): VersionState.APPROVED,
        (VersionState.SCHEDULED, VersionAction.ARRIVE): VersionState.IN_FORCE,
        (VersionState.IN_FORCE, VersionAction.SUPERSEDE): VersionState.SUPERSEDED,
        (VersionState.SUPERSEDED, VersionAction.RETIRE): VersionState.RETIRED,
    },
)
# A version that is still being made: no reader knows it, and a license has one of them at most.
MADE = frozenset({VersionState.DRAFT, VersionState.IN_REVIEW, VersionState.APPROVED})


class ReviewFinding(StrEnum):
    """What a second look at a version found that two people put in force at once."""

    STANDS = "stands"
    REPLACE = "replace"


class ReviewState(StrEnum):
    """Where such a second look stands."""

    OPEN = "open"
    OVERDUE = "overdue"
    DONE = "done"


def review_state_at(due_at: datetime, reviewed_at: datetime | None, at: datetime) -> ReviewState:
    """Return where a second look stands at an instant; nobody has to write down that it is overdue."""
    if reviewed_at is not None:
        return ReviewState.DONE
    return ReviewState.OVERDUE if at >= due_at else ReviewState.OPEN


class CeremonyState(StrEnum):
    """How a ceremony ended, if it did."""

    OPEN = "open"
    SIGNED = "signed"
    DECLINED = "declined"


class CeremonyAction(StrEnum):
    """What ends a ceremony."""

    SIGN = "sign"
    DECLINE = "decline"


CEREMONY = Machine(
    "ceremony",
    CeremonyState.OPEN,
    {
        (CeremonyState.OPEN, CeremonyAction.SIGN): CeremonyState.SIGNED,
        (CeremonyState.OPEN, CeremonyAction.DECLINE): CeremonyState.DECLINED,
    },
)


class DeclineReason(StrEnum):
    """Why somebody does not sign, where they say so."""

    UNSAID = "unsaid"
    RESTRICTIONS = "restrictions"
    NOT_AUTHORIZED = "not_authorized"
    UNCLEAR = "unclear"
    NO_NEED = "no_need"


class AnnulmentKind(StrEnum):
    """Why a signature no longer binds."""

    WITHDRAWN = "withdrawn"
    ERROR = "error"


class ErrorReason(StrEnum):
    """What was wrong with a signature that is voided."""

    WRONG_PERSON = "wrong_person"
    WRONG_TEXT = "wrong_text"
    TECHNICAL = "technical"


class ExhibitKind(StrEnum):
    """What was shown."""

    RENDITION = "rendition"
    DIFFERENCE = "difference"
    CARD_REVISION = "card_revision"


class AttestationKind(StrEnum):
    """What was answered."""

    RESTRICTION = "restriction"
    ELECTRONIC_FORM = "electronic_form"


class Sufficiency(StrEnum):
    """Whether a person's signatures satisfy a requirement."""

    SUFFICIENT = "sufficient"
    DUE = "due"
    DECLINED = "declined"
    LAPSED = "lapsed"
    MISSING = "missing"


@dataclass(frozen=True)
class VersionFact:
    """What sufficiency needs to know of a published version."""

    id: int
    number: str
    ordinal: int
    materiality: Materiality
    effective_at: datetime
    required_by: datetime
    retired: bool = False


@dataclass(frozen=True)
class SignatureFact:
    """What sufficiency needs to know of a signature; `ended_at` is when it was annulled, if it was."""

    id: int
    public_id: str
    version_id: int
    ordinal: int
    number: str = ""
    ended_at: datetime | None = None
    signed_at: datetime | None = None


def live(signatures: Sequence[SignatureFact], at: datetime) -> list[SignatureFact]:
    """Return the signatures that bind at an instant: those without an annulment before it."""
    return [s for s in signatures if s.ended_at is None or s.ended_at > at]


@dataclass(frozen=True)
class Satisfaction:
    """Whether signatures suffice, on which one that rests, and when it stops being so.

    Args:
        sufficiency: the answer.
        required: the version that must be signed.
        signature: the signature relied on, or the latest older one.
        binds_at: when a due signature lapses; None while nothing binds yet.
    """

    sufficiency: Sufficiency
    required: VersionFact
    signature: SignatureFact | None = None
    binds_at: datetime | None = None


def in_force(versions: Sequence[VersionFact], at: datetime) -> VersionFact | None:
    """Return the version in force at an instant: the highest ordinal whose effective date has come."""
    current = [version for version in versions if version.effective_at <= at]
    return max(current, key=lambda version: version.ordinal, default=None)


def state_at(versions: Sequence[VersionFact], version_id: int, at: datetime) -> VersionState:
    """Return the state that a published version has at an instant; what the background work wrote may lag behind."""
    version = next(v for v in versions if v.id == version_id)
    if version.retired:
        return VersionState.RETIRED
    if version.effective_at > at:
        return VersionState.SCHEDULED
    current = in_force(versions, at)
    return VersionState.IN_FORCE if current == version else VersionState.SUPERSEDED


def check_number(number: str, newest: str) -> None:
    """Raise unless a new version's number is a number, and higher than that of the newest version."""
    if not NUMBER.fullmatch(number):
        raise Invalid("number_wrong", "Write the number with dots, such as 1.2.0.", field="number")
    if _ordered(number) <= _ordered(newest):
        raise Invalid("number_low", f"The number must be higher than {newest}.", field="number")


def _ordered(number: str) -> tuple[int, ...]:
    parts = [int(part) for part in number.split(".")]
    return tuple(parts + [0] * (4 - len(parts)))


def check_summary(summary: dict[str, str], languages: Collection[str]) -> None:
    """Raise unless every language of a version has a summary of a sensible length."""
    for language in sorted(languages):
        words = summary.get(language, "").strip()
        if not words:
            message = f"Write the summary in {language_name(language)}: what changes, in plain words."
            raise Invalid("summary_missing", message, field=f"summary-{language}")
        if len(words) > SUMMARY_MAX:
            message = f"The summary in {language_name(language)} is longer than {SUMMARY_MAX:,} characters."
            raise Invalid("summary_long", message, field=f"summary-{language}")


def satisfies(  # noqa: PLR0917 - all of it is one question
    signatures: Sequence[SignatureFact],
    versions: Sequence[VersionFact],
    required: VersionFact,
    reached: Mapping[str, datetime],
    now: datetime,
    declined: Collection[int] = (),
) -> Satisfaction:
    """Say whether a person's signatures of one license satisfy a required version.

    Args:
        signatures: the person's signatures of this license; those annulled before `now` do not count.
        versions: the published versions of this license.
        required: the version that the requirement follows to.
        reached: when the person was reached by news of versions, by number; each binds by its own.
        now: the present instant.
        declined: ids of the versions of which the person's last word was that they do not sign.
    """
    refused = required.id in declined
    newest = max(live(signatures, now), key=lambda s: s.ordinal, default=None)
    if newest is None:
        return Satisfaction(Sufficiency.DECLINED if refused else Sufficiency.MISSING, required)
    between = [v for v in versions if newest.ordinal < v.ordinal <= required.ordinal]
    material = [v for v in between if WEIGHT[v.materiality] >= WEIGHT[Materiality.MATERIAL]]
    if not material:
        return Satisfaction(Sufficiency.SUFFICIENT, required, newest)
    bound = [at for at in (binds_at(v, reached.get(v.number)) for v in material) if at is not None]
    first = min(bound, default=None)
    if first is None or now < first:
        return Satisfaction(Sufficiency.DUE, required, newest, first)
    return Satisfaction(Sufficiency.DECLINED if refused else Sufficiency.LAPSED, required, newest, first)


def binds_at(version: VersionFact, reached_at: datetime | None) -> datetime | None:
    """Say when an unsigned version starts to bind somebody: after its date, and never before they could know of it."""
    if version.materiality is Materiality.MATERIAL_IMMEDIATE:
        return version.effective_at
    if reached_at is None:
        return None
    return max(version.required_by, reached_at + NOTICE_MINIMUM)


def materiality_floor(changes: Sequence[tuple[ClauseKind, Relation]]) -> Materiality:
    """Return the least materiality that clause changes allow: a widened or added restriction is material."""
    floor = Materiality.EDITORIAL
    for kind, relation in changes:
        if kind is not ClauseKind.RESTRICTION or relation in {Relation.SAME, Relation.MOVED}:
            continue
        if relation in {Relation.WIDENED, Relation.ADDED}:
            return Materiality.MATERIAL
        floor = Materiality.CLARIFYING
    return floor


def check_comment(words: str) -> str:
    """Return a remark on a version as it is kept, or raise `Invalid`."""
    kept = words.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not kept:
        raise Invalid("comment_missing", "Write the remark.", field="words")
    if len(kept) > COMMENT_MAX:
        raise Invalid("comment_long", f"A remark has at most {COMMENT_MAX:,} characters.", field="words")
    if not all(letter.isprintable() or letter in "\n\t" for letter in kept):
        raise Invalid("comment_letters", "The remark holds characters that cannot be kept.", field="words")
    return kept


@dataclass(frozen=True)
class Vote:
    """How a body of the licensor resolved on a version.

    Args:
        body: the name of the body.
        minutes_sha256: digest of the minutes, which stay with the body.
    """

    body: str
    minutes_sha256: str
    votes_for: int
    votes_against: int
    votes_abstain: int
    decided_at: datetime


def check_vote(vote: Vote, now: datetime) -> None:
    """Raise unless a vote is one that carried, with minutes that can be named."""
    if not vote.body.strip() or len(vote.body) > BODY_MAX or not vote.body.isprintable():
        raise Invalid("body_missing", f"Name the body that voted, in at most {BODY_MAX} characters.", field="body")
    if not re.fullmatch("[0-9a-f]{64}", vote.minutes_sha256):
        message = "Give the SHA-256 of the minutes: 64 characters, 0 to 9 and a to f."
        raise Invalid("minutes_wrong", message, field="minutes_sha256")
    for field in ("votes_for", "votes_against", "votes_abstain"):
        if not 0 <= getattr(vote, field) <= VOTES_MAX:
            raise Invalid("votes_wrong", f"A number of votes lies between 0 and {VOTES_MAX:,}.", field=field)
    if vote.votes_for <= vote.votes_against:
        raise Invalid("not_carried", "Only a resolution that carried stands behind a version.", field="votes_for")
    if vote.decided_at > now:
        raise Invalid("vote_future", "The vote cannot lie in the future.", field="decided_at")
