"""The pages of previews and campaigns: from dates to a cut-over, and who may read names there."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from portal.accounts.rules import Role
from portal.catalog.models import GatedModel
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.drafting import service as drafting
from portal.licensing.models import LicenseVersion
from portal.notices import service as notices
from portal.publishing import service as publishing
from portal.reminders import service as reminders
from tests import conduct, licensed
from tests.editing import settled, steps
from tests.population import Program, Situation, Town, look_ahead
from tests.site import Client, text_of

DESK = "/staff/licenses/bloom-rail/1.2.0"


@pytest.fixture
def town(app: Any) -> Town:
    """The license with an approved next version, models that ask for it, and people."""
    now = utcnow()
    with transaction(app.engine) as session:
        licensed.publish(session, now)
        role = Role.LICENSE_EDITOR
        made = {name: conduct.person(session, name, now, role, domain="staff.example") for name in ("ed", "flo", "gus")}
        settled(session, {name: conduct.acting(user, role) for name, user in made.items()}, now)
        town = Town(session, now)
        town.open()
        programs = (Program(("inference",), None, 300),)
        for situation in (Situation(programs=programs), Situation(bounces=True), Situation(signed=("1.0.0",))):
            town.settle(situation)
        formula = town.settle(Situation())
        formula.profile.name = "=1+1"
    return town


def staff(app: Any, name: str, *roles: Role) -> Client:
    with transaction(app.engine) as session:
        user = conduct.person(session, name, utcnow(), *roles, domain="more.example")
    return Client(app).sign_in(user)


@pytest.fixture
def desk(app: Any, town: Town) -> Client:
    """An admin, who may read names."""
    return staff(app, "boss", Role.ADMIN)


def ask(desk: Client, days: tuple[int, int] = (20, 60)) -> str:
    soon, late = ((utcnow() + timedelta(days=n)).date().isoformat() for n in days)
    answer = desk.submit(f"{DESK}/schedule", effective_at=soon, required_by=late)
    assert answer.status_code == 303, text_of(answer)
    return str(answer.headers["Location"])


def work(app: Any) -> None:
    with transaction(app.engine) as session:
        look_ahead(session, utcnow())


def rows(answer: Any) -> list[dict[str, str]]:
    assert answer.mimetype == "text/csv"
    assert "attachment" in answer.headers["Content-Disposition"]
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))


def test_a_preview_shows_how_far_it_is_then_counts_then_names(app: Any, desk: Client) -> None:
    assert desk.get(f"{DESK}/campaign").headers["Location"] == f"{DESK}/schedule"
    preview = ask(desk)
    running = desk.get(preview)
    assert running.headers["Refresh"] == "3"
    assert "Looked at 0 of 4" in text_of(running)
    assert "Schedule it" not in text_of(running)
    assert desk.get(f"{DESK}/campaign").headers["Location"] == preview
    work(app)
    done = desk.get(preview)
    assert "Refresh" not in done.headers
    for words in ("Must sign again 4", "no mail reaches 1", "Access tokens that open less", "lab/standard 1.1.0"):
        assert words in text_of(done), words
    people = text_of(desk.get(f"{preview}/people?lot=must_sign"))
    assert "town.example" in people
    assert "Comes back" in people
    assert text_of(desk.get(f"{preview}/people?lot=no_address")).count("town.example") == 1
    assert "Nobody." in text_of(desk.get(f"{preview}/people?lot=signed"))
    assert text_of(desk.get(f"{preview}/people?lot=nonsense&after=-5")).count("town.example") == 4
    assert "Nobody." in text_of(desk.get(f"{preview}/people?after={10**30}"))
    assert "…" in text_of(desk.get(f"{preview}/tokens"))
    assert len(rows(desk.get(f"{preview}/tokens.csv"))) == 1
    listed = rows(desk.get(f"{preview}/people.csv?lot=must_sign"))
    assert [row["has_address"] for row in listed] == ["True", "False", "True", "True"]
    assert listed[-1]["name"] == "'=1+1"
    assert desk.get("/staff/previews/prv_none").status_code == 404


def test_lists_come_in_pages(app: Any, desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from portal.campaigns import staff as pages

    monkeypatch.setattr(pages, "PAGE", 3)
    preview = ask(desk)
    work(app)
    first = desk.get(f"{preview}/people").get_data(as_text=True)
    assert first.count("town.example") == 3
    after = first.split("after=")[1].split('"')[0]
    second = desk.get(f"{preview}/people?after={after}").get_data(as_text=True)
    assert second.count("town.example") == 1
    assert "after=" not in second


def test_editors_see_public_ids_and_no_names(app: Any, town: Town) -> None:
    editor = staff(app, "hal", Role.LICENSE_EDITOR)
    preview = ask(editor)
    work(app)
    assert editor.submit(f"{preview}/schedule").status_code == 303
    campaign = str(editor.get(f"{DESK}/campaign").headers["Location"])
    for path in (f"{preview}/people", f"{preview}/people.csv", f"{campaign}/people", f"{campaign}/people.csv"):
        page = editor.get(path).get_data(as_text=True)
        assert "usr_" in page
        assert "town.example" not in page
        assert "1+1" not in page


def test_a_campaign_from_its_start_to_its_cut_over(app: Any, desk: Client, town: Town) -> None:
    assert "There was no campaign yet" in text_of(desk.get("/staff/campaigns"))
    preview = ask(desk)
    index = desk.get("/staff/campaigns").get_data(as_text=True)
    campaign = "/staff/campaigns/cmp_" + index.split("/staff/campaigns/cmp_")[1].split('"')[0]
    assert "It has not started" in text_of(desk.get(campaign))
    assert desk.submit(f"{preview}/schedule").status_code == 409  # nobody has been looked at yet
    work(app)
    assert "Must sign again 4" in text_of(desk.get(f"{preview}/schedule"))
    assert desk.submit(f"{preview}/schedule").headers["Location"] == DESK
    page = text_of(desk.get(campaign))
    for words in ("Running", "Not told yet 3", "Mail comes back 1", "100.0%", "4 of those who are asked"):
        assert words in page, words
    assert "Cut it over…" not in page
    assert desk.submit(f"{campaign}/step/cut_over").status_code == 409
    assert desk.get(f"{campaign}/step/jump").status_code == 404
    for step in ("pause", "resume"):
        assert desk.submit(f"{campaign}/step/{step}").headers["Location"] == campaign
    assert desk.submit(f"{campaign}/step/resume").status_code == 409
    assert len(rows(desk.get(f"{campaign}/people.csv?state=unreached"))) == 4
    lost = rows(desk.get(f"{campaign}/people.csv?state=unreachable"))
    assert [row["state"] for row in lost] == ["unreachable"]
    for fields in ({"person": "usr_x", "reason": "Gone."}, {"person": lost[0]["public_id"], "reason": ""}):
        wrong = desk.submit(campaign, to=f"{campaign}/exempt", **fields)
        assert wrong.status_code == 422
        assert "There is a problem" in text_of(wrong)
    sent = desk.submit(campaign, to=f"{campaign}/exempt", person=lost[0]["public_id"], reason="Gone.")
    assert sent.status_code == 303
    assert "Not counted 1" in text_of(desk.get(campaign))
    assert "Nobody." in text_of(desk.get(f"{campaign}/people?state=signed"))
    assert desk.submit(f"{campaign}/step/cancel").status_code == 303
    assert "Ended" in text_of(desk.get(campaign))
    assert "Cancelled" in text_of(desk.get("/staff/campaigns"))


def test_the_button_of_a_cut_over_appears_once_all_is_true(
    app: Any, desk: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portal.campaigns import staff as pages

    preview = ask(desk)
    work(app)
    assert desk.submit(f"{preview}/schedule").status_code == 303
    campaign = str(desk.get(f"{DESK}/campaign").headers["Location"])
    later = utcnow() + timedelta(days=61)
    with transaction(app.engine) as session:
        while reminders.remind(session, now=later - timedelta(days=9), base_url=""):
            pass
        while claimed := notices.claim_due(session, now=later):
            for mail in claimed:
                notices.mark_sent(session, notice_id=mail.notice_id, now=later)
        version = session.query(LicenseVersion).filter_by(number="1.2.0").one()
        town.session = session
        town.people = {user_id: Situation() for user_id in town.people}
        town.tell(version, later - timedelta(days=1))
    monkeypatch.setattr(pages, "utcnow", lambda: later)
    assert "Cut it over…" in text_of(desk.get(campaign))
    assert "lab/standard, now 1.1.0" in text_of(desk.get(f"{campaign}/step/cut_over"))
    assert desk.submit(f"{campaign}/step/cut_over", follow="lab/none").status_code == 422
    assert desk.submit(f"{campaign}/step/cut_over", follow="lab/standard").status_code == 303
    assert "Cut over" in text_of(desk.get(campaign))
    assert desk.submit(f"{campaign}/step/finish").status_code == 303


def test_a_preview_of_something_else_sets_no_date(app: Any, desk: Client, town: Town) -> None:
    preview = ask(desk)
    work(app)
    with transaction(app.engine) as session:
        model = session.query(GatedModel).filter_by(name="strict").one()
        model.state = type(model.state).WITHDRAWN
    refused = desk.submit(f"{preview}/schedule")
    assert refused.status_code == 409
    assert "changed since the preview" in text_of(refused)


def test_a_version_with_dates_is_looked_at_with_those(app: Any, desk: Client) -> None:
    address = "/staff/licenses/bloom-rail/1.1.0"
    assert "It has its dates already" in text_of(desk.get(f"{address}/schedule"))
    answer = desk.submit(f"{address}/schedule")
    work(app)
    preview = answer.headers["Location"]
    assert "Start the campaign" in text_of(desk.get(preview))
    assert desk.submit(f"{preview}/schedule").status_code == 303
    campaign = str(desk.get(f"{address}/campaign").headers["Location"])
    assert "All who are asked 1" in text_of(desk.get(campaign))


def test_what_is_still_written_cannot_be_looked_ahead_to(app: Any, desk: Client, town: Town) -> None:
    with transaction(app.engine) as session:
        publishing.retire(session, **steps(), still_asked=[], by=SYSTEM, now=utcnow())
        drafting.draft(session, slug="bloom-rail", number="1.3.0", by=SYSTEM, now=utcnow())
    soon = (utcnow() + timedelta(days=20)).date().isoformat()
    for number, status in (("1.3.0", 409), ("1.2.0", 409), ("9.9.9", 404)):
        address = f"/staff/licenses/bloom-rail/{number}/schedule"
        form = {"effective_at": soon, "required_by": soon}
        page = desk.submit("/staff/campaigns", to=address, **form)
        assert page.status_code == status, number
