"""The page of a person's access tokens: make one, see which there are, end one."""

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid
from portal.oauth import service
from portal.oauth.forms import TokenForm
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import unusable
from portal.web.app import actor, db, settings
from portal.web.guard import member

bp = Blueprint("oauth", __name__)


@bp.route("/settings/tokens", methods=["GET", "POST"])
@member
def index() -> ResponseReturnValue:
    """List the visitor's access tokens, and make one whose secret is shown this once."""
    renewable = service.renewable(db(), by=actor(), now=utcnow(), base_url=settings().base_url)
    names = [model.full_name for model, _ in renewable]
    form, made, secret = TokenForm(), None, ""
    form.offer(names)
    if form.validate_on_submit():
        try:
            # Answered with the page instead of a redirect: to survive one, the secret would have to be kept somewhere.
            # Sending the form again makes no second access token, since its name is taken by then.
            made, secret = _mint(form)
            form = TokenForm(formdata=None)
            form.offer(names)
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
    return {"owned": owned, "states": states, "models": models, "base_url": settings().base_url}


@bp.route("/settings/tokens/<ref>/revoke", methods=["GET", "POST"])
@member
def revoke(ref: str) -> ResponseReturnValue:
    """Ask whether an access token shall end, and end it at once."""
    if request.method == "POST":
        tokens.revoke(db(), by=actor(), ref=ref, now=utcnow())
        return redirect(url_for(".index"), 303)
    return render_template("oauth/revoke.html", token=tokens.find(db(), by=actor(), ref=ref))
