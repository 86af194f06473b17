"""Cases about several people, and about nobody: what is decided of them, on both databases."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.batches import service as batches
from portal.batches.models import Batch
from portal.batches.rules import body_of, seal
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import CaseState, LinkKind, Origin
from portal.casework import service as casework
from portal.core.actor import Actor
from portal.core.errors import Conflict
from portal.moderation import rules
from portal.moderation import service as moderation
from portal.moderation.rules import Finding, Order
from portal.sanctions.rules import Measure, SanctionKind
from portal.strikes.rules import Intent
from tests import conduct
from tests.factories import BASE, Make


@pytest.fixture
def staff(make: Make) -> list[Actor]:
    return [conduct.acting(make.person(name, Role.MODERATOR), Role.MODERATOR) for name in ("mo", "co")]


def signers(make: Make, count: int) -> list[User]:
    people = [make.person() for _ in range(count)]
    for person in people:
        make.sign(person)
    return people


def about(session: Session, make: Make, people: list[User], by: Actor) -> Case:
    case = cases.open_case(
        session, subject_ref="rul_farm", origin=Origin.RULE, clause_refs=["restriction.spam"], severity=3,
        evidence={"kind": "rule"}, dedupe_key="rule:farm:many", now=make.now, by=by,
        links=[(LinkKind.SUBJECT, user.public_id) for user in people],
    )  # fmt: skip
    return cases.claim(session, ref=case.public_id, by=by, now=make.now)


def decide(session: Session, make: Make, people: list[User], by: Actor, case: Case) -> Batch:
    until = make.now + timedelta(days=7)
    order = Order(
        Finding.VIOLATION, Intent.KNOWING, ("restriction.spam",), "You sent spam together.",
        (Measure(SanctionKind.THROTTLE, until, calls=5, text_tokens=50),), strike=True,
    )  # fmt: skip
    given: dict[str, Any] = {"by": by, "refs": [u.public_id for u in people], "order": order, "base_url": BASE}
    outcomes = batches.look(session, **given, now=make.now)
    assert all("You sent spam together." in outcome.notice for outcome in outcomes)
    shown = seal(body_of(rules.payload(order, person="", state=()), outcomes))
    return batches.make(session, **given, shown_sha256=shown, now=make.now, case_ref=case.public_id)


def test_deciding_about_all_of_them_settles_the_case_and_the_cases_lead_to_each_other(
    session: Session, make: Make, staff: list[Actor]
) -> None:
    people = signers(make, 3)
    case = about(session, make, people, staff[0])
    seen = casework.overview(session, ref=case.public_id, by=staff[0], now=make.now)
    assert {user.public_id for user, _, _ in seen.subjects} == {user.public_id for user in people}
    batch = decide(session, make, people[:2], staff[0], case)
    assert case.state is CaseState.DECIDED
    assert len(cases.refs(session, case=case, kind=LinkKind.DECISION)) == 2
    [decision] = moderation.decisions_about(session, user_id=people[0].id)
    own = session.get_one(Case, decision.case_id)
    assert cases.refs(session, case=own, kind=LinkKind.CASE) == [case.public_id]
    assert moderation.decisions_about(session, user_id=people[2].id) == []
    batches.undo(session, by=staff[1], ref=batch.public_id, reason="Wrong.", base_url=BASE, now=make.now)
    assert case.state is CaseState.DECIDED


@pytest.mark.threat("TM-34")
def test_about_more_than_ten_the_case_waits_for_the_second_person(
    session: Session, make: Make, staff: list[Actor]
) -> None:
    people = signers(make, 12)
    case = about(session, make, people, staff[0])
    batch = decide(session, make, people, staff[0], case)
    assert case.state is CaseState.CLAIMED
    assert moderation.decisions_about(session, user_id=people[0].id) == []
    waiting = batches.waiting(session, batch=batch, now=make.now)
    assert waiting is not None
    cases.release(session, ref=case.public_id, by=staff[0], now=make.now)
    batches.confirm(
        session, by=staff[1], ref=batch.public_id, shown_sha256=waiting.payload_sha256, base_url=BASE, now=make.now
    )
    assert case.state is CaseState.DECIDED
    assert all(len(moderation.decisions_about(session, user_id=user.id)) == 1 for user in people)


def test_only_whoever_holds_the_case_settles_it(session: Session, make: Make, staff: list[Actor]) -> None:
    people = signers(make, 2)
    case = about(session, make, people, staff[0])
    with pytest.raises(Conflict) as caught:
        decide(session, make, people, staff[1], case)
    assert caught.value.code == "lease_lost"
    assert session.scalars(sa.select(Batch)).all() == []


def test_a_case_about_nobody_is_closed_without_a_breach_and_with_none_it_is_not(
    session: Session, make: Make, staff: list[Actor]
) -> None:
    given: dict[str, Any] = {"by": staff[0], "base_url": BASE, "now": make.now, "notice_sha256": ""}
    for number, finding in enumerate((Finding.NONE, Finding.INCONCLUSIVE)):
        case = cases.open_case(
            session, subject_ref="out_somewhere", origin=Origin.REPORT, clause_refs=["restriction.spam"], severity=1,
            evidence={"kind": "report"}, dedupe_key=f"report:{number}", now=make.now, by=staff[0],
        )  # fmt: skip
        cases.claim(session, ref=case.public_id, by=staff[0], now=make.now)
        with pytest.raises(Conflict) as caught:
            moderation.decide(
                session, case_ref=case.public_id,
                order=Order(Finding.VIOLATION, clause_keys=("restriction.spam",), facts="Spam."), **given,
            )  # fmt: skip
        assert caught.value.code == "case_without_person"
        decision = moderation.decide(session, case_ref=case.public_id, order=Order(finding), **given)
        assert (decision.user_id, decision.statement, decision.finding) == (None, None, finding)
        assert case.state is CaseState.DECIDED
    assert casework.overview(session, ref=case.public_id, by=staff[0], now=make.now).past == []
