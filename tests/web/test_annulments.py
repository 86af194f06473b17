"""Saying no on the sign page, withdrawing a signature, and voiding one at the console."""

import re
from html import unescape
from typing import Any

import pytest

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from tests import conduct, licensed
from tests.site import Client, text_of

SIGN = "/licenses/bloom-rail/1.1.0/sign"


@pytest.fixture
def people(app: Any) -> dict[str, Any]:
    """Two editors, ann who has signed and bob who has not."""
    now = utcnow()
    with transaction(app.engine) as session:
        version = licensed.publish(session, now)
        made: dict[str, Any] = {name: conduct.person(session, name, now) for name in ("ann", "bob")}
        for name in ("ed", "flo"):
            made[name] = conduct.person(session, name, now, Role.LICENSE_EDITOR)
        made["signature"] = licensed.sign(session, licensed.browsing(made["ann"]), version, now).public_id
        return made


def browser(app: Any, user: User) -> Client:
    return Client(app).sign_in(user)


def test_a_person_says_that_they_do_not_sign(app: Any, people: dict[str, Any]) -> None:
    bob = browser(app, people["bob"])
    page = bob.get(SIGN).get_data(as_text=True)
    where = unescape(re.findall(r'href="([^"]*/decline\?[^"]*)"', page)[0])
    assert "Signatures that you gave before stay" in text_of(bob.get(where))
    assert bob.submit(where, reason="nix").status_code == 422
    answer = bob.submit(where, reason="restrictions")
    assert answer.status_code == 303
    assert "you do not sign version 1.1.0" in text_of(bob.get(answer.headers["Location"]))
    assert bob.get(SIGN).status_code == 200, "signing stays open"
    assert bob.submit("/licenses/bloom-rail/1.1.0/decline", reason="unsaid").status_code == 409
    assert bob.get("/licenses/bloom-rail/9.9.9/decline").status_code == 404


def test_a_signer_withdraws_after_reading_what_it_does(app: Any, people: dict[str, Any]) -> None:
    ann, where = browser(app, people["ann"]), f"/settings/signatures/{people['signature']}"
    assert "withdraw this signature" in text_of(ann.get(where))
    assert "Copies that you hold stay" in text_of(ann.get(f"{where}/withdraw"))
    assert "Signed" in text_of(ann.get("/settings/signatures"))
    assert ann.submit(f"{where}/withdraw").status_code == 303
    assert "Withdrawn" in text_of(ann.get(where))
    assert "Withdrawn" in text_of(ann.get("/settings/signatures"))
    assert "It stopped binding" in text_of(ann.get(f"{where}/withdraw"))
    assert where not in ann.get("/licenses/bloom-rail/1.1.0").get_data(as_text=True)
    assert ann.get(SIGN).status_code == 200, "signing again is possible"
    bob = browser(app, people["bob"])
    assert bob.get(f"{where}/withdraw").status_code == 404
    assert bob.get("/settings/signatures/sig_none/withdraw").status_code == 404


def test_two_editors_void_a_signature(app: Any, people: dict[str, Any]) -> None:
    ed, flo = (browser(app, people[name]) for name in ("ed", "flo"))
    where = f"/staff/signatures/{people['signature']}"
    assert ed.submit(where).status_code == 422
    assert ed.submit(where, reason="nix").status_code == 422
    assert ed.submit(where, reason="wrong_person").status_code == 303
    assert "You proposed to void it" in text_of(ed.get(where))
    assert "wrong person" in text_of(flo.get(where))
    assert ed.submit(where, payload_sha256="0" * 64).status_code == 403
    assert flo.submit(where, payload_sha256="0" * 64).status_code == 409
    assert flo.submit(where).status_code == 303
    assert "Voided" in text_of(flo.get(where))
    assert "Voided as an error" in text_of(
        browser(app, people["ann"]).get(f"/settings/signatures/{people['signature']}")
    )
    assert flo.get("/staff/signatures/sig_none").status_code == 404
