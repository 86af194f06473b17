"""What programs are told about models and datasets, and how they look for them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portal.catalog.rules import RepoKind
from portal.files.rules import Entry
from portal.listings import rules
from portal.listings.rules import About, Wanted

SHA1, SHA256 = "a" * 40, "b" * 64
SMALL = Entry("sub dir/config.json", 120, SHA1, SHA256, lfs=False)
LARGE = Entry("model.safetensors", 7_000_000_000, SHA1, SHA256, lfs=True)
FOLDER = Entry("sub dir", 0, SHA1)
AT = datetime(2026, 1, 2, 3, 4, 5, 6789, tzinfo=UTC)


def test_times_have_milliseconds_and_a_z() -> None:
    assert rules.hub_time(AT) == "2026-01-02T03:04:05.006Z"


def test_a_tree_lists_files_large_files_and_folders() -> None:
    assert rules.tree_item(SMALL) == {"type": "file", "path": "sub dir/config.json", "size": 120, "oid": SHA1}
    assert rules.tree_item(FOLDER) == {"type": "directory", "path": "sub dir", "size": 0, "oid": SHA1}
    large = rules.tree_item(LARGE)
    assert large["lfs"] == {"oid": SHA256, "size": 7_000_000_000, "pointerSize": 135}


def test_siblings_name_digests_only_when_asked() -> None:
    assert rules.sibling(LARGE, blobs=False) == {"rfilename": "model.safetensors"}
    assert rules.sibling(LARGE, blobs=True) == {
        "rfilename": "model.safetensors", "size": LARGE.size, "blobId": SHA1,
        "lfs": {"sha256": SHA256, "size": LARGE.size, "pointerSize": 135},
    }  # fmt: skip
    assert "lfs" not in rules.sibling(SMALL, blobs=True)


def about(**kept: Any) -> About:
    fields = {
        "kind": RepoKind.MODEL, "hub_id": "demo/m", "ref": "mod_1", "created_at": AT, "gated": "auto",
        "disabled": False, "metadata": {},
    }  # fmt: skip
    return About(**{**fields, **kept})


def test_a_model_is_described_as_clients_expect() -> None:
    metadata = {
        "license": "other", "language": ["en", "fr"], "tags": ["bloom", "en"], "library_name": "transformers",
        "pipeline_tag": "text-generation",
    }  # fmt: skip
    info = rules.model_info(
        about(metadata=metadata, revision=SHA1, changed_at=AT, size=LARGE.size, files=[SMALL, LARGE]), blobs=True
    )
    assert info["id"] == info["modelId"] == "demo/m"
    assert (info["author"], info["sha"], info["gated"], info["private"]) == ("demo", SHA1, "auto", False)
    assert info["tags"] == ["transformers", "text-generation", "bloom", "en", "fr", "license:other"]
    assert (info["pipeline_tag"], info["library_name"]) == ("text-generation", "transformers")
    assert [s["rfilename"] for s in info["siblings"]] == [SMALL.path, LARGE.path]
    assert info["usedStorage"] == LARGE.size
    assert info["lastModified"] == info["createdAt"] == "2026-01-02T03:04:05.006Z"


def test_a_model_without_weights_or_metadata_is_described_as_well() -> None:
    info = rules.model_info(about(gated="", metadata={"pipeline_tag": 3, "language": "en"}))
    assert (info["sha"], info["gated"], info["tags"]) == (None, False, ["3", "en"])
    assert "siblings" not in info
    assert "pipeline_tag" not in info


def test_a_client_gets_only_the_fields_that_it_asked_for() -> None:
    info = {"_id": 1, "id": 2, "sha": 3, "tags": 4}
    assert rules.chosen(info, []) == info
    assert rules.chosen(info, ["sha"]) == {"_id": 1, "id": 2, "sha": 3}


def test_a_dataset_is_described_with_the_tags_that_its_clients_look_for() -> None:
    metadata = {"language": ["en"], "license": "cc0-1.0", "task_categories": "text-generation", "pipeline_tag": None}
    info = rules.model_info(about(kind=RepoKind.DATASET, metadata=metadata))
    assert info["tags"] == ["language:en", "license:cc0-1.0", "task_categories:text-generation"]
    assert "modelId" not in info


def test_parameters_are_told_with_their_sum() -> None:
    info = rules.model_info(about(parameters={"F32": 2, "BF16": 3}))
    assert info["safetensors"] == {"parameters": {"F32": 2, "BF16": 3}, "total": 5}
    assert "safetensors" not in rules.model_info(about(parameters={}))


def test_models_are_looked_for_by_namespace_words_tags_and_gate() -> None:
    assert Wanted().names("lab/one")
    assert Wanted(author="LAB", words=("ON",)).names("lab/one")
    assert not Wanted(author="desk").names("lab/one")
    assert not Wanted(words=("one", "two")).names("lab/one")
    one = about(metadata={"tags": ["a", "b"]})
    assert Wanted(tags=frozenset("ab"), gated=True).means(one)
    assert not Wanted(tags=frozenset("ac")).means(one)
    assert not Wanted(gated=False).means(one)


@pytest.mark.parametrize(
    ("sort", "names"),
    [("", "abc"), ("likes", "abc"), ("createdAt", "cba"), ("created_at", "cba"), ("lastModified", "acb")],
)
def test_models_are_ordered_by_name_or_by_a_date(sort: str, names: str) -> None:
    rows = [
        about(hub_id=f"lab/{name}", created_at=AT + timedelta(days=day), changed_at=changed)
        for name, day, changed in (("a", 1, AT + timedelta(days=9)), ("b", 2, None), ("c", 3, None))
    ]
    assert [row.hub_id[-1] for row in Wanted(sort=sort).ordered(rows)] == list(names)
    if sort in {"createdAt", "lastModified"}:
        assert [row.hub_id[-1] for row in Wanted(sort=sort, oldest_first=True).ordered(rows)] == list(names)[::-1]
