"""Every error as a page for people or as problem+json (RFC 9457) for programs."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Flask, Response, current_app, g, jsonify, redirect, render_template, request
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from werkzeug.exceptions import HTTPException

from portal.core.errors import Conflict, PortalError, StepUp, Unauthenticated, Unavailable, reason_json
from portal.web.app import request_id
from portal.web.guard import SAFE

PROGRAM_PATHS = ("/api/", "/v1/", "/log/", "/oauth/")


def for_program() -> bool:
    """Say whether the caller is a program: by the view's mark, or by the address where there is no view."""
    mark = g.get("mark")
    if mark is not None and mark.is_page and not request.path.startswith(PROGRAM_PATHS[0]):
        return False
    return mark is not None or request.path.startswith(PROGRAM_PATHS)


def install(app: Flask) -> None:
    """Teach an app to answer errors."""
    app.register_error_handler(PortalError, answer)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(IntegrityError, _race)
    app.register_error_handler(OperationalError, _busy)
    app.register_error_handler(NoConnection, _busy)  # every connection of this process is taken
    app.register_error_handler(Exception, _bug)


def answer(error: PortalError) -> ResponseReturnValue:
    """Answer an error of ours."""
    if for_program():
        return problem(error.status, error.code, error.message, error)
    if isinstance(error, Unauthenticated | StepUp) and request.method in SAFE:
        return redirect(f"{error.url or '/login'}?" + urlencode({"next": request.full_path.rstrip("?")}), 303)
    page, status = _page(
        error.status, error.title, error.message, reasons=getattr(error, "reasons", ()), url=error.url, code=error.code
    )
    retry_after = getattr(error, "retry_after", None)
    return page, status, {"Retry-After": str(retry_after)} if retry_after else {}


def problem(status: int, code: str, message: str, error: PortalError | None = None) -> Response:
    """Build a problem+json answer."""
    body: dict[str, Any] = {
        "type": f"/docs/reasons#{code}", "title": HTTPStatus(status).phrase, "status": status, "detail": message,
        "code": code, "request_id": request_id(),
    }  # fmt: skip
    if error is not None and error.field:
        body["field"] = error.field
    if error is not None:
        body["reasons"] = [reason_json(reason) for reason in getattr(error, "reasons", ())]
    response = jsonify(body)
    response.status_code = status
    response.content_type = "application/problem+json"
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    retry_after = getattr(error, "retry_after", None)
    if retry_after:
        response.headers["Retry-After"] = str(retry_after)
        response.headers["RateLimit"] = f'"{code}";r=0;t={retry_after}'
    return response


def _page(
    status: int, title: str, message: str, *, reasons: Sequence[Any] = (), url: str | None = None, code: str = ""
) -> tuple[str, int]:
    page = render_template(
        "error.html", status=status, heading=title, message=message, reasons=reasons, url=url, code=code
    )
    return page, status


def _http(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None or error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return error.get_response()
    phrase = HTTPStatus(error.code).phrase
    detail = error.description or phrase
    if error.code == HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this address. It may be misspelled, or hidden from you."
    if request_ctx.url_adapter is None:  # a host that is not ours; no page can be drawn for it
        return problem(error.code, "host_unknown", "This portal does not answer to the name that was asked for.")
    if for_program():
        return problem(error.code, phrase.lower().replace(" ", "_"), detail)
    return _page(error.code, phrase.capitalize(), detail)


def _race(_error: IntegrityError) -> ResponseReturnValue:
    return answer(Conflict("changed_meanwhile", "Somebody changed this at the same moment. Look again and retry."))


def _busy(_error: OperationalError | NoConnection) -> ResponseReturnValue:
    return answer(Unavailable("database_busy", "The database does not answer just now. Try again in a moment."))


def _bug(error: Exception) -> ResponseReturnValue:
    current_app.logger.error("request %s failed", request_id(), exc_info=error)
    message = f"Something is wrong on our side. Tell the operators the request id {request_id()}."
    if for_program():
        return problem(500, "internal_error", message)
    return _page(500, "Something went wrong", message)
