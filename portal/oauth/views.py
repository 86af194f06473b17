"""The page of a person's access tokens: make one, see which there are, end one; and the page that lets terminals in."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.access.rules import Reason
from portal.access.views import checklist
from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid, TooMany
from portal.core.networks import network_of
from portal.oauth import rules, service
from portal.oauth.forms import SCOPE_WORDS, DeviceForm, TokenForm, TrialForm
from portal.oauth.models import DeviceCode
from portal.tokens import rules as tokens_rules
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import Scope, unusable
from portal.web.app import actor, db, settings
from portal.web.guard import member

bp = Blueprint("oauth", __name__)
UNUSABLE = {**tokens_rules.UNUSABLE, "access_token_foreign": "This access token belongs to another account."}


@bp.route("/settings/tokens", methods=["GET", "POST"])
@member
def index() -> ResponseReturnValue:
    """List the visitor's access tokens, and make one whose secret is shown this once."""
    renewable = service.renewable(db(), by=actor(), now=utcnow(), base_url=settings().base_url)
    names = [model.full_name for model, _ in renewable]
    form, made, secret = TokenForm(), None, ""
    form.offer(names, actor().permissions)
    if form.validate_on_submit():
        try:
            # Answered with the page instead of a redirect: to survive one, the secret would have to be kept somewhere.
            # Sending the form again makes no second access token, since its name is taken by then.
            made, secret = _mint(form)
            form = TokenForm(formdata=None)
            form.offer(names, actor().permissions)
        except (Invalid, Conflict) as error:
            form.take(error)
    open_ = any(decision.allowed for _, decision in renewable)
    missing = () if open_ else service.reasons_of([decision for _, decision in renewable])
    page = render_template("oauth/tokens.html", form=form, made=made, secret=secret, missing=missing, **_owned())
    return page, 422 if form.errors else 200


def _mint(form: TokenForm) -> tuple[AccessToken, str]:
    name, now = form.read("name"), utcnow()
    service.check_name_free(db(), by=actor(), name=name, now=now)
    return service.mint(
        db(), by=actor(), name=name, scopes=form.scopes.data, models=form.models.data, days=form.days.data,
        pepper=settings().pepper, base_url=settings().base_url, now=now,
    )  # fmt: skip


def _owned() -> dict[str, Any]:
    owned, now = tokens.of_person(db(), user_id=actor().id), utcnow()
    states = {t.id: (unusable(t.state, t.expires_at, now) or "live").removeprefix("access_token_") for t in owned}
    models = service.models_of(db(), owned=owned)
    sightings = tokens.sightings(db(), token_ids=[t.id for t in owned])
    return {"owned": owned, "states": states, "models": models, "sightings": sightings, "base_url": _base()}


@bp.route("/settings/tokens/test", methods=["GET", "POST"])
@member(writes=False)
def test() -> ResponseReturnValue:
    """Say what an access token of the visitor opens, with every reason, before a program finds out."""
    form, trial = TrialForm(), None
    form.offer(model.full_name for model, _ in service.renewable(db(), by=actor(), now=utcnow(), base_url=_base()))
    if request.method == "GET" and request.args.get("model"):
        form.model.data = request.args["model"]
    if form.validate_on_submit():
        trial = service.try_out(
            db(), by=actor(), secret=str(form.access_token.data).strip(), model=form.read("model"),
            pepper=settings().pepper, base_url=_base(), now=utcnow(),
        )  # fmt: skip
        if trial.error:
            form.add_error("access_token", UNUSABLE[trial.error])
    items = [(decision, checklist(decision)) for decision in trial.decisions] if trial else []
    page = render_template("oauth/test.html", form=form, trial=trial, items=items, base_url=_base())
    return page, 422 if form.errors else 200


def _base() -> str:
    return settings().base_url


@bp.route("/settings/tokens/<ref>/revoke", methods=["GET", "POST"])
@member
def revoke(ref: str) -> ResponseReturnValue:
    """Ask whether an access token shall end, and end it at once."""
    if request.method == "POST":
        tokens.revoke(db(), by=actor(), ref=ref, now=utcnow())
        return redirect(url_for(".index"), 303)
    return render_template("oauth/revoke.html", token=tokens.find(db(), by=actor(), ref=ref))


@bp.route("/device", methods=["GET", "POST"])
@member(writes=True)  # a wrong code is counted, however it comes
def device() -> ResponseReturnValue:
    """Ask for the code that a terminal shows; show who asks for what, and let the terminal in or turn it away."""
    form = DeviceForm() if request.method == "POST" else DeviceForm(request.args)
    if not form.read("user_code"):
        if request.method == "POST":
            form.add_error("user_code", "Type the code that your terminal shows.")
        return render_template("oauth/device.html", form=form), 422 if form.errors else 200
    try:
        row = service.look(db(), by=actor(), user_code=form.read("user_code"), now=utcnow())
    except TooMany as error:
        form.take(error)
        return render_template("oauth/device.html", form=form), error.status, {"Retry-After": str(error.retry_after)}
    if row is None:
        form.add_error("user_code", "No terminal shows this code. Compare it letter by letter; it lasts ten minutes.")
        return render_template("oauth/device.html", form=form), 422
    return _decide(form, row) if form.read("decision") and request.method == "POST" else _waiting(row)


def _waiting(row: DeviceCode) -> ResponseReturnValue:
    """Show what a terminal asks for; after the code was typed, at the address that its page has."""
    here = url_for(".device", user_code=rules.shown_code(row.user_code))
    if request.method == "POST":
        return redirect(here, 303)
    missing = service.missing(db(), by=actor(), scopes=row.scopes, now=utcnow(), base_url=settings().base_url)
    return render_template("oauth/device_code.html", missing=_leading_back(missing, here), **_about(row))


def _decide(form: DeviceForm, row: DeviceCode) -> ResponseReturnValue:
    here = url_for(".device", user_code=rules.shown_code(row.user_code))
    if form.read("decision") == "deny":
        service.deny(db(), by=actor(), ref=row.public_id, now=utcnow())
    elif form.read("confirmed"):
        service.approve(db(), by=actor(), ref=row.public_id, base_url=settings().base_url, now=utcnow())
    else:
        return render_template("oauth/device_confirm.html", here=here, **_about(row))
    return redirect(here, 303)


def _about(row: DeviceCode) -> dict[str, Any]:
    """Return what a page says of a terminal."""
    network = network_of(request.remote_addr or "")
    return {
        "row": row, "code": rules.shown_code(row.user_code), "client": rules.CLIENTS[row.client_id],
        "program": rules.program_of(row.user_agent), "uses": [SCOPE_WORDS[Scope(s)] for s in row.scopes.split()],
        "days": rules.TOKEN_DAYS, "is_near": bool(network) and network == row.network, "network": network,
    }  # fmt: skip


def _leading_back(reasons: Sequence[Reason], here: str) -> list[Reason]:
    """Return reasons whose pages for signing lead back here afterwards."""
    back = urlencode({"next": here})
    return [replace(r, url=f"{r.url}?{back}") if r.url.endswith("/sign") else r for r in reasons]
