"""From an account elsewhere to weights in a terminal: sign in, add a passkey, sign with it, let `hf` in, download."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.pages import Visitor, add_authenticator, faults_everywhere
from tests.hub.terminal import NEW, logging_in
from tests.issuer import mock_process
from tests.running import ROOT, RunningPortal, free_port, wait_until

EMAIL = "josiah@campus.example"
NAME = "Josiah Carberry"
MODEL = "demo/bloom-tiny"


@dataclass
class NamedPortal(RunningPortal):
    """A portal at the name of this machine, since browsers make no passkeys for an address of digits."""

    @property
    def base_url(self) -> str:
        return f"http://localhost:{self.port}"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamedPortal]:
    """A portal that runs, and lets people in who sign in at a provider that runs as well."""
    home, port = tmp_path_factory.mktemp("named"), free_port()
    with mock_process() as issuer:
        providers = home / "providers.toml"
        providers.write_text(f'[campus]\nname = "Campus"\nissuer = "{issuer}"\nclient_id = "p"\nclient_secret = "s"\n')
        extra = {"PORTAL_PROVIDERS": str(providers), "PORTAL_BASE_URL": f"http://localhost:{port}"}
        portal = NamedPortal(home, port, extra=extra)
        portal.cli("init", "--demo")
        portal.serve()
        yield portal
        portal.stop()


@pytest.fixture
def josiah(chromium: Any, named: NamedPortal) -> Iterator[Visitor]:
    """Somebody whose browser has an authenticator that knows its user."""
    context = chromium.new_context()
    context.set_default_timeout(30_000)
    page = context.new_page()
    add_authenticator(page)
    yield Visitor(page, named)
    context.close()


def come_in(josiah: Visitor) -> None:
    """Sign in at the provider, and come back."""
    josiah.open("/login").follow("Campus")
    josiah.page.locator("input[name=sub]").fill("0000-0002-1825-0097")
    josiah.page.locator("input[name=sub]").press("Enter")
    josiah.page.wait_for_url(f"{josiah.portal.base_url}/**")


def checked(josiah: Visitor, ref: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the bundle of a signature offline, with nothing but Python."""
    base = josiah.portal.base_url
    cookies = {cookie["name"]: cookie["value"] for cookie in josiah.page.context.cookies()}
    with httpx.Client(base_url=base, cookies=cookies) as web:
        wait_until(lambda: web.get(f"/settings/signatures/{ref}/bundle.zip").is_success)
        bundle, key = folder / "bundle.zip", folder / "vkey"
        bundle.write_bytes(web.get(f"/settings/signatures/{ref}/bundle.zip").content)
        key.write_text(web.get("/log/vkey").text)
    command = [sys.executable, "-I", str(ROOT / "portal/static/verify.py"), str(bundle), "--key", str(key)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_from_an_account_elsewhere_to_weights_in_a_terminal(josiah: Visitor, tmp_path: Path) -> None:
    faults = faults_everywhere(josiah.open("/login"), "login-with-a-provider")
    come_in(josiah)
    faults += faults_everywhere(josiah, "join")
    josiah.fill(name=NAME, email=EMAIL, affiliation="Brown University", country="US")
    josiah.page.locator("main form").get_by_role("button").click()
    josiah.open(josiah.portal.link_mailed_to(EMAIL, "/signup/verify/"))
    josiah.page.locator("main form").get_by_role("button").first.click()
    josiah.page.context.clear_cookies()
    come_in(josiah)
    josiah.open("/settings/identities")
    assert "0000-0002-1825-0097" in josiah.words()
    faults += faults_everywhere(josiah, "identities-linked")
    josiah.open("/settings/security/passkeys").fill(name="Laptop").press("Make the passkey")
    josiah.page.locator("#recovery-codes li").nth(9).wait_for()
    home = tmp_path / "home"
    with logging_in(home, josiah.portal.base_url) as terminal:
        josiah.open(terminal.url).page.locator("#missing a").first.click()
        for box in josiah.page.locator("main form input[type=checkbox]").all():
            box.check()
        josiah.fill(typed_name=NAME).press("I sign")
        faults += faults_everywhere(josiah, "sign-with-a-passkey")
        josiah.press("Sign with your passkey")
        josiah.page.wait_for_url(lambda url: "/settings/signatures/" in url)
        ref = re.findall(r"sig_\w+", josiah.path)[0]
        assert "Signed with the passkey Laptop" in josiah.words()
        faults += faults_everywhere(josiah, "signature-by-passkey")
        josiah.open(terminal.url).press("Let it in")
        josiah.press("Yes, let it in")
        assert "You let this terminal in" in josiah.words()
        status, said = terminal.end()
        assert status == 0, said
    got = NEW.cli(home, josiah.portal.base_url, "download", MODEL, "config.json")
    assert got.returncode == 0, got.stdout + got.stderr
    (file,) = home.rglob("snapshots/*/config.json")
    assert json.loads(file.read_text())["model_type"] == "bloom"
    proved = checked(josiah, ref, tmp_path)
    assert "passkey: its device signed the sentence, the text and the acknowledgments" in proved.stdout, proved
    assert faults == []
