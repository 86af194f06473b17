"""What programs are told about models and datasets, in the shape of the Hub, and how they look for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from portal.catalog.rules import RepoKind
from portal.files.rules import Entry, pointer

PREFIXES = {
    RepoKind.MODEL: {"language": "", "license": "license:", "datasets": "dataset:", "base_model": "base_model:"},
    RepoKind.DATASET: {
        "language": "language:", "license": "license:", "task_categories": "task_categories:",
        "size_categories": "size_categories:",
    },
}  # fmt: skip


def hub_time(moment: datetime) -> str:
    """Write an instant the way Hub clients read it: milliseconds and ``Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def tree_item(entry: Entry) -> dict[str, Any]:
    """Return a file or folder as a tree lists it."""
    item: dict[str, Any] = {
        "type": "directory" if entry.is_folder else "file", "path": entry.path, "size": entry.size, "oid": entry.oid,
    }  # fmt: skip
    if entry.lfs:
        item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": _pointer_size(entry)}
    return item


def sibling(entry: Entry, *, blobs: bool) -> dict[str, Any]:
    """Return a file as the description of a model lists it."""
    item: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        item |= {"size": entry.size, "blobId": entry.oid}
    if blobs and entry.lfs:
        item["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": _pointer_size(entry)}
    return item


def _pointer_size(entry: Entry) -> int:
    return len(pointer(entry.sha256 or "", entry.size))


def tags_of(metadata: Mapping[str, Any], kind: RepoKind = RepoKind.MODEL) -> list[str]:
    """Return by which words a model or dataset is found, as the Hub's clients write them."""
    words = [metadata.get("library_name"), metadata.get("pipeline_tag"), *_several(metadata.get("tags"))]
    for name, prefix in PREFIXES[kind].items():
        words += [f"{prefix}{value}" for value in _several(metadata.get(name)) if value]
    return list(dict.fromkeys(str(word) for word in words if word))


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class About:
    """What is said of a model or dataset to programs.

    Args:
        ref: its public id.
        created_at: when it first appeared.
        revision, changed_at: the commit in question, if there is one.
        gated: ``manual`` where a person answers whoever asks for it, ``auto`` where signing is enough, else empty.
        disabled: it was withdrawn.
        metadata: of its card.
        size: how many bytes the files of the commit have together.
        files: the files of the commit, where they were asked for.
        parameters: numbers of parameters by type, where they were asked for.
    """

    kind: RepoKind
    hub_id: str
    ref: str
    created_at: datetime
    gated: str
    disabled: bool
    metadata: Mapping[str, Any]
    revision: str | None = None
    changed_at: datetime | None = None
    size: int = 0
    files: Sequence[Entry] | None = None
    parameters: Mapping[str, int] | None = None

    @property
    def tags(self) -> list[str]:
        """The words by which it is found."""
        return tags_of(self.metadata, self.kind)


def model_info(about: About, *, blobs: bool = False) -> dict[str, Any]:
    """Return the description of a model or dataset in the shape of the Hub."""
    info: dict[str, Any] = {
        "_id": about.ref, "id": about.hub_id, "author": about.hub_id.partition("/")[0], "sha": about.revision,
        "lastModified": hub_time(about.changed_at or about.created_at), "createdAt": hub_time(about.created_at),
        "private": False, "gated": about.gated or False, "disabled": about.disabled,
        "tags": about.tags, "cardData": dict(about.metadata), "usedStorage": about.size,
    }  # fmt: skip
    if about.kind is RepoKind.MODEL:
        info["modelId"] = about.hub_id
        for name in ("pipeline_tag", "library_name"):
            if isinstance(about.metadata.get(name), str):
                info[name] = about.metadata[name]
    if about.files is not None:
        info["siblings"] = [sibling(file, blobs=blobs) for file in about.files]
    if about.parameters:
        info["safetensors"] = {"parameters": dict(about.parameters), "total": sum(about.parameters.values())}
    return info


@dataclass(frozen=True)
class Wanted:
    """Which models a list is about, and in which order.

    Args:
        author: their namespace; empty for any.
        words: each is part of the name.
        tags: each is one of the tags.
        gated: whether a license has to be signed; None for both.
        sort: ``lastModified`` or ``createdAt``; anything else sorts by name.
        oldest_first: the other way round.
    """

    author: str = ""
    words: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    gated: bool | None = None
    sort: str = ""
    oldest_first: bool = False

    def names(self, hub_id: str) -> bool:
        """Say whether a name is one of those."""
        known = self.author.casefold() in {"", hub_id.partition("/")[0].casefold()}
        return known and all(word.casefold() in hub_id.casefold() for word in self.words)

    def means(self, about: About) -> bool:
        """Say whether a model with a fitting name is one of those."""
        return self.gated in {None, bool(about.gated)} and self.tags <= set(about.tags)

    def ordered(self, rows: Sequence[About]) -> list[About]:
        """Order models: by a date, newest first, or by name."""
        if self.sort in {"lastModified", "last_modified"}:
            return sorted(rows, key=lambda r: r.changed_at or r.created_at, reverse=not self.oldest_first)
        if self.sort in {"createdAt", "created_at"}:
            return sorted(rows, key=lambda r: r.created_at, reverse=not self.oldest_first)
        return list(rows)


def chosen(info: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return only the fields of a description that a client asked for, or all of them if it named none."""
    return {key: value for key, value in info.items() if not fields or key in {"_id", "id", *fields}}
