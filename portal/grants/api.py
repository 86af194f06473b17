"""What programs speak that act for people: tokens, their end, what they are good for, and where all that is."""

from collections.abc import Callable

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from portal.adapters.authorization import Door, Server
from portal.adapters.authorization_wire import Answer, Call
from portal.core.clock import utcnow
from portal.core.errors import Unauthenticated
from portal.grants import rules, service
from portal.oauth import api as oauth
from portal.oauth.rules import DEVICE_GRANT, OAuthError
from portal.web.app import actor, app_service, db, settings
from portal.web.guard import token

bp = Blueprint("grants_api", __name__)
oauth.speak(bp)


@bp.get("/.well-known/oauth-authorization-server")
@token(clients=True)
def metadata() -> ResponseReturnValue:
    """Say where everything is that programs need to act for people (RFC 8414)."""
    return rules.metadata(settings().base_url)


@bp.get("/.well-known/openid-configuration")
@token(clients=True)
def openid_metadata() -> ResponseReturnValue:
    """Say the same to programs that want to know who people are (OpenID Connect Discovery 1.0)."""
    return rules.openid_metadata(settings().base_url)


@bp.get(rules.KEYS_PATH)
@token(clients=True)
def keys() -> ResponseReturnValue:
    """Publish the keys that sign what is stated about people (RFC 7517)."""
    return app_service("statement_keys").published(utcnow()), {"Cache-Control": "public, max-age=3600"}


@bp.route("/oauth/userinfo", methods=["GET", "POST"])
@token(writes=False)
def userinfo() -> ResponseReturnValue:
    """Say to a program who let it act, and by which licenses they are bound (OpenID Connect Core 1.0, section 5.3)."""
    if not actor().is_signed_in:
        raise Unauthenticated("not_signed_in", "Send the access token of a program.")
    told = service.told_of(
        db(), by=actor(), keys=app_service("statement_keys"), base_url=settings().base_url, now=utcnow()
    )
    return told, {"Cache-Control": "no-store"}


@bp.post("/oauth/token")
@token(clients=True)
def exchange() -> ResponseReturnValue:
    """Give a program its tokens: by a code, by a refresh token, or because a terminal was let in."""
    kind = oauth.field("grant_type")
    if kind not in rules.GRANT_TYPES:
        word = "unsupported_grant_type" if kind else "invalid_request"
        raise OAuthError(word, f"Send grant_type, one of {', '.join(rules.GRANT_TYPES)}.", field="grant_type")
    if kind == DEVICE_GRANT:
        return oauth.hand_over()
    return _answered(lambda server, call: server.token(call))


@bp.post("/oauth/revoke")
@token(clients=True)
def revoke() -> ResponseReturnValue:
    """End a token of a program (RFC 7009)."""
    return _answered(lambda server, call: server.revoke(call))


@bp.post("/oauth/introspect")
@token(clients=True)
def introspect() -> ResponseReturnValue:
    """Say to a program what a token of its own is good for (RFC 7662)."""
    return _answered(lambda server, call: server.introspect(call))


def _answered(work: Callable[[Server, Call], Answer]) -> Response:
    door: Door = app_service("authorization")
    desk = service.Desk(
        db(), pepper=settings().pepper, base_url=settings().base_url, now=utcnow(), keys=app_service("statement_keys")
    )
    found = work(door.server(desk), door.call(request, of_body=True))
    answer = jsonify(found.body)
    answer.status_code = found.status
    answer.headers.update(found.headers)
    answer.headers["Cache-Control"] = "no-store"
    return answer
