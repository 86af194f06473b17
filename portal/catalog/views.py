"""The page with ready wording to disclose machine writing."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from portal.web.guard import public

bp = Blueprint("catalog", __name__)


@bp.get("/disclosure")
@public
def disclosure() -> ResponseReturnValue:
    """Offer sentences that say a text was made with a model."""
    return render_template("catalog/disclosure.html")
