"""The playground in a real browser, with JavaScript and without: it streams, it stops, and it says why not."""

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from portal.accounts.models import Profile
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.usage import service as usage
from portal.usage.models import UsageRecord
from tests.browser.pages import Visitor, faults_everywhere
from tests.member import Browser, add_member
from tests.running import RunningPortal, wait_until

MODEL = "demo/bloom-tiny"
PLAY = f"/playground/{MODEL}"
LONG = "Everyone has the right to"
NUMBERS = count(1)
# Presses "Stop" as soon as the first words are there.
STOP_AT_ONCE = """() => new MutationObserver((_, watch) => {
  watch.disconnect();
  document.getElementById("stop").click();
}).observe(document.getElementById("written"), {childList: true})"""


@pytest.fixture
def signed(portal: RunningPortal) -> dict[str, str]:
    """The cookies of somebody who has signed, one for each test."""
    email = f"ada{next(NUMBERS)}@play.example"
    add_member(portal, email, "Ada")
    with Browser(portal.base_url) as browser:
        browser.sign_in(email)
        browser.sign("/licenses/bloom-rail/1.1.0/sign", "Ada")
        return {"email": email, **dict(browser.http.cookies)}


@pytest.fixture
def enter(chromium: Any, portal: RunningPortal) -> Iterator[Callable[..., Visitor]]:
    """Opens browsers of people who are signed in, with JavaScript or without."""
    contexts = []

    def enter(cookies: dict[str, str], *, script: bool = True) -> Visitor:
        context = chromium.new_context(java_script_enabled=script)
        context.set_default_timeout(20_000)
        contexts.append(context)
        given = {name: value for name, value in cookies.items() if name != "email"}
        context.add_cookies([{"name": n, "value": v, "url": portal.base_url} for n, v in given.items()])
        visitor = Visitor(context.new_page(), portal, cookies.get("email", ""), scripts=script)
        visitor.page.on("pageerror", lambda error: pytest.fail(str(error)))
        return visitor

    yield enter
    for context in contexts:
        context.close()


def records(portal: RunningPortal, email: str) -> list[UsageRecord]:
    engine = make_engine(f"sqlite:///{portal.home / 'portal.db'}")
    with transaction(engine, write=False) as session:
        person = session.scalars(sa.select(Profile.user_id).where(Profile.email == email)).one()
        found = list(usage.own(session, user_id=person))
        session.expunge_all()
    engine.dispose()
    return found


def rows_at_work(portal: RunningPortal) -> int:
    """Ask the engine how many rows it computes."""
    socket = Settings.from_env({"PORTAL_HOME": str(portal.home)}).engine_socket
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as engine:
        said = engine.get("http://engine/health").json()
        return int(said["running"]) + int(said["queued"])


def used(visitor: Visitor) -> list[int]:
    """Read today's use off the page: requests, text tokens."""
    words = visitor.page.locator("#today").inner_text()
    return [int(found.replace(",", "")) for found in re.findall(r"([\d,]+) of", words)]


@pytest.mark.parametrize("script", [True, False])
def test_an_answer_with_its_cost_and_what_to_do_with_it(
    enter: Callable[..., Visitor], portal: RunningPortal, signed: dict[str, str], script: bool
) -> None:
    ada = enter(signed, script=script).open("/playground")
    assert ada.path == PLAY
    assert used(ada) == [0, 0]
    ada.fill(prompt=LONG, max_tokens="12", temperature="0").press("Complete")
    ada.page.locator("#counts").wait_for()
    if script:
        ada.page.get_by_text("The answer is whole.").wait_for()
        assert ada.path == PLAY, "nothing was loaded anew"
    shown = ada.page.locator("#completion").inner_text()
    assert shown.startswith(LONG)
    assert len(shown) > len(LONG) + 5
    prompt, answer = (int(ada.page.locator(f"#{name}-tokens").inner_text()) for name in ("prompt", "answer"))
    if script:
        ada.page.wait_for_function("document.querySelector('#today .value').textContent.startsWith('1 of')")
    assert used(ada) == [1, prompt + answer]
    (record,) = wait_until(lambda: records(portal, ada.email))
    assert (record.channel, record.prompt_tokens, record.completion_tokens) == ("page", prompt, answer)
    assert "written by a machine" in ada.page.locator("#answer").inner_text()
    assert MODEL in ada.page.locator("#answer").inner_text()
    assert faults_everywhere(ada, f"playground-answer-{'script' if script else 'plain'}") == []
    ada.follow("Report this output")
    assert ada.page.locator("[name=locator]").input_value() == record.request_id


def test_stop_stops_the_engine(enter: Callable[..., Visitor], portal: RunningPortal, signed: dict[str, str]) -> None:
    ada = enter(signed).open(PLAY).fill(prompt=LONG, max_tokens="512", temperature="0")
    ada.page.evaluate(STOP_AT_ONCE)
    ada.press("Complete")
    ada.page.get_by_text("You stopped it.").wait_for()
    (record,) = wait_until(lambda: records(portal, ada.email))
    wait_until(lambda: rows_at_work(portal) == 0)
    assert record.outcome == "canceled"
    assert record.completion_tokens < 512, "the engine had not come to its end"
    assert ada.page.locator("#written").inner_text()
    ada.fill(max_tokens="4").press("Complete")
    ada.page.get_by_text("The answer is whole.").wait_for()


@pytest.mark.parametrize("script", [True, False])
def test_mistakes_are_named_and_nothing_typed_is_lost(
    enter: Callable[..., Visitor], portal: RunningPortal, signed: dict[str, str], script: bool
) -> None:
    ada = enter(signed, script=script).open(f"{PLAY}?preset=letters").fill(max_tokens="1000").press("Complete")
    ada.page.get_by_text("There is a problem").wait_for()
    assert "from 1 to 512" in ada.words()
    assert "Rucellai" in ada.page.locator("[name=prompt]").input_value()
    ada.fill(max_tokens="3").press("Complete")
    ada.page.locator("#counts").wait_for()


@pytest.mark.parametrize("script", [True, False])
def test_a_used_up_limit_says_until_when(
    enter: Callable[..., Visitor], portal: RunningPortal, signed: dict[str, str], script: bool
) -> None:
    ada = enter(signed, script=script).open(PLAY)
    engine = make_engine(f"sqlite:///{portal.home / 'portal.db'}")
    with transaction(engine) as session:
        person = session.scalars(sa.select(Profile.user_id).where(Profile.email == ada.email)).one()
        usage.set_quota(session, user_id=person, calls=1, text_tokens=20, by=SYSTEM, now=utcnow())
    engine.dispose()
    ada.fill(prompt="Once", max_tokens="400").press("Complete")
    ada.page.locator("#refused").wait_for()
    assert "Your limit of 20 text tokens a day (UTC) is used up." in ada.words()
    ada.open(PLAY).fill(prompt="Once", max_tokens="2").press("Complete")
    ada.page.locator("#counts").wait_for()
    words = ada.open(PLAY).words()
    assert "Your limit of 1 requests a day (UTC) is used up." in words
    assert "ask the operators for more" in words
    assert ada.page.locator("form#play").count() == 0


def test_who_has_not_signed_is_led_to_the_license(enter: Callable[..., Visitor], portal: RunningPortal) -> None:
    add_member(portal, "bob@play.example", "Bob")
    with Browser(portal.base_url) as browser:
        browser.sign_in("bob@play.example")
        bob = enter(dict(browser.http.cookies))
    bob.open(PLAY)
    assert "What you need first" in bob.words()
    assert bob.page.locator("form#play").count() == 0
    assert faults_everywhere(bob, "playground-unsigned") == []
    bob.page.locator("#gate li[data-reason=signature_missing] a").click()
    assert bob.path.startswith("/licenses/bloom-rail/")


def test_while_no_engine_answers_the_page_says_so(
    enter: Callable[..., Visitor], portal: RunningPortal, signed: dict[str, str]
) -> None:
    visitors = [enter(signed, script=script).open(PLAY) for script in (True, False)]
    with portal.engine_away():
        for ada in visitors:
            ada.fill(prompt="Once", max_tokens="2").press("Complete")
            ada.page.locator("#refused").wait_for()
            assert ada.page.locator("[name=prompt]").input_value() == "Once"
            assert "again in a moment" in ada.page.locator("#refused").inner_text()
            wait_until(lambda ada=ada: "No engine answers" in ada.open(PLAY).words())
        assert faults_everywhere(ada, "playground-no-engine") == []
        assert used(ada) == [0, 0]
