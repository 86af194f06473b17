"""Canonical bytes, commitments and the tree of the log: what is hashed is written exactly one way."""

import json
import re
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Protocol
from urllib.parse import urlsplit

from portal.core.errors import Invalid

MAX_INTEGER = 2**53


class ReceiptTime(StrEnum):
    """Whose clock the seal of a receipt goes by; pending while the authority that is to confirm it is away."""

    PORTAL = "portal"
    PENDING = "pending"
    AUTHORITY = "authority"


def canonical(value: Any) -> bytes:
    """Write JSON data in its canonical form (RFC 8785, by restriction of what may be written).

    Args:
        value: dicts with ASCII keys, lists, strings in NFC without lone surrogates, integers below 2^53,
            booleans, None. Anything else is refused.

    Returns:
        UTF-8 bytes.
    """
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise Invalid("not_canonical", "Keys of evidence are ASCII.")
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif isinstance(value, str):
        if unicodedata.normalize("NFC", value) != value or any("\ud800" <= c <= "\udfff" for c in value):
            raise Invalid("not_canonical", "Text in evidence is in Unicode normal form C.")
    elif isinstance(value, bool) or value is None:
        return
    elif not isinstance(value, int) or abs(value) >= MAX_INTEGER:
        raise Invalid("not_canonical", "Numbers in evidence are integers below 2^53.")


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, 64 hex digits."""
    return sha256(data).hexdigest()


def commitment(salt: bytes, data: bytes) -> str:
    """Commit to bytes so that without the salt nobody can tell what they were: SHA-256(salt ‖ data), hex."""
    return sha256(salt + data).hexdigest()


# The tree of the log: RFC 6962 and RFC 9162. A place is (level, index); level 0 holds the leaves.

Place = tuple[int, int]
HASH_SIZE = 32
TILE = 256
TILE_LEVELS = 8
HIGHEST_LEVEL = 7  # tiles of level 7 would stand for 2^64 leaves
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry of the log."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them."""
    return sha256(b"\1" + left + right).digest()


def cover(start: int, end: int) -> list[Place]:
    """Return the complete subtrees that make up the leaves from `start` to before `end`, largest first."""
    places = []
    while start < end:
        level = (end - start).bit_length() - 1
        places.append((level, start >> level))
        start += 1 << level
    return places


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over the complete subtrees of a cover."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


class Edge:
    """The right edge of a growing tree: how many leaves it has and the hashes of its cover."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)

    def add(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf's hash and return (level, index, hash) of each subtree that it completes, itself first."""
        level, index, value = 0, self.size, leaf
        made = [(level, index, value)]
        while index & 1:
            level, index, value = level + 1, index >> 1, node_hash(self.hashes.pop(), value)
            made.append((level, index, value))
        self.hashes.append(value)
        self.size += 1
        return made

    @property
    def root(self) -> bytes:
        """The root of the tree as it is now."""
        return fold(self.hashes)


def _split(start: int, end: int) -> int:
    return start + (1 << ((end - start - 1).bit_length() - 1))


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves whose roots prove that the leaf at `index` is in the tree, lowest first."""
    start, end, ranges = 0, size, []
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves whose roots prove that a tree of `new` leaves begins with one of `old` leaves."""
    start, end, ranges = 0, new, []
    while old != end:
        middle = _split(start, end)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:
        ranges.append((start, end))
    return ranges[::-1]


def included_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root of the tree in which a path proves a leaf's hash to be; None for a path of the wrong length."""
    if not 0 <= index < size:
        return None
    ranges = inclusion_ranges(index, size)
    if len(ranges) != len(path):
        return None
    for sibling, (start, _) in zip(path, ranges, strict=True):
        leaf = node_hash(leaf, sibling) if start > index else node_hash(sibling, leaf)
    return leaf


def is_consistent(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Say whether a path proves that the larger tree begins with the smaller one."""
    if not 0 < old <= new:
        return old == 0 and not path and old_root == EMPTY_ROOT
    ranges = consistency_ranges(old, new)
    if len(ranges) != len(path):
        return False
    steps = list(zip(path, ranges, strict=True))
    seed = steps.pop(0)[0] if ranges and ranges[0][1] == old and ranges[0][0] else old_root
    before = after = seed
    for sibling, (start, _) in steps:
        if start >= old:
            after = node_hash(after, sibling)
        else:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
    return before == old_root and after == new_root


# Checkpoints, keys, proofs and tiles in the formats of c2sp.org: signed-note, tlog-checkpoint, tlog-proof, tlog-tiles.

ED25519 = b"\1"
DASH = "\u2014"
SUCCESSOR = "successor "
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
TILE_PATH = re.compile(r"((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class LogKey(Protocol):
    """The key that signs checkpoints."""

    @property
    def public(self) -> bytes:
        """The public key."""

    def sign(self, body: bytes) -> bytes:
        """Return the Ed25519 signature over bytes."""

    def holds(self, signature: bytes, body: bytes, by: bytes | None = None) -> bool:
        """Say whether a signature over bytes is by this key, or by the public key that is given."""


@dataclass(frozen=True)
class TreeHead:
    """What a checkpoint states, the bytes that its signatures cover, and those signatures by name.

    Args:
        successor: the key to which the log is handed over from here on; empty where it stays with the same.
    """

    origin: str
    size: int
    root: bytes
    body: bytes
    signatures: tuple[tuple[str, bytes], ...]
    successor: str = ""


def origin_of(base_url: str) -> str:
    """Return the name of a portal's log: the host of its address."""
    return urlsplit(base_url).hostname or base_url


def base64(data: bytes) -> str:
    """Write bytes in standard base64."""
    return b64encode(data).decode("ascii")


def unbase64(text: str) -> bytes:
    """Read standard base64, in the one way that it is written."""
    data = b64decode(text, validate=True)
    if base64(data) != text:
        raise ValueError(text)
    return data


def key_id(name: str, public: bytes) -> bytes:
    """Return the four bytes by which a signature says whose it is."""
    return sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def vkey(name: str, public: bytes) -> str:
    """Write a public key the way verifiers of signed notes read it."""
    return f"{name}+{key_id(name, public).hex()}+{base64(ED25519 + public)}"


def checkpoint(origin: str, size: int, root: bytes, key: LogKey, successor: LogKey | None = None) -> bytes:
    """Sign a tree head; where the log is handed over to a successor, say so in it, and let both keys sign."""
    more = f"{SUCCESSOR}{vkey(origin, successor.public)}\n" if successor else ""
    body = f"{origin}\n{size}\n{base64(root)}\n{more}".encode()
    signers = [key] if successor is None else [key, successor]
    lines = [f"{DASH} {origin} {base64(key_id(origin, one.public) + one.sign(body))}\n" for one in signers]
    return body + f"\n{''.join(lines)}".encode()


def read_checkpoint(note: bytes) -> TreeHead:
    """Read a checkpoint, without checking its signatures.

    Raises:
        Invalid: it is not written as checkpoints are.
    """
    try:
        body, signed = note.decode().rsplit("\n\n", 1)
        origin, size, root, *more = body.split("\n")
        if not origin or not NUMBER.fullmatch(size) or len(unbase64(root)) != HASH_SIZE or not signed.endswith("\n"):
            raise ValueError(origin)
        signatures = []
        for line in signed[:-1].split("\n"):
            dash, name, value = line.split(" ")
            if dash != DASH or not name:
                raise ValueError(line)
            signatures.append((name, unbase64(value)))
    except ValueError:
        raise Invalid("checkpoint_unreadable", "This is not written as a checkpoint is.") from None
    successor = next((line.removeprefix(SUCCESSOR) for line in more if line.startswith(SUCCESSOR)), "")
    return TreeHead(origin, int(size), unbase64(root), f"{body}\n".encode(), tuple(signatures), successor)


def is_signed(head: TreeHead, key: LogKey, by: bytes | None = None) -> bool:
    """Say whether a checkpoint carries a good signature of a key, in the name of its origin.

    Args:
        head: the checkpoint.
        key: the log's key.
        by: the public key that is to have signed, if it is another one of the log's keys.
    """
    mine = key_id(head.origin, by or key.public)
    found = [value for name, value in head.signatures if name == head.origin and value[:4] == mine]
    return bool(found) and all(key.holds(value[4:], head.body, by) for value in found)


def proof(index: int, entry: bytes, path: Sequence[bytes], note: bytes) -> bytes:
    """Write the proof that an entry is in the log; its line ``extra`` holds the entry."""
    lines = [PROOF_HEADER, f"extra {base64(entry)}", f"index {index}", *map(base64, path), "", ""]
    return "\n".join(lines).encode() + note


def tile_path(number: int, width: int = TILE) -> str:
    """Write the number of a tile the way it stands in addresses."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return "/".join(groups) + (f".p/{width}" if width < TILE else "")


def read_tile_path(path: str) -> tuple[int, int] | None:
    """Return number and width of the tile that an address names; None if it names none."""
    found = TILE_PATH.fullmatch(path)
    if found is None:
        return None
    number = int(re.sub("[x/]", "", found[1]))
    width = int(found[2] or TILE)
    return (number, width) if tile_path(number, width) == path and width <= TILE else None
