"""Pages on which people sign up, in and out, follow one-time links, and look after their security."""

from datetime import datetime
from functools import partial
from typing import Any

import flask
from flask import Blueprint, Request, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from portal.accounts import service as accounts
from portal.core.actor import ANONYMOUS, Actor
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.errors import Invalid, TooMany
from portal.identity import rules, service
from portal.identity.forms import AskResetForm, ChangePasswordForm, LoginForm, NewPasswordForm, SignUpForm
from portal.identity.rules import LinkPurpose
from portal.web.app import actor, afterwards, app_service, db, settings
from portal.web.guard import member, public

bp = Blueprint("identity", __name__)
WRONG = "This e-mail address and password do not belong together."


def cookie_name(chosen: Settings) -> str:
    """Return the name of the login cookie; over https, browsers then let no neighboring host set it."""
    return "__Host-portal" if chosen.is_secure else "portal"


def cookie_actor(database: Session, asked: Request, chosen: Settings, now: datetime) -> Actor:
    """Return the person whom a browser's cookie names, or nobody; the use is noted once the answer is made."""
    reference = asked.cookies.get(cookie_name(chosen), "")
    if not reference:
        return ANONYMOUS
    found = service.actor_for_session(database, reference=reference, pepper=chosen.pepper, now=now)
    if found.touch_due and found.login_session_id is not None:
        afterwards(partial(service.touch, login_session_id=found.login_session_id, now=now))
    return found


@bp.route("/signup", methods=["GET", "POST"])
@public(writes=False)  # hashing takes 20 ms, too long to hold the one write lock of SQLite
def sign_up() -> ResponseReturnValue:
    """Take an application for an account; the answer is the same whether or not the address has one."""
    form = SignUpForm()
    if form.validate_on_submit():
        who = rules.applicant(
            email=form.read("email"), password=form.password.data, name=form.read("name"),
            affiliation=form.read("affiliation"), country=form.read("country"), hasher=app_service("hasher"),
        )  # fmt: skip
        afterwards(partial(service.sign_up, who=who, **_links(), now=utcnow()))
        return redirect(url_for(".sign_up_sent"), 303)
    return render_template("identity/sign_up.html", form=form), 422 if form.errors else 200


@bp.get("/signup/sent")
@public
def sign_up_sent() -> ResponseReturnValue:
    """Say that a mail is on its way."""
    return render_template("identity/sent.html", minutes=rules.minutes(LinkPurpose.VERIFY), folder=_mail_folder())


@bp.route("/signup/verify/<secret>", methods=["GET", "POST"])
@public
def verify(secret: str) -> ResponseReturnValue:
    """Confirm an address by a button, since programs that scan mail open links."""
    if request.method == "POST":
        service.verify_address(db(), secret=secret, pepper=settings().pepper, now=utcnow())
        return redirect(url_for(".verify", secret=secret), 303)
    person = service.whose_link(db(), secret=secret, purpose=LinkPurpose.VERIFY, pepper=settings().pepper, now=utcnow())
    return render_template("identity/verify.html", person=person)


@bp.post("/settings/verify-address")
@member
def send_verification() -> ResponseReturnValue:
    """Send the mail that confirms an address again."""
    person = accounts.find(db(), ref=actor().public_id)
    if service.send_verification(db(), user=person, **_links(), now=utcnow()):
        flash(f"A new link is on its way to {person.profile.email}.", "success")
    elif person.profile.verified_at is None:
        flash("Several mails were sent within the hour. Look into your spam folder, or try again later.", "warning")
    return redirect(url_for("accounts.profile"), 303)


@bp.route("/login", methods=["GET", "POST"])
@public(writes=False)  # as above; what came of it is written afterwards
def login() -> ResponseReturnValue:
    """Sign a person in and bring them where they wanted to go."""
    form = LoginForm()
    target = rules.local_path(str(request.values.get("next", "")))
    if request.method == "GET" and actor().is_signed_in:
        return redirect(target, 303)
    form.next.data = target
    status, headers = 200, {}
    if form.validate_on_submit():
        try:
            if answer := _try_sign_in(form, target):
                return answer
            form.form_errors = [WRONG]
        except TooMany as error:
            form.take(error)
            status, headers = error.status, {"Retry-After": str(error.retry_after)}
    if form.errors and status == 200:  # noqa: PLR2004
        status = 422
    return render_template("identity/login.html", form=form), status, headers


def _try_sign_in(form: LoginForm, target: str) -> Response | None:
    """Return the answer that signs somebody in, or nothing where the password is wrong; either is recorded."""
    reference, now = rules.new_secret(), utcnow()
    proof = service.prove(
        db(), email=form.read("email"), password=form.password.data, network=_network(),
        hasher=app_service("hasher"), pepper=settings().pepper, now=now,
    )  # fmt: skip
    record = partial(service.sign_in, proof=proof, reference=reference, user_agent=_agent(), pepper=settings().pepper)
    afterwards(partial(record, now=now))
    return _enter(redirect(target, 303), reference) if proof.user_id else None


@bp.route("/logout", methods=["GET", "POST"])
@public
def logout() -> ResponseReturnValue:
    """Sign the visitor out of this browser."""
    if request.method != "POST":
        return render_template("identity/logout.html")
    service.sign_out(db(), by=actor(), now=utcnow())
    flask.session.clear()
    answer = redirect("/", 303)
    answer.delete_cookie(cookie_name(settings()), secure=settings().is_secure, httponly=True, samesite="Lax")
    if settings().is_secure:
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


@bp.route("/reset", methods=["GET", "POST"])
@public
def ask_reset() -> ResponseReturnValue:
    """Mail a link for a new password; the answer is the same whether or not the address has an account."""
    form = AskResetForm()
    if form.validate_on_submit():
        service.request_reset(db(), email=form.read("email"), **_links(), now=utcnow())
        return redirect(url_for(".reset_sent"), 303)
    return render_template("identity/ask_reset.html", form=form), 422 if form.errors else 200


@bp.get("/reset/sent")
@public
def reset_sent() -> ResponseReturnValue:
    """Say that a mail is on its way, if there is an account."""
    return render_template("identity/reset_sent.html", minutes=rules.minutes(LinkPurpose.RESET), folder=_mail_folder())


@bp.route("/reset/<secret>", methods=["GET", "POST"])
@public
def reset(secret: str) -> ResponseReturnValue:
    """Take a new password from whoever holds a mailed link."""
    form, pepper, now = NewPasswordForm(), settings().pepper, utcnow()
    person = service.whose_link(db(), secret=secret, purpose=LinkPurpose.RESET, pepper=pepper, now=now)
    if form.validate_on_submit():
        try:
            service.reset_password(
                db(), secret=secret, password=form.password.data, hasher=app_service("hasher"), **_links(), now=now
            )
            flash("Your new password is set. Sign in with it.", "success")
            return redirect(url_for(".login"), 303)
        except Invalid as error:
            form.take(error)
    return render_template("identity/reset.html", form=form, person=person), 422 if form.errors else 200


@bp.route("/invite/<secret>", methods=["GET", "POST"])
@public
def invite(secret: str) -> ResponseReturnValue:
    """Sign in somebody who was invited to the staff, by a button, since programs that scan mail open links."""
    pepper, now = settings().pepper, utcnow()
    if request.method == "POST":
        person, reference = service.accept_invite(db(), secret=secret, user_agent=_agent(), pepper=pepper, now=now)
        known = service.has_password(db(), user_id=person.id)
        return _enter(redirect("/staff/" if known else url_for(".security"), 303), reference)
    person = service.whose_link(db(), secret=secret, purpose=LinkPurpose.STAFF, pepper=pepper, now=now)
    return render_template("identity/invite.html", person=person)


@bp.route("/settings/security", methods=["GET", "POST"])
@member
def security() -> ResponseReturnValue:
    """Show where the visitor is signed in; change their password."""
    form = ChangePasswordForm()
    if form.validate_on_submit():
        try:
            return _change_password(form)
        except (Invalid, TooMany) as error:
            form.take(error)
    rows = [
        (login, rules.device_of(login.user_agent), login.id == actor().login_session_id)
        for login in service.sessions_of(db(), user_id=actor().id, now=utcnow())
    ]
    page = render_template(
        "identity/security.html", form=form, rows=rows, known=service.has_password(db(), user_id=actor().id)
    )
    return page, 422 if form.errors else 200


def _change_password(form: ChangePasswordForm) -> Response:
    now = utcnow()
    service.change_password(
        db(), by=actor(), current=form.current.data or "", password=form.password.data, network=_network(),
        hasher=app_service("hasher"), **_links(), now=now,
    )  # fmt: skip
    reference = service.open_session(
        db(), user_id=actor().id, means="password", user_agent=_agent(), pepper=settings().pepper, now=now
    )
    answer = _enter(redirect(url_for(".security"), 303), reference)
    flash("Your password is set. Other browsers are signed out.", "success")
    return answer


@bp.post("/settings/security/end")
@member
def end_sessions() -> ResponseReturnValue:
    """End one of the visitor's login sessions, or all but this one."""
    if ref := request.form.get("ref", ""):
        service.end_one(db(), by=actor(), ref=ref, now=utcnow())
        flash("That browser is signed out.", "success")
    else:
        count = service.end_others(db(), by=actor(), now=utcnow())
        flash("All other browsers are signed out." if count else "There was no other browser to sign out.", "success")
    return redirect(url_for(".security"), 303)


def _enter(answer: Response, reference: str) -> Response:
    """Hand a browser its login session; what forms knew of the visitor before is forgotten."""
    flask.session.clear()
    chosen, life = settings(), int(rules.ABSOLUTE[False].total_seconds())
    answer.set_cookie(
        cookie_name(chosen), reference, max_age=life, path="/", secure=chosen.is_secure, httponly=True, samesite="Lax"
    )
    return answer


def _links() -> dict[str, Any]:
    """Return what making and checking one-time links needs."""
    return {"pepper": settings().pepper, "base_url": settings().base_url}


def _network() -> str:
    return rules.network_of(request.remote_addr or "")


def _agent() -> str:
    return request.headers.get("User-Agent", "")


def _mail_folder() -> str:
    """Return where mail is written instead of sent, for the hint that developers need."""
    chosen = settings()
    return str(chosen.home / "mail") if chosen.mail_url.startswith("file:") and not chosen.is_production else ""
