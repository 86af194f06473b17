"""Pages on which staff suspend, reinstate and answer appeals."""

from typing import Any

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.models import User
from portal.accounts.rules import Permission
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.moderation import service
from portal.moderation.forms import AnswerForm, ReinstateForm, SuspendForm
from portal.moderation.rules import AppealOutcome, AppealState
from portal.web.app import actor, db, settings
from portal.web.guard import staff

bp = Blueprint("moderation_staff", __name__)


@bp.route("/staff/people/<ref>/suspend", methods=["GET", "POST"])
@staff(Permission.PEOPLE_SANCTION)
def suspend(ref: str) -> ResponseReturnValue:
    """Take the grounds of a suspension, show the notice word for word, and order it once that is confirmed."""
    person, form = service.person_to_judge(db(), by=actor(), ref=ref, now=utcnow()), SuspendForm()
    form.offer(service.citable(db(), user_id=person.id, base_url=settings().base_url))
    if form.validate_on_submit():
        try:
            return _order(person, form)
        except Invalid as error:
            form.take(error)
    return render_template("moderation/suspend.html", person=person, form=form), 422 if form.errors else 200


def _order(person: User, form: SuspendForm) -> ResponseReturnValue:
    order: dict[str, Any] = {
        "user_id": person.id, "clause_keys": form.clause.data, "facts": form.read("facts"), "until": form.ends_at,
        "base_url": settings().base_url, "now": utcnow(),
    }  # fmt: skip
    if not form.read("notice_sha256"):
        notice = service.preview_notice(db(), **order)
        return render_template("moderation/preview.html", person=person, form=form, notice=notice)
    service.suspend(db(), by=actor(), notice_sha256=form.read("notice_sha256"), **order)
    return redirect(f"/staff/people/{person.public_id}", 303)


@bp.route("/staff/people/<ref>/reinstate", methods=["GET", "POST"])
@staff(Permission.PEOPLE_SANCTION)
def reinstate(ref: str) -> ResponseReturnValue:
    """Take the reason of a reversal, and overturn what suspends the person once that is confirmed."""
    person, form = service.person_to_judge(db(), by=actor(), ref=ref, now=utcnow()), ReinstateForm()
    if form.validate_on_submit():
        if not form.read("confirmed"):
            return render_template("moderation/reinstate_confirm.html", person=person, form=form)
        reason, base_url = form.read("reason"), settings().base_url
        service.reinstate(db(), by=actor(), user_id=person.id, reason=reason, base_url=base_url, now=utcnow())
        return redirect(f"/staff/people/{ref}", 303)
    return render_template("moderation/reinstate.html", person=person, form=form), 422 if form.errors else 200


@bp.get("/staff/cases")
@staff(Permission.APPEALS_DECIDE)
def cases() -> ResponseReturnValue:
    """List appeals: waiting ones by due date, then the answered ones."""
    waiting = service.appeals(db(), state=AppealState.FILED)
    answered = service.appeals(db(), state=AppealState.DECIDED)
    return render_template("moderation/cases.html", waiting=waiting, answered=answered, now=utcnow())


@bp.route("/staff/cases/<ref>", methods=["GET", "POST"])
@staff(Permission.APPEALS_DECIDE)
def case(ref: str) -> ResponseReturnValue:
    """Show an appeal with the decision it contests; answer it."""
    form, base_url = AnswerForm(), settings().base_url
    if form.validate_on_submit():
        service.decide_appeal(
            db(), by=actor(), ref=ref, outcome=AppealOutcome(form.read("outcome")), reasons=form.read("reasons"),
            base_url=base_url, now=utcnow(),
        )  # fmt: skip
        return redirect(url_for(".case", ref=ref), 303)
    appeal, decision, person = service.find_appeal(db(), ref=ref)
    page = render_template(
        "moderation/case.html", appeal=appeal, decision=decision, person=person, form=form, now=utcnow(),
        cited=service.cited(db(), decision=decision, base_url=base_url),
    )  # fmt: skip
    return page, 422 if form.errors else 200
