"""The console's pages for reports from outside; what comes of them is decided in their cases."""

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from portal.accounts.rules import Permission
from portal.reports import service
from portal.web.app import db
from portal.web.guard import staff

bp = Blueprint("reports_staff", __name__)


@bp.get("/staff/reports")
@staff(Permission.PEOPLE_SANCTION)
def index() -> ResponseReturnValue:
    """List reports from outside, newest first; of one case, if that is named."""
    case = request.args.get("case", "")
    return render_template("reports/index.html", rows=service.listed(db(), case_ref=case), case=case)


@bp.get("/staff/reports/<ref>")
@staff(Permission.PEOPLE_SANCTION)
def show(ref: str) -> ResponseReturnValue:
    """Show what somebody reported, and how reliable they have been."""
    row = service.find(db(), ref=ref)
    return render_template("reports/show.html", row=row, weight=service.weight_of(db(), report=row))
