"""The page of a family of models."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from portal.access.views import shown
from portal.core.clock import utcnow
from portal.families import service
from portal.families.rules import BYTES, memory
from portal.web.app import actor, db
from portal.web.guard import public

bp = Blueprint("families", __name__)


@bp.get("/<namespace>/<name>/family")
@public
def family(namespace: str, name: str) -> ResponseReturnValue:
    """Show the siblings of a model, what each takes to run, and whether the visitor's signature opens them."""
    model = shown("models", namespace, name)
    found = service.family_of(db(), model=model, by=actor(), now=utcnow())
    return render_template("families/family.html", model=model, family=found, memory=memory, precisions=list(BYTES))
