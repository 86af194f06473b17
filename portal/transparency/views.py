"""The monthly reports on moderation, for people, for programs, for spreadsheets and for archives."""

from collections.abc import Callable

from flask import Blueprint, Response, render_template
from flask.typing import ResponseReturnValue

from portal.core import sheets
from portal.core.clock import utcnow
from portal.core.errors import NotFound
from portal.transparency import rules, service
from portal.transparency.models import MonthlyReport
from portal.web.app import app_service, db, settings
from portal.web.guard import public

bp = Blueprint("transparency", __name__)
JSON, CSV, PDF = "json", "csv", "pdf"


@bp.get("/transparency")
@public
def index() -> ResponseReturnValue:
    """Show the newest monthly report on moderation, and lead to the others."""
    rows = service.published(db())
    return render_template("transparency/index.html", rows=rows, **_about(rows[0] if rows else None))


@bp.get("/transparency/<month>")
@public
def month(month: str) -> ResponseReturnValue:
    """Show the report of a month, or send it in one of the other forms that it has."""
    named, _, form = month.partition(".")
    row = service.find(db(), month=named)
    if form == JSON:  # the exact bytes that the digest in the log names
        return Response(row.body, mimetype="application/json")
    if form == CSV:
        return Response("".join(sheets.lines(rules.rows(service.read(row)))), mimetype="text/csv")
    if form == PDF:
        draw: Callable[[str], bytes] = app_service("pdf")
        page = render_template("pdf/transparency.html", base_url=settings().base_url, **_about(row))
        headers = {"Content-Disposition": f'inline; filename="transparency-{row.month}.pdf"'}
        return Response(draw(page), mimetype="application/pdf", headers=headers)
    if form:
        raise NotFound("form_not_found", "A report can be had as json, csv and pdf.", url="/transparency")
    return render_template("transparency/index.html", rows=service.published(db()), **_about(row))


def _about(row: MonthlyReport | None) -> dict[str, object]:
    looks = service.second_looks(db(), now=utcnow())
    if row is None:
        return {"row": None, "looks": looks}
    report = service.read(row)
    return {"row": row, "looks": looks, "report": report, "figures": rules.figures(report), "cell": rules.cell}
