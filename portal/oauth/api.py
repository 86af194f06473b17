"""What terminals speak to be let in: the device flow of OAuth (RFC 8628), with errors as RFC 6749 writes them."""

from datetime import timedelta

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from portal.core.clock import utcnow
from portal.core.errors import PortalError, Refused, TooMany, Unauthenticated
from portal.core.networks import network_of
from portal.oauth import rules, service
from portal.oauth.rules import OAuthError
from portal.web.app import db, settings
from portal.web.guard import token

bp = Blueprint("oauth_api", __name__)


@bp.post("/oauth/device")
@token()
def begin() -> ResponseReturnValue:
    """Give a terminal a code of its own, and one that it shows to its person."""
    begun = service.begin(
        db(), client_id=field("client_id"), scope=field("scope"), network=network_of(request.remote_addr or ""),
        user_agent=request.headers.get("User-Agent", ""), pepper=settings().pepper, now=utcnow(),
    )  # fmt: skip
    page = f"{settings().base_url}/device"
    return _answer(
        device_code=begun.device_code, user_code=begun.user_code, verification_uri=page,
        verification_uri_complete=f"{page}?user_code={begun.user_code}", interval=rules.INTERVAL,
        expires_in=int(rules.LIFE.total_seconds()),
    )  # fmt: skip


def hand_over() -> Response:
    """Say to a terminal whether it was let in, and give it its access token, once."""
    device_code = field("device_code")
    if not device_code:
        raise OAuthError("invalid_request", "Send device_code.", field="device_code")
    result = service.exchange(
        db(), device_code=device_code, client_id=field("client_id"), pepper=settings().pepper,
        base_url=settings().base_url, now=utcnow(),
    )  # fmt: skip
    if result.error:
        return _refusal(result.error, result.description)
    life = int(timedelta(days=rules.TOKEN_DAYS).total_seconds())
    return _answer(access_token=result.secret, token_type="bearer", expires_in=life, scope=result.scopes)  # noqa: S106


def speak(blueprint: Blueprint) -> None:
    """Teach addresses for programs to answer errors as RFC 6749 writes them."""
    blueprint.register_error_handler(PortalError, _refused)
    blueprint.register_error_handler(BadRequest, _unreadable)
    blueprint.register_error_handler(RequestEntityTooLarge, _unreadable)


def _refused(error: PortalError) -> Response:
    """Answer what a program did wrong, in the words of RFC 6749."""
    word = error.code if isinstance(error, OAuthError) else "invalid_request"
    if isinstance(error, Unauthenticated):
        bearer = request.headers.get("Authorization", "").lower().startswith("bearer")
        word = "invalid_token" if bearer else "invalid_client"
    if isinstance(error, TooMany):
        word = "temporarily_unavailable"
    if isinstance(error, Refused):
        word = "insufficient_scope"
    answer = _refusal(word, error.message, error.status)
    if isinstance(error, Unauthenticated):
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooMany):
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


def _unreadable(error: BadRequest | RequestEntityTooLarge) -> Response:
    """Answer a body that cannot be read."""
    return _refusal("invalid_request", error.description or "The body cannot be read.", error.code)


def field(name: str) -> str:
    """Return a field of the form; one that is sent twice could mean two things."""
    values = request.form.getlist(name)
    if len(values) > 1:
        raise OAuthError("invalid_request", f"Send {name} once.", field=name)
    return values[0] if values else ""


def _answer(**values: object) -> Response:
    answer = jsonify(values)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Pragma"] = "no-cache"
    return answer


def _refusal(word: str, description: str, status: int = 400) -> Response:
    answer = _answer(error=word, error_description=description)
    answer.status_code = status
    return answer


speak(bp)
