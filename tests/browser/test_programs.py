"""A program of somebody else, from its registration to its end, in a real browser that it sends there and back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from tests.acting import challenge_of
from tests.browser.pages import Visitor, faults_everywhere
from tests.member import Browser, add_member
from tests.running import RunningPortal

EMAIL = "mia@programs.example"
MODEL = "demo/bloom-tiny"
VERIFIER = "v" * 43


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Wait on this machine, as a program does, for browsers that come back; yield the address and who came."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<title>Notebook</title>Back in the notebook.")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/back", came
    server.shutdown()
    thread.join()
    server.server_close()


def entered(chromium: Any, portal: RunningPortal, cookies: dict[str, str]) -> Visitor:
    context = chromium.new_context(java_script_enabled=True)
    context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in cookies.items()])
    return Visitor(context.new_page(), portal)


def staff(chromium: Any, portal: RunningPortal) -> Visitor:
    link = portal.cli("staff", "add", "boss@programs.example", "--role", "admin", "--name", "Boss").strip()
    with Browser(portal.base_url) as browser:
        browser.open(link.removeprefix(portal.base_url))
        browser.send(browser.form("csrf_token"))
        return entered(chromium, portal, dict(browser.http.cookies))


def member(chromium: Any, portal: RunningPortal) -> Visitor:
    add_member(portal, EMAIL, "Mia")
    with Browser(portal.base_url) as browser:
        browser.sign_in(EMAIL)
        browser.sign("/licenses/bloom-rail/1.1.0/sign", "Mia")
        return entered(chromium, portal, dict(browser.http.cookies))


def register(boss: Visitor, back: str) -> tuple[str, str]:
    """Register the notebook at the console, and return its id and secret."""
    faults = faults_everywhere(boss.open("/staff/programs"), "staff-programs-none")
    faults += faults_everywhere(boss.follow("Register a program"), "staff-program-new")
    boss.fill(name="Notebook of the Institute for Tests", homepage="https://notebook.example/about")
    boss.page.locator("[name=scopes]").evaluate_all("boxes => boxes.forEach(box => { box.checked = true })")
    boss.page.locator("[name=runs][value=secret]").check()
    faults += faults_everywhere(
        boss.fill(redirect_uris="http://evil.example/").press("Register it"), "staff-program-bad"
    )
    assert "http://127.0.0.1" in boss.words()
    boss.fill(redirect_uris=back).press("Register it")
    faults += faults_everywhere(boss, "staff-program-secret")
    assert faults == []
    secret = boss.page.locator("#program-secret").inner_text().strip()
    boss.open("/staff/programs").follow("Notebook of the Institute")
    assert secret not in boss.page.content()
    return boss.path.rsplit("/", 1)[1], secret


def test_a_program_is_registered_let_in_used_and_ended(chromium: Any, portal: RunningPortal) -> None:
    with listening() as (back, came):
        boss, mia = staff(chromium, portal), member(chromium, portal)
        client_id, secret = register(boss, back)
        fields = {
            "response_type": "code", "client_id": client_id, "redirect_uri": back, "code_challenge_method": "S256",
            "scope": "weights:read inference openid", "state": "s", "code_challenge": challenge_of(VERIFIER),
        }  # fmt: skip
        mia.open(f"/oauth/authorize?{urlencode(fields)}")
        assert MODEL in mia.words()
        faults = faults_everywhere(mia, "consent")
        mia.press("Let it act for me")
        mia.page.wait_for_url(f"{back}?**")
        assert "Back in the notebook" in mia.page.content()
    told = dict(parse_qsl(urlsplit(came[0]).query))
    assert (told["state"], told["iss"]) == ("s", portal.base_url)
    form = {
        "grant_type": "authorization_code", "code": told["code"], "redirect_uri": back, "code_verifier": VERIFIER,
    }  # fmt: skip
    with httpx.Client(base_url=portal.base_url) as wire:
        tokens = wire.post("/oauth/token", data=form, auth=(client_id, secret)).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert wire.get(f"/{MODEL}/resolve/main/config.json", headers=bearer).status_code == 200
        ask = {"model": MODEL, "prompt": "A", "max_tokens": 2}
        assert wire.post("/v1/completions", json=ask, headers=bearer).status_code == 200
        assert tokens["id_token"].count(".") == 2
        mia.open("/settings/programs")
        assert "Notebook of the Institute for Tests" in mia.words()
        faults += faults_everywhere(mia, "programs")
        mia.follow("End what")
        faults += faults_everywhere(mia, "program-end")
        mia.press("End it")
        assert wire.get(f"/{MODEL}/resolve/main/config.json", headers=bearer).status_code == 401
        faults += faults_everywhere(mia, "programs-none")
        faults += faults_everywhere(mia.open("/settings/identities"), "identities")
        boss.follow("Give it another secret")
        faults += faults_everywhere(boss, "staff-program-another-secret")
        boss.open(f"/staff/programs/{client_id}").follow("End it")
        faults += faults_everywhere(boss, "staff-program-end")
        faults += faults_everywhere(boss.press("End it for everybody"), "staff-program-ended")
        refused = wire.post("/oauth/token", data=form, auth=(client_id, secret))
        assert refused.json()["error"] == "invalid_client"
    assert faults == []
    for person in (boss, mia):
        person.page.context.close()
