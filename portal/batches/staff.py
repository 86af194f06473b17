"""Pages on which staff decide the same about several people, see what came of it, and undo it."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.batches import service
from portal.batches.forms import BatchForm
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.web.app import actor, db, settings
from portal.web.guard import staff

bp = Blueprint("batches_staff", __name__)


@bp.route("/staff/batches/<ref>", methods=["GET", "POST"])
@staff(Permission.PEOPLE_SANCTION, fresh=True)
def show(ref: str) -> ResponseReturnValue:
    """Show a decision about several people; confirm it as a second person, or undo all of it."""
    batch, form, now, base_url = service.find(db(), ref=ref), BatchForm(), utcnow(), settings().base_url
    if form.validate_on_submit():
        try:
            if form.read("shown_sha256"):
                service.confirm(
                    db(), by=actor(), ref=ref, shown_sha256=form.read("shown_sha256"), base_url=base_url, now=now
                )
            else:
                service.undo(db(), by=actor(), ref=ref, reason=form.read("reason"), base_url=base_url, now=now)
            return redirect(url_for(".show", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    page = render_template(
        "batches/show.html", batch=batch, form=form, people=service.people(db(), batch=batch),
        waiting=service.waiting(db(), batch=batch, now=now), decisions=service.decisions(db(), batch=batch),
    )  # fmt: skip
    return page, 422 if form.errors or form.form_errors else 200
