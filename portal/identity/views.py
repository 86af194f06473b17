"""Pages on which people sign up, in and out, follow one-time links, and look after their security."""

from functools import partial
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from portal.accounts import service as accounts
from portal.core.actor import Level
from portal.core.clock import utcnow
from portal.core.errors import Invalid, TooMany
from portal.factors import service as factors
from portal.factors.forms import ProveForm
from portal.factors.views import SCRIPT, asked_of, waits
from portal.factors.views import prove as prove_by_factor
from portal.identity import rules, service
from portal.identity.forms import AskResetForm, ChangePasswordForm, LoginForm, NewPasswordForm, SignUpForm
from portal.identity.rules import LinkPurpose
from portal.logins import service as logins
from portal.logins.rules import device_of, local_path, new_secret
from portal.logins.views import agent, enter, leave, network
from portal.passkeys import service as passkeys
from portal.passkeys.rules import Purpose, works_at
from portal.web.app import actor, afterwards, app_service, db, settings
from portal.web.guard import member, public
from portal.web.headers import allow_script

bp = Blueprint("identity", __name__)
WRONG = "This e-mail address and password do not belong together."


@bp.route("/signup", methods=["GET", "POST"])
@public(writes=False, entry=True)  # hashing takes 20 ms, too long to hold the one write lock of SQLite
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
@public(entry=True)
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
@public(writes=False, entry=True)  # as above; what came of it is written afterwards
def login() -> ResponseReturnValue:
    """Sign a person in and bring them where they wanted to go, past their second factor if they have one."""
    form = LoginForm()
    target = local_path(str(request.values.get("next", "")))
    if request.method != "POST" and actor().is_signed_in:
        return redirect(target, 303)
    status, headers = 200, {}
    if form.validate_on_submit():
        try:
            if answer := _try_sign_in(form, target):
                return answer
            form.form_errors = [WRONG]
        except TooMany as error:
            form.take(error)
            status, headers = error.status, waits(error)
    if form.errors and status == 200:  # noqa: PLR2004
        status = 422
    return _login_page(form, target, status, headers)


def _login_page(form: LoginForm, target: str, status: int, headers: dict[str, str]) -> ResponseReturnValue:
    form.next.data, options = target, ""
    if works_at(settings().base_url):
        options = passkeys.ask_for_use(
            db(), user=None, purpose=Purpose.SIGN_IN, doors=app_service("passkeys"), pepper=settings().pepper,
            now=utcnow(),
        )  # fmt: skip
    page = render_template("identity/login.html", form=form, options=options)
    return allow_script(make_response(page, status, headers), SCRIPT)


def _try_sign_in(form: LoginForm, target: str) -> Response | None:
    """Return the answer that signs somebody in, or nothing where the password is wrong; either is recorded."""
    value, now = new_secret(), utcnow()
    proof = service.prove(
        db(), email=form.read("email"), password=form.password.data, network=network(),
        hasher=app_service("hasher"), pepper=settings().pepper, now=now,
    )  # fmt: skip
    record = partial(service.sign_in, proof=proof, reference=value, user_agent=agent(), pepper=settings().pepper)
    afterwards(partial(record, now=now))
    if proof.user_id is None:
        return None
    return enter(redirect(url_for("factors.second", next=target) if proof.owes_second else target, 303), value)


@bp.post("/login/passkey")
@public(entry=True)
def passkey_login() -> ResponseReturnValue:
    """Sign in whoever's passkey answered; on a device that knows its user, it is both factors at once."""
    target, form = local_path(request.form.get("next", "")), LoginForm(formdata=None)
    try:
        value = service.sign_in_by_passkey(
            db(), credential=request.form.get("credential", ""), doors=app_service("passkeys"), user_agent=agent(),
            pepper=settings().pepper, now=utcnow(),
        )  # fmt: skip
        return enter(redirect(target, 303), value)
    except Invalid as error:
        form.take(error)
        return _login_page(form, target, error.status, {})


@bp.route("/login/prove", methods=["GET", "POST"])
@member(enrolls=True)
def prove() -> ResponseReturnValue:
    """Ask somebody who is signed in to prove once more that it is they, and bring them back."""
    form, person, status = ProveForm(), accounts.find(db(), ref=actor().public_id), 200
    target, headers = local_path(request.values.get("next", "")), {}
    if request.method == "POST":
        try:
            return enter(redirect(target, 303), _prove(form), anew=False)
        except (Invalid, TooMany) as error:
            form.take(error)
            status, headers = error.status, waits(error)
    form.next.data = target
    known = service.has_password(db(), user_id=person.id)
    page = render_template("identity/prove.html", form=form, known=known, person=person, **asked_of(person))
    return allow_script(make_response(page, status, headers), SCRIPT)


def _prove(form: ProveForm) -> str:
    if form.read("credential") or form.read("code"):
        return prove_by_factor(logins.current(db(), by=actor()), form)
    return service.prove_by_password(
        db(), by=actor(), password=form.password.data or "", network=network(), hasher=app_service("hasher"),
        pepper=settings().pepper, now=utcnow(),
    )  # fmt: skip


@bp.route("/logout", methods=["GET", "POST"])
@public
def logout() -> ResponseReturnValue:
    """Sign the visitor out of this browser."""
    if request.method != "POST":
        return render_template("identity/logout.html")
    logins.sign_out(db(), by=actor(), now=utcnow())
    return leave(redirect("/", 303))


@bp.route("/reset", methods=["GET", "POST"])
@public(entry=True)
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
@public(entry=True)
def reset(secret: str) -> ResponseReturnValue:
    """Take a new password from whoever holds a mailed link."""
    form, pepper, now = NewPasswordForm(), settings().pepper, utcnow()
    person = service.whose_link(db(), secret=secret, purpose=LinkPurpose.RESET, pepper=pepper, now=now)
    form.least = rules.least(has_second=factors.has_any(db(), user_id=person.id))
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
@public(entry=True)
def invite(secret: str) -> ResponseReturnValue:
    """Sign in somebody who was invited to the staff, by a button, since programs that scan mail open links."""
    pepper, now = settings().pepper, utcnow()
    if request.method == "POST":
        person, value = service.accept_invite(db(), secret=secret, user_agent=agent(), pepper=pepper, now=now)
        if factors.has_any(db(), user_id=person.id):
            return enter(redirect(url_for("factors.second", next="/staff/"), 303), value)
        known = service.has_password(db(), user_id=person.id) and settings().staff_level is Level.ONE
        return enter(redirect("/staff/" if known else url_for(".security"), 303), value)
    person = service.whose_link(db(), secret=secret, purpose=LinkPurpose.STAFF, pepper=pepper, now=now)
    return render_template("identity/invite.html", person=person)


@bp.route("/settings/security", methods=["GET", "POST"])
@member(enrolls=True)
def security() -> ResponseReturnValue:
    """Show the visitor's password, second factors and login sessions; change their password."""
    form, owned = ChangePasswordForm(), factors.factors_of(db(), user_id=actor().id)
    form.least = rules.least(has_second=owned.any)
    if form.validate_on_submit():
        try:
            return _change_password(form)
        except (Invalid, TooMany) as error:
            form.take(error)
    rows = [
        (login, device_of(login.user_agent), login.id == actor().login_session_id)
        for login in logins.sessions_of(db(), user_id=actor().id, now=utcnow())
    ]
    page = render_template(
        "identity/security.html", form=form, rows=rows, known=service.has_password(db(), user_id=actor().id),
        factors=owned, passkeys=passkeys.passkeys_of(db(), user_id=actor().id), works=works_at(settings().base_url),
    )  # fmt: skip
    return page, 422 if form.errors else 200


def _change_password(form: ChangePasswordForm) -> Response:
    value = service.change_password(
        db(), by=actor(), current=form.current.data or "", password=form.password.data, network=network(),
        hasher=app_service("hasher"), **_links(), now=utcnow(),
    )  # fmt: skip
    flash("Your password is set. Other browsers are signed out.", "success")
    return enter(redirect(url_for(".security"), 303), value, anew=False)


def _links() -> dict[str, Any]:
    """Return what making and checking one-time links needs."""
    return {"pepper": settings().pepper, "base_url": settings().base_url}


def _mail_folder() -> str:
    """Return where mail is written instead of sent, for the hint that developers need."""
    chosen = settings()
    return str(chosen.home / "mail") if chosen.mail_url.startswith("file:") and not chosen.is_production else ""
