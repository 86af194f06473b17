"""The staff flow from preview to reversal, and the page of a decision for the person concerned."""

import re
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.cases import service as cases
from portal.cases.rules import LinkKind, Origin
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.logins.models import LoginSession
from portal.tokens import service as tokens
from tests import conduct

PEOPLE = {"ann": (), "bob": (), "mo": (Role.MODERATOR,), "co": (Role.MODERATOR,), "ad": (Role.ADMIN,)}
ORDER = {
    "finding": "violation", "clause": ["restriction.spam", "restriction.harm"], "intent": "knowing",
    "facts": 'Sent "letters" & <b>more</b>\r\non Sunday', "kind": ["suspend"], "until": "2035-01-01", "strike": "y",
}  # fmt: skip
SENT_BACK = (
    "finding", "intent", "facts", "model", "action", "token", "calls", "text_tokens", "until", "notice_sha256",
    "strike", "confirmed",
)  # fmt: skip


@dataclass
class Site:
    """Browses and posts as different people."""

    client: Any
    users: dict[str, User]
    who: str = ""

    def enter(self, name: str) -> "Site":
        if name != self.who:
            self.client.sign_in(self.users[name])
            self.who = name
        return self

    def get(self, name: str, path: str) -> Any:
        return self.enter(name).client.get(path)

    def post(self, name: str, path: str, **fields: Any) -> Any:
        page = self.enter(name).client.get("/transparency").get_data(as_text=True)
        csrf = unescape(re.findall(r'name="csrf_token"[^>]*value="([^"]*)"', page)[0])
        return self.client.post(path, data={**fields, "csrf_token": csrf})

    def path(self, name: str, rest: str = "") -> str:
        return f"/staff/people/{self.users[name].public_id}{rest}"

    def open_case(self, who: str = "mo", about: str = "ann") -> str:
        answer = self.post(who, self.path(about, "/case"))
        assert answer.status_code == 303, text_of(answer)
        return str(answer.headers["Location"])

    def preview(self, case: str, who: str = "mo", **changed: Any) -> dict[str, Any]:
        answer = self.post(who, f"{case}/decide", **{**ORDER, **changed})
        assert answer.status_code == 200, text_of(answer)
        page = answer.get_data(as_text=True)
        return {
            **{name: re.findall(f'name="{name}" value="([^"]*)"', page) for name in ("clause", "kind")},
            **{name: hidden(page, name) for name in SENT_BACK if f'name="{name}" value' in page},
        }

    def decide(self, who: str = "mo", about: str = "ann", **changed: Any) -> str:
        case = self.open_case(who, about)
        answer = self.post(who, f"{case}/decide", **self.preview(case, who, **changed))
        assert answer.status_code == 303, text_of(answer)
        assert answer.headers["Location"].endswith(case)
        return case

    def suspend(self) -> str:
        self.decide()
        page = self.get("mo", self.path("ann")).get_data(as_text=True)
        return re.findall(r'id="(dec_\w+)"', page)[0]

    def appeal(self, ref: str) -> str:
        assert self.post("ann", f"/appeal/{ref}", text="Not me.\r\nReally.").status_code == 303
        page = self.get("co", "/staff/cases?origin=appeal").get_data(as_text=True)
        return re.findall(r"/staff/cases/cas_\w+", page)[0]


def hidden(page: str, name: str) -> str:
    return unescape(re.findall(f'name="{name}" value="([^"]*)"', page)[0])


def text_of(answer: Any) -> str:
    words = re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True))
    return re.sub(r"\s+", " ", unescape(words))


@pytest.fixture
def site(app: Any, client: Any) -> Site:
    now = utcnow()
    with transaction(app.engine) as session:
        users = {name: conduct.person(session, name, now, *roles) for name, roles in PEOPLE.items()}
        for name in ("ann", "mo", "co"):
            conduct.sign(session, users[name], now)
    return Site(client, users)


def test_a_suspension_from_preview_to_reversal_on_appeal(site: Site) -> None:
    ref = site.suspend()
    seen = text_of(site.get("ann", f"/appeal/{ref}"))
    for part in ("A.1 Spam", "You do not send spam.", 'Sent "letters" & <b>more</b>', "A person decided this."):
        assert part in seen
    case = site.appeal(ref)
    assert "Waiting for an answer" in text_of(site.get("ann", f"/appeal/{ref}"))
    assert "You took part in this" in text_of(site.get("mo", case))
    for path in ("claim", "answer"):
        refused = site.post("mo", f"{case}/{path}", outcome="upheld", reasons="No.")
        assert refused.status_code == 403
    unheld = site.post("co", f"{case}/answer", outcome="overturned", reasons="Wrong person.")
    assert unheld.status_code == 409
    assert "You do not hold this case" in text_of(unheld)
    assert site.post("co", f"{case}/claim").status_code == 303
    assert "Not me." in text_of(site.get("co", case))
    done = site.post("co", f"{case}/answer", outcome="overturned", reasons="Wrong person.")
    assert done.status_code == 303
    seen = text_of(site.get("ann", f"/appeal/{ref}"))
    assert "overturned and counts no more" in seen
    assert "Wrong person." in seen
    assert "Active" in text_of(site.get("mo", site.path("ann")))


def test_a_question_about_an_appeal_is_answered_and_the_decision_made_milder(site: Site) -> None:
    ref = site.suspend()
    case = site.appeal(ref)
    site.post("co", f"{case}/claim")
    assert site.post("co", f"{case}/question", words=" ").status_code == 422
    assert site.post("co", f"{case}/question", words="Who else has your password?").status_code == 303
    assert "Who else has your password?" in text_of(site.get("ann", f"/appeal/{ref}"))
    assert site.post("ann", f"/appeal/{ref}/reply", words="").status_code == 422
    assert site.post("ann", f"/appeal/{ref}/reply", words="My sister.").status_code == 303
    site.post("co", f"{case}/claim")
    assert "My sister." in text_of(site.get("co", case))
    no_day = site.post("co", f"{case}/answer", outcome="varied", reasons="Half.")
    assert no_day.status_code == 422
    assert 'id="until-error"' in no_day.get_data(as_text=True)
    assert site.post("co", f"{case}/answer", outcome="varied", reasons="Half.", until="2030-01-01").status_code == 303
    assert "made milder" in text_of(site.get("ann", f"/appeal/{ref}"))
    assert "1 January 2030" in text_of(site.get("mo", site.path("ann")))


def test_the_preview_is_the_notice_and_binds_what_is_posted(site: Site) -> None:
    case = site.open_case()
    answer = site.post("mo", f"{case}/decide", **ORDER)
    assert "A decision was taken about your account at" in text_of(answer)
    assert "> You do not send spam." in text_of(answer)
    order = site.preview(case)
    assert order["clause"] == ORDER["clause"]
    for changed in ({"facts": "Else."}, {"until": "2036-01-01"}, {"notice_sha256": "0" * 64}, {"kind": []}):
        answer = site.post("mo", f"{case}/decide", **{**order, **changed})
        assert answer.status_code == 409
    assert "No decision was ever taken" in text_of(site.get("mo", site.path("ann")))


def test_confirming_twice_decides_once(site: Site) -> None:
    case = site.open_case()
    order = site.preview(case)
    for _ in range(2):
        assert site.post("mo", f"{case}/decide", **order).status_code == 303
    page = site.get("mo", site.path("ann")).get_data(as_text=True)
    assert len(set(re.findall(r'id="(dec_\w+)"', page))) == 1


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("clause", [], "clause"), ("clause", ["restriction.later"], "clause"), ("facts", " ", "facts"),
        ("facts", "x" * 5_001, "facts"), ("until", "", "until"), ("until", "2001-01-01", "until"),
        ("until", "tomorrow", "until"), ("finding", "guilty", "finding"), ("intent", "none", "intent"),
        ("kind", ["hang"], "kind"), ("kind", ["suspend_entitlement"], ""), ("calls", "many", "calls"),
        ("finding", "none", "finding"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_with_the_field_named(site: Site, field: str, value: Any, named: str) -> None:
    answer = site.post("mo", f"{site.open_case()}/decide", **{**ORDER, field: value})
    assert answer.status_code == 422
    assert f'id="{named}-error"' in answer.get_data(as_text=True) or not named


def test_each_step_in_a_case_needs_the_lease(site: Site) -> None:
    case = site.open_case()
    assert site.post("co", f"{case}/claim").status_code == 409
    assert site.post("co", f"{case}/note", words="Mine?").status_code == 409
    assert site.post("mo", f"{case}/note", words="Looks like\r\na letter shop.").status_code == 303
    assert "Looks like" in text_of(site.get("co", case))
    assert site.post("mo", f"{case}/release").status_code == 303
    assert site.post("mo", f"{case}/note", words="Late.").status_code == 409
    assert site.post("mo", f"{case}/decide", **ORDER).status_code == 409
    assert site.post("co", f"{case}/claim").status_code == 303
    nothing = {"finding": "none", "confirmed": "yes", "intent": "none", "action": "infer"}
    assert site.post("co", f"{case}/decide", **nothing).status_code == 303
    assert "This case is decided" in text_of(site.get("mo", case))
    assert site.post("mo", f"{case}/reopen", words="A second letter.").status_code == 303
    assert "A second letter." in text_of(site.get("mo", case))


def test_closing_takes_two_people(site: Site) -> None:
    case = site.open_case()
    order = site.preview(case, kind=["close"], until="")
    assert site.post("mo", f"{case}/decide", **order).status_code == 303
    assert "Active" in text_of(site.get("mo", site.path("ann")))
    page = site.get("co", f"{case}/proposal").get_data(as_text=True)
    given = {name: hidden(page, name) for name in ("shown_sha256", "notice_sha256")}
    assert site.post("mo", f"{case}/proposal", **given).status_code == 403
    assert site.post("co", f"{case}/proposal", **{**given, "shown_sha256": "0" * 64}).status_code == 409
    assert site.post("co", f"{case}/proposal", **given).status_code == 303
    assert "Closed" in text_of(site.get("mo", site.path("ann")))
    assert site.get("co", f"{case}/proposal").status_code == 409


def test_the_decision_is_there_for_the_person_concerned_alone(site: Site) -> None:
    ref = site.suspend()
    for outsider in ("bob", "mo", "ad"):
        assert site.get(outsider, f"/appeal/{ref}").status_code == 404
        assert site.post(outsider, f"/appeal/{ref}", text="Me too.").status_code == 404
    assert site.get("ann", "/appeal/san_nothing").status_code == 404


@pytest.mark.parametrize("text", ["", "  ", "x" * 2_001])
def test_an_appeal_without_words_or_too_long_is_answered_with_the_field_named(site: Site, text: str) -> None:
    ref = site.suspend()
    answer = site.post("ann", f"/appeal/{ref}", text=text)
    assert answer.status_code == 422
    assert 'id="text-error"' in answer.get_data(as_text=True)


def test_a_second_appeal_is_refused_and_the_same_again_is_not(site: Site) -> None:
    ref = site.suspend()
    site.appeal(ref)
    assert site.post("ann", f"/appeal/{ref}", text="Not me.\r\nReally.").status_code == 303
    assert site.post("ann", f"/appeal/{ref}", text="Something else.").status_code == 409


def test_an_answer_needs_an_outcome_and_reasons(site: Site) -> None:
    ref = site.suspend()
    case = site.appeal(ref)
    site.post("co", f"{case}/claim")
    for field, value in (("outcome", "maybe"), ("outcome", ""), ("reasons", " "), ("reasons", "x" * 5_001)):
        answer = site.post("co", f"{case}/answer", **{"outcome": "upheld", "reasons": "Because.", field: value})
        assert answer.status_code == 422
        assert f'id="{field}-error"' in answer.get_data(as_text=True)
    assert site.post("co", f"{case}/answer", outcome="upheld", reasons="Because.").status_code == 303
    assert "The decision stands" in text_of(site.get("ann", f"/appeal/{ref}"))


def test_reinstating_asks_for_a_reason_and_for_confirmation(site: Site) -> None:
    site.suspend()
    path = site.path("ann", "/reinstate")
    assert site.post("co", path, reason="").status_code == 422
    asked = site.post("co", path, reason="New facts.")
    assert asked.status_code == 200
    assert "Reinstate this person?" in text_of(asked)
    assert "Reinstate…" in text_of(site.get("co", site.path("ann")))
    for _ in range(2):
        assert site.post("co", path, reason="New facts.", confirmed="yes").status_code == 303
    seen = text_of(site.get("co", site.path("ann")))
    assert "New facts." in seen
    assert "Reinstate…" not in seen


def test_who_may_be_suspended_by_whom(site: Site) -> None:
    unsigned = site.open_case("mo", "bob")
    assert "signed nothing" in text_of(site.get("mo", f"{unsigned}/decide"))
    assert site.post("mo", site.path("mo", "/case")).status_code == 403
    assert site.post("mo", site.path("co", "/case")).status_code == 403
    assert site.post("ad", site.path("co", "/case")).status_code == 303
    assert site.post("ad", "/staff/people/usr_nobody/case").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/staff/people", "/staff/cases", "/staff/audit", "/staff/people/x", "/staff/cases/x", "/staff/cases/x/decide"],
)
def test_members_see_nothing_of_the_console(site: Site, path: str) -> None:
    assert site.get("ann", path).status_code == 403


@pytest.mark.parametrize(
    "query", ["q=%25", "after=-99999999999999999999", "after=9" + "9" * 30, "standing=nix&after=x"]
)
def test_any_search_of_people_is_answered(site: Site, query: str) -> None:
    assert site.get("mo", f"/staff/people?{query}").status_code == 200


def test_people_are_searched_for(site: Site) -> None:
    seen = text_of(site.get("mo", "/staff/people?q=ANN%40conduct"))
    assert "ann@conduct.example" in seen
    assert "bob@conduct.example" not in seen
    assert "Nobody fits" in text_of(site.get("mo", "/staff/people?q=zzzzzz"))


@pytest.mark.parametrize("query", ["name=%FF", "before=-9" + "9" * 30, "before=x", "subject=nobody"])
def test_any_filter_of_events_is_answered(site: Site, query: str) -> None:
    assert site.get("mo", f"/staff/audit?{query}").status_code == 200


def test_events_are_filtered_by_name_and_subject(site: Site) -> None:
    site.suspend()
    seen = text_of(site.get("mo", "/staff/audit?name=moderation%3Asanction%3Aordered"))
    assert f"user={site.users['ann'].public_id}" in seen
    assert "clauses=restriction.spam restriction.harm" in seen
    assert "Sent" not in seen


def grow_stale(app: Any) -> None:
    """Let time pass since everybody proved who they are."""
    with transaction(app.engine) as session:
        for login in session.scalars(sa.select(LoginSession)):
            login.proved_at -= timedelta(minutes=16)


@pytest.mark.threat("TM-34")
def test_what_is_grave_takes_a_fresh_proof_and_what_is_daily_does_not(app: Any, site: Site) -> None:
    case = site.open_case()
    filled = site.preview(case, kind=["close"])
    grow_stale(app)
    for path in ("/staff/cases/bulk", f"{case}/proposal", f"{case}/texts", "/staff/batches/bat_none"):
        answer = site.get("mo", path)
        assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (303, "/login/prove"), path
    assert "prove once more that it is you" in text_of(site.post("mo", f"{case}/decide", **filled))
    assert site.post("mo", "/staff/cases/bulk", people="usr_x").status_code == 403
    answer = site.post("mo", f"{case}/decide", **site.preview(case))
    assert answer.status_code == 303
    assert "This case is decided" in text_of(site.get("mo", case))


def test_a_frozen_access_token_opens_nothing_that_takes_a_scope(app: Any, site: Site) -> None:
    with transaction(app.engine) as session:
        secrets = {
            name: tokens.issue(
                session, by=conduct.acting(site.users[name]), owner_id=site.users[name].id, name="x",
                scopes=["usage:read"], model_ids=[], days=30, pepper=app.settings.pepper, now=utcnow(),
            )[1]
            for name in ("ann", "co")
        }  # fmt: skip

    def usage(name: str) -> Any:
        return site.client.get("/api/usage", headers={"Authorization": f"Bearer {secrets[name]}"})

    assert usage("ann").status_code == 200
    site.decide(kind=["freeze_access_token"])
    assert (usage("ann").status_code, usage("ann").get_json()["code"]) == (403, "access_token_frozen")
    assert usage("co").status_code == 200
    site.post("mo", site.path("ann", "/reinstate"), reason="Wrong.", confirmed="yes")


def test_a_case_about_nobody_is_closed_on_its_page(app: Any, site: Site) -> None:
    with transaction(app.engine) as session:
        opened = cases.open_case(
            session, subject_ref="out_place", origin=Origin.REPORT, clause_refs=["restriction.spam"], severity=1,
            evidence={"kind": "report"}, dedupe_key="report:x", now=utcnow(), by=SYSTEM,
        )  # fmt: skip
        case = f"/staff/cases/{opened.public_id}"
    assert "spam" in text_of(site.get("mo", "/staff/cases"))
    site.post("mo", f"{case}/claim")
    assert "Close it without a breach" in text_of(site.get("mo", case))
    answer = site.post("mo", f"{case}/decide", finding="violation", facts="Spam.")
    assert answer.status_code == 422
    assert "No one account is known behind this case" in text_of(answer)
    assert site.post("mo", f"{case}/decide", finding="none", confirmed="yes").status_code == 303
    assert "This case is decided" in text_of(site.get("mo", case))


def test_several_people_of_one_case_are_decided_about_from_its_page(app: Any, site: Site) -> None:
    with transaction(app.engine) as session:
        refs = [site.users[name].public_id for name in ("ann", "co")]
        opened = cases.open_case(
            session, subject_ref="rul_x", origin=Origin.RULE, clause_refs=["restriction.spam"], severity=3,
            evidence={"kind": "rule"}, dedupe_key="rule:x", now=utcnow(), by=SYSTEM,
            links=[(LinkKind.SUBJECT, ref) for ref in refs],
        )  # fmt: skip
        case = f"/staff/cases/{opened.public_id}"
    assert "2 people" in text_of(site.get("mo", "/staff/cases"))
    site.post("mo", f"{case}/claim")
    assert "Decide about all of them" in text_of(site.get("mo", case))
    address = f"/staff/cases/bulk?case={opened.public_id}"
    page = site.get("mo", address).get_data(as_text=True)
    assert all(ref in page for ref in refs)
    fields = {**ORDER, "people": refs[0], "case": opened.public_id}
    shown = site.post("mo", "/staff/cases/bulk", **fields)
    assert ORDER["facts"].split("\n")[0].strip() in text_of(shown)
    done = site.post(
        "mo", "/staff/cases/bulk", **fields, confirmed="yes",
        batch_sha256=hidden(shown.get_data(as_text=True), "batch_sha256"),
    )  # fmt: skip
    assert done.status_code == 303, text_of(done)
    assert "This case is decided" in text_of(site.get("mo", case))
