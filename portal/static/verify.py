"""Checks what a portal handed out, offline: evidence of a signature, and that the portal's log only ever grows.

    python verify.py BUNDLE [--key VKEY] [--witness KEY]… [--pdf [CERTIFICATE]]
    python verify.py monitor SOURCE --keep FOLDER [--key VKEY] [--witness KEY]…

BUNDLE was downloaded beside a signature: a zip file or a folder. VKEY is the log's public key, or a file that holds it:
get it from somewhere else than the bundle, such as a colleague or an earlier visit to /log/vkey. If the log changed its
key since, the old key vouches for the new one. SOURCE is the portal's address (https://…) or a folder with the same
files; every good checkpoint is kept in FOLDER, and the next must extend it.

KEY is the key of a witness whose word about the checkpoint you demand, or a file that holds it; KEY:FILE names a file
with that word where the checkpoint itself lacks it. --pdf checks the seal of the receipt as well, which needs pyHanko;
CERTIFICATE is the seal's, in PEM form, from somewhere else than the bundle.

Exit codes: 0 all holds · 1 something does not, and the line names the link that is broken · 2 wrong usage ·
3 all holds, but the event is not in the log yet: download the bundle again in a minute.

Only Python's standard library is needed, but for --pdf; read this file before you trust it.
"""

import argparse
import base64
import hashlib
import io
import json
import logging
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

HELD, BROKEN, WRONG, PENDING = 0, 1, 2, 3
LOG, WITNESS = b"\1", b"\4"
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


# Keys of passkeys: ECDSA on P-256 (FIPS 186-5) and RSASSA-PKCS1-v1_5 (RFC 8017), verification only.

P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
P256_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
RSA_HEAD = bytes.fromhex("3031300d060960864801650304020105000420")
Place = tuple[int, int] | None


def _sum(a: Place, b: Place) -> Place:
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P256 == 0:
        return None
    slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P256) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P256)
    x = (slope * slope - a[0] - b[0]) % P256
    return (x, (slope * (a[0] - x) - a[1]) % P256)


def _product(factor: int, place: Place) -> Place:
    total: Place = None
    while factor:
        total = _sum(total, place) if factor & 1 else total
        place, factor = _sum(place, place), factor >> 1
    return total


def p256(x: int, y: int, signature: bytes, message: bytes) -> bool:
    """Say whether a signature, as ASN.1 writes it, over a message is by the key."""
    if not (0 <= x < P256 and 0 <= y < P256 and (y * y - x * x * x + 3 * x - P256_B) % P256 == 0):
        return False
    if signature[:1] != b"\x30" or signature[1] != len(signature) - 2 or signature[2] != 2:
        return False
    end = 4 + signature[3]
    if signature[end] != 2 or end + 2 + signature[end + 1] != len(signature):
        return False
    r, s = int.from_bytes(signature[4:end], "big"), int.from_bytes(signature[end + 2 :], "big")
    if not (0 < r < P256_ORDER and 0 < s < P256_ORDER):
        return False
    inverse, told = pow(s, -1, P256_ORDER), int.from_bytes(hashlib.sha256(message).digest(), "big")
    found = _sum(_product(told * inverse % P256_ORDER, P256_BASE), _product(r * inverse % P256_ORDER, (x, y)))
    return found is not None and found[0] % P256_ORDER == r


def by_key(key: dict, signature: bytes, message: bytes) -> bool:  # type: ignore[type-arg]
    """Say whether a signature over a message is by a public key (JWK): P-256, Ed25519, or RSA of 2,048 bits or more."""
    kind = (key["kty"], key.get("crv"))
    if kind == ("OKP", "Ed25519"):
        return ed25519(_unurl(key["x"]), signature, message)
    if kind == ("EC", "P-256"):
        x, y = (int.from_bytes(_unurl(key[name]), "big") for name in "xy")
        return p256(x, y, signature, message)
    if kind != ("RSA", None):
        return False
    n, e = (int.from_bytes(_unurl(key[name]), "big") for name in "ne")
    size = (n.bit_length() + 7) // 8
    told = RSA_HEAD + hashlib.sha256(message).digest()
    padded = b"\0\1" + b"\xff" * (size - len(told) - 3) + b"\0" + told
    strong = n.bit_length() >= 2048 and e >= 3 and len(signature) == size
    return strong and pow(int.from_bytes(signature, "big"), e, n).to_bytes(size, "big") == padded


def _unurl(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


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
    """A public key, ``name+id+base64``: the log's, or a witness's with another kind.

    `last` is how many entries the log had when this key handed it over to another one.
    """

    def __init__(self, text: str, kind: bytes = LOG) -> None:
        link = "key" if kind == LOG else "witness"
        try:
            self.name, number, data = text.strip().split("+", 2)
            material = unbase64(data)
        except ValueError:
            raise Broken(link, "this is not a key as the log or a witness gives it") from None
        self.number = hashlib.sha256(self.name.encode() + b"\n" + material).digest()[:4]
        self.public = material[1:]
        self.last: int | None = None
        if material[:1] != kind or len(material) != 33 or self.number.hex() != number:
            raise Broken(link, "it does not match its own number")

    def signed(self, marks: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Return the signatures in the name of this key."""
        return [value[4:] for name, value in marks if name == self.name and value[:4] == self.number]


class Checkpoint:
    """A signed tree head, checked against the keys of the log; `link` names it when it does not hold."""

    def __init__(self, note: bytes, keys: Sequence[Key], link: str = "checkpoint") -> None:
        try:
            body, signed = note.decode().rsplit("\n\n", 1)
            self.origin, size, root, *more = body.split("\n")
            self.size, self.root, self.body = whole(size), unbase64(root), f"{body}\n".encode()
            self.marks = read_marks(signed)
        except ValueError:
            raise Broken(link, "it is not written as a checkpoint is") from None
        self.successor = next((line[10:] for line in more if line.startswith("successor ")), "")
        mine = [(key, value) for key in keys for value in key.signed(self.marks)]
        if self.origin != keys[0].name or not mine:
            raise Broken(link, f"it is not signed in the name of {keys[0].name}")
        if not all(ed25519(key.public, value, self.body) for key, value in mine):
            raise Broken(link, "its signature is not by the key")
        if all(key.last is not None and key.last < self.size for key, _ in mine):
            raise Broken(link, "it is signed by a key that had handed the log over before")


def read_marks(signed: str) -> list[tuple[str, bytes]]:
    """Read lines of signatures: whose each is, and its bytes."""
    lines = [line.split(" ") for line in signed.split("\n")]
    if lines.pop() != [""] or any(len(line) != 3 or line[0] != "\u2014" for line in lines):
        raise ValueError(signed)
    return [(name, unbase64(value)) for _, name, value in lines]


def lineage(key: Key, handover: Read) -> list[Key]:
    """Return a key and those to which the log was handed over since, one after the other, by number."""
    keys = [key]
    while (note := handover(keys[-1].number.hex())) is not None:
        head = Checkpoint(note, keys[-1:], "handover")
        heir = Key(head.successor)
        if heir.number in [one.number for one in keys]:
            raise Broken("handover", "the keys go round in circles")
        Checkpoint(note, [heir], "handover")
        keys[-1].last = head.size
        keys.append(heir)
    return keys


def check_witness(head: Checkpoint, demanded: str) -> str:
    """Check that a witness vouched for a checkpoint, and say when it did."""
    text, file = demanded, ""
    if Path(demanded).is_file():
        text = Path(demanded).read_text()
    elif demanded.count("+") > 1:
        text, _, file = demanded.rpartition(":") if ":" in demanded.split("+", 2)[2] else (demanded, "", "")
    witness, marks = Key(text, WITNESS), head.marks
    try:
        lines = Path(file).read_text(encoding="utf-8").split("\n") if file else []
        marks = marks + read_marks("".join(f"{line}\n" for line in lines if line.startswith("\u2014 ")))
    except (OSError, ValueError):
        raise Broken("witness", f"{file} holds no lines of signatures") from None
    for value in witness.signed(marks):
        seconds = int.from_bytes(value[:8], "big")
        told = f"cosignature/v1\ntime {seconds}\n".encode() + head.body
        if len(value) != 72 or seconds >> 33 or not ed25519(witness.public, value[8:], told):
            raise Broken("witness", f"the word of {witness.name} about this checkpoint does not hold")
        return f"witness: {witness.name} vouched for the checkpoint, {datetime.fromtimestamp(seconds, UTC)}"
    raise Broken("witness", f"{witness.name} has not vouched for this checkpoint")


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


def check_proof(proof: bytes, note: bytes, head: Checkpoint, link: str) -> bytes:
    """Check that a proof leads from its entry to the checkpoint, and return the entry."""
    try:
        text, carried = proof.split(b"\n\n", 1)
        header, extra, index, *path = text.decode().split("\n")
        if header != "c2sp.org/tlog-proof@v1" or extra[:6] != "extra " or index[:6] != "index ":
            raise ValueError(header)
        entry, place, hashes = unbase64(extra[6:]), whole(index[6:]), [unbase64(line) for line in path]
    except ValueError:
        raise Broken(link, "the proof is not written as a proof is") from None
    if carried != note:
        raise Broken(link, "the proof belongs to another checkpoint than the one in the bundle")
    if included_root(hashlib.sha256(b"\0" + entry).digest(), place, head.size, hashes) != head.root:
        raise Broken(link, "the proof does not lead to the root in the checkpoint")
    return entry


def check_bundle(
    read: Read, key_text: str | None = None, witnesses: Sequence[str] = (), certificate: bytes | None = None
) -> tuple[int, list[str]]:
    """Check a bundle from the checkpoint down to the text and return an exit code and what was found, line by line.

    Each link is held against the one above it, so the first that does not hold is the one that was changed, and
    `Broken` names it. Without `key_text` the key in the bundle is taken, which proves less. With `certificate` the seal
    of the receipt is checked as well; an empty one stands for the one in the bundle.
    """
    found = [] if key_text else ["key: taken from the bundle itself; compare it with one from elsewhere"]
    key = Key(key_text or _text(read, "vkey", "key"))
    note, head = read("checkpoint"), None
    proofs = [read("proof.tlog-proof"), read("receipt.proof.tlog-proof")]
    if note is None and any(proofs):
        raise Broken("checkpoint", "this file is missing")
    if note is not None:
        head = Checkpoint(note, lineage(key, lambda number: read(f"handover.{number}")))
        found.append(f"checkpoint: signed by {key.name} over {head.size} entries")
        found += [check_witness(head, one) for one in witnesses]
    elif witnesses:
        raise Broken("witness", "there is no checkpoint yet for which a witness could vouch")
    event = _event(read, "", note, head, ("proof", "event"))
    subject, text_sha256 = _check_signature(read, event, found)
    if hashlib.sha256(_need(read, "text.md", "text")).hexdigest() != text_sha256:
        raise Broken("text", "text.md is not the text that was signed")
    found.append("text: is the text that was signed")
    made = _event(read, "receipt.", note, head, ("receipt", "receipt"))
    pdf = _need(read, "receipt.pdf", "receipt")
    said = (made.get("name"), made.get("subject"), made.get("data"))
    if said != ("license:receipt:created", subject, {"pdf_sha256": hashlib.sha256(pdf).hexdigest()}):
        raise Broken("receipt", "receipt.pdf is not the file that the log names as the receipt of this signature")
    found.append("receipt: is the file that the portal issued")
    if certificate is not None:
        found += [] if certificate else ["pdf: the certificate is taken from the bundle itself; compare it"]
        found.append(check_seal(pdf, certificate or _need(read, "certificate.pem", "pdf")))
    if head is None:
        return PENDING, [*found, "pending: not yet in the log; download the bundle again in a minute"]
    return HELD, found


def _event(read: Read, prefix: str, note: bytes | None, head: Checkpoint | None, links: tuple[str, str]) -> dict:  # type: ignore[type-arg]
    """Return an entry of the log, once it is held against its proof."""
    name, entry = f"{prefix}event", None
    if head is not None and note is not None:
        entry = check_proof(_need(read, f"{prefix}proof.tlog-proof", links[0]), note, head, links[0])
    body, salt = _need(read, f"{name}.json", links[1]), _salt(read, f"{name}.salt.hex", links[1])
    if entry is not None and hashlib.sha256(salt + body).digest() != entry:
        raise Broken(links[1], f"{name}.json, with {name}.salt.hex, is not the event that the proof is about")
    return _json(body, links[1], name)


def _check_signature(read: Read, event: dict, found: list[str]) -> tuple[str, str]:  # type: ignore[type-arg]
    """Hold signature and evidence against the event; returns the signature's name and the digest of its text."""
    told = _json(_need(read, "signature.json", "signature"), "signature", "signature")
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
    terms = _json(evidence, "evidence", "evidence").get("license")
    texts = [terms.get(name) for name in ("text_sha256", "authoritative_sha256")] if isinstance(terms, dict) else []
    if texts != [said[3], told.get("prevailing_sha256")]:
        raise Broken("signature", "signature.json names other texts than the evidence")
    found.append("evidence: is what the signature committed to")
    found += _check_passkey(_json(evidence, "evidence", "evidence"))
    return str(said[0]), str(said[3])


def _check_passkey(evidence: dict) -> list[str]:  # type: ignore[type-arg]
    """Hold a passkey's signature, where there is one, against the evidence that it is about (WebAuthn, section 7.2)."""
    sitting = evidence.get("ceremony")
    if not isinstance(sitting, dict) or sitting.get("method") != "passkey":
        return []
    try:
        proof = sitting["passkey"]
        words = [row["text"] for row in sitting["statements"] if row["id"] == "binding"]
        acknowledged = [[row["key"], row["wording_sha256"]] for row in sitting["acknowledgments"]]
        subject = {
            "schema": "portal.bound/1", "ceremony": sitting["id"], "sentence": words[0],
            "text_sha256": evidence["license"]["text_sha256"], "acknowledged": acknowledged,
        }  # fmt: skip
        body = json.dumps(subject, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        client, device, mark = (_unurl(proof[name]) for name in ("client_data", "authenticator_data", "signature"))
        said = json.loads(client)
        meant = (said["type"], _unurl(said["challenge"])) == ("webauthn.get", hashlib.sha256(body).digest())
        holds = by_key(proof["public_key"], mark, device + hashlib.sha256(client).digest())
        name = str(proof["name"]) if device[32] & 5 == 5 else ""
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Broken("passkey", "what the evidence holds of a passkey cannot be read") from error
    if not meant:
        raise Broken("passkey", "the passkey signed something else than what the evidence says")
    if not holds or not name:
        raise Broken("passkey", "the signature is not by that passkey, on a device that checked who uses it")
    return [f"passkey: its device signed the sentence, the text and the acknowledgments, on {said.get('origin')}"]


def check_seal(pdf: bytes, certificate: bytes) -> str:
    """Check the seal of a receipt offline, through pyHanko: the key, the whole file covered, no change permitted."""
    logging.disable()  # what does not hold is said once, below
    try:
        signature, status, at, trusted = _read_seal(pdf, certificate)
        start, _, after, rest = signature.byte_range
        raw, by = signature.pkcs7_content, status.signing_cert
        covered = (start, after + rest) == (0, len(pdf)) and not any(raw[4 + int.from_bytes(raw[2:4], "big") :])
        told = status.timestamp_validity.signing_cert.subject.human_friendly if at else ""
    except Exception as error:  # noqa: BLE001 # the file is anybody's
        raise Broken("pdf", f"its seal cannot be read ({type(error).__name__})") from None
    finally:
        logging.disable(logging.NOTSET)
    if by.dump() not in trusted:
        raise Broken("pdf", "it is sealed with another certificate")
    if not (status.intact and covered and status.coverage.name == "ENTIRE_FILE"):
        raise Broken("pdf", "it was changed after it was sealed, or its seal does not cover the whole file")
    if signature.docmdp_level is None or signature.docmdp_level.name != "NO_CHANGES" or not status.docmdp_ok:
        raise Broken("pdf", "its seal permits changes")
    if not status.bottom_line:
        raise Broken("pdf", "its seal, or the timestamp in it, does not hold")
    when = f"timestamp {at} by {told}, for you to judge" if at else "no timestamp"
    return f"pdf: sealed with the certificate {hashlib.sha256(by.dump()).hexdigest()}, whole and unchanged; {when}"


def _read_seal(pdf: bytes, certificate: bytes) -> tuple:  # type: ignore[type-arg]
    """Return the seal, what pyHanko says of it, the time in its timestamp, and the certificates that are trusted."""
    library, generic = import_module("pyhanko.sign.validation"), import_module("pyhanko.sign.validation.generic_cms")
    context = import_module("pyhanko_certvalidator").ValidationContext
    trusted = list(import_module("pyhanko.keys.pemder").load_certs_from_pemder_data(certificate))
    [signature] = import_module("pyhanko.pdf_utils.reader").PdfFileReader(io.BytesIO(pdf)).embedded_signatures
    token = next(generic.extract_tst_data_iter(signature.signer_info, signed=False), None)
    at = token["encap_content_info"]["content"].parsed["gen_time"].native if token else None
    given = {"moment": at or signature.self_reported_timestamp, "allow_fetching": False}
    status = library.validate_pdf_signature(
        signature,
        context(trust_roots=trusted, **given),
        context(trust_roots=[one.chosen for one in token["certificates"]], **given) if token else None,
        key_usage_settings=library.KeyUsageConstraints(key_usage=set()),
    )
    return signature, status, at, [one.dump() for one in trusted]


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


def _json(body: bytes, link: str, name: str) -> dict:  # type: ignore[type-arg]
    data = None
    try:
        data = json.loads(body)
        plain = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        plain = b""
    if plain != body.removesuffix(b"\n") or not isinstance(data, dict):
        raise Broken(link, f"{name}.json is not written as the portal writes it")
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

    def handover(self, number: str) -> bytes | None:
        """Return the checkpoint by which a key handed the log over, if it did."""
        try:
            return self.read(f"handover/{number}")
        except Broken:
            return None

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


def monitor(source: Source, folder: Path, key_text: str | None, witnesses: Sequence[str] = ()) -> list[str]:
    """Fetch the newest checkpoint, prove that it extends every one that is kept, keep it, and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    pinned = folder / "vkey"
    known = pinned.read_text() if pinned.is_file() else source.read("vkey").decode(errors="replace")
    keys = lineage(Key(key_text or known), source.handover)
    note = source.read("checkpoint")
    head = Checkpoint(note, keys)
    found = [check_witness(head, one) for one in witnesses]
    paths = sorted(folder.glob("*.checkpoint"))
    for path in paths:
        old = Checkpoint(path.read_bytes(), keys, link=f"kept {path.name}")
        check_grown(source, old, head, path.name)
    if not pinned.is_file():
        pinned.write_text(f"{key_text or known}".strip() + "\n")
    (folder / f"{head.size:012d}.checkpoint").write_bytes(note)
    found += [f"key: {keys[0].number.hex()} handed the log over; {keys[-1].number.hex()} signs now"] if keys[1:] else []
    return [*found, f"{head.origin}: {head.size} entries, extends all {len(paths)} checkpoints kept before"]


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
    parser.add_argument("--witness", action="append", default=[], metavar="KEY[:FILE]", help="demand its word")
    if not watching:
        parser.add_argument("--pdf", nargs="?", const="", metavar="CERTIFICATE", help="check the seal of the receipt")
    chosen = parser.parse_args(arguments[watching:])
    if not watching and chosen.pdf is not None and find_spec("pyhanko") is None:
        print("--pdf needs pyHanko, which is not installed here: python -m pip install pyhanko", file=sys.stderr)
        return WRONG
    try:
        key = Path(chosen.key).read_text() if chosen.key and Path(chosen.key).is_file() else chosen.key
        if watching:
            code, lines = HELD, monitor(Source(chosen.source), chosen.keep, key, chosen.witness)
        else:
            certificate = Path(chosen.pdf).read_bytes() if chosen.pdf else None if chosen.pdf is None else b""
            code, lines = check_bundle(open_bundle(Path(chosen.bundle)), key, chosen.witness, certificate)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return WRONG
    except Broken as error:
        print(f"BROKEN {error}", file=sys.stderr)
        return BROKEN
    print("\n".join([*lines, "NOT YET LOGGED" if code == PENDING else "HOLDS"]))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
