"""The gate to engines: who may, within what limits, and what is kept of it."""

import json
import logging
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from email.utils import format_datetime
from threading import Lock
from typing import Any

from gated_inference import meter
from gated_inference.journal import Entry
from gated_inference.pool import NoEngine, Pool, Running, whole
from gated_inference.schemas import Ask, Refusal, json_answer
from portal.access.edge import Admission, Door
from portal.access.rules import Action, Decision, quota_reason
from portal.core.clock import utcnow
from portal.core.errors import PortalError
from portal.downloads.rules import sentence
from portal.edge.health import Figures
from portal.edge.journal import Journal
from portal.edge.routes import Answer, Headers, Request
from portal.edge.upstream import Lost
from portal.usage.rules import Outcome, plain, use_opened

LOOK_S = 0.2
RECHECK_S = 1.0
COMMENT_S = 15.0
STRANGERS_A_MINUTE = 60
GONE = 499
CODE_MAX = 60
MESSAGE_MAX = 1_000
log = logging.getLogger("portal.gate")


class Gone(Exception):
    """The client has left."""


class Cut(Exception):
    """The caller may no longer."""

    def __init__(self, decision: Decision) -> None:
        super().__init__("no longer allowed")
        self.decision = decision


class Watch:
    """Looks, while an engine works, whether the client is still there and still may."""

    def __init__(self, request: Request, door: Door, admission: Admission) -> None:
        self.request, self.door, self.admission = request, door, admission
        now = time.monotonic()
        self._look, self._recheck = now + LOOK_S, now + RECHECK_S

    def turn(self) -> None:
        """Raise `Gone` or `Cut` if the work has to end."""
        now = time.monotonic()
        if now < self._look:
            return
        self._look = now + LOOK_S
        if self.request.hung_up():
            raise Gone
        if now >= self._recheck:
            self._recheck = now + RECHECK_S
            decision = self.door.again(self.admission)
            if not decision.allowed:
                raise Cut(decision)


@dataclass(frozen=True)
class Work:
    """One admitted request with all that belongs to it."""

    ask: Ask
    admission: Admission
    entry: Entry
    watch: Watch
    count: meter.Meter

    def end(self, outcome: Outcome, reason_code: str = "") -> None:
        """Write how it ended, with what was counted; the first end counts."""
        self.entry.finish(
            outcome, reason_code=reason_code, prompt_tokens=self.count.prompt_tokens,
            completion_tokens=self.count.completion_tokens,
        )  # fmt: skip


class Allowance:
    """How many records of refused strangers are kept in a minute; beyond it they are only counted."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute, self.clock = a_minute, clock
        self._left, self._since = a_minute, clock()
        self._lock = Lock()

    def take(self) -> bool:
        """Say whether one more may be kept."""
        with self._lock:
            if self.clock() - self._since >= 60:  # noqa: PLR2004
                self._left, self._since = self.a_minute, self.clock()
            self._left -= 1
            return self._left >= 0


class Gate:
    """Takes a request to an engine, if it may go there, and brings back what the engine writes."""

    def __init__(self, door: Door, pool: Pool, journal: Journal, figures: Figures) -> None:
        self.door, self.pool, self.journal, self.figures = door, pool, journal, figures
        self.strangers = Allowance(STRANGERS_A_MINUTE)

    def admit(self, request: Request, model: str, channel: str) -> tuple[Admission, Entry]:
        """Decide one request, or raise `Refusal`; it is written down then."""
        admission = self.door.admit(request, model=model, action=Action.INFER)
        entry = self.entry(request, channel, model, admission)
        if not admission.decision.allowed:
            raise self._refused(entry, admission.decision)
        return admission, entry

    def run(self, request: Request, ask: Ask, channel: str) -> Answer:
        """Answer a request that is well formed: decide, set quota aside, have an engine write."""
        admission, entry = self.admit(request, ask.model, channel)
        code = entry.reserve(ask.reserve, admission.limits)
        if code is not None:
            reason = quota_reason(code, admission.limits, self.door.settings.base_url, utcnow())
            raise self._refused(entry, replace(admission.decision, reasons=(reason, *admission.decision.reasons)))
        entry.open()
        watch = Watch(request, self.door, admission)
        work = Work(ask, admission, entry, watch, meter.Meter(ask.prompt_estimate))
        try:
            return self._answer(self.pool.open(ask.model, ask.fields, watch.turn), work)
        except Gone:
            work.end(Outcome.CANCELED)
            raise Refusal(GONE, "client_gone", "The client has left.") from None
        except Cut as cut:
            work.end(Outcome.CUT, cut.decision.blocking[0].code)
            raise refusal(cut.decision, ask.model) from None
        except NoEngine as error:
            outcome = Outcome.OVERLOADED if error.overloaded else Outcome.ENGINE_LOST
            entry.finish(outcome, reason_code=error.code)
            raise Refusal(error.status, error.code, error.message, retry_after=error.retry_after) from None
        except Lost as error:
            log.warning("request %s: the engine was lost: %s", request.request_id, error)
            entry.finish(Outcome.ENGINE_LOST, reason_code="engine_lost")
            raise engine_lost() from None
        except Refusal:
            raise
        except Exception:
            entry.finish(Outcome.CRASHED, reason_code="internal_error")
            raise

    def invalid(self, request: Request, refused: Refusal, channel: str) -> None:
        """Keep a record of a request that makes no sense, and who sent it; raise `Refusal` if nobody known did."""
        actor = self.door.who(request)
        entry = self.entry(request, channel, refused.model, None, user=(actor.user_id, actor.access_token_id))
        if actor.user_id is not None:
            entry.finish(Outcome.INVALID, reason_code=refused.code)
            return
        code = actor.token_error or "not_signed_in"
        entry.finish(Outcome.REFUSED, reason_code=code)
        message = "Send an access token that can be used here: Authorization: Bearer lmp_…"
        raise Refusal(401, code, message)

    def entry(
        self,
        request: Request,
        channel: str,
        model: str,
        admission: Admission | None,
        *,
        user: tuple[int | None, int | None] = (None, None),
    ) -> Entry:
        """Return what will be written about a request."""
        known: dict[str, Any] = {"user_id": user[0], "access_token_id": user[1]}
        if admission is not None:
            actor = admission.actor
            known = {
                "user_id": actor.user_id, "access_token_id": actor.access_token_id,
                "release_id": admission.release_id, "card_revision_id": admission.card_revision_id,
            }  # fmt: skip
        opened = use_opened(
            request_id=request.request_id, at=utcnow(), action=Action.INFER.value, channel=channel, model_name=model,
            signature_ids=admission.signature_ids if admission else (), **known,
        )  # fmt: skip
        made = Entry(self.journal, self.door.counters, self.figures, opened)
        made.silent = known["user_id"] is None and not self.strangers.take()
        return made

    def _answer(self, running: Running, work: Work) -> Answer:
        try:
            headers = terms(work.admission)
            if running.status >= 400:  # noqa: PLR2004
                raise self._engine_refused(running, work)
            if work.ask.stream:
                fields = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Accel-Buffering", "no"), *headers]
                return Answer(200, fields, Stream(running, work))
            value = meter.parse(whole(_watched(running.pieces(), work.watch)))
            work.count.see(value)
            value["model"] = work.ask.model
            work.end(Outcome.FINISHED)
            running.close()
            return json_answer(200, value, headers)
        except BaseException:
            running.close()
            raise

    def _engine_refused(self, running: Running, work: Work) -> Refusal:
        """Pass on what an engine says about the request; it costs nothing."""
        value = meter.parse(whole(_watched(running.pieces(), work.watch)))
        found = value.get("error")
        error = found if isinstance(found, dict) else value
        message, param, code = error.get("message"), error.get("param"), error.get("code")
        refused = Refusal(
            running.status,
            code if isinstance(code, str) and code else "invalid_request",
            message[:MESSAGE_MAX] if isinstance(message, str) else "The engine cannot answer this request.",
            param=param if isinstance(param, str) else None,
            model=work.ask.model,
        )
        work.entry.finish(Outcome.INVALID, reason_code=plain(refused.code)[:CODE_MAX])
        return refused

    def _refused(self, entry: Entry, decision: Decision) -> Refusal:
        entry.finish(Outcome.REFUSED, reason_code=decision.blocking[0].code)
        return refusal(decision, entry.opened["model_name"])


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


def terms(admission: Admission) -> Headers:
    """Return the header fields that say under what an answer was given."""
    fields = []
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


def _watched(pieces: Iterator[bytes], watch: Watch) -> Iterator[bytes]:
    for piece in pieces:
        watch.turn()
        yield piece


class Stream:
    """A streamed answer: passed on event by event, counted, watched, and written down before its last event leaves.

    Whoever sends it must call `close`, also if it was never begun.
    """

    def __init__(self, running: Running, work: Work) -> None:
        self.running, self.work = running, work
        self.model = work.ask.model
        self._events = self._write()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """End it, whole or not."""
        self._events.close()
        self.running.close()
        self.work.end(Outcome.CANCELED)

    def _write(self) -> Generator[bytes, None, None]:
        try:
            yield from self._pass_on()
        except Gone:
            self.work.end(Outcome.CANCELED)
        except Cut as cut:
            self.running.close()
            refused = refusal(cut.decision, self.model)
            self.work.end(Outcome.CUT, refused.code)
            yield _event(_cut_choice(self.model)) + _event(refused.body)
        except Lost as error:
            log.warning("request %s: the engine was lost: %s", self.work.watch.request.request_id, error)
            self.work.end(Outcome.ENGINE_LOST, "engine_lost")
            yield _event(engine_lost().body)
        except PortalError as error:
            yield _event(Refusal(error.status, error.code, error.message).body)
        except Exception:
            log.exception("request %s", self.work.watch.request.request_id)
            self.work.end(Outcome.CRASHED, "internal_error")
            yield _event(Refusal(500, "internal_error", "Something is wrong on our side.").body)
        finally:
            self.running.close()

    def _pass_on(self) -> Iterator[bytes]:
        said = time.monotonic()
        renamed = self.running.server.name not in {"", self.model}
        for data in meter.events(self.running.pieces()):
            self.work.watch.turn()
            if not data:
                if time.monotonic() - said > COMMENT_S:
                    said = time.monotonic()
                    yield b": the engine is at work\n\n"
                continue
            if data == meter.DONE:
                self.work.end(Outcome.FINISHED)
                yield due_comment(self.work.admission.decision) + b"data: [DONE]\n\n"
                return
            value = meter.parse(data)
            if "error" in value:
                raise Lost("the engine reported an error")
            self.work.count.see(value)
            if meter.is_usage_only(value) and not self.work.ask.include_usage:
                continue
            said = time.monotonic()
            changed = renamed or b"\n" in data
            yield _event({**value, "model": self.model}) if changed else b"data: " + data + b"\n\n"
        raise Lost("the stream ended without its last event")


def _cut_choice(model: str) -> dict[str, object]:
    choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "content_filter"}
    return {"object": "text_completion", "model": model, "choices": [choice]}


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n\n"
