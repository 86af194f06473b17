"""The page on which a person asks for a model, sees where that stands, and takes it back."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.access.views import checklist
from portal.catalog import service as catalog
from portal.catalog.rules import named
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.entitlements import service as entitlements
from portal.entitlements.rules import Mode, RequestState
from portal.items.rules import ItemKind
from portal.requests import service
from portal.requests.forms import AskForm
from portal.web.app import actor, db, settings
from portal.web.guard import member

bp = Blueprint("requests", __name__)
MODEL = {"kind": "models"}
DATASET = {"kind": "datasets"}


@bp.route("/<namespace>/<name>/request", methods=["GET", "POST"], defaults=MODEL)
@bp.route("/datasets/<namespace>/<name>/request", methods=["GET", "POST"], defaults=DATASET)
@member
def ask(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Ask for a model, once the page says what stands in the way and where an earlier request stands."""
    model = catalog.find_model(db(), full_name=named(kind, namespace, name))
    form, card = AskForm(), catalog.current_card(db(), model=model)
    said = catalog.items_of(db(), revision=card) if card else []
    form.offer([one for one in said if one.kind is ItemKind.INTENDED_USE])
    if form.validate_on_submit():
        try:
            service.ask(
                db(), by=actor(), model=model, purpose=form.read("purpose"), purposes=form.purposes.data or (),
                now=utcnow(), base_url=settings().base_url,
            )  # fmt: skip
            return redirect(url_for(".ask", kind=kind, namespace=namespace, name=name), 303)
        except Invalid as error:
            form.take(error)
    decision = service.may_ask(db(), by=actor(), full_name=model.full_name, now=utcnow(), base_url=settings().base_url)
    request = entitlements.newest_of(db(), user_id=actor().id, model_id=model.id)
    asked = entitlements.form_of(db(), model_id=model.id)
    page = render_template(
        "requests/ask.html", model=model, form=form, decision=decision, items=checklist(decision), row=request,
        asked=asked if asked is not None and asked.mode is not Mode.OFF else None, kind=kind,
        open=request is not None and request.state is RequestState.SUBMITTED,
        given=entitlements.entitlement_of(db(), request=request) if request else None,
        purposes=entitlements.purposes_of(db(), request=request) if request else [],
        held=any(code == "entitlement_active" for code, _ in decision.met),
    )  # fmt: skip
    return page, 422 if form.errors else 200


@bp.post("/<namespace>/<name>/request/withdraw", defaults=MODEL)
@bp.post("/datasets/<namespace>/<name>/request/withdraw", defaults=DATASET)
@member
def withdraw(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Take back a request that waits for an answer."""
    model = catalog.find_model(db(), full_name=named(kind, namespace, name))
    service.withdraw(db(), by=actor(), model=model, now=utcnow())
    flash("Your request is withdrawn. You can ask again at any time.", "success")
    return redirect(url_for(".ask", kind=kind, namespace=namespace, name=name), 303)


@bp.post("/<namespace>/<name>/request/return", defaults=MODEL)
@bp.post("/datasets/<namespace>/<name>/request/return", defaults=DATASET)
@member
def give_back(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Give back what was granted."""
    model = catalog.find_model(db(), full_name=named(kind, namespace, name))
    service.give_back(db(), by=actor(), model=model, now=utcnow())
    flash("You gave your access back. You can ask again at any time.", "success")
    return redirect(url_for(".ask", kind=kind, namespace=namespace, name=name), 303)
