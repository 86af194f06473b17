"""Asking for a model and being answered, on both databases."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Permission, Role, Standing, StandingAction
from portal.audit.models import AuditEvent
from portal.catalog.models import GatedModel
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, Invalid, NotFound, Refused
from portal.entitlements import service as entitlements
from portal.entitlements.models import AccessRequest, Entitlement, EntitlementEnd
from portal.entitlements.rules import Mode, RequestState
from portal.licensing.models import License, LicenseVersion
from portal.notices.models import Notice
from portal.requests import service
from portal.requests.rules import NO_REASON, Answer
from portal.signing import service as signing
from tests import conduct
from tests.factories import BASE, Make

PURPOSE = "To count the parameters for a paper."
USES = (Action.DOWNLOAD, Action.INFER, Action.RENEW)


class Gate:
    """A model that has to be asked for, somebody who signed, and a reviewer."""

    def __init__(self, session: Session, now: datetime, mode: Mode = Mode.MANUAL) -> None:
        self.session, self.now, self.make = session, now, Make(session, now)
        self.model: GatedModel = self.make.release().model
        self.user: User = self.make.person("asker")
        self.by = conduct.acting(self.user)
        self.make.sign(self.user)
        self.reviewer = conduct.acting(self.make.person("rev", Role.MODERATOR), Role.MODERATOR)
        self.form(mode)

    def form(self, mode: Mode, days: int = 100) -> None:
        entitlements.set_form(
            self.session, model_id=self.model.id, model_ref=self.model.public_id, mode=mode, by=SYSTEM, now=self.now,
            days=days,
        )  # fmt: skip

    def codes(self, action: Action = Action.DOWNLOAD, at: datetime | None = None, by: Actor | None = None) -> list[str]:
        decision = access.check(
            self.session, actor=by or self.by, model=self.model.full_name, action=action, now=at or self.now,
            base_url=BASE,
        )  # fmt: skip
        return [reason.code for reason in decision.reasons]

    def ask(self, at: datetime | None = None) -> AccessRequest:
        return service.ask(
            self.session, by=self.by, model=self.model, purpose=PURPOSE, now=at or self.now, base_url=BASE
        )

    def answer(self, request: AccessRequest, to: Answer, by: Actor | None = None, **kept: Any) -> AccessRequest:
        return service.answer(
            self.session, request=request, to=to, by=by or self.reviewer, base_url=BASE, **{"now": self.now, **kept}
        )

    def mails(self) -> list[str]:
        query = sa.select(Notice.subject).where(Notice.recipient_id == self.user.id, Notice.kind == "access_request")
        return list(self.session.scalars(query.order_by(Notice.id)))


@pytest.fixture
def gate(session: Session, now: datetime) -> Gate:
    return Gate(session, now)


def test_a_model_that_asks_for_nothing_opens_with_the_signature_alone(gate: Gate) -> None:
    gate.form(Mode.OFF)
    assert [gate.codes(action) for action in USES] == [[], [], []]
    with pytest.raises(Conflict, match="need not be asked for"):
        gate.ask()


def test_a_request_opens_the_model_once_it_is_accepted_and_until_its_day(gate: Gate, session: Session) -> None:
    assert [gate.codes(action) for action in USES] == [["access_request_missing"]] * 3
    assert gate.codes(Action.READ) == []
    row = gate.ask()
    assert [gate.codes(action) for action in (*USES, Action.ASK)] == [["access_request_open"]] * 4
    assert gate.codes(by=conduct.acting(gate.make.person("else"))) == ["signature_missing", "access_request_missing"]
    gate.answer(row, Answer.ACCEPTED)
    assert [gate.codes(action) for action in USES] == [[], [], []]
    assert gate.codes(Action.ASK) == ["access_request_needless"]
    day = timedelta(days=1)
    assert gate.codes(at=gate.now + 70 * day) == ["entitlement_ending"]
    assert gate.codes(Action.ASK, at=gate.now + 70 * day) == []
    assert gate.codes(at=gate.now + 100 * day) == ["entitlement_expired"]
    assert gate.mails() == [f"You may use {gate.model.full_name}"]
    [given] = session.scalars(sa.select(Entitlement))
    assert (given.user_id, given.valid_to) == (gate.user.id, gate.now + 100 * day)
    decision = access.check(
        session, actor=gate.by, model=gate.model.full_name, action=Action.DOWNLOAD, now=gate.now, base_url=BASE
    )
    assert decision.until == gate.now + 70 * day
    met = f"You may use {gate.model.full_name} until {given.valid_to:%Y-%m-%d}."
    assert ("entitlement_active", met) in decision.met


def test_an_acceptance_opens_nothing_without_a_signature(session: Session, now: datetime) -> None:
    gate = Gate(session, now)
    stranger = gate.make.person("unsigned")
    service.grant(session, model=gate.model, user=stranger, by=gate.reviewer, now=now, base_url=BASE)
    assert gate.codes(by=conduct.acting(stranger)) == ["signature_missing"]
    with pytest.raises(Conflict, match="already"):
        service.grant(session, model=gate.model, user=stranger, by=gate.reviewer, now=now, base_url=BASE)


def test_asking_needs_a_signature_and_a_purpose(gate: Gate, session: Session) -> None:
    other = conduct.acting(gate.make.person("unsigned"))
    with pytest.raises(Refused) as caught:
        service.ask(session, by=other, model=gate.model, purpose=PURPOSE, now=gate.now, base_url=BASE)
    assert [reason.code for reason in caught.value.reasons] == ["signature_missing"]
    with pytest.raises(Invalid, match="characters"):
        service.ask(session, by=gate.by, model=gate.model, purpose="no", now=gate.now, base_url=BASE)
    gate.ask()
    with pytest.raises(Refused, match="waits for an answer"):
        gate.ask()


def test_nobody_has_to_look_where_the_answer_is_yes_at_once(session: Session, now: datetime) -> None:
    gate = Gate(session, now, Mode.AUTO)
    row = gate.ask()
    assert row.state is RequestState.APPROVED
    assert gate.codes() == []
    assert gate.mails() == []


def test_a_rejection_says_why_and_from_when_one_may_ask_again(gate: Gate) -> None:
    row = gate.answer(gate.ask(), Answer.REJECTED, reason="Say more.", wait_days=10)
    assert gate.codes() == gate.codes(Action.ASK) == ["access_request_rejected"]
    later = gate.now + timedelta(days=10)
    assert gate.codes(Action.ASK, at=later) == []
    again = gate.ask(later)
    assert again.id != row.id
    with pytest.raises(NotFound, match="rejected"):
        gate.answer(row, Answer.REJECTED)
    with pytest.raises(Conflict, match="asked anew"):
        gate.answer(row, Answer.PENDING)
    assert gate.mails() == [f"Your request for {gate.model.full_name} was rejected"]


def test_an_answer_can_be_changed_and_what_it_gave_ends_with_it(gate: Gate, session: Session) -> None:
    row = gate.ask()
    moves = (Answer.ACCEPTED, Answer.REJECTED, Answer.ACCEPTED, Answer.PENDING, Answer.REJECTED)
    opened = []
    for to in moves:
        gate.answer(row, to)
        opened.append(gate.codes() == [])
    assert opened == [True, False, True, False, False]
    assert row.reason == NO_REASON
    assert [session.scalar(sa.select(sa.func.count()).select_from(t)) for t in (Entitlement, EntitlementEnd)] == [2, 2]
    for to in (Answer.REJECTED,):
        with pytest.raises(NotFound):
            gate.answer(row, to)
    names = session.scalars(sa.select(AuditEvent.name).where(AuditEvent.subject == row.public_id)).all()
    assert names.count("access:request:moved") == 7


def test_a_reset_lets_nobody_ask_again_before_they_sign_again(gate: Gate, session: Session) -> None:
    other, later = gate.make.release().model, gate.now + timedelta(minutes=1)
    row = gate.ask()
    gate.answer(row, Answer.ACCEPTED)
    gate.answer(row, Answer.RESET, reason="Read it once more.")
    assert gate.codes() == ["signature_missing", "access_request_reset"]
    assert gate.codes(Action.ASK) == ["signature_missing"]
    decision = access.check(
        session, actor=gate.by, model=other.full_name, action=Action.DOWNLOAD, now=gate.now, base_url=BASE
    )
    assert decision.allowed, "of other models nothing was said"
    query = sa.select(LicenseVersion).join(License).where(License.slug == conduct.SLUG)
    version = session.scalars(query.where(LicenseVersion.number == "2.0.0")).one()
    assert signing.signed_already(session, by=gate.by, version_id=version.id) is None
    conduct.sign(session, gate.user, later + timedelta(days=30), "2.0.0")  # which it backdates by so much
    assert signing.signed_already(session, by=gate.by, version_id=version.id) is not None
    assert gate.codes(Action.ASK, at=later) == []
    gate.answer(gate.ask(later), Answer.ACCEPTED, now=later)
    assert gate.codes(at=later) == []
    assert gate.mails()[1] == f"Your access to {gate.model.full_name} was reset"


def test_what_was_asked_is_taken_back_by_its_person_alone(gate: Gate, session: Session) -> None:
    with pytest.raises(NotFound, match="did not ask"):
        service.withdraw(session, by=gate.by, model=gate.model, now=gate.now)
    row = gate.ask()
    assert service.withdraw(session, by=gate.by, model=gate.model, now=gate.now).state is RequestState.WITHDRAWN
    assert gate.codes() == ["access_request_missing"]
    with pytest.raises(NotFound, match="withdrawn"):
        gate.answer(row, Answer.ACCEPTED)
    assert gate.ask().id != row.id


def test_nobody_answers_their_own_request(gate: Gate) -> None:
    with pytest.raises(Refused, match="your own"):
        gate.answer(gate.ask(), Answer.ACCEPTED, by=gate.by)


def test_lists_hold_the_newest_request_of_each_person(gate: Gate, session: Session) -> None:
    first = gate.answer(gate.ask(), Answer.REJECTED)
    second = gate.ask()
    listed = {
        state: [row.id for row in entitlements.listed(session, state=state, model_id=gate.model.id)]
        for state in RequestState
    }
    assert listed[RequestState.SUBMITTED] == [second.id]
    assert not any(first.id in rows for rows in listed.values())
    [asked] = service.shown(session, [second])
    assert (asked.user.id, asked.model.id, asked.entitlement) == (gate.user.id, gate.model.id, None)
    counts = {model.id: (form.mode if form else None, count) for model, form, count in service.gates(session)}
    assert counts[gate.model.id] == (Mode.MANUAL, 1)
    assert [row.id for row in entitlements.listed(session, state=RequestState.SUBMITTED, after_id=second.id)] == []


def test_scripts_name_people_by_id_or_address(gate: Gate, session: Session) -> None:
    assert service.find_person(session, name=gate.user.public_id).id == gate.user.id
    assert service.find_person(session, name=gate.user.profile.email.upper()).id == gate.user.id
    for name in ("nobody", "no@body.example", "a\0b", ""):
        with pytest.raises(NotFound):
            service.find_person(session, name=name)
    row = gate.ask()
    assert service.find_request(session, model=gate.model, ref=row.public_id).id == row.id
    assert service.find_request(session, model=gate.model, user=gate.user.public_id).id == row.id
    other = gate.make.model()
    for kept in ({"ref": row.public_id}, {"user": gate.user.public_id}):
        with pytest.raises(NotFound, match="no such access request"):
            service.find_request(session, model=other, **kept)


def test_a_form_is_kept_as_it_was_when_somebody_answered_it(gate: Gate, session: Session, now: datetime) -> None:
    row = gate.ask()
    before = entitlements.form_of(session, model_id=gate.model.id)
    gate.form(Mode.MANUAL, 90)
    gate.form(Mode.MANUAL, 90)
    after = entitlements.form_of(session, model_id=gate.model.id)
    assert before is not None
    assert after is not None
    assert (before.number, after.number, row.form.number) == (1, 2, 1)
    gate.answer(row, Answer.ACCEPTED)
    given = entitlements.entitlement_of(session, request=row)
    assert given is not None
    assert given.valid_to == now + timedelta(days=100)
    with pytest.raises(Invalid, match="days"):
        gate.form(Mode.MANUAL, 0)


def test_permission_and_standing_are_looked_at_each_time(gate: Gate, session: Session, now: datetime) -> None:
    review = Permission.REQUESTS_REVIEW
    accounts.require_permission(session, actor=gate.reviewer, permission=review, now=now)
    with pytest.raises(Refused, match="does not include access:request:review"):
        accounts.require_permission(session, actor=gate.by, permission=review, now=now)
    accounts.set_standing(
        session, user_id=gate.reviewer.id, action=StandingAction.SUSPEND, until=now + timedelta(days=1), ref="san_x",
        by=SYSTEM, now=now,
    )  # fmt: skip
    assert session.get_one(User, gate.reviewer.id).standing is Standing.SUSPENDED
    with pytest.raises(Refused, match="suspended"):
        accounts.require_permission(session, actor=gate.reviewer, permission=review, now=now)
    accounts.require_permission(session, actor=gate.reviewer, permission=review, now=now + timedelta(days=1))
