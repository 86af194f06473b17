"""Models, releases and the life of cards, on both databases."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit.models import AuditEvent
from portal.catalog import service
from portal.catalog.rules import CardState, ModelState, RepoKind
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, Invalid, NotFound
from tests.factories import CARD, Make

ED = Actor(user_id=None, public_id="usr_editor")


def happened(session: Session, subject: str) -> list[str]:
    query = sa.select(AuditEvent.name).where(AuditEvent.subject == subject).order_by(AuditEvent.id)
    return list(session.scalars(query))


def test_a_model_is_made_as_a_draft_that_only_staff_can_find(session: Session, now: datetime) -> None:
    model = service.ensure_model(session, full_name="lab/hidden", now=now)
    assert service.ensure_model(session, full_name="lab/hidden", now=now) is model
    assert model.state is ModelState.DRAFT
    assert model.full_name == "lab/hidden"
    with pytest.raises(NotFound):
        service.find_model(session, full_name="lab/hidden")
    assert service.find_any_model(session, full_name="lab/hidden") is model
    service.publish_model(model)
    service.publish_model(model)
    assert service.find_model(session, full_name="lab/hidden") is model
    assert model.state is ModelState.PUBLISHED


@pytest.mark.parametrize("name", ["lab/none", "lab", "", "/", "lab/none/x"])
def test_a_model_that_is_not_there_is_not_found(session: Session, name: str) -> None:
    for find in (service.find_model, service.find_any_model):
        with pytest.raises(NotFound):
            find(session, full_name=name)


def test_a_bad_name_makes_no_model(session: Session, now: datetime) -> None:
    with pytest.raises(Invalid):
        service.ensure_model(session, full_name="settings/x", now=now)


def test_a_card_goes_from_draft_over_preview_to_publication(session: Session, make: Make, now: datetime) -> None:
    model = make.model()
    first = service.current_card(session, model=model)
    assert first is not None
    draft = service.save_draft(session, model=model, text="# New\r\nwords", note="Why", by=ED, now=now)
    assert (draft.number, draft.state, draft.created_by) == (2, CardState.DRAFT, "usr_editor")
    assert service.card_text(session, revision=draft) == "# New\nwords"
    again = service.save_draft(session, model=model, text="# Newer", note="Why else", by=ED, now=now)
    assert again is draft
    assert service.draft_of(session, model=model) is draft
    assert service.current_card(session, model=model) is first
    later = now + timedelta(days=1)
    done = service.publish_card(session, model=model, shown_sha256=draft.text_sha256, by=ED, now=later)
    assert done is draft
    assert (done.state, done.published_at, done.note) == (CardState.PUBLISHED, later, "Why else")
    assert first.state is CardState.SUPERSEDED
    assert service.current_card(session, model=model) is done
    assert service.draft_of(session, model=model) is None
    assert happened(session, model.public_id) == [
        "model:card:drafted", "model:card:published", "model:card:drafted", "model:card:published",
    ]  # fmt: skip
    third = service.save_draft(session, model=model, text="x", note="", by=ED, now=now)
    assert third.number == 3
    assert [card.number for card in service.cards_of(session, model=model)] == [3, 2, 1]


def test_only_what_was_previewed_is_published(session: Session, make: Make, now: datetime) -> None:
    model = make.model()
    with pytest.raises(Conflict) as caught:
        service.publish_card(session, model=model, shown_sha256="0" * 64, by=ED, now=now)
    assert caught.value.code == "draft_missing"
    shown = service.save_draft(session, model=model, text="shown", note="", by=ED, now=now).text_sha256
    service.save_draft(session, model=model, text="changed", note="", by=ED, now=now)
    with pytest.raises(Conflict) as caught:
        service.publish_card(session, model=model, shown_sha256=shown, by=ED, now=now)
    assert caught.value.code == "draft_changed"


@pytest.mark.parametrize("text", ["", "  \n", "x" * 400_001])
def test_a_card_is_neither_empty_nor_endless(session: Session, make: Make, now: datetime, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        service.save_draft(session, model=make.model(), text=text, note="", by=ED, now=now)
    assert caught.value.field == "text"


def test_published_revisions_stay_readable_and_drafts_do_not_show(session: Session, make: Make, now: datetime) -> None:
    model = make.model()
    draft = service.save_draft(session, model=model, text="# Two", note="", by=ED, now=now)
    with pytest.raises(NotFound):
        service.find_card(session, model=model, number=2)
    service.publish_card(session, model=model, shown_sha256=draft.text_sha256, by=ED, now=now)
    assert service.find_card(session, model=model, number=2).text == "# Two"
    assert service.find_card(session, model=model, number=1).text == CARD
    assert service.find_card(session, model=model, number=1).revision.state is CardState.SUPERSEDED
    for number in (0, 3, 10**6):
        with pytest.raises(NotFound):
            service.find_card(session, model=model, number=number)


def test_the_card_folder_fills_only_gaps(session: Session, make: Make, now: datetime) -> None:
    assert service.sync_card(session, full_name="lab/synced", text="# One", by=SYSTEM, now=now)
    assert not service.sync_card(session, full_name="lab/synced", text="# Two", by=SYSTEM, now=now)
    model = service.find_model(session, full_name="lab/synced")
    assert service.find_card(session, model=model, number=1).text == "# One"
    assert len(service.cards_of(session, model=model)) == 1


def test_a_release_pins_card_and_license_for_ever(session: Session, make: Make, now: datetime) -> None:
    model = make.model()
    card = service.current_card(session, model=model)
    assert card is not None
    release = make.release(model, number="1.0.0")
    assert (release.card_revision_id, release.license_number) == (card.id, "1.0.0")
    draft = service.save_draft(session, model=model, text="# New", note="", by=ED, now=now)
    service.publish_card(session, model=model, shown_sha256=draft.text_sha256, by=ED, now=now)
    again = make.release(model, number="2.0.0")
    assert again is release
    assert (again.card_revision_id, again.license_number) == (card.id, "1.0.0")
    assert happened(session, model.public_id).count("model:commit:published") == 1


def test_a_release_stays_under_its_license(session: Session, make: Make, now: datetime) -> None:
    release = make.release()
    with pytest.raises(Conflict) as caught:
        service.release(
            session, model=release.model, revision=release.revision, license_slug="another", license_number="1.0.0",
            by=SYSTEM, now=now,
        )  # fmt: skip
    assert caught.value.code == "release_licensed"


def test_nothing_is_released_without_a_card(session: Session, now: datetime) -> None:
    model = service.ensure_model(session, full_name="lab/bare", now=now)
    with pytest.raises(Conflict) as caught:
        service.release(
            session, model=model, revision="a" * 40, license_slug="x", license_number="1", by=SYSTEM, now=now
        )
    assert caught.value.code == "card_missing"
    assert model.state is ModelState.DRAFT


def test_staff_see_all_models_with_card_and_draft(session: Session, make: Make, now: datetime) -> None:
    bare = service.ensure_model(session, full_name="lab/a-bare", now=now)
    model = make.model("lab/b-carded")
    draft = service.save_draft(session, model=model, text="x", note="", by=ED, now=now)
    rows = [row for row in service.all_models(session) if row[0].namespace == "lab"]
    assert rows == [(bare, None, None), (model, service.current_card(session, model=model), draft)]


def test_a_model_and_a_dataset_may_share_a_name(session: Session, make: Make, now: datetime) -> None:
    model, dataset = make.model("lab/same"), make.model("datasets/lab/same")
    assert (model.full_name, dataset.full_name) == ("lab/same", "datasets/lab/same")
    assert model.hub_id == dataset.hub_id == "lab/same"
    assert (model.kind, dataset.kind) == (RepoKind.MODEL, RepoKind.DATASET)
    assert service.find_model(session, full_name="datasets/lab/same") is dataset
    assert service.called(session, full_name="lab/sa\0me") is service.once_called(session, full_name="\0/x") is None
    release = make.release(dataset)
    assert "datasets/lab/same" in service.asking_for(session, slug=release.license_slug, number="2.0.0")


def test_a_renamed_model_keeps_all_its_names(session: Session, make: Make, now: datetime) -> None:
    model, other = make.model("lab/one"), make.model("lab/other")
    service.rename(session, model=model, to="lab/one", by=ED, now=now)
    assert happened(session, model.public_id)[-1] != "model:name:changed", "nothing was changed"
    service.rename(session, model=model, to="lab/two", by=ED, now=now)
    service.rename(session, model=model, to="desk/three", by=ED, now=now)
    assert happened(session, model.public_id)[-2:] == ["model:name:changed"] * 2
    for name in ("lab/one", "lab/two"):
        assert service.once_called(session, full_name=name) is model
        assert service.called(session, full_name=name) is None
        with pytest.raises(Conflict, match="now or before"):
            service.ensure_model(session, full_name=name, now=now)
    assert service.called(session, full_name="desk/three") is model
    assert service.once_called(session, full_name="datasets/lab/one") is None
    for to in ("lab/other", "lab/one"):
        with pytest.raises(Conflict):
            service.rename(session, model=model, to=to, by=ED, now=now)
    with pytest.raises(Conflict):
        service.rename(session, model=other, to="lab/two", by=ED, now=now)
    for to in ("datasets/lab/two", "lab", "api/x"):
        with pytest.raises(Invalid):
            service.rename(session, model=model, to=to, by=ED, now=now)


def test_a_draft_is_not_found_by_a_name_that_it_had(session: Session, now: datetime) -> None:
    model = service.ensure_model(session, full_name="lab/draft", now=now)
    service.rename(session, model=model, to="lab/later", by=ED, now=now)
    assert service.once_called(session, full_name="lab/draft") is None
    service.publish_model(model)
    assert service.once_called(session, full_name="lab/draft") is model


def test_cards_of_many_models_come_in_one_question(session: Session, make: Make, now: datetime) -> None:
    model, other = make.model("lab/one"), make.model("lab/other")
    bare = service.ensure_model(session, full_name="lab/bare", now=now)
    assert service.card_texts(session, models=[model, other, bare]) == {model.id: CARD, other.id: CARD}
