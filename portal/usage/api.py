"""A person's own use, for their programs."""

from typing import Any

from flask import Blueprint, jsonify, request, url_for
from flask.typing import ResponseReturnValue

from portal.core.errors import Invalid
from portal.tokens.rules import Scope
from portal.usage import service
from portal.usage.models import UsageRecord
from portal.web.app import actor, db, settings
from portal.web.guard import token

bp = Blueprint("usage_api", __name__)
PAGE = 100
PAGE_MAX = 1000
HIGHEST_ID = 2**31 - 1


@bp.get("/api/usage")
@token(Scope.USAGE_READ)
def index() -> ResponseReturnValue:
    """List the caller's usage records, newest first; ``Link`` names the next page."""
    limit = _number("limit", PAGE, PAGE_MAX)
    before = _number("before", None, HIGHEST_ID)
    found = service.own(db(), user_id=actor().id, before_id=before, limit=limit + 1)
    answer = jsonify([shown(record) for record in found[:limit]])
    if len(found) > limit:
        following = url_for(".index", limit=limit, before=found[limit - 1].id)
        answer.headers["Link"] = f'<{settings().base_url}{following}>; rel="next"'
    return answer


def shown(record: UsageRecord) -> dict[str, Any]:
    """Return a usage record as programs see it."""
    return {
        "request_id": record.request_id, "started_at": record.started_at.isoformat(),
        "finished_at": record.finished_at.isoformat() if record.finished_at else None, "model": record.model_name,
        "action": record.action, "channel": record.channel, "outcome": record.outcome.value,
        "reason_code": record.reason_code, "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens, "bytes_sent": record.bytes_sent, "ms": record.ms,
        "signature_set": record.signature_set,
    }  # fmt: skip


def _number(name: str, default: Any, highest: int) -> Any:
    """Read a whole number of the query, or raise `Invalid` naming it."""
    given = request.args.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) <= len(str(highest)) and 1 <= int(given) <= highest):
        raise Invalid(name, f"{name} is a whole number from 1 to {highest}.", field=name)
    return int(given)
