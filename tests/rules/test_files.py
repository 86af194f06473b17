"""Paths, digests and listings of stored files, as git and the Hub protocol have them."""

import subprocess
from hashlib import sha1, sha256
from pathlib import Path

import pytest

from portal.core.errors import Invalid
from portal.files.rules import (
    LFS_SIZE,
    Entry,
    check_path,
    check_weights,
    folder_of,
    git_oid,
    is_lfs,
    is_pickle,
    pointer,
    revision_of,
    tree_of,
)

LONGEST = f"{'x' * 255}/{'y' * 244}"


@pytest.mark.parametrize("path", ["a", "a/b/c.txt", "a b/ü.json", ".gitattributes", "a..b", LONGEST, "日本/語"])
def test_a_good_path_is_kept_as_it_is(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.threat("TM-33")
@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", "a\nb", "a\x7fb", "a\\b", "x" * 501]
)
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_path(path)
    assert caught.value.field == "path"


@pytest.mark.parametrize(
    ("path", "size", "large"),
    [
        ("model.safetensors", 1, True), ("MODEL.SAFETENSORS", 1, True), ("model.safetensors", 0, False),
        ("config.json", LFS_SIZE - 1, False), ("config.json", LFS_SIZE, True), ("pytorch_model.bin", 5, True),
    ],
)  # fmt: skip
def test_weights_and_large_files_are_listed_as_large(path: str, size: int, large: bool) -> None:
    assert is_lfs(path, size) is large


def test_files_that_run_code_on_loading_are_known_by_their_names() -> None:
    assert is_pickle("a/PyTorch_model.BIN")
    assert is_pickle("x.ckpt")
    assert not is_pickle("model.safetensors")
    assert not is_pickle("bin")


def test_only_pickles_need_consent() -> None:
    check_weights(["config.json"], allow_pickle=False)
    check_weights(["a.bin", "a.safetensors"], allow_pickle=False)
    check_weights(["a.bin"], allow_pickle=True)
    with pytest.raises(Invalid, match=r"a\.pt can run code") as caught:
        check_weights(["config.json", "a.pt"], allow_pickle=False)
    assert caught.value.code == "pickle_only"


@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(range(256)) * 10])
def test_object_ids_are_those_of_git(content: bytes, tmp_path: Path) -> None:
    told = subprocess.run(
        ["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True, cwd=tmp_path
    )
    assert git_oid(content) == told.stdout.decode().strip()


def test_a_pointer_is_that_of_git_lfs() -> None:
    digest = sha256(b"x").hexdigest()
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 1\n"
    assert pointer(digest, 1) == text.encode()


def test_a_commit_is_named_by_all_that_it_says() -> None:
    entries = [("b", "2"), ("a", "1")]
    name = revision_of("p", entries, "m", "t")
    assert len(name) == 40
    assert name == revision_of("p", entries[::-1], "m", "t")
    others = [
        revision_of("q", entries, "m", "t"), revision_of("p", [("a", "1")], "m", "t"),
        revision_of("p", entries, "n", "t"), revision_of("p", entries, "m", "u"),
        revision_of("p", [("a", "2"), ("b", "1")], "m", "t"),
    ]  # fmt: skip
    assert len({name, *others}) == 6


def entry(path: str) -> Entry:
    return Entry(path, len(path), sha1(path.encode()).hexdigest(), sha256(path.encode()).hexdigest())


FILES = [entry(path) for path in ("a.txt", "b/c.txt", "b/d/e.txt", "b2/f.txt", "x/y/z/deep")]


def test_a_tree_holds_the_folders_that_its_files_make() -> None:
    tree = tree_of(FILES)
    assert sorted(e.path for e in tree if e.is_folder) == ["b", "b/d", "b2", "x", "x/y", "x/y/z"]
    assert [e for e in tree if not e.is_folder] == FILES
    assert [folder_of(path) for path in ("a", "a/b", "a/b/c")] == ["", "a", "a/b"]
    assert tree_of([]) == []


def test_folders_are_named_as_git_names_them(tmp_path: Path) -> None:
    files = []
    for path in ("b/c", "b/d/e", "b-f", "b.g", "ü/i"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
        files.append(Entry(path, len(path), git_oid(path.encode()), "0" * 64))

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *args], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    git("init", "-q")
    git("add", ".")
    shown = git("ls-tree", "-r", "-t", git("write-tree").strip())
    wanted = {line.split("\t")[1]: line.split()[2] for line in shown.splitlines()}
    assert {entry.path: entry.oid for entry in tree_of(files)} == wanted


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("x/y/z", "x/y"), ("a/b", "a/b")])
def test_what_is_there_twice_or_a_file_and_a_folder_is_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(Invalid, match="twice") as caught:
        tree_of([entry(path) for path in paths])
    assert caught.value.field == "path"
