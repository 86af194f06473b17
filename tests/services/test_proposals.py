"""Acts that take two people: proposed by one, confirmed by another, in time, and only as proposed."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from portal.accounts import service
from portal.accounts.rules import PROPOSAL_LIFE, Permission, ProposalFact, ProposalState, Role, proposal_state_at
from portal.accounts.rules import StandingAction as Move
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, PortalError, Refused
from tests import conduct

PAYLOAD = {"action": "shut", "state": "open"}
KEYS: dict[str, Any] = {"action": "door:shut", "subject_ref": "dor_1"}


@pytest.fixture
def two(session: Session, now: datetime) -> list[Actor]:
    """A license editor and an admin."""
    roles = {"ed": Role.LICENSE_EDITOR, "ada": Role.ADMIN}
    return [
        conduct.acting(conduct.person(session, name, now, role, domain="staff.example"), role)
        for name, role in roles.items()
    ]


def propose(session: Session, by: Actor, now: datetime, **changed: Any) -> Any:
    given = {"payload": PAYLOAD, "page": "/door", "permission": Permission.LICENSES_PUBLISH, "by": by, "now": now}
    return service.propose(session, **KEYS, **{**given, **changed})


@pytest.mark.threat("TM-34")
def test_two_people_act_on_exactly_what_was_proposed(session: Session, now: datetime, two: list[Actor]) -> None:
    row = propose(session, two[0], now)
    assert propose(session, two[0], now) is row
    assert service.open_proposal(session, **KEYS, now=now) is row
    given: dict[str, Any] = {**KEYS, "shown_sha256": row.payload_sha256, "payload": PAYLOAD, "now": now}
    for changed, by, code in (
        ({}, two[0], "second_person_needed"),
        ({"payload": {**PAYLOAD, "state": "shut"}}, two[1], "proposal_changed"),
        ({"shown_sha256": "0" * 64}, two[1], "proposal_changed"),
        ({"now": now + PROPOSAL_LIFE}, two[1], "proposal_expired"),
        ({"subject_ref": "dor_2"}, two[1], "proposal_missing"),
    ):
        with pytest.raises(PortalError) as caught:
            service.confirm(session, **{**given, **changed}, by=by)
        assert caught.value.code == code
    service.confirm(session, **given, by=two[1])
    assert (row.confirmed_by, row.confirmed_at) == (two[1].public_id, now)
    assert service.open_proposal(session, **KEYS, now=now) is None
    with pytest.raises(Conflict) as caught:
        service.confirm(session, **given, by=two[1])
    assert caught.value.code == "proposal_confirmed"
    assert service.proposals(session)[0] is row


def test_the_newest_proposal_is_the_one_that_counts(session: Session, now: datetime, two: list[Actor]) -> None:
    first = propose(session, two[0], now)
    second = propose(session, two[1], now)
    assert second is not first
    with pytest.raises(Refused):
        service.confirm(
            session, **KEYS, shown_sha256=first.payload_sha256, payload=PAYLOAD, by=two[1], now=now
        )  # fmt: skip
    service.confirm(session, **KEYS, shown_sha256=second.payload_sha256, payload=PAYLOAD, by=two[0], now=now)


def test_who_left_is_suspended_or_lacks_the_power_does_not_count(
    session: Session, now: datetime, two: list[Actor]
) -> None:
    conduct.person(session, "mo", now, Role.MODERATOR, domain="staff.example")
    twice = conduct.person(session, "vi", now, Role.LICENSE_EDITOR, Role.ADMIN, domain="staff.example")

    def count(at: datetime = now) -> int:
        return len(service.able(session, permission=Permission.LICENSES_PUBLISH, now=at))

    assert count() == 3
    until = now + timedelta(days=1)
    service.set_standing(session, user_id=twice.id, action=Move.SUSPEND, until=until, ref="san_x", by=SYSTEM, now=now)
    assert (count(), count(until)) == (2, 3)
    service.end_role(session, user_id=two[0].id, role=Role.LICENSE_EDITOR, by=SYSTEM, now=now)
    assert count() == 1
    with pytest.raises(Refused) as caught:
        propose(session, two[1], now)
    assert caught.value.code == "two_people_needed"
    service.set_standing(session, user_id=two[1].id, action=Move.CLOSE, until=None, ref="san_y", by=SYSTEM, now=now)
    assert count() == 0


def test_how_a_proposal_stands_follows_the_clock(now: datetime) -> None:
    fact = ProposalFact("a", "ed", None, now + PROPOSAL_LIFE)
    assert proposal_state_at(fact, now) is ProposalState.OPEN
    assert proposal_state_at(fact, now + PROPOSAL_LIFE) is ProposalState.EXPIRED
    assert proposal_state_at(ProposalFact("a", "ed", "flo", now), now) is ProposalState.CONFIRMED
