"""The editors' desk: from a draft to a published version, and what is refused on the way."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import Materiality, VersionState
from portal.notices.models import Notice
from tests import conduct, licensed
from tests.site import Client, text_of

DESK = "/staff/licenses/bloom-rail"
SUMMARY = {f"summary-{language}": f"New in {language}." for language in ("en", "es", "fr", "zh")}


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    """An editor, a moderator, and two members of whom one has signed; the license is published."""
    now = utcnow()
    with transaction(app.engine) as session:
        version = licensed.publish(session, now)
        made = {
            "ed": conduct.person(session, "ed", now, Role.LICENSE_EDITOR),
            "mo": conduct.person(session, "mo", now, Role.MODERATOR),
            "ann": conduct.person(session, "ann", now),
            "bob": conduct.person(session, "bob", now),
        }
        licensed.sign(session, licensed.browsing(made["ann"]), version, now)
        return made


@pytest.fixture
def desk(client: Client, people: dict[str, User]) -> Client:
    return client.sign_in(people["ed"])


def html(answer: Any) -> str:
    return str(answer.get_data(as_text=True))


def csrf(desk: Client) -> str:
    return unescape(re.findall(r'name="csrf_token" value="([^"]*)"', html(desk.get("/staff/licenses")))[0])


def post(desk: Client, path: str, **fields: Any) -> Any:
    return desk.post(path, data={**fields, "csrf_token": csrf(desk)})


def draft(desk: Client, number: str = "1.2.0") -> str:
    answer = post(desk, f"{DESK}/draft", number=number)
    assert answer.status_code == 303, text_of(answer)
    return str(answer.headers["Location"])


def words(desk: Client, number: str, language: str) -> str:
    page = html(desk.get(f"{DESK}/{number}/text?lang={language}"))
    return unescape(re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)[0])


def edit(desk: Client, number: str, old: str, new: str, *languages: str) -> None:
    """Change the words of a draft; browsers send line ends their own way."""
    for language in languages or ("en", "es", "fr", "zh"):
        text = words(desk, number, language)
        assert old in text
        sent = text.replace(old, new).replace("\n", "\r\n")
        assert post(desk, f"{DESK}/{number}/text?lang={language}", text=sent).status_code == 303


def said(relation: str = "widened", key: str = "restriction.unlawful_use", why: str = "It reaches further.") -> Any:
    return {**SUMMARY, f"relation-{key}": relation, f"explanation-{key}": why}


def ready(desk: Client, number: str = "1.2.0") -> None:
    """Make a complete draft that widens A.1."""
    draft(desk, number)
    edit(desk, number, "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nNever. ")
    assert post(desk, f"{DESK}/{number}/description", **said()).status_code == 303


def confirmation(answer: Any) -> dict[str, str]:
    main = html(answer)[html(answer).index("<main") :]
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', main)}


def found(app: Any, number: str) -> LicenseVersion:
    with transaction(app.engine, write=False) as session:
        return session.scalars(sa.select(LicenseVersion).where(LicenseVersion.number == number)).one()


def test_a_version_from_draft_to_publication(app: Any, desk: Client, people: dict[str, User]) -> None:
    where = draft(desk)
    assert where == f"{DESK}/1.2.0"
    assert "No clause differs yet" in text_of(desk.get(where))
    assert "Not ready" in text_of(desk.get(where))
    edit(desk, "1.2.0", "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nNever. ")
    seen = html(desk.get(f"{where}?lang=en"))
    assert (
        "<ins>Never. </ins>" in seen
        or "<ins>Never</ins>" in seen
        or "Never" in re.findall(r"<ins>(.*?)</ins>", seen)[0]
    )
    assert post(desk, f"{DESK}/1.2.0/description", **said()).status_code == 303
    assert "Complete. It can be published." in text_of(desk.get(where))
    day = (utcnow() + timedelta(days=30)).date().isoformat()
    asked = post(desk, f"{where}/publish", materiality="material", required_by=day)
    assert asked.status_code == 200, text_of(asked)
    assert "Must sign again 1" in text_of(asked)
    assert found(app, "1.2.0").state is VersionState.DRAFT
    done = desk.post(f"{where}/publish", data=confirmation(asked))
    assert done.status_code == 303, text_of(done)
    version = found(app, "1.2.0")
    assert (version.state, version.materiality) == (VersionState.IN_FORCE, Materiality.MATERIAL)
    assert found(app, "1.1.0").state is VersionState.SUPERSEDED
    with transaction(app.engine, write=False) as session:
        notices = session.scalars(
            sa.select(Notice).where(Notice.subject_ref == "license_version:bloom-rail/1.2.0")
        ).all()
    assert [n.recipient_id for n in notices] == [people["ann"].id]
    assert "New in en." in (notices[0].body or "")
    assert f"sign by {day}" in (notices[0].body or "")
    assert "/licenses/bloom-rail/1.2.0/sign" in (notices[0].body or "")
    difference = html(desk.get("/licenses/bloom-rail/1.1.0...1.2.0?lang=fr"))
    assert "It reaches further." in difference
    again = desk.post(f"{where}/publish", data=confirmation(asked))
    assert again.status_code == 409


def test_a_future_date_schedules(app: Any, desk: Client, people: dict[str, User]) -> None:
    ready(desk)
    soon, late = ((utcnow() + timedelta(days=n)).date().isoformat() for n in (20, 60))
    fields = {"materiality": "material", "effective_at": soon, "required_by": late}
    asked = post(desk, f"{DESK}/1.2.0/publish", **fields)
    assert desk.post(f"{DESK}/1.2.0/publish", data=confirmation(asked)).status_code == 303
    assert found(app, "1.2.0").state is VersionState.SCHEDULED
    assert found(app, "1.1.0").state is VersionState.IN_FORCE
    seen = text_of(Client(app).get("/licenses/"))
    assert "Scheduled Version 1.2.0" in seen
    assert "In force Version 1.1.0" in seen
    assert Client(app).sign_in(people["bob"]).get("/licenses/bloom-rail/1.2.0/sign").status_code == 200


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
            f"{DESK}/1.2.0/publish",
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
        ("### 1 A {#a.b}\n\nx\n\n### 1 B {#a.c}\n\ny", "number 1 stands twice"),
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
    for part in ("text", "description", "publish"):
        assert desk.get(f"{DESK}/1.1.0/{part}").status_code == 409
    assert desk.get(f"{DESK}/9.9.9/text").status_code == 404
    assert desk.get(f"{DESK}/1.1.0?lang=xx").status_code == 404


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
        ({"materiality": "editorial"}, "materiality"),
        ({"materiality": ""}, "materiality"),
        ({"required_by": ""}, "required_by"),
        ({"required_by": "2001-01-01"}, "required_by"),
        ({"effective_at": "2001-01-01"}, "effective_at"),
        ({"effective_at": "soon"}, "effective_at"),
        ({"effective_at": "9999-12-31"}, "required_by"),
    ],
)
def test_weight_and_dates_have_to_fit(desk: Client, changed: dict[str, str], field: str) -> None:
    ready(desk)
    day = (utcnow() + timedelta(days=30)).date().isoformat()
    fields = {"materiality": "material", "effective_at": "", "required_by": day, **changed}
    answer = post(desk, f"{DESK}/1.2.0/publish", **fields)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in html(answer)


def test_a_draft_that_changed_since_it_was_looked_at_is_not_published(app: Any, desk: Client) -> None:
    ready(desk)
    asked = post(desk, f"{DESK}/1.2.0/publish", materiality="material_immediate")
    assert asked.status_code == 200
    edit(desk, "1.2.0", "1.1.0", "1.2.0", "en")
    answer = desk.post(f"{DESK}/1.2.0/publish", data=confirmation(asked))
    assert answer.status_code == 409
    assert found(app, "1.2.0").state is VersionState.DRAFT


def test_a_translation_that_lags_behind_is_named(desk: Client) -> None:
    draft(desk)
    edit(desk, "1.2.0", "{#restriction.unlawful_use}\n\n", "{#restriction.unlawful_use}\n\nNever. ", "en")
    assert post(desk, f"{DESK}/1.2.0/description", **said()).status_code == 303
    seen = text_of(desk.get(f"{DESK}/1.2.0"))
    assert "restriction.unlawful_use changed in its reach, but its 'es' text did not" in seen
    day = (utcnow() + timedelta(days=30)).date().isoformat()
    answer = post(desk, f"{DESK}/1.2.0/publish", materiality="material", required_by=day)
    assert answer.status_code == 422
    assert "its 'es' text did not" in text_of(answer)
