"""Opening cases, merging what is about the same thing, and working on them one person at a time."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service as accounts
from portal.accounts.models import Profile, User
from portal.audit import service as audit
from portal.audit.models import AuditEvent
from portal.cases import rules
from portal.cases.models import Case, CaseLink, CaseNote, Evidence, EvidenceHold
from portal.cases.rules import CASE, CaseAction, CaseState, Confidence, Lease, LinkKind, Origin, Severity
from portal.contents import service as contents
from portal.core.actor import SYSTEM, Actor
from portal.core.db import hold
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.proofs.rules import canonical, digest
from portal.tokens.models import AccessToken

Links = Collection[tuple[LinkKind, str]]
QUEUE = 200


def open_case(
    session: Session,
    *,
    subject_ref: str,
    origin: Origin | str,
    clause_refs: Collection[str],
    severity: int,
    evidence: Mapping[str, Any],
    dedupe_key: str,
    now: datetime,
    by: Actor,
    confidence: int = Confidence.LIKELY,
    links: Links = (),
) -> Case:
    """Look into something; what has the same key joins the case there is, with its evidence.

    A case that was decided is opened again by evidence that it did not have.

    Args:
        subject_ref: public id of what it is about: a person, an access token, an entitlement, a signature.
        clause_refs: stable keys of the clauses that may be broken.
        severity: 1 to 4; how often something is seen raises neither this nor the place in the queue.
        confidence: how sure whoever opens it is; the surest counts.
        evidence: what is known now, as plain values; it is kept as canonical JSON under its digest.
        dedupe_key: the same for everything that is one thing: subject, rule or reported clause, day.
        links: what else it has to do with; people beside the subject are counted as its reach.
    """
    linked = {*links, *((LinkKind.CLAUSE, key) for key in clause_refs)}
    known = session.scalar(sa.select(Case).where(Case.dedupe_key == dedupe_key))
    if known is None:
        level = Severity(min(max(int(severity), 1), 4))
        case = Case(
            public_id=public_id("cas"), dedupe_key=dedupe_key, origin=Origin(origin), subject_ref=subject_ref,
            user_id=person_behind(session, subject_ref), severity=level, confidence=int(confidence), reach=1, rank=0,
            opened_at=now, opened_by=by.public_id, due_at=rules.due_at(level, now), moved_at=now,
        )  # fmt: skip
        try:
            with session.begin_nested():
                session.add(case)
                session.flush()
        except sa.exc.IntegrityError:  # somebody opened it at the same moment
            known = session.scalars(sa.select(Case).where(Case.dedupe_key == dedupe_key)).one()
        else:
            event = rules.CaseOpened(case.public_id, about=subject_ref, origin=case.origin.value, severity=level)
            audit.record(session, event, by=by, now=now)
            _link(session, case, linked)
            take_evidence(session, case=case, evidence=evidence, by=by, now=now)
            return _weigh(session, case)
    hold(session, Case.id, known.id)
    _link(session, known, linked)
    if not take_evidence(session, case=known, evidence=evidence, by=by, now=now):
        return known
    return _merge(session, known, severity=severity, confidence=confidence, by=by, now=now)


def _merge(session: Session, case: Case, *, severity: int, confidence: int, by: Actor, now: datetime) -> Case:
    wake(session, case=case, by=by, now=now)
    level = Severity(max(case.severity, min(int(severity), 4)))
    case.due_at = min(case.due_at, rules.due_at(level, now))
    case.severity, case.confidence = level, max(case.confidence, int(confidence))
    return _weigh(session, case)


def _weigh(session: Session, case: Case) -> Case:
    case.reach = max(1, len(refs(session, case=case, kind=LinkKind.SUBJECT)))
    case.rank = rules.rank(case.severity, case.confidence, case.reach)
    session.flush()
    return case


def person_behind(session: Session, subject_ref: str) -> int | None:
    """Return the person that something is about: themselves, or whose access token or signature it is."""
    kind = subject_ref.partition("_")[0]
    if kind == "usr":
        return session.scalar(sa.select(User.id).where(User.public_id == subject_ref))
    if kind == "tok":
        return session.scalar(sa.select(AccessToken.user_id).where(AccessToken.public_id == subject_ref))
    table = {"sig": "signature", "ent": "entitlement"}.get(kind)
    if table is None:
        return None
    row = sa.table(table, sa.column("user_id"), sa.column("public_id"))
    return session.scalar(sa.select(row.c.user_id).where(row.c.public_id == subject_ref))


def _link(session: Session, case: Case, links: Links) -> None:
    known = {(link.kind, link.ref) for link in links_of(session, case=case)}
    new = sorted(set(links) - known)
    session.add_all(CaseLink(case_id=case.id, kind=kind, ref=ref) for kind, ref in new)
    session.flush()
    if records := [ref for kind, ref in new if kind is LinkKind.RECORD]:
        contents.hold(session, request_ids=records, case_ref=case.public_id)


def link(session: Session, *, case: Case, links: Links) -> None:
    """Note what else a case has to do with; again changes nothing."""
    _link(session, case, links)


def links_of(session: Session, *, case: Case) -> Sequence[CaseLink]:
    """Return what a case has to do with."""
    query = sa.select(CaseLink).where(CaseLink.case_id == case.id).order_by(CaseLink.kind, CaseLink.ref)
    return session.scalars(query).all()


def refs(session: Session, *, case: Case, kind: LinkKind) -> list[str]:
    """Return the public ids of what a case has to do with in one way."""
    return [row.ref for row in links_of(session, case=case) if row.kind is kind]


def take_evidence(session: Session, *, case: Case, evidence: Mapping[str, Any], by: Actor, now: datetime) -> bool:
    """Keep what is known now under its digest; says whether the case did not have it yet."""
    body = canonical(evidence)
    sha256 = digest(body)
    known = sa.select(Evidence.id).where(Evidence.case_id == case.id, Evidence.sha256 == sha256)
    if session.scalar(known.limit(1)) is not None:
        return False
    session.add(Evidence(case_id=case.id, sha256=sha256, body=body, taken_at=now, taken_by=by.public_id))
    session.flush()
    audit.record(session, rules.EvidenceTaken(case.public_id, sha256=sha256), by=by, now=now)
    return True


def evidence_of(session: Session, *, case: Case) -> list[tuple[Evidence, dict[str, Any]]]:
    """Return what was known of a case and when, oldest first, with the values read back."""
    rows = session.scalars(sa.select(Evidence).where(Evidence.case_id == case.id).order_by(Evidence.id))
    return [(row, json.loads(row.body)) for row in rows]


def find(session: Session, *, ref: str) -> Case:
    """Find a case by public id, or raise `NotFound`."""
    case = session.scalar(sa.select(Case).where(Case.public_id == ref))
    if case is None:
        raise NotFound("case_not_found", "There is no such case.")
    return case


def queue(
    session: Session, *, states: Collection[CaseState] = rules.WAITING, origin: str = "", limit: int = QUEUE
) -> Sequence[Case]:
    """Return cases in some states: those that weigh most first, and of those the oldest."""
    query = sa.select(Case).where(Case.state.in_(states)).order_by(Case.rank.desc(), Case.opened_at, Case.id)
    if origin in set(Origin):
        query = query.where(Case.origin == Origin(origin))
    return session.scalars(query.limit(limit)).all()


def linked(session: Session, *, kind: LinkKind, ref: str) -> Case | None:
    """Return the newest case that has to do with something in one way."""
    query = sa.select(Case).join(CaseLink, CaseLink.case_id == Case.id)
    query = query.where(CaseLink.kind == kind, CaseLink.ref == ref).order_by(Case.id.desc())
    return session.scalar(query.limit(1))


def took_part(session: Session, *, case: Case) -> set[str]:
    """Return the public ids of everybody who did anything in a case, programs and the operators left out.

    Whoever answers an appeal lets go of what it kept, in the case it was about; that is no part in the case.
    """
    query = sa.select(AuditEvent.actor).where(
        AuditEvent.subject == case.public_id, AuditEvent.name.not_in([rules.HoldSet.name, rules.HoldReleased.name])
    )
    return {ref for ref in session.scalars(query) if ref.startswith("usr_")}


def about(session: Session, *, user_id: int, but: int = 0) -> Sequence[Case]:
    """Return the cases about a person, newest first, leaving one out."""
    query = sa.select(Case).where(Case.user_id == user_id, Case.id != but).order_by(Case.id.desc())
    return session.scalars(query).all()


def check_may_work(session: Session, *, case: Case, by: Actor) -> None:
    """Raise `Refused` for whoever took part in what a case is about, or shares an institution with the person."""
    involved = set(refs(session, case=case, kind=LinkKind.INVOLVED))
    if case.user_id is not None:
        involved.add(session.get_one(User, case.user_id).public_id)
    rules.check_uninvolved(
        by=by.public_id, involved=involved, by_institution=_institution(session, by.user_id),
        institution=_institution(session, case.user_id),
    )  # fmt: skip


def _institution(session: Session, user_id: int | None) -> str:
    found = session.get(Profile, user_id) if user_id is not None else None
    return found.affiliation if found else ""


def claim(session: Session, *, ref: str, by: Actor, now: datetime) -> Case:
    """Take a case for half an hour, which every step in it renews.

    Raises:
        Conflict: a colleague holds it, or it is decided.
        Refused: the person took part in what it is about, or shares an institution with whom it concerns.
    """
    case = find(session, ref=ref)
    hold(session, Case.id, case.id)
    check_may_work(session, case=case, by=by)
    rules.check_claim(_lease(case), by_user=by.id, now=now)
    mine = case.holder_id == by.id and case.state is CaseState.CLAIMED
    case.holder_id, case.lease_until = by.id, now + rules.LEASE
    case.first_action_at = case.first_action_at or now
    if not mine:
        _move(session, case, CaseAction.CLAIM, by, now)
    session.flush()
    return case


def held(session: Session, *, ref: str, by: Actor, now: datetime) -> Case:
    """Return a case to whoever holds it, for a step in it, and let them have it for another half an hour.

    The operators, who act over the command line, need no lease.
    """
    case = find(session, ref=ref)
    hold(session, Case.id, case.id)
    if by.user_id is not None:
        rules.check_lease(_lease(case), by_user=by.id, now=now)
        check_may_work(session, case=case, by=by)
        case.lease_until = now + rules.LEASE
        session.flush()
    return case


def _lease(case: Case) -> Lease:
    return Lease(case.holder_id, case.lease_until)


def holder_at(session: Session, *, case: Case, now: datetime) -> User | None:
    """Return who works on a case at an instant."""
    return session.get(User, case.holder_id) if _lease(case).held_at(now) else None


def _move(session: Session, case: Case, action: CaseAction, by: Actor, now: datetime) -> None:
    case.state, case.moved_at = CASE.next(case.state, action), now
    if case.state not in {CaseState.CLAIMED, CaseState.AWAITING_REPLY}:
        case.holder_id = case.lease_until = None
    session.flush()
    event = rules.CaseMoved(case.public_id, action=action.value, state=case.state.value)
    audit.record(session, event, by=by, now=now)


def release(session: Session, *, ref: str, by: Actor, now: datetime) -> Case:
    """Give a case back to the queue."""
    case = held(session, ref=ref, by=by, now=now)
    _move(session, case, CaseAction.RELEASE, by, now)
    return case


def ask(session: Session, *, ref: str, by: Actor, now: datetime) -> Case:
    """Note that an answer of somebody outside is waited for; whoever claims the case again goes on."""
    case = held(session, ref=ref, by=by, now=now)
    _move(session, case, CaseAction.ASK, by, now)
    return case


def note(session: Session, *, ref: str, words: str, by: Actor, now: datetime) -> CaseNote:
    """Leave a note for colleagues on a case that one holds."""
    case = held(session, ref=ref, by=by, now=now)
    row = CaseNote(case_id=case.id, author=by.public_id, words=rules.check_note(words), at=now)
    session.add(row)
    session.flush()
    audit.record(session, rules.CaseNoted(case.public_id, sha256=digest(row.words.encode())), by=by, now=now)
    return row


def notes_of(session: Session, *, case: Case) -> Sequence[CaseNote]:
    """Return the notes on a case, oldest first."""
    return session.scalars(sa.select(CaseNote).where(CaseNote.case_id == case.id).order_by(CaseNote.id)).all()


def decided(session: Session, *, case: Case, by: Actor, now: datetime) -> None:
    """Record that a case is decided, by whoever holds it or elsewhere; how, is for `moderation` to say."""
    holds = case.state is CaseState.CLAIMED and case.holder_id == by.user_id
    _move(session, case, CaseAction.DECIDE if holds else CaseAction.SETTLE, by, now)


def close(session: Session, *, case: Case, by: Actor, now: datetime) -> None:
    """Close a decided case, once nobody can contest it any more."""
    _move(session, case, CaseAction.CLOSE, by, now)


def close_settled(session: Session, *, now: datetime, limit: int = 100) -> int:
    """Close the cases that nobody can contest any more: decided long ago, and nothing of them is held."""
    held_ = sa.select(EvidenceHold.id).where(EvidenceHold.case_id == Case.id, EvidenceHold.released_at.is_(None))
    over = sa.select(Case).where(
        Case.state == CaseState.DECIDED, Case.moved_at <= now - rules.CONTESTABLE, ~held_.exists()
    )
    rows = session.scalars(over.order_by(Case.id).limit(limit)).all()
    for case in rows:
        close(session, case=case, by=SYSTEM, now=now)
    return len(rows)


def reopen(session: Session, *, ref: str, words: str, by: Actor, now: datetime) -> Case:
    """Open a decided or closed case again because of new evidence.

    Raises:
        Conflict: what is given is evidence that the case has already, or the case is not decided.
    """
    case = find(session, ref=ref)
    hold(session, Case.id, case.id)
    check_may_work(session, case=case, by=by)
    CASE.next(case.state, CaseAction.REOPEN)
    given = {"kind": "statement", "words": rules.check_note(words), "by": by.public_id}
    if not take_evidence(session, case=case, evidence=given, by=by, now=now):
        raise Conflict("evidence_known", "The case has this evidence already. Only new evidence opens it again.")
    _move(session, case, CaseAction.REOPEN, by, now)
    return case


def wake(session: Session, *, case: Case, by: Actor, now: datetime) -> None:
    """Put a case that was over back into the queue, since something in it waits for a person again."""
    if case.state in {CaseState.DECIDED, CaseState.CLOSED}:
        _move(session, case, CaseAction.REOPEN, by, now)


def set_hold(session: Session, *, case: Case, because: str, by: Actor, now: datetime) -> None:
    """Keep everything that a case rests on from being deleted; again changes nothing."""
    if _open_hold(session, case, because) is None:
        session.add(EvidenceHold(case_id=case.id, because=because, set_at=now))
        session.flush()
        audit.record(session, rules.HoldSet(case.public_id, because=because), by=by, now=now)


def release_hold(session: Session, *, case: Case, because: str, by: Actor, now: datetime) -> None:
    """Let what a case rests on be deleted in its time again; again changes nothing."""
    if (row := _open_hold(session, case, because)) is not None:
        row.released_at = now
        session.flush()
        audit.record(session, rules.HoldReleased(case.public_id, because=because), by=by, now=now)


def _open_hold(session: Session, case: Case, because: str) -> EvidenceHold | None:
    query = sa.select(EvidenceHold).where(
        EvidenceHold.case_id == case.id, EvidenceHold.because == because, EvidenceHold.released_at.is_(None)
    )
    return session.scalar(query)


def clauses_of(session: Session, *, cases: Sequence[Case]) -> dict[int, list[str]]:
    """Return the clauses that cases are about, in words, by their ids."""
    query = sa.select(CaseLink.case_id, CaseLink.ref).where(
        CaseLink.kind == LinkKind.CLAUSE, CaseLink.case_id.in_({case.id for case in cases})
    )
    found: dict[int, list[str]] = {}
    for case_id, key in session.execute(query.order_by(CaseLink.case_id, CaseLink.ref)):
        found.setdefault(case_id, []).append(rules.clause_words(key))
    return found


def names_of(session: Session, *, cases: Sequence[Case]) -> dict[int, str]:
    """Return how staff call the people that cases are about, by their ids."""
    ids = {case.user_id for case in cases if case.user_id is not None}
    people = session.scalars(sa.select(User).where(User.id.in_(ids))).unique()
    found = {user.id: user.public_id for user in people}
    named = accounts.names(session, refs=found.values())
    return {id_: named.get(ref) or ref for id_, ref in found.items()}
