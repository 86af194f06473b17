"""A headless Chromium, and people with a browser of their own."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.pages import Visitor
from tests.running import RunningPortal

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
]  # fmt: skip


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """The browser; closed after the tests of this folder, since its event loop would be in the way of others."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "Chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Any, portal: RunningPortal) -> Iterator[Callable[[], Visitor]]:
    """Opens browsers, each for one person, without JavaScript: nothing here may need it."""
    contexts = []

    def enter() -> Visitor:
        context = chromium.new_context(java_script_enabled=False)
        context.set_default_timeout(15_000)
        contexts.append(context)
        return Visitor(context.new_page(), portal, scripts=False)

    yield enter
    for context in contexts:
        context.close()
