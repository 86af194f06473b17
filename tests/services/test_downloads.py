"""Finding models, commits, files and changes for readers and clients."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from portal.catalog import service as catalog
from portal.catalog.rules import MODEL, ModelAction
from portal.core.actor import ANONYMOUS, SYSTEM, Actor
from portal.core.errors import NotFound, Refused
from portal.downloads import service
from portal.files import service as files
from tests.factories import BASE, Make

WEIGHTS = {"a/b/w.safetensors": b"w" * 50, "a/c.txt": b"c", "config.json": b"{}"}


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


def test_a_commit_that_was_never_released_is_not_there(session: Session, make: Make, now: datetime) -> None:
    release = make.release(make.model("lab/one"))
    commit = make.commit(release.model, {"other": b"x"})
    assert look(session, now, "lab/one").commit.revision == release.revision
    with pytest.raises(NotFound, match="Invalid rev id"):
        look(session, now, "lab/one", commit.revision)


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
    assert shot.model is model


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
        return [entry.path for entry in service.folder(session, commit=commit, path=path, limit=100, **kept)[0]]

    assert paths() == ["a", "config.json"]
    assert paths("a") == ["a/b", "a/c.txt"]
    assert paths(recursive=True) == ["a", "a/b", "a/b/w.safetensors", "a/c.txt", "config.json"]
    for missing in ("config.json", "b", "a/c"):
        with pytest.raises(NotFound, match="no folder"):
            paths(missing)
    assert service.file(session, commit=commit, path="a/c.txt").size == 1
    with pytest.raises(NotFound, match="no file a"):
        service.file(session, commit=commit, path="a")
    first, after = service.folder(session, commit=commit, path="a", limit=1)
    assert ([entry.path for entry in first], after) == (["a/b"], "a/b")
    rest, end = service.folder(session, commit=commit, path="a", limit=0, after="a/b")
    assert ([entry.path for entry in rest], end) == (["a/c.txt"], None)
    assert service.folder(session, commit=commit, path="a", limit=5, after="a/c.txt") == ([], None)


def test_each_file_and_folder_names_the_commit_that_last_changed_it(
    session: Session, make: Make, now: datetime
) -> None:
    model = make.model("lab/one")
    first = make.commit(model, WEIGHTS, "First")
    later = Make(session, now + timedelta(days=1), make.numbers)
    second = later.commit(model, {**WEIGHTS, "a/c.txt": b"changed"}, "Second")
    entries, _ = service.folder(session, commit=second, path="", recursive=True, limit=100)
    changes = service.last_changes(session, commit=second, entries=entries)
    assert {path: commit.title for path, commit in changes.items()} == {
        "a": "Second", "a/c.txt": "Second", "a/b": "First", "a/b/w.safetensors": "First", "config.json": "First",
    }  # fmt: skip
    assert service.last_changes(session, commit=first, entries=entries[-1:]) == {"config.json": first}


def test_releases_are_found_by_revision(session: Session, make: Make) -> None:
    release = make.release()
    found = service.releases(session, model=release.model, revisions=[release.revision, "0" * 40])
    assert found == {release.revision: release}


def test_the_history_of_a_model_is_not_mixed_with_that_of_others(session: Session, make: Make) -> None:
    commit = make.commit(make.model("lab/one"), WEIGHTS)
    assert files.history(session, commit=commit) == [commit]
    assert commit.author == SYSTEM.public_id


def test_a_former_name_leads_to_the_model(session: Session, make: Make, now: datetime) -> None:
    release = make.release(make.model("lab/before"))
    catalog.rename(session, model=release.model, to="lab/after", by=SYSTEM, now=now)
    assert service.known(session, name="lab/before") == service.known(session, name="lab/after") == "lab/after"
    assert service.known(session, name="lab/none") == "lab/none"
    assert look(session, now, "lab/before").model is release.model
    found = service.locate(session, name="lab/before", revision="main", path="config.json")
    assert (found.moved, found.revision, found.entry) == ("lab/after", None, None)


def test_a_dataset_is_found_by_its_own_name_only(session: Session, make: Make, now: datetime) -> None:
    make.release(make.model("datasets/lab/texts"))
    assert look(session, now, "datasets/lab/texts").model.hub_id == "lab/texts"
    with pytest.raises(Refused):
        look(session, now, "lab/texts")
