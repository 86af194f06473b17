"""Second factors: one-time codes of an app (RFC 6238), recovery codes, and the mails about them."""

import hmac
import secrets
from base64 import b32encode
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import quote, urlencode

from portal.audit.rules import Event
from portal.core.errors import Invalid
from portal.logins.rules import Mail, letter

SEED = 20
STEP_SECONDS = 30
DIGITS = 6
DRIFT = 1
CODES = 10
CODE_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
CODE_PARTS, CODE_PART = 3, 4
APP = "app"
APP_WORDS = "An authenticator app"


@dataclass(frozen=True)
class FactorAdded(Event, name="identity:factor:added"):
    """A person set up a second factor; `kind` is ``app`` or ``passkey``."""

    kind: str


@dataclass(frozen=True)
class FactorRemoved(Event, name="identity:factor:removed"):
    """A second factor of a person was removed; `kind` is ``app``, ``passkey`` or ``all``."""

    kind: str


@dataclass(frozen=True)
class RecoveryCodesMade(Event, name="identity:recovery_codes:made"):
    """A person was shown new recovery codes; those before no longer work."""


@dataclass(frozen=True)
class RecoveryCodeUsed(Event, name="identity:recovery_code:used"):
    """A person got in by a recovery code; `left` more work."""

    left: int


class Locking(Protocol):
    """What keeps seeds unreadable in the database."""

    def lock(self, secret: bytes, *, about: str) -> bytes:
        """Return the form in which a secret is stored."""

    def unlock(self, locked: bytes, *, about: str) -> bytes:
        """Return the secret again."""


@dataclass(frozen=True)
class Factors:
    """What second factors a person has.

    Args:
        app: an authenticator app.
        passkeys: how many passkeys.
        codes: how many recovery codes that still work.
    """

    app: bool = False
    passkeys: int = 0
    codes: int = 0

    @property
    def any(self) -> bool:
        """Say whether signing in takes a second factor, or a passkey, which is two in one."""
        return self.app or self.passkeys > 0


def new_seed() -> bytes:
    """Make the seed that a person's app and the portal share: 160 random bits (RFC 4226 section 4, R6)."""
    return secrets.token_bytes(SEED)


def step_at(now: datetime) -> int:
    """Return the number of the half minute in which an instant lies."""
    return int(now.timestamp()) // STEP_SECONDS


def code_at(seed: bytes, step: int) -> str:
    """Return the code of an app in a half minute: an HMAC-SHA-1 cut to six digits (RFC 4226 section 5.3)."""
    mac = hmac.digest(seed, step.to_bytes(8, "big"), "sha1")
    offset = mac[-1] & 0xF
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matching_step(seed: bytes, code: str, *, now: datetime, after: int) -> int | None:
    """Return the half minute whose code this is, of the present one and its neighbors; None where it is none of them.

    Args:
        after: the half minute of the last code that was taken; it and those before it do not count again.
    """
    here, found = step_at(now), None
    for step in range(here - DRIFT, here + DRIFT + 1):
        if hmac.compare_digest(code_at(seed, step).encode(), code.encode("utf-8", "replace")) and step > after:
            found = step
    return found


def seed_text(seed: bytes) -> str:
    """Return a seed as people type it where they cannot scan it: groups of four letters."""
    text = b32encode(seed).decode()
    return " ".join(text[n : n + 4] for n in range(0, len(text), 4))


def seed_address(seed: bytes, *, account: str, issuer: str) -> str:
    """Return the address that the QR code holds, as authenticator apps read it."""
    query = urlencode({"secret": b32encode(seed).decode(), "issuer": issuer}, quote_via=quote)
    return f"otpauth://totp/{quote(f'{issuer}:{account}')}?{query}"


def tidy_code(text: str) -> str:
    """Return a code without what people type around it."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())[:64]


def is_app_code(code: str) -> bool:
    """Say whether a code is an app's; recovery codes are longer."""
    return len(code) == DIGITS and code.isascii() and code.isdigit()


def new_codes() -> list[str]:
    """Make recovery codes: 59 random bits each, in letters that are hard to mistake."""
    return [
        "-".join("".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_PART)) for _ in range(CODE_PARTS))
        for _ in range(CODES)
    ]


def wrong_code() -> Invalid:
    """Return the error for a code that is wrong, too old, or used already; it does not tell which."""
    message = "This code is wrong, too old, or was used already. Wait for the next one and try again."
    return Invalid("code_wrong", message, field="code")


def compose_added(*, base_url: str, what: str) -> Mail:
    """Write the mail that tells somebody that a second factor was set up."""
    return letter(
        "factor_added", "A second factor was set up",
        f"{what} was just set up for your account. From now on signing in takes it. Other browsers were signed out.",
        _not_you(base_url), base_url=base_url,
    )  # fmt: skip


def compose_removed(*, base_url: str, what: str) -> Mail:
    """Write the mail that tells somebody that a second factor was removed."""
    return letter(
        "factor_removed", "A second factor was removed",
        f"{what} can no longer be used to sign in to your account. Other browsers were signed out.",
        _not_you(base_url), base_url=base_url,
    )  # fmt: skip


def compose_used(*, base_url: str, left: int) -> Mail:
    """Write the mail that tells somebody that a recovery code was used."""
    return letter(
        "recovery_code_used", "A recovery code was used",
        f"somebody, probably you, just signed in to your account with a recovery code. {left} of them still work.",
        _not_you(base_url), base_url=base_url,
    )  # fmt: skip


def _not_you(base_url: str) -> str:
    return (
        f"If it was not you, choose a new password at once at {base_url}/reset , then look at "
        f"{base_url}/settings/security . If you cannot get in, write to the people who run this portal."
    )
