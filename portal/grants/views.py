"""The page on which a person lets a program act for them, and the list of those that they let."""

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.adapters.authorization import Door
from portal.adapters.authorization_wire import Answer, Asked
from portal.core.clock import utcnow
from portal.grants import rules, service
from portal.oauth import service as oauth
from portal.oauth.rules import signed_scopes
from portal.programs import service as programs
from portal.web.app import actor, app_service, db, settings
from portal.web.guard import member
from portal.web.headers import allow_form

bp = Blueprint("grants", __name__)


@bp.route("/oauth/authorize", methods=["GET", "POST"])
@member
def authorize() -> ResponseReturnValue:
    """Show which program asks for what, and send the visitor back with what they decide."""
    door: Door = app_service("authorization")
    desk = service.Desk(
        db(), pepper=settings().pepper, base_url=settings().base_url, now=utcnow(), keys=app_service("statement_keys"),
        by=actor(),
    )  # fmt: skip
    call, server = door.call(request, of_body=False), door.server(desk)
    found = server.asked(call)
    if isinstance(found, Answer):
        return redirect(found.location, 303)
    decision = request.form.get("decision")
    if request.method == "POST" and decision in {"allow", "deny"}:
        return redirect(server.answer(call, agreed=decision == "allow").location, 303)
    return allow_form(make_response(_consent(found)), door.origin_of(found.redirect_uri))


def _consent(asked: Asked) -> str:
    now, base = utcnow(), settings().base_url
    scopes = " ".join(asked.scopes)
    return render_template(
        "grants/consent.html", program=programs.find(db(), ref=asked.client_id), asked=asked, words=rules.SCOPE_WORDS,
        here=request.full_path, missing=oauth.missing(db(), by=actor(), scopes=scopes, now=now, base_url=base),
        models=oauth.renewable(db(), by=actor(), now=now, base_url=base) if signed_scopes(asked.scopes) else [],
        days=rules.REFRESH_LIFE.days,
    )  # fmt: skip


@bp.get("/settings/programs")
@member
def index() -> ResponseReturnValue:
    """List the programs that may act for the visitor."""
    given = service.given_by(db(), user_id=actor().id, now=utcnow())
    return render_template("grants/programs.html", given=given, words=rules.SCOPE_WORDS)


@bp.route("/settings/programs/<ref>/end", methods=["GET", "POST"])
@member
def end(ref: str) -> ResponseReturnValue:
    """Ask whether a program shall no longer act for the visitor, and end it at once."""
    if request.method == "POST":
        program = service.end_for_person(db(), by=actor(), ref=ref, now=utcnow())
        flash(f"{program.name} no longer acts for you.", "success")
        return redirect(url_for(".index"), 303)
    return render_template("grants/end.html", program=service.find_given(db(), by=actor(), ref=ref))
