"""Paths, revisions and digests of stored files, as the Hub protocol names them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha1
from math import prod
from typing import Any

from portal.core.errors import Invalid
from portal.storage.rules import git_oid_start

LFS_SIZE = 10_000_000
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack", ".npz", ".zip")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
REVISION = re.compile(r"[0-9a-f]{7,40}")
CONTROL = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")  # and halves of characters
PATH_MAX = 500
SEGMENT_MOST = 255
FORBIDDEN = frozenset({".git", ".cache"})  # a download into a folder would change what git or the client does there
KIND = re.compile(r"[A-Z][A-Z0-9_]{0,15}")  # of numbers, as safetensors names them: F32, BF16, F8_E4M3
SIDES_MOST = 16
COUNT_MOST = 1 << 48  # no model has as many parameters, nor a tensor such a side


class RefKind(StrEnum):
    """Whether a name moves."""

    BRANCH = "branch"
    TAG = "tag"


def check_path(path: str) -> str:
    """Return a path as it is, or raise `Invalid`: relative, short enough for every disk, and harmless on it."""
    segments = path.split("/")
    if len(path) > PATH_MAX or not {"", ".", ".."}.isdisjoint(segments) or CONTROL.search(path):
        raise Invalid("path", f"{path[:80]!r} is no path that can be published.", field="path")
    if not FORBIDDEN.isdisjoint(path.lower().split("/")):
        message = f"{path[:80]!r} lies where git and Hub clients keep files of their own."
        raise Invalid("path", f"{message} Leave it out.", field="path")
    if any(len(segment.encode("utf-8", "surrogatepass")) > SEGMENT_MOST for segment in segments):
        message = f"{path[:80]!r} has a part of more than {SEGMENT_MOST} bytes, which no file system takes."
        raise Invalid("path", message, field="path")
    return path


def is_lfs(path: str, size: int) -> bool:
    """Say whether a file is listed as large: by size or by a weight suffix; an empty file never is."""
    return size > 0 and (size >= LFS_SIZE or path.lower().endswith(LFS_SUFFIXES))


def is_pickle(path: str) -> bool:
    """Say whether loading the file could run code."""
    return path.lower().endswith(PICKLE_SUFFIXES)


def pointer(sha256: str, size: int) -> bytes:
    """Return the git-lfs pointer file that stands for large content."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(content: bytes) -> str:
    """Return the git blob SHA-1 of content, 40 hex digits."""
    return sha1(git_oid_start(len(content)) + content, usedforsecurity=False).hexdigest()


def revision_of(parent: str, entries: list[tuple[str, str]], message: str, moment: str) -> str:
    """Name a commit: SHA-1 over its parent, its (path, object id) list, its message and its time; 40 hex digits."""
    lines = [parent, moment, message, *(f"{path}\0{oid}" for path, oid in sorted(entries))]
    return sha1("\n".join(lines).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A file or folder as a listing shows it; a folder has no `sha256`."""

    path: str
    size: int
    oid: str
    sha256: str | None = None
    lfs: bool = False

    @property
    def is_folder(self) -> bool:
        """Say whether it is a folder."""
        return self.sha256 is None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


def tree_of(files: Sequence[Entry]) -> list[Entry]:
    """Return the files of a commit with the folders that they make, each folder named as git names a tree.

    Raises:
        Invalid: something is a file and a folder at once, or there twice.
    """
    inside: dict[str, list[Entry]] = {"": []}
    for file in files:
        folder = folder_of(file.path)
        inside.setdefault(folder, []).append(file)
        while folder := folder_of(folder):
            inside.setdefault(folder, [])
    found = list(files)
    for path in sorted(inside, key=lambda path: path.count("/"), reverse=True):  # a tree names what is in it
        if path:
            folder_entry = Entry(path, 0, _tree_oid(inside[path]))
            found.append(folder_entry)
            inside[folder_of(path)].append(folder_entry)
    paths = [entry.path for entry in found]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise Invalid("path", f"{twice[:80]!r} is there twice, or a file and a folder at once.", field="path")
    return found


def folder_of(path: str) -> str:
    """Return the folder in which a file or folder lies, empty for the root."""
    return path.rpartition("/")[0]


def _tree_oid(entries: Sequence[Entry]) -> str:
    body = b"".join(
        (b"40000 " if entry.is_folder else b"100644 ") + entry.name.encode() + b"\0" + bytes.fromhex(entry.oid)
        for entry in sorted(entries, key=lambda e: (f"{e.name}/" if e.is_folder else e.name).encode())
    )
    return sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def parameters_of(head: Any) -> dict[str, int]:
    """Count the parameters that the head of a safetensors file names, by their type; none where it is no such head."""
    totals: dict[str, int] = {}
    for name, tensor in head.items() if isinstance(head, dict) else ():
        if name == "__metadata__":
            continue
        kind, shape = (tensor.get("dtype"), tensor.get("shape")) if isinstance(tensor, dict) else (None, None)
        if not isinstance(kind, str) or not KIND.fullmatch(kind) or not isinstance(shape, list):
            return {}
        if len(shape) > SIDES_MOST or not all(type(side) is int and 0 <= side < COUNT_MOST for side in shape):
            return {}
        totals[kind] = totals.get(kind, 0) + prod(shape)
    return totals if sum(totals.values()) < COUNT_MOST else {}


def check_weights(paths: Sequence[str], *, allow_pickle: bool) -> None:
    """Raise `Invalid` when the only weights among the files could run code on loading."""
    pickles = [path for path in paths if is_pickle(path)]
    if pickles and not allow_pickle and not any(path.lower().endswith(".safetensors") for path in paths):
        message = f"{pickles[0]} can run code when it is loaded. Convert it to safetensors, or pass --allow-pickle."
        raise Invalid("pickle_only", message, field="directory")
