"""The official client signs in from a terminal while its person, in a browser, first signs what the models ask for."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.oauth.models import DeviceCode
from portal.oauth.rules import DEVICE_GRANT
from portal.tokens.models import AccessToken
from tests import member
from tests.hub.conftest import Hub
from tests.hub.terminal import NEW, logging_in
from tests.member import Browser

DEMO = "demo/bloom-tiny"
HF = "26be6b09-91c5-47da-9861-d2d2bb7a7e36"


@contextmanager
def database(hub: Hub) -> Iterator[Any]:
    settings = Settings.from_env({k: v for k, v in hub.portal.environ.items() if k.startswith("PORTAL_")})
    engine = make_engine(settings.database_url)
    try:
        with transaction(engine) as session:
            yield session
    finally:
        engine.dispose()


def tokens_named(hub: Hub, name: str) -> int:
    with database(hub) as session:
        query = sa.select(sa.func.count()).select_from(AccessToken).where(AccessToken.name.startswith(name))
        return int(session.scalar(query))


def path_of(url: str, hub: Hub) -> str:
    assert url.startswith(f"{hub.url}/device?user_code=")
    return url.removeprefix(hub.url)


def let_in(browser: Browser, path: str) -> None:
    """Press the button that lets the terminal in, and the one that confirms it."""
    browser.open(path)
    browser.send(browser.form("user_code"))
    browser.send(browser.form("confirmed"))
    assert "You let this terminal in" in browser.page.text


def test_a_login_goes_on_by_itself_after_the_license_is_signed(hub: Hub, tmp_path: Path) -> None:
    member.add_member(hub.portal, "terminal@example.org", "Tess Terminal")
    with logging_in(tmp_path, hub.url) as terminal, Browser(hub.url) as browser:
        path = path_of(terminal.url, hub)
        assert path.endswith(terminal.code)
        browser.open(path)
        assert browser.page.url.path == "/login"
        browser.send(browser.form("email", "password"), email="terminal@example.org", password=member.PASSWORD)
        assert str(browser.page.url) == terminal.url, "signing in leads back to the terminal's page"
        assert 'data-reason="signature_missing"' in browser.page.text
        needed = unescape(re.findall(r'href="(?:https?://[^/"]+)?(/licenses/[^"]+/sign[^"]*)"', browser.page.text)[0])
        browser.sign(needed, "Tess Terminal")
        assert f'href="{path}"' in browser.page.text, "the signature's page leads back to the terminal's page"
        let_in(browser, path)
        status, said = terminal.end()
        assert status == 0, said
        assert "30 days" in said
        assert "has its access token" in browser.open(path)
        assert "hf auth login" in browser.open("/settings/tokens")
    who = NEW.cli(tmp_path, hub.url, "auth", "whoami")
    assert who.returncode == 0, who.stderr
    assert "Tess Terminal" in who.stdout
    target = tmp_path / "model"
    done = NEW.cli(tmp_path, hub.url, "download", DEMO, "--local-dir", str(target))
    assert done.returncode == 0, done.stderr
    assert (target / "config.json").stat().st_size


def test_a_login_that_is_denied_or_too_late_ends_and_says_so(hub: Hub, tmp_path: Path) -> None:
    before = tokens_named(hub, "")
    with ExitStack() as stack:
        homes = (tmp_path / "denied", tmp_path / "late")
        denied, late = [stack.enter_context(logging_in(home, hub.url)) for home in homes]
        stranger = stack.enter_context(
            logging_in(tmp_path / "other", hub.url, waits=False, HF_DEVICE_CODE_OAUTH_CLIENT_ID="other")
        )
        with database(hub) as session:
            which = DeviceCode.user_code == late.code.replace("-", "")
            session.execute(sa.update(DeviceCode).where(which).values(expires_at=utcnow()))
        browser = stack.enter_context(Browser(hub.url))
        browser.sign_in("signed@example.org")
        browser.open(path_of(denied.url, hub))
        browser.send(browser.form("user_code"), decision="deny")
        for terminal, words in ((denied, "denied"), (late, "expired"), (stranger, "Failed to request device code")):
            status, said = terminal.end()
            assert status == 1
            assert words in said
    assert [home for home in homes if (home / "token").exists()] == []
    assert tokens_named(hub, "") == before


def test_a_code_yields_exactly_one_access_token_over_the_wire(hub: Hub) -> None:
    with httpx.Client(base_url=hub.url) as wire, Browser(hub.url) as browser:
        begun = wire.post("/oauth/device", data={"client_id": "portal-cli"}).json()
        question = {"grant_type": DEVICE_GRANT, "device_code": begun["device_code"], "client_id": "portal-cli"}
        said = [wire.post("/oauth/token", data=question).json()["error"] for _ in range(2)]
        assert said == ["authorization_pending", "slow_down"]
        assert wire.post("/oauth/token", data={**question, "client_id": HF}).json()["error"] == "invalid_grant"
        browser.sign_in("signed@example.org")
        let_in(browser, path_of(begun["verification_uri_complete"], hub))
        answers = [wire.post("/oauth/token", data=question) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 400, 400]
        assert answers[0].json()["token_type"] == "bearer"
        assert "refresh_token" not in answers[0].json()
        assert {answer.json()["error"] for answer in answers[1:]} == {"invalid_grant"}
    assert tokens_named(hub, "portal command line") == 1
