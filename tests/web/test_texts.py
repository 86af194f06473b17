"""Pages about kept texts: staff say how long, people agree, and a moderator reads within a case, on record first."""

import re
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.audit.models import AuditEvent
from portal.cases import service as cases
from portal.contents import service as contents
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.reveals import rules
from tests import conduct
from tests.factories import Make
from tests.site import Client, text_of

SECRET = "Periwinkle7QuartzHarbour"
WHY = "To see what was asked of the model."


class Place:
    """A model that may keep texts, somebody who uses it, and two moderators."""

    def __init__(self, app: Any) -> None:
        self.app = app
        with transaction(app.engine) as session:
            make = Make(session, utcnow())
            self.model = make.model("lab/kept")
            self.users: dict[str, User] = {
                "ann": make.person("ann"), "mo": make.person("mo", Role.MODERATOR),
                "co": make.person("co", Role.MODERATOR), "ed": make.person("ed", Role.CARD_EDITOR),
            }  # fmt: skip
        self.clients = {name: Client(app).sign_in(user) for name, user in self.users.items()}

    def keep(self, ref: str = "req_1", prompt: str = f"{SECRET} <script>alert(1)</script> 假新闻") -> bool:
        with transaction(self.app.engine) as session:
            row = contents.keep(
                session, request_id=ref, user_id=self.users["ann"].id, model_id=self.model.id, prompt=prompt,
                answer="=1+1", now=utcnow(), keys=self.app.extensions["month_keys"],
            )  # fmt: skip
        return row is not None

    def case(self, holder: str = "mo") -> str:
        with transaction(self.app.engine) as session:
            case = cases.open_case(
                session, subject_ref=self.users["ann"].public_id, origin="staff", clause_refs=[], severity=2,
                evidence={"n": 1}, dedupe_key="k", now=utcnow(), by=SYSTEM,
            )  # fmt: skip
            by = conduct.acting(self.users[holder], Role.MODERATOR)
            cases.claim(session, ref=case.public_id, by=by, now=utcnow())
        return case.public_id

    def post(self, who: str, path: str, **fields: Any) -> Any:
        client = self.clients[who]
        page = client.get("/settings/texts").get_data(as_text=True)
        csrf = unescape(re.findall(r'name="csrf_token"[^>]*value="([^"]*)"', page)[0])
        return client.post(path, data={**fields, "csrf_token": csrf})

    def get(self, who: str, path: str) -> Any:
        return self.clients[who].get(path)

    def events(self, name: str) -> int:
        with transaction(self.app.engine, write=False) as session:
            query = sa.select(sa.func.count()).select_from(AuditEvent).where(AuditEvent.name == name)
            return session.scalar(query) or 0


@pytest.fixture
def place(app: Any) -> Place:
    return Place(app)


def agreed(place: Place) -> None:
    staff = f"/staff/models/{place.model.public_id}/texts"
    assert place.post("ed", staff, days="7").status_code == 303
    answer = place.post("ann", "/settings/texts", model=place.model.public_id, agree="yes")
    assert answer.status_code == 303


def test_the_model_and_the_person_have_to_say_yes(place: Place) -> None:
    assert "Prompts and answers are not kept" in text_of(Client(place.app).get("/lab/kept"))
    assert "No model keeps texts" in text_of(place.get("ann", "/settings/texts"))
    assert not place.keep()
    agreed(place)
    assert "keeps prompts and answers for 7 days" in text_of(Client(place.app).get("/lab/kept"))
    assert place.keep()
    page = text_of(place.get("ann", "/settings/texts"))
    assert "Kept now 1" in page
    assert "Read by staff so far 0" in page
    place.post("ann", "/settings/texts", model=place.model.public_id, agree="no")
    assert "Kept now 0" in text_of(place.get("ann", "/settings/texts"))
    assert not place.keep("req_2")


@pytest.mark.parametrize("days", ["", "1", "-7", "x", "9" * 30])
def test_only_the_offered_days_can_be_set(place: Place, days: str) -> None:
    assert place.post("ed", f"/staff/models/{place.model.public_id}/texts", days=days).status_code == 422
    assert place.post("ann", "/settings/texts", model="mdl_none", agree="yes").status_code == 404


@pytest.mark.threat("TM-34")
def test_a_moderator_reads_within_a_case_and_the_record_is_there_before_the_words(place: Place) -> None:
    agreed(place)
    place.keep()
    ref = place.case()
    here = f"/staff/cases/{ref}/texts"
    listed = place.get("mo", here).get_data(as_text=True)
    assert "req_1" in listed
    assert SECRET not in listed
    assert place.get("co", here).status_code == 409
    assert place.get("ann", here).status_code == 403
    answer = place.post("mo", here, text=["req_1"], reason=WHY)
    assert answer.status_code == 303
    assert SECRET not in answer.get_data(as_text=True)
    assert place.events(rules.TextsRevealed.name) == 1  # committed, and no word was shown yet
    shown = place.get("mo", answer.headers["Location"])
    page = shown.get_data(as_text=True)
    assert SECRET in page
    assert "<script>alert" not in page
    assert page.count(place.users["mo"].public_id) >= 2
    assert "no-store" in shown.headers["Cache-Control"]
    assert place.get("co", answer.headers["Location"]).status_code == 404
    assert "Read by staff so far 1" in text_of(place.get("ann", "/settings/texts"))


@pytest.mark.threat("TM-34")
@pytest.mark.parametrize(("fields", "status"), [
    ({"text": ["req_1"], "reason": ""}, 422), ({"text": [], "reason": WHY}, 422), ({"reason": WHY}, 422),
    ({"text": ["req_other"], "reason": WHY}, 404), ({"text": [f"req_{n}" for n in range(51)], "reason": WHY}, 404),
    ({"text": ["req_1"], "reason": "x" * 1001}, 422), ({"text": ["req_1"], "reason": "\u202e" * 20}, 422),
])  # fmt: skip
def test_without_a_reason_or_with_other_texts_nothing_is_shown(place: Place, fields: Any, status: int) -> None:
    agreed(place)
    place.keep()
    answer = place.post("mo", f"/staff/cases/{place.case()}/texts", **fields)
    assert answer.status_code == status
    assert SECRET not in answer.get_data(as_text=True)
    assert place.events(rules.TextsRevealed.name) == 0


def test_texts_of_a_case_are_found_by_two_chinese_characters(place: Place) -> None:
    agreed(place)
    place.keep()
    place.keep("req_2", prompt="天气很好")
    where = f"/staff/cases/{place.case()}/texts/search"
    found = place.post("mo", where, words="新闻")
    assert found.status_code == 200
    page = found.get_data(as_text=True)
    assert set(re.findall(r"req_[12]\b", page)) == {"req_1"}
    assert SECRET not in page
    assert place.events(rules.TextsSearched.name) == 1
    assert "No such text is kept" in text_of(place.post("mo", where, words="旧闻"))
    assert place.post("mo", where, words="新").status_code == 422
    assert place.post("co", where, words="新闻").status_code == 409
