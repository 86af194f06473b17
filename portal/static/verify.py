"""Checks what a portal handed out, offline: evidence of a signature, and that the portal's log only ever grows.

    python verify.py BUNDLE [--key VKEY]             a bundle, as a zip file or a folder
    python verify.py monitor SOURCE --keep FOLDER [--key VKEY]

BUNDLE was downloaded beside a signature. VKEY is the log's public key, or a file that holds it: get it from somewhere
else than the bundle, such as a colleague or an earlier visit to /log/vkey. SOURCE is the portal's address
(https://…) or a folder with the same files; every good checkpoint is kept in FOLDER, and the next must extend it.

Exit codes: 0 all holds · 1 something does not, and the line names the link that is broken · 2 wrong usage ·
3 all holds, but the event is not in the log yet: download the bundle again in a minute.

Only Python's standard library is needed; read this file before you trust it.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

HELD, BROKEN, PENDING = 0, 1, 3
LIMIT = 64 << 20
Read = Callable[[str], bytes | None]


class Broken(Exception):
    """A link that does not hold, and why."""

    def __init__(self, link: str, why: str) -> None:
        super().__init__(f"{link}: {why}")
        self.link = link


# Ed25519 (RFC 8032), verification only.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
ZERO: Point = (0, 1, 1, 0)


def _add(a: Point, b: Point) -> Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    x, y, z, t = f - e, h - g, h + g, f + e
    return (x * y % P, z * t % P, y * z % P, x * t % P)


def _times(factor: int, point: Point) -> Point:
    total = ZERO
    while factor:
        if factor & 1:
            total = _add(total, point)
        point, factor = _add(point, point), factor >> 1
    return total


def _point(data: bytes) -> Point | None:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


BASE = _point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")) or ZERO


def ed25519(public: bytes, signature: bytes, message: bytes) -> bool:
    """Say whether a signature over a message is by the key."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, start = _point(public), _point(signature[:32])
    factor = int.from_bytes(signature[32:], "little")
    if key is None or start is None or factor >= ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = _times(factor, BASE), _add(start, _times(challenge, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 == (left[1] * right[2] - right[1] * left[2]) % P


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees of the tree (RFC 9162) into the one above them."""
    return hashlib.sha256(b"\1" + left + right).digest()


def included_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a path leads to from a leaf; None if the path does not fit."""
    if not 0 <= index < size:
        return None
    place, last = index, size - 1
    for sibling in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            leaf = node_hash(sibling, leaf)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            leaf = node_hash(leaf, sibling)
        place, last = place >> 1, last >> 1
    return leaf if last == 0 else None


def consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """Return the ranges of entries whose roots prove that the larger tree begins with the smaller one."""
    start, end, ranges = 0, new, []
    while old != end:
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ([*ranges, (start, end)] if start else ranges)[::-1]


class Key:
    """The log's public key: ``name+id+base64``."""

    def __init__(self, text: str) -> None:
        try:
            self.name, number, data = text.strip().split("+", 2)
            kind = unbase64(data)
        except ValueError:
            raise Broken("key", "this is not a key as /log/vkey gives it") from None
        self.number = hashlib.sha256(self.name.encode() + b"\n" + kind).digest()[:4]
        self.public = kind[1:]
        if kind[:1] != b"\1" or len(kind) != 33 or self.number.hex() != number:
            raise Broken("key", "it does not match its own number")


class Checkpoint:
    """A signed tree head, checked against the key; `link` names it when it does not hold."""

    def __init__(self, note: bytes, key: Key, link: str = "checkpoint") -> None:
        try:
            body, signed = note.decode().rsplit("\n\n", 1)
            self.origin, size, root, *_ = body.split("\n")
            self.size, self.root = whole(size), unbase64(root)
            lines = [line.split(" ") for line in signed.split("\n")]
            if lines.pop() != [""] or any(len(line) != 3 or line[0] != "\u2014" for line in lines):
                raise ValueError(signed)
            marks = [(name, unbase64(value)) for _, name, value in lines]
        except ValueError:
            raise Broken(link, "it is not written as a checkpoint is") from None
        mine = [value[4:] for name, value in marks if name == key.name and value[:4] == key.number]
        if self.origin != key.name or not mine:
            raise Broken(link, f"it is not signed in the name of {key.name}")
        if not all(ed25519(key.public, value, f"{body}\n".encode()) for value in mine):
            raise Broken(link, "its signature is not by the key")


def unbase64(text: str) -> bytes:
    """Read base64 in the one way that it is written."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError(text)
    return data


def whole(text: str) -> int:
    """Read a whole number in the one way that it is written."""
    if not re.fullmatch("0|[1-9][0-9]{0,17}", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def check_proof(proof: bytes, note: bytes, head: Checkpoint) -> bytes:
    """Check that a proof leads from its entry to the checkpoint, and return the entry."""
    try:
        text, carried = proof.split(b"\n\n", 1)
        header, extra, index, *path = text.decode().split("\n")
        if header != "c2sp.org/tlog-proof@v1" or extra[:6] != "extra " or index[:6] != "index ":
            raise ValueError(header)
        entry, place, hashes = unbase64(extra[6:]), whole(index[6:]), [unbase64(line) for line in path]
    except ValueError:
        raise Broken("proof", "it is not written as a proof is") from None
    if carried != note:
        raise Broken("proof", "it belongs to another checkpoint than the one in the bundle")
    if included_root(hashlib.sha256(b"\0" + entry).digest(), place, head.size, hashes) != head.root:
        raise Broken("proof", "it does not lead to the root in the checkpoint")
    return entry


def check_bundle(read: Read, key_text: str | None = None) -> tuple[int, list[str]]:
    """Check a bundle from the checkpoint down to the text and return an exit code and what was found, line by line.

    Each link is held against the one above it, so the first that does not hold is the one that was changed, and
    `Broken` names it. Without `key_text` the key in the bundle is taken, which proves less.
    """
    found = [] if key_text else ["key: taken from the bundle itself; compare it with one from elsewhere"]
    key = Key(key_text or _text(read, "vkey", "key"))
    proof, note = read("proof.tlog-proof"), read("checkpoint")
    entry = None
    if (proof is None) != (note is None):
        raise Broken("proof" if proof is None else "checkpoint", "this file is missing")
    if proof is not None and note is not None:
        head = Checkpoint(note, key)
        found.append(f"checkpoint: signed by {key.name} over {head.size} entries")
        entry = check_proof(proof, note, head)
        found.append("proof: leads to the root in the checkpoint")
    body, salt = _need(read, "event.json", "event"), _salt(read, "event.salt.hex", "event")
    if entry is not None and hashlib.sha256(salt + body).digest() != entry:
        raise Broken("event", "event.json, with event.salt.hex, is not the event that the proof is about")
    event, told = _json(body, "event"), _json(_need(read, "signature.json", "signature"), "signature")
    if event.get("name") != "license:signature:created" or not isinstance(event.get("data"), dict):
        raise Broken("event", "event.json tells of something else than a signature")
    data = event["data"]
    said = (event.get("subject"), event.get("at"), data.get("version"), data.get("text_sha256"))
    names = ("public_id", "signed_at", "version", "rendition_sha256")
    if (*said, data.get("annex_commitment")) != tuple(told.get(name) for name in (*names, "annex_commitment")):
        raise Broken("signature", "signature.json is not what the event says")
    found.append(f"signature: {said[0]}, {said[2]}, {said[1]}")
    evidence, salt = _need(read, "evidence.json", "evidence"), _salt(read, "salt.hex", "evidence")
    if hashlib.sha256(salt + evidence).hexdigest() != data["annex_commitment"]:
        raise Broken("evidence", "evidence.json, with salt.hex, is not what the signature committed to")
    terms = _json(evidence, "evidence").get("license")
    texts = [terms.get(name) for name in ("text_sha256", "authoritative_sha256")] if isinstance(terms, dict) else []
    if texts != [said[3], told.get("prevailing_sha256")]:
        raise Broken("signature", "signature.json names other texts than the evidence")
    found.append("evidence: is what the signature committed to")
    if hashlib.sha256(_need(read, "text.md", "text")).hexdigest() != said[3]:
        raise Broken("text", "text.md is not the text that was signed")
    found.append("text: is the text that was signed")
    if entry is None:
        return PENDING, [*found, "pending: not yet in the log; download the bundle again in a minute"]
    return HELD, found


def _need(read: Read, name: str, link: str) -> bytes:
    data = read(name)
    if data is None:
        raise Broken(link, f"{name} is missing")
    return data


def _text(read: Read, name: str, link: str) -> str:
    try:
        return _need(read, name, link).decode("ascii")
    except ValueError:
        raise Broken(link, f"{name} is not plain text") from None


def _salt(read: Read, name: str, link: str) -> bytes:
    text = _text(read, name, link)
    if not re.fullmatch("([0-9a-f]{2})+\n?", text):
        raise Broken(link, f"{name} is not written in hexadecimal digits")
    return bytes.fromhex(text)


def _json(body: bytes, link: str) -> dict:  # type: ignore[type-arg]
    data = None
    try:
        data = json.loads(body)
        plain = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        plain = b""
    if plain != body.removesuffix(b"\n") or not isinstance(data, dict):
        raise Broken(link, f"{link}.json is not written as the portal writes it")
    return data


def open_bundle(path: Path) -> Read:
    """Return how to read files of a bundle, a folder or a zip file."""
    if path.is_dir():
        return lambda name: (path / name).read_bytes() if (path / name).is_file() else None
    try:
        with zipfile.ZipFile(path) as archive:
            items = archive.infolist()
            names = [item.filename.rsplit("/", 1)[-1] for item in items]
            if sum(item.file_size for item in items) > LIMIT or len(names) > len(set(names)):
                raise Broken("bundle", f"{path} is too large, or holds a file twice")
            return dict(zip(names, map(archive.read, items), strict=True)).get
    except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Broken("bundle", f"{path} cannot be read: {error}") from None


class Source:
    """A portal's log by its address, or a folder with the same files; what was read once is not read again."""

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self.tiles: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """Return a file of the log."""
        try:
            if re.match("https?://", self.place):
                with urlopen(f"{self.place}/log/{name}", timeout=30) as answer:
                    return bytes(answer.read(LIMIT))
            return (Path(self.place) / name).read_bytes()
        except (OSError, URLError, HTTPException) as error:
            raise Broken("source", f"{self.place} does not give {name}: {error}") from None

    def node(self, level: int, index: int, size: int) -> bytes:
        """Return the hash of a complete subtree of the log of that size, from its tile."""
        height, below = divmod(level, 8)
        first, count = index << below, 1 << below
        number = first // 256
        width = min(256, (size >> 8 * height) - number * 256)
        groups = [f"{number % 1000:03d}"]
        while number >= 1000:
            number //= 1000
            groups.insert(0, f"x{number % 1000:03d}")
        name = f"tile/{height}/" + "/".join(groups) + (f".p/{width}" if width < 256 else "")
        tile = self.tiles[name] = self.tiles.get(name) or self.read(name)
        if len(tile) != 32 * width:
            raise Broken("tile", f"{name} has {len(tile)} bytes instead of {32 * width}")
        row = [tile[32 * at : 32 * at + 32] for at in range(first % 256, first % 256 + count)]
        while len(row) > 1:
            row = [node_hash(*row[at : at + 2]) for at in range(0, len(row), 2)]
        return row[0]

    def root(self, start: int, end: int, size: int) -> bytes:
        """Return the root over a range of entries."""
        level = (end - start).bit_length() - 1
        here = self.node(level, start >> level, size)
        start += 1 << level
        return node_hash(here, self.root(start, end, size)) if start < end else here


def monitor(source: Source, folder: Path, key_text: str | None) -> str:
    """Fetch the newest checkpoint, prove that it extends every one that is kept, keep it, and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    pinned = folder / "vkey"
    known = pinned.read_text() if pinned.is_file() else source.read("vkey").decode(errors="replace")
    key = Key(key_text or known)
    note = source.read("checkpoint")
    head = Checkpoint(note, key)
    paths = sorted(folder.glob("*.checkpoint"))
    for path in paths:
        old = Checkpoint(path.read_bytes(), key, link=f"kept {path.name}")
        check_grown(source, old, head, path.name)
    if not pinned.is_file():
        pinned.write_text(f"{key_text or known}".strip() + "\n")
    (folder / f"{head.size:012d}.checkpoint").write_bytes(note)
    return f"{head.origin}: {head.size} entries, extends all {len(paths)} checkpoints kept before"


def check_grown(source: Source, old: Checkpoint, head: Checkpoint, name: str) -> None:
    """Check that a newer log begins with an older one."""
    if head.size < old.size:
        raise Broken("log", f"it had {old.size} entries ({name}) and has {head.size} now: entries were taken away")
    if old.size == 0:
        return
    ranges = consistency_ranges(old.size, head.size)
    before = after = source.root(*ranges.pop(0), head.size) if ranges and ranges[0][1] == old.size else old.root
    for start, end in ranges:
        here = source.root(start, end, head.size)
        before = node_hash(here, before) if start < old.size else before
        after = node_hash(here, after) if start < old.size else node_hash(after, here)
    if (before, after) != (old.root, head.root):
        raise Broken("log", f"its first {old.size} entries are no longer those of {name}: history was rewritten")


def main(arguments: list[str]) -> int:
    """Run from the command line and return the exit code."""
    watching = arguments[:1] == ["monitor"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source" if watching else "bundle")
    parser.add_argument("--key", help="the log's public key, or a file that holds it")
    if watching:
        parser.add_argument("--keep", required=True, type=Path, help="folder of the checkpoints seen so far")
    chosen = parser.parse_args(arguments[watching:])
    try:
        key = Path(chosen.key).read_text() if chosen.key and Path(chosen.key).is_file() else chosen.key
        if watching:
            code, lines = HELD, [monitor(Source(chosen.source), chosen.keep, key)]
        else:
            code, lines = check_bundle(open_bundle(Path(chosen.bundle)), key)
    except Broken as error:
        print(f"BROKEN {error}", file=sys.stderr)
        return BROKEN
    print("\n".join([*lines, "NOT YET LOGGED" if code == PENDING else "HOLDS"]))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
