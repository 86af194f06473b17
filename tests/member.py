"""A person who joined, signed and made an access token the way people do, for tests that need one quickly."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Self
from urllib.parse import urljoin

import httpx

PASSWORD = "correct horse battery staple 42"


@dataclass
class Form:
    """A form as a browser understands it."""

    action: str
    method: str
    values: list[tuple[str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    boxes: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.values + self.boxes} | set(self.texts)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.open = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.open = True
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").lower()))
        if not self.open or "name" not in given:
            return
        form, pair = self.forms[-1], (given["name"], given.get("value", ""))
        kind = given.get("type", "text" if tag == "input" else tag)
        if tag == "input" and kind == "hidden":
            form.values.append(pair)
        elif kind == "checkbox":
            form.boxes.append(pair)
        elif tag == "button" or kind == "submit":
            form.buttons.append(pair)
        elif tag in {"input", "textarea", "select"}:
            form.texts.append(given["name"])
            if tag == "input" and "value" in given:
                form.values.append(pair)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.open = False


class Browser:
    """Browses a running portal: keeps cookies, follows redirects, fills forms by field name."""

    def __init__(self, base_url: str) -> None:
        self.http = httpx.Client(base_url=base_url, follow_redirects=True, timeout=30)
        self.page: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def open(self, path: str) -> str:
        self.page = self.http.get(path)
        assert self.page.status_code == 200, f"{path}: {self.page.status_code}\n{self.page.text[-2000:]}"
        return str(self.page.text)

    def form(self, *holding: str) -> Form:
        """Return the form of the page that has certain fields."""
        parser = _Forms()
        parser.feed(self.page.text)
        found = [f for f in parser.forms if set(holding) <= f.names]
        assert found, f"{self.page.url} has no form with {holding}"
        return found[-1]

    def send(self, form: Form, *, tick: bool = True, expect: int = 200, **fields: Any) -> str:
        """Fill a form, by default with every box ticked, press its first button, and see the page that follows."""
        pairs = [pair for pair in form.values if pair[0] not in fields] + list(fields.items())
        pairs += (form.boxes if tick else []) + form.buttons[:1]
        data: dict[str, list[str]] = {}
        for name, value in pairs:
            data.setdefault(name, []).append(str(value))
        self.page = self.http.post(urljoin(str(self.page.url), form.action), data=data)
        assert self.page.status_code == expect, f"{self.page.url}: {self.page.status_code}\n{self.page.text[-2000:]}"
        return str(self.page.text)

    def sign_in(self, email: str, password: str = PASSWORD) -> None:
        self.open("/login")
        self.send(self.form("email", "password"), email=email, password=password)
        assert "/login" not in str(self.page.url), "the sign-in was refused"

    def sign(self, path: str, name: str) -> str:
        """Go through a ceremony to its end and return the address of the signature."""
        self.open(path)
        self.send(self.form("typed_name", "consent_electronic"), typed_name=name)
        self.send(self.form("csrf_token", "nonce"))
        address = self.page.url.path
        assert address.startswith("/settings/signatures/"), f"the ceremony ended at {address}"
        return str(address)


def add_member(portal: Any, email: str, name: str = "Ada Example") -> None:
    """Make a verified member by the command line."""
    portal.cli(
        "members", "add", email, "--name", name, "--affiliation", "Example Institute", "--country", "DE",
        input=PASSWORD + "\n",
    )  # fmt: skip


def issue_token(portal: Any, email: str, *scopes: str) -> str:
    """Make an access token by the command line."""
    flags = [part for scope in scopes or ("weights:read", "inference") for part in ("--scope", scope)]
    return str(portal.cli("tokens", "issue", email, "--name", "test token", *flags)).strip()


def signed_member(portal: Any, email: str, *scopes: str, model: str = "demo/bloom-tiny") -> str:
    """Make a member who signed what a model asks for, in the pages, and return an access token of theirs."""
    add_member(portal, email)
    with Browser(portal.base_url) as browser:
        browser.sign_in(email)
        page = browser.open(f"/{model}")
        needed = sorted(set(re.findall(r'href="(?:https?://[^/"]+)?(/licenses/[^"]+/sign[^"]*)"', page)))
        assert needed, f"the page of {model} names nothing to sign"
        for path in needed:
            browser.sign(path, "Ada Example")
    return issue_token(portal, email, *scopes)
