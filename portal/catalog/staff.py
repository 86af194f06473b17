"""The console's pages for models and cards: revise, preview with the difference, publish."""

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.catalog import service
from portal.catalog.forms import CardForm, PublishCardForm
from portal.catalog.rules import RepoKind, difference, named
from portal.core.clock import utcnow
from portal.core.errors import Invalid, NotFound
from portal.web.app import actor, app_service, db
from portal.web.guard import staff

bp = Blueprint("catalog_staff", __name__)
DATASET = {"kind": RepoKind.DATASET}


@bp.get("/staff/cards")
@staff(Permission.CARDS_EDIT)
def cards() -> ResponseReturnValue:
    """List models with their cards."""
    return render_template("catalog/staff_cards.html", rows=service.all_models(db()))


@bp.route("/staff/cards/<namespace>/<name>/edit", methods=["GET", "POST"])
@bp.route("/staff/cards/datasets/<namespace>/<name>/edit", methods=["GET", "POST"], defaults=DATASET)
@staff(Permission.CARDS_EDIT)
def edit(namespace: str, name: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Write the next revision of a card; it is kept as a draft."""
    model = service.find_any_model(db(), full_name=named(kind, namespace, name))
    current = service.draft_of(db(), model=model) or service.current_card(db(), model=model)
    form = CardForm(text=service.card_text(db(), revision=current) if current else "")
    if form.validate_on_submit():
        try:
            app_service("check_card")(form.read("text"))
            service.save_draft(
                db(), model=model, text=form.read("text") + "\n", note=form.read("note"), by=actor(), now=utcnow()
            )
            return redirect(f"/staff/cards/{model.full_name}/preview", 303)
        except Invalid as error:
            form.take(error)
    return render_template("catalog/staff_edit.html", model=model, form=form), 422 if form.errors else 200


@bp.route("/staff/cards/<namespace>/<name>/preview", methods=["GET", "POST"])
@bp.route("/staff/cards/datasets/<namespace>/<name>/preview", methods=["GET", "POST"], defaults=DATASET)
@staff(Permission.CARDS_PUBLISH)
def preview(namespace: str, name: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Show a draft as readers will see it, with the difference; publish it."""
    model = service.find_any_model(db(), full_name=named(kind, namespace, name))
    if request.method == "POST":
        shown = PublishCardForm().read("shown_sha256")
        service.publish_card(db(), model=model, shown_sha256=shown, by=actor(), now=utcnow())
        return redirect(f"/{model.full_name}", 303)
    draft = service.draft_of(db(), model=model)
    if draft is None:
        raise NotFound("draft_missing", f"The card of {model.full_name} has no draft.")
    current = service.current_card(db(), model=model)
    old = service.card_text(db(), revision=current) if current else ""
    new = service.card_text(db(), revision=draft)
    card = app_service("read_card")(new)
    return render_template(
        "catalog/staff_preview.html", model=model, draft=draft, current=current, card=card, lines=difference(old, new)
    )
