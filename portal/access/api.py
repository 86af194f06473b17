"""The decision for programs: may I, and if not, what is missing."""

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from portal.access import service
from portal.access.rules import Action
from portal.core.clock import utcnow
from portal.core.errors import Invalid, reason_json
from portal.web.app import actor, db, settings
from portal.web.guard import token

bp = Blueprint("access_api", __name__)


@bp.get("/api/decide")
@token()
def decide() -> ResponseReturnValue:
    """Answer the whole decision for the caller; always 200, the body says yes or no."""
    model = request.args.get("model", "")
    if not model:
        raise Invalid("model_missing", "Name the model: ?model=NAMESPACE/NAME&action=download", field="model")
    try:
        action = Action(request.args.get("action", "infer"))
    except ValueError:
        raise Invalid("action", f"action is one of {', '.join(Action)}.", field="action") from None
    decision = service.check(
        db(), actor=actor(), model=model, action=action, now=utcnow(), base_url=settings().base_url
    )
    return jsonify(
        allowed=decision.allowed,
        status=decision.status,
        reasons=[reason_json(r) for r in decision.reasons],
        terms=[
            {"license": f"{r.license_slug}/{r.license_number}", "signature": r.signature_ref}
            for r in decision.relied_on
        ],
    )
