"""Staff at the console: two editors who publish the next version of the license."""

from collections.abc import Callable
from datetime import timedelta

from portal.core.clock import utcnow
from tests.browser.pages import Visitor
from tests.running import RunningPortal

LICENSE = "bloom-rail"
Look = Callable[[Visitor, str], object]


def staff(enter: Callable[[], Visitor], portal: RunningPortal, email: str, role: str) -> Visitor:
    """A member of staff, signed in by a one-time link."""
    link = portal.cli("staff", "add", email, "--role", role, "--name", email.split("@", 1)[0]).strip()
    person = enter().open(link)
    person.page.locator("main form").get_by_role("button").click()
    person.email = email
    return person


def write(editor: Visitor, number: str, look: Look) -> None:
    """Draft a version in which the clause on malware reaches further, in every language."""
    editor.open(f"/staff/licenses/{LICENSE}/draft").fill(number=number)
    look(editor, "desk-draft")
    editor.page.locator("main form").get_by_role("button").click()
    address = f"/staff/licenses/{LICENSE}/{number}"
    for language in ("en", "es", "fr", "zh"):
        editor.open(f"{address}/clauses/restriction.malware?lang={language}")
        area = editor.page.locator("main textarea[name=body]")
        area.fill(f"({number})\n\n{area.input_value()}")
        editor.press("See the difference")
        assert f"({number})" in editor.words()
        if language == "zh":
            look(editor, "desk-clause")
        editor.press("Save it")
    look(editor, "desk-clauses")
    look(editor.open(f"{address}/text?lang=zh"), "desk-text")
    look(editor.open(address), "desk-unfinished")
    editor.open(f"{address}/description")
    look(editor, "desk-description")
    for area in editor.page.locator("main textarea:visible").all():
        area.fill(f"Malware is described more closely in {number}.")
    editor.page.locator("main select[name='relation-restriction.malware']").select_option("widened")
    editor.page.locator("main input[name=materiality][value=material_immediate]").check()
    editor.page.locator("main form").get_by_role("button").first.click()


def vote(editor: Visitor, number: str, look: Look) -> None:
    """Record that the licensor's body stands behind the version in review."""
    editor.open(f"/staff/licenses/{LICENSE}/{number}").follow("Record the vote")
    day = (utcnow() - timedelta(days=1)).date().isoformat()
    editor.fill(body="Steering committee", decided_at=day, votes_for="9", votes_against="1", votes_abstain="2")
    editor.fill(minutes_sha256="a" * 64)
    look(editor, "desk-resolution")
    editor.press("Record it")


def publish_next_version(editor: Visitor, second: Visitor, number: str, look: Look = lambda *_: None) -> None:
    """Write, review, vote on, approve and put in force a version that all signers sign before they go on.

    Args:
        look: is shown each page on the way.
    """
    write(editor, number, look)
    address = f"/staff/licenses/{LICENSE}/{number}"
    editor.open(address)
    assert "Malware is described more closely" in editor.words()
    look(editor, "desk-version")
    look(editor.follow("Submit for review"), "desk-submit")
    editor.press("Submit it")
    look(second.open(f"{address}/approve"), "desk-approve-unvoted")
    look(second.open(f"{address}/return"), "desk-return")
    vote(editor, number, look)
    second.open(f"{address}?lang=zh")
    second.page.locator("#words").fill("The Chinese words of this clause are good.\n\nRead by two.")
    look(second.press("Add the remark"), "desk-in-review")
    look(second.open(address).follow("Approve"), "desk-approve")
    second.press("Approve it")
    look(second.open(f"{address}/retire"), "desk-retire")
    editor.open(f"{address}/publish-now").fill(reason="Malware spreads right now.")
    look(editor, "desk-now")
    look(editor.press("Propose it"), "desk-waits")
    look(second.open("/staff/proposals"), "desk-proposals")
    second.follow("Look at it").follow("Put in force now")
    look(second, "desk-now-second")
    second.press("Confirm, and put it in force now")
    assert second.path == address
    assert "In force" in second.words()


def look_again(third: Visitor, number: str, look: Look) -> None:
    """Take the second look, as somebody who had no hand in it, at a version that came into force at once."""
    look(third.open("/staff/licenses/reviews"), "desk-second-looks")
    third.follow("Look at it")
    look(third, "desk-second-look")
    third.page.locator("main input[name=finding][value=stands]").check()
    third.fill(words="I compared it with the version before.").press("Record what I found")
    assert "It stands as it is" in third.words()
    look(third, "desk-second-look-done")
