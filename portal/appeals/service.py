"""Keeping appeals; what comes of one is for `moderation` to do."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.appeals import rules
from portal.appeals.models import Appeal, AppealMessage
from portal.appeals.rules import APPEAL, AppealAction, AppealOutcome, AppealState
from portal.audit import service as audit
from portal.audit.rules import AppealDecided, AppealFiled
from portal.core.actor import Actor
from portal.core.errors import NotFound
from portal.core.ids import public_id
from portal.statements.rules import APPEAL_ANSWER, check_words, plain


def of_decision(session: Session, *, ref: str) -> Appeal | None:
    """Return the appeal against a case decision, if one was filed."""
    return session.scalar(sa.select(Appeal).where(Appeal.decision_ref == ref))


def find(session: Session, *, ref: str) -> Appeal:
    """Find an appeal by public id, or raise `NotFound`."""
    appeal = session.scalar(sa.select(Appeal).where(Appeal.public_id == ref))
    if appeal is None:
        raise NotFound("appeal_not_found", "There is no such appeal.")
    return appeal


def listed(session: Session, *, state: AppealState, limit: int = 200) -> Sequence[Appeal]:
    """Return appeals in a state: waiting ones by due date, answered ones newest first."""
    order = Appeal.decided_at.desc() if state is AppealState.DECIDED else Appeal.due_at
    return session.scalars(sa.select(Appeal).where(Appeal.state == state).order_by(order, Appeal.id).limit(limit)).all()


def file(session: Session, *, by: Actor, decision_ref: str, text: str, now: datetime) -> Appeal:
    """Contest a case decision of one's own."""
    appeal = Appeal(
        public_id=public_id("apl"), decision_ref=decision_ref, user_id=by.id, text=plain(text), filed_at=now,
        due_at=now + APPEAL_ANSWER, state=APPEAL.start,
    )  # fmt: skip
    session.add(appeal)
    session.flush()
    audit.record(session, AppealFiled(subject=appeal.public_id, case_decision=decision_ref), by=by, now=now)
    return appeal


def message(
    session: Session, *, appeal: Appeal, action: AppealAction, words: str, by: Actor, now: datetime
) -> AppealMessage:
    """Ask the person something about their appeal, or answer that as the person."""
    check_words(words, field="words", ask="Write the message.", most=rules.APPEAL_MAX)
    appeal.state = APPEAL.next(appeal.state, action)
    row = AppealMessage(appeal_id=appeal.id, author=by.public_id, words=plain(words), at=now)
    session.add(row)
    session.flush()
    digest = sha256(row.words.encode()).hexdigest()
    audit.record(session, rules.AppealMessaged(appeal.public_id, sha256=digest), by=by, now=now)
    return row


def messages(session: Session, *, appeal: Appeal) -> Sequence[AppealMessage]:
    """Return what was written back and forth about an appeal, oldest first."""
    query = sa.select(AppealMessage).where(AppealMessage.appeal_id == appeal.id)
    return session.scalars(query.order_by(AppealMessage.id)).all()


def answer(
    session: Session, *, appeal: Appeal, outcome: AppealOutcome, reasons: str, by: Actor, now: datetime
) -> None:  # fmt: skip
    """Record how an appeal ended, and why."""
    appeal.state = APPEAL.next(appeal.state, AppealAction.DECIDE)
    appeal.outcome, appeal.reasons, appeal.reviewer = outcome, plain(reasons), by.public_id
    appeal.decided_at = now
    session.flush()
    event = AppealDecided(subject=appeal.public_id, case_decision=appeal.decision_ref, outcome=outcome.value)
    audit.record(session, event, by=by, now=now)
