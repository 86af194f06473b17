"""Finding models, commits, files and changes for readers and clients."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from portal.adapters.hub import read_card
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.catalog.rules import MODEL, ModelAction
from portal.core.actor import ANONYMOUS, SYSTEM, Actor
from portal.core.errors import NotFound, Refused
from portal.downloads import service
from portal.files import service as files
from portal.files.rules import Entry
from portal.files.service import Store
from tests.factories import BASE, Make

WEIGHTS = {"a/b/w.safetensors": b"w" * 50, "a/c.txt": b"c", "config.json": b"{}"}


def metadata(text: str) -> dict[str, Any]:
    return read_card(text).metadata


def look(session: Session, now: datetime, name: str, revision: str = "main") -> service.Snapshot:
    return service.snapshot(session, actor=ANONYMOUS, name=name, revision=revision, now=now, base_url=BASE)


def test_a_model_is_found_at_its_newest_commit_with_the_release_of_it(
    session: Session, make: Make, now: datetime
) -> None:
    release = make.release(make.model("lab/one"))
    shot = look(session, now, "lab/one")
    assert shot.model.full_name == "lab/one"
    assert (shot.commit.revision, shot.release) == (release.revision, release)
    assert look(session, now, "lab/one", release.revision[:7]).commit is shot.commit


def test_a_commit_that_was_never_released_has_no_release(session: Session, make: Make, now: datetime) -> None:
    model = make.model("lab/one")
    make.commit(model)
    assert look(session, now, "lab/one").release is None


@pytest.mark.parametrize("name", ["lab/none", "lab", "", "noise/other", "lab/one/two"])
def test_a_missing_model_is_refused_as_not_there(session: Session, now: datetime, name: str) -> None:
    with pytest.raises(Refused) as caught:
        look(session, now, name)
    assert (caught.value.code, caught.value.status) == ("model_not_found", 404)


def test_a_draft_looks_missing_to_everybody(session: Session, make: Make, now: datetime) -> None:
    catalog.ensure_model(session, full_name="lab/draft", now=now)
    person = make.person()
    with pytest.raises(Refused, match="no such model"):
        service.visible(
            session, actor=Actor(user_id=person.id), name="lab/draft", now=now, base_url=BASE
        )  # fmt: skip


def test_a_missing_revision_is_told_from_a_model_without_weights(session: Session, make: Make, now: datetime) -> None:
    make.release(make.model("lab/one"))
    make.model("lab/card")
    with pytest.raises(NotFound, match="Invalid rev id: v9"):
        look(session, now, "lab/one", "v9")
    with pytest.raises(NotFound, match=f"how to mirror them: {BASE}/lab/card") as caught:
        look(session, now, "lab/card")
    assert caught.value.code == "model_without_weights"


def test_a_withdrawn_model_can_still_be_read_about(session: Session, make: Make, now: datetime) -> None:
    model = make.model("lab/one")
    make.release(model)
    model.state = MODEL.next(model.state, ModelAction.WITHDRAW)
    session.flush()
    shot = look(session, now, "lab/one")
    [said] = service.about(session, models=[shot.model], metadata=metadata)
    assert said.disabled


def test_a_file_is_located_before_anything_is_decided(session: Session, make: Make, now: datetime) -> None:
    release = make.release(make.model("lab/one"))

    def at(name: str, revision: str, path: str) -> tuple[str | None, str | None]:
        found = service.locate(session, name=name, revision=revision, path=path)
        return found.revision, found.entry.path if found.entry else None

    assert at("lab/one", "main", "config.json") == (release.revision, "config.json")
    assert at("lab/one", "main", "none.json") == (release.revision, None)
    assert at("lab/one", "v9", "config.json") == (None, None)
    assert at("lab/none", "main", "config.json") == (None, None)
    assert at("lab/one", "ma\0in", "x") == (None, None)
    assert at("lab/one", "main", "x\0") == (release.revision, None)


def test_folders_and_files_are_listed(session: Session, make: Make) -> None:
    commit = make.commit(make.model("lab/one"), WEIGHTS)

    def paths(path: str = "", **kept: Any) -> list[str]:
        return [entry.path for entry in service.folder(session, commit=commit, path=path, **kept)]

    assert paths() == ["a", "config.json"]
    assert paths("a") == ["a/b", "a/c.txt"]
    assert paths(recursive=True) == ["a", "a/b", "a/b/w.safetensors", "a/c.txt", "config.json"]
    for missing in ("config.json", "b", "a/c"):
        with pytest.raises(NotFound, match="no folder"):
            paths(missing)
    assert service.file(session, commit=commit, path="a/c.txt").size == 1
    with pytest.raises(NotFound, match="no file a"):
        service.file(session, commit=commit, path="a")
    picked = service.pick(session, commit=commit, paths=["/a/", "config.json", "none", ""])
    assert [entry.path for entry in picked] == ["a", "config.json"]


def test_each_file_and_folder_names_the_commit_that_last_changed_it(
    session: Session, make: Make, now: datetime
) -> None:
    model = make.model("lab/one")
    first = make.commit(model, WEIGHTS, "First")
    later = Make(session, now + timedelta(days=1), make.numbers)
    second = later.commit(model, {**WEIGHTS, "a/c.txt": b"changed"}, "Second")
    entries = service.folder(session, commit=second, path="", recursive=True)
    changes = service.last_changes(session, commit=second, entries=entries)
    assert {path: commit.title for path, commit in changes.items()} == {
        "a": "Second", "a/c.txt": "Second", "a/b": "First", "a/b/w.safetensors": "First", "config.json": "First",
    }  # fmt: skip
    assert service.last_changes(session, commit=first, entries=entries[-1:]) == {"config.json": first}


def test_models_are_described_from_their_cards_and_newest_commits(session: Session, make: Make, now: datetime) -> None:
    release = make.release(make.model("lab/one"))
    bare: GatedModel = make.model("lab/two")
    ghost = catalog.ensure_model(session, full_name="lab/ghost", now=now)
    one, two, three = service.about(session, models=[release.model, bare, ghost], metadata=metadata)
    assert (one.revision, one.gated, one.metadata["pipeline_tag"]) == (release.revision, True, "text-generation")
    assert [entry.path for entry in one.files] == ["README.md", "config.json", "model.safetensors"]
    assert (two.revision, two.gated, list(two.files)) == (None, False, [])
    assert three.metadata == {}


def test_a_description_can_be_of_an_older_commit(session: Session, make: Make, now: datetime) -> None:
    model = make.model("lab/one")
    first = make.commit(model, WEIGHTS)
    Make(session, now + timedelta(days=1), make.numbers).commit(model, {"config.json": b"{}"})
    [said] = service.about(session, models=[model], metadata=metadata, commits={model.id: first})
    assert (said.revision, len(said.files)) == (first.revision, 3)


def test_models_are_searched_by_namespace_and_words(session: Session, make: Make, now: datetime) -> None:
    for name in ("lab/bloom-tiny", "lab/other", "desk/bloom-tiny"):
        make.model(name)
    catalog.ensure_model(session, full_name="lab/bloom-draft", now=now)

    def names(**kept: str) -> list[str]:
        found = service.search(session, actor=ANONYMOUS, now=now, base_url=BASE, **kept)
        return [model.full_name for model in found]

    assert names(author="LAB") == ["lab/bloom-tiny", "lab/other"]
    assert names(words="Tiny bloom") == ["desk/bloom-tiny", "lab/bloom-tiny"]
    assert names(author="lab", words="bloom") == ["lab/bloom-tiny"]
    assert "noise/model" in names()
    assert names(author="nobody\0") == []


def test_releases_are_found_by_revision(session: Session, make: Make) -> None:
    release = make.release()
    found = service.releases(session, model=release.model, revisions=[release.revision, "0" * 40])
    assert found == {release.revision: release}


def safetensors(head: Any) -> bytes:
    body = json.dumps(head).encode() if not isinstance(head, bytes) else head
    return len(body).to_bytes(8, "little") + body


def test_parameters_are_counted_by_type_from_the_heads_of_the_files(tmp_path: Path) -> None:
    store = Store(tmp_path / "blobs")
    contents = {
        "one.safetensors": safetensors({"__metadata__": {}, "w": {"dtype": "BF16", "shape": [3, 4]}}),
        "two.safetensors": safetensors({"w": {"dtype": "BF16", "shape": []}, "v": {"dtype": "F32", "shape": [2]}}),
        "text.txt": b"no weights",
        "short.safetensors": b"abc",
        "list.safetensors": safetensors([1]),
        "lies.safetensors": (1 << 60).to_bytes(8, "little"),
        "odd.safetensors": safetensors({"w": {"dtype": "F32", "shape": ["x"]}}),
    }
    entries = [Entry("folder.safetensors", 0, "a" * 40), Entry("gone.safetensors", 1, "b" * 40, "c" * 64)]
    for name, body in contents.items():
        source = tmp_path / name
        source.write_bytes(body)
        digest, oid, size = store.put(source)
        entries.append(Entry(name, size, oid, digest))
    assert service.parameters(store, entries) == {"BF16": 13, "F32": 2}
    assert service.parameters(store, []) == {}


def test_the_history_of_a_model_is_not_mixed_with_that_of_others(session: Session, make: Make) -> None:
    commit = make.commit(make.model("lab/one"), WEIGHTS)
    assert files.history(session, commit=commit) == [commit]
    assert commit.author == SYSTEM.public_id
