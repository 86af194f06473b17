"""What a passkey is asked to sign, and how a portal's address limits where passkeys work."""

import hmac
import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from portal.core.errors import Invalid
from portal.logins.rules import Secret

CHALLENGE_LIFE = timedelta(minutes=10)
NONCE, STAMP, SEAL = 16, 8, 32
NAME_MAX = 60
CREDENTIAL_MAX = 32_768
MOST = 20


class Purpose(StrEnum):
    """What a passkey is asked for; what it signs for one serves no other."""

    REGISTER = "register"
    SIGN_IN = "sign_in"
    PROVE = "prove"


class Authenticators(Protocol):
    """What speaks WebAuthn with browsers, who always have to verify their user; what does not hold is a ValueError."""

    def ask_for_new(self, *, handle: str, name: str, shown: str, challenge: bytes, known: list[bytes]) -> str:
        """Return the options with which a browser makes a passkey, as JSON."""

    def ask_for_use(self, *, challenge: bytes, known: list[bytes]) -> str:
        """Return the options with which a browser uses a passkey, one of some or any, as JSON."""

    def read_challenge(self, credential: str) -> bytes:
        """Return the challenge that a browser's answer says it is for."""

    def read_id(self, credential: str) -> bytes:
        """Return which passkey a browser's answer says it is from."""

    def check_new(self, credential: str, *, challenge: bytes) -> tuple[bytes, bytes, int, bool]:
        """Return id, public key, count of uses and whether it is synced, of a passkey made for a challenge."""

    def read_proof(self, credential: str) -> dict[str, bytes]:
        """Return what a passkey signed, and its signature, as anybody may check them: WebAuthn's own three parts."""

    def read_key(self, public_key: bytes) -> dict[str, str]:
        """Return a public key as a JWK (RFC 7517), if it is of a kind that anybody can check without a library."""

    def check_use(self, credential: str, *, challenge: bytes, public_key: bytes, sign_count: int) -> tuple[int, bool]:
        """Return the count of uses, and whether it is synced, of a passkey that signed a challenge."""


def refused(words: str = "This passkey was not accepted. Try again, or choose another way.") -> Invalid:
    """Return the error for what a browser sent in a passkey's name; it tells nothing about why."""
    return Invalid("passkey_refused", words, field="credential")


def works_at(base_url: str) -> bool:
    """Say whether browsers make passkeys for a portal's address: over https, or on this machine, and by a name."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return parts.scheme == "https" or host == "localhost" or host.endswith(".localhost")
    return False


def challenge(purpose: Purpose, *, about: str, pepper: bytes, now: datetime) -> bytes:
    """Make what a passkey is asked to sign: it tells its age and purpose under a seal, so nothing has to be stored.

    Args:
        about: public id of the person who is asked; empty where anybody may answer.
    """
    head = secrets.token_bytes(NONCE) + int(now.timestamp()).to_bytes(STAMP, "big")
    return head + _seal(purpose, about, head, pepper)


def check_challenge(given: bytes, purpose: Purpose, *, about: str, pepper: bytes, now: datetime) -> None:
    """Raise unless the portal asked this lately, of this person, for this purpose."""
    head, seal = given[: NONCE + STAMP], given[NONCE + STAMP :]
    if not hmac.compare_digest(seal, _seal(purpose, about, head, pepper)):
        raise refused()
    age = now.timestamp() - int.from_bytes(head[NONCE:], "big")
    if not -1 <= age < CHALLENGE_LIFE.total_seconds():
        raise refused("This page is more than ten minutes old. Open it again.")


def _seal(purpose: Purpose, about: str, head: bytes, pepper: bytes) -> bytes:
    words = f"{Secret.CHALLENGE.value}\0{purpose.value}\0{about}\0".encode()
    return hmac.new(pepper, words + head, sha256).digest()


def check_name(text: str) -> str:
    """Return what a person calls a passkey, or raise `Invalid`."""
    if not text or len(text) > NAME_MAX or not text.isprintable():
        message = f"Name it in 1 to {NAME_MAX} characters on one line, such as “Laptop”."
        raise Invalid("passkey_name", message, field="name")
    return text
