"""The console's page on how long a model keeps prompts and answers."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.catalog import service as catalog
from portal.contents import service
from portal.contents.forms import RetentionForm
from portal.core.clock import utcnow
from portal.web.app import actor, db
from portal.web.guard import staff

bp = Blueprint("contents_staff", __name__)


@bp.route("/staff/models/<ref>/texts", methods=["GET", "POST"])
@staff(Permission.MODELS_PUBLISH)
def retention(ref: str) -> ResponseReturnValue:
    """Say for how long a model keeps texts of those who agreed."""
    model = catalog.find_by_ref(db(), ref=ref)
    form = RetentionForm(data={"days": str(service.days_of(db(), model_id=model.id))})
    if form.validate_on_submit():
        service.set_days(db(), model=model, days=int(form.read("days")), by=actor(), now=utcnow())
        flash("Set. It holds for texts from now on.", "success")
        return redirect(url_for(".retention", ref=ref), 303)
    return render_template("contents/retention.html", model=model, form=form), 422 if form.errors else 200
