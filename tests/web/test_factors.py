"""Second factors through pages: setting up, the second step of signing in, proving anew, and staff who have none."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.actor import SYSTEM, Level
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.factors import rules
from portal.factors.models import TotpSecret
from portal.identity import service
from portal.logins import service as logins
from portal.logins.models import LoginSession
from tests.site import Client, text_of

EMAIL = "ann@factors.example"
PASSWORD = "four words are fine"
APP = "/settings/security/app"
SECURITY = "/settings/security"


@pytest.fixture
def ann(app: Any) -> User:
    with transaction(app.engine) as session:
        return service.add_verified(
            session, email=EMAIL, password=PASSWORD, name="Ann", affiliation="Lab", country="NL",
            hasher=app.extensions["hasher"], by=SYSTEM, now=utcnow(),
        )  # fmt: skip


def seed_of(app: Any, user: User) -> bytes:
    with transaction(app.engine, write=False) as session:
        locked = session.get_one(TotpSecret, user.id).locked
    return bytes(app.extensions["vault"].unlock(locked, about=user.public_id))


def code_of(app: Any, user: User) -> str:
    """The code that the person's app shows now; whichever they used before counts as of long ago."""
    with transaction(app.engine) as session:
        session.execute(sa.update(TotpSecret).values(last_step=0))
    return rules.code_at(seed_of(app, user), rules.step_at(utcnow()))


def wrong_code(app: Any, user: User) -> str:
    """Six digits that the person's app does not show, now or soon."""
    seed, here = seed_of(app, user), rules.step_at(utcnow())
    shown = {rules.code_at(seed, here + drift) for drift in range(-3, 9)}
    return next(code for code in map(str, range(100_000, 100_020)) if code not in shown)


def sign_in(client: Client, **fields: str) -> Any:
    return client.submit("/login", to="/login", email=EMAIL, password=PASSWORD, **fields)


def set_up(app: Any, client: Client, user: User) -> list[str]:
    """Sign in by password, set up an app, and return the recovery codes that the page shows."""
    assert sign_in(client).status_code == 303
    assert client.get(APP).status_code == 200
    answer = client.submit(APP, code=code_of(app, user))
    assert answer.status_code == 200
    return re.findall(r"<li><code>([\w-]+)</code></li>", answer.get_data(as_text=True))


def age(app: Any, minutes: int) -> None:
    """Let it be long ago that anybody proved who they are."""
    with transaction(app.engine) as session:
        for login in session.scalars(sa.select(LoginSession)):
            login.proved_at -= timedelta(minutes=minutes)


def test_an_app_is_set_up_and_asked_for_from_then_on(app: Any, client: Client, ann: User) -> None:
    codes = set_up(app, client, ann)
    assert len(codes) == 10
    page = text_of(client.get(SECURITY))
    assert "Authenticator app" in page
    assert "10 of your recovery codes work" in page
    assert client.get(APP).status_code == 409
    phone = Client(app)
    answer = sign_in(phone, next="/settings/tokens")
    assert answer.headers["Location"] == "/login/second?next=/settings/tokens"
    assert phone.get("/settings/").status_code == 303
    assert phone.get("/login").status_code == 200  # not signed in yet
    second = answer.headers["Location"]
    before = phone.http.get_cookie("portal").value
    for bad in ("", wrong_code(app, ann), "nothing", "😀" * 200):
        wrong = phone.submit(second, to="/login/second", code=bad)
        assert wrong.status_code == 422
        assert "There is a problem" in text_of(wrong)
    answer = phone.submit(second, to="/login/second", code=code_of(app, ann))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/settings/tokens")
    assert phone.http.get_cookie("portal").value != before
    assert phone.get("/settings/").status_code == 200
    assert phone.get("/login/second").headers["Location"] == "/login?next=/"
    elsewhere = Client(app)
    sign_in(elsewhere)
    assert elsewhere.submit("/login/second", code=codes[0]).headers["Location"] == "/"
    assert "9 of your recovery codes work" in text_of(elsewhere.get(SECURITY))


def test_many_wrong_codes_have_to_wait(app: Any, client: Client, ann: User) -> None:
    set_up(app, client, ann)
    phone = Client(app)
    sign_in(phone)
    for _ in range(5):
        assert phone.submit("/login/second", code=wrong_code(app, ann)).status_code == 422
    held = phone.submit("/login/second", code=code_of(app, ann))
    assert (held.status_code, held.headers["Retry-After"]) == (429, "1")


def test_the_second_step_is_nobodys_without_the_first(app: Any, client: Client, ann: User) -> None:
    set_up(app, client, ann)
    stranger = Client(app)
    for cookie in ("", "x", "é"):
        stranger.http.set_cookie("portal", cookie)
        assert stranger.get("/login/second").headers["Location"] == "/login?next=/"
        assert stranger.submit("/login", to="/login/second", code="123456").status_code == 303
    assert stranger.get("/login/second?next=//evil.example").headers["Location"] == "/login?next=/"


def test_recovery_codes_are_made_anew_and_shown_once(app: Any, client: Client, ann: User) -> None:
    old = set_up(app, client, ann)
    assert "Those that you have stop working" in text_of(client.get("/settings/security/codes"))
    shown = client.submit("/settings/security/codes").get_data(as_text=True)
    new = re.findall(r"<li><code>([\w-]+)</code></li>", shown)
    assert len(new) == 10
    assert not set(new) & set(old)
    assert new[0] not in client.get(SECURITY).get_data(as_text=True)


def test_an_app_is_removed_after_a_last_look(app: Any, client: Client, ann: User) -> None:
    set_up(app, client, ann)
    path = "/settings/security/factors/app/remove"
    assert "your recovery codes stop working" in text_of(client.get(path))
    assert client.submit(path).headers["Location"] == SECURITY
    assert "It is removed" in text_of(client.get(SECURITY))
    assert client.get(path).status_code == 404
    assert sign_in(Client(app)).headers["Location"] == "/"


def test_what_is_grave_asks_to_prove_it_anew_and_leads_back(app: Any, client: Client, ann: User) -> None:
    sign_in(client)
    age(app, 15)
    answer = client.get(f"{APP}?a=b")
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        f"/login/prove?next={APP.replace('/', '%2F')}%3Fa%3Db",
    )
    prove = answer.headers["Location"]
    assert "15 minutes" in text_of(client.get(prove))
    assert client.submit(prove, to="/login/prove", password="wrong").status_code == 422
    before = client.http.get_cookie("portal").value
    answer = client.submit(prove, to="/login/prove", password=PASSWORD)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{APP}?a=b")
    assert client.http.get_cookie("portal").value != before
    client.get(APP)
    client.submit(APP, code=code_of(app, ann))
    age(app, 15)
    page = client.get(prove).get_data(as_text=True)
    assert 'name="code"' in page
    assert 'name="password"' not in page
    assert client.submit(prove, to="/login/prove", password=PASSWORD).status_code == 403
    assert client.submit(prove, to="/login/prove", code=code_of(app, ann)).status_code == 303
    assert client.get("/settings/security/codes").status_code == 200


def test_a_grave_form_that_comes_late_says_where_to_prove_it_and_can_be_sent_again(
    app: Any, client: Client, ann: User
) -> None:
    set_up(app, client, ann)
    page = client.get("/settings/security/codes").get_data(as_text=True)
    token = unescape(re.findall(r'name="csrf_token" value="([^"]*)"', page)[-1])
    age(app, 15)
    late = client.post("/settings/security/codes", data={"csrf_token": token})
    assert late.status_code == 403
    assert "/login/prove" in late.get_data(as_text=True)
    client.submit("/login/prove", code=code_of(app, ann))
    assert client.post("/settings/security/codes", data={"csrf_token": token}).status_code == 200


@pytest.mark.threat("TM-34")
def test_staff_without_a_second_factor_can_only_set_one_up(app: Any, client: Client, ann: User) -> None:
    with transaction(app.engine) as session:
        accounts.grant_role(session, user_id=ann.id, role=Role.ADMIN, by=SYSTEM, now=utcnow())
    sign_in(client)
    for path in ("/staff/", "/staff/people", "/settings/", "/settings/tokens", "/licenses/bloom-rail/1.1.0/sign"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (303, SECURITY), path
    page = client.get(SECURITY)
    assert "Staff sign in with a second factor" in text_of(page)
    assert 'href="/staff/"' not in page.get_data(as_text=True)
    token = unescape(re.findall(r'name="csrf_token" value="([^"]*)"', page.get_data(as_text=True))[-1])
    late = client.post("/settings/tokens", data={"csrf_token": token, "name": "x", "scopes": "weights:write"})
    assert late.status_code == 403
    assert SECURITY in late.get_data(as_text=True)
    assert client.get("/").status_code == 200
    assert client.get("/logout").status_code == 200
    client.get(APP)
    answer = client.submit(APP, code=code_of(app, ann))
    assert answer.status_code == 200
    assert client.get("/staff/people").status_code == 200
    # Taking it away again takes the console away in the same browser.
    client.submit("/settings/security/factors/app/remove")
    assert client.get("/staff/people").status_code == 303


@pytest.mark.threat("TM-29")
def test_a_cookie_is_dead_after_signing_out_each_proof_and_each_change_of_factors(
    app: Any, client: Client, ann: User
) -> None:
    def cookie() -> str:
        return str(client.http.get_cookie("portal").value)

    client.http.set_cookie("portal", "planted")
    sign_in(client)
    used = ["planted", cookie()]
    client.submit("/login/prove", password=PASSWORD)
    used.append(cookie())
    client.submit(APP, code=code_of(app, ann) if client.get(APP) else "")
    used.append(cookie())
    client.submit("/settings/security/factors/app/remove")
    used.append(cookie())
    client.submit("/logout")
    assert len(set(used)) == 5
    for value in used:
        browser = Client(app)
        browser.http.set_cookie("portal", value)
        assert browser.get("/settings/").status_code == 303
    with transaction(app.engine) as session:
        value = logins.open_session(
            session, user_id=ann.id, means="password", level=Level.ONE, user_agent="", pepper=app.settings.pepper,
            now=utcnow(),
        )  # fmt: skip
        logins.end_sessions(session, user_id=ann.id, reason="suspended", by=SYSTEM, now=utcnow())
    browser.http.set_cookie("portal", value)
    assert browser.get("/settings/").status_code == 303


def test_only_pages_of_passkeys_may_run_a_script_and_only_that_one(client: Client) -> None:
    assert "script-src" not in client.get("/").headers["Content-Security-Policy"]
    policy = client.get("/login").headers["Content-Security-Policy"]
    assert policy.endswith("script-src http://127.0.0.1:8000/static/passkeys.js")
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("bad", ["\ud800", "😀" * 9000, "{", "[]", "{}", '{"id":1}', "null", "[" * 30_000, "1e999"])
def test_no_answer_of_a_passkey_makes_a_page_fail(app: Any, client: Client, ann: User, bad: str) -> None:
    value = bad.encode("utf-8", "surrogatepass")
    assert client.submit("/login", to="/login/passkey", credential=value).status_code == 422
    set_up(app, client, ann)
    for path, fields in (("/login/prove", {}), ("/settings/security/passkeys", {"name": "Laptop"})):
        answer = client.submit(path, credential=value, **fields)
        assert answer.status_code == 422, path
