"""Signing in from a terminal (RFC 8628): codes, clients, and the life of a request to be let in."""

import re
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil

from portal.core.errors import PortalError
from portal.core.machine import Machine
from portal.tokens.rules import STAFF_SCOPES, Scope

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
CLIENTS = {
    "26be6b09-91c5-47da-9861-d2d2bb7a7e36": "hf auth login",
    "portal-cli": "portal command line",
}
DEFAULT_SCOPES = (Scope.INFERENCE.value, Scope.WEIGHTS_READ.value)
CODE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so that no words arise; no digits, so that nothing looks alike
CODE_LENGTH = 8
LIFE = timedelta(minutes=10)
INTERVAL = 5
SLOWER = 5
KEPT = timedelta(days=1)
TOKEN_DAYS = 30
MOST_WAITING = 200
AGENT_MAX = 300
WRONG_WINDOW = timedelta(hours=1)
FREE_WRONG = 10
FIRST_WAIT = 30
LONGEST_WAIT = 900


class DeviceState(StrEnum):
    """How far a terminal has come."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    CONSUMED = "consumed"
    EXPIRED = "expired"


class DeviceAction(StrEnum):
    """What moves a terminal's request."""

    APPROVE = "approve"
    DENY = "deny"
    CONSUME = "consume"
    EXPIRE = "expire"


DEVICE = Machine(
    "request of a terminal",
    DeviceState.PENDING,
    {
        (DeviceState.PENDING, DeviceAction.APPROVE): DeviceState.APPROVED,
        (DeviceState.PENDING, DeviceAction.DENY): DeviceState.DENIED,
        (DeviceState.PENDING, DeviceAction.EXPIRE): DeviceState.EXPIRED,
        (DeviceState.APPROVED, DeviceAction.DENY): DeviceState.DENIED,
        (DeviceState.APPROVED, DeviceAction.CONSUME): DeviceState.CONSUMED,
        (DeviceState.APPROVED, DeviceAction.EXPIRE): DeviceState.EXPIRED,
    },
)


class OAuthError(PortalError):
    """A refusal whose code is a word of RFC 6749, section 5.2, or RFC 8628, section 3.5."""


def client_name(client_id: str) -> str:
    """Return what a program calls itself, or raise `OAuthError` for one that is not known here."""
    if not client_id:
        raise OAuthError("invalid_request", "Send client_id.", field="client_id")
    if client_id not in CLIENTS:
        raise OAuthError("invalid_client", "This client_id is not known here.", field="client_id")
    return CLIENTS[client_id]


def read_scopes(scope: str) -> tuple[str, ...]:
    """Return the scopes that a program asks for, sorted; those of a download and a completion where it names none.

    A terminal is never given what is for staff: they make such access tokens in their settings.
    """
    asked = scope.split()
    known = {scope.value for scope in Scope if scope not in STAFF_SCOPES}
    for name in asked:
        if name not in known:
            raise OAuthError("invalid_scope", f"Ask for scopes among {', '.join(sorted(known))}.", field="scope")
    return tuple(sorted(set(asked))) or DEFAULT_SCOPES


def new_device_code() -> str:
    """Make the secret by which a terminal asks whether it was let in: 256 random bits."""
    return secrets.token_urlsafe(32)


def new_user_code() -> str:
    """Make the code that a person compares and may have to type: 20^8, about 34 random bits."""
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))


def read_user_code(typed: str) -> str:
    """Return a typed code as it is stored, or nothing for what can be none; case, spaces and dashes do not count."""
    plain = re.sub(r"[\s-]", "", typed[:100]).upper()
    return plain if len(plain) == CODE_LENGTH and set(plain) <= set(CODE_ALPHABET) else ""


def shown_code(user_code: str) -> str:
    """Return a code as terminals and pages show it: ``XXXX-XXXX``."""
    half = CODE_LENGTH // 2
    return f"{user_code[:half]}-{user_code[half:]}"


def too_fast(last_polled_at: datetime | None, interval: int, now: datetime) -> bool:
    """Say whether a terminal asks again sooner than it was told to."""
    return last_polled_at is not None and now < last_polled_at + timedelta(seconds=interval)


def wrong_delay(wrong: int, last_at: datetime | None, now: datetime) -> int:
    """Return whole seconds until a person may try another code: none for the first ten an hour, then ever longer."""
    if wrong < FREE_WRONG or last_at is None:
        return 0
    wait = timedelta(seconds=min(FIRST_WAIT * 2 ** min(wrong - FREE_WRONG, 10), LONGEST_WAIT))
    return max(0, ceil((last_at + wait - now).total_seconds()))


def program_of(user_agent: str) -> str:
    """Return which programs call, as names with versions: words that a stranger chose could pass for ours."""
    found = re.findall(r"(?<![\w./-])([A-Za-z][\w-]{0,19})/(\d[\w.]{0,11})", user_agent)
    return ", ".join(f"{name} {version}" for name, version in found[:3]) or "a program that does not name itself"


def token_name(client_id: str, now: datetime) -> str:
    """Return how a terminal's access token is called: its client and the day."""
    return f"{CLIENTS[client_id]}, {now:%Y-%m-%d}"


def signed_scopes(scopes: Collection[str]) -> bool:
    """Say whether any of these scopes opens what has to be signed for."""
    return bool({Scope.WEIGHTS_READ.value, Scope.INFERENCE.value} & set(scopes))
