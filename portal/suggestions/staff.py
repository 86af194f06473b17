"""The page on which a case leads to a better text."""

from flask import Blueprint, redirect, render_template
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.cases import service as cases
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.suggestions import service
from portal.suggestions.forms import SuggestForm
from portal.web.app import actor, db
from portal.web.guard import staff

bp = Blueprint("suggestions_staff", __name__)


@bp.route("/staff/cases/<ref>/suggest", methods=["GET", "POST"])
@staff(Permission.PEOPLE_SANCTION)
def suggest(ref: str) -> ResponseReturnValue:
    """Suggest what a model card or a clause should say after a case."""
    case, form = cases.find(db(), ref=ref), SuggestForm()
    form.target.choices = service.targets(db())
    if form.validate_on_submit():
        try:
            service.suggest(
                db(), by=actor(), case_ref=ref, target=form.read("target"), words=form.read("words"), now=utcnow()
            )
            return redirect(f"/staff/cases/{ref}#evidence", 303)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "suggestions/suggest.html", case=case, form=form, kind=service.kind_of(db(), case=case)
    )  # fmt: skip
    return page, 422 if form.errors else 200
