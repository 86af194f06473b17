"""Staff at the console: two editors who publish the next version of the license."""

from collections.abc import Callable

from tests.browser.pages import Visitor
from tests.running import RunningPortal

LICENSE = "bloom-rail"


def staff(enter: Callable[[], Visitor], portal: RunningPortal, email: str, role: str) -> Visitor:
    """A member of staff, signed in by a one-time link."""
    link = portal.cli("staff", "add", email, "--role", role, "--name", email.split("@", 1)[0]).strip()
    person = enter().open(link)
    person.page.locator("main form").get_by_role("button").click()
    person.email = email
    return person


def write(editor: Visitor, number: str) -> None:
    """Draft a version in which the clause on malware reaches further, in every language."""
    editor.open(f"/staff/licenses/{LICENSE}/draft").fill(number=number)
    editor.page.locator("main form").get_by_role("button").click()
    address = f"/staff/licenses/{LICENSE}/{number}"
    for language in ("en", "es", "fr", "zh"):
        editor.open(f"{address}/clauses/restriction.malware?lang={language}")
        area = editor.page.locator("main textarea[name=body]")
        area.fill(f"({number})\n\n{area.input_value()}")
        editor.press("See the difference")
        assert f"({number})" in editor.words()
        editor.press("Save it")
    editor.open(f"{address}/description")
    for area in editor.page.locator("main textarea").all():
        area.fill(f"Malware is described more closely in {number}.")
    editor.page.locator("main select[name='relation-restriction.malware']").select_option("widened")
    editor.page.locator("main input[name=materiality][value=material_immediate]").check()
    editor.page.locator("main form").get_by_role("button").first.click()


def publish_next_version(editor: Visitor, second: Visitor, number: str) -> None:
    """Write, review, approve and put in force a version that all signers must sign before they go on."""
    write(editor, number)
    address = f"/staff/licenses/{LICENSE}/{number}"
    editor.open(address)
    assert "Malware is described more closely" in editor.words()
    editor.follow("Submit for review").press("Submit it")
    second.open(address).follow("Approve").press("Approve it")
    editor.open(f"{address}/publish-now").fill(reason="Malware spreads right now.").press("Propose it")
    second.open("/staff/proposals").follow("Look at it").follow("Put in force now")
    second.press("Confirm, and put it in force now")
    assert second.path == address
    assert "In force" in second.words()
