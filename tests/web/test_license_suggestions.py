"""What the words of a draft suggest stands on its page in the console, for the editor to decide."""

import re
from html import unescape
from typing import Any

import pytest

from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from tests import conduct, licensed
from tests.site import Client, text_of

DESK = "/staff/licenses/bloom-rail"


@pytest.fixture
def desk(app: Any, client: Client) -> Client:
    """An editor's browser; the license is published."""
    now = utcnow()
    with transaction(app.engine) as session:
        licensed.publish(session, now)
        editor = conduct.person(session, "ed", now, Role.LICENSE_EDITOR)
    return client.sign_in(editor)


def test_the_page_of_a_draft_says_what_its_words_suggest(desk: Client) -> None:
    page = desk.get(f"{DESK}/draft").get_data(as_text=True)
    csrf = unescape(re.findall(r'name="csrf_token" value="([^"]*)"', page)[0])
    assert desk.post(f"{DESK}/draft", data={"number": "1.2.0", "csrf_token": csrf}).status_code == 303
    assert "What the words suggest" not in text_of(desk.get(f"{DESK}/1.2.0"))
    page = desk.get(f"{DESK}/1.2.0/text?lang=en").get_data(as_text=True)
    text = unescape(re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)[0])
    text = text.replace("{#duty.mark_changes}", "{#duty.mark_files}").replace("“License” means", "“License”, means")
    data = {"text": text, "csrf_token": csrf}
    assert desk.post(f"{DESK}/1.2.0/text?lang=en", data=data).status_code == 303
    shown = text_of(desk.get(f"{DESK}/1.2.0?lang=en"))
    assert "What the words suggest" in shown
    assert re.search(
        r"duty\.mark_changes.*duty\.mark_files\s+renamed\s+Same\s+100 %\s+Nearly the words of", shown, re.DOTALL
    )
    assert re.search(r"definition\.license\s+typographical\s+Reworded", shown)
    assert "What the words suggest" not in text_of(desk.get(f"{DESK}/1.2.0?lang=zh"))
    assert "What the words suggest" not in text_of(desk.get(f"{DESK}/1.1.0?lang=en"))


@pytest.mark.parametrize("letter", ["\u202e", "\u200b", "\u200f", "\u2066"])
def test_a_draft_takes_no_character_that_no_reader_sees(desk: Client, letter: str) -> None:
    page = desk.get(f"{DESK}/draft").get_data(as_text=True)
    csrf = unescape(re.findall(r'name="csrf_token" value="([^"]*)"', page)[0])
    desk.post(f"{DESK}/draft", data={"number": "1.2.0", "csrf_token": csrf})
    text = f"### 1 A {{#a.b}}\n\nWords{letter}.\n"
    answer = desk.post(f"{DESK}/1.2.0/text?lang=en", data={"text": text, "csrf_token": csrf})
    assert answer.status_code == 422
    assert f"Line 3 holds U+{ord(letter):04X}" in text_of(answer)
