"""Every page fits narrow and wide windows, has one heading and a title, and labels on every field.

Set ``PORTAL_PICTURES`` to a folder to keep a picture of each page.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from portal.core.clock import utcnow
from tests.browser.pages import Visitor, faults_of
from tests.hub.staff import staff_token
from tests.member import Browser, add_member, issue_token
from tests.running import RunningPortal, wait_until

MODEL = "demo/bloom-tiny"
NAME = "Dr. María-Magdalena von und zu Donaudampfschifffahrtsgesellschaftskapitän-Wolffenstein 李明 يوسف"
LICENSE = "/licenses/bloom-rail"
MEMBER = {
    "home": "/", "model": f"/{MODEL}", "card-only": "/bigscience/bloom", "tree": f"/{MODEL}/tree/main",
    "blob": f"/{MODEL}/blob/main/config.json", "commits": f"/{MODEL}/commits/main",
    "datasets": "/datasets", "card": f"/{MODEL}/card/1", "card-items": "/bigscience/bloom/card/1",
    "family": "/bigscience/bloom-3b/family",
    "sign-beside-a-card": f"{LICENSE}/1.1.0/sign?model=bigscience/bloom",
    "licenses": "/licenses/", "license": LICENSE, "version": f"{LICENSE}/1.1.0",
    "version-zh": f"{LICENSE}/1.1.0?lang=zh",
    "difference": f"{LICENSE}/1.0.0...1.1.0", "sign": f"{LICENSE}/1.1.0/sign", "settings": "/settings/",
    "profile": "/settings/profile", "tokens": "/settings/tokens",
    "token-test": "/settings/tokens/test", "signatures": "/settings/signatures",
    "usage": "/settings/usage", "deliveries": "/settings/deliveries", "security": "/settings/security",
    "app-set-up": "/settings/security/app", "passkeys-without-a-name": "/settings/security/passkeys",
    "prove-by-password": "/login/prove", "privacy": "/settings/privacy", "device": "/device",
    "playground": f"/playground/{MODEL}", "playground-example": f"/playground/{MODEL}?preset=letters",
    "disclosure": "/disclosure", "transparency": "/transparency", "verify": "/verify",
    "contact": "/contact", "texts": "/settings/texts", "decline": f"{LICENSE}/1.1.0/decline",
    "missing": "/no/such",
}  # fmt: skip
NOBODY = {
    "report": "/report",
    "report-sent": "/report/sent",
    "signup": "/signup",
    "login": "/login",
    "reset": "/reset",
    "logout": "/logout",
}
STAFF = {
    "console": "/staff/", "staff-licenses": "/staff/licenses", "staff-draft": "/staff/licenses/bloom-rail/draft",
    "staff-version": "/staff/licenses/bloom-rail/1.1.0", "staff-cards": "/staff/cards",
    "staff-card-edit": f"/staff/cards/{MODEL}/edit", "staff-card-review": f"/staff/cards/{MODEL}/review",
    "staff-card-render": f"/staff/cards/{MODEL}/edit?lang=fr",
    "staff-people": "/staff/people", "staff-cases": "/staff/cases",
    "staff-campaigns": "/staff/campaigns", "staff-usage": "/staff/usage", "staff-audit": "/staff/audit",
    "staff-proposals": "/staff/proposals", "staff-engines": "/staff/engines",
    "staff-second-looks": "/staff/licenses/reviews",
    "staff-clauses-zh": "/staff/licenses/bloom-rail/1.1.0/clauses?lang=zh", "staff-deliveries": "/staff/deliveries",
    "staff-rules": "/staff/rules", "staff-rule-write": "/staff/rules/write", "staff-exemptions": "/staff/exemptions",
    "staff-exempt": "/staff/exemptions/grant",
    "patterns": "/staff/patterns", "staff-models": "/staff/models", "staff-reports": "/staff/reports",
}  # fmt: skip


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
        ("playground-mistakes", f"/playground/{MODEL}", "Complete"),
    ):
        visitor.open(path).press(button).page.get_by_text("There is a problem").wait_for()
        faults += faults_of(visitor, name, 360)
    assert faults == []
    context.close()


def test_the_page_of_a_person_with_a_long_name(chromium: Any, portal: RunningPortal, member: Any, admin: Any) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 900})
    context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in admin.items()])
    visitor = Visitor(context.new_page(), portal).open("/staff/people?q=look@look.example")
    visitor.page.locator("main table a").first.click()
    faults = faults_of(visitor, "staff-person", 360)
    faults += faults_of(visitor.press("Open a case…"), "staff-case", 360)
    case = visitor.path
    faults += faults_of(visitor.follow("Decide…"), "staff-decide", 360)
    visitor.page.locator("main [name=finding][value=violation]").check()
    visitor.page.locator("main [name=clause]").first.check()
    visitor.page.locator("main [name=kind][value=close]").check()
    visitor.fill(facts="Sent letters.").press("Go on")
    faults += faults_of(visitor, "staff-decide-preview", 360)
    portal.cli("staff", "add", "second@look.example", "--role", "moderator")  # it takes two
    visitor.press("Propose it").follow("Look at what was proposed…")
    faults += faults_of(visitor, "staff-second-person", 360)
    for name, page in {"note": f"{case}/note", "suggest": f"{case}/suggest", "bulk": "/staff/cases/bulk"}.items():
        faults += faults_of(visitor.open(page), f"staff-{name}", 360)
    faults += faults_of(visitor.open("/staff/cases"), "staff-cases-waiting", 360)
    assert faults == []
    context.close()


def test_the_pages_of_a_preview_and_of_its_campaign(
    chromium: Any, portal: RunningPortal, member: Any, admin: Any
) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 900})
    context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in admin.items()])
    visitor = Visitor(context.new_page(), portal).open(f"/staff{LICENSE}/1.1.0/schedule")
    faults = faults_of(visitor, "schedule", 360)
    visitor.press("Look ahead")
    counts = visitor.page.get_by_role("heading", name="What it means for people")
    counts.wait_for(timeout=60_000)  # the page opens itself anew until the background work is done
    faults += faults_of(visitor, "preview", 360)
    preview = visitor.path
    for name, path in {"people": f"{preview}/people", "tokens": f"{preview}/tokens"}.items():
        visitor.open(path)
        faults += faults_of(visitor, f"preview-{name}", 360)
    visitor.open(preview).follow("Start the campaign")
    faults += faults_of(visitor, "preview-schedule", 360)
    visitor.press("Start it").follow("Preview and campaign")
    faults += faults_of(visitor, "campaign", 360)
    campaign = visitor.path
    visitor.open(f"{campaign}/people")
    faults += faults_of(visitor, "campaign-people", 360)
    visitor.open(campaign).follow("Call it off")
    faults += faults_of(visitor, "campaign-step", 360)
    visitor.press("Call it off")
    assert faults == []
    context.close()


def test_the_pages_that_tell_people_of_a_change(chromium: Any, portal: RunningPortal, member: Any, admin: Any) -> None:
    bearer = {"Authorization": f"Bearer {issue_token(portal, 'look@look.example')}"}
    file = httpx.get(f"{portal.base_url}/{MODEL}/resolve/main/config.json", headers=bearer, follow_redirects=True)
    assert file.status_code == 200
    with httpx.Client(base_url=portal.base_url, cookies=member) as own:
        wait_until(lambda: "config.json" in own.get("/settings/deliveries").text)
    context = chromium.new_context(viewport={"width": 360, "height": 900})
    context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in admin.items()])
    visitor = Visitor(context.new_page(), portal).open("/staff/campaigns/begin").press("Go on")
    faults = faults_of(visitor, "campaign-begin-mistakes", 360)
    visitor.page.locator("[name=kind][value=correction]").check()
    visitor.page.locator("[name=model]").select_option(MODEL)
    visitor.fill(words="One file was cut short. Fetch it again.", answer_by=f"{utcnow() + timedelta(days=30):%Y-%m-%d}")
    visitor.press("Go on")
    faults += faults_of(visitor, "campaign-planned", 360)
    visitor.follow("Start it").press("Start it")
    faults += faults_of(visitor, "campaign-correction", 360)
    assert faults == []
    page = visitor.path.replace("/staff/campaigns/", "/settings/acknowledgments/")
    context.close()
    pages = {"acknowledgments": "/settings/acknowledgments", "acknowledgment": page}
    assert list(look(chromium, portal, pages, member)) == []
