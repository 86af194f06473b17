"""The page of a decision for the person whom it concerns, with the appeal."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.appeals import service as appeals
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.moderation import service as moderation
from portal.redress import service
from portal.redress.forms import AppealForm, ReplyForm
from portal.web.app import actor, db, settings
from portal.web.guard import member

bp = Blueprint("redress", __name__)


@bp.route("/appeal/<ref>", methods=["GET", "POST"])
@member
def appeal(ref: str) -> ResponseReturnValue:
    """Show what was decided about the visitor and why; take their appeal."""
    service.own_decision(db(), by=actor(), ref=ref)
    form, base_url = AppealForm(), settings().base_url
    if form.validate_on_submit():
        try:
            service.file_appeal(db(), by=actor(), ref=ref, text=form.read("text"), base_url=base_url, now=utcnow())
            return redirect(url_for(".appeal", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    return _page(ref, form, ReplyForm(formdata=None)), 422 if form.errors else 200


@bp.post("/appeal/<ref>/reply")
@member
def reply(ref: str) -> ResponseReturnValue:
    """Take the visitor's answer to a question about their appeal."""
    service.own_decision(db(), by=actor(), ref=ref)
    form = ReplyForm()
    if form.validate_on_submit():
        try:
            service.reply(db(), by=actor(), ref=ref, words=form.read("words"), now=utcnow())
            return redirect(url_for(".appeal", ref=ref), 303)
        except Invalid as error:
            form.take(error)
    return _page(ref, AppealForm(formdata=None), form), 422


def _page(ref: str, form: AppealForm, answer: ReplyForm) -> str:
    decision, now = service.own_decision(db(), by=actor(), ref=ref), utcnow()
    filed = appeals.of_decision(db(), ref=decision.public_id)
    return render_template(
        "redress/appeal.html", decision=decision, ref=ref, appeal=filed, form=form, answer=answer, now=now,
        messages=appeals.messages(db(), appeal=filed) if filed else [], phase=moderation.phase(decision, now=now),
        cited=moderation.cited(db(), decision=decision, base_url=settings().base_url),
    )  # fmt: skip
