"""Storing files by digest and naming states of them, on both databases."""

import json
import os
import subprocess
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, Invalid, NotFound
from portal.files import service
from portal.files.models import Commit
from portal.files.rules import RefKind
from portal.files.service import Store, stage
from portal.storage.models import Blob
from portal.storage.service import Kept
from tests.factories import FILES, Make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory as somebody would publish it."""
    root = tmp_path / "a model"
    (root / "sub").mkdir(parents=True)
    (root / "config.json").write_bytes(b"{}\n")
    (root / "model.safetensors").write_bytes(b"w" * 5000)
    (root / "empty").write_bytes(b"")
    (root / "sub" / "vocabulaire é.txt").write_bytes("é\n".encode())
    for skipped in (".git", ".cache", "__pycache__"):
        (root / skipped).mkdir()
        (root / skipped / "x").write_bytes(b"x")
    return root


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "blobs")


def test_staging_keeps_bytes_by_digest(folder: Path, store: Store) -> None:
    told: list[tuple[str, int, int]] = []
    staged = stage(directory=folder, store=store, progress=lambda *step: told.append(step))
    assert [s.path for s in staged] == ["config.json", "empty", "model.safetensors", "sub/vocabulaire é.txt"]
    for one in staged:
        content = (folder / one.path).read_bytes()
        assert one.sha256 == sha256(content).hexdigest()
        assert store.path(one.sha256).read_bytes() == content
        assert one.size == len(content)
        assert one.lfs is (one.path == "model.safetensors")
    plain = next(s for s in staged if s.path == "config.json")
    git = subprocess.run(
        ["git", "hash-object", str(folder / "config.json")], capture_output=True, text=True, check=True
    )
    assert plain.git_oid == git.stdout.strip()
    total = sum(s.size for s in staged)
    assert told[-1][1:] == (total, total)
    assert list((store.root / "tmp").iterdir()) == []


def test_staging_again_adds_nothing(folder: Path, store: Store) -> None:
    first = stage(directory=folder, store=store)
    kept = {p for p in store.root.rglob("*") if p.is_file()}
    assert stage(directory=folder, store=store) == first
    assert store.put(folder / "config.json") == Kept(first[0].sha256, first[0].git_oid, first[0].size)
    assert {p for p in store.root.rglob("*") if p.is_file()} == kept


def test_staging_puts_right_what_lay_damaged_under_the_same_name(folder: Path, store: Store) -> None:
    staged = stage(directory=folder, store=store)[0]
    store.path(staged.sha256).write_bytes(b"??\n")
    stage(directory=folder, store=store)
    assert sha256(store.path(staged.sha256).read_bytes()).hexdigest() == staged.sha256


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, store: Store) -> None:
    source = tmp_path / "growing"
    source.write_bytes(b"a" * 10)

    def grow(_amount: int) -> None:
        if source.stat().st_size < 20:
            with source.open("ab") as file:
                file.write(b"b" * 10)

    with pytest.raises(Conflict, match="changed while it was read"):
        store.put(source, grow)
    assert not [p for p in store.root.rglob("*") if p.is_file()]


@pytest.mark.threat("TM-33")
def test_links_inside_are_followed_and_others_refused(folder: Path, store: Store) -> None:
    (folder / "again.json").symlink_to("config.json")
    assert "again.json" in [s.path for s in stage(directory=folder, store=store)]
    outside = folder.parent / "secret"
    outside.write_text("secret")
    for name, target, code in (
        ("out", outside, "link_outside"), ("up", Path("../secret"), "link_outside"),
        ("dangling", Path("nowhere"), "file_unreadable"),
        ("loop", Path("loop"), "file_unreadable"), ("dir", Path("sub"), "link_folder"),
    ):  # fmt: skip
        (folder / name).symlink_to(target)
        with pytest.raises(Invalid) as caught:
            stage(directory=folder, store=store)
        assert (caught.value.code, caught.value.field) == (code, "directory")
        (folder / name).unlink()


def test_what_is_no_file_is_refused(folder: Path, store: Store) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(Invalid) as caught:
        stage(directory=folder, store=store)
    assert caught.value.code == "file_unreadable"


def test_a_folder_that_cannot_be_listed_is_not_left_out(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Invalid, match="sub cannot be read"):
        stage(directory=folder, store=store)


def test_a_name_that_cannot_be_sent_is_refused(folder: Path, store: Store) -> None:
    for name in (b"bad\xff", b"back\\slash", b"line\nbreak"):
        path = os.path.join(os.fsencode(folder), name)  # noqa: PTH118
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"x")
        with pytest.raises(Invalid) as caught:
            stage(directory=folder, store=store)
        assert caught.value.field == "path"
        os.unlink(path)  # noqa: PTH108


def test_a_directory_without_files_is_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    for directory, code in (
        (tmp_path / "empty", "directory_empty"), (tmp_path / "gone", "directory"), (Path(__file__), "directory"),
    ):  # fmt: skip
        with pytest.raises(Invalid) as caught:
            stage(directory=directory, store=store)
        assert caught.value.code == code


def test_pickles_alone_need_consent(tmp_path: Path, store: Store) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(Invalid, match="can run code"):
        stage(directory=tmp_path / "m", store=store)
    assert len(stage(directory=tmp_path / "m", store=store, allow_pickle=True)) == 1


def test_commits_name_states_and_main_moves(session: Session, make: Make, now: datetime) -> None:
    model = make.model()
    first = make.commit(model, message="First\nwith more")
    assert (first.title, first.message, first.parent_id, first.author) == ("First", "First\nwith more", None, "system")
    assert make.commit(model) is first
    second = make.commit(model, {**FILES, "config.json": b"{}"}, message="  ")
    assert (second.parent_id, second.title) == (first.id, "Publish files")
    assert first.revision != second.revision
    back = make.commit(model)
    assert back.id not in {first.id, second.id}
    assert service.find_commit(session, model_id=model.id, revision="main") is back
    assert [c.id for c in service.history(session, commit=back)] == [back.id, second.id, first.id]
    assert [c.id for c in service.history(session, commit=second, skip=1)] == [first.id]
    assert [c.id for c in service.history(session, commit=back, skip=1, limit=1)] == [second.id]
    assert service.history(session, commit=first, skip=5) == []


def test_the_same_bytes_are_one_blob(session: Session, make: Make, now: datetime) -> None:
    body = b"the same bytes everywhere"
    make.commit(make.model(), {"a": body, "b": body})
    make.commit(make.model(), {"c": body})
    digest = sha256(body).hexdigest()
    assert session.scalar(sa.select(sa.func.count()).select_from(Blob).where(Blob.sha256 == digest)) == 1


def test_files_of_a_commit_come_in_the_order_of_paths(session: Session, make: Make) -> None:
    commit = make.commit(make.model(), {"b": b"1", "a/z": b"2", "B": b"3", "é": b"4"})
    assert [e.path for e in service.entries(session, commit_id=commit.id)] == ["B", "a/z", "b", "é"]
    listed = service.listed(session, commit_id=commit.id)
    assert [(e.path, e.size) for e in listed] == [("B", 1), ("a/z", 1), ("b", 1), ("é", 1)]
    found = service.find_entry(session, commit_id=commit.id, path="a/z")
    assert found is not None
    assert service.shown(found) == listed[1]
    for missing in ("a", "A/Z", "", "\0", "a/z\0"):
        assert service.find_entry(session, commit_id=commit.id, path=missing) is None


def test_a_commit_is_found_by_every_name_that_fits_only_one(session: Session, make: Make) -> None:
    model, other = make.model(), make.model()
    commit = make.commit(model)
    foreign = make.commit(other, {"x": b"x"})
    service.tag(session, model_id=model.id, name="v1.0", commit=commit)
    for name in ("main", "v1.0", commit.revision, commit.revision[:7], commit.revision[:20]):
        assert service.find_commit(session, model_id=model.id, revision=name) is commit
    bad = ("", "v2", "\0", "main\0", commit.revision[:6], commit.revision.upper(), foreign.revision,
           commit.revision + "0", "%", "_______", "x" * 10_000)  # fmt: skip
    for name in bad:
        with pytest.raises(NotFound):
            service.find_commit(session, model_id=model.id, revision=name)


def test_a_beginning_that_fits_two_commits_names_neither(session: Session, make: Make, now: datetime) -> None:
    model = make.model()
    rows = [
        Commit(model_id=model.id, revision="abcdef0" + digit * 33, title="t", author="system", created_at=now)
        for digit in "12"
    ]
    session.add_all(rows)
    session.flush()
    with pytest.raises(NotFound):
        service.find_commit(session, model_id=model.id, revision="abcdef0")
    assert service.find_commit(session, model_id=model.id, revision="abcdef01") is rows[0]


def test_a_tag_never_moves(session: Session, make: Make) -> None:
    model = make.model()
    first = make.commit(model)
    second = make.commit(model, {"x": b"x"})
    tag = service.tag(session, model_id=model.id, name="v1", commit=first)
    assert service.tag(session, model_id=model.id, name="v1", commit=first) is tag
    for name in ("v1", "main"):
        with pytest.raises(Conflict):
            service.tag(session, model_id=model.id, name=name, commit=first if name == "main" else second)
    with pytest.raises(Invalid):
        service.tag(session, model_id=model.id, name="../up", commit=first)
    assert [(ref.name, ref.kind, commit.id) for ref, commit in service.refs(session, model_id=model.id)] == [
        ("main", RefKind.BRANCH, second.id), ("v1", RefKind.TAG, first.id),
    ]  # fmt: skip


def test_two_models_may_have_the_same_files(session: Session, make: Make, now: datetime) -> None:
    one, other = make.model(), make.model()
    later = Make(session, now + timedelta(seconds=1), make.numbers)
    assert make.commit(one).id != later.commit(other).id
    assert service.find_commit(session, model_id=other.id, revision="main").author == SYSTEM.public_id


def test_what_lies_in_a_folder_comes_in_the_order_of_paths_a_page_at_a_time(session: Session, make: Make) -> None:
    contents = {path: path.encode() for path in ("a.txt", "a/b", "a/c/d", "a0", "é", "z-", "z/1", "z/2", "\U0001f600")}
    commit = make.commit(make.model(), contents)
    every = sorted([*contents, "a", "a/c", "z"])

    def paths(folder: str = "", **kept: Any) -> list[str]:
        found = service.listing(session, commit_id=commit.id, folder=folder, **kept)
        return [entry.path for entry in found]

    assert paths() == ["a", "a.txt", "a0", "z", "z-", "é", "\U0001f600"]
    assert paths("a") == ["a/b", "a/c"]
    assert paths(recursive=True) == every
    assert paths("a", recursive=True) == ["a/b", "a/c", "a/c/d"]
    assert paths("a.txt") == paths("none") == paths("a\0") == paths(after="\0") == []
    seen: list[str] = []
    while page := paths(recursive=True, after=seen[-1] if seen else "", limit=2):
        seen += page
    assert seen == every
    assert paths("z", after="z/1") == ["z/2"]


def test_some_paths_are_found_among_files_and_folders(session: Session, make: Make) -> None:
    commit = make.commit(make.model(), {"a/b": b"1", "c": b"2"})
    wanted = ["c", "a", "none", "c", "\0", *(f"x{n}" for n in range(1200))]
    assert [e.path for e in service.picked(session, commit_id=commit.id, paths=wanted)] == ["a", "c"]
    assert service.picked(session, commit_id=commit.id, paths=[]) == []


def test_a_folder_is_no_file(session: Session, make: Make) -> None:
    commit = make.commit(make.model(), {"a/b": b"1"})
    assert service.find_entry(session, commit_id=commit.id, path="a") is None
    assert [row.path for row in service.entries(session, commit_id=commit.id)] == ["a/b"]


def test_bytes_that_a_commit_names_twice_count_once(session: Session, make: Make) -> None:
    first = make.commit(make.model(), {"a": b"12345", "b/c": b"12345", "d": b"1"})
    second = make.commit(make.model(), {"empty": b""})
    assert service.sizes(session, commit_ids=[first.id, second.id]) == {first.id: 6, second.id: 0}
    assert service.sizes(session, commit_ids=[]) == {}


def safetensors(head: Any) -> bytes:
    body = json.dumps(head).encode() if not isinstance(head, bytes) else head
    return len(body).to_bytes(8, "little") + body


def test_parameters_are_counted_once_when_files_are_staged(
    session: Session, make: Make, now: datetime, tmp_path: Path, store: Store
) -> None:
    contents = {
        "one.safetensors": safetensors({"__metadata__": {}, "w": {"dtype": "BF16", "shape": [3, 4]}}),
        "two.safetensors": safetensors({"w": {"dtype": "BF16", "shape": []}, "v": {"dtype": "F32", "shape": [2]}}),
        "text.txt": b"no weights",
        "short.safetensors": b"abc",
        "list.safetensors": safetensors([1]),
        "lies.safetensors": (1 << 60).to_bytes(8, "little"),
        "odd.safetensors": safetensors({"w": {"dtype": "F32", "shape": ["x"]}}),
    }
    for name, body in contents.items():
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_bytes(body)
    staged = stage(directory=tmp_path / "m", store=store)
    model = make.model()
    commit = service.commit_files(session, model_id=model.id, staged=staged, message="", by=SYSTEM, now=now)
    assert service.parameters(session, commit_id=commit.id) == {"BF16": 13, "F32": 2}
    assert service.parameters(session, commit_id=make.commit(make.model()).id) == {}
    assert service.count_parameters("gone.safetensors", tmp_path / "gone") == {}
