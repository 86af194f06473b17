"""The page on which people see what they used and how much is left."""

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from portal.core.clock import utcnow
from portal.usage import service
from portal.usage.rules import seconds_to_midnight
from portal.web.app import actor, db
from portal.web.guard import member

bp = Blueprint("usage", __name__)
PAGE = 50
DAYS = 14
HIGHEST_ID = 2**31 - 1


@bp.get("/settings/usage")
@member
def index() -> ResponseReturnValue:
    """Show the visitor's use: today against the limits, the last days, and each record, newest first."""
    person, now = actor().id, utcnow()
    before = request.args.get("before", type=int)
    before_id = min(max(before, 0), HIGHEST_ID) if before is not None else None
    found = service.own(db(), user_id=person, before_id=before_id, limit=PAGE + 1)
    records = found[:PAGE]
    return render_template(
        "usage/index.html", records=records, limits=service.limits_for(db(), user_id=person, now=now),
        used=service.used_today(db(), user_id=person, now=now), hours=seconds_to_midnight(now) // 3600,
        days=service.daily(db(), days=DAYS, now=now, user_id=person),
        older=url_for(".index", before=records[-1].id) if len(found) > PAGE else None,
        newest=url_for(".index") if before_id is not None else None,
    )  # fmt: skip
