"""Shape, scopes and expiry of access tokens."""

import hmac
import secrets
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.accounts.rules import Permission
from portal.audit.rules import Event
from portal.core.errors import Invalid, TooMany
from portal.core.words import printable

PREFIX, GRANTED_PREFIX = "lmp_", "lmo_"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_LENGTH = 43
CHECK_LENGTH = 6
DEFAULT_LIFE = timedelta(days=90)
MAX_DAYS = 365
NAME_MAX = 80
MAX_LIVE = 100
LEAKS_PER_HOUR = 20
LEAK_WINDOW = timedelta(hours=1)
LEAK_KEPT = timedelta(days=30)
PLACE_MAX = 500


@dataclass(frozen=True)
class TokenLeaked(Event, name="token:access_token:leaked"):
    """Somebody found the secret of an access token in public; `source` says who told."""

    owner: str
    source: str


class LeakSource(StrEnum):
    """Who told that secrets of access tokens are in public."""

    PUBLIC = "public"
    GITHUB = "github"


class Scope(StrEnum):
    """What an access token may be used for, if the decision allows it."""

    WEIGHTS_READ = "weights:read"
    INFERENCE = "inference"
    USAGE_READ = "usage:read"
    WEIGHTS_WRITE = "weights:write"
    REQUESTS_WRITE = "requests:write"


UNUSABLE = {
    "access_token_invalid": "This access token is not known here.",
    "access_token_expired": "This access token has expired.",
    "access_token_revoked": "This access token was revoked.",
}
STAFF_SCOPES = {Scope.WEIGHTS_WRITE: Permission.MODELS_UPLOAD, Scope.REQUESTS_WRITE: Permission.REQUESTS_REVIEW}


class TokenState(StrEnum):
    """Whether an access token was ended."""

    LIVE = "live"
    REVOKED = "revoked"


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(ALPHABET[rest])
    return "".join(reversed(digits))


def mint(prefix: str = PREFIX) -> str:
    """Make a new secret: prefix, 32 random bytes in base62, and a checksum; 53 characters."""
    body = prefix + _base62(int.from_bytes(secrets.token_bytes(32), "big"), SECRET_LENGTH)
    return body + checksum(body)


def checksum(body: str) -> str:
    """CRC-32 of what precedes, six base62 characters: a typo is refused without a look-up."""
    return _base62(zlib.crc32(body.encode()), CHECK_LENGTH)


def well_formed(value: str, *prefixes: str) -> bool:
    """Say whether a string has the shape and checksum of a secret: of an access token, if no other prefix is named."""
    return (
        len(value) == len(PREFIX) + SECRET_LENGTH + CHECK_LENGTH
        and value.isascii()
        and value.startswith(prefixes or (PREFIX, GRANTED_PREFIX))
        and value[-CHECK_LENGTH:] == checksum(value[:-CHECK_LENGTH])
    )


def unusable(state: TokenState, expires_at: datetime, now: datetime) -> str | None:
    """Return the reason code why an access token cannot be used, or None."""
    if state is TokenState.REVOKED:
        return "access_token_revoked"
    if now >= expires_at:
        return "access_token_expired"
    return None


def lacking(scopes: Collection[str], permissions: Collection[str]) -> list[str]:
    """Return the scopes for staff that somebody with these permissions may not have."""
    return sorted(s.value for s, needed in STAFF_SCOPES.items() if s in scopes and needed not in permissions)


@dataclass(frozen=True)
class TokenFacts:
    """What a usable access token says: whose it is, what it may be used for, and until when."""

    token_id: int
    public_id: str
    user_id: int
    scopes: frozenset[str]
    expires_at: datetime


def sealed(value: str, pepper: bytes) -> str:
    """Return what is stored instead of an access token: its HMAC-SHA-256 under the pepper, 64 hex digits."""
    return hmac.new(pepper, value.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def same(one: str, other: str) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(one, other)


def check_new(name: str, scopes: Collection[str], days: int) -> None:
    """Raise `Invalid`, naming the field, unless an access token may be made so."""
    if not name.strip() or len(name) > NAME_MAX or not name.isprintable():
        raise Invalid("token_name", f"Give a name of 1 to {NAME_MAX} characters.", field="name")
    if not scopes:
        raise Invalid("token_scopes", "Choose at least one scope.", field="scopes")
    known = {scope.value for scope in Scope}
    unknown = sorted(set(scopes) - known)
    if unknown:
        message = f"{unknown[0]!r} is no scope; choose among {', '.join(sorted(known))}."
        raise Invalid("token_scopes", message, field="scopes")
    if not 1 <= days <= MAX_DAYS:
        raise Invalid("token_days", f"An access token lasts 1 to {MAX_DAYS} days.", field="days")


@dataclass(frozen=True)
class Found:
    """A string that somebody takes for the secret of an access token, and where they saw it, if they say so."""

    value: str
    place: str = ""

    @property
    def shown_place(self) -> str:
        """Where it was seen, on one line that any page and database can hold."""
        return printable(self.place, PLACE_MAX)


def check_leaks(earlier: int) -> None:
    """Raise `TooMany` when a network has reported leaks too often within the hour."""
    if earlier >= LEAKS_PER_HOUR:
        message = f"There were {LEAKS_PER_HOUR} reports from this network within an hour. Send up to 1,000 in each."
        raise TooMany("leaks_too_many", message, retry_after=int(LEAK_WINDOW.total_seconds()))


def compose_leaked(*, name: str, last4: str, source: LeakSource, base_url: str) -> str:
    """Write the mail to the owner of an access token that was found in public."""
    who = {LeakSource.PUBLIC: "Somebody", LeakSource.GITHUB: "The secret scanning of GitHub"}[source]
    return f"""Hello,

{who} found the secret of your access token "{name}", which ends in {last4}, where others can read it, and told this
portal. The access token is ended: nobody can use it any more, you included.

Where it was seen, as far as we were told, stands beside it at {base_url}/settings/tokens . Take it out there, make a
new access token, and look at {base_url}/settings/usage for use that is not yours.

This mail was sent by the BLOOM Portal at {base_url} . Nobody reads answers to it.
"""
