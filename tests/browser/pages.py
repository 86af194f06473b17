"""Page objects: what a person does on the portal's pages, in the words of that person."""

import re
from dataclasses import dataclass
from typing import Any

from tests.running import RunningPortal

PASSWORD = "correct horse battery staple"


@dataclass
class Visitor:
    """A person with a browser of their own.

    Args:
        page: Playwright's page.
        portal: the running portal.
    """

    page: Any
    portal: RunningPortal
    email: str = ""

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
        self.open("/playground").fill(prompt=prompt, max_tokens="12", temperature="0")
        self.press("Complete")
        return str(self.page.locator("#completion").inner_text())
