"""The program that checks bundles: no changed byte gets past it, whatever the file, and nothing honest fails."""

import io
import random
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

from portal.adapters import seal_key
from portal.adapters.signing_key import SigningKey, open_key
from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.migrations import upgrade
from portal.proofs import rules
from portal.receipts import service as receipts
from tests import conduct, licensed, sealing
from tests.logged import ORIGIN, advance, record
from tests.verifying import LINKS, NOW, SCRIPT, Files, broken_link, honest, verify
from tests.witness import Wit

UNLOGGED = {"proof.tlog-proof", "receipt.proof.tlog-proof", "checkpoint"}


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
        pdf = sealing.issue(session, receipts.order(session, signature_id=signature.id))
        advance(session, key, NOW)
        vkey = f"{rules.vkey(ORIGIN, key.public)}\n".encode()
        body = receipts.bundle(
            session, signature=signature, read_file=lambda _: pdf, vkey=vkey, verifier=SCRIPT.read_bytes(),
            certificate=sealing.seal().pem,
        )  # fmt: skip
    engine.dispose()
    return body


@pytest.fixture(scope="module")
def files(bundle: bytes) -> Files:
    """The files of that bundle."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


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
    """Ten thousand over the receipt alone, which the log names by its digest, and ten thousand over the rest."""
    rng = random.Random(20)
    vkey = rules.vkey(ORIGIN, key.public)
    wrong, done = [], Counter[bool]()
    for name, link in LINKS.items():
        body, given = files[name], None if name == "vkey" else vkey
        every, most = range(len(body) - (name == "vkey")), 10_000 if name == "receipt.pdf" else 2_000
        for at in every if len(body) < most else sorted(rng.sample(every, most)):
            for other in rng.sample([value for value in range(256) if value != body[at]], 1 if most > 2_000 else 2):
                changed = body[:at] + bytes([other]) + body[at + 1 :]
                done[name == "receipt.pdf"] += 1
                if broken_link({**files, name: changed}, given) != link:
                    wrong.append((name, at, body[at], other))
    assert not wrong
    assert min(done.values()) >= 10_000, done


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
    for name in files.keys() - UNLOGGED:
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
        changed = {name: body for name, body in files.items() if name not in UNLOGGED}
        with pytest.raises(verify.Broken, match="event"):
            verify.check_bundle({**changed, "event.json": event}.get)


# Witnesses.


@pytest.fixture(scope="module")
def witness() -> Wit:
    """A witness."""
    return Wit()


def vouched(files: Files, *lines: bytes) -> Files:
    """The bundle as it is once witnesses have vouched for its checkpoint."""
    names = ("checkpoint", "proof.tlog-proof", "receipt.proof.tlog-proof")
    return {**files, **{name: files[name] + b"".join(lines) for name in names}}


def word(files: Files, witness: Wit) -> bytes:
    return witness.cosign(rules.read_checkpoint(files["checkpoint"]).body)


def refused_for(files: Files, key: SigningKey, *witnesses: str) -> str:
    with pytest.raises(verify.Broken) as caught:
        verify.check_bundle(files.get, rules.vkey(ORIGIN, key.public), witnesses)
    return str(caught.value)


def test_the_word_of_a_witness_is_demanded(
    files: Files, key: SigningKey, witness: Wit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vkey, line = rules.vkey(ORIGIN, key.public), word(files, witness)
    other = Wit(name="witness.example/w2")
    whole = vouched(files, line, word(files, other))
    code, found = verify.check_bundle(whole.get, vkey, [witness.vkey, other.vkey])
    assert code == verify.HELD
    assert f"witness: {witness.name} vouched for the checkpoint, 20" in "\n".join(found)
    assert broken_link(whole, vkey) == "", "who does not ask for it need not know of it"
    assert "has not vouched" in refused_for(files, key, witness.vkey)
    assert "has not vouched" in refused_for(whole, key, witness.vkey, Wit(name="witness.example/w3").vkey)
    unlogged = {name: body for name, body in whole.items() if name not in UNLOGGED}
    assert "no checkpoint yet" in refused_for(unlogged, key, witness.vkey)
    for text in ("scribble", rules.vkey(ORIGIN, key.public), witness.vkey[:-4] + "AAA="):
        assert refused_for(whole, key, text).startswith("witness: ")
    for name, body in whole.items():
        (tmp_path / name).write_bytes(body)
    kept = tmp_path / "kept.witness"
    kept.write_text(witness.vkey)
    assert verify.main([str(tmp_path), "--key", vkey, "--witness", str(kept), "--witness", other.vkey]) == 0
    assert capsys.readouterr().out.count("vouched for the checkpoint") == 2


def test_the_word_of_a_witness_may_come_from_elsewhere(
    files: Files, key: SigningKey, witness: Wit, tmp_path: Path
) -> None:
    vkey, path = rules.vkey(ORIGIN, key.public), tmp_path / "word"
    path.write_bytes(files["checkpoint"] + word(files, witness))
    assert verify.check_bundle(files.get, vkey, [f"{witness.vkey}:{path}"])[0] == verify.HELD
    path.write_bytes(b"nothing here\n")
    assert "has not vouched" in refused_for(files, key, f"{witness.vkey}:{path}")
    assert "holds no lines" in refused_for(files, key, f"{witness.vkey}:{tmp_path / 'none'}")


@pytest.mark.threat("TM-20")
def test_a_changed_word_of_a_witness_is_named(files: Files, key: SigningKey, witness: Wit) -> None:
    line = word(files, witness)
    body = rules.read_checkpoint(files["checkpoint"]).body
    start = len(line) - 2 - len(rules.base64(b"x" * 76).rstrip("=")) + 7  # the letters after name and number
    for at in range(start, len(line) - 2, 3):
        changed = bytearray(line)
        changed[at] = ord("A") if changed[at] != ord("A") else ord("B")
        assert refused_for(vouched(files, bytes(changed)), key, witness.vkey).startswith(("witness: ", "checkpoint: "))
    for forged in (witness.cosign(body + b"x"), witness.cosign(body, 2**34)):
        assert "does not hold" in refused_for(vouched(files, forged), key, witness.vkey)


# The seal of the receipt.


def sealed_check(files: Files, key: SigningKey, certificate: bytes = b"") -> list[str]:
    return list(verify.check_bundle(files.get, rules.vkey(ORIGIN, key.public), (), certificate)[1])


def test_the_seal_of_the_receipt_is_checked_with_a_library(files: Files, key: SigningKey, tmp_path: Path) -> None:
    found = sealed_check(files, key)
    assert f"pdf: sealed with the certificate {sealing.seal().fingerprint}, whole and unchanged; no timestamp" in found
    assert "pdf: the certificate is taken from the bundle itself; compare it" in found
    assert len(sealed_check(files, key, sealing.seal().pem)) == len(found) - 1
    stranger = seal_key.load_seal(folder=tmp_path, file="", passphrase="", name="Portal", now=utcnow())
    with pytest.raises(verify.Broken, match=r"pdf: .*another certificate"):
        sealed_check(files, key, stranger.pem)
    with pytest.raises(verify.Broken, match="pdf: its seal cannot be read"):
        sealed_check(files, key, b"no certificate")


@pytest.mark.threat("TM-20")
def test_the_library_finds_what_was_added_or_changed_by_itself(files: Files) -> None:
    """Held against the certificate alone, as somebody would who has the receipt and not the bundle.

    Inside the seal this layer cannot see what is not signed there; the digest in the log sees that, too.
    """
    pdf, pem = files["receipt.pdf"], sealing.seal().pem
    start = pdf.index(b"/Contents <3")
    end = pdf.index(b">", start)
    outside = [*range(start), *range(end + 1, len(pdf))]
    places = [*random.Random(4).sample(outside, 6), end - 1, end - 1001]
    changes = [pdf[:at] + bytes([pdf[at] ^ 1]) + pdf[at + 1 :] for at in places]
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    writer.root["/Words"] = generic.TextStringObject("added")
    writer.update_root()
    revised = io.BytesIO()
    writer.write(revised)
    for changed in (*changes, pdf + b"\n", revised.getvalue()):
        with pytest.raises(verify.Broken, match=r"^pdf: "):
            verify.check_seal(changed, pem)


def test_without_the_library_one_line_says_so(files: Files, key: SigningKey, tmp_path: Path) -> None:
    for name, body in files.items():
        (tmp_path / name).write_bytes(body)
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(tmp_path), "--pdf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "--pdf needs pyHanko, which is not installed here: python -m pip install pyhanko\n"
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--pdf", str(tmp_path / "certificate.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "whole and unchanged" in done.stdout
    assert verify.main([str(tmp_path), "--pdf", str(tmp_path / "none.pem")]) == 2


# The log's key changed since.


def test_an_earlier_key_vouches_for_the_one_that_signs_now(key: SigningKey, tmp_path: Path) -> None:
    old, new = open_key(tmp_path / "old"), open_key(tmp_path / "new")
    number = rules.key_id(ORIGIN, old.public).hex()
    before, after = rules.vkey(ORIGIN, old.public), rules.vkey(ORIGIN, new.public)
    files = next(honest(5, new))
    head = rules.read_checkpoint(files["checkpoint"])
    handover = f"handover.{number}"
    held = {**files, handover: rules.checkpoint(ORIGIN, 7, b"r" * 32, old, new)}
    assert broken_link(held, before) == ""
    assert broken_link(held, after) == ""
    assert broken_link(files, before) == "checkpoint", "nobody vouches"
    assert broken_link(next(honest(5, old)), before) == "", "an old bundle with the old key"
    late = rules.checkpoint(ORIGIN, head.size, head.root, old)
    stolen = {**held, **{n: b.replace(files["checkpoint"], late) for n, b in files.items() if n in UNLOGGED}}
    assert broken_link(stolen, before) == "checkpoint", "a key that has handed the log over signs nothing more"
    third = open_key(tmp_path / "third")
    circle = rules.key_id(ORIGIN, new.public).hex()
    for bad in (
        rules.checkpoint(ORIGIN, 7, b"r" * 32, old), rules.checkpoint(ORIGIN, 7, b"r" * 32, third, new), b"scribble",
        held[handover].rsplit("—".encode(), 1)[0],
    ):  # fmt: skip
        assert broken_link({**files, handover: bad}, before) in {"handover", "key"}
    back = rules.checkpoint(ORIGIN, 8, b"r" * 32, new, old)
    assert broken_link({**held, f"handover.{circle}": back}, before) == "handover"
