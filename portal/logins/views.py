"""The cookie of a login session, and the button that ends one."""

from datetime import datetime
from functools import partial

import flask
from flask import Blueprint, Request, flash, redirect, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from portal.core.actor import ANONYMOUS, Actor
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.networks import network_of
from portal.logins import rules, service
from portal.web.app import actor, afterwards, db, settings
from portal.web.guard import member

bp = Blueprint("logins", __name__)


def cookie_name(chosen: Settings) -> str:
    """Return the name of the login cookie; over https, browsers then let no neighboring host set it."""
    return "__Host-portal" if chosen.is_secure else "portal"


def reference() -> str:
    """Return the reference of a login session that the visitor's browser sent, or nothing."""
    return request.cookies.get(cookie_name(settings()), "")


def cookie_actor(database: Session, asked: Request, chosen: Settings, now: datetime) -> Actor:
    """Return the person whom a browser's cookie names, or nobody; the use is noted once the answer is made."""
    value = asked.cookies.get(cookie_name(chosen), "")
    if not value:
        return ANONYMOUS
    found = service.actor_for_session(
        database, reference=value, pepper=chosen.pepper, staff_level=chosen.staff_level, now=now
    )
    if found.touch_due and found.login_session_id is not None:
        afterwards(partial(service.touch, login_session_id=found.login_session_id, now=now))
    return found


def enter(answer: Response, value: str, *, anew: bool = True) -> Response:
    """Hand a browser the reference of its login session.

    Args:
        anew: somebody comes in, so what forms knew of the visitor before is forgotten.
    """
    if anew:
        flask.session.clear()
    chosen, life = settings(), int(rules.ABSOLUTE[False].total_seconds())
    answer.set_cookie(
        cookie_name(chosen), value, max_age=life, path="/", secure=chosen.is_secure, httponly=True, samesite="Lax"
    )
    return answer


def leave(answer: Response) -> Response:
    """Take the login session from a browser."""
    flask.session.clear()
    answer.delete_cookie(cookie_name(settings()), secure=settings().is_secure, httponly=True, samesite="Lax")
    if settings().is_secure:
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


def network() -> str:
    """Return the neighborhood of the visitor's network address."""
    return network_of(request.remote_addr or "")


def agent() -> str:
    """Return how the visitor's browser names itself."""
    return request.headers.get("User-Agent", "")


@bp.post("/settings/security/end")
@member(enrolls=True)
def end() -> ResponseReturnValue:
    """End one of the visitor's login sessions, or all but this one."""
    if ref := request.form.get("ref", ""):
        service.end_one(db(), by=actor(), ref=ref, now=utcnow())
        flash("That browser is signed out.", "success")
    else:
        count = service.end_others(db(), by=actor(), now=utcnow())
        flash("All other browsers are signed out." if count else "There was no other browser to sign out.", "success")
    return redirect("/settings/security", 303)
