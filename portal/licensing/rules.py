"""Texts in force, what may be signed, and whether an old signature still suffices."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.clauses.rules import ClauseKind, Relation
from portal.core.errors import Conflict, Invalid
from portal.core.machine import Machine

CEREMONY_LIFE = timedelta(hours=2)
NOTICE_MINIMUM = timedelta(days=14)
NAME_MAX = 200
SUMMARY_MAX = 4_000
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
    SCHEDULED = "scheduled"
    IN_FORCE = "in_force"
    SUPERSEDED = "superseded"


class VersionAction(StrEnum):
    """What moves a license version."""

    SCHEDULE = "schedule"
    PUBLISH_NOW = "publish_now"
    ARRIVE = "arrive"
    SUPERSEDE = "supersede"


VERSION = Machine(
    "license version",
    VersionState.DRAFT,
    {
        (VersionState.DRAFT, VersionAction.SCHEDULE): VersionState.SCHEDULED,
        (VersionState.DRAFT, VersionAction.PUBLISH_NOW): VersionState.IN_FORCE,
        (VersionState.SCHEDULED, VersionAction.ARRIVE): VersionState.IN_FORCE,
        (VersionState.IN_FORCE, VersionAction.SUPERSEDE): VersionState.SUPERSEDED,
    },
)


class CeremonyState(StrEnum):
    """How a ceremony ended, if it did."""

    OPEN = "open"
    SIGNED = "signed"


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


@dataclass(frozen=True)
class SignatureFact:
    """What sufficiency needs to know of a signature."""

    id: int
    public_id: str
    version_id: int
    ordinal: int


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


@dataclass(frozen=True)
class Plan:
    """With which weight and dates a draft is to be published.

    Args:
        floor: the least weight that its clause changes allow.
        after: when the version before it comes into force; None for the first version.
        declared: the dates come with texts that are published elsewhere already, so they may lie in the past.
    """

    materiality: Materiality
    effective_at: datetime
    required_by: datetime
    floor: Materiality
    after: datetime | None
    declared: bool


def check_plan(plan: Plan, now: datetime) -> None:
    """Raise unless weight and dates of a version to be published can be."""
    if WEIGHT[plan.materiality] < WEIGHT[plan.floor]:
        message = f"The clause changes make this version at least {plan.floor}: a restriction changed."
        raise Invalid("materiality_low", message, field="materiality")
    if plan.after is not None and plan.effective_at <= plan.after:
        message = f"It must come into force after its predecessor, so later than {plan.after:%Y-%m-%d %H:%M} UTC."
        raise Invalid("effective_early", message, field="effective_at")
    if plan.effective_at < now and not plan.declared:
        raise Invalid("effective_past", "It cannot come into force in the past.", field="effective_at")
    if plan.required_by < plan.effective_at:
        message = "Nobody can be required to sign before the version is in force."
        raise Invalid("required_early", message, field="required_by")


def check_summary(summary: dict[str, str], languages: Collection[str]) -> None:
    """Raise unless every language of a version has a summary of a sensible length."""
    for language in sorted(languages):
        words = summary.get(language, "").strip()
        if not words:
            message = f"Write the summary in {language!r}: what changes, in plain words."
            raise Invalid("summary_missing", message, field=f"summary-{language}")
        if len(words) > SUMMARY_MAX:
            message = f"The summary in {language!r} is longer than {SUMMARY_MAX:,} characters."
            raise Invalid("summary_long", message, field=f"summary-{language}")


def compose_notice(
    *, title: str, number: str, materiality: Materiality, effective_on: str, required_on: str, summary: str, page: str
) -> str:
    """Write the mail that tells a signer about a new version."""
    if WEIGHT[materiality] >= WEIGHT[Materiality.MATERIAL]:
        ask = (
            f"Please read it and sign by {required_on}. After that, downloads and completions wait until you have "
            f"signed; your account, tokens and the copies you hold stay as they are.\n\nRead what changed, and sign:"
        )
        page = f"{page}/sign"
    else:
        ask = "Your signature stays valid and there is nothing you have to do.\n\nRead what changed:"
    return (
        f"You signed the {title}. Version {number} comes into force on {effective_on}.\n\n"
        f"What changes\n\n{summary}\n\n{ask}\n{page}\n"
    )


def satisfies(
    signatures: Sequence[SignatureFact],
    versions: Sequence[VersionFact],
    required: VersionFact,
    reached_at: datetime | None,
    now: datetime,
) -> Satisfaction:
    """Say whether a person's signatures of one license satisfy a required version.

    Args:
        signatures: the person's live signatures of this license.
        versions: the published versions of this license.
        required: the version that the requirement follows to.
        reached_at: when the person was reached by a notice of that version, if ever.
        now: the present instant.
    """
    newest = max(signatures, key=lambda s: s.ordinal, default=None)
    if newest is None:
        return Satisfaction(Sufficiency.MISSING, required)
    between = [v for v in versions if newest.ordinal < v.ordinal <= required.ordinal]
    material = [v for v in between if WEIGHT[v.materiality] >= WEIGHT[Materiality.MATERIAL]]
    if not material:
        return Satisfaction(Sufficiency.SUFFICIENT, required, newest)
    binds_at = min((b for b in (_binds_at(v, reached_at) for v in material) if b is not None), default=None)
    if binds_at is None or now < binds_at:
        return Satisfaction(Sufficiency.DUE, required, newest, binds_at)
    return Satisfaction(Sufficiency.LAPSED, required, newest, binds_at)


def _binds_at(version: VersionFact, reached_at: datetime | None) -> datetime | None:
    """When an unsigned version starts to bind somebody: after its date, and never before they could know of it."""
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


@dataclass(frozen=True)
class Sitting:
    """What a person sent when signing, beside what the ceremony holds.

    Args:
        nonce: the one-time value of the form.
        shown_digest: SHA-256 of the text that the form showed.
        acknowledged: stable keys of the ticked restrictions.
        consent_electronic: the separate box for the electronic form.
        typed_name: the name as typed.
    """

    nonce: str
    shown_digest: str
    acknowledged: frozenset[str]
    consent_electronic: bool
    typed_name: str


@dataclass(frozen=True)
class CeremonyFact:
    """What `check_signable` needs to know of the ceremony."""

    nonce: str
    state: CeremonyState
    expires_at: datetime
    shown_digest: str
    restrictions: tuple[str, ...]
    version_state: VersionState
    is_newest: bool


def check_signable(ceremony: CeremonyFact, sitting: Sitting, now: datetime) -> None:
    """Raise unless everything that makes a signature binding is there; the only such check."""
    if ceremony.state is not CeremonyState.OPEN or sitting.nonce != ceremony.nonce:
        raise Conflict("ceremony_used", "This form was already used. Open the license again to sign.")
    if now >= ceremony.expires_at:
        raise Conflict("ceremony_expired", "This form is more than two hours old. Open the license again to sign.")
    if ceremony.version_state is VersionState.DRAFT or not ceremony.is_newest:
        raise Conflict("version_not_signable", "A newer version of this license is out. Open it and sign that one.")
    if sitting.shown_digest != ceremony.shown_digest:
        raise Conflict("text_changed", "The text in this form is not the text on record. Open the license again.")
    missing = [key for key in ceremony.restrictions if key not in sitting.acknowledged]
    if missing:
        raise Invalid(
            "restriction_unticked",
            f"Acknowledge each use restriction: {len(missing)} still unticked.",
            field=missing[0],
        )
    if not sitting.consent_electronic:
        raise Invalid("consent_missing", "Tick the box that accepts the electronic form.", field="consent_electronic")
    if not any(character.isalnum() for character in sitting.typed_name):
        raise Invalid("name_missing", "Type your name to sign.", field="typed_name")
    if len(sitting.typed_name) > NAME_MAX:
        raise Invalid("name_long", f"A name has at most {NAME_MAX} characters.", field="typed_name")
