"""Deciding the same about several people: looked at first, done at once, undone at once."""

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Proposal
from portal.accounts.rules import Permission
from portal.appeals.rules import check_reason
from portal.audit import service as audit
from portal.batches import rules
from portal.batches.models import Batch
from portal.batches.rules import ACTION, Outcome
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import WAITING, LinkKind
from portal.core.actor import Actor
from portal.core.errors import Conflict, NotFound, PortalError
from portal.core.ids import public_id
from portal.detection import service as detection
from portal.moderation import rules as moderation_rules
from portal.moderation import service as moderation
from portal.moderation.models import CaseDecision
from portal.moderation.rules import DecisionState, Order


def look(
    session: Session, *, by: Actor, refs: Sequence[str], order: Order, base_url: str, now: datetime
) -> list[Outcome]:  # fmt: skip
    """Return what a decision would do to each of some people; all of it is tried and taken back."""
    rules.check_bulk(order)
    moderation_rules.check_order(order, now=now)
    found = []
    for ref in refs:
        with session.begin_nested() as step:
            try:
                decision = _one(session, ref, order, by=by, base_url=base_url, now=now)
                name = accounts.names(session, refs=[ref]).get(ref, "")
                found.append(Outcome(ref, name, decision.statement.notice_sha256, notice=decision.statement.notice))
            except PortalError as error:
                found.append(Outcome(ref, problem=error.message))
            step.rollback()
        session.expire_all()
    return found


def _one(
    session: Session, ref: str, order: Order, *, by: Actor, base_url: str, now: datetime, decided_by: str = "",
    batch_ref: str = "",
) -> CaseDecision:  # fmt: skip
    user = moderation.person_to_judge(session, by=by, ref=ref, now=now)
    case = moderation.open_on(session, user=user, by=by, now=now)
    cases.held(session, ref=case.public_id, by=by, now=now)
    notice = moderation.preview(session, user_id=user.id, order=order, base_url=base_url, now=now)
    return moderation.take(
        session, case=case, user=user, order=order, notice=notice, by=by, now=now, decided_by=decided_by,
        batch_ref=batch_ref,
    )  # fmt: skip


def make(
    session: Session,
    *,
    by: Actor,
    refs: Sequence[str],
    order: Order,
    shown_sha256: str,
    base_url: str,
    now: datetime,
    case_ref: str = "",
) -> Batch:
    """Decide about those of some people about whom it is possible, for exactly what was looked at.

    More than ten take a second person, and nothing happens before that.

    Args:
        case_ref: the case about several people that this settles; whoever decides holds it.

    Raises:
        Conflict: the outcomes are not those that were looked at, or the case is not held any more.
    """
    if case_ref:
        cases.held(session, ref=case_ref, by=by, now=now)
    outcomes = look(session, by=by, refs=refs, order=order, base_url=base_url, now=now)
    body = rules.body_of(moderation_rules.payload(order, person="", state=()), outcomes)
    if rules.seal(body) != shown_sha256:
        raise Conflict("batch_changed", "The outcomes are others now. Look at them again and confirm.")
    good = [outcome.ref for outcome in outcomes if not outcome.problem]
    if not good:
        raise Conflict("batch_empty", "About none of these people can it be decided so.")
    batch = Batch(
        public_id=public_id("bat"), body=body, sha256=shown_sha256, size=len(good), made_by=by.public_id, made_at=now,
        case_ref=case_ref,
    )  # fmt: skip
    session.add(batch)
    session.flush()
    if rules.needs_two(len(good)):
        accounts.propose(
            session, action=ACTION, subject_ref=batch.public_id, payload=_payload(batch, order),
            page=f"/staff/batches/{batch.public_id}", permission=Permission.PEOPLE_SANCTION, by=by, now=now,
        )  # fmt: skip
        return batch
    _execute(session, batch, good, order, by=by, base_url=base_url, now=now)
    return batch


def _payload(batch: Batch, order: Order) -> dict[str, object]:
    return {"reason": order.facts, "batch": batch.public_id, "sha256": batch.sha256}


def waiting(session: Session, *, batch: Batch, now: datetime) -> Proposal | None:
    """Return what waits for a second person, if anything does."""
    return accounts.open_proposal(session, action=ACTION, subject_ref=batch.public_id, now=now)


def confirm(session: Session, *, by: Actor, ref: str, shown_sha256: str, base_url: str, now: datetime) -> Batch:
    """Confirm, as a second person, a decision about more than ten people, and take it.

    Raises:
        Conflict: anything about any of them changed since it was proposed.
        Refused: the person proposed it themselves.
    """
    batch = find(session, ref=ref)
    kept = json.loads(batch.body)
    order = moderation_rules.order_of(kept["order"])
    accounts.confirm(
        session, action=ACTION, subject_ref=batch.public_id, shown_sha256=shown_sha256,
        payload=_payload(batch, order), by=by, now=now,
    )  # fmt: skip
    good = [ref for ref, _, problem in kept["people"] if not problem]
    for ref_, outcome in zip(
        good, look(session, by=by, refs=good, order=order, base_url=base_url, now=now), strict=True
    ):
        if outcome.problem:
            raise Conflict("proposal_changed", f"About {ref_} it cannot be decided so any more. Propose it again.")
    _execute(session, batch, good, order, by=by, base_url=base_url, now=now, decided_by=batch.made_by)
    return batch


def _execute(
    session: Session, batch: Batch, refs: Sequence[str], order: Order, *, by: Actor, base_url: str, now: datetime,
    decided_by: str = "",
) -> None:  # fmt: skip
    made = [
        _one(session, ref, order, by=by, base_url=base_url, now=now, decided_by=decided_by, batch_ref=batch.public_id)
        for ref in refs
    ]
    batch.executed_at = now
    if decided_by:
        batch.confirmed_by = by.public_id
    session.flush()
    if batch.case_ref:
        _settle(session, cases.find(session, ref=batch.case_ref), made, by=by, now=now)
    event = rules.BatchExecuted(batch.public_id, size=len(refs), confirmed_by=batch.confirmed_by or "")
    audit.record(session, event, by=by, now=now)


def _settle(session: Session, case: Case, made: Sequence[CaseDecision], *, by: Actor, now: datetime) -> None:
    """Settle a case about several people by what was decided about each, and let the cases lead to each other."""
    cases.link(session, case=case, links=[(LinkKind.DECISION, decision.public_id) for decision in made])
    for decision in made:
        own = session.get_one(Case, decision.case_id)
        cases.link(session, case=own, links=[(LinkKind.CASE, case.public_id)])
        cases.link(session, case=case, links=[(LinkKind.CASE, own.public_id)])
    if case.state in WAITING:
        cases.decided(session, case=case, by=by, now=now)
        detection.note_finding(session, case_id=case.id, breach=True, now=now)


def undo(session: Session, *, by: Actor, ref: str, reason: str, base_url: str, now: datetime) -> list[CaseDecision]:
    """Overturn everything of a batch that still stands, and tell each of the people; again changes nothing."""
    check_reason(reason)
    batch = find(session, ref=ref)
    standing = [d for d in decisions(session, batch=batch) if d.state is DecisionState.IN_FORCE]
    for user_id, group in groupby(sorted(standing, key=lambda d: d.person_id), key=lambda d: d.person_id):
        user = moderation.lock(session, user_id)
        moderation.check_may_order(session, by=by, user=user, now=now)
        moderation.overturn(
            session, user=user, decisions=list(group), by=by, reason=reason, base_url=base_url, now=now
        )  # fmt: skip
    if batch.undone_at is None:
        batch.undone_at, batch.undone_by = now, by.public_id
        session.flush()
        audit.record(session, rules.BatchUndone(batch.public_id, size=len(standing)), by=by, now=now)
    return standing


def find(session: Session, *, ref: str) -> Batch:
    """Find a batch by public id, or raise `NotFound`."""
    batch = session.scalar(sa.select(Batch).where(Batch.public_id == ref))
    if batch is None:
        raise NotFound("batch_not_found", "There is no such batch.")
    return batch


def decisions(session: Session, *, batch: Batch) -> Sequence[CaseDecision]:
    """Return the decisions of a batch, in the order in which they were taken."""
    query = sa.select(CaseDecision).where(CaseDecision.batch_ref == batch.public_id).order_by(CaseDecision.id)
    return session.scalars(query).unique().all()


def people(session: Session, *, batch: Batch) -> list[tuple[str, str, str]]:
    """Return whom a batch names: public id, name, and why it could not be decided about them."""
    rows = [(ref, problem) for ref, _, problem in json.loads(batch.body)["people"]]
    names = accounts.names(session, refs=[ref for ref, _ in rows])
    return [(ref, names.get(ref, ""), problem) for ref, problem in rows]
