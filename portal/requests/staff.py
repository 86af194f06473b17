"""The console's pages for access requests: who asks for what, answering, and what each model asks."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.catalog import service as catalog
from portal.core.clock import utcnow
from portal.core.errors import Conflict, PortalError
from portal.entitlements import service as entitlements
from portal.entitlements.rules import DEFAULT_DAYS, Mode, check_reason
from portal.requests import service
from portal.requests.forms import AnswerForm, GateForm
from portal.requests.rules import STATES, Answer
from portal.web.app import actor, db, settings
from portal.web.guard import staff

bp = Blueprint("requests_staff", __name__)
HIGHEST_ID = 2**31 - 1


@bp.get("/staff/requests")
@staff(Permission.REQUESTS_REVIEW)
def index() -> ResponseReturnValue:
    """List access requests by how they were answered, oldest first, and what each model asks."""
    status = request.args.get("status", Answer.PENDING.value)
    chosen = Answer(status) if status in list(Answer) else Answer.PENDING
    after = min(max(request.args.get("after", 0, type=int), 0), HIGHEST_ID)
    rows = entitlements.listed(db(), state=STATES[chosen], after_id=after, limit=service.PAGE + 1)
    page = rows[: service.PAGE]
    more = url_for(".index", status=chosen.value, after=page[-1].id) if len(rows) > len(page) else None
    return render_template(
        "requests/index.html", rows=service.shown(db(), page), chosen=chosen, answers=list(Answer), more=more,
        gates=service.gates(db()),
    )  # fmt: skip


@bp.route("/staff/requests/<ref>", methods=["GET", "POST"])
@staff(Permission.REQUESTS_REVIEW)
def show(ref: str) -> ResponseReturnValue:
    """Show one access request, and answer it."""
    found = entitlements.find(db(), ref=ref)
    form = AnswerForm(data={"seen": found.state.value, "wait_days": 0})
    form.offer([to for to, state in STATES.items() if state is not found.state])
    if form.validate_on_submit():
        try:
            if form.read("seen") != found.state.value:
                raise Conflict("access_request_moved", "Somebody answered this meanwhile. Look at it again.")
            if form.read("answer") in {Answer.REJECTED, Answer.RESET}:
                check_reason(form.read("reason"))
            service.answer(
                db(), request=found, to=Answer(form.read("answer")), by=actor(), now=utcnow(),
                base_url=settings().base_url, reason=form.read("reason"), wait_days=form.wait_days.data or 0,
            )  # fmt: skip
            flash("Answered. The person was told by mail.", "success")
            return redirect(url_for(".index"), 303)
        except PortalError as error:
            form.take(error)
    [asked] = service.shown(db(), [found])
    return render_template("requests/show.html", asked=asked, form=form), 422 if form.errors else 200


@bp.route("/staff/models/<ref>/gate", methods=["GET", "POST"])
@staff(Permission.MODELS_PUBLISH)
def gate(ref: str) -> ResponseReturnValue:
    """Say what a model asks of people who want it."""
    model = catalog.find_by_ref(db(), ref=ref)
    known = entitlements.form_of(db(), model_id=model.id)
    form = GateForm(
        data={
            "mode": (known.mode if known else Mode.OFF).value, "days": known.days if known else DEFAULT_DAYS,
            "question": known.question if known else entitlements.QUESTION,
        }
    )  # fmt: skip
    if form.validate_on_submit():
        entitlements.set_form(
            db(), model_id=model.id, model_ref=model.public_id, mode=Mode(form.read("mode")), by=actor(), now=utcnow(),
            question=form.read("question"), days=form.days.data,
        )  # fmt: skip
        flash(f"From now on {model.full_name} asks for this.", "success")
        return redirect(url_for(".gate", ref=ref), 303)
    return render_template("requests/gate.html", model=model, form=form), 422 if form.errors else 200
