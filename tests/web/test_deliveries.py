"""Pages about delivered copies: a person's own, and which terms govern a copy."""

import csv
import io
from typing import Any

import pytest

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.deliveries import service
from tests.factories import Make
from tests.site import Client, text_of

DIGEST = "ab" * 32


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        people = {"ann": make.person("ann"), "bob": make.person("bob"), "mo": make.person("mo", Role.MODERATOR)}
        release = make.release(make.model("lab/gated"))
        for name, version in (("ann", "1.0.0"), ("bob", "2.0.0")):
            record = {
                "id": f"req_{name}", "user_id": people[name].id, "access_token_id": None, "release_id": release.id,
                "path": {"ann": "ann.safetensors", "bob": "=HYPERLINK(1)"}[name], "file_sha256": DIGEST, "size": 9,
                "range_start": 0,
                "signature_ids": [make.sign(people[name], version).id],
                "card_revision_id": release.card_revision_id, "at": make.now.isoformat(),
            }  # fmt: skip
            service.record_started(session, record=record)
            if name == "ann":
                service.record_finished(session, record={**record, "bytes_sent": 9})
    return people


def test_people_see_their_copies_with_the_terms(client: Client, people: dict[str, User]) -> None:
    seen = text_of(client.sign_in(people["ann"]).get("/settings/deliveries"))
    for part in (
        "lab/gated",
        "ann.safetensors",
        DIGEST,
        "Whole",
        "Conduct License 1.0.0",
        "your signature",
        "revision 1",
    ):
        assert part in seen
    assert "=HYPERLINK(1)" not in seen
    assert "Running" in text_of(client.sign_in(people["bob"]).get("/settings/deliveries"))
    assert "Nothing was delivered to you yet" in text_of(client.sign_in(people["mo"]).get("/settings/deliveries"))


def test_the_pages_are_for_people_who_are_signed_in(client: Client, people: dict[str, User]) -> None:
    assert client.get("/settings/deliveries").status_code == 303
    assert client.get("/staff/deliveries").status_code == 303
    assert client.sign_in(people["ann"]).get("/staff/deliveries").status_code == 403


def test_staff_learn_which_terms_govern_a_copy(client: Client, people: dict[str, User]) -> None:
    client.sign_in(people["mo"])
    for person in ("Ann@conduct.example", people["ann"].public_id):
        asked = {"sha256": f" {DIGEST.upper()} ", "person": person}
        seen = text_of(client.get("/staff/deliveries", query_string=asked))
        for part in ("ann.safetensors", "Conduct License 1.0.0", "sig_", "Ann"):
            assert part in seen
        assert "=HYPERLINK(1)" not in seen


def test_a_copy_that_is_on_no_record_is_said_to_be_so(client: Client, people: dict[str, User]) -> None:
    client.sign_in(people["mo"])
    query = {"sha256": "0" * 64, "person": people["ann"].public_id}
    assert "came from somewhere else" in text_of(client.get("/staff/deliveries", query_string=query))
    assert client.get("/staff/deliveries").status_code == 200
    everybody = text_of(client.get("/staff/deliveries", query_string={"sha256": DIGEST}))
    assert all(part in everybody for part in (people["ann"].public_id, people["bob"].public_id, "=HYPERLINK(1)"))
    only = client.get("/staff/deliveries", query_string={"person": people["ann"].public_id})
    assert (only.status_code, "somewhere else" in text_of(only)) == (200, False)


def test_a_bad_question_is_answered_with_the_field_named(client: Client, people: dict[str, User]) -> None:
    client.sign_in(people["mo"])
    for field, query in (
        ("sha256", {"sha256": "abc", "person": "ann@conduct.example"}), ("sha256", {"sha256": "g" * 64, "person": "x"}),
        ("person", {"sha256": DIGEST, "person": "no@one.example"}),
        ("person", {"sha256": DIGEST, "person": "usr_nobody"}), ("sha256", {"sha256": "٣" * 64}),
    ):  # fmt: skip
        answer = client.get("/staff/deliveries", query_string=query)
        assert answer.status_code == 422
        assert f'id="{field}-error"' in answer.get_data(as_text=True)


@pytest.mark.threat("TM-31")
def test_staff_take_the_ledger_along_as_a_sheet_that_computes_nothing(client: Client, people: dict[str, User]) -> None:
    client.sign_in(people["mo"])
    today = f"{utcnow():%Y-%m-%d}"
    answer = client.get("/staff/deliveries/export.csv", query_string={"start": today, "end": today})
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    assert f"deliveries-{today}-{today}.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert {row["person"] for row in rows} == {people["ann"].public_id, people["bob"].public_id}
    [evil] = [row for row in rows if row["person"] == people["bob"].public_id]
    assert evil["path"] == "'=HYPERLINK(1)", "what would be a formula is text"
    assert "example" not in answer.get_data(as_text=True), "no names or addresses"
    later = {"start": "2001-01-01", "end": "2001-01-02"}
    empty = client.get("/staff/deliveries/export.csv", query_string=later).get_data(as_text=True)
    assert empty.startswith("delivery,person,")
    assert empty.count("\n") == 1
    for query in ({}, {"start": "x", "end": today}, {"start": today}):
        assert client.get("/staff/deliveries/export.csv", query_string=query).status_code == 422
