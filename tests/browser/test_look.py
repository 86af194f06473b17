"""Every page fits narrow and wide windows, has one heading and a title, and labels on every field.

Set ``PORTAL_PICTURES`` to a folder to keep a picture of each page.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.pages import Visitor
from tests.hub.staff import staff_token
from tests.member import Browser, add_member
from tests.running import RunningPortal

MODEL = "demo/bloom-tiny"
NAME = "Dr. María-Magdalena von und zu Donaudampfschifffahrtsgesellschaftskapitän-Wolffenstein 李明 يوسف"
LICENSE = "/licenses/bloom-rail"
MEMBER = {
    "home": "/", "model": f"/{MODEL}", "card-only": "/bigscience/bloom", "tree": f"/{MODEL}/tree/main",
    "blob": f"/{MODEL}/blob/main/config.json", "commits": f"/{MODEL}/commits/main",
    "datasets": "/datasets", "card": f"/{MODEL}/card/1",
    "licenses": "/licenses/", "license": LICENSE, "version": f"{LICENSE}/1.1.0",
    "version-zh": f"{LICENSE}/1.1.0?lang=zh",
    "difference": f"{LICENSE}/1.0.0...1.1.0", "sign": f"{LICENSE}/1.1.0/sign", "settings": "/settings/",
    "profile": "/settings/profile", "tokens": "/settings/tokens",
    "token-test": "/settings/tokens/test", "signatures": "/settings/signatures",
    "usage": "/settings/usage", "deliveries": "/settings/deliveries", "security": "/settings/security",
    "privacy": "/settings/privacy", "device": "/device",
    "playground": "/playground", "disclosure": "/disclosure", "transparency": "/transparency", "verify": "/verify",
    "missing": "/no/such",
}  # fmt: skip
NOBODY = {"signup": "/signup", "login": "/login", "reset": "/reset", "logout": "/logout"}
STAFF = {
    "console": "/staff/", "staff-licenses": "/staff/licenses", "staff-draft": "/staff/licenses/bloom-rail/draft",
    "staff-version": "/staff/licenses/bloom-rail/1.1.0", "staff-cards": "/staff/cards",
    "staff-card-edit": f"/staff/cards/{MODEL}/edit", "staff-people": "/staff/people", "staff-cases": "/staff/cases",
    "staff-usage": "/staff/usage", "staff-audit": "/staff/audit", "staff-deliveries": "/staff/deliveries",
    "patterns": "/staff/patterns", "staff-models": "/staff/models",
}  # fmt: skip
FAULTS = """() => {
  const faults = [];
  if (document.documentElement.scrollWidth > window.innerWidth + 1) {
    const wide = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1
      && !e.closest('.table-wrap, pre')).pop();
    faults.push('wider than the window: ' + (wide ? wide.outerHTML.slice(0, 120) : '?'));
  }
  if (document.querySelectorAll('h1').length !== 1) faults.push(document.querySelectorAll('h1').length + ' h1');
  if (!document.title.trim()) faults.push('no title');
  for (const field of document.querySelectorAll('input:not([type=hidden]), textarea, select')) {
    if (!field.labels || !field.labels.length) faults.push('no label: ' + field.outerHTML.slice(0, 100));
  }
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  for (const id of new Set(ids.filter((id, n) => ids.indexOf(id) !== n))) faults.push('id twice: ' + id);
  for (const field of document.querySelectorAll('[aria-describedby]')) {
    for (const id of field.getAttribute('aria-describedby').split(' ')) {
      if (!document.getElementById(id)) faults.push('describes nothing: ' + id);
    }
  }
  for (const field of document.querySelectorAll('main [aria-invalid]')) {
    if (!(field.getAttribute('aria-describedby') || '').includes('-error')) faults.push('no words: ' + field.name);
  }
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    if (!document.getElementById(link.getAttribute('href').slice(1))) faults.push('leads nowhere: ' + link.outerHTML);
  }
  return faults;
}"""


@pytest.fixture(scope="module")
def member(portal: RunningPortal) -> Any:
    """The cookies of somebody who has signed."""
    add_member(portal, "look@look.example", NAME)
    with Browser(portal.base_url) as browser:
        browser.sign_in("look@look.example")
        browser.sign(f"{LICENSE}/1.1.0/sign", NAME)
        return dict(browser.http.cookies)


@pytest.fixture(scope="module")
def admin(portal: RunningPortal) -> Any:
    """The cookies of an admin."""
    link = portal.cli("staff", "add", "boss@look.example", "--role", "admin", "--name", "Boss").strip()
    with Browser(portal.base_url) as browser:
        browser.open(link.removeprefix(portal.base_url))
        browser.send(browser.form("csrf_token"))
        return dict(browser.http.cookies)


def faults_of(visitor: Visitor, name: str, width: int) -> list[str]:
    """Look at the page that is open, and say what is wrong with it."""
    visitor.page.wait_for_load_state()  # a click ends when the next page begins, and its style sheet comes later
    if folder := os.environ.get("PORTAL_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        visitor.page.screenshot(path=f"{folder}/{name}-{width}.png", full_page=True)
    return [f"{name} at {width} px: {fault}" for fault in visitor.page.evaluate(FAULTS)]


def look(chromium: Any, portal: RunningPortal, pages: dict[str, str], cookies: dict[str, str]) -> Iterator[str]:
    for width, scheme in ((360, "light"), (1600, "dark"), (1100, "light")):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in cookies.items()])
        visitor = Visitor(context.new_page(), portal)
        for name, path in pages.items():
            visitor.open(path)
            yield from faults_of(visitor, name, width)
        context.close()


def test_pages_for_everybody(chromium: Any, portal: RunningPortal) -> None:
    assert list(look(chromium, portal, NOBODY, {})) == []


def test_pages_of_members(chromium: Any, portal: RunningPortal, member: Any) -> None:
    assert list(look(chromium, portal, MEMBER, member)) == []


def test_pages_of_staff(chromium: Any, portal: RunningPortal, admin: Any) -> None:
    assert list(look(chromium, portal, STAFF, admin)) == []


def test_pages_of_uploads_and_access_requests(chromium: Any, portal: RunningPortal, member: Any, admin: Any) -> None:
    token = staff_token(portal, "desk@look.example", "weights:write", "requests:write", role="admin")
    with httpx.Client(base_url=portal.base_url, headers={"Authorization": f"Bearer {token}"}) as wire:
        made = wire.post("/api/repos/create", json={"name": "look/a-model-with-a-rather-long-name"}).json()
        files = ["README.md", "pytorch_model-00001-of-00002.bin", "a/rather/deep/folder/of/a/model/config.json"]
        lines: list[Any] = [{"key": "header", "value": {"summary": "Add the weights of the second training run"}}]
        lines += [{"key": "file", "value": {"path": p, "content": "eA==", "encoding": "base64"}} for p in files]
        body = "\n".join(map(json.dumps, lines))
        commit = wire.post("/api/models/look/a-model-with-a-rather-long-name/commit/main", content=body).json()
        desk = f"/staff/models/{made['id']}"
        try:
            wire.put(f"/api/models/{MODEL}/settings", json={"gated": "manual"})
            asking = look(chromium, portal, {"ask": f"/{MODEL}/request", "model-to-ask-for": f"/{MODEL}"}, member)
            assert list(asking) == []
            with Browser(portal.base_url) as browser:
                browser.sign_in("look@look.example")
                browser.open(f"/{MODEL}/request")
                browser.send(browser.form("purpose"), purpose="To see how a long answer fits on the page. " * 20)
            [asked] = wire.get(f"/api/models/{MODEL}/user-access-request/pending").json()
            assert list(look(chromium, portal, {"asked": f"/{MODEL}/request"}, member)) == []
            pages = {
                "staff-requests": "/staff/requests", "staff-request": f"/staff/requests/{asked['requestId']}",
                "staff-model": desk, "staff-gate": f"{desk}/gate",
                "staff-release": f"{desk}/release/{commit['commitOid']}",
            }  # fmt: skip
            assert list(look(chromium, portal, pages, admin)) == []
        finally:
            wire.put(f"/api/models/{MODEL}/settings", json={"gated": False})


def test_forms_with_mistakes_name_them_and_keep_what_was_typed(
    chromium: Any, portal: RunningPortal, member: Any
) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 900})
    visitor, faults = Visitor(context.new_page(), portal), []
    visitor.open("/signup").fill(email="nowhere", affiliation="University of Tests").press("Create the account")
    assert visitor.page.locator("[name=affiliation]").input_value() == "University of Tests"
    faults += faults_of(visitor, "signup-mistakes", 360)
    context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in member.items()])
    for name, path, button in (
        ("tokens-mistakes", "/settings/tokens", "Create the access token"),
        ("playground-mistakes", "/playground", "Complete"),
    ):
        visitor.open(path).press(button)
        assert "There is a problem" in visitor.words()
        faults += faults_of(visitor, name, 360)
    assert faults == []
    context.close()


def test_the_page_of_a_person_with_a_long_name(chromium: Any, portal: RunningPortal, member: Any, admin: Any) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 900})
    context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in admin.items()])
    visitor = Visitor(context.new_page(), portal).open("/staff/people?q=look@look.example")
    visitor.page.locator("main table a").first.click()
    faults = faults_of(visitor, "staff-person", 360)
    visitor.follow("Suspend…")
    assert faults + faults_of(visitor, "staff-suspend", 360) == []
    context.close()
