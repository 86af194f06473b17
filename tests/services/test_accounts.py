"""Accounts, profiles, standing and roles, on both databases."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts import service
from portal.accounts.models import User
from portal.accounts.rules import About, Permission, Role, Standing, StandingAction
from portal.audit.models import AuditEvent
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, Invalid, NotFound
from tests import conduct

ABOUT = About("Ann", "Lab", "NL")


def events(session: Session, subject: str) -> list[tuple[str, dict[str, object], str]]:
    query = sa.select(AuditEvent).where(AuditEvent.subject == subject).order_by(AuditEvent.id)
    return [(row.name, row.data, row.actor) for row in session.scalars(query)]


def ann(session: Session, now: datetime) -> User:
    return service.create(session, email="ann@accounts.example", about=ABOUT, now=now)


def test_an_account_is_found_by_address_in_any_case_and_by_public_id(session: Session, now: datetime) -> None:
    user = ann(session, now)
    assert service.find_by_email(session, email=" ANN@accounts.EXAMPLE ") is user
    assert service.find_by_email(session, email="nobody@accounts.example") is None
    assert service.find_by_email(session, email="") is None
    assert service.find(session, ref=user.public_id) is user
    with pytest.raises(NotFound):
        service.find(session, ref="usr_nobody")
    assert events(session, user.public_id) == [("account:user:created", {}, user.public_id)]
    other = service.create(session, email="b@accounts.example", about=ABOUT, by=SYSTEM, verified=True, now=now)
    assert other.profile.verified_at == now
    assert events(session, other.public_id) == [("account:user:created", {}, "system")]


def test_an_address_is_confirmed_once(session: Session, now: datetime) -> None:
    user = ann(session, now)
    service.verify(session, user=user, by=SYSTEM, now=now)
    service.verify(session, user=user, by=SYSTEM, now=now + timedelta(days=1))
    assert user.profile.verified_at == now
    assert [name for name, _, _ in events(session, user.public_id)][1:] == ["account:address:verified"]


def test_a_changed_profile_is_recorded_by_the_names_of_its_fields_alone(session: Session, now: datetime) -> None:
    user = ann(session, now)
    by = service.acting(user)
    assert by.name == "Ann"
    service.update_profile(session, by=by, name="Ann", affiliation="Lab", country="nl", now=now)
    assert len(events(session, user.public_id)) == 1
    profile = service.update_profile(session, by=by, name=" Ann  B. ", affiliation="Lab", country="de", now=now)
    assert (profile.name, profile.affiliation, profile.country) == ("Ann B.", "Lab", "DE")
    assert events(session, user.public_id)[1:] == [
        ("account:profile:changed", {"names": "name country"}, user.public_id)
    ]
    with pytest.raises(Invalid) as caught:
        service.update_profile(session, by=by, name="Ann", affiliation="", country="DE", now=now)
    assert caught.value.field == "affiliation"


def test_a_person_without_a_profile_still_acts(session: Session, now: datetime) -> None:
    user = User(public_id="usr_erased", created_at=now)
    session.add(user)
    session.flush()
    assert service.acting(user).name == ""


def test_a_standing_moves_with_its_event_and_saying_it_again_changes_nothing(session: Session, now: datetime) -> None:
    user, until = ann(session, now), now + timedelta(days=3)
    order = {"user_id": user.id, "action": StandingAction.SUSPEND, "ref": "san_1", "by": SYSTEM, "now": now}
    for _ in range(2):
        assert service.set_standing(session, until=until, **order) is user  # type: ignore[arg-type]
    assert (user.standing, user.standing_until, user.standing_ref) == (Standing.SUSPENDED, until, "san_1")
    service.set_standing(session, until=until + timedelta(days=1), **order)  # type: ignore[arg-type]
    service.set_standing(
        session, user_id=user.id, action=StandingAction.REINSTATE, until=None, ref=None, by=SYSTEM, now=now
    )
    assert (user.standing, user.standing_until, user.standing_ref) == (Standing.ACTIVE, None, None)
    moves = [data for name, data, _ in events(session, user.public_id) if name == "account:standing:changed"]
    suspended = {"standing": "suspended", "ref": "san_1"}
    assert moves == [suspended, suspended, {"standing": "active", "ref": ""}]
    with pytest.raises(Conflict):
        service.set_standing(
            session, user_id=user.id, action=StandingAction.REINSTATE, until=None, ref=None, by=SYSTEM, now=now
        )
    noise = session.scalars(sa.select(User).where(User.id != user.id)).unique().all()
    assert noise
    assert {other.standing for other in noise} == {Standing.ACTIVE}


def test_of_two_moves_at_once_one_is_refused(session: Session, now: datetime) -> None:
    user = ann(session, now)
    # The row moves under the session, as it does when somebody else was quicker.
    session.execute(
        sa.update(User.__table__).where(User.__table__.c.id == user.id).values(standing="closed", standing_ref="dec_1")  # type: ignore[attr-defined]
    )
    with pytest.raises(Conflict) as caught:
        service.set_standing(
            session, user_id=user.id, action=StandingAction.SUSPEND, until=now + timedelta(days=1), ref="san_1",
            by=SYSTEM, now=now,
        )  # fmt: skip
    assert caught.value.code == "standing_changed"
    assert user.standing is Standing.CLOSED
    assert len(events(session, user.public_id)) == 1


def test_roles_are_given_and_taken_once_and_carry_their_powers(session: Session, now: datetime) -> None:
    user, later = ann(session, now), now + timedelta(days=1)
    conduct.person(session, "noise", now, Role.ADMIN)
    first = service.grant_role(session, user_id=user.id, role=Role.MODERATOR, by=SYSTEM, now=now)
    assert service.grant_role(session, user_id=user.id, role=Role.MODERATOR, by=SYSTEM, now=later) is first
    service.grant_role(session, user_id=user.id, role=Role.CARD_EDITOR, by=SYSTEM, now=now)
    assert service.roles_of(session, user_id=user.id, now=later) == [Role.MODERATOR, Role.CARD_EDITOR]
    assert Permission.PEOPLE_SANCTION in service.permissions(session, user_id=user.id, now=later)
    for _ in range(2):
        service.end_role(session, user_id=user.id, role=Role.MODERATOR, by=SYSTEM, now=later)
    assert service.roles_of(session, user_id=user.id, now=later) == [Role.CARD_EDITOR]
    assert Permission.PEOPLE_SANCTION not in service.permissions(session, user_id=user.id, now=later)
    again = service.grant_role(session, user_id=user.id, role=Role.MODERATOR, by=SYSTEM, now=later)
    assert again is not first
    assert [(name, data["role"]) for name, data, _ in events(session, user.public_id)[1:]] == [
        ("account:role:granted", "moderator"), ("account:role:granted", "card_editor"),
        ("account:role:ended", "moderator"), ("account:role:granted", "moderator"),
    ]  # fmt: skip
