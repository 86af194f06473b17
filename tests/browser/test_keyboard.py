"""The ceremony and the console by keyboard alone."""

from typing import Any

import pytest

from tests.browser.pages import Visitor
from tests.member import Browser, add_member
from tests.running import RunningPortal

FOCUSED = "(element) => element === document.activeElement"
LICENSE = "/licenses/bloom-rail/1.1.0/sign"


def reach(visitor: Visitor, found: Any) -> None:
    """Press Tab until something has the focus, and is seen to have it."""
    for _ in range(400):
        if found.evaluate(FOCUSED):
            assert found.evaluate("(e) => e.matches(':focus-visible') && getComputedStyle(e).outlineStyle !== 'none'")
            return
        visitor.page.keyboard.press("Tab")
    raise AssertionError("no key leads there")


@pytest.fixture
def context(chromium: Any) -> Any:
    """A browser whose mouse nobody touches."""
    made = chromium.new_context()
    made.set_default_timeout(20_000)
    yield made
    made.close()


def test_the_ceremony(context: Any, portal: RunningPortal) -> None:
    add_member(portal, "keys@keys.example", "Ada")
    with Browser(portal.base_url) as browser:
        browser.sign_in("keys@keys.example")
        context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in browser.http.cookies.items()])
    ada = Visitor(context.new_page(), portal).open(LICENSE)
    keys = ada.page.keyboard
    for box in ada.page.locator("main form input[type=checkbox]").all():
        reach(ada, box)
        keys.press("Space")
        assert box.is_checked()
    reach(ada, ada.page.locator("[name=typed_name]"))
    keys.type("Ada")
    reach(ada, ada.page.get_by_role("button", name="I sign"))
    with ada.page.expect_navigation():
        keys.press("Enter")
    reach(ada, ada.page.locator("main form button").first)
    keys.press("Enter")
    ada.page.wait_for_url("**/settings/signatures/*")
    assert "Signed" in ada.words()


def test_the_console(context: Any, portal: RunningPortal) -> None:
    add_member(portal, "found@keys.example", "Grace Hopper")
    link = portal.cli("staff", "add", "boss@keys.example", "--role", "admin", "--name", "Boss").strip()
    boss = Visitor(context.new_page(), portal).open(link)
    keys = boss.page.keyboard
    reach(boss, boss.page.locator("main form button").first)
    with boss.page.expect_navigation():
        keys.press("Enter")
    boss.open("/staff/")
    keys.press("Tab")
    assert boss.page.evaluate("document.activeElement.className") == "skip"
    with boss.page.expect_navigation():
        reach(boss, boss.page.locator("main").get_by_role("link", name="People", exact=True))
        keys.press("Enter")
    reach(boss, boss.page.locator("main [name=q]"))
    keys.type("found@keys.example")
    with boss.page.expect_navigation():
        keys.press("Enter")
    reach(boss, boss.page.locator("main table a").first)
    keys.press("Enter")
    boss.page.get_by_role("heading", name="Grace Hopper").wait_for()
