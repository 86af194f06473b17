"""Scripts written for the Hub administer a gate here: list, accept, reject, put back, grant, and say what is asked."""

import re
from pathlib import Path

import httpx
import pytest

from portal.requests.rules import NO_REASON
from tests import member
from tests.hub.conftest import Hub
from tests.hub.generations import GENERATIONS, Generation
from tests.hub.staff import staff_token
from tests.member import Browser
from tests.running import wait_until

MODEL = "bigscience/bloom-1b1"
NEW = GENERATIONS[0]
PURPOSE = "To read how it writes about rivers."


@pytest.fixture(scope="module")
def admin(hub: Hub) -> str:
    """An access token of somebody who may review requests and set what is asked."""
    return staff_token(hub.portal, "gate@example.org", "weights:write", "requests:write", role="admin")


SCRIPT = """
from huggingface_hub import HfApi
api = HfApi()
def code(call):
    try:
        call()
        return 200
    except Exception as error:
        return error.response.status_code
def listed():
    lists = (api.list_pending_access_requests, api.list_accepted_access_requests, api.list_rejected_access_requests)
    found = [[r for r in one(model) if r.email == email] for one in lists]
    return [[(r.username, r.fullname, r.status) for r in rows] for rows in found]
"""


def status(hub: Hub, token: str) -> tuple[int, str]:
    answer = httpx.head(
        f"{hub.url}/{MODEL}/resolve/main/weights.safetensors", headers={"Authorization": f"Bearer {token}"}
    )
    return answer.status_code, answer.headers.get("X-Error-Message", "")


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda g: g.name)
def test_a_script_answers_what_a_member_asked_in_the_page(
    generation: Generation, hub: Hub, admin: str, tmp_path: Path
) -> None:
    email = f"asks-{generation.name}@example.org"
    token = member.signed_member(hub.portal, email, model="demo/bloom-tiny")
    why = {} if generation.name == "old" else {"rejection_reason": "Not yet."}  # the oldest client cannot say why
    with httpx.Client(base_url=hub.url, headers={"Authorization": f"Bearer {admin}"}) as wire:
        assert wire.put(f"/api/models/{MODEL}/settings", json={"gated": "manual"}).json()["gated"] == "manual"
        try:
            assert status(hub, token)[0] == 403
            assert f"{hub.url}/{MODEL}/request" in status(hub, token)[1]
            with Browser(hub.url) as browser:
                browser.sign_in(email)
                assert 'data-reason="access_request_missing"' in browser.open(f"/{MODEL}")
                browser.open(f"/{MODEL}/request")
                browser.send(browser.form("purpose"), purpose=PURPOSE)
                assert "Waits for an answer" in browser.page.text
            said = generation.run(
                tmp_path, hub.url, SCRIPT + """
result = [listed()]
user = result[0][0][0][0]
result.append(code(lambda: api.accept_access_request(model, user)))
result.append(listed())
result.append(code(lambda: api.accept_access_request(model, user)))
result.append(code(lambda: api.grant_access(model, user)))
""", token=admin, model=MODEL, email=email,
            )  # fmt: skip
            user = said[0][0][0][0]
            row = [user, "Ada Example"]
            assert said[0] == [[[*row, "pending"]], [], []]
            assert said[1:] == [200, [[], [[*row, "accepted"]], []], 404, 400]
            assert status(hub, token)[0] == 200
            said = generation.run(
                tmp_path, hub.url, SCRIPT + """
result = [code(lambda: api.reject_access_request(model, user, **why)), listed()]
result.append(code(lambda: api.reject_access_request(model, user, **why)))
result.append(code(lambda: api.accept_access_request(model, "x")))
""", token=admin, model=MODEL, email=email, user=user, why=why,
            )  # fmt: skip
            assert said == [200, [[], [], [[*row, "rejected"]]], 404, 404]
            assert (why["rejection_reason"] if why else NO_REASON) in status(hub, token)[1]
            said = generation.run(
                tmp_path, hub.url, SCRIPT + "result = [code(lambda: api.cancel_access_request(model, user)), listed()]",
                token=admin, model=MODEL, email=email, user=user,
            )  # fmt: skip
            assert said == [200, [[[*row, "pending"]], [], []]]
            answer = wire.post(
                f"/api/models/{MODEL}/user-access-request/handle",
                json={"user": user, "status": "reset", "resetReason": "New version."},
            )
            assert answer.status_code == 200
            assert "was reset: New version." in status(hub, token)[1]
        finally:
            assert wire.put(f"/api/models/{MODEL}/settings", json={"gated": False}).json()["gated"] is False
    sign = re.search(rf"{hub.url}(/licenses/\S+/sign)", status(hub, token)[1])
    assert sign is not None, "the same license is to be signed again"
    with Browser(hub.url) as browser:
        browser.sign_in(email)
        browser.sign(sign[1], "Ada Example")
    wait_until(lambda: status(hub, token)[0] == 200)


def test_a_script_lets_somebody_in_who_did_not_ask(hub: Hub, admin: str, tmp_path: Path) -> None:
    token = hub.tokens["signed"]
    code = (
        SCRIPT
        + """
api.update_repo_settings(model, gated="auto")
before = code(lambda: api.auth_check(model, token=reader))
granted = code(lambda: api.grant_access(model, email))
after = code(lambda: api.auth_check(model, token=reader))
api.update_repo_settings(model, gated=False)
needless = code(lambda: api.grant_access(model, email))
result = [before, granted, after, needless]
"""
    )
    said = NEW.run(tmp_path, hub.url, code, token=admin, model=MODEL, email="signed@example.org", reader=token)
    assert said == [403, 200, 200, 400]


def test_only_reviewers_with_the_scope_administer_a_gate(hub: Hub, tmp_path: Path) -> None:
    uploader = staff_token(hub.portal, "card@example.org")
    for token, words in ((hub.tokens["signed"], "requests:write"), (uploader, "requests:write")):
        answer = httpx.get(
            f"{hub.url}/api/models/{MODEL}/user-access-request/pending", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 403
        assert words in answer.headers["X-Error-Message"]
    with pytest.raises(AssertionError, match="requests:write is for staff"):
        hub.portal.cli("tokens", "issue", "card@example.org", "--name", "r", "--scope", "requests:write")
