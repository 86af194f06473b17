"""Passkeys in a real browser with an authenticator of its own: made, used to sign in and to prove oneself, refused."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import sqlalchemy as sa
from werkzeug.serving import make_server

from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Role, StandingAction
from portal.adapters.passkeys import Passkeys
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.core.errors import Invalid
from portal.identity import service
from portal.logins.models import LoginSession
from portal.passkeys import service as passkeys
from portal.passkeys.models import Passkey
from portal.passkeys.rules import CHALLENGE_LIFE, Purpose
from tests.browser.pages import Visitor, add_authenticator, faults_everywhere
from tests.site import make_app

EMAIL = "ann@passkeys.example"
PASSWORD = "four words are fine"
SECURITY = "/settings/security"


@dataclass
class Site:
    """The control plane on a port, at the name that browsers make passkeys for."""

    app: Any
    base_url: str


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    door = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://localhost:{door.getsockname()[1]}"
    app = make_app(tmp_path, PORTAL_BASE_URL=base_url)
    server = make_server("127.0.0.1", 0, app, threaded=True, fd=door.fileno())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with transaction(app.engine) as session:
        service.add_verified(
            session, email=EMAIL, password=PASSWORD, name="Ann", affiliation="Lab", country="NL",
            hasher=app.extensions["hasher"], by=SYSTEM, now=utcnow(),
        )  # fmt: skip
    yield Site(app, base_url)
    server.shutdown()
    thread.join()
    server.server_close()
    app.engine.dispose()


@dataclass
class Person(Visitor):
    """Somebody whose browser runs scripts and holds passkeys.

    Args:
        keys: speaks with the browser's authenticator.
    """

    keys: Any = None
    authenticator: str = ""

    def sign_in(self) -> "Person":
        self.open("/login").fill(email=EMAIL, password=PASSWORD)
        self.page.get_by_role("button", name="Sign in", exact=True).click()
        self.page.wait_for_url(lambda url: not url.endswith("/login"))
        return self

    def sign_out(self) -> None:
        self.page.get_by_role("button", name="Sign out").first.click()
        self.page.wait_for_url(f"{self.portal.base_url}/")

    def add_passkey(self, name: str) -> "Person":
        self.open("/settings/security/passkeys").fill(name=name)
        self.press("Make the passkey")
        self.page.locator("#recovery-codes li").nth(9).wait_for()
        return self

    def verifies_its_user(self, verifies: bool) -> None:
        kept = {"authenticatorId": self.authenticator}
        self.keys.send("WebAuthn.setUserVerified", {**kept, "isUserVerified": verifies})

    def held(self) -> list[Any]:
        found = self.keys.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        return list(found["credentials"])


@pytest.fixture
def ann(chromium: Any, site: Site) -> Iterator[Person]:
    context = chromium.new_context()
    context.set_default_timeout(15_000)
    page = context.new_page()
    keys, authenticator = add_authenticator(page)
    yield Person(page, site, keys=keys, authenticator=authenticator)  # type: ignore[arg-type]
    context.close()


def user_of(site: Site, session: Any) -> User:
    found = accounts.find_by_email(session, email=EMAIL)
    assert found is not None
    return found


def means(site: Site) -> list[tuple[str, int]]:
    with transaction(site.app.engine, write=False) as session:
        query = sa.select(LoginSession.means, LoginSession.level).where(LoginSession.ended_at.is_(None))
        return [tuple(row) for row in session.execute(query.order_by(LoginSession.id))]


def test_a_passkey_is_made_signs_in_by_itself_and_opens_the_console(site: Site, ann: Person) -> None:
    with transaction(site.app.engine) as session:
        accounts.grant_role(session, user_id=user_of(site, session).id, role=Role.ADMIN, by=SYSTEM, now=utcnow())
    ann.sign_in().open("/staff/")
    ann.page.wait_for_url("**/settings/security?**")
    faults = faults_everywhere(ann, "security-staff-without-a-factor")
    ann.open("/settings/security/passkeys")
    faults += faults_everywhere(ann, "passkey-add")
    ann.add_passkey("Laptop")
    faults += faults_everywhere(ann, "recovery-codes")
    ann.follow("I have kept them")
    assert "Passkey “Laptop”" in ann.words()
    faults += faults_everywhere(ann, "security-with-a-passkey")
    ann.open("/settings/security/app")
    faults += faults_everywhere(ann, "app-beside-a-passkey")
    ann.open("/staff/")
    assert ann.path == "/staff/"
    assert len(ann.held()) == 1
    ann.sign_out()
    ann.open("/login?next=/staff/people")
    faults += faults_everywhere(ann, "login-with-a-passkey")
    ann.press("Sign in with a passkey")
    ann.page.wait_for_url(f"{site.base_url}/staff/people")
    assert means(site) == [("passkey", 2)]
    assert faults == []


def test_a_passkey_is_the_second_step_after_a_password(site: Site, ann: Person) -> None:
    ann.sign_in().add_passkey("Laptop")
    ann.sign_out()
    ann.sign_in()
    ann.page.wait_for_url("**/login/second?**")
    faults = faults_everywhere(ann, "second-step")
    ann.press("Use a passkey")
    ann.page.wait_for_url(f"{site.base_url}/")
    assert means(site) == [("password, passkey", 2)]
    with transaction(site.app.engine) as session:
        for login in session.scalars(sa.select(LoginSession)):
            login.proved_at = login.created_at.replace(year=2020)
    ann.open("/settings/security/codes")
    ann.page.wait_for_url("**/login/prove?**")
    faults += faults_everywhere(ann, "prove")
    ann.press("Use a passkey")
    ann.page.wait_for_url(f"{site.base_url}/settings/security/codes")
    ann.open(SECURITY).follow("Remove")
    faults += faults_everywhere(ann, "factor-remove")
    ann.press("Remove it")
    ann.page.wait_for_url(f"{site.base_url}{SECURITY}")
    assert "Your password alone opens your account" in ann.words()
    assert faults == []


def test_a_device_that_does_not_know_its_user_is_refused(site: Site, ann: Person) -> None:
    ann.sign_in().add_passkey("Laptop")
    ann.sign_out()
    ann.verifies_its_user(False)
    ann.open("/login").press("Sign in with a passkey")
    note = ann.page.locator("form[data-passkey] [role=status]")
    note.get_by_text("made no passkey available").wait_for()
    # Let the page ask for less than the portal demands: what the device then answers is refused by the portal.
    ann.page.evaluate(
        """() => {
          const form = document.querySelector("form[data-passkey]");
          form.dataset.options = JSON.stringify({...JSON.parse(form.dataset.options), userVerification: "discouraged"});
        }"""
    )
    ann.press("Sign in with a passkey").page.get_by_text("was not accepted").wait_for()
    assert means(site) == []
    ann.verifies_its_user(True)
    ann.press("Sign in with a passkey").page.wait_for_url(f"{site.base_url}/")


def test_a_passkey_whose_counter_fell_or_whose_owner_may_not_come_in_is_refused(site: Site, ann: Person) -> None:
    ann.sign_in().add_passkey("Laptop")
    ann.sign_out()
    with transaction(site.app.engine) as session:
        count = session.scalars(sa.select(Passkey)).one()
        count.sign_count += 1000
    ann.open("/login").press("Sign in with a passkey").page.get_by_text("was not accepted").wait_for()
    with transaction(site.app.engine) as session:
        session.scalars(sa.select(Passkey)).one().sign_count = 0
        accounts.set_standing(
            session, user_id=user_of(site, session).id, action=StandingAction.CLOSE, until=None, ref="dec_1", by=SYSTEM,
            now=utcnow(),
        )  # fmt: skip
    ann.open("/login").press("Sign in with a passkey").page.get_by_text("was not accepted").wait_for()
    assert means(site) == []


def test_what_a_passkey_signed_counts_once_here_now_and_for_what_it_was_asked(site: Site, ann: Person) -> None:
    ann.sign_in().add_passkey("Laptop")
    ann.sign_out()
    ann.page.route("**/login/passkey", lambda route: route.abort())
    with ann.page.expect_request("**/login/passkey") as asked:
        ann.open("/login").press("Sign in with a passkey")
    (credential,) = parse_qs(asked.value.post_data)["credential"]
    now, pepper = utcnow(), site.app.settings.pepper

    def use(**other: Any) -> int | None:
        """Return whose passkey it was, or nobody's, and undo it all but when it is to stay."""
        kept: dict[str, Any] = {
            "credential": credential, "user": None, "purpose": Purpose.SIGN_IN, "pepper": pepper, "now": now,
            "doors": site.app.extensions["passkeys"], **other,
        }  # fmt: skip
        with transaction(site.app.engine) as session:
            try:
                found = passkeys.use(session, **kept).user_id
            except Invalid:
                found = None
            if other:
                session.rollback()
            return found

    with transaction(site.app.engine, write=False) as session:
        user = user_of(site, session)
    whole = json.loads(credential)
    flipped = whole["response"]["signature"][:-8] + whole["response"]["signature"][-8:].swapcase()
    for other in (
        {"purpose": Purpose.PROVE}, {"user": user}, {"user": user, "purpose": Purpose.PROVE}, {"pepper": b"q" * 32},
        {"now": now + CHALLENGE_LIFE}, {"doors": Passkeys("http://localhost:1", "Elsewhere")},
        {"doors": Passkeys(site.base_url.replace("localhost", "portal.localhost"), "Elsewhere")},
        {"credential": json.dumps({**whole, "response": {**whole["response"], "signature": flipped}})},
        {"credential": json.dumps({**whole, "type": "password"})},
    ):  # fmt: skip
        assert use(**other) is None, other
    assert use() == user.id
    with transaction(site.app.engine) as session:
        session.scalars(sa.select(Passkey)).one().sign_count = 0  # as if it were synced: those never count
    assert use() is None
