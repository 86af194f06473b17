"""The console's pages for cards: revise or render, preview with the difference, publish, look at again."""

from flask import Blueprint, flash, redirect, render_template, request
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.cards import service
from portal.cards.forms import CardForm, PublishCardForm, ReviewForm
from portal.cards.rules import REVIEW_EVERY
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.catalog.rules import PREVAILING, RepoKind, check_language, difference, named
from portal.core.clock import utcnow
from portal.core.errors import Invalid, NotFound
from portal.items.rules import compare, readable
from portal.web.app import actor, app_service, db
from portal.web.guard import staff
from portal.web.parts import asked_part

bp = Blueprint("cards_staff", __name__)
DATASET = {"kind": RepoKind.DATASET}


@bp.get("/staff/cards")
@staff(Permission.CARDS_EDIT)
def cards() -> ResponseReturnValue:
    """List models with their cards, and when each is to be looked at again."""
    part = asked_part()
    rows, pages = part.shown(catalog.all_models(db(), words=part.words, part=part.span))
    due = service.due(db(), revisions=[card for _, card, _ in rows if card is not None])
    return render_template("cards/index.html", rows=rows, pages=pages, due=due, now=utcnow())


def _model(kind: str, namespace: str, name: str) -> GatedModel:
    return catalog.find_any_model(db(), full_name=named(kind, namespace, name))


def _language() -> str:
    return check_language(request.args.get("lang") or PREVAILING)


def _page(model: GatedModel, page: str, language: str) -> str:
    query = "" if language == PREVAILING else f"?lang={language}"
    return f"/staff/cards/{model.full_name}/{page}{query}"


@bp.route("/staff/cards/<namespace>/<name>/edit", methods=["GET", "POST"])
@bp.route("/staff/cards/datasets/<namespace>/<name>/edit", methods=["GET", "POST"], defaults=DATASET)
@staff(Permission.CARDS_EDIT)
def edit(namespace: str, name: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Write the next revision of a card, or of one in another language; it is kept as a draft."""
    model, language = _model(kind, namespace, name), _language()
    current = (
        catalog.draft_of(db(), model=model, language=language)
        or catalog.current_card(db(), model=model, language=language)
        or catalog.current_card(db(), model=model)
    )
    form = CardForm(text=catalog.card_text(db(), revision=current) if current else "")
    if form.validate_on_submit():
        try:
            app_service("check_card")(form.read("text"))
            catalog.save_draft(
                db(), model=model, text=form.read("text") + "\n", note=form.read("note"), by=actor(), now=utcnow(),
                language=language,
            )  # fmt: skip
            return redirect(_page(model, "preview", language), 303)
        except Invalid as error:
            form.take(error)
    page = render_template("cards/edit.html", model=model, form=form, language=language, prevailing=PREVAILING)
    return page, 422 if form.errors else 200


@bp.route("/staff/cards/<namespace>/<name>/preview", methods=["GET", "POST"])
@bp.route("/staff/cards/datasets/<namespace>/<name>/preview", methods=["GET", "POST"], defaults=DATASET)
@staff(Permission.CARDS_PUBLISH)
def preview(namespace: str, name: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Show a draft as readers will see it, with the difference; publish it."""
    model, language = _model(kind, namespace, name), _language()
    if request.method == "POST":
        shown = PublishCardForm().read("shown_sha256")
        done = service.publish(db(), model=model, shown_sha256=shown, by=actor(), now=utcnow(), language=language)
        return redirect(f"/{model.full_name}/card/{done.number}" if done.translates else f"/{model.full_name}", 303)
    draft = service.draft(db(), model=model, language=language)
    current = catalog.current_card(db(), model=model, language=language)
    old = catalog.card_text(db(), revision=current) if current else ""
    new = catalog.card_text(db(), revision=draft)
    return render_template(
        "cards/preview.html", model=model, draft=draft, current=current, card=app_service("read_card")(new),
        lines=difference(old, new), changes=compare(readable(old), readable(new)), places=service.places(db()),
    )  # fmt: skip


@bp.route("/staff/cards/<namespace>/<name>/review", methods=["GET", "POST"])
@bp.route("/staff/cards/datasets/<namespace>/<name>/review", methods=["GET", "POST"], defaults=DATASET)
@staff(Permission.CARDS_PUBLISH)
def review(namespace: str, name: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Keep that a published card was looked at again and still holds."""
    model, now = _model(kind, namespace, name), utcnow()
    card = catalog.current_card(db(), model=model)
    if card is None:
        raise NotFound("card_missing", f"{model.full_name} has no published card.")
    form = ReviewForm(next_at=(now + REVIEW_EVERY).date())
    if form.validate_on_submit():
        try:
            service.review(db(), revision=card, note=form.read("note"), next_at=form.day(), by=actor(), now=now)
            flash("Kept. Readers see it beside the card.", "success")
            return redirect(f"/{model.full_name}/card/{card.number}", 303)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "cards/review.html", model=model, card=card, form=form, reviews=service.reviews_of(db(), revision=card),
        due_at=service.due(db(), revisions=[card])[card.id], now=now,
    )  # fmt: skip
    return page, 422 if form.errors else 200
