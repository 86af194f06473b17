"""Where anybody who finds leaked access tokens can end them."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from portal.core.clock import utcnow
from portal.core.errors import Invalid
from portal.tokens import service
from portal.web.app import actor, db, json_body, settings
from portal.web.guard import token

bp = Blueprint("tokens_api", __name__)
MOST = 1000


@bp.post("/api/credentials/revoke")
@token()
def revoke() -> ResponseReturnValue:
    """End leaked access tokens; the answer does not say which of them were real."""
    values = _credentials(json_body())
    service.revoke_leaked(db(), by=actor(), values=values, pepper=settings().pepper, now=utcnow())
    return {"received": len(values)}, 202


def _credentials(body: object) -> list[str]:
    values = body.get("credentials") if isinstance(body, dict) else None
    if not isinstance(values, list) or len(values) > MOST or not all(isinstance(v, str) for v in values):
        raise Invalid("credentials", f'Send {{"credentials": [...]}} with at most {MOST} strings.', field="credentials")
    return values
