"""Page objects: what a person does on the portal's pages, in the words of that person."""

import os
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.running import ROOT, RunningPortal

WIDTHS = (360, 1600, 1100)
STATIC, WEIGHT_MAX = ROOT / "portal" / "static", 60_000
PICTURE_WIDTHS = (360, 768, 1440)
# What axe looks for, by width: the wide window is dark in most tests, and there only contrast can differ.
AXE_RULES = {360: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], 1600: ["color-contrast"]}
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
  for (const script of document.querySelectorAll('script:not([defer])')) faults.push('blocks: ' + script.src);
  return faults;
}"""
PASSWORD = "correct horse battery staple"


@dataclass
class Visitor:
    """A person with a browser of their own.

    Args:
        page: Playwright's page.
        portal: the running portal.
        scripts: whether the browser runs scripts, which axe needs.
    """

    page: Any
    portal: RunningPortal
    email: str = ""
    scripts: bool = True

    def open(self, path: str) -> "Visitor":
        self.page.goto(self.portal.base_url + path if path.startswith("/") else path)
        return self

    def press(self, name: str) -> "Visitor":
        self.page.get_by_role("button", name=name).click()
        return self

    def follow(self, name: str) -> "Visitor":
        self.page.get_by_role("link", name=name, exact=False).first.click()
        return self

    def words(self) -> str:
        return re.sub(r"\s+", " ", str(self.page.locator("main").inner_text()))

    @property
    def path(self) -> str:
        return str(self.page.url).removeprefix(self.portal.base_url)

    def fill(self, **fields: str) -> "Visitor":
        for name, value in fields.items():
            self.page.locator(f"main [name={name}]").fill(value)
        return self

    def sign_up(self, email: str, name: str) -> "Visitor":
        self.email = email
        self.open("/signup").fill(
            email=email, password=PASSWORD, name=name, affiliation="University of Tests", country="FR"
        )
        self.page.locator("main form").get_by_role("button").click()
        self.open(self.portal.link_mailed_to(email, "/signup/verify/"))
        self.page.locator("main form").get_by_role("button").first.click()
        return self

    def sign_in(self) -> "Visitor":
        self.open("/login").fill(email=self.email, password=PASSWORD)
        self.page.locator("main form").get_by_role("button").click()
        return self

    def gate(self, model: str) -> dict[str, str]:
        """Read the checklist of a model's page: code → state."""
        self.open(f"/{model}")
        items = self.page.locator("#gate li")
        return {
            items.nth(n).get_attribute("data-reason"): items.nth(n).get_attribute("data-state")
            for n in range(items.count())
        }

    def sign(self, slug: str, number: str, name: str) -> str:
        """Go through the ceremony and return the signature's id."""
        return self.open(f"/licenses/{slug}/{number}/sign").sign_here(name)

    def sign_here(self, name: str) -> str:
        """Fill in the page of the ceremony that is open, and return the signature's id."""
        boxes = self.page.locator("main form input[type=checkbox]")
        assert boxes.count() >= 13
        for n in range(boxes.count()):
            assert not boxes.nth(n).is_checked()
            boxes.nth(n).check()
        self.fill(typed_name=name).press("I sign")
        self.page.locator("main form").get_by_role("button").first.click()
        self.page.wait_for_url("**/settings/signatures/*")
        return self.path.rsplit("/", 1)[1].partition("?")[0]

    def make_token(self, name: str) -> str:
        self.open("/settings/tokens").fill(name=name)
        for scope in ("weights:read", "inference"):
            self.page.locator(f"main [name=scopes][value='{scope}']").check()
        self.page.locator("main form", has=self.page.locator("[name=scopes]")).get_by_role("button").click()
        return str(self.page.locator("output#access-token").inner_text()).strip()

    def complete(self, prompt: str) -> str:
        """Ask the playground and return what it shows."""
        self.open("/playground").fill(prompt=prompt, max_tokens="12", temperature="0")  # there is one model to try
        self.press("Complete")
        return str(self.page.locator("#completion").inner_text())


def add_authenticator(page: Any) -> tuple[Any, str]:
    """Give a browser an authenticator that knows its user; return the session that commands it, and its id."""
    keys = page.context.new_cdp_session(page)
    keys.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    made = keys.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return keys, made["authenticatorId"]


def faults_of(visitor: Visitor, name: str, width: int) -> list[str]:
    """Look at the page that is open, and say what is wrong with it."""
    visitor.page.wait_for_load_state()  # a click ends when the next page begins, and its style sheet comes later
    if folder := os.environ.get("PORTAL_PICTURES"):
        take_pictures(visitor.page, Path(folder), name)
    faults = visitor.page.evaluate(FAULTS)
    if (size := weight(visitor.page)) > WEIGHT_MAX:
        faults.append(f"{size} bytes of style and script")
    if visitor.scripts and (rules := AXE_RULES.get(width)):
        faults += unreachable(visitor.page, rules)
    return [f"{name} at {width} px: {fault}" for fault in faults]


def weight(page: Any) -> int:
    """Return how many bytes of style and script a page loads."""
    names = page.evaluate("[...document.querySelectorAll('link[rel=stylesheet], script')].map(e => e.href || e.src)")
    return sum((STATIC / name.rpartition("/")[2]).stat().st_size for name in names)


def unreachable(page: Any, rules: list[str]) -> list[str]:
    """Say what axe finds on a page that keeps people out who see, hear or move otherwise."""
    page.evaluate(axe())
    found = page.evaluate("(only) => axe.run(document, {runOnly: only, resultTypes: ['violations']})", rules)
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for rule in found["violations"] for node in rule["nodes"] if rule["impact"] in {"serious", "critical"}
    ]  # fmt: skip


@cache
def axe() -> str:
    """Return axe-core, as its Python package carries it."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text()


def take_pictures(page: Any, folder: Path, name: str) -> None:
    """Keep pictures of the page that is open, in every width and in light and dark; the window stays as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    window, dark = page.viewport_size, page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    for width in PICTURE_WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            path = folder / f"{name}-{width}-{scheme}.png"
            if not path.exists():
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=path, full_page=True, animations="disabled")
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_viewport_size(window)


def faults_everywhere(visitor: Visitor, name: str) -> list[str]:
    """Look at the page that is open in a narrow, a wide and a usual window."""
    faults = []
    for width in WIDTHS:
        visitor.page.set_viewport_size({"width": width, "height": 900})
        faults += faults_of(visitor, name, width)
    return faults
