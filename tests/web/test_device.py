"""The page that lets terminals in, and what terminals speak meanwhile."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from portal.accounts.models import User
from portal.accounts.rules import StandingAction
from portal.accounts.service import set_standing
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.oauth.models import DeviceCode, DeviceMistake
from portal.oauth.rules import DEVICE_GRANT, DeviceState
from portal.tokens.models import AccessToken
from tests import conduct
from tests.factories import Make
from tests.site import Client, text_of

HF = "26be6b09-91c5-47da-9861-d2d2bb7a7e36"
SIGN = f"/licenses/{conduct.SLUG}/2.0.0/sign"


@pytest.fixture
def people(app: Any) -> dict[str, User]:
    """Ann, who signed, Sue, who is suspended, and Bob, who signed nothing."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.release(make.model("lab/gated"))
        found = {name: make.person(name) for name in ("ann", "bob", "sue")}
        for name in ("ann", "sue"):
            make.sign(found[name])
        set_standing(
            session, user_id=found["sue"].id, action=StandingAction.SUSPEND, until=utcnow() + timedelta(days=1),
            ref="san_x", by=SYSTEM, now=utcnow(),
        )  # fmt: skip
    return found


@pytest.fixture
def ann(client: Client, people: dict[str, User]) -> Client:
    return client.sign_in(people["ann"])


def send(app: Any, path: str = "/oauth/device", **fields: Any) -> Any:
    return app.test_client().post(path, data=fields, headers={"User-Agent": "unknown/None; hf_hub/2.4.0; python/3.11"})


def begin(app: Any, **fields: Any) -> dict[str, Any]:
    answer = send(app, **{"client_id": HF, **fields})
    assert answer.status_code == 200
    return dict(answer.json)


def ask(app: Any, begun: dict[str, Any], **changed: Any) -> Any:
    fields = {"grant_type": DEVICE_GRANT, "device_code": begun["device_code"], "client_id": HF, **changed}
    return send(app, "/oauth/token", **fields)


def refusal(answer: Any) -> tuple[int, str]:
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["error_description"]
    return answer.status_code, answer.json["error"]


def page(begun: dict[str, Any]) -> str:
    return f"/device?user_code={begun['user_code']}"


def approve(client: Client, begun: dict[str, Any]) -> Any:
    fields = {"user_code": begun["user_code"], "decision": "approve", "confirmed": "yes"}
    return client.submit("/device", **fields)


def count(app: Any, table: Any) -> int:
    with transaction(app.engine, write=False) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def state(app: Any) -> DeviceState:
    with transaction(app.engine, write=False) as session:
        return session.scalars(sa.select(DeviceCode.state)).one()


def test_a_terminal_is_told_all_that_rfc_8628_names(app: Any) -> None:
    answer = send(app, client_id=HF)
    assert (answer.content_type, answer.headers["Cache-Control"]) == ("application/json", "no-store")
    told = answer.json
    assert re.fullmatch(r"[B-DF-HJ-NP-TV-Z]{4}-[B-DF-HJ-NP-TV-Z]{4}", told["user_code"])
    base = app.settings.base_url
    assert told["verification_uri"] == f"{base}/device"
    assert told["verification_uri_complete"] == f"{base}/device?user_code={told['user_code']}"
    assert (told["interval"], told["expires_in"], len(told)) == (5, 600, 6)
    assert begin(app, client_id="portal-cli", scope="usage:read")["device_code"] != told["device_code"]


BAD_BEGINNINGS: list[tuple[dict[str, Any], str]] = [
    ({"client_id": "other"}, "invalid_client"), ({}, "invalid_request"),
    ({"client_id": [HF, HF]}, "invalid_request"), ({"client_id": HF, "scope": "weights:write"}, "invalid_scope"),
    ({"client_id": HF, "scope": "inference\u2003openid"}, "invalid_scope"), ({"client_id": "\0"}, "invalid_request"),
    ({"client_id": "🌸" * 10_000}, "invalid_client"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "word"), BAD_BEGINNINGS)
def test_a_bad_beginning_is_refused_in_the_words_of_rfc_6749(app: Any, fields: dict[str, Any], word: str) -> None:
    assert refusal(send(app, **fields)) == (400, word)
    assert count(app, DeviceCode) == 0


BAD_QUESTIONS: list[tuple[dict[str, Any], str]] = [
    ({"grant_type": ""}, "invalid_request"), ({"grant_type": "password"}, "unsupported_grant_type"),
    ({"device_code": ""}, "invalid_request"), ({"device_code": "x" * 5000}, "invalid_grant"),
    ({"device_code": "\x7fé\u202e"}, "invalid_grant"), ({"client_id": ""}, "invalid_request"),
    ({"client_id": "other"}, "invalid_client"), ({"client_id": "portal-cli"}, "invalid_grant"),
    ({"device_code": ["a", "b"]}, "invalid_request"), ({"device_code": "a\0"}, "invalid_request"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "word"), BAD_QUESTIONS)
def test_a_bad_question_is_refused_in_the_words_of_rfc_6749(app: Any, fields: dict[str, Any], word: str) -> None:
    begun = begin(app)
    assert refusal(ask(app, begun, **fields)) == (400, word)
    assert refusal(ask(app, begun)) == (400, "authorization_pending")


def test_other_ways_to_ask_are_refused_too(app: Any) -> None:
    client = app.test_client()
    assert refusal(client.post("/oauth/token", json={"grant_type": DEVICE_GRANT})) == (400, "invalid_request")
    assert refusal(client.post("/oauth/device", data=b"x" * (3 << 20), content_type="application/x-www-form-urlencoded"))[1] == "invalid_request"  # fmt: skip # noqa: E501
    basic = client.post("/oauth/device", data={"client_id": HF}, headers={"Authorization": "Basic aGY6"})
    assert refusal(basic) == (401, "invalid_client")
    assert basic.headers["WWW-Authenticate"] == "Bearer"


def test_many_waiting_terminals_of_a_network_are_told_to_wait(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.oauth.rules.MOST_WAITING", 0)
    answer = send(app, client_id=HF)
    assert refusal(answer) == (429, "temporarily_unavailable")
    assert answer.headers["Retry-After"] == "300"


def test_a_person_lets_their_terminal_in(app: Any, ann: Client, people: dict[str, User]) -> None:
    begun = begin(app)
    entered = ann.submit("/device", user_code=begun["user_code"].lower())
    assert (entered.status_code, entered.location) == (303, page(begun))
    shown = text_of(ann.get(page(begun)))
    for part in (
        begun["user_code"], "hf auth login", "hf_hub 2.4.0, python 3.11", "127.0.0.0/24", "the network that you are in",
        "Download weights", "Complete texts", "30 days", "If somebody sent you this link",
    ):  # fmt: skip
        assert part in shown, part
    asked = ann.submit(page(begun), to="/device", decision="approve")
    assert asked.status_code == 200
    assert f"Does your terminal show {begun['user_code']}?" in text_of(asked)
    assert refusal(ask(app, begun)) == (400, "authorization_pending")
    done = approve(ann, begun)
    assert (done.status_code, done.location) == (303, page(begun))
    assert "You let this terminal in" in text_of(ann.get(page(begun)))
    answer = ask(app, begun)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    secret = answer.json.pop("access_token")
    assert re.fullmatch(r"lmp_\w{49}", secret)
    told = {k: v for k, v in answer.json.items() if k != "access_token"}
    assert told == {"token_type": "bearer", "expires_in": 30 * 86400, "scope": "inference weights:read"}
    assert secret not in ann.get(page(begun)).get_data(as_text=True)
    assert "has its access token" in text_of(ann.get(page(begun)))
    assert "hf auth login, " in text_of(ann.get("/settings/tokens"))
    who = app.test_client().get("/api/whoami-v2", headers={"Authorization": f"Bearer {secret}"})
    assert (who.status_code, who.json["id"]) == (200, people["ann"].public_id)


@pytest.mark.threat("TM-26")
def test_opening_the_address_with_the_code_approves_nothing(app: Any, ann: Client) -> None:
    begun = begin(app)
    for query in ("", "&decision=approve", "&decision=approve&confirmed=yes"):
        assert ann.get(page(begun) + query).status_code == 200
        assert ann.http.head(page(begun) + query).status_code == 200
    ann.http.open(page(begun) + "&decision=approve&confirmed=yes", method="OPTIONS")
    assert refusal(ask(app, begun)) == (400, "authorization_pending")
    sent = ann.post("/device", data={"user_code": begun["user_code"], "decision": "approve", "confirmed": "yes"})
    assert sent.status_code == 400
    foreign = ann.submit(page(begun), to="/device", decision="approve", confirmed="yes", csrf_token="x")
    assert foreign.status_code == 400
    assert state(app) is DeviceState.PENDING


@pytest.mark.threat("TM-26")
def test_the_page_says_when_the_terminal_is_elsewhere(app: Any, ann: Client) -> None:
    begun = app.test_client().post(
        "/oauth/device", data={"client_id": HF}, environ_base={"REMOTE_ADDR": "203.0.113.77"},
        headers={"User-Agent": "<b>Your administrator</b> asks you to approve"},
    ).json  # fmt: skip
    shown = text_of(ann.get(page(begun)))
    assert "203.0.113.0/24, not the network that you are in (127.0.0.0/24)" in shown
    assert "203.0.113.77" not in shown
    assert "administrator" not in shown


def test_a_terminal_is_turned_away_by_one_press(app: Any, ann: Client) -> None:
    begun = begin(app)
    assert ann.submit(page(begun), to="/device", decision="deny").status_code == 303
    assert "was turned away" in text_of(ann.get(page(begun)))
    assert refusal(ask(app, begun)) == (400, "access_denied")
    assert approve(ann, begun).status_code == 409
    assert count(app, AccessToken) == 0


@pytest.mark.threat("TM-26")
def test_of_two_questions_at_once_one_gets_the_access_token(app: Any, ann: Client) -> None:
    begun = begin(app)
    approve(ann, begun)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(app, begun), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 7]
    assert {answer.json.get("error") for answer in answers} == {None, "invalid_grant"}
    assert count(app, AccessToken) == 1


def test_wrong_codes_are_named_and_soon_cost_time(app: Any, ann: Client) -> None:
    begun = begin(app)
    assert ann.submit("/device", user_code=" ").status_code == 422
    assert count(app, DeviceMistake) == 0
    for _ in range(5):
        wrong = ann.get("/device?user_code=BBBB-BBBB")
        assert wrong.status_code == 422
        assert 'id="user_code-error"' in wrong.get_data(as_text=True)
        assert ann.submit("/device", user_code="<b>").status_code == 422
    assert count(app, DeviceMistake) == 10
    waiting = ann.get(page(begun))
    assert (waiting.status_code, waiting.headers["Retry-After"]) == (429, "30")
    assert "hf auth login" not in text_of(waiting).partition("Wait 30 seconds")[2].partition("Go on")[0]
    assert approve(ann, begun).status_code == 429
    assert state(app) is DeviceState.PENDING


def test_who_has_not_signed_is_led_through_the_ceremony_and_back(
    app: Any, client: Client, people: dict[str, User]
) -> None:
    begun = begin(app)
    bob = client.sign_in(people["bob"])
    shown = bob.get(page(begun)).get_data(as_text=True)
    assert 'data-reason="signature_missing"' in shown
    assert 'value="approve"' not in shown
    assert approve(bob, begun).status_code == 403
    path = unescape(re.findall(r'href="https?://[^/"]+(/licenses/[^"]+/sign[^"]*)"', shown)[0])
    assert path == f"{SIGN}?next={quote(page(begun), safe='')}"
    form = bob.get(path).get_data(as_text=True)
    boxes = re.findall(r'name="acknowledged" value="([^"]+)"', form)
    typed = {"acknowledged": boxes, "consent_electronic": "y", "typed_name": "Bob"}
    signed = bob.submit(path, **typed, confirmed="yes")
    assert signed.status_code == 303
    back = bob.get(signed.location).get_data(as_text=True)
    assert f'href="{page(begun)}"' in back
    assert bob.get(path).location == signed.location
    assert approve(bob, begun).status_code == 303
    assert ask(app, begun).status_code == 200


@pytest.mark.threat("TM-29")
@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x()"])
def test_the_ceremony_leads_back_to_pages_of_this_portal_only(ann: Client, target: str) -> None:
    signature = ann.get(f"{SIGN}?next={quote(target, safe='')}").location
    assert "evil" not in signature
    shown = ann.get(f"{signature}?next={quote(target, safe='')}").get_data(as_text=True)
    assert "evil.example" not in shown
    assert "javascript:" not in shown
    assert "Go on where" not in shown


def test_a_suspended_person_sees_why_they_let_nobody_in(app: Any, client: Client, people: dict[str, User]) -> None:
    sue, begun = client.sign_in(people["sue"]), begin(app, scope="usage:read")
    shown = sue.get(page(begun)).get_data(as_text=True)
    assert "/appeal/san_x" in shown
    assert 'value="approve"' not in shown
    assert approve(sue, begun).status_code == 403
    assert sue.submit(page(begun), to="/device", decision="deny").status_code == 303
    assert refusal(ask(app, begun)) == (400, "access_denied")


def test_an_expired_terminal_is_told_so(app: Any, ann: Client) -> None:
    begun = begin(app)
    approve(ann, begun)
    with transaction(app.engine) as session:
        session.execute(sa.update(DeviceCode).values(expires_at=utcnow()))
    assert refusal(ask(app, begun)) == (400, "expired_token")
    assert "did not ask again in time" in text_of(ann.get(page(begun)))


def test_asking_too_fast_is_answered_with_slow_down(app: Any) -> None:
    begun = begin(app)
    assert refusal(ask(app, begun)) == (400, "authorization_pending")
    assert refusal(ask(app, begun)) == (400, "slow_down")
    with transaction(app.engine, write=False) as session:
        assert session.scalars(sa.select(DeviceCode.interval)).one() == 10


def test_who_is_not_signed_in_comes_back_with_the_code(app: Any, client: Client) -> None:
    begun = begin(app)
    answer = client.get(page(begun))
    assert answer.status_code == 303
    assert answer.location == f"/login?next={quote(page(begun), safe='')}"
    assert count(app, DeviceMistake) == 0


def test_another_person_does_not_see_a_terminal_that_was_let_in(app: Any, ann: Client, people: dict[str, User]) -> None:
    begun = begin(app)
    approve(ann, begun)
    assert Client(app).sign_in(people["bob"]).get(page(begun)).status_code == 422
