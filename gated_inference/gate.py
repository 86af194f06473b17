"""The gate to engines: who may, within what limits, and what is kept of it."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from gated_inference.answers import answer, fail, guarded, refusal
from gated_inference.journal import Entry, Known
from gated_inference.lookout import Lookout
from gated_inference.pool import Pool
from gated_inference.schemas import Ask, Refusal
from gated_inference.work import Work
from portal.access.edge import Admission, Door
from portal.access.rules import Action, Decision, quota_reason
from portal.core.actor import Actor
from portal.core.clock import utcnow
from portal.core.errors import Unavailable
from portal.edge.durable import Durable
from portal.edge.health import Figures
from portal.edge.routes import Exchange
from portal.usage.rules import Outcome, use_opened, uses_running

SWEEP_S = 0.05
STRANGERS_A_MINUTE = 60
log = logging.getLogger("portal.gate")


class Allowance:
    """How many records of refused strangers are kept in a minute; beyond it they are only counted."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute, self.clock = a_minute, clock
        self._left, self._since = a_minute, clock()

    def take(self) -> bool:
        """Say whether one more may be kept."""
        if self.clock() - self._since >= 60:  # noqa: PLR2004
            self._left, self._since = self.a_minute, self.clock()
        self._left -= 1
        return self._left >= 0


class Gate:
    """Takes a request to an engine, if it may go there, and brings back what the engine writes."""

    def __init__(self, door: Door, pool: Pool, journal: Durable, figures: Figures, lookout: Lookout) -> None:
        self.door, self.pool, self.journal, self.figures, self.lookout = door, pool, journal, figures, lookout
        self.strangers = Allowance(STRANGERS_A_MINUTE)
        self.running: set[Work] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._swept = 0.0

    def admit(
        self, exchange: Exchange, model: str, channel: str, then: Callable[[Admission, Entry], None]
    ) -> None:  # fmt: skip
        """Decide one request: go on with `then`, or answer the refusal; it is written down then."""

        def decided(admission: Admission) -> None:
            if exchange.left:
                return
            entry = self._entry(exchange, channel, _known(admission))
            if admission.decision.allowed:
                then(admission, entry)
            else:
                self._refuse(exchange, entry, self.door.with_quota(admission))

        self.door.admit(
            exchange.request, model=model, action=Action.INFER, then=guarded(exchange, decided),
            failed=lambda error: fail(exchange, error),
        )  # fmt: skip

    def run(self, exchange: Exchange, ask: Ask, channel: str) -> None:
        """Answer a request that is well formed: decide, set quota aside, have an engine write."""
        admission = self.door.at_hand(exchange.request, ask.model)
        if admission is not None:
            known = admission.memo.get("known") or _known(admission)
            self._begin(exchange, ask, admission, self._entry(exchange, channel, known))
            return
        self.admit(exchange, ask.model, channel, lambda admission, entry: self._begin(exchange, ask, admission, entry))

    def _begin(self, exchange: Exchange, ask: Ask, admission: Admission, entry: Entry) -> None:
        held = self.lookout.look(exchange.request, ask, admission, entry)
        if held is not None:
            entry.finish(Outcome.REFUSED, reason_code=held.code)
            answer(exchange, held)
            return
        code = entry.reserve(ask.reserve, admission.limits)
        if code is not None:
            reason = quota_reason(code, admission.limits, self.door.settings.base_url, utcnow())
            decision = replace(admission.decision, reasons=(reason, *admission.decision.reasons))
            self._refuse(exchange, entry, decision)
            return
        if self.journal.problem:  # look whether it still cannot be written before an engine works for nothing
            try:
                self.journal.append(entry.opened)
            except Unavailable:
                entry.give_back()
                raise
            entry.written = True
        work = Work(self, exchange, ask, admission, entry)
        self.running.add(work)
        if self._timer is None:
            self._swept = time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        work.start()

    def invalid(self, exchange: Exchange, refused: Refusal, channel: str) -> None:
        """Answer a request that makes no sense, and keep a record of who sent it."""

        def known(actor: Actor) -> None:
            opened = use_opened(
                request_id="", at=utcnow(), action=Action.INFER.value, channel="", model_name=refused.model,
                user_id=actor.user_id, access_token_id=actor.access_token_id,
            )  # fmt: skip
            entry = self._entry(exchange, channel, Known(opened))
            if actor.user_id is not None:
                entry.finish(Outcome.INVALID, reason_code=refused.code)
                answer(exchange, refused)
                return
            code = actor.token_error or "not_signed_in"
            entry.finish(Outcome.REFUSED, reason_code=code)
            message = "Send an access token that can be used here: Authorization: Bearer lmp_…"
            answer(exchange, Refusal(401, code, message))

        self.door.who(exchange.request, then=guarded(exchange, known), failed=lambda error: fail(exchange, error))

    def _entry(self, exchange: Exchange, channel: str, known: Known) -> Entry:
        silent = known.fields["user_id"] is None and not self.strangers.take()
        said = {"id": exchange.request.request_id, "channel": channel}
        return Entry(self.journal, self.door.counters, self.figures, known, said, silent=silent)

    def _refuse(self, exchange: Exchange, entry: Entry, decision: Decision) -> None:
        entry.finish(Outcome.REFUSED, reason_code=decision.blocking[0].code)
        answer(exchange, refusal(decision, entry.known.fields["model_name"]))

    def _sweep(self) -> None:
        """Write down, in one write, what runs, and look after those that have long said nothing."""
        loop, now = asyncio.get_running_loop(), time.monotonic()
        self._timer = loop.call_later(SWEEP_S, self._sweep) if self.running else None  # whatever goes wrong meanwhile
        passed, self._swept = now - self._swept, now
        self._write_down()
        for work in list(self.running):
            try:
                work.look(passed)
            except Exception:  # the others are looked after all the same
                log.exception("looking after request %s", work.exchange.request.request_id)

    def _write_down(self) -> None:
        lines, written = [], {}
        for work in self.running:
            if not work.entry.written:
                work.entry.written = True
                lines.append(work.entry.opened)
            elif work.has_more():
                written[work.entry.said["id"]] = work.count.completion_tokens
        if written:
            lines.append(uses_running(utcnow(), written))
        if lines:
            try:
                self.journal.append(*lines)
            except Unavailable:
                log.warning("%d running requests could not be written down", len(self.running))


def _known(admission: Admission) -> Known:
    known: Known | None = admission.memo.get("known")
    if known is None:
        known = admission.memo["known"] = Known(admission.opened)
    return known
