"""Passwords, one-time links, and the mails that go with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from portal.accounts.rules import About, check_about, check_email
from portal.core.errors import Invalid, NotFound
from portal.logins.rules import Mail, letter

PASSWORD_MIN = 15
PASSWORD_MIN_BESIDE_SECOND = 12
PASSWORD_MAX = 128
MAILS_PER_HOUR = 5


class LinkPurpose(StrEnum):
    """What a one-time link is for."""

    VERIFY = "verify"
    RESET = "reset"
    STAFF = "staff"


LINK_LIFE = {
    LinkPurpose.VERIFY: timedelta(minutes=30),
    LinkPurpose.RESET: timedelta(minutes=30),
    LinkPurpose.STAFF: timedelta(hours=24),
}


def check_password(
    password: str, *, email: str = "", least: int = PASSWORD_MIN, weakness: Callable[[str, Sequence[str]], str]
) -> None:
    """Raise `Invalid` for a password that is too short, too long, or easily guessed; no more is asked of it.

    Args:
        password: what somebody wants to sign in with.
        email: their address, which is no password.
        least: how many characters it needs.
        weakness: says why a password is easily guessed, beside what the person is known by; empty where it is not.
    """
    if len(password) < least:
        message = f"Choose a password of at least {least} characters; a phrase is fine."
        raise Invalid("password_short", message, field="password")
    if len(password) > PASSWORD_MAX:
        raise Invalid("password_long", f"A password has at most {PASSWORD_MAX} characters.", field="password")
    same = bool(email) and password.casefold() == email.casefold()
    if why := "It is your e-mail address." if same else weakness(password, [email] if email else []):
        raise Invalid("password_weak", f"Choose a password that is harder to guess. {why}", field="password")


def least(*, has_second: bool) -> int:
    """Return how many characters a password needs: fewer where it is not all that signing in takes."""
    return PASSWORD_MIN_BESIDE_SECOND if has_second else PASSWORD_MIN


class Hashing(Protocol):
    """What turns passwords into digests, and knows which are easily guessed."""

    def hash(self, password: str) -> str:
        """Return the digest of a password."""

    def verify(self, digest: str, password: str) -> bool:
        """Say whether a password belongs to a digest."""

    def verify_nobody(self, password: str) -> bool:
        """Take as long as `verify` and say no."""

    def needs_rehash(self, digest: str) -> bool:
        """Say whether a digest should be made anew."""

    def weakness(self, password: str, about: Sequence[str]) -> str:
        """Say why a password is easily guessed; nothing where it is not."""


@dataclass(frozen=True)
class Applicant:
    """Somebody who wants an account, checked, with their password as a digest."""

    email: str
    about: About
    digest: str


def applicant(*, email: str, password: str, name: str, affiliation: str, country: str, hasher: Hashing) -> Applicant:
    """Check what somebody typed to sign up; the password is hashed whether or not the address is known."""
    address = check_email(email)
    about = check_about(name=name, affiliation=affiliation, country=country)
    check_password(password, email=address, weakness=hasher.weakness)
    return Applicant(address, about, hasher.hash(password))


@dataclass(frozen=True)
class Proof:
    """What came of comparing a password: whose it is, or nobody's.

    Args:
        attempt: names the address and the network from which it was tried; failures are counted by it.
        digest: the digest that the password was compared with.
        owes_second: signing in takes a second factor as well.
        rehashed: the same password with today's costs, where that differs.
    """

    attempt: str
    user_id: int | None = None
    digest: str = ""
    rehashed: str = ""
    owes_second: bool = False


def dead_link(purpose: LinkPurpose) -> NotFound:
    """Return the error for a link that is unknown, used or expired, with where to get another."""
    remedy = {
        LinkPurpose.VERIFY: ("Have a new one sent in your settings.", "/settings/profile"),
        LinkPurpose.RESET: ("Ask for a new one.", "/reset"),
        LinkPurpose.STAFF: ("Ask whoever invited you for a new one, or sign in.", "/login"),
    }
    words, url = remedy[purpose]
    return NotFound("link_dead", f"This link was used already, is too old, or is mistyped. {words}", url=url)


def minutes(purpose: LinkPurpose) -> int:
    """Return for how many minutes a link of a purpose can be used."""
    return int(LINK_LIFE[purpose].total_seconds() // 60)


def compose_verify(*, base_url: str, secret: str) -> Mail:
    """Write the mail that asks somebody to confirm their address."""
    return letter(
        "verify", "Confirm your e-mail address",
        "an account was opened with this address. Please confirm that it is yours:",
        f"{base_url}/signup/verify/{secret}",
        f"The link works for {minutes(LinkPurpose.VERIFY)} minutes. You can have a new one sent in your settings.",
        "If you opened no account, ignore this mail and do not confirm. Without it the account cannot sign a license.",
        base_url=base_url, secret=True,
    )  # fmt: skip


def compose_exists(*, base_url: str, closed: bool) -> Mail:
    """Write the mail to somebody who signs up with an address that has an account."""
    todo = (
        "That account is closed. Please write to the people who run this portal."
        if closed
        else f"You can sign in at {base_url}/login , or choose a new password at {base_url}/reset if you lost yours."
    )
    return letter(
        "signup_known", "You already have an account",
        "somebody, probably you, just tried to open an account with this address. It has one, so none was made.", todo,
        "If it was not you, you need do nothing: whoever it was learned nothing from the page.", base_url=base_url,
    )  # fmt: skip


def compose_reset(*, base_url: str, secret: str) -> Mail:
    """Write the mail that lets somebody choose a new password."""
    return letter(
        "reset", "Choose a new password",
        "somebody, probably you, asked for a new password for your account. Choose one here:",
        f"{base_url}/reset/{secret}",
        f"The link works once, for {minutes(LinkPurpose.RESET)} minutes. Afterwards you are signed out everywhere.",
        "If you did not ask for it, ignore this mail; your password stays as it is.", base_url=base_url, secret=True,
    )  # fmt: skip


def compose_changed(*, base_url: str) -> Mail:
    """Write the mail that tells somebody that their password was changed."""
    return letter(
        "password_changed", "Your password was changed",
        "the password of your account was just changed, and other browsers were signed out.",
        f"If it was not you, choose a new one at once at {base_url}/reset and look at {base_url}/settings/tokens for "
        "access tokens that you did not make.", base_url=base_url,
    )  # fmt: skip
