"""The console's pages on which kept texts are found and read, within a case that one holds."""

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from wtforms.fields.choices import SelectChoice

from portal.accounts.rules import Permission
from portal.cases import service as cases
from portal.core.clock import utcnow
from portal.core.errors import Invalid, Refused
from portal.reveals import service
from portal.reveals.forms import RevealForm, SearchForm
from portal.web.app import actor, app_service, db
from portal.web.guard import staff

bp = Blueprint("reveals_staff", __name__)


@bp.route("/staff/cases/<ref>/texts", methods=["GET", "POST"])
@staff(Permission.TEXTS_READ, writes=True, fresh=True)  # looking at a case renews the time for which it is held
def texts(ref: str) -> ResponseReturnValue:
    """List the kept texts of a case without their words, and put on record which ones are read and why."""
    case, form, status = cases.held(db(), ref=ref, by=actor(), now=utcnow()), RevealForm(), 200
    rows = service.texts_of(db(), case=case)
    form.text.choices = [SelectChoice(row.request_id, row.request_id) for row in rows]
    if request.method == "POST":
        try:
            row = service.reveal(
                db(), case_ref=ref, request_ids=form.text.data or [], reason=form.read("reason"), by=actor(),
                now=utcnow(),
            )  # fmt: skip
            return redirect(url_for(".show", ref=row.public_id), 303)
        except (Invalid, Refused) as error:
            form.take(error)
            status = error.status
    page = render_template("reveals/texts.html", case=case, rows=rows, form=form, search=SearchForm(formdata=None))
    return page, status


@bp.post("/staff/cases/<ref>/texts/search")
@staff(Permission.TEXTS_READ, fresh=True)
def search(ref: str) -> ResponseReturnValue:
    """Narrow the list to the texts that hold some words."""
    asked, form, rows = SearchForm(), RevealForm(formdata=None), None
    case = cases.held(db(), ref=ref, by=actor(), now=utcnow())
    try:
        rows = service.search(
            db(), case_ref=ref, words=asked.read("words"), keys=app_service("month_keys"), by=actor(), now=utcnow()
        )
    except Invalid as error:
        asked.take(error)
    form.text.choices = [SelectChoice(row.request_id, row.request_id) for row in rows or ()]
    page = render_template("reveals/texts.html", case=case, rows=rows, form=form, search=asked)
    return page, 422 if asked.errors else 200


@bp.get("/staff/reveals/<ref>")
@staff(Permission.TEXTS_READ, writes=True, fresh=True)  # as above
def show(ref: str) -> ResponseReturnValue:
    """Show the texts that were put on record a moment ago, with the reader's name on each."""
    row, case, found = service.opened(db(), ref=ref, keys=app_service("month_keys"), by=actor(), now=utcnow())
    return render_template("reveals/show.html", row=row, case=case, texts=found)
