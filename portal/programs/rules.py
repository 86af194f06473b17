"""Programs of others that act for people who let them: names, addresses to send them back to, scopes."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import urlsplit

from portal.audit.rules import Event
from portal.core.errors import Invalid
from portal.core.machine import Machine

SECRET_PREFIX = "lms_"  # noqa: S105
NAME_MAX = 60
URI_MAX = 500
MOST_URIS = 10
URI = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")  # RFC 3986 without what ends an address early


class ProgramState(StrEnum):
    """Whether a program may still ask people to let it act for them."""

    LIVE = "live"
    ENDED = "ended"


class ProgramAction(StrEnum):
    """What happens to a program."""

    END = "end"


PROGRAM = Machine(
    "program", ProgramState.LIVE, {(ProgramState.LIVE, ProgramAction.END): ProgramState.ENDED}
)  # fmt: skip


@dataclass(frozen=True)
class ProgramRegistered(Event, name="oauth:program:registered"):
    """Staff let a program ask people for their permission, for these scopes."""

    scopes: str


@dataclass(frozen=True)
class ProgramSecretChanged(Event, name="oauth:program:secret_changed"):
    """A program was given another secret; the one before no longer holds."""


@dataclass(frozen=True)
class ProgramEnded(Event, name="oauth:program:ended"):
    """A program may no longer act for anybody."""


def check_name(name: str) -> str:
    """Return what a program is called, or raise `Invalid`; it stands on the page that asks people for permission."""
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise Invalid("program_name", f"Name it in 1 to {NAME_MAX} characters on one line.", field="name")
    return name


def check_homepage(address: str) -> str:
    """Return the page that says who is behind a program, or raise `Invalid`."""
    parts = _parts(address)
    if parts is None or parts[0] != "https":
        raise Invalid("program_homepage", "Give an address that begins with https:// .", field="homepage")
    return address


def check_redirect_uris(lines: str) -> tuple[str, ...]:
    """Return where a program may send people back, one address a line; later each is compared letter by letter.

    Only https, or a port of the person's own machine by its address of digits (RFC 8252 §7.3): a name such as
    ``localhost`` may lead elsewhere.

    Raises:
        Invalid: names the first line that cannot be taken.
    """
    found = tuple(dict.fromkeys(line.strip() for line in lines.splitlines() if line.strip()))
    if not 0 < len(found) <= MOST_URIS:
        raise Invalid("redirect_uris", f"Give 1 to {MOST_URIS} addresses, one a line.", field="redirect_uris")
    for one in found:
        parts = _parts(one)
        if parts is None or not (parts[0] == "https" or (parts[0] == "http" and _is_own_machine(parts[1]))):
            message = f"{one[:80]!r} cannot be taken: https://, or http://127.0.0.1 with a port, and no # in it."
            raise Invalid("redirect_uris", message, field="redirect_uris")
    return found


def _parts(address: str) -> tuple[str, str] | None:
    """Return scheme and host of an address that says nothing else than where it leads."""
    if len(address) > URI_MAX or not URI.fullmatch(address):
        return None
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return None
    plain = bool(host) and parts.username is None and parts.password is None and "@" not in parts.netloc
    return (parts.scheme, host) if plain else None


def _is_own_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_scopes(asked: Collection[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes that a program may ask people for, in the order in which pages list them."""
    if not asked or set(asked) - set(known):
        raise Invalid("program_scopes", "Choose at least one scope among those in the list.", field="scopes")
    return tuple(scope for scope in known if scope in asked)
