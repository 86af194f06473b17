"""Deciding about a person's conduct: suspending under signed clauses, reversing, and answering appeals."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import RoleHolding, User
from portal.accounts.rules import Permission, Standing, StandingAction
from portal.audit import service as audit
from portal.audit.rules import AppealDecided, AppealFiled, DecisionOverturned, SanctionOrdered
from portal.clauses import rules as clauses
from portal.clauses.models import Clause, ClauseText, Text
from portal.core.actor import SYSTEM, Actor
from portal.core.db import hold
from portal.core.errors import Conflict, Invalid, NotFound
from portal.core.ids import public_id
from portal.licensing import service as licensing
from portal.licensing.models import Signature
from portal.logins import service as logins
from portal.moderation import rules
from portal.moderation.models import Appeal, CaseDecision, Sanction, StatementClause, StatementOfReasons
from portal.moderation.rules import AppealOutcome, AppealState, Citation, DecisionState, Effects, NoticePreview
from portal.notices import service as notices

SUSPEND = rules.SanctionKind.SUSPEND
CITABLE = frozenset({clauses.ClauseKind.RESTRICTION, clauses.ClauseKind.DUTY})
LAPSE_BATCH = 100


def citable(session: Session, *, user_id: int, base_url: str) -> list[Citation]:
    """Return the restrictions that a person signed last, each in the exact words of that text, in its order."""
    signature = _bound_by(session, user_id)
    return _citations(session, signature, base_url, Clause.kind == clauses.ClauseKind.RESTRICTION)


def person_to_judge(session: Session, *, by: Actor, ref: str, now: datetime) -> User:
    """Find a person whom the actor may suspend or reinstate."""
    user = session.scalars(sa.select(User).where(User.public_id == ref)).unique().one_or_none()
    if user is None:
        raise NotFound("person_not_found", "There is no such person.")
    _check_may_order(session, by, user, now)
    return user


def preview_notice(
    session: Session,
    *,
    user_id: int,
    clause_keys: Sequence[str],
    facts: str,
    until: datetime,
    base_url: str,
    now: datetime,
) -> NoticePreview:
    """Return the notice of a suspension exactly as it would be sent now; nothing is decided yet.

    Raises:
        Conflict: the person signed nothing, so no clause binds them.
        Invalid: no clause, a clause outside the text they signed, no facts, or an end in the past.
    """
    rules.check_order(facts=facts, clause_keys=clause_keys, until=until, now=now)
    signature = _bound_by(session, user_id)
    wanted = sorted(set(clause_keys))
    cited = _citations(session, signature, base_url, Clause.stable_key.in_(wanted), Clause.kind.in_(CITABLE))
    if unknown := sorted(set(wanted) - {c.key for c in cited}):
        message = f"{unknown[0]} is no restriction or duty of the text that this person signed."
        raise Invalid("clause_unknown", message, field="clause")
    version, ref, appeal_by = signature.version, _next_ref(session, signature), rules.appeal_deadline(now)
    signed = f"{version.license.title}, version {version.number}, on {rules.day(signature.signed_at)}"
    text = rules.compose_notice(
        ref=ref, base_url=base_url, signed=signed, citations=cited, facts=facts, until=until, appeal_by=appeal_by
    )
    return NoticePreview(ref, text, until, appeal_by, signature.id, version.id, tuple(cited))


def suspend(
    session: Session,
    *,
    by: Actor,
    user_id: int,
    clause_keys: Sequence[str],
    facts: str,
    until: datetime,
    notice_sha256: str,
    base_url: str,
    now: datetime,
) -> CaseDecision:
    """Suspend a person under clauses they signed; the notice is the one previewed, named by its digest.

    Sending the same order again while it stands decides nothing anew and returns the same case decision.

    Raises:
        Conflict: the notice would now read differently from what was previewed.
    """
    user = _lock(session, user_id)
    if earlier := _told(session, user_id, notice_sha256):
        return earlier
    _check_may_order(session, by, user, now)
    notice = preview_notice(
        session, user_id=user_id, clause_keys=clause_keys, facts=facts, until=until, base_url=base_url, now=now
    )
    if notice.sha256 != notice_sha256:
        raise Conflict("notice_changed", "The notice would read differently now. Look at it again and confirm.")
    decision = _decide(session, notice, user_id=user_id, facts=facts, by=by, now=now)
    event = SanctionOrdered(
        subject=notice.ref, case_decision=decision.public_id, user=user.public_id, kind=SUSPEND.value,
        clauses=" ".join(c.key for c in notice.citations),
    )  # fmt: skip
    audit.record(session, event, by=by, now=now)
    recompute(session, user_id=user_id, by=by, now=now)
    logins.end_sessions(session, user_id=user_id, reason="suspended", by=by, now=now)
    subject = "Your account is suspended"
    _tell(session, user, kind="suspension", ref=notice.ref, subject=subject, body=notice.text, now=now)
    return decision


def _decide(
    session: Session, notice: NoticePreview, *, user_id: int, facts: str, by: Actor, now: datetime
) -> CaseDecision:
    statement = StatementOfReasons(
        version_id=notice.version_id, signature_id=notice.signature_id, facts=rules.plain(facts), notice=notice.text,
        notice_sha256=notice.sha256, until=notice.until, appeal_by=notice.appeal_by,
        clauses=[StatementClause(clause_id=c.clause_id) for c in notice.citations],
    )  # fmt: skip
    sanction = Sanction(public_id=notice.ref, kind=SUSPEND, starts_at=now, until=notice.until)
    decision = CaseDecision(
        public_id=public_id("dec"), user_id=user_id, state=rules.DECISION.start, decided_by=by.public_id,
        decided_at=now, statement=statement, sanctions=[sanction],
    )  # fmt: skip
    session.add(decision)
    session.flush()
    return decision


def reinstate(
    session: Session, *, by: Actor, user_id: int, reason: str, base_url: str, now: datetime
) -> list[CaseDecision]:
    """Overturn every case decision that suspends a person now and tell them; returns those decisions, or none."""
    rules.check_reason(reason)
    user = _lock(session, user_id)
    _check_may_order(session, by, user, now)
    decisions = [d for d in decisions_about(session, user_id=user_id) if _holds(d, now)]
    for decision in decisions:
        _overturn(session, decision, by=by, reason=reason, now=now)
    left = recompute(session, user_id=user_id, by=by, now=now)
    for decision in decisions:
        _correct(session, user, decision, reason=reason, left=left, base_url=base_url, now=now)
    return decisions


def _overturn(session: Session, decision: CaseDecision, *, by: Actor, reason: str, now: datetime) -> None:
    decision.state = rules.DECISION.next(decision.state, rules.DecisionAction.OVERTURN)
    decision.overturned_by, decision.overturned_at, decision.overturn_reason = by.public_id, now, rules.plain(reason)
    user = session.get_one(User, decision.user_id)
    digest = sha256(rules.plain(reason).encode()).hexdigest()
    event = DecisionOverturned(subject=decision.public_id, user=user.public_id, reason_sha256=digest)
    audit.record(session, event, by=by, now=now)
    appeal = appeal_of(session, decision=decision)
    # What was contested is gone, so an appeal that still waits has got what it asked for.
    if appeal is not None and appeal.state is AppealState.FILED:
        _answer(session, appeal, outcome=AppealOutcome.OVERTURNED, reasons=reason, by=by, now=now)
    session.flush()


def _correct(
    session: Session, user: User, decision: CaseDecision, *, reason: str, left: Effects, base_url: str, now: datetime
) -> None:
    ref = decision.sanctions[0].public_id
    body = rules.compose_correction(ref=ref, base_url=base_url, reason=reason, suspended_until=left.suspended_until)
    subject = "Correction: a decision about your account is overturned"
    _tell(session, user, kind="correction", ref=ref, subject=subject, body=body, now=now)


def recompute(session: Session, *, user_id: int, by: Actor, now: datetime) -> Effects:
    """Write down what a person's sanctions in force amount to now, as their standing."""
    query = (
        sa.select(Sanction.public_id, Sanction.kind, Sanction.starts_at, Sanction.until, CaseDecision.state)
        .join(CaseDecision)
        .where(CaseDecision.user_id == user_id)
    )
    found = [
        rules.SanctionFact(ref, kind, starts_at, until, overturned=state is DecisionState.OVERTURNED)
        for ref, kind, starts_at, until, state in session.execute(query)
    ]
    effects = rules.effects(found, now)
    user = session.get_one(User, user_id)
    recorded = (user.standing_until, user.standing_ref) == (effects.suspended_until, effects.sanction_ref)
    if recorded or user.standing is Standing.CLOSED:
        return effects
    if effects.suspended_until is not None:
        accounts.set_standing(
            session, user_id=user_id, action=StandingAction.SUSPEND, until=effects.suspended_until,
            ref=effects.sanction_ref, by=by, now=now,
        )  # fmt: skip
    elif user.standing is Standing.SUSPENDED:
        accounts.set_standing(
            session, user_id=user_id, action=StandingAction.REINSTATE, until=None, ref=None, by=by, now=now
        )
    return effects


def lapse(session: Session, *, now: datetime) -> int:
    """Record as active the people whose suspension the clock has ended; the decision ignored it from that instant."""
    ended = sa.select(User.id).where(User.standing == Standing.SUSPENDED, User.standing_until <= now).limit(LAPSE_BATCH)
    ids = session.scalars(ended).all()
    for user_id in ids:
        recompute(session, user_id=user_id, by=SYSTEM, now=now)
    return len(ids)


def decisions_about(session: Session, *, user_id: int) -> Sequence[CaseDecision]:
    """Return the case decisions about a person, newest first."""
    query = sa.select(CaseDecision).where(CaseDecision.user_id == user_id).order_by(CaseDecision.id.desc())
    return session.scalars(query).unique().all()


def own_decision(session: Session, *, by: Actor, ref: str) -> CaseDecision:
    """Find the case decision behind a sanction for the person concerned; to anybody else it does not exist."""
    query = sa.select(CaseDecision).join(Sanction).where(Sanction.public_id == ref, CaseDecision.user_id == by.user_id)
    decision = session.scalars(query).unique().one_or_none()
    if decision is None:
        raise NotFound("decision_not_found", "There is no such decision.")
    return decision


def cited(session: Session, *, decision: CaseDecision, base_url: str) -> list[Citation]:
    """Return the clauses that a case decision rests on, in the words that the person signed."""
    signature = session.get_one(Signature, decision.statement.signature_id)
    ids = [row.clause_id for row in decision.statement.clauses]
    return _citations(session, signature, base_url, Clause.id.in_(ids))


def appeal_of(session: Session, *, decision: CaseDecision) -> Appeal | None:
    """Return the appeal against a case decision, if one was filed."""
    return session.scalar(sa.select(Appeal).where(Appeal.case_decision_id == decision.id))


def file_appeal(session: Session, *, by: Actor, ref: str, text: str, base_url: str, now: datetime) -> Appeal:
    """Contest the case decision behind a sanction of one's own, once; sending it twice files it once."""
    decision = own_decision(session, by=by, ref=ref)
    user = _lock(session, decision.user_id)
    if earlier := appeal_of(session, decision=decision):
        if earlier.text == rules.plain(text):
            return earlier
        raise Conflict("appeal_exists", "You have appealed this decision already; its state is on this page.")
    rules.check_appeal(rules.plain(text), state=decision.state, appeal_by=decision.statement.appeal_by, now=now)
    appeal = Appeal(
        public_id=public_id("apl"), case_decision_id=decision.id, state=rules.APPEAL.start, text=rules.plain(text),
        filed_at=now, due_at=now + rules.APPEAL_ANSWER,
    )  # fmt: skip
    session.add(appeal)
    session.flush()
    audit.record(session, AppealFiled(subject=appeal.public_id, case_decision=decision.public_id), by=by, now=now)
    body = rules.compose_appeal_received(ref=ref, base_url=base_url, due_at=appeal.due_at)
    _tell(session, user, kind="appeal_received", ref=ref, subject="Your appeal was received", body=body, now=now)
    return appeal


def appeals(session: Session, *, state: AppealState, limit: int = 200) -> Sequence[tuple[Appeal, CaseDecision, User]]:
    """Return appeals in a state: waiting ones by due date, answered ones newest first."""
    order = Appeal.due_at if state is AppealState.FILED else Appeal.decided_at.desc()
    query = (
        sa.select(Appeal, CaseDecision, User)
        .join(CaseDecision, CaseDecision.id == Appeal.case_decision_id)
        .join(User, User.id == CaseDecision.user_id)
        .where(Appeal.state == state)
        .order_by(order, Appeal.id)
        .limit(limit)
    )
    return [(appeal, decision, user) for appeal, decision, user in session.execute(query).unique()]


def find_appeal(session: Session, *, ref: str) -> tuple[Appeal, CaseDecision, User]:
    """Find an appeal with what it contests and whom it concerns."""
    appeal = session.scalar(sa.select(Appeal).where(Appeal.public_id == ref))
    if appeal is None:
        raise NotFound("appeal_not_found", "There is no such appeal.")
    decision = session.get_one(CaseDecision, appeal.case_decision_id)
    return appeal, decision, session.get_one(User, decision.user_id)


def decide_appeal(
    session: Session, *, by: Actor, ref: str, outcome: AppealOutcome, reasons: str, base_url: str, now: datetime
) -> Appeal:
    """Answer an appeal, as somebody uninvolved; where it succeeds the effects are recomputed at once."""
    appeal, decision, user = find_appeal(session, ref=ref)
    _lock(session, user.id)
    rules.check_reason(reasons, field="reasons")
    rules.check_reviewer(reviewer=by.public_id, decided_by=decision.decided_by, concerned=user.public_id)
    if appeal.state is AppealState.DECIDED and (appeal.outcome, appeal.reasons) == (outcome, rules.plain(reasons)):
        return appeal
    _answer(session, appeal, outcome=outcome, reasons=reasons, by=by, now=now)
    if outcome is AppealOutcome.OVERTURNED:
        _overturn(session, decision, by=by, reason=reasons, now=now)
        left = recompute(session, user_id=user.id, by=by, now=now)
        _correct(session, user, decision, reason=reasons, left=left, base_url=base_url, now=now)
    else:
        sanction = decision.sanctions[0].public_id
        body = rules.compose_appeal_upheld(ref=sanction, base_url=base_url, reasons=reasons)
        _tell(session, user, kind="appeal_answer", ref=sanction, subject="Your appeal is answered", body=body, now=now)
    return appeal


def _answer(
    session: Session, appeal: Appeal, *, outcome: AppealOutcome, reasons: str, by: Actor, now: datetime
) -> None:
    decision = session.get_one(CaseDecision, appeal.case_decision_id)
    appeal.state = rules.APPEAL.next(appeal.state, rules.AppealAction.DECIDE)
    appeal.outcome, appeal.reasons, appeal.reviewer = outcome, rules.plain(reasons), by.public_id
    appeal.decided_at = now
    session.flush()
    event = AppealDecided(subject=appeal.public_id, case_decision=decision.public_id, outcome=outcome.value)
    audit.record(session, event, by=by, now=now)


def _lock(session: Session, user_id: int) -> User:
    """Return a person and keep others from deciding about them until this is done."""
    hold(session, User.id, user_id)
    return session.get_one(User, user_id)


def _check_may_order(session: Session, by: Actor, user: User, now: datetime) -> None:
    roles = sa.select(RoleHolding.id).where(
        RoleHolding.user_id == user.id, sa.or_(RoleHolding.ended_at.is_(None), RoleHolding.ended_at > now)
    )
    rules.check_may_order(
        by_user=by.user_id, user_id=user.id, concerns_staff=session.scalar(roles.limit(1)) is not None,
        manages_staff=Permission.STAFF_MANAGE.value in by.permissions,
    )  # fmt: skip


def _bound_by(session: Session, user_id: int) -> Signature:
    """Return the signature from which clauses are cited to a person."""
    signature = licensing.promised(session, user_id=user_id)
    if signature is None:
        message = "This person has signed nothing, so no clause binds them. End their access tokens instead."
        raise Conflict("signature_missing", message)
    return signature


def _citations(session: Session, signature: Signature, base_url: str, *which: sa.ColumnElement[bool]) -> list[Citation]:
    """Return clauses in the exact words of the rendition that a person signed."""
    body = session.get_one(Text, signature.rendition_sha256).body.decode()
    query = (
        sa.select(Clause.id, Clause.stable_key, ClauseText.label, ClauseText.start, ClauseText.end)
        .join(ClauseText, ClauseText.clause_id == Clause.id)
        .where(ClauseText.text_sha256 == signature.rendition_sha256, *which)
        .order_by(ClauseText.ordinal)
    )
    version, rendition = signature.version, signature.rendition
    language = "" if rendition.prevailing else f"?lang={rendition.language}"
    page = f"{base_url}/licenses/{version.license.slug}/{version.number}{language}"
    found = []
    for clause_id, key, label, start, end in session.execute(query):
        part = clauses.parse(body[start:end])[0]
        found.append(Citation(clause_id, key, label, part.title, part.body, f"{page}#{key}"))
    return found


def _next_ref(session: Session, signature: Signature) -> str:
    """Return the public id that the person's next sanction will have.

    The notice names the page of the appeal and is previewed word for word, so the id is known before the row is;
    it moves on with each decision, so a preview that somebody overtook no longer fits.
    """
    query = sa.select(sa.func.count()).select_from(CaseDecision).where(CaseDecision.user_id == signature.user_id)
    return rules.sanction_ref(signature.public_id, session.scalar(query) or 0)


def _told(session: Session, user_id: int, notice_sha256: str) -> CaseDecision | None:
    """Return the case decision that was taken under exactly this notice and stands."""
    query = (
        sa.select(CaseDecision)
        .join(StatementOfReasons, StatementOfReasons.case_decision_id == CaseDecision.id)
        .where(
            CaseDecision.user_id == user_id, CaseDecision.state == DecisionState.IN_FORCE,
            StatementOfReasons.notice_sha256 == notice_sha256,
        )
    )  # fmt: skip
    return session.scalars(query).unique().one_or_none()


def _holds(decision: CaseDecision, now: datetime) -> bool:
    live = any(sanction.until > now for sanction in decision.sanctions)
    return decision.state is DecisionState.IN_FORCE and live


def _tell(session: Session, user: User, *, kind: str, ref: str, subject: str, body: str, now: datetime) -> None:
    if user.profile:  # an erased account has no address any more
        notices.queue(
            session, recipient_id=user.id, address=user.profile.email, kind=kind, subject_ref=ref, subject=subject,
            body=body, now=now,
        )  # fmt: skip
