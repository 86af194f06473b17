"""Decisions without an end, which one person proposes and another confirms for exactly what it would do."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Proposal, User
from portal.accounts.rules import Permission
from portal.cases import service as cases
from portal.cases.models import Case
from portal.core.actor import Actor
from portal.core.errors import Conflict
from portal.moderation import rules
from portal.moderation import service as moderation
from portal.moderation.models import CaseDecision
from portal.moderation.rules import ACTION, Order
from portal.sanctions import service as sanctions
from portal.sanctions.rules import in_force


def propose(session: Session, *, by: Actor, case_ref: str, order: Order, base_url: str, now: datetime) -> Proposal:
    """Propose, in a case that one holds, a decision that a second person has to confirm within a day."""
    case = cases.held(session, ref=case_ref, by=by, now=now)
    user = moderation.concerned(session, case=case)
    moderation.check_may_order(session, by=by, user=user, now=now)
    moderation.preview(session, user_id=user.id, order=order, base_url=base_url, now=now)
    return accounts.propose(
        session, action=ACTION, subject_ref=case.public_id, payload=_payload(session, user, order, now),
        page=f"/staff/cases/{case.public_id}/proposal", permission=Permission.PEOPLE_SANCTION, by=by, now=now,
    )  # fmt: skip


def proposed(session: Session, *, case: Case, now: datetime) -> tuple[Proposal, Order] | None:
    """Return what waits for a second person in a case."""
    proposal = accounts.open_proposal(session, action=ACTION, subject_ref=case.public_id, now=now)
    return None if proposal is None else (proposal, rules.order_of(json.loads(proposal.payload)))


def confirm(
    session: Session, *, by: Actor, case_ref: str, shown_sha256: str, notice_sha256: str, base_url: str, now: datetime
) -> CaseDecision:
    """Confirm, as a second person, what was proposed in a case, and decide it so.

    Raises:
        Conflict: it is not what was shown any more, or anything about the person changed since.
        Refused: the person proposed it themselves, or may not look into this.
    """
    case = cases.find(session, ref=case_ref)
    user = moderation.lock(session, moderation.concerned(session, case=case).id)
    cases.check_may_work(session, case=case, by=by)
    moderation.check_may_order(session, by=by, user=user, now=now)
    found = proposed(session, case=case, now=now)
    if found is None:
        raise Conflict("proposal_missing", "Nothing waits for a second person here (any more).")
    proposal, order = found
    accounts.confirm(
        session, action=ACTION, subject_ref=case.public_id, shown_sha256=shown_sha256,
        payload=_payload(session, user, order, now), by=by, now=now,
    )  # fmt: skip
    notice = moderation.shown(session, case, user, order, notice_sha256, base_url=base_url, now=now)
    return moderation.take(
        session, case=case, user=user, order=order, notice=notice, by=by, now=now, decided_by=proposal.proposed_by
    )


def _payload(session: Session, user: User, order: Order, now: datetime) -> dict[str, Any]:
    live = in_force(sanctions.of_person(session, user_id=user.id), now)
    count = len(moderation.decisions_about(session, user_id=user.id))
    state = [user.standing.value, user.standing_ref or "", str(count), *sorted(s.public_id for s in live)]
    return rules.payload(order, person=user.public_id, state=state)
