"""Admission in the data plane: who calls, and whether they may; asked of the records again once they have changed."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any, Protocol, cast

from sqlalchemy.orm import Session

from portal.access import service
from portal.access.rules import Action, Decision, Facts, decide
from portal.catalog.models import Release
from portal.catalog.rules import ModelState
from portal.core.actor import ANONYMOUS, Actor
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import transaction
from portal.edge.fresh import Found, Fresh
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.rules import Counters, Limits, Record, use_opened

LOOK_S = 0.5  # work that may not go on ends within two seconds of the change
UNSURE_S = 10.0  # and this long after nobody could say whether it may
STRANGER_S = 5.0
MODELS_MAX = 16  # that are remembered for one head
Key = tuple[Any, ...]
log = logging.getLogger("portal.door")
Failed = Callable[[BaseException], None]


class Call(Protocol):
    """What admission reads of a request."""

    @property
    def headers(self) -> dict[str, str]:
        """Header fields by lower-case name."""

    @property
    def actor(self) -> Actor | None:
        """Set when a page of the portal calls for a person who is signed in there."""

    @property
    def known(self) -> dict[str, Any]:
        """What is kept for other requests with the same head."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to one request at the door, with what a record of it must name; many requests may share it.

    Args:
        actor: who calls.
        decision: yes or no with all reasons, the quota left aside.
        model_name: as asked.
        facts: what the decision rests on.
        model_id: the model in question, if there is one.
        release_id, revision: the release in question, if there is one.
        signature_ids: the signatures relied on.
        card_revision_id: the card that the release was published with.
        license_number: ``slug/number`` of the first license relied on.
        limits: the person's daily limits.
        opened: what the journal says of every use under it.
        key: where the answer is kept.
        memo: what others work out of it, once.
    """

    actor: Actor
    decision: Decision
    action: Action
    model_name: str
    facts: Facts
    model_id: int | None = None
    release_id: int | None = None
    revision: str = ""
    signature_ids: tuple[int, ...] = ()
    card_revision_id: int | None = None
    license_number: str = ""
    limits: Limits = field(default_factory=Limits)
    opened: Record = field(default_factory=dict)
    key: Key = ()
    memo: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """A model with weights, and whether the caller may use it."""

    name: str
    namespace: str
    release: Release
    decision: Decision


@dataclass
class _Running:
    """Work under one admission that goes on."""

    admission: Admission
    works: dict[int, Callable[[Decision | None], None]] = field(default_factory=dict)
    sure_at: float = 0.0
    asking: bool = False


class Door:
    """Where every request for bytes or tokens is decided, on the loop and without ever waiting.

    Args:
        fresh: keeps answers.
        settings: the portal's settings.
        counters: today's use, exact, in memory.
    """

    def __init__(self, fresh: Fresh[Any], settings: Settings, counters: Counters) -> None:
        self.fresh = fresh
        self.settings = settings
        self.counters = counters
        self._running: list[_Running] = []
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None

    def admit(
        self, call: Call, *, model: str, action: Action, revision: str | None = None,
        then: Callable[[Admission], None], failed: Failed,
    ) -> None:  # fmt: skip
        """Decide one request and tell `then`, at once where it is known. A refusal is no failure; `decision` says."""
        key = (_who(call), model, revision, action)

        def load(session: Session) -> Found[Admission]:
            return self._decide(session, self.identify(session, call), key)

        self.fresh.ask(key, load, then, failed)

    def at_hand(self, call: Call, model: str) -> Admission | None:
        """Return the leave to infer with a model, if it is known."""
        if call.actor is not None or "authorization" not in call.headers:
            return None
        known = call.known.get(model)
        if known is not None and self.fresh.holds(known):
            leave: Admission = known.value
            return leave
        kept = self.fresh.kept((_who(call), model, None, Action.INFER))
        if kept is None or not kept.value.decision.allowed:
            return None
        if len(call.known) >= MODELS_MAX:
            call.known.clear()
        call.known[model] = kept
        return cast(Admission, kept.value)

    def who(self, call: Call, *, then: Callable[[Actor], None], failed: Failed) -> None:
        """Find who calls, where there is nothing to decide."""

        def load(session: Session) -> Found[Actor]:
            actor = self.identify(session, call)
            return Found(actor, *_lasts(session, actor, None))

        self.fresh.ask(_who(call), load, then, failed)

    def offered(
        self, call: Call, *, then: Callable[[tuple[Actor, list[Offer]]], None], failed: Failed
    ) -> None:  # fmt: skip
        """Tell who calls and every model with weights that is offered to them."""

        def work() -> tuple[Actor, list[Offer]]:
            with transaction(self.fresh.engine, write=False) as session:
                actor = self.identify(session, call)
                return actor, self._offers(session, actor)

        self.fresh.threads.run(work, then, failed)

    def identify(self, session: Session, call: Call) -> Actor:
        """Find who calls: the person of a page, or the owner of the bearer token."""
        if call.actor is not None:
            return call.actor
        authorization = call.headers.get("authorization")
        if authorization is None:
            return ANONYMOUS
        return tokens.actor_of(session, authorization=authorization, pepper=self.settings.pepper, now=utcnow())

    def with_quota(self, admission: Admission) -> Decision:
        """Return the decision with the quota among its reasons, as it is now."""
        person, now = admission.actor.user_id, utcnow()
        if person is None:
            return admission.decision
        used = self.counters.used(person, now)
        return decide(replace(admission.facts, used=used, limits=admission.limits), admission.action, now)

    def look_after(self, admission: Admission, cut: Callable[[Decision | None], None]) -> Callable[[], Any]:
        """Look twice a second whether work may go on, and call `cut`, once, when it may not.

        `cut` is told the decision; None if for long nobody could say. The work calls what is returned when it ends.
        """
        group: _Running | None = admission.memo.get("running")
        if group is None:
            loop = asyncio.get_running_loop()
            group = admission.memo["running"] = _Running(admission, sure_at=loop.time())
            self._running.append(group)
            if self._timer is None:
                self._timer = loop.call_later(LOOK_S, self._look)
        self._numbers += 1
        group.works[self._numbers] = cut
        return partial(group.works.pop, self._numbers, None)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)  # whatever goes wrong meanwhile
        for group in list(self._running):
            if not group.works:
                self._running.remove(group)
                del group.admission.memo["running"]
            elif not group.asking:
                try:
                    self._look_at(group)
                except Exception:
                    log.exception("looking after what runs")
        if not self._running:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, group: _Running) -> None:
        """Ask about running work; whoever may begin may go on, so that is looked up first."""
        loop, admission = asyncio.get_running_loop(), group.admission
        known = self.fresh.peek(admission.key)
        if known is not None and known.decision.allowed:
            group.sure_at = loop.time()
            return

        def load(session: Session) -> Found[Admission]:
            actor = tokens.refresh_actor(session, actor=admission.actor, now=utcnow())
            return self._decide(session, actor, admission.key, already_running=True)

        def then(found: Admission) -> None:
            group.asking, group.sure_at = False, loop.time()
            if not found.decision.allowed:
                _cut(group, found.decision)

        def failed(_error: BaseException) -> None:
            group.asking = False
            if loop.time() - group.sure_at > UNSURE_S:
                _cut(group, None)

        group.asking = True
        self.fresh.ask((*admission.key, "running"), load, then, failed)

    def _decide(self, session: Session, actor: Actor, key: Key, *, already_running: bool = False) -> Found[Admission]:
        _, model, revision, action = key
        now = utcnow()
        subject = service.find_subject(session, full_name=model, revision=revision)
        facts = service.facts_for(
            session, actor=actor, subjects=[subject], action=action, base_url=self.settings.base_url
        )[0]
        decision = decide(replace(facts, already_running=already_running), action, now)
        known: dict[str, Any] = {"model_id": subject.model.id if subject.model is not None else None}
        if actor.user_id is not None:
            known["limits"] = usage.limits_for(session, user_id=actor.user_id, now=now)
        if subject.release is not None:
            release = subject.release
            known |= {
                "release_id": release.id, "revision": release.revision, "card_revision_id": release.card_revision_id,
            }  # fmt: skip
        if decision.relied_on:
            first = decision.relied_on[0]
            known["license_number"] = f"{first.license_slug}/{first.license_number}"
            known["signature_ids"] = tuple(sorted(r.signature_id for r in decision.relied_on))
        opened = use_opened(
            request_id="", at=now, action=action.value, channel="", model_name=model, user_id=actor.user_id,
            access_token_id=actor.access_token_id, release_id=known.get("release_id"),
            signature_ids=known.get("signature_ids", ()), card_revision_id=known.get("card_revision_id"),
        )  # fmt: skip
        made = Admission(actor, decision, action, model, facts, opened=opened, key=key, **known)
        return Found(made, *_lasts(session, actor, decision))

    def _offers(self, session: Session, actor: Actor) -> list[Offer]:
        rows = service.models_with_decisions(
            session, actor=actor, action=Action.INFER, now=utcnow(), base_url=self.settings.base_url
        )
        return [
            Offer(model.full_name, model.namespace, release, decision)
            for model, release, decision in rows
            if release is not None and model.state is ModelState.PUBLISHED
        ]


def _who(call: Call) -> Key | bytes | None:
    """Name the caller without keeping a secret."""
    if call.actor is not None:
        return ("person", call.actor.user_id)
    authorization = call.headers.get("authorization")
    return None if authorization is None else sha256(authorization.encode("utf-8", "surrogateescape")).digest()


def _lasts(session: Session, actor: Actor, decision: Decision | None) -> tuple[float, bool]:
    """Return until when an answer holds by the clock, and whether it is about somebody or something unknown.

    Deliveries raise no version, as each one would empty the cache; what they could change, that a copy is whole and
    may be completed, is never kept.
    """
    until = [decision.until.timestamp()] if decision is not None and decision.until is not None else []
    if actor.access_token_id is not None:
        until.append(tokens.expiry(session, token_id=actor.access_token_id).timestamp())
    codes = {reason.code for reason in decision.blocking} if decision is not None else set()
    if actor.token_error == "access_token_invalid" or "model_not_found" in codes:  # noqa: S105
        return utcnow().timestamp() + STRANGER_S, True
    if decision is not None and decision.action is Action.DOWNLOAD and "signature_due" in codes:
        return 0.0, False
    return min(until, default=float("inf")), False


def _cut(group: _Running, decision: Decision | None) -> None:
    for cut in list(group.works.values()):
        cut(decision)
    group.works.clear()
