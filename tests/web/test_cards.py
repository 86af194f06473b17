"""Staff revise a model card: draft, preview with the difference, publish; readers see every revision."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from portal.accounts.rules import Role
from portal.catalog import service as catalog
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.licensing.models import Exhibit
from portal.licensing.rules import ExhibitKind
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


def test_a_card_is_rendered_compared_and_looked_at_again(editor: Client, app: Any) -> None:
    item = "- **limitation.facts** (safety; none): It makes up names."
    editor.submit(EDIT, text=f"{CARD}\n{item}\n", note="A limitation.")
    assert "It makes up names." in text_of(editor.get(PREVIEW))
    editor.submit(PREVIEW)
    french = "# Un modèle\n\n- **limitation.facts** (safety; none): Il invente des noms.\n"
    wrong = editor.submit(f"{EDIT}?lang=fr", text=french.replace("safety; none", "info"), note="En français.")
    assert wrong.status_code == 422
    assert "Line 3 of the card" in text_of(wrong)
    saved = editor.submit(f"{EDIT}?lang=fr", text=french, note="En français.")
    assert saved.headers["Location"].endswith(f"{PREVIEW}?lang=fr")
    assert editor.submit(f"{PREVIEW}?lang=fr").headers["Location"].endswith("/lab/writer/card/3")
    reader = Client(app)
    assert "Il invente des noms." in text_of(reader.get("/lab/writer?lang=fr"))
    assert "Il invente des noms." not in text_of(reader.get("/lab/writer?lang=xx"))
    page = reader.get("/lab/writer/card/3").get_data(as_text=True)
    assert '<article class="prose" lang="fr" dir="auto">' in page
    changed = reader.get("/lab/writer/card/1...2")
    assert "Limitation: facts" in text_of(changed)
    assert reader.get("/lab/writer/card/1...9").status_code == 404
    assert editor.get(f"{EDIT}?lang=x").status_code == 422
    review = "/staff/cards/lab/writer/review"
    assert editor.submit(review, note="", next_at="2000-01-01").status_code == 422
    assert editor.submit(review, note="Read it all.", next_at="2000-01-01").status_code == 422
    day = f"{utcnow() + timedelta(days=90):%Y-%m-%d}"
    assert editor.submit(review, note="Read it all.", next_at=day).status_code == 303
    assert "Read it all." in text_of(reader.get("/lab/writer/card/2"))


def test_a_card_that_nobody_looked_at_says_so(app: Any) -> None:
    with transaction(app.engine) as session:
        Make(session, utcnow() - timedelta(days=400)).model("lab/old")
    assert "may be out of date" in text_of(Client(app).get("/lab/old/card/1"))


def test_the_card_beside_which_a_license_is_signed_is_kept(editor: Client, app: Any) -> None:
    with transaction(app.engine) as session:
        make = Make(session, utcnow())
        make.release(make.model("lab/signed"))
        person = make.person("signs")
    reader = Client(app).sign_in(person)
    link = re.search(r'href="([^"]*/sign\?model=lab/signed)"', reader.get("/lab/signed").get_data(as_text=True))
    assert link is not None
    address = urlsplit(link[1]).path
    assert "revision 1 of its card" in text_of(reader.get(f"{address}?model=lab/signed"))
    with transaction(app.engine) as session:
        card = catalog.current_card(session, model=catalog.find_model(session, full_name="lab/signed"))
        assert card is not None
        shown = session.scalars(sa.select(Exhibit.sha256).where(Exhibit.kind == ExhibitKind.CARD_REVISION)).all()
        assert shown == [card.text_sha256]
    for other in ("lab/none", "", "x", "é/" * 500):
        assert reader.get(address, query_string={"model": other}).status_code == 200
