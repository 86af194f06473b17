"""What an attacker tries on pages: framing, foreign hosts, pages kept by others, words that would run, old keys."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.models import Profile, User
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.entitlements.models import AccessRequest
from portal.main import create_app
from portal.tokens.models import AccessToken
from tests.factories import Make
from tests.site import Client, make_app
from tests.web.access_matrix import PAGES
from tests.web.world import World, address, build

SCRIPT = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"
PRODUCTION = {"PORTAL_BASE_URL": "https://portal.example"}


@pytest.fixture
def ann(app: Any) -> User:
    with transaction(app.engine) as session:
        return Make(session, utcnow()).person("ann")


@pytest.mark.threat("TM-29")
def test_what_was_made_for_one_visitor_is_kept_by_nobody(client: Client, ann: User) -> None:
    # The value of a form is one visitor's, too, whoever they are.
    for path in ("/login", "/signup", "/reset", "/report"):
        assert client.get(path).headers["Cache-Control"] == "no-store", path
    for path in ("/licenses/", "/no/such/page", "/api/decide"):
        assert client.get(path).headers["Cache-Control"] == "no-cache", path
    client.sign_in(ann)
    for path in ("/", "/licenses/", "/settings/", "/disclosure"):
        answer = client.get(path)
        assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("no-store", "Cookie"), path


@pytest.mark.threat("TM-29")
def test_a_request_for_another_host_is_refused_and_its_name_repeated_nowhere(tmp_path: Path) -> None:
    app = make_app(tmp_path, **PRODUCTION)
    app.config["TRUSTED_HOSTS"] = ["portal.example"]
    for host in ("evil.example", "portal.example.evil.example", "portal.example:80@evil.example", "evil.example:443"):
        answer = app.test_client().get("/login", headers={"Host": host})
        assert answer.status_code == 400, host
        assert "evil.example" not in answer.get_data(as_text=True)
    good = app.test_client().get("/login", headers={"Host": "portal.example"})
    assert good.status_code == 200
    assert good.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    cookies = good.headers.getlist("Set-Cookie")
    assert cookies
    for cookie in cookies:  # no neighboring host can plant one, and so choose the value of somebody's form
        assert cookie.startswith("__Host-")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    app.engine.dispose()


@pytest.mark.threat("TM-29")
def test_what_a_proxy_would_say_is_not_believed_from_a_client(client: Client, ann: User) -> None:
    client.sign_in(ann)
    plain = client.get("/settings/").get_data(as_text=True)
    for name, value in {
        "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil",
        "X-Original-URL": "/staff/", "X-Rewrite-URL": "/staff/", "X-HTTP-Method-Override": "DELETE",
        "Forwarded": "host=evil.example", "X-Forwarded-Proto": "javascript",
    }.items():  # fmt: skip
        answer = client.get("/settings/", headers={name: value})
        page = answer.get_data(as_text=True)
        assert answer.status_code == 200, name
        assert "evil" not in page
        assert page.count("href=") == plain.count("href=")


def test_nothing_is_echoed_and_nobody_is_told_how(
    app: Any, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: Any) -> str:
        raise RuntimeError("inside: /srv/portal and its words")

    broken.portal_mark = app.view_functions["access.index"].portal_mark  # type: ignore[attr-defined]
    monkeypatch.setitem(app.view_functions, "access.index", broken)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "inside" not in answer.get_data(as_text=True)
    assert answer.headers["X-Request-Id"] in answer.get_data(as_text=True)
    echoed = client.http.open("/licenses/", method="TRACE", headers={"X-Echo": "words-of-the-client"})
    assert echoed.status_code == 405
    assert "words-of-the-client" not in echoed.get_data(as_text=True)
    for path in ("/a%0aERROR%20forged", "/licenses/%0d%0aERROR%20forged"):
        assert client.get(path).status_code in {400, 404}
    assert not any("forged" in record.getMessage() for record in caplog.records)


def test_forms_and_links_of_before_hold_when_keys_change(tmp_path: Path) -> None:
    old = make_app(tmp_path, PORTAL_SECRET_KEYS="o" * 40)
    page = old.test_client().get("/login")
    [cookie] = [one for one in page.headers.getlist("Set-Cookie") if one.startswith("portal_form=")]
    [value] = re.findall(r'name="csrf_token" value="([^"]+)"', page.get_data(as_text=True))[:1]
    old.engine.dispose()
    both, new = ({"PORTAL_SECRET_KEYS": keys} for keys in (f"{'n' * 40},{'o' * 40}", "n" * 40))
    for keys, status in ((both, 422), (new, 400)):  # taken and found wanting; not taken
        app = create_app(type(old.settings).from_env({"PORTAL_HOME": str(tmp_path), **keys}))
        name, _, kept = cookie.partition(";")[0].partition("=")
        browser = app.test_client()
        browser.set_cookie(name, kept)
        assert browser.post("/login", data={"csrf_token": value}).status_code == status
        app.engine.dispose()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which everybody chose words that would run."""
    app = make_app(tmp_path_factory.mktemp("hostile"))
    world = build(app)
    with transaction(app.engine) as session:
        session.execute(sa.update(Profile).values(name=SCRIPT, affiliation=SCRIPT, country="DE"))
        session.execute(sa.update(AccessToken).values(name=SCRIPT))
        session.execute(sa.update(AccessRequest).values(purpose=SCRIPT))
    yield world
    app.engine.dispose()


@pytest.mark.threat("TM-31")
def test_words_that_would_run_are_inert_on_every_page(hostile: World) -> None:
    shown = 0
    for who in ("signed", "admin", "moderator"):
        client = Client(hostile.app).sign_in(hostile.users[who])
        for row in PAGES:
            method, rule = row.split(" ", 1)
            if method != "GET" or rule == "/logout":
                continue
            answer = client.get(address(hostile, "GET", rule))
            page = answer.get_data()
            assert answer.status_code < 500, (who, rule)
            if answer.mimetype == "text/html":
                assert b"<script>alert" not in page, (who, rule)
                assert b"<img" not in page, (who, rule)
                shown += b"&lt;script&gt;alert" in page
    assert shown > 10, "the words were looked for where they stand"
