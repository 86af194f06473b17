"""Staff revise a model card: draft, preview with the difference, publish; readers see every revision."""

from collections.abc import Iterator
from typing import Any

import pytest

from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from tests.factories import CARD, Make
from tests.site import Client, text_of

EDIT, PREVIEW = "/staff/cards/lab/writer/edit", "/staff/cards/lab/writer/preview"
NEW = CARD + "\nIt invents.\n"


@pytest.fixture
def editor(app: Any) -> Iterator[Client]:
    """A card editor, signed in, beside a published model."""
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.model("lab/writer")
        user = make.person("ed", Role.CARD_EDITOR)
    return Client(app).sign_in(user)


def test_a_revision_from_draft_to_published(editor: Client, app: Any) -> None:
    page = text_of(editor.get(EDIT))
    assert "It writes." in page
    saved = editor.submit(EDIT, text=NEW, note="It invents, too.")
    assert saved.status_code == 303
    assert saved.headers["Location"].endswith(PREVIEW)
    assert "It invents." not in text_of(Client(app).get("/lab/writer")), "a draft is not shown to readers"
    preview = editor.get(PREVIEW).get_data(as_text=True)
    assert "<ins>+ It invents.</ins>" in preview
    assert editor.submit(PREVIEW).status_code == 303
    reader = Client(app)
    assert "It invents." in text_of(reader.get("/lab/writer"))
    assert "It invents." not in text_of(reader.get("/lab/writer/card/1"))
    assert "It invents." in text_of(reader.get("/lab/writer/card/2"))
    assert reader.get("/lab/writer/card/3").status_code == 404
    assert editor.get(PREVIEW).status_code == 404


def test_what_was_not_previewed_is_not_published(editor: Client) -> None:
    editor.submit(EDIT, text=NEW, note="One.")
    page = editor.get(PREVIEW).get_data(as_text=True)
    editor.submit(EDIT, text=NEW + "\nAnd more.\n", note="Two.")
    stale = page.split('name="shown_sha256" value="', 1)[1].split('"', 1)[0]
    assert editor.submit(PREVIEW, shown_sha256=stale).status_code == 409


@pytest.mark.parametrize(
    ("text", "note", "field"),
    [
        ("", "Why.", "text"), ("---\nlicense: [\n---\n\n# Broken\n", "Why.", "text"), (NEW, " ", "note"),
        ("x" * 400_001, "Why.", "text"), (NEW, "y" * 301, "note"),
    ],
)  # fmt: skip
def test_bad_cards_are_answered_with_the_field_named(editor: Client, text: str, note: str, field: str) -> None:
    answer = editor.submit(EDIT, text=text, note=note)
    assert answer.status_code == 422
    page = answer.get_data(as_text=True)
    assert f'id="{field}-error"' in page
    assert 'name="note"' in page


def test_a_card_as_a_document(editor: Client, app: Any) -> None:
    answer = Client(app).get("/lab/writer/card/1.pdf")
    assert answer.status_code == 200
    assert answer.mimetype == "application/pdf"
    assert answer.data.startswith(b"%PDF-")


def test_the_list_shows_drafts_to_editors(editor: Client) -> None:
    assert "none" in text_of(editor.get("/staff/cards"))
    editor.submit(EDIT, text=NEW, note="One.")
    assert "revision 2" in text_of(editor.get("/staff/cards"))
    assert editor.get("/staff/cards/lab/nothing/edit").status_code == 404
