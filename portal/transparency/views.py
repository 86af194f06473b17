"""The page of published figures."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from portal.core.clock import utcnow
from portal.transparency import service
from portal.web.app import db
from portal.web.guard import public

bp = Blueprint("transparency", __name__)


@bp.get("/transparency")
@public
def index() -> ResponseReturnValue:
    """Show how often accounts were suspended and under which clauses, how appeals went, and how second looks did."""
    figures, looks = service.published(db(), now=utcnow()), service.second_looks(db(), now=utcnow())
    return render_template("transparency/index.html", figures=figures, looks=looks)
