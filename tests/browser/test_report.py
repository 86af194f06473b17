"""Reporting misuse in a browser: with script, which does a piece of work, and without, by way of a mail."""

from collections.abc import Callable
from typing import Any

from tests.browser.pages import Visitor
from tests.running import RunningPortal

WORDS = "They flood the comments with machine text, and nobody says so."


def report(visitor: Visitor) -> Visitor:
    visitor.open("/report").fill(locator="https://news.example/1", explanation=WORDS, email="reader@report.example")
    visitor.page.locator("[name=good_faith]").check()
    return visitor.press("Send the report")


def test_a_browser_with_script_does_the_work_and_reports_at_once(chromium: Any, portal: RunningPortal) -> None:
    context = chromium.new_context()
    visitor = Visitor(context.new_page(), portal)
    problems: list[str] = []
    visitor.page.on("pageerror", lambda error: problems.append(str(error)))
    report(visitor).page.wait_for_selector("text=was received")
    assert problems == []
    context.close()


def test_without_script_a_mail_asks_first(visitor: Callable[[], Visitor]) -> None:
    assert "Look into your mail" in report(visitor()).words()
