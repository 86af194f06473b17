"""The card editors' desk: items as records, renditions, reviews, and cards from elsewhere, on both databases."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters import hub, markup
from portal.adapters.plots import draw
from portal.audit.models import AuditEvent
from portal.cards import service
from portal.catalog import service as catalog
from portal.catalog.models import CardItem, CardRevision, GatedModel
from portal.catalog.rules import CardState
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, Invalid, NotFound
from portal.items.rules import parse
from tests.factories import Make
from tests.running import ROOT

WILD = sorted((ROOT / "tests/corpus/cards").glob("*.md"))
BROKEN = sorted((ROOT / "tests/corpus/cards/broken").glob("*.md"))
SAID = """# A model

- **limitation.facts** (safety; `restriction.harm`; `intended_use.research`): It makes up names.
- **risk.bias** (caution): It repeats prejudice.
- **intended_use.research**: Finding out.
"""


@pytest.fixture
def model(make: Make) -> GatedModel:
    make.license()
    return make.model("lab/said")


def published(session: Session, model: GatedModel, text: str, now: datetime, language: str = "en") -> CardRevision:
    draft = catalog.save_draft(session, model=model, text=text, note="n", by=SYSTEM, now=now, language=language)
    return service.publish(
        session, model=model, shown_sha256=draft.text_sha256, by=SYSTEM, now=now, language=language
    )  # fmt: skip


def test_records_say_what_the_text_says(session: Session, model: GatedModel, now: datetime) -> None:
    text = SAID
    draft = catalog.save_draft(session, model=model, text=text, note="n", by=SYSTEM, now=now)
    assert catalog.items_of(session, revision=draft) == []
    done = service.publish(session, model=model, shown_sha256=draft.text_sha256, by=SYSTEM, now=now)
    assert catalog.items_of(session, revision=done) == list(parse(text))
    newer = published(session, model, text.replace("names", "dates"), now)
    assert catalog.items_of(session, revision=done) == list(parse(text))
    assert catalog.items_of(session, revision=newer)[0].wording == "It makes up dates."


def test_every_card_of_the_folder_has_records_that_agree(session: Session, editors: object, now: datetime) -> None:
    grave = 0
    for path in sorted((ROOT / "model_cards").glob("*/*.md")):
        text = path.read_text(encoding="utf-8")
        catalog.sync_card(session, full_name=f"{path.parent.name}/{path.stem}", text=text, by=SYSTEM, now=now)
        model = catalog.find_model(session, full_name=f"{path.parent.name}/{path.stem}")
        card = catalog.current_card(session, model=model)
        assert card is not None
        found = catalog.items_of(session, revision=card)
        assert found == list(parse(text))
        grave += sum(item.severity.value == "safety" for item in found)
    assert grave > 10
    places = service.places(session)
    assert places["restriction.medical_advice"] == "/licenses/bloom-rail/1.1.0#restriction.medical_advice"


def test_a_wrong_item_is_refused_and_nothing_kept(session: Session, model: GatedModel, now: datetime) -> None:
    for text in (SAID.replace("restriction.harm", "restriction.other"), "- **risk.x** (safety): y", "# A\0"):
        with pytest.raises(Invalid) as caught:
            catalog.save_draft(session, model=model, text=text, note="n", by=SYSTEM, now=now)
        assert caught.value.field == "text"
    assert catalog.draft_of(session, model=model) is None


def test_a_card_in_another_language_renders_the_published_one(
    session: Session, model: GatedModel, now: datetime
) -> None:
    text = SAID
    first = published(session, model, text, now)
    with pytest.raises(Invalid, match="lacks"):
        catalog.save_draft(session, model=model, text="# Un modèle", note="n", by=SYSTEM, now=now, language="fr")
    french = published(session, model, text.replace("It makes up names.", "Il invente des noms."), now, "fr")
    assert (french.number, french.language, french.translates) == (first.number + 1, "fr", first)
    assert catalog.current_card(session, model=model) is first
    assert catalog.current_card(session, model=model, language="fr") is french
    second = published(session, model, text + "\nMore.\n", now)
    assert (first.state, french.state) == (CardState.SUPERSEDED, CardState.PUBLISHED)
    assert service.before(session, revision=second) is first
    newer = published(session, model, text.replace("names", "noms"), now, "fr")
    assert (newer.translates, french.state) == (second, CardState.SUPERSEDED)
    assert [row.number for row in catalog.cards_of(session, model=model)] == [5, 4, 3, 2, 1]
    for language in ("French", "", "f", "fr_FR", "fr\0"):
        with pytest.raises(Invalid) as caught:
            catalog.save_draft(session, model=model, text=text, note="n", by=SYSTEM, now=now, language=language)
        assert caught.value.field == "language"
    bare = catalog.ensure_model(session, full_name="lab/bare", now=now)
    with pytest.raises(Conflict, match="no published card"):
        catalog.save_draft(session, model=bare, text="# x", note="n", by=SYSTEM, now=now, language="fr")


def test_two_revisions_are_compared_thing_by_thing(session: Session, model: GatedModel, now: datetime) -> None:
    text = SAID
    first = published(session, model, text, now)
    second = published(session, model, text.replace("names", "dates"), now)
    found = service.between(session, model=model, old=first.number, new=second.number)
    assert [(one.key, one.kind) for one in found.items] == [("limitation.facts", "changed")]
    assert [kind for kind, _ in found.lines].count("added") == 1
    assert service.before(session, revision=second) is first
    with pytest.raises(NotFound):
        service.between(session, model=model, old=first.number, new=99)


def test_a_card_is_looked_at_again_in_time(session: Session, model: GatedModel, now: datetime) -> None:
    card = catalog.current_card(session, model=model)
    assert card is not None
    assert service.due(session, revisions=[card]) == {card.id: now + timedelta(days=365)}
    later = now + timedelta(days=300)
    row = service.review(
        session, revision=card, note=" Still  true ", next_at=later + timedelta(days=30), by=SYSTEM, now=later
    )
    assert row.note == "Still true"
    assert service.due(session, revisions=[card]) == {card.id: later + timedelta(days=30)}
    assert list(service.reviews_of(session, revision=card)) == [row]
    names = list(session.scalars(sa.select(AuditEvent.name).where(AuditEvent.subject == model.public_id)))
    assert names[-1] == "model:card:reviewed"
    for days, note in ((0, "x"), (-1, "x"), (1100, "x"), (1, ""), (1, "x" * 501), (1, "a\0")):
        with pytest.raises(Invalid):
            service.review(
                session, revision=card, note=note, next_at=later + timedelta(days=days), by=SYSTEM, now=later
            )
    published(session, model, "# New", now)
    assert service.due(session, revisions=[card]) == {}
    with pytest.raises(Conflict):
        service.review(session, revision=card, note="x", next_at=later + timedelta(days=1), by=SYSTEM, now=later)


@pytest.mark.parametrize("path", WILD, ids=lambda path: path.stem)
def test_cards_from_the_wild_are_taken_in_and_shown(session: Session, path: Path, now: datetime) -> None:
    draft = service.take_in(
        session, full_name=f"wild/{path.stem}", body=path.read_bytes(), note="n", by=SYSTEM,
        now=now,
    )  # fmt: skip
    done = service.publish(session, model=draft.model, shown_sha256=draft.text_sha256, by=SYSTEM, now=now)
    text = catalog.card_text(session, revision=done)
    html = markup.card(hub.read_card(text).body)
    assert "<img" not in html
    assert "TRACKER/back" not in html
    title = next(line for line in text.splitlines() if line.startswith("# ")).removeprefix("# ")
    assert title.split()[0].strip("🌸").split("&")[0] in html
    assert not text.startswith("\ufeff")
    assert catalog.items_of(session, revision=done) == list(parse(text))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("quotes", "line 4: "), ("tabs", "line 4: "), ("colons", "line 3: "), ("item", "Line 7 of the card: "),
        ("endless", "no later line of --- ends it"),
    ],
)  # fmt: skip
def test_a_broken_card_names_its_line_and_changes_nothing(
    session: Session, name: str, complaint: str, now: datetime
) -> None:
    body = (ROOT / f"tests/corpus/cards/broken/{name}.md").read_bytes()
    with pytest.raises(Invalid) as caught, session.begin_nested():
        service.take_in(session, full_name="wild/broken", body=body, note="n", by=SYSTEM, now=now)
    assert complaint in caught.value.message
    assert catalog.called(session, full_name="wild/broken") is None


def test_every_broken_card_has_its_case() -> None:
    assert {path.stem for path in BROKEN} == {"quotes", "tabs", "colons", "item", "endless"}


def test_a_card_that_is_no_text_is_refused_with_its_line(session: Session, now: datetime) -> None:
    with pytest.raises(Invalid, match="Line 2 of the card is not UTF-8"):
        service.take_in(session, full_name="wild/x", body=b"# ok\n\xff\n", note="n", by=SYSTEM, now=now)


def test_a_large_card_is_taken_in(session: Session, now: datetime) -> None:
    text = "# Large\n\n" + "".join(f"- **risk.r{n}**: It is long. {'word ' * 80}\n" for n in range(450))
    assert len(text) > 190_000
    draft = service.take_in(session, full_name="wild/large", body=text.encode(), note="n", by=SYSTEM, now=now)
    service.publish(session, model=draft.model, shown_sha256=draft.text_sha256, by=SYSTEM, now=now)
    assert session.scalar(sa.select(sa.func.count()).select_from(CardItem)) == 450


HARNESS = {
    "results": {f"set_{n}": {"acc,none": n / 10, "acc_stderr,none": 0.05} for n in range(3)},
    "lm_eval_version": "0.4.13",
}


def test_results_of_a_harness_become_a_draft_and_are_drawn_once_published(
    session: Session, model: GatedModel, now: datetime
) -> None:
    said = json.dumps(HARNESS).encode()
    draft = service.add_results(session, full_name="lab/said", said=said, note="n", by=SYSTEM, now=now)
    text = catalog.card_text(session, revision=draft)
    assert "value: 0.2" in text
    assert service.plots_of(session, revision=draft) == []
    again = service.add_results(session, full_name="lab/said", said=said, note="n", by=SYSTEM, now=now)
    assert (again, catalog.card_text(session, revision=again)) == (draft, text)
    done = service.publish(session, model=model, shown_sha256=draft.text_sha256, by=SYSTEM, now=now)
    [plot] = service.plots_of(session, revision=done)
    root = ET.fromstring(plot.svg.replace("xlink:href", "href"))
    assert root.get("role") == "img"
    assert root.get("aria-label", "").startswith("3 figures of acc, from 0 (set_0) to 0.2 (set_2).")
    for unwanted in ("style=", "<style", "http", "#040506", "url("):
        assert unwanted not in plot.svg
    for wrong in (b"", b"{", b"[" * 100_000, b"{}", b"\xff"):
        with pytest.raises(Invalid):
            service.add_results(session, full_name="lab/said", said=wrong, note="n", by=SYSTEM, now=now)
    catalog.ensure_model(session, full_name="lab/bare", now=now)
    with pytest.raises(Conflict):
        service.add_results(session, full_name="lab/bare", said=said, note="n", by=SYSTEM, now=now)


def test_letters_of_labels_are_letters_in_a_drawing() -> None:
    odd = '<b>&"$x_1$ 中文 العربية'
    svg = draw([(odd, 0.5, None, True), ("b", 0.7, (0.6, 0.8), False)], axis="a<b", alt='q"<', name="plot0")
    root = ET.fromstring(svg.replace("xlink:href", "href"))
    assert odd in [text.text for text in root.iter("text")]
    assert root.get("aria-label") == 'q"<'
    assert {part.get("class") for part in root.iter("path")} >= {"series"}
    ids = [part.get("id") for part in root.iter() if part.get("id")]
    assert len(ids) == len(set(ids))
    assert all(name.startswith("plot0-") for name in ids if name)
