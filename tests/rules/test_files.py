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
    git_oid,
    is_lfs,
    is_pickle,
    listing,
    pointer,
    revision_of,
)


@pytest.mark.parametrize("path", ["a", "a/b/c.txt", "a b/ü.json", ".gitattributes", "a..b", "x" * 500, "日本/語"])
def test_a_good_path_is_kept_as_it_is(path: str) -> None:
    assert check_path(path) == path


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


FILES = [entry(path) for path in ("a.txt", "b/c.txt", "b/d/e.txt", "b2/f.txt")]


def test_a_folder_lists_what_lies_in_it() -> None:
    assert [(e.path, e.is_folder) for e in listing(FILES, "", recursive=False)] == [
        ("a.txt", False), ("b", True), ("b2", True),
    ]  # fmt: skip
    assert [e.path for e in listing(FILES, "b", recursive=False)] == ["b/c.txt", "b/d"]
    assert [e.name for e in listing(FILES, "b", recursive=False)] == ["c.txt", "d"]
    assert listing(FILES, "nothing", recursive=False) == []
    assert listing(FILES, "a.txt", recursive=False) == []


def test_a_listing_of_all_holds_folders_too() -> None:
    paths = [e.path for e in listing(FILES, "", recursive=True)]
    assert paths == ["a.txt", "b", "b/c.txt", "b/d", "b/d/e.txt", "b2", "b2/f.txt"]
    assert [e.path for e in listing(FILES, "b", recursive=True)] == ["b/c.txt", "b/d", "b/d/e.txt"]


def test_a_folder_is_named_by_what_is_in_it() -> None:
    def name(files: list[Entry]) -> str:
        return next(e.oid for e in listing(files, "", recursive=False) if e.path == "b")

    assert name(FILES) == name(FILES[::-1])
    assert name(FILES) != name(FILES[:2])
    assert name(FILES) == name([*FILES[:3], entry("other.txt")])
