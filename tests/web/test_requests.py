"""Asking for a model in the page, and answering in the console; and what a model's staff set up there."""

from collections.abc import Iterator
from typing import Any

import pytest

from portal.accounts.rules import Role
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.entitlements import service as entitlements
from portal.entitlements.rules import Mode
from tests import conduct
from tests.factories import Make
from tests.site import Client, text_of

PURPOSE = "To measure how often it names rivers."
PAGE = "/lab/gated/request"


class Gate:
    """A model that has to be asked for, its people and its staff."""

    def __init__(self, app: Any) -> None:
        self.app = app
        with transaction(app.engine) as session:
            make = Make(session, utcnow())
            self.model = make.model("lab/gated")
            make.release(self.model)
            self.people = {
                "ann": make.person("ann"), "new": make.person("new"), "mo": make.person("mo", Role.MODERATOR),
                "ed": make.person("ed", Role.CARD_EDITOR),
            }  # fmt: skip
            make.sign(self.people["ann"])
            entitlements.set_form(
                session, model_id=self.model.id, model_ref=self.model.public_id, mode=Mode.MANUAL, by=SYSTEM,
                now=utcnow(), question="Why?",
            )  # fmt: skip

    def as_(self, name: str) -> Client:
        return Client(self.app).sign_in(self.people[name])


@pytest.fixture
def gate(app: Any) -> Iterator[Gate]:
    return Gate(app)


def test_a_member_asks_is_told_and_gets_in(gate: Gate) -> None:
    ann, mo = gate.as_("ann"), gate.as_("mo")
    assert 'data-reason="access_request_missing"' in ann.get("/lab/gated").get_data(as_text=True)
    assert "Why?" in text_of(ann.get(PAGE))
    assert ann.submit(PAGE, purpose="short").status_code == 422
    assert ann.submit(PAGE, purpose=PURPOSE).status_code == 303
    assert "Waits for an answer" in text_of(ann.get(PAGE))
    listed = mo.get("/staff/requests").get_data(as_text=True)
    ref = listed.partition("/staff/requests/ask_")[2].partition('"')[0]
    show = f"/staff/requests/ask_{ref}"
    assert PURPOSE in text_of(mo.get(show))
    assert mo.submit(show, answer="rejected").status_code == 422, "a rejection says why"
    assert mo.submit(show, answer="rejected", reason="Say which rivers.").status_code == 303
    assert "Say which rivers." in text_of(ann.get(PAGE))
    stale = mo.submit(show, answer="accepted", seen="submitted")
    assert stale.status_code == 422
    assert "Somebody answered this meanwhile" in text_of(stale)
    assert mo.submit(show, answer="accepted").status_code == 303
    assert 'data-reason="entitlement_active"' in ann.get("/lab/gated").get_data(as_text=True)
    assert PURPOSE in text_of(mo.get("/staff/requests?status=accepted"))
    assert "No access requests are pending" in text_of(mo.get("/staff/requests?status=nonsense"))


def test_somebody_who_did_not_sign_reads_what_comes_first(gate: Gate) -> None:
    new = gate.as_("new")
    page = new.get(PAGE).get_data(as_text=True)
    assert 'data-reason="signature_missing"' in page
    assert 'name="purpose"' not in page
    token = gate.as_("ann").get(PAGE).get_data(as_text=True)
    assert 'name="purpose"' in token


def test_a_request_is_taken_back_with_one_button(gate: Gate) -> None:
    ann = gate.as_("ann")
    ann.submit(PAGE, purpose=PURPOSE)
    assert ann.submit(PAGE, to=f"{PAGE}/withdraw").status_code == 303
    assert 'name="purpose"' in ann.get(PAGE).get_data(as_text=True)


def test_a_person_gives_access_back_and_asks_anew(gate: Gate) -> None:
    ann, ed = gate.as_("ann"), gate.as_("ed")
    ed.submit(f"/staff/models/{gate.model.public_id}/gate", mode="auto", question="What for?", days="10")
    assert ann.submit(PAGE, to=f"{PAGE}/return").status_code == 404
    ann.submit(PAGE, purpose=PURPOSE)
    assert "Give my access back" in text_of(ann.get(PAGE))
    assert ann.submit(PAGE, to=f"{PAGE}/return").status_code == 303
    page = ann.get(PAGE).get_data(as_text=True)
    assert "Give my access back" not in page
    assert 'name="purpose"' in page
    assert "gave your access to lab/gated back" in text_of(ann.get("/lab/gated"))
    assert ann.submit(PAGE, to=f"{PAGE}/return").status_code == 409
    ann.submit(PAGE, purpose=PURPOSE)
    assert 'data-reason="entitlement_active"' in ann.get("/lab/gated").get_data(as_text=True)


def test_staff_say_what_a_model_asks(gate: Gate) -> None:
    ed, page = gate.as_("ed"), f"/staff/models/{gate.model.public_id}/gate"
    assert ed.submit(page, mode="manual", question="", days="0").status_code == 422
    assert ed.submit(page, mode="off", question="Why?", days="10").status_code == 303
    assert "need not be asked for" in text_of(gate.as_("ann").get(PAGE))
    assert ed.submit(page, mode="auto", question="What for?", days="10").status_code == 303
    ann = gate.as_("ann")
    assert "yes at once" in text_of(ann.get(PAGE))
    ann.submit(PAGE, purpose=PURPOSE)
    assert "Accepted" in text_of(ann.get(PAGE))


def test_the_release_desk_asks_for_each_risky_file(app: Any, gate: Gate) -> None:
    with transaction(app.engine) as session:
        commit = Make(session, utcnow()).commit(gate.model, {"pytorch_model.bin": b"p", "config.json": b"{}"})
    ed, page = gate.as_("ed"), f"/staff/models/{gate.model.public_id}/release/{commit.revision}"
    assert "Weights that can run code" in text_of(ed.get(page))
    refused = ed.submit(page, license=conduct.SLUG)
    assert refused.status_code == 422
    assert "can run code when it is loaded" in text_of(refused)
    assert ed.submit(page, license="none", pickles="pytorch_model.bin").status_code == 422
    assert ed.submit(page, license=conduct.SLUG, pickles="pytorch_model.bin").status_code == 303
    assert "Released on" in text_of(ed.get(page))
    assert "Not released" not in text_of(ed.get(f"/staff/models/{gate.model.public_id}"))
    assert ed.get(f"/staff/models/{gate.model.public_id}/release/{'0' * 40}").status_code == 404
    assert ed.get("/staff/models/mod_none").status_code == 404
    assert ed.get(f"/lab/gated/commit/{commit.revision}").headers["Location"].startswith("/staff/models/")
    assert gate.as_("ann").get(f"/lab/gated/commit/{commit.revision}").headers["Location"].endswith(commit.revision)
