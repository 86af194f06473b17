"""Admission in the data plane: who calls, and whether they may, asked anew for every request."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service
from portal.access.rules import Action, Decision
from portal.catalog.models import Release
from portal.catalog.rules import ModelState
from portal.core.actor import ANONYMOUS, Actor
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import transaction
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.rules import Counters, Limits


class Call(Protocol):
    """What admission reads of a request."""

    @property
    def headers(self) -> dict[str, str]:
        """Header fields by lower-case name."""

    @property
    def actor(self) -> Actor | None:
        """Set when a page of the portal calls for a person who is signed in there."""


@dataclass(frozen=True)
class Admission:
    """The answer to one request at the door, with what a record of it must name.

    Args:
        actor: who calls.
        decision: yes or no with all reasons.
        model_name: as asked.
        release_id, revision: the release in question, if there is one.
        signature_ids: the signatures relied on.
        card_revision_id: the card that the release was published with.
        license_number: ``slug/number`` of the first license relied on.
        limits: the person's daily limits.
    """

    actor: Actor
    decision: Decision
    action: Action
    model_name: str
    release_id: int | None = None
    revision: str = ""
    signature_ids: tuple[int, ...] = ()
    card_revision_id: int | None = None
    license_number: str = ""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Offer:
    """A model with weights, and whether the caller may use it."""

    name: str
    namespace: str
    release: Release
    decision: Decision


class Door:
    """Where every request for bytes or tokens is decided.

    Args:
        engine: the database, read only.
        settings: the portal's settings.
        counters: today's use, exact, in memory.
    """

    def __init__(self, engine: sa.Engine, settings: Settings, counters: Counters) -> None:
        self.engine = engine
        self.settings = settings
        self.counters = counters

    def identify(self, session: Session, call: Call) -> Actor:
        """Find who calls: the person of a page, or the owner of the bearer token."""
        if call.actor is not None:
            return call.actor
        authorization = call.headers.get("authorization")
        if authorization is None:
            return ANONYMOUS
        return tokens.actor_of(session, authorization=authorization, pepper=self.settings.pepper, now=utcnow())

    def admit(self, call: Call, *, model: str, action: Action, revision: str | None = None) -> Admission:
        """Decide one request. Never raises for a refusal; `decision` says."""
        with transaction(self.engine, write=False) as session:
            actor = self.identify(session, call)
            return self._decide(session, actor, model, action, revision)

    def recheck(self, admission: Admission) -> bool:
        """Say whether work that was admitted may go on."""
        return self.again(admission).allowed

    def who(self, call: Call) -> Actor:
        """Find who calls, where there is nothing to decide."""
        with transaction(self.engine, write=False) as session:
            return self.identify(session, call)

    def offered(self, call: Call) -> tuple[Actor, list[Offer]]:
        """Return who calls and every model with weights that is offered to them."""
        with transaction(self.engine, write=False) as session:
            actor = self.identify(session, call)
            rows = service.models_with_decisions(
                session, actor=actor, action=Action.INFER, now=utcnow(), base_url=self.settings.base_url
            )
            return actor, [
                Offer(model.full_name, model.namespace, release, decision)
                for model, release, decision in rows
                if release is not None and model.state is ModelState.PUBLISHED
            ]

    def again(self, admission: Admission) -> Decision:
        """Decide anew about work that was admitted and still runs."""
        with transaction(self.engine, write=False) as session:
            actor = tokens.refresh_actor(session, actor=admission.actor, now=utcnow())
            return service.check(
                session, actor=actor, model=admission.model_name, action=admission.action, now=utcnow(),
                base_url=self.settings.base_url, revision=admission.revision or None, already_running=True,
            )  # fmt: skip

    def _decide(self, session: Session, actor: Actor, model: str, action: Action, revision: str | None) -> Admission:
        now = utcnow()
        user_id = actor.user_id
        terms: dict[str, Any] = {}
        if user_id is not None:
            terms["limits"] = usage.limits_for(session, user_id=user_id)
        subject = service.find_subject(session, full_name=model, revision=revision)
        decision = service.check_subject(
            session, actor=actor, subject=subject, action=action, now=now, base_url=self.settings.base_url,
            used=self.counters.used(user_id, now) if user_id is not None else None, limits=terms.get("limits"),
        )  # fmt: skip
        release = subject.release
        if release is not None:
            terms |= {
                "release_id": release.id, "revision": release.revision, "card_revision_id": release.card_revision_id,
            }  # fmt: skip
        if decision.relied_on:
            first = decision.relied_on[0]
            terms["license_number"] = f"{first.license_slug}/{first.license_number}"
            terms["signature_ids"] = tuple(sorted(r.signature_id for r in decision.relied_on))
        return Admission(actor=actor, decision=decision, action=action, model_name=model, **terms)
