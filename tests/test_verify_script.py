"""The program that checks what the portal handed out: nothing changed gets past it, and nothing honest fails."""

import importlib.util
import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.orm import Session

from portal.adapters.signing_key import SigningKey, open_key
from portal.audit.rules import LicenseSigned, written
from portal.core.clock import stamp
from portal.core.db import make_engine, transaction
from portal.migrations import upgrade
from portal.proofs import rules, service
from portal.proofs.models import Checkpoint, Leaf, Node
from portal.proofs.rules import Edge, canonical
from portal.receipts import service as receipts
from tests import conduct, licensed
from tests.check import ROOT
from tests.logged import ORIGIN, advance, behind_the_back, record
from tests.running import RunningPortal

SCRIPT = ROOT / "portal" / "static" / "verify.py"
NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
LINKS = {
    "text.md": "text", "evidence.json": "evidence", "salt.hex": "evidence", "proof.tlog-proof": "proof",
    "checkpoint": "checkpoint", "event.json": "event", "event.salt.hex": "event", "signature.json": "signature",
    "vkey": "key",
}  # fmt: skip
Files = dict[str, bytes]


def load() -> Any:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("verify_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verify = load()
# The same signature over the same bytes is checked once: ten thousand bundles share a checkpoint.
verify.ed25519 = cache(verify.ed25519)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    """The key of a log."""
    return open_key(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> bytes:
    """A real bundle of a real signature, as it is downloaded."""
    engine = make_engine(f"sqlite:///{tmp_path_factory.mktemp('db') / 'portal.db'}")
    upgrade(engine)
    with transaction(engine) as session:
        record(session, NOW, *map(str, range(40)))
        version = licensed.publish(session, NOW)
        signature = licensed.sign(session, licensed.browsing(conduct.person(session, "ann", NOW)), version, NOW)
        record(session, NOW, *map(str, range(30)))
        order = receipts.order(session, signature_id=signature.id)
        receipts.store(session, order=order, pdf_sha256=sha256(b"%PDF").hexdigest(), now=NOW)
        advance(session, key, NOW)
        vkey = f"{rules.vkey(ORIGIN, key.public)}\n".encode()
        body = receipts.bundle(
            session, signature=signature, read_file=lambda _: b"%PDF", vkey=vkey, verifier=SCRIPT.read_bytes()
        )
    engine.dispose()
    return body


@pytest.fixture(scope="module")
def files(bundle: bytes) -> Files:
    """The files of that bundle."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def broken_link(files: Files, key: str | None = None) -> str:
    """The link that is named, or nothing for a bundle that holds."""
    try:
        code, _ = verify.check_bundle(files.get, key)
    except verify.Broken as error:
        return str(error.link)
    assert code == verify.HELD
    return ""


def test_a_bundle_holds_as_it_was_downloaded(bundle: bytes, files: Files, tmp_path: Path, key: SigningKey) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle)
    vkey = rules.vkey(ORIGIN, key.public)
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(path), "--key", vkey]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "HOLDS"), done.stderr
    assert files["verify.py"] == SCRIPT.read_bytes()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    assert verify.main([str(tmp_path / "folder")]) == 0


@pytest.mark.threat("TM-20")
def test_ten_thousand_changes_of_one_byte_each_name_their_link(files: Files, key: SigningKey) -> None:
    rng = random.Random(20)
    vkey = rules.vkey(ORIGIN, key.public)
    wrong, done = [], 0
    for name, link in LINKS.items():
        body, given = files[name], None if name == "vkey" else vkey
        every = range(len(body) - (name == "vkey"))
        for at in every if len(body) < 2500 else rng.sample(every, 2500):
            for other in rng.sample([value for value in range(256) if value != body[at]], 2):
                changed = body[:at] + bytes([other]) + body[at + 1 :]
                done += 1
                if broken_link({**files, name: changed}, given) != link:
                    wrong.append((name, at, body[at], other))
    assert not wrong
    assert done >= 10_000


@pytest.mark.threat("TM-20")
@pytest.mark.parametrize("name", ["proof.tlog-proof", "checkpoint"])
def test_the_same_value_written_in_another_way_is_a_change(files: Files, key: SigningKey, name: str) -> None:
    body, vkey = files[name], rules.vkey(ORIGIN, key.public)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for at in [at for at in range(len(body) - 1) if body[at + 1 : at + 2] == b"="]:
        for other in set(alphabet) - {body[at]}:
            changed = body[:at] + bytes([other]) + body[at + 1 :]
            assert broken_link({**files, name: changed}, vkey) == LINKS[name]


@pytest.mark.threat("TM-20")
@pytest.mark.parametrize("name", sorted(LINKS))
def test_bytes_that_are_added_or_taken_name_their_link(files: Files, key: SigningKey, name: str) -> None:
    given = None if name == "vkey" else rules.vkey(ORIGIN, key.public)
    for changed in (files[name][:-2], files[name][1:], files[name] + b"x", b"x" + files[name], b"", b"\xff"):
        assert broken_link({**files, name: changed}, given) == LINKS[name]
    rest = {other: body for other, body in files.items() if other != name}
    assert broken_link(rest, given) == LINKS[name]


def honest(count: int, key: SigningKey) -> Iterator[Files]:
    """Bundles of made-up signatures that share one tree."""
    rng = random.Random(count)
    made: list[Files] = []
    edge, nodes, leaves = Edge(), {}, []
    for number in range(count):
        text = f"Terms {number} — Bedingungen, 条款, شروط\n".encode() * rng.randint(1, 3)
        sha = sha256(text).hexdigest()
        evidence = canonical(
            {"receipt_id": f"sig_{number}", "signer": {"typed_name": rng.choice(["Ann", "李", "محمد", "Åsa 😀"])},
             "license": {"text_sha256": sha, "authoritative_sha256": sha}}
        )  # fmt: skip
        salt, event_salt, at = rng.randbytes(32), rng.randbytes(32), stamp(NOW + timedelta(microseconds=number))
        data = {"version": "a/1", "text_sha256": sha, "annex_commitment": rules.commitment(salt, evidence)}
        event = written(
            ref=f"evt_{number}", name=LicenseSigned.name, subject=f"sig_{number}", data=data, actor="usr_a", at=at
        )
        told = {
            "public_id": f"sig_{number}", "rendition_sha256": sha, "prevailing_sha256": sha, "signed_at": at,
            "version": "a/1", "annex_commitment": data["annex_commitment"],
        }  # fmt: skip
        leaves.append(sha256(event_salt + event).digest())
        nodes |= {(level, index): value for level, index, value in edge.add(rules.leaf_hash(leaves[-1]))}
        made.append(
            {"text.md": text, "evidence.json": evidence, "salt.hex": salt.hex().encode(), "event.json": event,
             "event.salt.hex": event_salt.hex().encode(), "signature.json": canonical(told)}
        )  # fmt: skip
    note = rules.checkpoint(ORIGIN, count, edge.root, key)
    for index, files in enumerate(made):
        spans = rules.inclusion_ranges(index, count)
        path = [rules.fold([nodes[place] for place in rules.cover(*span)]) for span in spans]
        yield {**files, "checkpoint": note, "proof.tlog-proof": rules.proof(index, leaves[index], path, note)}


@pytest.mark.threat("TM-20")
def test_ten_thousand_honest_bundles_hold(key: SigningKey) -> None:
    vkey = rules.vkey(ORIGIN, key.public)
    assert [broken_link(files, vkey) for files in honest(10_000, key)] == [""] * 10_000


def test_small_logs_hold_too(key: SigningKey) -> None:
    for count in range(1, 20):
        assert {broken_link(files, rules.vkey(ORIGIN, key.public)) for files in honest(count, key)} == {""}


def test_a_bundle_that_is_not_in_the_log_yet_says_so(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in files.keys() - {"proof.tlog-proof", "checkpoint"}:
        (tmp_path / name).write_bytes(files[name])
    assert verify.main([str(tmp_path)]) == 3
    said = capsys.readouterr().out
    assert "not yet in the log" in said
    assert "HOLDS" not in said
    (tmp_path / "text.md").write_bytes(b"other")
    assert verify.main([str(tmp_path)]) == 1
    assert "BROKEN text: " in capsys.readouterr().err


@pytest.mark.threat("TM-20")
def test_links_of_other_bundles_do_not_fit(key: SigningKey) -> None:
    one, other, *_ = honest(5, key)
    vkey = rules.vkey(ORIGIN, key.public)
    for name in one.keys() - {"checkpoint"}:
        mixed = {**one, name: other[name]}
        assert one[name] == other[name] or broken_link(mixed, vkey) in {LINKS[name], "event", "signature"}, name
    foreign = next(honest(6, key))
    assert broken_link({**one, "checkpoint": foreign["checkpoint"]}, vkey) == "proof"
    assert broken_link({**one, "proof.tlog-proof": foreign["proof.tlog-proof"]}, vkey) == "proof"


def test_another_key_is_not_taken_for_the_logs(files: Files, tmp_path: Path) -> None:
    stranger = open_key(tmp_path)
    assert broken_link(files, rules.vkey(ORIGIN, stranger.public)) == "checkpoint"
    assert broken_link(files, rules.vkey("other.example", stranger.public)) == "checkpoint"
    assert broken_link(files, "scribble") == "key"


def test_what_is_no_bundle_is_refused(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.zip"
    for body in (b"", b"PK\x03\x04 scribble"):
        path.write_bytes(body)
        assert verify.main([str(path)]) == 1
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/text.md", files["text.md"])
        archive.writestr("b/text.md", b"other")
    assert verify.main([str(path)]) == 1
    assert verify.main([str(tmp_path / "missing.zip")]) == 1
    assert "BROKEN bundle" in capsys.readouterr().err
    for event in (b"[]", b"{}", b'{"data":{},"name":"x"}', b"[" * 100_000, b'{"x":1e999}'):
        changed = {name: body for name, body in files.items() if name not in {"proof.tlog-proof", "checkpoint"}}
        with pytest.raises(verify.Broken, match="event"):
            verify.check_bundle({**changed, "event.json": event}.get)


# RFC 8032, 7.1: secret key, public key, message, signature.
VECTORS = (
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
)  # fmt: skip


def test_signatures_are_checked_as_the_standard_has_it() -> None:
    for public, message, signature in VECTORS:
        given = bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(message)
        assert verify.ed25519(*given)
        assert not verify.ed25519(given[0], given[1], given[2] + b"x")
        moved = int.from_bytes(given[1][32:], "little") + verify.ORDER
        assert not verify.ed25519(given[0], given[1][:32] + moved.to_bytes(32, "little"), given[2]), "not in two ways"
    rng = random.Random(8032)
    for _ in range(20):
        secret = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        public, message = secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), rng.randbytes(50)
        good = secret.sign(message)
        assert verify.ed25519(public, good, message)
        at = rng.randrange(64)
        assert not verify.ed25519(public, good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :], message)
    assert not verify.ed25519(public[:31], good, message)
    assert not verify.ed25519(b"\xff" * 32, good, message)
    assert not verify.ed25519(public, good[:63], message)


# The monitor.


def publish(session: Session, folder: Path, key: SigningKey) -> None:
    """Write the log as it is now into a folder, as a portal serves it."""
    last = service.newest(session)
    assert last is not None
    (folder / "vkey").write_text(rules.vkey(ORIGIN, key.public))
    (folder / "checkpoint").write_bytes(last.note)
    for level in range(2):
        here = last.size >> 8 * level
        for number in range((here + 255) // 256):
            width = min(256, here - 256 * number)
            path = folder / "tile" / str(level) / rules.tile_path(number, width)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(service.tile(session, level=level, number=number, width=width) or b"")


@pytest.fixture
def log(session: Session, tmp_path: Path) -> tuple[Session, SigningKey, Path]:
    """A log of some 300 entries that was published once."""
    key, folder = open_key(tmp_path / "home"), tmp_path / "public"
    folder.mkdir()
    record(session, NOW, *map(str, range(300)))
    advance(session, key, NOW)
    publish(session, folder, key)
    return session, key, folder


def watch(folder: Path, *more: str) -> int:
    return int(verify.main(["monitor", str(folder), "--keep", str(folder.parent / "kept"), *more]))


def test_the_monitor_follows_a_log_that_only_grows(log: Any, capsys: pytest.CaptureFixture[str]) -> None:
    session, key, folder = log
    assert watch(folder) == 0
    assert watch(folder) == 0
    for minute in range(1, 6):
        record(session, NOW, *map(str, range(53 * minute)))
        advance(session, key, NOW + timedelta(minutes=minute))
        publish(session, folder, key)
        assert watch(folder) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert f"{ORIGIN}: {service.size(session)} entries, extends all 5 checkpoints kept before" in said
    assert len(list((folder.parent / "kept").glob("*.checkpoint"))) == 6
    (folder / "vkey").write_text(rules.vkey(ORIGIN, open_key(folder).public))
    assert watch(folder) == 0, "the key it saw first is the one that counts"
    assert watch(folder, "--key", str(folder / "vkey")) == 1


@pytest.mark.threat("TM-21")
def test_the_monitor_sees_an_older_copy(log: Any, capsys: pytest.CaptureFixture[str]) -> None:
    session, key, folder = log
    older = (folder / "checkpoint").read_bytes()
    record(session, NOW, "more")
    advance(session, key, NOW + timedelta(minutes=1))
    publish(session, folder, key)
    assert watch(folder) == 0
    (folder / "checkpoint").write_bytes(older)
    assert watch(folder) == 1
    assert "entries were taken away" in capsys.readouterr().err


@pytest.mark.threat("TM-21")
@pytest.mark.parametrize("grown", [0, 1, 300])
def test_the_monitor_sees_history_rewritten_by_who_holds_the_key(
    log: Any, capsys: pytest.CaptureFixture[str], grown: int
) -> None:
    session, key, folder = log
    assert watch(folder) == 0
    for table in (Node, Checkpoint):
        behind_the_back(session, sa.delete(table))
    behind_the_back(session, sa.update(Leaf).where(Leaf.event_ref.is_not(None)).values(index=None))
    first = session.scalars(sa.select(Leaf.id).order_by(Leaf.id)).first()
    behind_the_back(session, sa.update(Leaf).where(Leaf.id == first).values(commitment=b"f" * 32))
    record(session, NOW, *map(str, range(grown)))
    key.kept_at.unlink()
    advance(session, key, NOW)
    publish(session, folder, key)
    assert watch(folder) == 1
    assert "history was rewritten" in capsys.readouterr().err


def test_the_monitor_says_what_is_missing(log: Any, capsys: pytest.CaptureFixture[str]) -> None:
    session, key, folder = log
    assert watch(folder) == 0
    record(session, NOW, *map(str, range(400)))
    advance(session, key, NOW + timedelta(minutes=1))
    publish(session, folder, key)
    for path in (folder / "tile").rglob("*"):
        if path.is_file():
            path.write_bytes(b"short")
    assert watch(folder) == 1
    assert "BROKEN tile" in capsys.readouterr().err
    (folder / "checkpoint").unlink()
    assert watch(folder) == 1
    assert "does not give checkpoint" in capsys.readouterr().err
    assert verify.main(["monitor", "http://127.0.0.1:9", "--keep", str(folder.parent / "none")]) == 1
    assert "BROKEN source" in capsys.readouterr().err


def test_a_running_portal_is_watched_over_its_address(portal: RunningPortal, tmp_path: Path) -> None:
    for _ in range(2):
        command = [sys.executable, str(SCRIPT), "monitor", portal.base_url, "--keep", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    found = json.loads(portal.cli("audit", "verify", "--json"))
    assert found["holds"]
    assert found["entries"] > 0
