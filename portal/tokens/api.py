"""Where anybody who finds leaked access tokens, and the secret scanning of GitHub, can end them."""

from hashlib import sha256
from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from portal.core.clock import utcnow
from portal.core.errors import Invalid, PortalError
from portal.core.networks import network_of
from portal.tokens import service
from portal.tokens.rules import Found, LeakSource
from portal.web.app import app_service, brief, db, json_body, settings
from portal.web.guard import token

bp = Blueprint("tokens_api", __name__)
MOST = 1000
SIGNED_MAX = 8 << 20
TAKEN = {"message": "Received. Those of them that are access tokens of this portal are ended within seconds."}


@bp.post("/api/credentials/revoke")
@token()
def revoke() -> ResponseReturnValue:
    """End leaked access tokens; neither the answer nor the work for it says which of them were real."""
    found = [Found(value) for value in _credentials(json_body())]
    service.report_leak(
        db(), found=found, source=LeakSource.PUBLIC, network=network_of(request.remote_addr or "") or "unknown",
        pepper=settings().pepper, now=utcnow(),
    )  # fmt: skip
    return TAKEN, 202


def _credentials(body: object) -> list[str]:
    values = body.get("credentials") if isinstance(body, dict) else None
    if not isinstance(values, list) or len(values) > MOST or not all(isinstance(v, str) for v in values):
        raise Invalid("credentials", f'Send {{"credentials": [...]}} with at most {MOST} strings.', field="credentials")
    return values


@bp.post("/api/credentials/secret-scanning")
@token(streams=True)  # its keys may have to be fetched, and nobody waits for that with a transaction
def scanned() -> ResponseReturnValue:
    """Take what the secret scanning of GitHub found, if the signature over the bytes holds."""
    request.max_content_length = SIGNED_MAX
    body = request.get_data()
    key_id = request.headers.get("Github-Public-Key-Identifier", "")
    signature = request.headers.get("Github-Public-Key-Signature", "")
    if not app_service("scanner_keys").holds(key_id, signature, body):
        raise PortalError("signature_invalid", "Github-Public-Key-Signature is no signature of this body by that key.")
    found = _found(json_body())
    with brief() as session:
        service.report_leak(
            session, found=found, source=LeakSource.GITHUB, pepper=settings().pepper, now=utcnow(),
            body_sha256=sha256(body).hexdigest(),
        )  # fmt: skip
    return TAKEN, 202


def _found(body: object) -> list[Found]:
    def text(item: dict[str, Any], name: str) -> str:
        value = item.get(name)
        return value if isinstance(value, str) else ""

    if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
        raise PortalError("body", "Send a JSON array of objects with token, type, url and source.", field="body")
    return [Found(text(item, "token"), text(item, "url")) for item in body]
