"""Standing, roles and the permissions that each role carries; and what a person's address and profile may be."""

import json
import re
import unicodedata
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum

from portal.core.errors import Conflict, Invalid, Refused
from portal.core.machine import Machine

PROPOSAL_LIFE = timedelta(hours=24)
TWO = 2
TEXT_MAX = 200
EMAIL_MAX = 254
LOCAL_MAX = 64
JOINERS = "\u200c\u200d"  # they part and join letters in names in Persian, Hindi and others
# What a mail server may be handed: no space, no quoting, no control character, one @, and a domain with a dot.
EMAIL = re.compile(r"[^\s@\"(),:;<>\[\]\\]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W_](?:[\w-]*[^\W_])")


class Standing(StrEnum):
    """Whether a person may use the service at all."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class StandingAction(StrEnum):
    """What moves a standing."""

    SUSPEND = "suspend"
    REINSTATE = "reinstate"
    CLOSE = "close"
    REOPEN = "reopen"


STANDING = Machine(
    "standing",
    Standing.ACTIVE,
    {
        (Standing.ACTIVE, StandingAction.SUSPEND): Standing.SUSPENDED,
        (Standing.SUSPENDED, StandingAction.SUSPEND): Standing.SUSPENDED,
        (Standing.SUSPENDED, StandingAction.REINSTATE): Standing.ACTIVE,
        (Standing.ACTIVE, StandingAction.CLOSE): Standing.CLOSED,
        (Standing.SUSPENDED, StandingAction.CLOSE): Standing.CLOSED,
        (Standing.CLOSED, StandingAction.REOPEN): Standing.ACTIVE,  # the decision that closed it was overturned
    },
)


class Permission(StrEnum):
    """A staff power, ``area:thing:verb``."""

    LICENSES_EDIT = "licenses:version:edit"
    LICENSES_PUBLISH = "licenses:version:publish"
    CARDS_EDIT = "cards:revision:edit"
    CARDS_PUBLISH = "cards:revision:publish"
    MODELS_UPLOAD = "models:commit:upload"
    MODELS_PUBLISH = "models:commit:publish"
    REQUESTS_REVIEW = "access:request:review"
    PEOPLE_READ = "people:account:read"
    PEOPLE_SANCTION = "people:sanction:order"
    PEOPLE_QUOTA = "people:quota:set"
    APPEALS_DECIDE = "moderation:appeal:decide"
    RULES_EDIT = "detection:rule:edit"
    USAGE_READ = "usage:record:read"
    TEXTS_READ = "usage:content:read"
    AUDIT_READ = "audit:event:read"
    STAFF_MANAGE = "accounts:role:manage"
    PROGRAMS_MANAGE = "oauth:program:manage"
    CONSOLE_READ = "staff:console:read"


class Role(StrEnum):
    """What a member of staff is there for."""

    LICENSE_EDITOR = "license_editor"
    CARD_EDITOR = "card_editor"
    MODERATOR = "moderator"
    ADMIN = "admin"


P = Permission
ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.LICENSE_EDITOR: frozenset({P.CONSOLE_READ, P.LICENSES_EDIT, P.LICENSES_PUBLISH, P.AUDIT_READ}),
    Role.CARD_EDITOR: frozenset(
        {P.CONSOLE_READ, P.CARDS_EDIT, P.CARDS_PUBLISH, P.MODELS_UPLOAD, P.MODELS_PUBLISH, P.AUDIT_READ}
    ),
    Role.MODERATOR: frozenset(
        {
            P.CONSOLE_READ,
            P.PEOPLE_READ,
            P.PEOPLE_SANCTION,
            P.APPEALS_DECIDE,
            P.RULES_EDIT,
            P.REQUESTS_REVIEW,
            P.USAGE_READ,
            P.TEXTS_READ,
            P.AUDIT_READ,
        }
    ),
    Role.ADMIN: frozenset(Permission),
}


def permissions_of(roles: list[Role]) -> frozenset[str]:
    """Return the union of what the roles carry."""
    return frozenset(permission.value for role in roles for permission in ROLE_PERMISSIONS[role])


def standing_at(standing: Standing, until_passed: bool) -> Standing:
    """Return the standing that counts now: a suspension whose end has passed no longer holds."""
    if standing is Standing.SUSPENDED and until_passed:
        return Standing.ACTIVE
    return standing


@dataclass(frozen=True)
class About:
    """What a person says about themselves, checked."""

    name: str
    affiliation: str
    country: str


def tidy(text: str) -> str:
    """Return text as it is stored: trimmed, in Unicode normal form C, runs of spaces of any width made one."""
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in text)
    return re.sub(" +", " ", unicodedata.normalize("NFC", spaced).strip())


def fold_email(text: str) -> str:
    """Return an address as it is stored and looked up, whatever it is."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).casefold())


def storable(text: str) -> bool:
    """Say whether both databases can hold a text at all: no NUL, no half of a surrogate pair."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def check_email(text: str) -> str:
    """Return an address as it is stored, or raise `Invalid`."""
    email = fold_email(text)
    if not email:
        raise Invalid("email_missing", "Give your e-mail address.", field="email")
    local = email.partition("@")[0]
    shaped = EMAIL.fullmatch(email) and email.isprintable() and ".." not in email and not local.startswith(".")
    if not shaped or local.endswith(".") or len(email) > EMAIL_MAX or len(local) > LOCAL_MAX:
        raise Invalid("email_invalid", "This is no e-mail address; one looks like name@example.org.", field="email")
    # Letters such as ß fold into others, so the folded address may be somebody else's mailbox.
    if email != unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).lower()):
        raise Invalid("email_letters", "This address holds a letter that cannot be taken here.", field="email")
    return email


def check_text(text: str, *, field: str, what: str, required: bool = True) -> str:
    """Return one line of text about a person as it is stored, or raise `Invalid`."""
    found = tidy(text)
    if required and not found:
        raise Invalid(f"{field}_missing", f"Give your {what}.", field=field)
    if len(found) > TEXT_MAX:
        raise Invalid(f"{field}_long", f"Your {what} has at most {TEXT_MAX} characters.", field=field)
    if not all(letter.isprintable() or letter in JOINERS for letter in found):
        raise Invalid(f"{field}_invalid", f"Your {what} is one line without control characters.", field=field)
    return found


def check_name(text: str) -> str:
    """Return a name as it is stored, or raise `Invalid`."""
    return check_text(text, field="name", what="name")


def check_affiliation(text: str) -> str:
    """Return an affiliation as it is stored, or raise `Invalid`."""
    return check_text(text, field="affiliation", what="affiliation")


def check_country(text: str) -> str:
    """Return a country code as it is stored, in the shape of ISO 3166 alpha-2, or raise `Invalid`."""
    code = tidy(text)
    if not re.fullmatch("[A-Za-z]{2}", code):
        raise Invalid("country_invalid", "Give your country as two letters, such as FR, IN or BR.", field="country")
    return code.upper()


def check_about(*, name: str, affiliation: str, country: str) -> About:
    """Return what a person says about themselves as it is stored, or raise `Invalid` for the first thing wrong."""
    return About(check_name(name), check_affiliation(affiliation), check_country(country))


def changed(old: About, new: About) -> list[str]:
    """Return the names of the fields that differ."""
    return [f.name for f in fields(About) if getattr(old, f.name) != getattr(new, f.name)]


def held(standing: Standing, until: datetime | None, now: datetime) -> Standing:
    """Return the standing that counts at an instant."""
    return standing_at(standing, until is not None and until <= now)


class ProposalState(StrEnum):
    """What became of a proposal; nothing of it is stored, it follows from its times."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    EXPIRED = "expired"


@dataclass(frozen=True)
class ProposalFact:
    """What confirming a proposal needs to know of it.

    Args:
        payload_sha256: digest of exactly what was proposed.
    """

    payload_sha256: str
    proposed_by: str
    confirmed_by: str | None
    expires_at: datetime


def proposal_state_at(proposal: ProposalFact, at: datetime) -> ProposalState:
    """Return how a proposal stands at an instant."""
    if proposal.confirmed_by is not None:
        return ProposalState.CONFIRMED
    return ProposalState.OPEN if at < proposal.expires_at else ProposalState.EXPIRED


def reason_of(payload: bytes) -> str:
    """Return the reason that a proposal gives."""
    return str(json.loads(payload)["reason"])


def check_confirm(proposal: ProposalFact, *, by: str, shown_sha256: str, current_sha256: str, now: datetime) -> None:
    """Raise unless a second person may confirm a proposal: another one, in time, and for exactly what was proposed.

    Args:
        by: who confirms.
        shown_sha256: digest of what the confirming person was shown.
        current_sha256: digest of what the act would do now; any change of what it is about changes it.
    """
    state = proposal_state_at(proposal, now)
    if state is ProposalState.CONFIRMED:
        raise Conflict("proposal_confirmed", "This was confirmed already.")
    if state is ProposalState.EXPIRED:
        raise Conflict("proposal_expired", "This was proposed more than 24 hours ago. Propose it again.")
    if by == proposal.proposed_by:
        raise Refused("second_person_needed", "You proposed this, so somebody else has to confirm it.")
    if not proposal.payload_sha256 == shown_sha256 == current_sha256:
        raise Conflict("proposal_changed", "What this is about changed since it was proposed. Propose it again.")
