"""The pages that tell people of a change and keep their word that they read it."""

from datetime import timedelta
from typing import Any

import pytest

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from tests import conduct, licensed
from tests.population import Situation, Town
from tests.services.test_acknowledgments import card
from tests.site import Client, text_of

BEGIN = "/staff/campaigns/begin"


@pytest.fixture
def holder(app: Any) -> User:
    """Somebody who holds a copy of a model of which the card changed since."""
    now = utcnow()
    with transaction(app.engine) as session:
        licensed.publish(session, now)
        town = Town(session, now)
        town.open()
        user = town.settle(Situation(copies=("lab/standard",)))
        card(session, "lab/standard", "It errs in dates.", now)
    return user


@pytest.fixture
def desk(app: Any) -> Client:
    with transaction(app.engine) as session:
        boss = conduct.person(session, "boss", utcnow(), Role.ADMIN, domain="staff.example")
    return Client(app).sign_in(boss)


def day(days: int = 30) -> str:
    return (utcnow() + timedelta(days=days)).date().isoformat()


def begin(desk: Client, **said: str) -> Any:
    given = {
        "kind": "limitation",
        "model": "lab/standard",
        "revision": "",
        "words": "Check\ndates.",
        "answer_by": day(),
    }
    return desk.submit(BEGIN, **given | said)


def test_from_the_desk_to_the_word_of_who_holds_a_copy(app: Any, desk: Client, holder: User) -> None:
    planned = begin(desk)
    assert planned.status_code == 303, text_of(planned)
    page = planned.headers["Location"]
    assert "It would ask 1 people" in text_of(desk.get(page))
    visitor, own = Client(app).sign_in(holder), page.replace("/staff/campaigns/", "/settings/acknowledgments/")
    assert visitor.get(own).status_code == 404
    assert "You are not asked to read anything" in text_of(visitor.get("/settings/acknowledgments"))
    assert desk.submit(f"{page}/step/cut_over").status_code == 409
    assert desk.submit(f"{page}/step/start").headers["Location"] == page
    assert "Not told yet 1" in text_of(desk.get(page))
    assert desk.get(own).status_code == 404
    assert "Waits for your word" in text_of(visitor.get("/settings/acknowledgments"))
    said = text_of(visitor.get(own))
    for words in ("Check", "+ It errs in dates.", "From revision 1 to revision 2", "I have read this"):
        assert words in said, words
    assert "Reached, and not answered yet 1" in text_of(desk.get(page))
    assert visitor.submit(own).headers["Location"] == own
    assert "You confirmed" in text_of(visitor.get(own))
    assert "I have read this" not in text_of(visitor.get(own))
    assert "Confirmed 1" in text_of(desk.get(page))
    assert "acknowledged" in desk.get(f"{page}/people.csv").get_data(as_text=True)
    assert desk.submit(f"{page}/step/finish").status_code == 303
    listed = text_of(desk.get("/staff/campaigns"))
    assert "lab/standard to read of its limits Finished" in listed


def test_a_correction_names_its_commit(app: Any, desk: Client, holder: User) -> None:
    page = begin(desk, kind="correction").headers["Location"]
    assert "A correction of lab/standard" in text_of(desk.get(page))
    assert desk.submit(f"{page}/step/start").status_code == 303
    own = page.replace("/staff/campaigns/", "/settings/acknowledgments/")
    said = text_of(Client(app).sign_in(holder).get(own))
    assert "What is wrong, and what to do" in said
    assert "Commit" in said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"kind": ""}, "Choose what it is about."), ({"kind": "re_sign"}, "Not a valid choice."),
        ({"model": "lab/none"}, "Not a valid choice."), ({"words": ""}, "Say what changed"),
        ({"answer_by": ""}, "Name the day."), ({"answer_by": "0001-01-01"}, "Leave them at least"),
        ({"answer_by": "9999-12-31"}, "Leave them at least"),
        ({"kind": "correction", "revision": "x"}, "has no release of that commit"),
    ],
)  # fmt: skip
def test_a_form_with_mistakes_says_what_to_do(app: Any, desk: Client, holder: User, said: Any, words: str) -> None:
    answer = begin(desk, **said)
    assert answer.status_code == 422
    assert words in text_of(answer)


def test_a_word_is_kept_only_for_what_was_shown(app: Any, desk: Client, holder: User) -> None:
    page = begin(desk).headers["Location"]
    assert desk.submit(f"{page}/step/start").status_code == 303
    own = page.replace("/staff/campaigns/", "/settings/acknowledgments/")
    visitor = Client(app).sign_in(holder)
    assert visitor.submit(own, shown="0" * 64).status_code == 409
    assert "I have read this" in text_of(visitor.get(own))
