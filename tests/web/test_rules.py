"""The pages of detection rules and of declared research: from the first words to enforcing, by two people."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.backtests import service as backtests
from portal.banks import service as banks
from portal.banks.rules import Bank
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.detection import service as detection
from portal.detection.models import DetectionRule
from portal.detection.rules import Move, RuleOutcome
from tests import conduct
from tests.detecting import Desk
from tests.factories import Make
from tests.site import Client, text_of

FIELDS: dict[str, Any] = {
    "slug": "fake-news", "title": "Many fake news at once", "license": conduct.SLUG, "clauses": ["restriction.spam"],
    "when": 'phrases("news") >= 2', "outcome": "block",
    "match": "false alarm and breaking hoax\n---\nbreaking hoax, false alarm",
    "passes": "Is this a false alarm?", "reason_text": "It asks for invented news.", "on_missing": "skip", "route": "",
    "weight": "1", "per_hour": "0", "accounts_per_day": "5", "exempt": ["detection_research"], "reviewer": "",
}  # fmt: skip


@dataclass
class Console:
    """Two members of staff at the console, and somebody who uses the model."""

    app: Any
    mo: Client
    nia: Client
    user: User

    def write(self, **said: Any) -> str:
        answer = self.mo.submit("/staff/rules/write", **{**FIELDS, **said})
        assert answer.status_code == 303, text_of(answer)
        return str(answer.headers["Location"])

    def work(self) -> None:
        """Let background work try what waits to be tried."""
        for write in (False, True) * 5:
            with transaction(self.app.engine, write=write) as session:
                if (part := backtests.look(session, now=utcnow())) is None:
                    return
                if write:
                    backtests.keep(session, part=part, now=utcnow())

    def earlier(self, page: str, **ago: float) -> None:
        """Let a rule have been in its mode for a while."""
        with transaction(self.app.engine) as session:
            self.rule(session, page).mode_since = utcnow() - timedelta(**ago)

    def rule(self, session: Session, page: str) -> DetectionRule:
        return detection.find(session, ref=page.rsplit("/", 1)[1])


@pytest.fixture
def console(app: Any) -> Console:
    now = utcnow()
    with transaction(app.engine) as session:
        bank = Bank("news", "en", "", "Words of invented news.", ("false alarm", "breaking hoax"))
        banks.sync(session, banks=[bank], by=SYSTEM, now=now)
        desk = Desk(session, Make(session, now), now)
        user = desk.make.person("ann")
        for number in range(3):
            desk.use(user, {'phrases("news")': number}, now - timedelta(hours=number + 1))
        staff = {name: Client(app) for name in ("mo", "nia")}
        people = dict(desk.users)
    return Console(app, staff["mo"].sign_in(people["mo"]), staff["nia"].sign_in(people["nia"]), user)


def test_a_rule_comes_into_force_step_by_step(console: Console) -> None:
    assert "There is no rule yet" in text_of(console.mo.get("/staff/rules"))
    page = console.write()
    assert "Many fake news at once" in text_of(console.mo.get("/staff/rules"))
    early = console.mo.submit(f"{page}/step/shadow")
    assert early.status_code == 409
    assert "Try it on past use first" in text_of(early)
    forecast = console.mo.submit(page, to=f"{page}/backtest", days="30").headers["Location"]
    running = console.mo.get(forecast)
    assert running.headers["Refresh"] == "3"
    assert "Looked at 0 of 3 uses" in text_of(running)
    console.work()
    done = console.mo.get(forecast)
    assert "Refresh" not in done.headers
    words = text_of(done)
    for said in ("Uses looked at 3", "Hits 1", "People 1", "nobody has judged any of it yet", "about 8 minutes in all"):
        assert said in words, said
    assert console.mo.submit(f"{page}/step/shadow").status_code == 303
    assert "only after 24 hours in shadow" in text_of(console.mo.submit(f"{page}/step/flag"))
    console.earlier(page, hours=24)
    assert console.mo.submit(f"{page}/step/flag").status_code == 303
    unsaid = console.mo.submit(f"{page}/step/enforce")
    assert unsaid.status_code == 422
    assert "Say why it should enforce." in text_of(unsaid)
    assert console.mo.submit(f"{page}/step/enforce", reason="It was right.").status_code == 303
    assert "You proposed to let it enforce" in text_of(console.mo.get(page))
    assert "Somebody else who may edit rules confirms it" in text_of(console.mo.get(f"{page}/step/enforce"))
    shown = console.nia.get(f"{page}/step/enforce")
    assert "Confirm, and let it enforce" in text_of(shown)
    assert "It was right." in text_of(shown)
    assert console.nia.submit(f"{page}/step/enforce").status_code == 303
    held = text_of(console.nia.get(page))
    assert "Enforcing" in held
    assert "(as the second of two)" in held
    assert "0 in an hour, 0 in a day" in held
    with transaction(console.app.engine) as session:
        rule = console.rule(session, page)
        detection.apply_brake(session, rule=rule, why="Too many people.", now=utcnow(), base_url="")
    assert "The brake stopped it. Too many people." in text_of(console.mo.get(page))
    assert "Braked" in text_of(console.mo.get("/staff/rules"))
    assert console.mo.submit(f"{page}/step/retire", reason="Wrong.").status_code == 303
    assert "What can be done" not in text_of(console.mo.get(page))
    for nothing in (f"{page}/step/ship", f"{page}/step/nothing", "/staff/rules/rul_none", "/staff/backtests/bkt_none"):
        assert console.mo.get(nothing).status_code == 404


def test_a_mild_rule_takes_one_person(console: Console) -> None:
    page = console.write(outcome="throttle")
    with transaction(console.app.engine) as session:
        rule = console.rule(session, page)
        detection.move(session, rule=rule, action=Move.SHIP, by=SYSTEM, now=utcnow())
    assert console.mo.submit(f"{page}/step/enforce").status_code == 303
    assert "Enforcing" in text_of(console.mo.get(page))


def test_the_next_version_starts_from_the_last(console: Console) -> None:
    page = console.write()
    form = console.mo.get(f"/staff/rules/write?from={page.rsplit('/', 1)[1]}").get_data(as_text=True)
    for said in (
        'value="fake-news"',
        "breaking hoax\n---\nbreaking hoax, false alarm",
        "phrases(&#34;news&#34;) &gt;= 2",
    ):
        assert said in form, said
    assert console.write() == page
    second = console.write(title="Better")
    assert "Version 2 of fake-news" in text_of(console.mo.get(second))
    with transaction(console.app.engine) as session:
        row = console.rule(session, second)
        prompts = [(one.matches, one.prompt) for one in row.examples]
    assert prompts == [
        (True, "false alarm and breaking hoax"), (True, "breaking hoax, false alarm"),
        (False, "Is this a false alarm?"),
    ]  # fmt: skip
    assert console.mo.get("/staff/rules/write?from=rul_none").status_code == 404


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("when", "intent_bulk.real > 1", "Line 1, column 1: a dot after a value"),
        ("when", "", "Write when it applies"),
        ("when", 'phrases("olds") > 1', "there is no bank olds"), ("when", "x" * 3_000, "at most 2,000 characters"),
        ("slug", "Fake News", "small letters"), ("clauses", [], "Cite at least one clause"),
        ("clauses", ["x"], "'x' is not"),
        ("outcome", "close", "Not a valid choice"), ("match", "false alarm", "Prompt 1 is not matched"),
        ("match", "---\n---", "1 to 50"),
        ("weight", "x", "Not a valid integer"), ("weight", "9" * 400, "a number from 1"),
        ("per_hour", "-1", "a number from 0"),
        ("model", "\u202e", "no such model"), ("license", "x", "Not a valid choice"),
        ("reviewer", "x", "Not a valid choice"),
        ("exempt", ["fun"], "'fun' is not"), ("reason_text", "\u2028" * 3_000, "Say in a sentence what"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_field(console: Console, field: str, value: Any, said: str) -> None:
    answer = console.mo.submit("/staff/rules/write", **{**FIELDS, field: value})
    assert answer.status_code == 422
    assert said in text_of(answer)


def test_bad_numbers_of_days(console: Console) -> None:
    page = console.write()
    for days in ("0", "91", "x", "9" * 400, ""):
        assert console.mo.submit(page, to=f"{page}/backtest", days=days).status_code == 422, days


def test_declared_research_is_granted_and_ended(console: Console) -> None:
    assert "Nobody is exempt" in text_of(console.mo.get("/staff/exemptions"))
    fields: dict[str, Any] = {
        "person": console.user.public_id, "purpose": "detection_research", "license": conduct.SLUG,
        "clauses": ["restriction.spam"], "model": "", "safeguards": "Nothing leaves the lab.",
        "until": (utcnow() + timedelta(days=30)).date().isoformat(),
    }  # fmt: skip
    for field, value, said in (
        ("person", "usr_none", "nobody by this public id"), ("until", "2020-01-01", "in the future"),
        ("until", "9999-12-31", "at most 366 days"), ("until", "soon", "valid date"), ("model", "a/b", "no such model"),
        ("clauses", [], "Cite at least one"), ("purpose", "fun", "Not a valid choice"),
        ("safeguards", "", "Say what keeps"),
    ):  # fmt: skip
        answer = console.mo.submit("/staff/exemptions/grant", **{**fields, field: value})
        assert answer.status_code == 422, field
        assert said in text_of(answer), field
    page = console.mo.submit("/staff/exemptions/grant", **fields).headers["Location"]
    assert "Nothing leaves the lab." in text_of(console.mo.get(page))
    assert "Ann" in text_of(console.mo.get("/staff/exemptions"))
    assert console.mo.submit(page, reason="").status_code == 422
    assert console.nia.submit(page, reason="It is over.").status_code == 303
    over = text_of(console.nia.get(page))
    assert "It is over." in over
    assert "End it before its time" not in over
    assert console.mo.get("/staff/exemptions/exm_none").status_code == 404


def test_others_on_staff_see_none_of_it(app: Any) -> None:
    with transaction(app.engine) as session:
        user = conduct.person(session, "ed", utcnow(), Role.LICENSE_EDITOR)
    client = Client(app).sign_in(user)
    for page in ("/staff/rules", "/staff/rules/write", "/staff/exemptions", "/staff/exemptions/grant"):
        assert client.get(page).status_code == 403
    assert RuleOutcome.BLOCK.value == FIELDS["outcome"]
