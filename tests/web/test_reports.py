"""Reporting misuse in the page: with the work done, by way of a mail without script, and signed in."""

import re
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.notices.models import Notice
from portal.reports.models import Report
from tests.factories import Make
from tests.site import Client, text_of
from tests.solving import solve

GOOD = {
    "locator": "https://news.example/1", "explanation": "They flood <script>alert(1)</script> all comments.",
    "clause": "restriction.spam", "name": "=HYPERLINK(1)", "email": "reader@out.example", "good_faith": "y",
}  # fmt: skip


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.release(make.model("lab/model"))
        return {"ann": make.person("ann"), "mo": make.person("mo", Role.MODERATOR)}


def work_on(client: Client, path: str = "/report") -> str:
    page = client.get(path).get_data(as_text=True)
    return unescape(re.findall(r'data-work="([^"]*)"', page)[0])


def reports(app: Any) -> list[Report]:
    with transaction(app.engine, write=False) as session:
        return list(session.scalars(sa.select(Report).order_by(Report.id)))


def test_a_browser_that_does_the_work_reports_at_once(app: Any, people: Any) -> None:
    client = Client(app)
    answer = client.submit("/report", **GOOD, proof=solve(work_on(client)))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/report")
    [row] = reports(app)
    assert row.case_ref
    assert row.public_id in text_of(client.get("/report"))


@pytest.mark.parametrize("proof", ["", "x", "e30="])
def test_without_the_work_a_mail_asks_first(app: Any, people: Any, proof: str) -> None:
    client = Client(app)
    answer = client.submit("/report", **GOOD, proof=proof)
    assert answer.headers["Location"] == "/report/sent"
    assert "Look into your mail" in text_of(client.get("/report/sent"))
    with transaction(app.engine) as session:
        body = session.scalars(sa.select(Notice.body)).one() or ""
    path = re.findall(r"/report/confirm/\S+", body)[0]
    assert "flood" not in body
    assert "This report is mine" in text_of(client.get(path))
    assert reports(app)[0].case_ref is None  # opening the page confirms nothing: mail programs open links
    assert client.submit(path).status_code == 303
    assert reports(app)[0].case_ref


def test_whoever_is_signed_in_needs_no_work_and_their_address_stands_there(app: Any, people: Any) -> None:
    ann = Client(app).sign_in(people["ann"])
    page = ann.get("/report?about=req_x").get_data(as_text=True)
    assert "data-work" not in page
    assert "portal.js" not in page
    assert 'value="ann@conduct.example"' in page
    assert 'value="req_x"' in page
    assert ann.submit("/report", **GOOD).headers["Location"] == "/report"
    assert reports(app)[0].reporter_id == people["ann"].id


@pytest.mark.parametrize(("field", "value"), [
    ("locator", ""), ("explanation", "short"), ("explanation", "x" * 5001), ("clause", "no.such"), ("good_faith", ""),
    ("email", "nobody"), ("email", ""), ("name", "x" * 201), ("locator", "\u202e" * 1001),
])  # fmt: skip
def test_bad_input_names_its_field_and_keeps_the_rest(app: Any, people: Any, field: str, value: str) -> None:
    client = Client(app)
    answer = client.submit("/report", **{**GOOD, field: value})
    assert answer.status_code == 422
    page = answer.get_data(as_text=True)
    assert f'href="#{field}' in page
    assert "There is a problem" in page
    assert reports(app) == []
    assert client.submit("/report", locator="x\0").status_code == 400


def test_a_page_with_work_may_load_scripts_of_the_portal_and_no_other_page(app: Any, people: Any) -> None:
    assert (
        "script-src http://127.0.0.1:8000/static/portal.js"
        in Client(app).get("/report").headers["Content-Security-Policy"]
    )
    assert "script" not in Client(app).get("/report/sent").headers["Content-Security-Policy"]
    assert Client(app).get("/static/portal.js").status_code == 200


@pytest.mark.threat("TM-31")
def test_what_was_written_is_shown_to_staff_and_runs_nowhere(app: Any, people: Any) -> None:
    client = Client(app)
    client.submit("/report", **{**GOOD, "locator": "javascript:alert(2)"}, proof=solve(work_on(client)))
    [row] = reports(app)
    mo = Client(app).sign_in(people["mo"])
    page = mo.get(f"/staff/reports/{row.public_id}").get_data(as_text=True)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert 'href="javascript' not in page
    listed = text_of(mo.get("/staff/reports"))
    assert row.public_id in listed
    assert row.public_id in text_of(mo.get(f"/staff/reports?case={row.case_ref}"))
    assert row.public_id not in text_of(mo.get("/staff/reports?case=cas_other"))
    assert mo.get("/staff/reports/rep_none").status_code == 404


def test_a_network_that_reports_too_often_is_told_to_wait(app: Any, people: Any) -> None:
    client = Client(app)
    answers = [client.submit("/report", **{**GOOD, "locator": f"https://n.example/{n}"}) for n in range(31)]
    assert [a.status_code for a in answers] == [303] * 30 + [429]
    assert "Try again later" in text_of(answers[-1])


def test_a_model_and_an_answer_lead_to_the_form(app: Any, people: Any) -> None:
    page = Client(app).get("/lab/model").get_data(as_text=True)
    assert "/report?about=http" in page
