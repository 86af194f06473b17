"""The console's page on which a campaign is planned that tells people something and asks for a word back."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from wtforms.fields.choices import SelectChoice

from portal.accounts.rules import Permission
from portal.acknowledgments import service
from portal.acknowledgments.forms import BeginForm
from portal.campaigns.rules import CampaignKind
from portal.catalog import service as catalog
from portal.catalog.rules import ModelState
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.web.app import actor, db
from portal.web.guard import staff

bp = Blueprint("acknowledgments_staff", __name__)


@bp.route("/staff/campaigns/begin", methods=["GET", "POST"])
@staff(Permission.LICENSES_PUBLISH)
def begin() -> ResponseReturnValue:
    """Take what people are told of a changed limitation or a correction; the campaign starts on its own page."""
    form = BeginForm()
    names = [row.full_name for row, _, _ in catalog.all_models(db()) if row.state is not ModelState.DRAFT]
    form.model.choices = [SelectChoice(name, name) for name in names]
    if form.validate_on_submit():
        try:
            planned = service.plan(
                db(), kind=CampaignKind(form.read("kind")), model=form.read("model"), revision=form.read("revision"),
                words=form.read("words"), answer_by=form.day(), by=actor(), now=utcnow(),
            )  # fmt: skip
            return redirect(url_for("campaigns.campaign", ref=planned.public_id), 303)
        except Invalid as error:
            form.take(error)
    return render_template("acknowledgments/begin.html", form=form), 422 if form.errors else 200
