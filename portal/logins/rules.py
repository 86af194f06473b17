"""The life of a login session, the delay between attempts to get in, and the mails about an account."""

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from math import ceil

from portal.audit.rules import Event
from portal.core.actor import Level
from portal.core.errors import TooMany

IDLE = {False: timedelta(hours=12), True: timedelta(minutes=30)}
ABSOLUTE = {False: timedelta(days=14), True: timedelta(hours=12)}
HALF_LIFE = timedelta(minutes=10)
TOUCH_AFTER = timedelta(minutes=1)
FAILURE_WINDOW = timedelta(minutes=15)
FREE_FAILURES = 5
LONGEST_DELAY = 60
KEPT = timedelta(days=30)
REF_LENGTH = 16
AGENT_MAX = 300
PATH_MAX = 2000


@dataclass(frozen=True)
class ProvedAgain(Event, name="identity:login_session:proved"):
    """A person who was signed in proved once more who they are, by `means`."""

    means: str


class Secret(StrEnum):
    """What a sealed value stands for, so that one kind never passes for another."""

    LINK = "one-time link"
    SESSION = "login session"
    ATTEMPT = "attempt to sign in"
    RECOVERY = "recovery code"
    CHALLENGE = "passkey challenge"


def new_secret() -> str:
    """Make the secret of a one-time link or the reference of a login session: 256 random bits."""
    return secrets.token_urlsafe(32)


def sealed(kind: Secret, value: str, pepper: bytes) -> str:
    """Return the only form in which a secret is stored."""
    return hmac.new(pepper, f"{kind.value}\0{value}".encode("utf-8", "surrogatepass"), sha256).hexdigest()


def session_alive(*, created_at: datetime, last_used_at: datetime, level: Level, is_staff: bool, now: datetime) -> bool:
    """Say whether a login session still counts: used lately enough, and not too old.

    Args:
        level: one that waits for its second factor does so for `HALF_LIFE`.
    """
    if level is Level.NONE:
        return now - created_at < HALF_LIFE
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


def check_delay(failures: int, last_at: datetime | None, now: datetime) -> None:
    """Raise `TooMany` while the next attempt has to wait."""
    seconds = login_delay(failures, last_at, now)
    if seconds:
        message = f"There were too many failed attempts. Wait {seconds} seconds and try again."
        raise TooMany("attempts_too_many", message, retry_after=seconds)


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


def letter(kind: str, subject: str, *parts: str, base_url: str, secret: bool = False) -> Mail:
    """Write a mail about an account, with the words that every one begins and ends with."""
    closing = f"This mail was sent by the BLOOM Portal at {base_url} . Nobody reads answers to it."
    return Mail(kind, subject, "\n\n".join(["Hello,", *parts, closing]) + "\n", secret)
