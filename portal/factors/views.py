"""Pages of second factors: the second step of signing in, setting factors up, and taking them away."""

from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid, PortalError, TooMany
from portal.factors import rules, service
from portal.factors.forms import AppForm, CodeForm, PasskeyForm
from portal.logins import service as logins
from portal.logins.models import LoginSession
from portal.logins.rules import local_path
from portal.logins.views import enter, reference
from portal.passkeys import service as passkeys
from portal.passkeys.rules import Purpose, works_at
from portal.web.app import actor, app_service, db, settings
from portal.web.guard import member, public
from portal.web.headers import allow_script

bp = Blueprint("factors", __name__)
SECURITY = "/settings/security"
SCRIPT = "passkeys.js"


@bp.route("/login/second", methods=["GET", "POST"])
@public(entry=True)
def second() -> ResponseReturnValue:
    """Take the second factor of somebody who has proved the first, which alone signs nobody in."""
    login = logins.waiting(db(), reference=reference(), pepper=settings().pepper, now=utcnow())
    target = local_path(request.values.get("next", ""))
    if login is None:
        return redirect(url_for("identity.login", next=target), 303)
    form, status, headers = CodeForm(), 200, {}
    if request.method == "POST":
        try:
            return enter(redirect(target, 303), prove(login, form))
        except (Invalid, TooMany) as error:
            form.take(error)
            status, headers = error.status, waits(error)
    form.next.data = target
    asked = asked_of(db().get_one(User, login.user_id))
    page = make_response(render_template("factors/second.html", form=form, **asked), status, headers)
    return allow_script(page, SCRIPT)


def prove(login: LoginSession, form: CodeForm) -> str:
    """Prove somebody by a passkey or a code that they sent, and return the new reference of their login session."""
    common: dict[str, Any] = {"login": login, "pepper": settings().pepper, "now": utcnow()}
    if credential := form.read("credential"):
        return service.prove_by_passkey(db(), credential=credential, doors=app_service("passkeys"), **common)
    if not form.read("code"):
        raise Invalid("code_missing", "Type a code.", field="code")
    return service.prove_by_code(
        db(), code=form.read("code"), locking=app_service("vault"), base_url=settings().base_url, **common
    )


def waits(error: PortalError) -> dict[str, str]:
    """Return the header that says when it makes sense to try again."""
    return {"Retry-After": str(error.retry_after)} if isinstance(error, TooMany) else {}


def asked_of(person: User) -> dict[str, Any]:
    """Return what a page needs that asks somebody for their second factor."""
    factors = service.factors_of(db(), user_id=person.id)
    options = ""
    if factors.passkeys and works_at(settings().base_url):
        options = passkeys.ask_for_use(
            db(), user=person, purpose=Purpose.PROVE, doors=app_service("passkeys"), pepper=settings().pepper,
            now=utcnow(),
        )  # fmt: skip
    return {"factors": factors, "options": options}


@bp.route("/settings/security/app", methods=["GET", "POST"])
@member(writes=True, fresh=True, enrolls=True)
def app() -> ResponseReturnValue:
    """Show the seed of a new authenticator app, and take the app's first code."""
    form, vault = AppForm(), app_service("vault")
    if form.validate_on_submit():
        try:
            value, codes = service.confirm_app(
                db(), by=actor(), code=form.read("code"), locking=vault, pepper=settings().pepper,
                base_url=settings().base_url, now=utcnow(),
            )  # fmt: skip
            return _added(value, codes, "Your authenticator app is set up.")
        except (Invalid, TooMany) as error:
            form.take(error)
    seed = service.seed_for(db(), by=actor(), locking=vault, now=utcnow())
    address = rules.seed_address(seed, account=_person().profile.email, issuer=_issuer())
    page = render_template(
        "factors/app.html", form=form, seed=rules.seed_text(seed), address=address,
        code=app_service("square_code")(address),
    )  # fmt: skip
    return page, 422 if form.errors else 200


def _person() -> User:
    return accounts.find(db(), ref=actor().public_id)


def _issuer() -> str:
    """Return how an app names this portal beside others: by its address."""
    return settings().base_url.partition("://")[2]


@bp.route("/settings/security/passkeys", methods=["GET", "POST"])
@member(fresh=True, enrolls=True)
def passkey() -> ResponseReturnValue:
    """Ask a browser for a new passkey, and keep what it made."""
    form, status = PasskeyForm(), 200
    if request.method == "POST":
        try:
            value, codes = service.add_passkey(
                db(), by=actor(), credential=form.read("credential"), name=form.read("name"),
                doors=app_service("passkeys"), pepper=settings().pepper, base_url=settings().base_url, now=utcnow(),
            )  # fmt: skip
            return _added(value, codes, "Your passkey is set up.")
        except (Invalid, Conflict) as error:
            form.take(error)
            status = error.status
    options = ""
    if works_at(settings().base_url):
        options = passkeys.ask_for_new(
            db(), user=_person(), doors=app_service("passkeys"), pepper=settings().pepper, now=utcnow()
        )
    form.credential.data = ""
    page = make_response(render_template("factors/passkey.html", form=form, options=options), status)
    return allow_script(page, SCRIPT)


def _added(value: str, codes: list[str], words: str) -> Response:
    """Go back to the overview; or show new recovery codes this once, which no redirect would survive."""
    flash(words, "success")
    page = make_response(render_template("factors/codes.html", codes=codes)) if codes else redirect(SECURITY, 303)
    return enter(page, value, anew=False)


@bp.route("/settings/security/codes", methods=["GET", "POST"])
@member(fresh=True, enrolls=True)
def codes() -> ResponseReturnValue:
    """Make new recovery codes in place of those before, and show them this once."""
    if not service.has_any(db(), user_id=actor().id):
        return redirect(SECURITY, 303)
    made = None
    if request.method == "POST":
        made = service.make_codes(db(), by=actor(), pepper=settings().pepper, now=utcnow())
    return render_template("factors/codes.html", codes=made)


@bp.route("/settings/security/factors/<ref>/remove", methods=["GET", "POST"])
@member(fresh=True)
def remove(ref: str) -> ResponseReturnValue:
    """Ask whether a second factor shall be removed, and remove it."""
    if request.method == "POST":
        value = service.remove(
            db(), by=actor(), ref=ref, pepper=settings().pepper, base_url=settings().base_url, now=utcnow()
        )
        flash("It is removed, and other browsers are signed out.", "success")
        return enter(redirect(SECURITY, 303), value, anew=False)
    what = service.name_of(db(), user_id=actor().id, ref=ref)
    return render_template("factors/remove.html", what=what, factors=service.factors_of(db(), user_id=actor().id))
