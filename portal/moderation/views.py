"""The page of a decision for the person whom it concerns, with the appeal."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.moderation import service
from portal.moderation.forms import AppealForm
from portal.web.app import actor, db, settings
from portal.web.guard import member

bp = Blueprint("moderation", __name__)


@bp.route("/appeal/<ref>", methods=["GET", "POST"])
@member
def appeal(ref: str) -> ResponseReturnValue:
    """Show what was decided about the visitor and why; take their appeal."""
    decision, form, base_url = service.own_decision(db(), by=actor(), ref=ref), AppealForm(), settings().base_url
    if form.validate_on_submit():
        try:
            service.file_appeal(db(), by=actor(), ref=ref, text=form.read("text"), base_url=base_url, now=utcnow())
            return redirect(url_for(".appeal", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    cited, filed = service.cited(db(), decision=decision, base_url=base_url), service.appeal_of(db(), decision=decision)
    page = render_template(
        "moderation/appeal.html", decision=decision, ref=ref, cited=cited, appeal=filed, form=form, now=utcnow()
    )
    return page, 422 if form.errors else 200
