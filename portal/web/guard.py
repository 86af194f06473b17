"""Who may call a view: a mark on each one, and refusal of whatever has none."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar, overload
from urllib.parse import urlsplit

from flask import Request, current_app
from flask_wtf.csrf import ValidationError, validate_csrf

from portal.core.actor import Actor
from portal.core.errors import Refused, StepUp, Unauthenticated

V = TypeVar("V", bound=Callable[..., Any])
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Kind(StrEnum):
    """Who a view is for."""

    PUBLIC = "public"
    MEMBER = "member"
    STAFF = "staff"
    TOKEN = "token"  # noqa: S105
    STATIC = "static"


@dataclass(frozen=True)
class Mark:
    """What a view demands of its caller.

    Args:
        kind: who it is for.
        permission: for staff views.
        scope: scope that an access token must carry, where one is used.
        writes: whether it writes to the database; by default, what is not a GET does. Says so for a GET that opens a
            ceremony, and for a POST whose record goes elsewhere.
        streams: its body may take hours to come, so no transaction is kept open for it; the view opens brief ones.
        fresh: it is grave, so whoever calls must have proved within 15 minutes who they are.
        entry: sending it is an attempt to get in, of which a neighborhood has few.
        unlimited: it is never refused for how often it is called, since clients give up at once.
        clients: its callers prove which program they are, in its own words; they carry no person's access token.
        enrolls: staff who still have to set up a second factor may call it; all else waits until they have.
    """

    kind: Kind
    permission: str = ""
    scope: str = ""
    writes: bool | None = None
    streams: bool = False
    fresh: bool = False
    enrolls: bool = False
    entry: bool = False
    unlimited: bool = False
    clients: bool = False

    @property
    def is_page(self) -> bool:
        """Say whether people in browsers are answered: cookies count, and forms need their one-time value."""
        return self.kind in {Kind.PUBLIC, Kind.MEMBER, Kind.STAFF}


def _marker(mark: Mark) -> Callable[[V], V]:
    def apply(view: V) -> V:
        view.portal_mark = mark  # type: ignore[attr-defined]
        return view

    return apply


@overload
def public(view: V) -> V: ...
@overload
def public(*, writes: bool | None = None, entry: bool = False) -> Callable[[V], V]: ...
def public(view: V | None = None, *, writes: bool | None = None, entry: bool = False) -> Any:
    """Mark a page for everybody."""
    apply = _marker(Mark(Kind.PUBLIC, writes=writes, entry=entry))
    return apply if view is None else apply(view)


@overload
def member(view: V) -> V: ...
@overload
def member(*, writes: bool | None = None, fresh: bool = False, enrolls: bool = False) -> Callable[[V], V]: ...
def member(view: V | None = None, *, writes: bool | None = None, fresh: bool = False, enrolls: bool = False) -> Any:
    """Mark a page for people who are signed in, suspended ones included; what they may do is decided beyond."""
    apply = _marker(Mark(Kind.MEMBER, writes=writes, fresh=fresh, enrolls=enrolls))
    return apply if view is None else apply(view)


def staff(permission: StrEnum, *, writes: bool | None = None, fresh: bool = False) -> Callable[[V], V]:
    """Mark a page for staff who hold a permission."""
    return _marker(Mark(Kind.STAFF, permission=permission.value, writes=writes, fresh=fresh))


def token(
    scope: StrEnum | None = None, *, writes: bool | None = None, streams: bool = False, unlimited: bool = False,
    clients: bool = False,
) -> Callable[[V], V]:  # fmt: skip
    """Mark an address for programs: an access token is optional unless a scope is named; cookies do not count."""
    name = scope.value if scope else ""
    return _marker(Mark(Kind.TOKEN, scope=name, writes=writes, streams=streams, unlimited=unlimited, clients=clients))


def admit(mark: Mark, actor: Actor, now: datetime) -> None:
    """Raise unless the actor fulfils the mark."""
    if mark.kind is Kind.TOKEN:
        if actor.token_error is not None:
            raise Unauthenticated(actor.token_error, "Invalid credentials in Authorization header")
        if mark.scope and not actor.is_signed_in:
            raise Unauthenticated("not_signed_in", "Send an access token: Authorization: Bearer lmp_…")
        if mark.scope and mark.scope not in actor.scopes:
            raise Refused("scope_missing", f"This access token lacks the scope {mark.scope}.")
        if mark.scope and actor.frozen:
            message = (
                "This access token is frozen for a while. The notice that you were sent says why, and how to appeal."
            )
            raise Refused("access_token_frozen", message)
    elif mark.kind in {Kind.MEMBER, Kind.STAFF} and not actor.is_signed_in:
        raise Unauthenticated("not_signed_in", "Sign in to see this page.")
    if actor.withheld and mark.kind in {Kind.MEMBER, Kind.STAFF} and not mark.enrolls:
        message = "Staff sign in with a second factor. Set one up first; until then all else is closed to you."
        raise StepUp("second_factor_needed", message, url="/settings/security")
    if mark.kind is Kind.STAFF and mark.permission not in actor.permissions:
        raise Refused("permission_missing", "Your role does not include this part of the console.")
    if mark.fresh:
        check_fresh(actor, now)


def check_fresh(actor: Actor, now: datetime) -> None:
    """Raise `StepUp` unless the actor proved within 15 minutes who they are."""
    if not actor.is_fresh(now):
        message = "This is grave, so prove once more that it is you. Then go back and send it again."
        raise StepUp("proof_old", message, url="/login/prove")


def _host(origin: str) -> str:
    """Return the host that an Origin header names, or nothing where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def check_origin(mark: Mark, request: Request) -> None:
    """Raise unless a form post comes from one of our own pages."""
    if not mark.is_page or request.method in SAFE:
        return
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    foreign = origin is not None and _host(origin) != request.host
    if site not in {"same-origin", "none"} or foreign:
        raise Refused("foreign_form", "This form was sent from another site. Open the page here and try again.")
    given, config = request.form.get("csrf_token"), current_app.config
    if not any(_holds(given, key) for key in (config["SECRET_KEY"], *config["SECRET_KEY_FALLBACKS"])):
        message = "This form is too old or was opened in another browser. Open the page again and send it anew."
        raise Refused("form_expired", message, status=400)


def _holds(value: str | None, key: str) -> bool:
    """Say whether a key signed the value of a form; the library itself would take the newest key alone."""
    try:
        validate_csrf(value, secret_key=key)
    except ValidationError:
        return False
    return True
