"""Opening and merging cases, working on them one person at a time, and what they keep, on both databases."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.audit.models import AuditEvent
from portal.cases import service
from portal.cases.models import Case, Evidence
from portal.cases.rules import LEASE, CaseState, LinkKind, Origin
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, NotFound, Refused
from portal.proofs.rules import canonical, digest
from tests import conduct
from tests.factories import Make

HOUR = timedelta(hours=1)


@dataclass
class Desk:
    """A person, two moderators, and how a case is opened in one step."""

    session: Session
    make: Make
    ann: User
    mo: Actor
    co: Actor

    def open(self, key: str = "report:ann:spam", **changed: Any) -> Case:
        given = {
            "subject_ref": self.ann.public_id, "origin": "report", "clause_refs": ["restriction.spam"], "severity": 2,
            "evidence": {"report": 1}, "dedupe_key": key, "now": self.make.now, "by": SYSTEM,
        }  # fmt: skip
        return service.open_case(self.session, **{**given, **changed})

    def work(self, case: Case, by: Actor | None = None, **changed: Any) -> dict[str, Any]:
        return {"ref": case.public_id, "by": by or self.mo, "now": self.make.now, **changed}


@pytest.fixture
def desk(session: Session, make: Make) -> Desk:
    staff = [conduct.acting(make.person(name, Role.MODERATOR), Role.MODERATOR) for name in ("mo", "co")]
    made = Desk(session, make, make.person("ann"), *staff)
    made.open("noise", subject_ref=make.person().public_id)
    return made


def test_the_same_thing_is_one_case_with_all_its_evidence(desk: Desk) -> None:
    case = desk.open()
    assert (case.origin, case.user_id, case.reach, case.state) == (Origin.REPORT, desk.ann.id, 1, CaseState.OPEN)
    assert desk.open(evidence={"report": 2}, severity=4, clause_refs=["restriction.harm"]) is case
    assert (case.reach, case.severity, case.rank) == (1, 4, 4 * 2 * 1)
    assert case.due_at == desk.make.now + timedelta(hours=4)
    assert desk.open(evidence={"report": 2}) is case
    assert service.refs(desk.session, case=case, kind=LinkKind.CLAUSE) == ["restriction.harm", "restriction.spam"]
    assert [values for _, values in service.evidence_of(desk.session, case=case)] == [{"report": 1}, {"report": 2}]


@pytest.mark.threat("TM-36")
def test_a_case_rises_by_gravity_certainty_and_people_and_never_by_how_often_it_is_seen(desk: Desk) -> None:
    case = desk.open()
    before = (case.rank, case.severity, case.due_at)
    for number in range(50):
        desk.open(evidence={"again": number})
    assert (case.rank, case.severity, case.due_at) == before
    desk.open(evidence={"sure": True}, confidence=3)
    assert case.rank == case.severity * 3
    people = [(LinkKind.SUBJECT, desk.make.person().public_id) for _ in range(4)]
    desk.open(evidence={"people": 4}, links=people)
    assert (case.reach, case.rank) == (4, case.severity * 3 * 4)


def test_evidence_is_named_by_its_digest_which_the_log_holds(desk: Desk) -> None:
    case = desk.open()
    [row] = desk.session.scalars(sa.select(Evidence).where(Evidence.case_id == case.id)).all()
    assert row.sha256 == digest(canonical({"report": 1})) == digest(row.body)
    query = sa.select(AuditEvent).where(AuditEvent.subject == case.public_id, AuditEvent.name == "cases:evidence:taken")
    assert [event.data for event in desk.session.scalars(query)] == [{"sha256": row.sha256}]
    row.body = b"{}"
    with pytest.raises(Conflict, match="never changed"):
        desk.session.flush()


@pytest.mark.threat("TM-36")
def test_many_reports_are_one_case(desk: Desk) -> None:
    found = {desk.open(evidence={"report": n}).id for n in range(30)}
    assert len(found) == 1
    case = service.find(desk.session, ref=desk.open(evidence={"report": 0}).public_id)
    assert (case.reach, case.rank) == (1, 2 * 2)


def test_the_queue_is_ordered_by_weight_and_then_by_age(desk: Desk) -> None:
    old = desk.open("a", now=desk.make.now - HOUR)
    grave = desk.open("b", severity=4)
    young = desk.open("c")
    mine = [case for case in service.queue(desk.session) if case.id in {old.id, grave.id, young.id}]
    assert mine == [grave, old, young]
    assert old not in service.queue(desk.session, origin="leak")
    service.claim(desk.session, **desk.work(old))
    service.decided(desk.session, case=old, by=desk.mo, now=desk.make.now)
    assert old not in service.queue(desk.session)


def test_one_person_holds_a_case_for_half_an_hour_that_each_step_renews(desk: Desk) -> None:
    case, now = desk.open(), desk.make.now
    service.claim(desk.session, **desk.work(case))
    with pytest.raises(Conflict) as caught:
        service.claim(desk.session, **desk.work(case, desk.co))
    assert caught.value.code == "case_held"
    later = now + LEASE - timedelta(seconds=1)
    service.note(desk.session, **desk.work(case, words="Seen.", now=later))
    assert case.lease_until == later + LEASE
    service.note(desk.session, **desk.work(case, words="Seen again.", now=now + LEASE))
    over = now + 2 * LEASE
    for words in ("Too late.", "Still."):
        with pytest.raises(Conflict) as caught:
            service.note(desk.session, **desk.work(case, words=words, now=over))
        assert caught.value.code == "lease_lost"
    assert service.holder_at(desk.session, case=case, now=over) is None
    service.claim(desk.session, **desk.work(case, desk.co, now=over))
    with pytest.raises(Conflict):
        service.release(desk.session, **desk.work(case, now=over))
    service.release(desk.session, **desk.work(case, desk.co, now=over))
    assert (case.state, case.holder_id, case.lease_until) == (CaseState.OPEN, None, None)
    assert [note.words for note in service.notes_of(desk.session, case=case)] == ["Seen.", "Seen again."]


@pytest.mark.threat("TM-34")
def test_nobody_takes_a_case_about_themselves_their_institution_or_what_they_had_a_hand_in(desk: Desk) -> None:
    about_mo = desk.open("mo", subject_ref=desk.mo.public_id)
    involved = desk.open("inv", links=[(LinkKind.INVOLVED, desk.mo.public_id)])
    for case in (about_mo, involved):
        with pytest.raises(Refused) as caught:
            service.claim(desk.session, **desk.work(case))
        assert caught.value.code == "not_uninvolved"
        service.claim(desk.session, **desk.work(case, desk.co))
    for user_id in (desk.ann.id, desk.mo.id):
        desk.session.get_one(User, user_id).profile.affiliation = "University of Tests"
    with pytest.raises(Refused) as caught:
        service.claim(desk.session, **desk.work(desk.open()))
    assert caught.value.code == "own_institution"


def test_only_new_evidence_opens_a_decided_case_again(desk: Desk) -> None:
    case, now = desk.open(), desk.make.now
    with pytest.raises(Conflict):
        service.reopen(desk.session, **desk.work(case, words="New."))
    service.claim(desk.session, **desk.work(case))
    service.decided(desk.session, case=case, by=desk.mo, now=now)
    assert desk.open().state is CaseState.DECIDED
    assert desk.open(evidence={"report": 2}).state is CaseState.OPEN
    service.claim(desk.session, **desk.work(case))
    service.decided(desk.session, case=case, by=desk.mo, now=now)
    service.close(desk.session, case=case, by=SYSTEM, now=now)
    service.reopen(desk.session, **desk.work(case, words="New."))
    service.claim(desk.session, **desk.work(case))
    service.decided(desk.session, case=case, by=desk.mo, now=now)
    with pytest.raises(Conflict) as caught:
        service.reopen(desk.session, **desk.work(case, words="New."))
    assert caught.value.code == "evidence_known"


def test_what_a_case_is_about_leads_to_a_person_where_there_is_one(desk: Desk) -> None:
    token, _ = desk.make.token(desk.ann)
    signature = desk.make.sign(desk.ann)
    for ref in (desk.ann.public_id, token.public_id, signature.public_id):
        assert desk.open(ref, subject_ref=ref).user_id == desk.ann.id
    assert desk.open("who", subject_ref="req_unknown").user_id is None
    with pytest.raises(NotFound):
        service.find(desk.session, ref="cas_none")


def test_a_case_is_closed_once_nobody_can_contest_it_and_nothing_of_it_is_held(desk: Desk) -> None:
    case, held, now = desk.open(), desk.open("held"), desk.make.now
    for one in (case, held):
        service.decided(desk.session, case=one, by=SYSTEM, now=now)
    service.set_hold(desk.session, case=held, because="apl_x", by=SYSTEM, now=now)
    assert service.close_settled(desk.session, now=now + timedelta(days=183)) == 0
    assert service.close_settled(desk.session, now=now + timedelta(days=184)) == 1
    assert (case.state, held.state) == (CaseState.CLOSED, CaseState.DECIDED)


def test_a_hold_is_set_and_released_once(desk: Desk) -> None:
    case, given = desk.open(links=[(LinkKind.RECORD, "req_x")]), {"because": "apl_x", "by": desk.mo}
    for _ in range(2):
        service.set_hold(desk.session, case=case, now=desk.make.now, **given)
    for _ in range(2):
        service.release_hold(desk.session, case=case, now=desk.make.now, **given)
    query = sa.select(AuditEvent.name).where(AuditEvent.subject == case.public_id, AuditEvent.name.like("cases:hold:%"))
    assert sorted(desk.session.scalars(query)) == ["cases:hold:released", "cases:hold:set"]
