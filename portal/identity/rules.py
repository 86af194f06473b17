"""Passwords, one-time links, the life of a login session, and the mails that go with them."""

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from ipaddress import ip_address, ip_network
from math import ceil
from typing import Protocol

from portal.accounts.rules import About, check_about, check_email
from portal.core.errors import Invalid, NotFound, TooMany

PASSWORD_MIN = 15
PASSWORD_MAX = 128
IDLE = {False: timedelta(hours=12), True: timedelta(minutes=30)}
ABSOLUTE = {False: timedelta(days=14), True: timedelta(hours=12)}
TOUCH_AFTER = timedelta(minutes=1)
FAILURE_WINDOW = timedelta(minutes=15)
FREE_FAILURES = 5
LONGEST_DELAY = 60
KEPT = timedelta(days=30)
REF_LENGTH = 16
MAILS_PER_HOUR = 5
AGENT_MAX = 300
PATH_MAX = 2000
PREFIX = {4: 24, 6: 48}


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


def check_password(password: str, *, email: str = "") -> None:
    """Raise `Invalid` for a password that is too short, too long, or the person's own address."""
    if len(password) < PASSWORD_MIN:
        message = f"Choose a password of at least {PASSWORD_MIN} characters; a phrase is fine."
        raise Invalid("password_short", message, field="password")
    if len(password) > PASSWORD_MAX:
        raise Invalid("password_long", f"A password has at most {PASSWORD_MAX} characters.", field="password")
    if password.casefold() == email.casefold() or len(set(password)) < 5:  # noqa: PLR2004
        raise Invalid("password_weak", "Choose a password that is harder to guess.", field="password")


def session_alive(*, created_at: datetime, last_used_at: datetime, is_staff: bool, now: datetime) -> bool:
    """Say whether a login session still counts: used lately enough, and not too old."""
    return now - last_used_at < IDLE[is_staff] and now - created_at < ABSOLUTE[is_staff]


def login_delay(failures: int, last_at: datetime | None, now: datetime) -> int:
    """Return whole seconds to wait before the next attempt: a delay that grows, never a lock-out.

    Args:
        failures: failed attempts within `FAILURE_WINDOW`.
        last_at: when the last one was.
        now: the present instant.
    """
    if failures < FREE_FAILURES or last_at is None:
        return 0
    wait = timedelta(seconds=min(2 ** min(failures - FREE_FAILURES, 10), LONGEST_DELAY))
    return max(0, ceil((last_at + wait - now).total_seconds()))


class Hashing(Protocol):
    """What turns passwords into digests."""

    def hash(self, password: str) -> str:
        """Return the digest of a password."""

    def verify(self, digest: str, password: str) -> bool:
        """Say whether a password belongs to a digest."""

    def verify_nobody(self, password: str) -> bool:
        """Take as long as `verify` and say no."""

    def needs_rehash(self, digest: str) -> bool:
        """Say whether a digest should be made anew."""


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
    check_password(password, email=address)
    return Applicant(address, about, hasher.hash(password))


@dataclass(frozen=True)
class Proof:
    """What came of comparing a password: whose it is, or nobody's.

    Args:
        attempt: names the address and the network from which it was tried; failures are counted by it.
        digest: the digest that the password was compared with.
        rehashed: the same password with today's costs, where that differs.
    """

    attempt: str
    user_id: int | None = None
    digest: str = ""
    rehashed: str = ""


def check_delay(failures: int, last_at: datetime | None, now: datetime) -> None:
    """Raise `TooMany` while the next attempt has to wait."""
    seconds = login_delay(failures, last_at, now)
    if seconds:
        message = f"There were too many failed attempts. Wait {seconds} seconds and try again."
        raise TooMany("attempts_too_many", message, retry_after=seconds)


def dead_link(purpose: LinkPurpose) -> NotFound:
    """Return the error for a link that is unknown, used or expired, with where to get another."""
    remedy = {
        LinkPurpose.VERIFY: ("Have a new one sent in your settings.", "/settings/profile"),
        LinkPurpose.RESET: ("Ask for a new one.", "/reset"),
        LinkPurpose.STAFF: ("Ask whoever invited you for a new one, or sign in.", "/login"),
    }
    words, url = remedy[purpose]
    return NotFound("link_dead", f"This link was used already, is too old, or is mistyped. {words}", url=url)


class Secret(StrEnum):
    """What a sealed value stands for, so that one kind never passes for another."""

    LINK = "one-time link"
    SESSION = "login session"
    ATTEMPT = "attempt to sign in"


def new_secret() -> str:
    """Make the secret of a one-time link or the reference of a login session: 256 random bits."""
    return secrets.token_urlsafe(32)


def sealed(kind: Secret, value: str, pepper: bytes) -> str:
    """Return the only form in which a secret is stored."""
    return hmac.new(pepper, f"{kind.value}\0{value}".encode("utf-8", "surrogatepass"), sha256).hexdigest()


def network_of(address: str) -> str:
    """Return the neighborhood of a network address, of which attempts to sign in are counted together."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    return str(ip_network((found, PREFIX[found.version]), strict=False))


def local_path(target: str, default: str = "/") -> str:
    """Return where to go after signing in: a path of this portal, or the default for anything else."""
    leaves = not target.startswith("/") or target.startswith("//") or "\\" in target
    if leaves or len(target) > PATH_MAX or not target.isprintable() or " " in target:
        return default
    return default if re.match(r"/(login|logout)(?![^/?#])", target) else target


def device_of(user_agent: str) -> str:
    """Return a browser and its system in words that a person recognizes."""
    browsers = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
    systems = (
        ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"),
        ("CrOS", "ChromeOS"), ("Linux", "Linux"),
    )  # fmt: skip
    browser = next((name for mark, name in browsers if mark in user_agent), "")
    system = next((name for mark, name in systems if mark in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or "A browser that does not name itself"


@dataclass(frozen=True)
class Mail:
    """A message about a person's account."""

    kind: str
    subject: str
    body: str
    secret: bool = False


def _mail(kind: str, subject: str, *parts: str, base_url: str, secret: bool = False) -> Mail:
    closing = f"This mail was sent by the BLOOM Portal at {base_url} . Nobody reads answers to it."
    return Mail(kind, subject, "\n\n".join(["Hello,", *parts, closing]) + "\n", secret)


def minutes(purpose: LinkPurpose) -> int:
    """Return for how many minutes a link of a purpose can be used."""
    return int(LINK_LIFE[purpose].total_seconds() // 60)


def compose_verify(*, base_url: str, secret: str) -> Mail:
    """Write the mail that asks somebody to confirm their address."""
    return _mail(
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
    return _mail(
        "signup_known", "You already have an account",
        "somebody, probably you, just tried to open an account with this address. It has one, so none was made.", todo,
        "If it was not you, you need do nothing: whoever it was learned nothing from the page.", base_url=base_url,
    )  # fmt: skip


def compose_reset(*, base_url: str, secret: str) -> Mail:
    """Write the mail that lets somebody choose a new password."""
    return _mail(
        "reset", "Choose a new password",
        "somebody, probably you, asked for a new password for your account. Choose one here:",
        f"{base_url}/reset/{secret}",
        f"The link works once, for {minutes(LinkPurpose.RESET)} minutes. Afterwards you are signed out everywhere.",
        "If you did not ask for it, ignore this mail; your password stays as it is.", base_url=base_url, secret=True,
    )  # fmt: skip


def compose_changed(*, base_url: str) -> Mail:
    """Write the mail that tells somebody that their password was changed."""
    return _mail(
        "password_changed", "Your password was changed",
        "the password of your account was just changed, and other browsers were signed out.",
        f"If it was not you, choose a new one at once at {base_url}/reset and look at {base_url}/settings/tokens for "
        "access tokens that you did not make.", base_url=base_url,
    )  # fmt: skip
