"""The whole story through pages alone: sign, use, a new version, sign again, suspension, appeal, reinstatement."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from tests.browser.desk import publish_next_version, staff
from tests.browser.pages import Visitor
from tests.running import RunningPortal

MODEL = "demo/bloom-tiny"
LICENSE = "bloom-rail"
PROMPT = "Everyone has the right to"


def ask(portal: RunningPortal, token: str) -> httpx.Response:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{portal.base_url}/v1/completions", json=body, headers=headers, timeout=60)


def explain(portal: RunningPortal, email: str) -> dict[str, str]:
    """What the command line says: code → state."""
    said = json.loads(portal.cli("explain", email, MODEL, "infer", "--json", check=False))
    return {row["code"]: row["state"] for row in said["reasons"]}


def suspend(moderator: Visitor, email: str) -> None:
    moderator.open("/staff/people").fill(q=email).press("Search")
    moderator.page.locator("main table a").first.click()
    moderator.press("Open a case…").press("Give it back")
    assert moderator.path == "/staff/cases"
    mine = moderator.page.locator("main tr", has_text="Ada Lovelace")  # others of this portal have cases, too
    mine.locator("a").first.click()
    moderator.press("Claim this case")
    assert "the public log holds each digest" in moderator.page.locator("#evidence").inner_text()
    decide(moderator, "Sent 1,000 invented election reports on Sunday.", "suspend")
    assert "without end" not in moderator.words()
    assert "Suspend" in moderator.page.locator("#sanctions").inner_text()


def decide(moderator: Visitor, facts: str, kind: str) -> None:
    """Decide the case that the moderator holds and sees, once the notice was looked at."""
    moderator.follow("Decide…")
    moderator.page.locator("main [name=finding][value=violation]").check()
    moderator.page.locator("main [name=clause][value='restriction.false_information_to_harm']").check()
    moderator.page.locator("main [name=intent][value=knowing]").check()
    moderator.page.locator(f"main [name=kind][value={kind}]").check()
    moderator.page.locator("main [name=strike]").check()
    moderator.fill(facts=facts, until="2035-01-01").press("Go on")
    assert facts in moderator.words()
    moderator.press("Decide, and send the notice")
    assert "This case is decided" in moderator.words()


def test_the_whole_story(visitor: Callable[[], Visitor], portal: RunningPortal) -> None:
    ada, email = visitor(), "ada@story.example"
    ada.sign_up(email, "Ada Lovelace").sign_in()
    gate = ada.gate(MODEL)
    assert gate["signature_missing"] == "unmet"
    assert gate == explain(portal, email)

    signature = ada.sign(LICENSE, "1.1.0", "Ada Lovelace")
    ada.page.wait_for_timeout(100)
    receipt = wait_for_receipt(ada, signature)
    assert receipt.startswith(b"%PDF")
    assert set(ada.gate(MODEL).values()) == {"met"}
    assert ada.gate(MODEL) == explain(portal, email)

    token = ada.make_token("laptop")
    answer = ask(portal, token)
    assert answer.status_code == 200
    assert answer.headers["Portal-License"] == f"{LICENSE}/1.1.0"
    assert len(ada.complete(PROMPT)) > len(PROMPT) + 5
    assert "demo/bloom-tiny" in ada.open("/settings/usage").words()

    editors = [staff(visitor, portal, f"{name}@story.example", "license_editor") for name in ("ed", "flo")]
    publish_next_version(*editors, "1.2.0")
    refused = ask(portal, token)
    assert refused.status_code == 403
    codes = {reason["code"] for reason in refused.json()["error"]["reasons"] if reason["blocks"]}
    assert codes == {"signature_lapsed"}
    assert ada.gate(MODEL)["signature_lapsed"] == "unmet"
    assert ada.gate(MODEL) == explain(portal, email)
    seen = ada.open(f"/licenses/{LICENSE}/1.2.0/sign").words()
    assert "Malware is described more closely in 1.2.0." in seen
    ada.sign(LICENSE, "1.2.0", "Ada Lovelace")
    assert ask(portal, token).status_code == 200

    step_in_and_back(visitor, portal, ada, token)


def step_in_and_back(visitor: Callable[[], Visitor], portal: RunningPortal, ada: Visitor, token: str) -> None:
    before = ada.gate(MODEL)
    suspend(staff(visitor, portal, "mo@story.example", "moderator"), ada.email)
    refused = ask(portal, token)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "standing_suspended"
    ada.open("/settings/")
    assert ada.path.startswith("/login"), "the suspension ended the login session"
    ada.sign_in()
    assert ada.gate(MODEL)["standing_suspended"] == "unmet"
    assert ada.gate(MODEL) == explain(portal, ada.email)
    ada.page.locator("#gate li[data-reason=standing_suspended] a").click()
    assert "A person decided this." in ada.words()
    ada.fill(text="It was satire, and marked as such.").press("File the appeal")
    assert "Waiting for an answer" in ada.words()

    colleague = staff(visitor, portal, "co@story.example", "moderator")
    colleague.open("/staff/cases?origin=appeal")
    colleague.page.locator("main tr", has_text="Ada Lovelace").locator("a").first.click()
    colleague.press("Claim this case")
    assert "It was satire" in colleague.words()
    colleague.page.locator("main [name=outcome][value=overturned]").check()
    colleague.fill(reasons="The texts were marked.").press("Answer the appeal")
    assert ask(portal, token).status_code == 200
    assert ada.gate(MODEL) == before == explain(portal, ada.email)
    assert set(before.values()) == {"met"}
    wait_for_mail(ada, "overturned")
    admin = staff(visitor, portal, "ad@story.example", "admin")
    assert "moderation:case_decision:overturned" in admin.open("/staff/audit").words()
    assert MODEL in admin.open("/staff/usage").words()


def wait_for_mail(person: Visitor, word: str) -> None:
    """Mail goes out in the background, so it may be a moment late."""
    for _ in range(100):
        if any(word in mail for mail in person.portal.mails_to(person.email)):
            return
        person.page.wait_for_timeout(200)
    raise AssertionError(f"no mail with {word!r} within 20 s")


def wait_for_receipt(person: Visitor, signature: str) -> Any:
    for _ in range(100):
        person.open(f"/settings/signatures/{signature}")
        link = person.page.locator("main a[href$='receipt.pdf']")
        if link.count():
            address = person.portal.base_url + str(link.first.get_attribute("href"))
            return person.page.request.get(address).body()
        person.page.wait_for_timeout(200)
    raise AssertionError("no receipt within 20 s")
