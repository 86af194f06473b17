"""Identity providers: which there are, what they say of a person, and the visit to one from here and back."""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from portal.audit.rules import Event
from portal.core.errors import Conflict, NotFound, PortalError
from portal.logins.rules import Mail, letter, local_path

VISIT_LIFE = timedelta(minutes=15)
ORCID = "https://orcid.org"


@dataclass(frozen=True)
class IdentityLinked(Event, name="identity:provider:linked"):
    """A person may sign in through a provider from now on; who they are there stays out of the log."""

    issuer: str


@dataclass(frozen=True)
class IdentityUnlinked(Event, name="identity:provider:unlinked"):
    """A person may no longer sign in through a provider."""

    issuer: str


@dataclass(frozen=True)
class ReturnRefused(Event, name="identity:provider:refused"):
    """Somebody came back from a provider with an answer that was not taken."""

    reason: str


class Provider(Protocol):
    """A place where people prove who they are, as the operator names it."""

    @property
    def slug(self) -> str:
        """Its name in addresses."""

    @property
    def name(self) -> str:
        """How pages call it."""

    @property
    def issuer(self) -> str:
        """What it calls itself (`iss`); with the subject, it makes an identity."""


@dataclass(frozen=True)
class Claims:
    """What a provider says of a person; the identity is `issuer` and `subject`, never the address."""

    issuer: str
    subject: str
    name: str = ""
    email: str = ""

    @property
    def orcid(self) -> str:
        """The person's ORCID iD, where ORCID itself says so; empty otherwise."""
        return self.subject if self.issuer == ORCID else ""


@dataclass(frozen=True)
class Visit:
    """The way to a provider and back, kept in the browser's signed form cookie and nowhere else.

    Args:
        slug: to which provider.
        state, nonce, verifier: what the answer, the statement and the exchange of the code must match.
        began: when, in seconds of the epoch.
        next: where to go afterwards.
        owner: public id of the person who wants to link an identity; empty for signing in.
    """

    slug: str
    state: str
    nonce: str
    verifier: str
    began: int
    next: str = "/"
    owner: str = ""


class Door(Protocol):
    """What talks to a provider."""

    def address(self, *, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Return the provider's page on which the person proves who they are, with an S256 challenge (RFC 7636)."""

    def claims(self, *, redirect_uri: str, nonce: str, verifier: str, answer: Mapping[str, str]) -> Mapping[str, str]:
        """Exchange the code that came back, and return what the checked statement says, as `Claims` holds it."""


def refused(code: str, why: str) -> PortalError:
    """Return the error for an answer that is not taken."""
    return PortalError(code, f"{why} Start again from the sign-in page.", url="/login")


def named(providers: Iterable[Provider], slug: str) -> Provider:
    """Return a provider by its name in addresses."""
    for provider in providers:
        if provider.slug == slug:
            return provider
    raise NotFound("provider_not_found", "Nobody signs in here that way.", url="/login")


def packed(visit: Visit) -> list[Any]:
    """Return a visit as a cookie keeps it."""
    return [visit.slug, visit.state, visit.nonce, visit.verifier, visit.began, visit.next, visit.owner]


def returning(kept: Any, *, slug: str, state: str, now: datetime) -> Visit:
    """Return the visit that an answer belongs to.

    Args:
        kept: what the browser's cookie holds.
        slug, state: of the answer.

    Raises:
        PortalError: this browser began no such visit, or too long ago (RFC 6749 §10.12).
    """
    visit = Visit(*kept) if isinstance(kept, list) else None
    if visit is None or visit.slug != slug or not hmac.compare_digest(visit.state.encode(), state.encode()):
        raise refused("provider_state_foreign", "This answer belongs to no sign-in that this browser began.")
    if now.timestamp() - visit.began > VISIT_LIFE.total_seconds():
        raise refused("provider_visit_old", "That took longer than 15 minutes.")
    return replace(visit, next=local_path(visit.next))


def check_way_in(*, linked: int, has_password: bool, has_passkey: bool) -> None:
    """Raise `Conflict` where no way in is left."""
    if not linked and not has_password and not has_passkey:
        raise Conflict(
            "last_way_in", "It is the only way into your account. Set a password or a passkey first.",
            url="/settings/security",
        )  # fmt: skip


def compose_linked(*, name: str, linked: bool, base_url: str) -> Mail:
    """Write the mail that tells somebody that a way into their account was opened or closed."""
    what = "can now be used to sign in to your account" if linked else "no longer opens your account"
    return letter(
        "identity_changed", f"{name} {'opens' if linked else 'no longer opens'} your account",
        f"an account at {name} {what}.",
        f"If it was not you, look at {base_url}/settings/security at once and choose a new password.",
        base_url=base_url,
    )  # fmt: skip
