"""The program that checks what the portal hands out: its signatures, and its watch over a log that only grows."""

import json
import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.orm import Session

from portal.adapters.signing_key import SigningKey, open_key
from portal.proofs import rules, service
from portal.proofs.models import Checkpoint, Leaf, Node
from tests.logged import ORIGIN, advance, behind_the_back, record
from tests.running import RunningPortal
from tests.verifying import NOW, SCRIPT, verify

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
