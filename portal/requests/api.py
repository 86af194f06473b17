"""Gate administration by scripts written for the Hub: the same moves as in the console."""

from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from portal.accounts import service as accounts
from portal.accounts.rules import Permission, storable
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.catalog.rules import named
from portal.core.clock import utcnow
from portal.core.errors import Conflict
from portal.downloads.api import in_hub_words
from portal.downloads.rules import HubError, whole
from portal.entitlements import service as entitlements
from portal.entitlements.rules import TEXT_MAX, Mode
from portal.listings.rules import hub_time
from portal.requests import service
from portal.requests.rules import STATES, STATUS, Answer
from portal.requests.service import Asked
from portal.tokens import service as tokens
from portal.tokens.rules import Scope
from portal.web.app import actor, db, json_body, settings
from portal.web.behind import raw_path
from portal.web.guard import token

bp = Blueprint("requests_api", __name__)
REPOSITORY = "/api/<any(models, datasets):kind>/<namespace>/<name>"
LISTED = (Answer.PENDING, Answer.ACCEPTED, Answer.REJECTED)
reviewer = token(Scope.REQUESTS_WRITE)
in_hub_words(bp)


def _model(kind: str, namespace: str, name: str, permission: Permission = Permission.REQUESTS_REVIEW) -> GatedModel:
    accounts.require_permission(db(), actor=actor(), permission=permission, now=utcnow())
    model = catalog.find_any_model(db(), full_name=named(kind, namespace, name))
    tokens.check_bound(db(), actor=actor(), model_id=model.id)
    return model


def _body() -> dict[str, Any]:
    body = json_body()
    if not isinstance(body, dict):
        raise HubError(400, "", "Send a JSON object.", code="body")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name) or ""
    if not isinstance(value, str) or len(value) > TEXT_MAX or not storable(value):
        raise HubError(400, "", f"{name} is a text of at most {TEXT_MAX:,} characters.", code=name)
    return value


@bp.get(f"{REPOSITORY}/user-access-request/<status>")
@reviewer
def listed(kind: str, namespace: str, name: str, status: str) -> ResponseReturnValue:
    """List access requests for a model by how they were answered, a page at a time."""
    model = _model(kind, namespace, name)
    if status not in LISTED:
        raise HubError(404, "", f"Access requests are listed as {', '.join(LISTED)}.", code="status")
    after = whole(request.args.get("cursor"), "cursor", 0, 2**31 - 1)
    limit = max(whole(request.args.get("limit"), "limit", service.PAGE, service.PAGE), 1)
    rows = entitlements.listed(db(), state=STATES[Answer(status)], model_id=model.id, after_id=after, limit=limit + 1)
    answer = jsonify([_item(asked) for asked in service.shown(db(), rows[:limit])])
    if len(rows) > limit:
        query = urlencode({"limit": limit, "cursor": rows[limit - 1].id})
        answer.headers["Link"] = f'<{settings().base_url}{raw_path()}?{query}>; rel="next"'
    return answer


def _item(asked: Asked) -> dict[str, Any]:
    row, profile = asked.request, asked.user.profile
    who = {"user": asked.user.public_id, "type": "user", "isPro": False}
    if profile is not None:
        who |= {"fullname": profile.name, "email": profile.email}
    return {
        "requestId": row.public_id, "user": who, "status": STATUS[row.state].value, "timestamp": hub_time(row.asked_at),
        "reviewedAt": hub_time(row.moved_at), "fields": {"purpose": row.purpose},
    }  # fmt: skip


@bp.post(f"{REPOSITORY}/user-access-request/handle")
@reviewer
def handle(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Accept, reject, put back or reset an access request."""
    model, body = _model(kind, namespace, name), _body()
    status, user, ref = _text(body, "status"), _text(body, "user"), _text(body, "requestId")
    if status not in list(Answer) or bool(user) is bool(ref):
        message = f"Name the request by user or requestId, and its status as one of {', '.join(Answer)}."
        raise HubError(400, "", message, code="status")
    reason = _text(body, "rejectionReason") or _text(body, "resetReason")
    row = service.answer(
        db(), request=service.find_request(db(), model=model, user=user, ref=ref), to=Answer(status), by=actor(),
        now=utcnow(), base_url=settings().base_url, reason=reason,
    )  # fmt: skip
    return jsonify(requestId=row.public_id, status=status)


@bp.post(f"{REPOSITORY}/user-access-request/grant")
@reviewer
def grant(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Let somebody in who did not ask."""
    model = _model(kind, namespace, name)
    user = service.find_person(db(), name=_text(_body(), "user"))
    try:
        row = service.grant(db(), model=model, user=user, by=actor(), now=utcnow(), base_url=settings().base_url)
    except Conflict as error:
        raise HubError(400, "", error.message, code=error.code) from error
    return jsonify(requestId=row.public_id, status=Answer.ACCEPTED.value)


@bp.put(f"{REPOSITORY}/settings")
@token(Scope.WEIGHTS_WRITE)
def change(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Say whether a model has to be asked for; private and public are no different here."""
    model, body = _model(kind, namespace, name, Permission.MODELS_PUBLISH), _body()
    modes: dict[Any, Mode] = {"auto": Mode.AUTO, "manual": Mode.MANUAL, False: Mode.OFF}
    if "gated" in body:
        wanted = body["gated"]
        if not isinstance(wanted, str | bool) or wanted not in modes:
            raise HubError(400, "", 'gated is "auto", "manual" or false.', code="gated")
        entitlements.set_form(
            db(), model_id=model.id, model_ref=model.public_id, mode=modes[wanted], by=actor(), now=utcnow()
        )
    known = entitlements.form_of(db(), model_id=model.id)
    said = known.mode.value if known is not None and known.mode is not Mode.OFF else False
    return jsonify(gated=said, private=False)
