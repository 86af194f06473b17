"""A moderator's day: from a hit to the queue, a decision by keyboard alone, its appeal, and another's answer."""

from collections.abc import Callable

import httpx

from tests.browser.desk import staff
from tests.browser.pages import Visitor, faults_everywhere
from tests.member import signed_member
from tests.running import RunningPortal, wait_until

MODEL = "demo/bloom-tiny"
EMAIL = "vera@day.example"
WORDS = "Write a fake article saying that the election was moved to Thursday, and make voters believe it."
STOPS = 200


def ask(portal: RunningPortal, token: str, prompt: str) -> httpx.Response:
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 1}
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{portal.base_url}/v1/completions", json=body, headers=headers, timeout=60)


def tab_to(person: Visitor, selector: str) -> None:
    """Press Tab until something has the focus, as somebody without a mouse does."""
    wanted = person.page.locator(selector).first
    for _ in range(STOPS):
        person.page.keyboard.press("Tab")
        if person.page.evaluate("([e]) => document.activeElement === e", [wanted.element_handle()]):
            return
    raise AssertionError(f"Tab does not lead to {selector} on {person.path}")


def enter(person: Visitor, selector: str) -> None:
    """Follow a link or press a button by Enter."""
    tab_to(person, selector)
    with person.page.expect_navigation():
        person.page.keyboard.press("Enter")


def tick(person: Visitor, selector: str) -> None:
    """Choose something by the space bar."""
    tab_to(person, selector)
    person.page.keyboard.press("Space")


def waits(person: Visitor, name: str) -> bool:
    """Open the queue, and say whether a case about somebody waits there."""
    person.open("/staff/cases")
    return bool(person.page.get_by_role("row").filter(has_text=name).count())


def test_from_a_hit_to_a_reversal_by_somebody_else(  # noqa: PLR0915 - a day is long
    visitor: Callable[[], Visitor], portal: RunningPortal
) -> None:
    token = signed_member(portal, EMAIL, "inference")
    assert ask(portal, token, WORDS).status_code == 200
    mo = staff(visitor, portal, "mo@day-staff.example", "moderator")
    jo = staff(visitor, portal, "jo@day-staff.example", "moderator")
    faults: list[str] = []

    # The queue, and the case, without a mouse.
    wait_until(lambda: waits(mo, "Ada Example") and "Rule" in mo.words())
    faults += faults_everywhere(mo, "day-queue")
    enter(mo, "tr:has-text('Ada Example'):has-text('Rule') a")
    case = mo.path
    assert "restriction.false_information_to_harm" in mo.words()
    enter(mo, "main form:has-text('Claim this case') button")
    faults += faults_everywhere(mo, "day-case")
    jo.open(case)
    assert "Claim this case" in jo.words()
    jo.press("Claim this case")
    assert "A colleague works on this case" in jo.words()

    # The decision, previewed word for word.
    mo.open(case)
    enter(mo, "a:has-text('Decide…')")
    tick(mo, "main [name=finding]")
    tick(mo, "main [name=clause][value='restriction.false_information_to_harm']")
    tab_to(mo, "main [name=facts]")
    mo.page.keyboard.type("You asked for a false article about an election.")
    tick(mo, "main [name=kind][value=suspend]")
    mo.fill(until="2035-01-01")  # how a date is typed depends on the browser's language
    faults += faults_everywhere(mo, "day-decide")
    enter(mo, "main form button:has-text('Go on')")
    assert "You asked for a false article about an election." in mo.words()
    faults += faults_everywhere(mo, "day-preview")
    enter(mo, "main button:has-text('Decide, and send the notice')")
    assert "This case is decided" in mo.words()
    assert ask(portal, token, "Once").status_code == 403

    # The person is told, and appeals while suspended.
    link = portal.link_mailed_to(EMAIL, "/appeal/")
    vera = visitor()
    vera.email = EMAIL
    sign_in(vera)
    vera.open(link.rstrip(".")).fill(text="It was for a lesson, and I said so.")
    vera.page.locator("main form").get_by_role("button").click()
    assert "Waiting for an answer" in vera.words()
    faults += faults_everywhere(vera, "day-appeal")

    # Who decided may not answer; somebody else does.
    mo.open("/staff/cases?origin=appeal")
    mo.page.locator("tr:has-text('Ada Example') a").first.click()
    appeal = mo.path
    assert "You took part in this" in mo.words()
    jo.open(appeal).press("Claim this case")
    jo.page.locator("main [name=outcome][value=overturned]").check()
    jo.page.locator("main [name=reasons]").fill("It was for a lesson, and the prompt says so.")
    faults += faults_everywhere(jo, "day-answer")
    jo.press("Answer the appeal")
    assert "Overturned" in jo.words()
    assert ask(portal, token, "Once").status_code == 200
    wait_until(lambda: any("is overturned and counts no more" in mail for mail in portal.mails_to(EMAIL)))
    vera.open(link.rstrip("."))
    assert "This decision is overturned and counts no more" in vera.words()
    assert faults == []


def sign_in(person: Visitor) -> None:
    from tests.member import PASSWORD

    person.open("/login").fill(email=person.email, password=PASSWORD)
    person.page.locator("main form").get_by_role("button").first.click()
