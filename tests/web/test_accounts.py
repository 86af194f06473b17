"""A person's pages about themselves."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts import service
from portal.accounts.models import Profile, User
from portal.accounts.rules import Role, StandingAction
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.notices.models import Notice
from tests import conduct
from tests.site import Client, text_of


@pytest.fixture
def ann(app: Any) -> User:
    with transaction(app.engine) as session:
        return conduct.person(session, "ann", utcnow(), Role.CARD_EDITOR)


def unverify(app: Any) -> None:
    with transaction(app.engine) as session:
        session.execute(sa.update(Profile).values(verified_at=None))


def test_settings_show_how_things_stand_and_lead_on(app: Any, client: Client, ann: User) -> None:
    page = text_of(client.sign_in(ann).get("/settings/"))
    for words in ("ann@conduct.example", "Confirmed", "Active", "card editor", ann.public_id):
        assert words in page
    body = client.get("/settings/").get_data(as_text=True)
    for part in ("profile", "tokens", "signatures", "usage", "security", "privacy"):
        assert f'href="/settings/{part}"' in body
    assert "not confirmed" not in page


def test_a_suspended_person_is_told_where_to_read_why(app: Any, client: Client, ann: User) -> None:
    with transaction(app.engine) as session:
        service.set_standing(
            session, user_id=ann.id, action=StandingAction.SUSPEND, until=utcnow() + timedelta(days=2), ref="san_x",
            by=SYSTEM, now=utcnow(),
        )  # fmt: skip
    body = client.sign_in(ann).get("/settings/").get_data(as_text=True)
    assert 'href="/appeal/san_x"' in body
    assert "Suspended" in body


def test_an_unconfirmed_address_can_have_its_mail_again_a_few_times(app: Any, client: Client, ann: User) -> None:
    unverify(app)
    client.sign_in(ann)
    assert "Your e-mail address is not confirmed" in text_of(client.get("/settings/"))
    for number in range(6):
        answer = client.submit("/settings/profile", to="/settings/verify-address")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/settings/profile")
        words = "A new link is on its way to ann@conduct.example" if number < 5 else "Several mails were sent"
        assert words in text_of(client.get("/settings/profile"))
    with transaction(app.engine) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Notice)) == 5
        session.execute(sa.update(Profile).values(verified_at=utcnow()))
    assert client.submit("/settings/profile", to="/settings/verify-address").status_code == 303
    assert "Send the confirmation" not in text_of(client.get("/settings/profile"))


def test_a_profile_is_changed_and_mistakes_are_named(app: Any, client: Client, ann: User) -> None:
    client.sign_in(ann)
    fields = {"name": "Ann Núñez", "affiliation": "Lab <b>", "country": "fr"}
    answer = client.submit("/settings/profile", to="/settings/profile", **fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/settings/profile")
    page = client.get("/settings/profile").get_data(as_text=True)
    assert "Your profile is saved" in page
    for value in ("Ann Núñez", "Lab &lt;b&gt;", "FR"):
        assert f'value="{value}"' in page
    answer = client.submit("/settings/profile", to="/settings/profile", name="", affiliation="x" * 999, country="1")
    assert answer.status_code == 422
    for words in ("Give your name", "at most 200 characters", "two letters"):
        assert words in text_of(answer)
    assert client.submit("/settings/profile", to="/settings/profile", email="eve@x.example").status_code == 303
    with transaction(app.engine, write=False) as session:
        assert session.scalars(sa.select(Profile.email)).all() == ["ann@conduct.example"]


def test_the_privacy_page_has_no_buttons_beyond_the_way_out(client: Client, ann: User) -> None:
    body = client.sign_in(ann).get("/settings/privacy").get_data(as_text=True)
    assert body.count("<button") == 1
    assert "argon2id" in body


@pytest.mark.parametrize("path", ["/settings/", "/settings/profile", "/settings/privacy", "/settings/security"])
def test_settings_are_for_people_who_are_signed_in(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login?next=")
