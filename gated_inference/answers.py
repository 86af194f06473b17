"""What clients under ``/v1`` are told beside what an engine writes."""

import logging
from collections.abc import Callable
from email.utils import format_datetime
from typing import TypeVar

import orjson
from sqlalchemy.exc import OperationalError

from gated_inference.schemas import Refusal
from portal.access.edge import Admission
from portal.access.rules import Decision
from portal.core.errors import PortalError
from portal.downloads.rules import sentence
from portal.edge.routes import Exchange, Headers

NO_STORE = ("Cache-Control", "no-store")
RETRY_AFTER_S = 5
T = TypeVar("T")
log = logging.getLogger("portal.inference")


def refusal(decision: Decision, model: str) -> Refusal:
    """Translate a decision that says no."""
    first = decision.blocking[0]
    message = " ".join(sentence(reason) for reason in decision.blocking)
    return Refusal(
        decision.status, first.code, message, model=model, reasons=decision.reasons, retry_after=first.retry_after,
        param="model" if first.stage == 2 else None,  # noqa: PLR2004
    )  # fmt: skip


def engine_lost() -> Refusal:
    """Say that an engine went away."""
    return Refusal(502, "engine_lost", "The engine went away before its answer was whole. Try again.", retry_after=1)


def refused_by(error: BaseException, request_id: str) -> Refusal:
    """Say what went wrong, if it is not the caller's doing."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, PortalError):
        return Refusal(error.status, error.code, error.message, retry_after=RETRY_AFTER_S)
    log.error("request %s", request_id, exc_info=error)
    if isinstance(error, OperationalError):
        message = "The database does not answer just now. Try again in a moment."
        return Refusal(503, "database_busy", message, retry_after=RETRY_AFTER_S)
    message = f"Something is wrong on our side. Tell the operators the request id {request_id}."
    return Refusal(500, "internal_error", message)


def answer(exchange: Exchange, refused: Refusal, *more: tuple[str, str]) -> None:
    """Answer with a refusal."""
    exchange.send(refused.answer([NO_STORE, *more]))


def fail(exchange: Exchange, error: BaseException) -> None:
    """Answer with what went wrong."""
    answer(exchange, refused_by(error, exchange.request.request_id))


def guarded(exchange: Exchange, work: Callable[[T], None]) -> Callable[[T], None]:
    """Have what goes wrong in work that is done later answered, as it would be at once."""

    def run(said: T) -> None:
        try:
            work(said)
        except Exception as error:  # noqa: BLE001
            fail(exchange, error)

    return run


def terms(admission: Admission) -> Headers:
    """Return the header fields that say under what an answer was given."""
    known = admission.memo.get("terms")
    if known is None:
        known = admission.memo["terms"] = _terms(admission)
    return known


def _terms(admission: Admission) -> Headers:
    fields = [NO_STORE]
    if admission.license_number:
        fields.append(("Portal-License", admission.license_number))
        fields.append(("Link", f'</licenses/{admission.license_number}>; rel="license"'))
    fields.append(("Link", '</disclosure>; rel="help"'))
    for reason in admission.decision.warnings:
        if reason.code == "signature_due":
            if reason.due_at is not None:
                fields.append(("Sunset", format_datetime(reason.due_at, usegmt=True)))
            fields.append(("Link", f'<{reason.url}>; rel="sunset"'))
            break
    return fields


def due_comment(decision: Decision) -> bytes:
    """Return what a stream says, before its end, about signing again; clients that know nothing of it skip it."""
    lines = [f": {reason.code}: {sentence(reason)}" for reason in decision.warnings]
    return ("\n".join(lines) + "\n\n").encode() if lines else b""


def event(value: object) -> bytes:
    """Return an event of a stream."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def cut_off(model: str) -> bytes:
    """Return the event that ends a stream that may not go on."""
    choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "content_filter"}
    return event({"object": "text_completion", "model": model, "choices": [choice]})
