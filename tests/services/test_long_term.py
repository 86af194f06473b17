"""Timestamps that lead up to a root of the operators' choice: seals that stay checkable, and checkpoints of days."""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import pem, x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation.dss import DocumentSecurityStore

from portal.adapters import outside, pades, pdf
from portal.adapters.authority import Authority, TimestampError, read_roots, read_token
from portal.adapters.outside import OutsideError
from portal.adapters.pades import Sealer
from portal.core.clock import utcnow
from portal.core.config import SettingError
from tests import authority, sealing
from tests.authority import Stamps
from tests.services.test_seal import PAGE


@pytest.fixture(scope="module")
def drawn() -> bytes:
    """A document."""
    return pdf.render(PAGE)


@pytest.fixture
def stamps() -> Iterator[Stamps]:
    """An authority below a root."""
    with authority.running(chained=True) as running:
        yield running


@pytest.fixture
def root() -> x509.Certificate:
    """That root."""
    return x509.Certificate.load(authority.above()[1].public_bytes(Encoding.DER))


@pytest.fixture
def other() -> x509.Certificate:
    """The root of somebody else."""
    return sealing.seal().certificate


def test_a_seal_carries_all_that_a_later_check_needs(drawn: bytes, stamps: Stamps, root: x509.Certificate) -> None:
    made = Sealer(sealing.seal(), Authority(stamps.url, roots=[root])).with_timestamp(drawn, now=utcnow())
    assert made is not None
    assert made.pinned
    store = DocumentSecurityStore.read_dss(PdfFileReader(BytesIO(made.body)))
    assert len(store.crls) == 1, "the word of the root about whom it revoked"
    held = pades.verify(made.body, sealing.seal().trusted, [root])
    assert (held.problem, held.pinned, held.long_term, held.authority) == ("", True, True, authority.NAME)
    reader = PdfFileReader(BytesIO(made.body))
    assert len(reader.embedded_signatures) == 1
    assert pades.verify(made.body + b"\n", sealing.seal().trusted, [root]).code == "seal_appended"


def test_without_a_root_the_reader_is_the_judge(
    drawn: bytes, stamps: Stamps, root: x509.Certificate, other: x509.Certificate
) -> None:
    made = Sealer(sealing.seal(), Authority(stamps.url)).with_timestamp(drawn, now=utcnow())
    assert made is not None
    assert not made.pinned
    for roots in ([], [other]):
        held = pades.verify(made.body, sealing.seal().trusted, roots)
        assert (held.problem, held.pinned, held.long_term, held.authority) == ("", False, False, authority.NAME)
    assert made.timestamp is not None


@pytest.mark.threat("TM-25")
def test_an_authority_that_does_not_lead_up_to_the_root_leaves_the_timestamp_pending(
    drawn: bytes, stamps: Stamps, other: x509.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "FIRST_PAUSE", 600.0)  # longer than this can take on any machine
    said: list[str] = []
    sealer = Sealer(sealing.seal(), Authority(stamps.url, roots=[other]), say=said.append)
    assert sealer.with_timestamp(drawn, now=utcnow()) is None
    assert len(said) == 1
    assert not sealer.asks
    with pytest.raises(TimestampError, match="PORTAL_TIMESTAMP_ROOT"):
        Authority(stamps.url, roots=[other]).stamp(b"x", now=utcnow())


@pytest.mark.threat("TM-25")
def test_an_authority_that_the_root_revoked_is_not_taken(drawn: bytes, stamps: Stamps, root: x509.Certificate) -> None:
    stamps.revoked = (7,)
    sealer = Sealer(sealing.seal(), Authority(stamps.url, roots=[root]), say=lambda _: None)
    assert sealer.with_timestamp(drawn, now=utcnow()) is None
    assert sealer.make(drawn, now=utcnow()).timestamp is None, "it is sealed all the same"


def test_bytes_get_a_time_that_others_can_check(stamps: Stamps, root: x509.Certificate, tmp_path: Path) -> None:
    body = b"log.example\n1\n"
    made = Authority(stamps.url, roots=[root]).stamp(body, now=utcnow())
    assert abs(made.at - utcnow()) < timedelta(minutes=1)
    assert (made.authority, made.pinned) == (authority.NAME, True)
    assert read_token(made.token, body, ()).pinned is False
    changed = bytearray(made.token)
    changed[-1] ^= 1
    for token, what in ((made.token, body + b"x"), (bytes(changed), body)):
        with pytest.raises(TimestampError):
            read_token(token, what, [root])
    if shutil.which("openssl"):
        (tmp_path / "token").write_bytes(made.token)
        (tmp_path / "body").write_bytes(body)
        (tmp_path / "root.pem").write_bytes(pem.armor("CERTIFICATE", root.dump()))
        command = ["openssl", "ts", "-verify", "-data", "body", "-in", "token", "-token_in", "-CAfile", "root.pem"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "Verification: OK" in done.stdout + done.stderr


@pytest.mark.threat("TM-25")
@pytest.mark.parametrize("mood", ["error", "garbage", "other", "yesterday", "refusal", "forged", "away"])
def test_what_is_no_timestamp_of_these_bytes_is_not_taken(stamps: Stamps, mood: str) -> None:
    asked = Authority("http://127.0.0.1:9" if mood == "away" else stamps.url, patience=0.5)
    stamps.mood = mood
    kinds: tuple[Any, ...] = (TimestampError, OutsideError, OSError, ValueError)
    with pytest.raises(kinds):
        asked.stamp(b"bytes", now=utcnow())


def test_a_wrong_file_of_roots_stops_the_start_with_one_line(tmp_path: Path, root: x509.Certificate) -> None:
    assert read_roots("") == ()
    with pytest.raises(SettingError, match=r"PORTAL_TIMESTAMP_ROOT: .* cannot be read"):
        read_roots(str(tmp_path / "none"))
    file = tmp_path / "roots.pem"
    for body in (b"", b"words", pem.armor("CERTIFICATE", b"0\x03\x02\x01\x01")):
        file.write_bytes(body)
        with pytest.raises(SettingError, match="holds no certificates"):
            read_roots(str(file))
    file.write_bytes(pem.armor("CERTIFICATE", root.dump()) * 2)
    assert [one.dump() for one in read_roots(str(file))] == [root.dump()] * 2
