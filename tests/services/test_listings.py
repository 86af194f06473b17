"""Finding models and datasets for programs, on both databases."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from portal.adapters.hub import read_card
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.catalog.rules import MODEL, ModelAction, RepoKind
from portal.core.actor import ANONYMOUS
from portal.listings import service
from portal.listings.rules import Wanted
from tests.factories import BASE, Make

WEIGHTS = {"a/b/w.safetensors": b"w" * 50, "a/c.txt": b"c", "config.json": b"{}"}


def metadata(text: str) -> dict[str, Any]:
    return read_card(text).metadata


def test_a_withdrawn_model_is_said_to_be_switched_off(session: Session, make: Make) -> None:
    model = make.release(make.model("lab/one")).model
    model.state = MODEL.next(model.state, ModelAction.WITHDRAW)
    session.flush()
    [said] = service.about(session, models=[model], metadata=metadata)
    assert said.disabled
    assert said.files is None


def test_models_are_described_from_their_cards_and_newest_commits(session: Session, make: Make, now: datetime) -> None:
    release = make.release(make.model("lab/one"))
    bare: GatedModel = make.model("lab/two")
    ghost = catalog.ensure_model(session, full_name="lab/ghost", now=now)
    one, two, three = service.about(session, models=[release.model, bare, ghost], metadata=metadata, contents=True)
    assert (one.revision, one.gated, one.metadata["pipeline_tag"]) == (release.revision, "auto", "text-generation")
    assert [entry.path for entry in one.files or ()] == ["README.md", "config.json", "model.safetensors"]
    assert (two.revision, two.gated, list(two.files or ())) == (None, "", [])
    assert three.metadata == {}


def test_a_description_can_be_of_an_older_commit(session: Session, make: Make, now: datetime) -> None:
    model = make.model("lab/one")
    first = make.commit(model, WEIGHTS)
    Make(session, now + timedelta(days=1), make.numbers).commit(model, {"config.json": b"{}"})
    [said] = service.about(session, models=[model], metadata=metadata, commits={model.id: first}, contents=True)
    assert (said.revision, len(said.files or ()), said.size) == (first.revision, 3, 53)


def test_models_are_searched_by_namespace_and_words(session: Session, make: Make, now: datetime) -> None:
    for name in ("lab/bloom-tiny", "lab/other", "desk/bloom-tiny"):
        make.model(name)
    catalog.ensure_model(session, full_name="lab/bloom-draft", now=now)

    make.model("datasets/lab/bloom-texts")

    def names(kind: RepoKind = RepoKind.MODEL, **kept: Any) -> list[str]:
        found = service.search(
            session, actor=ANONYMOUS, kind=kind, wanted=Wanted(**kept), metadata=metadata, now=now, base_url=BASE
        )
        return [about.hub_id for about in found]

    assert names(author="LAB") == ["lab/bloom-tiny", "lab/other"]
    assert names(words=("Tiny", "bloom")) == ["desk/bloom-tiny", "lab/bloom-tiny"]
    assert names(author="lab", words=("bloom",)) == ["lab/bloom-tiny"]
    assert "noise/model" in names()
    assert names(author="nobody\0") == []
    assert names(RepoKind.DATASET) == ["lab/bloom-texts"]
