"""The page of what happened."""

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.audit import service
from portal.audit.forms import FilterForm
from portal.audit.rules import Power
from portal.web.app import db
from portal.web.guard import staff

bp = Blueprint("audit_staff", __name__)
PAGE = 100
HIGHEST_ID = 2**31 - 1


@bp.get("/staff/audit")
@staff(Power.READ)
def index() -> ResponseReturnValue:
    """List events, newest first, by name and by subject or actor."""
    form = FilterForm(request.args)
    name, subject = form.read("name"), form.read("subject")
    before = request.args.get("before", type=int)
    before_id = min(max(before, 0), HIGHEST_ID) if before is not None else None
    found = service.recent(db(), name=name, subject=subject, before_id=before_id, limit=PAGE + 1)
    events = found[:PAGE]
    older = url_for(".index", name=name, subject=subject, before=events[-1].id) if len(found) > PAGE else None
    newest = url_for(".index", name=name, subject=subject) if before_id is not None else None
    return render_template("audit/index.html", form=form, events=events, older=older, newest=newest)
