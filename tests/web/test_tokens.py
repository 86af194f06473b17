"""The page of access tokens: a secret is shown once, and an access token ends at once."""

import re
from html import unescape
from typing import Any

import pytest

from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.tokens import service as tokens
from tests import conduct
from tests.factories import Make
from tests.site import Client, text_of

PAGE = "/settings/tokens"
GOOD = {"name": "laptop", "scopes": ["inference"], "days": "30"}


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    """Ann, who signed; Bob, who did not; and Mo, who moderates."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.release(make.model("lab/gated"))
        make.model("lab/card-only")
        found = {"ann": make.person("ann"), "bob": make.person("bob"), "mo": make.person("mo", Role.MODERATOR)}
        make.sign(found["ann"])
    return found


@pytest.fixture
def ann(client: Client, people: dict[str, User]) -> Client:
    return client.sign_in(people["ann"])


def post(client: Client, path: str = PAGE, **fields: Any) -> Any:
    """Send fields with the one-time value of the page."""
    page = client.get(PAGE).get_data(as_text=True)
    value = unescape(re.findall(r'name="csrf_token"[^>]*value="([^"]*)"', page)[-1])
    return client.post(path, data={"csrf_token": value, **fields})


def secret_in(answer: Any) -> str:
    return re.findall(r'<output id="access-token">(lmp_\w{49})</output>', answer.get_data(as_text=True))[0]


def call(app: Any, secret: str, path: str = "/api/usage") -> int:
    return int(app.test_client().get(path, headers={"Authorization": f"Bearer {secret}"}).status_code)


def test_a_new_access_token_is_shown_once_and_works(app: Any, ann: Client) -> None:
    answer = post(ann, **{**GOOD, "scopes": ["inference", "usage:read"], "models": ["lab/gated"]})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers or "lmp_" not in answer.headers["Set-Cookie"]
    secret = secret_in(answer)
    assert call(app, secret) == 200
    again = ann.get(PAGE)
    assert secret not in again.get_data(as_text=True)
    assert "access-token" not in again.get_data(as_text=True)
    seen = text_of(again)
    for part in ("laptop", f"…{secret[-4:]}", "inference, usage:read", "lab/gated", "Live"):
        assert part in seen
    assert "lab/card-only" not in seen


def test_sending_the_form_again_makes_no_second_one(ann: Client) -> None:
    first = post(ann, **GOOD)
    again = post(ann, **GOOD)
    assert again.status_code == 422
    assert 'id="name-error"' in again.get_data(as_text=True)
    assert secret_in(first)[-4:] in text_of(again)
    assert len(re.findall(r"/settings/tokens/tok_\w+/revoke", ann.get(PAGE).get_data(as_text=True))) == 1


BAD = [
    ("name", ["", "   ", "x" * 81, "a\x07b"]),
    ("scopes", [[], ["everything"], ["weights:write"]]),
    ("models", [["lab/none"], ["lab/card-only"]]),
    ("days", ["", "0", "366", "-1", "soon", "1.5", "9" * 6_000]),
]


def test_bad_input_is_answered_with_the_field_named(ann: Client) -> None:
    for field, value in ((field, value) for field, values in BAD for value in values):
        answer = post(ann, **{**GOOD, field: value})
        page = answer.get_data(as_text=True)
        assert (answer.status_code, f'id="{field}-error"' in page) == (422, True), (field, value)
        assert "access-token" not in page
    assert "You have no access token yet" in text_of(ann.get(PAGE))


def test_a_nul_is_refused(ann: Client) -> None:
    assert post(ann, **{**GOOD, "name": "a\0b"}).status_code == 400


def test_without_a_signature_the_page_says_what_is_missing(client: Client, people: dict[str, User], app: Any) -> None:
    bob = client.sign_in(people["bob"])
    page = bob.get(PAGE).get_data(as_text=True)
    assert 'data-reason="signature_missing"' in page
    refused = post(bob, **GOOD)
    assert refused.status_code == 403
    assert 'data-reason="signature_missing"' in refused.get_data(as_text=True)
    assert "/licenses/conduct-license/2.0.0/sign" in refused.get_data(as_text=True)
    secret = secret_in(post(bob, **{**GOOD, "scopes": ["usage:read"]}))
    assert call(app, secret) == 200


def test_revoking_asks_first_and_then_holds_at_once(app: Any, ann: Client) -> None:
    secret = secret_in(post(ann, **{**GOOD, "scopes": ["usage:read"]}))
    path = re.findall(r"/settings/tokens/tok_\w+/revoke", ann.get(PAGE).get_data(as_text=True))[0]
    asked = ann.get(path)
    assert asked.status_code == 200
    assert "Revoke this access token?" in text_of(asked)
    assert call(app, secret) == 200
    for _ in range(2):
        done = ann.submit(path)
        assert (done.status_code, done.headers["Location"]) == (303, PAGE)
    assert call(app, secret) == 401
    assert "Revoked" in text_of(ann.get(PAGE))
    assert path not in ann.get(PAGE).get_data(as_text=True)
    assert post(ann, **GOOD).status_code == 200


def test_nobody_ends_anothers_access_token(app: Any, client: Client, people: dict[str, User]) -> None:
    with transaction(app.engine) as session:
        token, _ = Make(session, utcnow()).token(people["ann"])
    path = f"{PAGE}/{token.public_id}/revoke"
    bob = client.sign_in(people["bob"])
    assert bob.get(path).status_code == 404
    assert post(bob, path).status_code == 404
    assert bob.get(f"{PAGE}/tok_nothing/revoke").status_code == 404
    with transaction(app.engine) as session:
        assert tokens.of_person(session, user_id=people["ann"].id)[0].state.value == "live"


def test_the_page_is_for_people_who_are_signed_in(client: Client) -> None:
    answer = client.get(PAGE)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login")


def test_a_form_from_elsewhere_is_refused(ann: Client) -> None:
    assert ann.post(PAGE, data=GOOD).status_code == 400
    for origin in ("https://evil.example", "null", "http://["):
        assert ann.post(PAGE, data=GOOD, headers={"Origin": origin}).status_code == 403
    assert ann.post(PAGE, data=GOOD, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def leaked(app: Any, body: Any, **kept: Any) -> Any:
    return app.test_client().post("/api/credentials/revoke", json=body, **kept)


def test_whoever_finds_a_secret_can_end_it(app: Any, ann: Client) -> None:
    secret = secret_in(post(ann, **{**GOOD, "scopes": ["usage:read"]}))
    assert leaked(app, {"credentials": [secret, "lmp_nonsense", "\ud83d", "x\0"]}).status_code == 202
    with transaction(app.engine) as session:
        tokens.settle_leaks(session, by=SYSTEM, base_url=app.settings.base_url, now=utcnow())
    assert call(app, secret) == 401


def test_a_bad_report_of_leaks_names_the_field(app: Any) -> None:
    bodies: list[Any] = [None, [], {}, {"credentials": "lmp_x"}, {"credentials": [1]}, {"credentials": ["x"] * 1001}, 5]
    for body in bodies:
        answer = leaked(app, body)
        assert (answer.status_code, answer.get_json()["field"]) == (422, "credentials")
    assert app.test_client().post("/api/credentials/revoke", data="not json").status_code == 422


def test_an_access_token_can_be_tried_out_before_a_program_does(app: Any, people: dict[str, User], ann: Client) -> None:
    page = f"{PAGE}/test"
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.release(make.model("datasets/lab/texts"))
    secret = secret_in(post(ann, **{**GOOD, "scopes": ["weights:read"]}))
    answer = post(ann, page, access_token=f" {secret} ", model="lab/gated")
    words = text_of(answer)
    assert (answer.status_code, "“laptop” at lab/gated" in words) == (200, True)
    assert "yes Download the files" in words
    assert "not yet Complete texts" in words
    assert "This access token lacks the scope inference." in words
    assert secret not in answer.get_data(as_text=True)
    data = text_of(post(ann, page, access_token=secret, model="datasets/lab/texts"))
    assert "yes Download the files" in data
    assert "Complete texts" not in data
    with transaction(app.engine, write=False) as session:
        [token] = tokens.of_person(session, user_id=people["ann"].id)
        assert token.last_used_at is None, "testing is no use"
    assert 'selected value="lab/gated"' in ann.get(f"{page}?model=lab/gated").get_data(as_text=True)


def test_an_access_token_that_cannot_be_used_is_named_with_the_reason(
    app: Any, people: dict[str, User], ann: Client
) -> None:
    page, secret = f"{PAGE}/test", secret_in(post(ann, **GOOD))
    with transaction(app.engine) as session:
        owned = tokens.of_person(session, user_id=people["ann"].id)[0]
        tokens.revoke(session, by=conduct.acting(people["ann"]), ref=owned.public_id, now=utcnow())
    with transaction(app.engine) as session:
        _, foreign = tokens.issue(
            session, by=conduct.acting(people["bob"]), owner_id=people["bob"].id, name="b", scopes=["inference"],
            model_ids=[], days=1, pepper=app.settings.pepper, now=utcnow(),
        )  # fmt: skip
    for sent, said in (
        ("", "Paste an access token."), ("lmp_no", "not known here"), (secret, "was revoked"),
        (foreign, "belongs to another account"), ("a b\n", "not known here"),
    ):  # fmt: skip
        answer = post(ann, page, access_token=sent, model="lab/gated")
        assert (answer.status_code, said in text_of(answer)) == (422, True)
        assert "Download the files" not in text_of(answer)
    assert post(ann, page, access_token=secret, model="lab/none").status_code == 422
