"""The queue of cases, and the steps in one that decide nothing."""

from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.cases import service
from portal.cases.forms import NoteForm, ReopenForm
from portal.cases.rules import CaseState, Origin, Severity
from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.web.app import actor, db
from portal.web.guard import staff

bp = Blueprint("cases_staff", __name__)


@bp.get("/staff/cases")
@staff(Permission.APPEALS_DECIDE)
def queue() -> ResponseReturnValue:
    """List what waits, the gravest first and of those the oldest; then what was decided last."""
    origin, now = request.args.get("origin", ""), utcnow()
    waiting = service.queue(db(), origin=origin)
    decided = service.queue(db(), states=(CaseState.DECIDED, CaseState.CLOSED), origin=origin, limit=50)
    holders = {case.id: service.holder_at(db(), case=case, now=now) for case in waiting}
    return render_template(
        "cases/queue.html", waiting=waiting, decided=decided, holders=holders, now=now, origin=origin, origins=Origin,
        severities={level.value: level.name.lower() for level in Severity},
        names=service.names_of(db(), cases=[*waiting, *decided]),
        clauses=service.clauses_of(db(), cases=[*waiting, *decided]),
    )  # fmt: skip


@bp.post("/staff/cases/<ref>/claim")
@staff(Permission.APPEALS_DECIDE)
def claim(ref: str) -> ResponseReturnValue:
    """Take a case for half an hour."""
    service.claim(db(), ref=ref, by=actor(), now=utcnow())
    return redirect(f"/staff/cases/{ref}", 303)


@bp.post("/staff/cases/<ref>/release")
@staff(Permission.APPEALS_DECIDE)
def release(ref: str) -> ResponseReturnValue:
    """Give a case back to the queue."""
    service.release(db(), ref=ref, by=actor(), now=utcnow())
    return redirect("/staff/cases", 303)


@bp.route("/staff/cases/<ref>/note", methods=["GET", "POST"])
@staff(Permission.APPEALS_DECIDE)
def note(ref: str) -> ResponseReturnValue:
    """Leave a note for colleagues."""
    case, form = service.find(db(), ref=ref), NoteForm()
    if form.validate_on_submit():
        try:
            service.note(db(), ref=ref, words=form.read("words"), by=actor(), now=utcnow())
            return redirect(f"/staff/cases/{ref}#notes", 303)
        except Invalid as error:
            form.take(error)
    page = render_template("cases/write.html", case=case, form=form, title="Leave a note", button="Leave the note")
    return page, 422 if form.errors else 200


@bp.route("/staff/cases/<ref>/reopen", methods=["GET", "POST"])
@staff(Permission.APPEALS_DECIDE)
def reopen(ref: str) -> ResponseReturnValue:
    """Open a decided case again because of new evidence."""
    case, form = service.find(db(), ref=ref), ReopenForm()
    if form.validate_on_submit():
        try:
            service.reopen(db(), ref=ref, words=form.read("words"), by=actor(), now=utcnow())
            return redirect(f"/staff/cases/{ref}", 303)
        except Invalid as error:
            form.take(error)
    page = render_template("cases/write.html", case=case, form=form, title="Open it again", button="Open it again")
    return page, 422 if form.errors else 200
