"""The page on which people see the copies that were delivered to them, and under which terms."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from portal.deliveries import service
from portal.web.app import actor, db
from portal.web.guard import member

bp = Blueprint("deliveries", __name__)
MOST = 200


@bp.get("/settings/deliveries")
@member
def index() -> ResponseReturnValue:
    """List what was delivered to the visitor, newest first, with the signatures and card it rests on."""
    found = service.own_terms(db(), user_id=actor().id, limit=MOST)
    return render_template("deliveries/index.html", found=found, most=MOST)
