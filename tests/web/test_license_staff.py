"""The editors' desk: from a draft to a published version, and what is refused on the way."""

import re
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import Materiality, VersionState
from portal.notices.models import Notice
from tests import conduct, licensed
from tests.population import look_ahead
from tests.site import Client, text_of
from tests.web.desk import DESK, approved, confirmation, csrf, draft, edit, go, html, post, ready, said, vote, words


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    """Two editors, a moderator, and two members of whom one has signed; the license is published."""
    now = utcnow()
    with transaction(app.engine) as session:
        version = licensed.publish(session, now)
        made = {
            "ed": conduct.person(session, "ed", now, Role.LICENSE_EDITOR),
            "flo": conduct.person(session, "flo", now, Role.LICENSE_EDITOR),
            "mo": conduct.person(session, "mo", now, Role.MODERATOR),
            "ann": conduct.person(session, "ann", now),
            "bob": conduct.person(session, "bob", now),
        }
        licensed.sign(session, licensed.browsing(made["ann"]), version, now)
        return made


@pytest.fixture
def desk(client: Client, people: dict[str, User]) -> Client:
    return client.sign_in(people["ed"])


@pytest.fixture
def second(app: Any, people: dict[str, User]) -> Client:
    """Another editor's browser."""
    return Client(app).sign_in(people["flo"])


def found(app: Any, number: str) -> LicenseVersion:
    with transaction(app.engine, write=False) as session:
        return session.scalars(sa.select(LicenseVersion).where(LicenseVersion.number == number)).one()


def test_a_version_from_draft_to_its_date(app: Any, desk: Client, second: Client, people: dict[str, User]) -> None:
    where = draft(desk)
    assert where == f"{DESK}/1.2.0"
    assert "Not ready" in text_of(desk.get(where))
    edit(desk, "1.2.0", "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nNever. ")
    assert "Never" in re.findall(r"<ins>(.*?)</ins>", html(desk.get(f"{where}?lang=en")))[0]
    assert post(desk, f"{DESK}/1.2.0/description", **{**said(), "materiality": ""}).status_code == 303
    assert "choose its weight" in text_of(desk.get(where))
    assert go(desk, "submit").status_code == 422
    assert post(desk, f"{DESK}/1.2.0/description", **said()).status_code == 303
    assert "Complete. It can be submitted for review." in text_of(desk.get(where))
    assert go(desk, "submit").status_code == 303
    assert go(desk, "approve").status_code == 403
    assert "Record the vote" in text_of(second.get(where))
    assert "Record the vote first" in text_of(second.get(f"{where}/approve"))
    assert go(second, "approve").status_code == 409
    assert found(app, "1.2.0").state is VersionState.IN_REVIEW
    vote(desk)
    assert go(second, "approve").status_code == 303
    assert found(app, "1.2.0").state is VersionState.APPROVED
    assert go(desk, "approve").status_code == 409
    soon, late = ((utcnow() + timedelta(days=n)).date().isoformat() for n in (20, 60))
    asked = go(desk, "schedule", effective_at=soon, required_by=late)
    assert asked.status_code == 303, text_of(asked)
    with transaction(app.engine) as session:
        look_ahead(session, utcnow())
    preview = asked.headers["Location"]
    assert "Nothing changes for them 1" in text_of(desk.get(preview))  # no model asks for the license yet
    assert found(app, "1.2.0").state is VersionState.APPROVED
    assert desk.submit(f"{preview}/schedule").status_code == 303
    version = found(app, "1.2.0")
    assert (version.state, version.materiality) == (VersionState.SCHEDULED, Materiality.MATERIAL)
    assert found(app, "1.1.0").state is VersionState.IN_FORCE
    with transaction(app.engine, write=False) as session:
        query = sa.select(Notice).where(Notice.subject_ref == "license_version:bloom-rail/1.2.0")
        notices = session.scalars(query).all()
    assert [n.recipient_id for n in notices] == [people["ann"].id]
    assert "New in en." in (notices[0].body or "")
    assert re.search(r"sign before \d+ \w+ \d{4}, 00:00 UTC", notices[0].body or "")
    assert "/licenses/bloom-rail/1.2.0/sign" in (notices[0].body or "")
    assert "It reaches further." in html(desk.get("/licenses/bloom-rail/1.1.0...1.2.0?lang=fr"))
    assert desk.submit(f"{preview}/schedule").status_code == 409
    seen = text_of(Client(app).get("/licenses/"))
    assert "Scheduled Version 1.2.0" in seen
    assert "In force Version 1.1.0" in seen
    assert Client(app).sign_in(people["bob"]).get("/licenses/bloom-rail/1.2.0/sign").status_code == 200
    assert go(desk, "cancel").status_code == 303
    assert "1.2.0" not in text_of(Client(app).get("/licenses/bloom-rail"))
    assert go(desk, "retire").status_code == 303
    assert found(app, "1.2.0").state is VersionState.RETIRED


def test_two_people_put_a_version_in_force_now(app: Any, desk: Client, second: Client) -> None:
    approved(desk, second, "material_immediate")
    page = f"{DESK}/1.2.0/publish-now"
    assert post(desk, page, reason="").status_code == 422
    assert post(desk, page, reason="It is abused right now.").status_code == 303
    assert "Somebody proposed" in text_of(second.get(f"{DESK}/1.2.0"))
    assert "publish now" in text_of(second.get("/staff/proposals")).lower()
    own = text_of(desk.get(page))
    assert "You proposed this" in own
    assert "Confirm, and put it in force now" not in own
    asked = second.get(page)
    assert "It is abused right now." in text_of(asked)
    assert desk.post(page, data=confirmation(asked) | {"csrf_token": csrf(desk)}).status_code == 403
    assert second.post(page, data=confirmation(asked)).status_code == 303
    assert found(app, "1.2.0").state is VersionState.IN_FORCE
    assert found(app, "1.1.0").state is VersionState.SUPERSEDED
    assert "Confirmed" in text_of(second.get("/staff/proposals"))
    assert second.post(page, data=confirmation(asked)).status_code == 409
    assert "Waiting" in text_of(second.get(f"{DESK.rsplit('/', 1)[0]}/reviews"))
    assert "Somebody else with the same permission" not in text_of(second.get(f"{DESK}/1.2.0/review"))
    assert "so did everybody else with the permission" in text_of(second.get(f"{DESK}/1.2.0/review"))
    assert "Somebody who had no hand in it looks at it again before" in text_of(desk.get("/licenses/bloom-rail/1.2.0"))


def test_going_below_the_floor_takes_two_people(app: Any, desk: Client, second: Client) -> None:
    ready(desk, weight="clarifying")
    assert go(desk, "submit").status_code == 303
    page = f"{DESK}/1.2.0/approve"
    assert "two people" not in text_of(second.get(page)) or "You propose that with a reason" in text_of(
        second.get(page)
    )
    assert post(second, page, reason="It only says what was meant.").status_code == 303
    assert found(app, "1.2.0").state is VersionState.IN_REVIEW
    assert "below its least weight" in text_of(desk.get(f"{DESK}/1.2.0"))
    asked = desk.get(page)
    assert desk.post(page, data=confirmation(asked)).status_code == 303
    assert found(app, "1.2.0").state is VersionState.APPROVED


def test_who_is_alone_sees_that_it_is_not_possible(app: Any, desk: Client, second: Client, people: Any) -> None:
    approved(desk, second, "material_immediate")
    with transaction(app.engine) as session:
        accounts.end_role(session, user_id=people["flo"].id, role=Role.LICENSE_EDITOR, by=SYSTEM, now=utcnow())
    assert "it is not possible now" in text_of(desk.get(f"{DESK}/1.2.0/publish-now"))
    assert post(desk, f"{DESK}/1.2.0/publish-now", reason="Now.").status_code == 403


def test_review_sends_a_version_back_with_a_remark(app: Any, desk: Client, second: Client) -> None:
    ready(desk)
    assert go(desk, "submit").status_code == 303
    assert desk.get(f"{DESK}/1.2.0/text").status_code == 409
    assert post(second, f"{DESK}/1.2.0/return", words=" ").status_code == 422
    assert post(second, f"{DESK}/1.2.0/return", words="Say <b>why</b>.").status_code == 303
    assert found(app, "1.2.0").state is VersionState.DRAFT
    comments = f"{DESK}/1.2.0/comments"
    assert post(desk, f"{comments}?lang=fr", words="Ici.", key="preamble.purpose").status_code == 303
    assert post(desk, comments, words="x", key="no.such").status_code == 422
    assert post(desk, comments, words="").status_code == 422
    seen = html(desk.get(f"{DESK}/1.2.0"))
    assert "Say &lt;b&gt;why&lt;/b&gt;." in seen
    assert "Ici." in seen


def test_a_clause_is_edited_by_itself_beside_the_version_before(desk: Client) -> None:
    draft(desk)
    key = "restriction.unlawful_use"
    page = f"{DESK}/1.2.0/clauses/{key}?lang=en"
    seen = post(desk, page, title="Unlawful use", body="You never do that.", step="preview")
    assert seen.status_code == 200
    assert "<ins>" in html(seen)
    assert "You never do that." not in words(desk, "1.2.0", "en")
    assert post(desk, page, title="Unlawful use", body="You never do that.", step="save").status_code == 303
    assert "{#restriction.unlawful_use}\n\nYou never do that.\n" in words(desk, "1.2.0", "en")
    assert words(desk, "1.2.0", "en").count("{#") == words(desk, "1.2.0", "fr").count("{#")
    for fields, field in (({"title": "", "body": "x"}, "title"), ({"title": "x", "body": " "}, "body"),
                          ({"title": "x", "body": "### 9 Y {#duty.y}"}, "body"),
                          ({"title": "x {#a.b}", "body": "x"}, "title")):  # fmt: skip
        answer = post(desk, page, **fields)
        assert answer.status_code == 422
        assert f'id="{field}-error"' in html(answer)
    assert desk.get(f"{DESK}/1.2.0/clauses/no.such").status_code == 404


def test_what_a_translation_lacks_is_marked(desk: Client) -> None:
    draft(desk)
    edit(desk, "1.2.0", "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nNever. ", "en")
    seen = text_of(desk.get(f"{DESK}/1.2.0/clauses?lang=fr"))
    assert "1 clause lacks something" in seen
    assert "Not changed with the prevailing text" in seen
    text = words(desk, "1.2.0", "fr")
    cut = text[: text.index("### A.13 ")] + "### A.13 Autre {#restriction.autre}\n\nRien.\n"
    assert post(desk, f"{DESK}/1.2.0/text?lang=fr", text=cut).status_code == 303
    seen = text_of(desk.get(f"{DESK}/1.2.0/clauses?lang=fr"))
    assert "Missing" in seen
    assert "Not in the prevailing text" in seen


def test_a_vote_stands_behind_a_version(desk: Client) -> None:
    draft(desk)
    vote = {"body": "Steering committee", "decided_at": "2026-01-02", "votes_for": "12", "votes_against": "1",
            "votes_abstain": "0", "minutes_sha256": "a" * 64}  # fmt: skip
    page = f"{DESK}/1.2.0/resolution"
    wrong = {"minutes_sha256": ["x"], "votes_for": ["many", "9" * 30], "decided_at": ["9999-12-31", "soon"]}
    for changed, field in [({field: value}, field) for field, values in wrong.items() for value in values]:
        answer = post(desk, page, **{**vote, **changed})
        assert answer.status_code == 422
        assert f'id="{field}-error"' in html(answer)
    assert post(desk, page, **vote).status_code == 303
    assert "12 for, 1 against" in text_of(desk.get(f"{DESK}/1.2.0"))
    assert post(desk, page, **vote).status_code == 409


def test_drafts_are_hidden_from_everybody_else(app: Any, desk: Client, people: dict[str, User]) -> None:
    ready(desk)
    reader = Client(app).sign_in(people["bob"])
    for path in ("/licenses/bloom-rail/1.2.0", "/licenses/bloom-rail/1.2.0/sign", "/licenses/bloom-rail/1.1.0...1.2.0"):
        assert reader.get(path).status_code == 404
    assert "1.2.0" not in text_of(reader.get("/licenses/bloom-rail"))
    for name in ("bob", "mo"):
        other = Client(app).sign_in(people[name])
        for path in (
            "/staff/licenses",
            f"{DESK}/draft",
            f"{DESK}/1.2.0",
            f"{DESK}/1.2.0/text",
            f"{DESK}/1.2.0/approve",
            f"{DESK}/1.2.0/publish-now",
            f"{DESK}/1.2.0/clauses",
        ):
            assert other.get(path).status_code == 403


@pytest.mark.parametrize("number", ["", "1.1.0", "1.0.5", "x", "1..2", "9" * 50, "1.2.0/..", "２.０.０"])
def test_a_number_has_to_be_a_higher_one(desk: Client, number: str) -> None:
    answer = post(desk, f"{DESK}/draft", number=number)
    assert answer.status_code == 422
    assert 'id="number-error"' in html(answer)


def test_drafting_again_goes_on_with_the_draft(desk: Client) -> None:
    assert draft(desk) == draft(desk)
    answer = post(desk, f"{DESK}/draft", number="1.3.0")
    assert answer.status_code == 409


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be empty"),
        ("Only words.", "no clause"),
        ("### 1.1 No key\n\nWords.", "number, a title and a key"),
        ("### 1 A {#a.b}\n\nx\n\n### 2 B {#a.b}\n\ny", "stands twice"),
        ("### 1 A {#a.b}\n\nx\n\n### 1 B {#a.c}\n\ny", "number 1 on line 5 stands twice"),
        ("### 1 A {#a.b}\n\n" + "x" * 400_000, "400,000"),
    ],
)
def test_words_that_cannot_be_a_license_are_refused(desk: Client, text: str, why: str) -> None:
    draft(desk)
    answer = post(desk, f"{DESK}/1.2.0/text?lang=en", text=text)
    assert answer.status_code == 422
    assert 'id="text-error"' in html(answer)
    assert why in text_of(answer)
    assert "A.13" in words(desk, "1.2.0", "en")


def test_published_words_cannot_be_edited(desk: Client) -> None:
    for part in ("text", "description", "submit", "clauses/preamble.purpose"):
        assert desk.get(f"{DESK}/1.1.0/{part}").status_code == 409
    assert desk.get(f"{DESK}/9.9.9/text").status_code == 404
    assert desk.get(f"{DESK}/1.1.0?lang=xx").status_code == 404


def test_what_a_change_means_is_written_in_each_language(desk: Client) -> None:
    draft(desk)
    edit(desk, "1.2.0", "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nNever. ")
    edit(desk, "1.2.0", "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nJamais. ", "fr")
    french = {"explanation-restriction.unlawful_use-fr": "Elle va plus loin."}
    assert post(desk, f"{DESK}/1.2.0/description", **said(), **french).status_code == 303
    assert "Elle va plus loin." in html(desk.get(f"{DESK}/1.2.0/description"))
    assert "Elle va plus loin." in text_of(desk.get(f"{DESK}/1.2.0?lang=fr"))
    assert "Elle va plus loin." not in text_of(desk.get(f"{DESK}/1.2.0?lang=en"))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"summary-fr": ""}, "summary-fr"),
        ({"summary-en": "x" * 4_001}, "summary-en"),
        ({"relation-restriction.unlawful_use": "same"}, "relation-restriction.unlawful_use"),
        ({"relation-restriction.unlawful_use": "nix"}, "relation-restriction.unlawful_use"),
        ({"explanation-restriction.unlawful_use": " "}, "explanation-restriction.unlawful_use"),
        ({"explanation-restriction.unlawful_use": "x" * 2_001}, "explanation-restriction.unlawful_use"),
    ],
)
def test_a_description_has_to_be_whole(desk: Client, changed: dict[str, str], field: str) -> None:
    ready(desk)
    answer = post(desk, f"{DESK}/1.2.0/description", **{**said(), **changed})
    assert answer.status_code == 422
    assert f'id="{field}-error"' in html(answer)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"required_by": ""}, "required_by"),
        ({"required_by": "2001-01-01"}, "required_by"),
        ({"effective_at": "2001-01-01"}, "effective_at"),
        ({"effective_at": ""}, "effective_at"),
        ({"effective_at": "soon"}, "effective_at"),
        ({"effective_at": "9999-12-31"}, "required_by"),
    ],
)
def test_dates_have_to_fit(desk: Client, second: Client, changed: dict[str, str], field: str) -> None:
    approved(desk, second)
    days = {"effective_at": 20, "required_by": 60}
    fields = {name: (utcnow() + timedelta(days=n)).date().isoformat() for name, n in days.items()}
    answer = go(desk, "schedule", **{**fields, **changed})
    assert answer.status_code == 422
    assert f'id="{field}-error"' in html(answer)


def test_a_version_that_changed_since_it_was_looked_at_is_not_approved(app: Any, desk: Client, second: Client) -> None:
    ready(desk)
    assert go(desk, "submit").status_code == 303
    vote(desk)
    looked = confirmation(second.get(f"{DESK}/1.2.0/approve"))
    assert post(second, f"{DESK}/1.2.0/return", words="A typo.").status_code == 303
    edit(desk, "1.2.0", "Never. ", "Never ever. ", "en", "es", "fr", "zh")
    assert go(desk, "submit").status_code == 303
    assert second.post(f"{DESK}/1.2.0/approve", data=looked).status_code == 409
    assert found(app, "1.2.0").state is VersionState.IN_REVIEW


def test_a_translation_that_lags_behind_is_named(desk: Client) -> None:
    draft(desk)
    edit(desk, "1.2.0", "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nNever. ", "en")
    assert post(desk, f"{DESK}/1.2.0/description", **said()).status_code == 303
    seen = text_of(desk.get(f"{DESK}/1.2.0"))
    assert "restriction.unlawful_use changed in its reach, but its Spanish text did not" in seen
    answer = go(desk, "submit")
    assert answer.status_code == 422
    assert "its Spanish text did not" in text_of(answer)
