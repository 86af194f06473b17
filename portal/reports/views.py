"""The public pages on which anybody reports misuse."""

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.core.clock import utcnow
from portal.core.errors import Invalid, TooMany
from portal.core.networks import network_of
from portal.reports import service
from portal.reports.forms import ReportForm
from portal.reports.rules import LOCATOR_MAX, Told, check_told
from portal.web.app import actor, app_service, db, settings
from portal.web.guard import public
from portal.web.headers import allow_script

bp = Blueprint("reports", __name__)


@bp.route("/report", methods=["GET", "POST"])
@public(entry=True)
def report() -> ResponseReturnValue:
    """Take a report of misuse by anybody: at once from whoever is signed in or did the work, else by way of a mail."""
    form, status = ReportForm(), 200
    parts = service.restrictions(db(), now=utcnow())
    form.offer(parts)
    if request.method == "GET":
        form.locator.data = request.args.get("about", "")[:LOCATOR_MAX]
        form.email.data = service.address_of(db(), user_id=actor().user_id)
    elif form.validate_on_submit():
        try:
            return _taken(form, [part.key for part in parts])
        except (Invalid, TooMany) as error:
            form.take(error)
            status = error.status
    form.proof.data = ""  # what was solved is good for one report
    work = None if actor().is_signed_in else app_service("puzzles").make(utcnow())
    page = render_template("reports/report.html", form=form, work=work)
    answer = make_response(page, 422 if form.errors and status == 200 else status)  # noqa: PLR2004
    return allow_script(answer, "portal.js")


def _taken(form: ReportForm, clauses: list[str]) -> ResponseReturnValue:
    told: Told = check_told(
        locator=form.read("locator"), explanation=form.read("explanation"), clause=form.read("clause"),
        name=form.read("name"), email=form.read("email"), good_faith=bool(form.good_faith.data), clauses=clauses,
    )  # fmt: skip
    row = service.file(
        db(), by=actor(), told=told, network=network_of(request.remote_addr or ""),
        puzzle=app_service("puzzles").solved(form.read("proof")), pepper=settings().pepper,
        base_url=settings().base_url, now=utcnow(),
    )  # fmt: skip
    if row.case_ref is None:
        return redirect(url_for(".sent"), 303)
    flash(f"Your report {row.public_id} was received. You will be told by mail what came of it.", "success")
    return redirect(url_for(".report"), 303)


@bp.get("/report/sent")
@public
def sent() -> ResponseReturnValue:
    """Say that a mail is on its way, whose link confirms the report."""
    return render_template("reports/sent.html")


@bp.route("/report/confirm/<secret>", methods=["GET", "POST"])
@public(entry=True)
def confirm(secret: str) -> ResponseReturnValue:
    """Ask whoever follows the link whether the report is theirs, and take it up."""
    now, pepper = utcnow(), settings().pepper
    if request.method == "POST":
        row = service.confirm(db(), secret=secret, pepper=pepper, base_url=settings().base_url, now=now)
        flash(f"Your report {row.public_id} was received. You will be told by mail what came of it.", "success")
        return redirect(url_for(".report"), 303)
    return render_template("reports/confirm.html", row=service.waiting(db(), secret=secret, pepper=pepper, now=now))
