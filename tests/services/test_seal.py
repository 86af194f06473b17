"""Seals: any change of a sealed file is caught, keys are made or read, and an authority that fails stops nothing."""

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pypdf import PdfReader

from portal.adapters import outside, pades, pdf, seal_key
from portal.adapters.authority import Authority
from portal.adapters.outside import LONGEST_PAUSE
from portal.adapters.pades import Sealer
from portal.adapters.seal_key import Seal
from portal.core.clock import utcnow
from portal.core.config import SettingError, Settings
from tests import authority
from tests.authority import Stamps

PAGE = '<!doctype html><html lang="en"><head><title>A title</title></head><body><h1>Words 文本</h1></body></html>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def seal(folder: Path) -> Seal:
    return seal_key.load_seal(folder=folder, file="", passphrase="", name="Portal", now=utcnow())


@pytest.fixture(scope="module")
def drawn() -> bytes:
    return pdf.render(PAGE, attachments=[pdf.Attached("evidence.json", b'{"a":1}', "Data")])


@pytest.fixture(scope="module")
def sealed(seal: Seal, drawn: bytes) -> bytes:
    return pades.seal_pdf(drawn, seal=seal)


@pytest.fixture
def stamps() -> Iterator[Stamps]:
    with authority.running() as running:
        yield running


def code(body: bytes, seal: Seal) -> str:
    return pades.verify(body, seal.trusted).code


def test_a_sealed_file_holds_and_stays_a_tagged_document_for_archives(seal: Seal, sealed: bytes) -> None:
    verdict = pades.verify(sealed, seal.trusted)
    assert verdict.holds
    assert (verdict.by, verdict.timestamp, verdict.authority) == ("Portal", None, "")
    assert verdict.sealed_at is not None
    assert abs(verdict.sealed_at - utcnow()) < timedelta(minutes=1)
    reader = PdfReader(BytesIO(sealed))
    root: Any = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] == True  # noqa: E712
    assert b"pdfaid" in root["/Metadata"].get_data()
    assert root["/OutputIntents"]
    field = root["/AcroForm"]["/Fields"][0].get_object()
    assert field["/FT"] == "/Sig"
    assert field["/F"] & 4, "it is printed"
    assert not field["/F"] & 2, "it is not hidden"
    left, bottom, right, top = map(float, field["/Rect"])
    assert (left, bottom, right, top) == pades.BOX
    assert field["/AP"]["/N"].get_object()["/BBox"]
    given = field["/V"]
    assert given["/SubFilter"] == "/ETSI.CAdES.detached"
    assert given["/Reference"][0].get_object()["/TransformParams"]["/P"] == 1, "no change is permitted"
    assert "/Font" not in field["/AP"]["/N"].get_object().get("/Resources", {}), "no font that is not embedded"
    assert pdf.attachment(sealed, "evidence.json") == b'{"a":1}'


@pytest.mark.threat("TM-20")
def test_a_changed_byte_anywhere_is_caught(seal: Seal, sealed: bytes) -> None:
    """The whole seal with its certificate, and 400 places spread evenly over the rest of the file."""
    start = sealed.index(b"/Contents <3")
    places = [*range(start, start + 2600), *range(0, len(sealed), len(sealed) // 400), len(sealed) - 1]
    missed = []
    for place in places:
        changed = bytearray(sealed)
        changed[place] ^= 1
        if pades.verify(bytes(changed), seal.trusted).holds:
            missed.append(place)
    assert missed == []


@pytest.mark.threat("TM-20")
def test_what_is_added_or_taken_away_is_caught(seal: Seal, sealed: bytes) -> None:
    writer = IncrementalPdfFileWriter(BytesIO(sealed))
    writer.root["/Words"] = generic.TextStringObject("added")
    writer.update_root()
    revised = BytesIO()
    writer.write(revised)
    assert code(revised.getvalue(), seal) == "seal_appended"
    assert code(sealed + b"\n", seal) == "seal_appended"
    assert code(sealed[:-1], seal) == "seal_partial"
    assert code(sealed + sealed, seal) == "seal_appended"
    assert code(sealed.replace(b"%PDF-1.7", b"%PDF-1.6", 1), seal) == "seal_changed"
    assert code(sealed[10:], seal) != ""


@pytest.mark.threat("TM-20")
def test_a_reader_of_documents_finds_a_revision_by_itself(seal: Seal, sealed: bytes) -> None:
    """The second layer, without the first one that looks at bytes alone."""
    for root in (False, True):
        writer = IncrementalPdfFileWriter(BytesIO(sealed))
        if root:
            writer.root["/Words"] = generic.TextStringObject("added")
            writer.update_root()
        else:
            writer.add_object(generic.TextStringObject("added"))
        revised = BytesIO()
        writer.write(revised)
        with pytest.raises(pades._Broken) as caught:
            pades._document(revised.getvalue(), seal.trusted, ())
        assert caught.value.code == "seal_partial"
    assert pades._document(sealed, seal.trusted, ()).holds


def test_what_bears_no_seal_of_ours_is_refused(seal: Seal, drawn: bytes, sealed: bytes, tmp_path: Path) -> None:
    assert code(drawn, seal) == "no_seal"
    assert code(b"", seal) == "no_seal"
    assert code(b"/ByteRange [0 0 0 23]", seal) in {"seal_partial", "seal_appended"}
    other = seal_key.load_seal(folder=tmp_path, file="", passphrase="", name="Portal", now=utcnow())
    assert code(pades.seal_pdf(drawn, seal=other), seal) == "seal_foreign"
    assert code(sealed, other) == "seal_foreign"
    fake = b"<30820000>\n/ByteRange [0 0 10 26]"
    assert code(fake, seal) in {"seal_unreadable", "seal_partial"}


def test_a_seal_that_permits_changes_is_refused(seal: Seal, drawn: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pades.PdfSignatureMetadata
    monkeypatch.setattr(pades, "PdfSignatureMetadata", lambda **given: real(**{**given, "certify": False}))
    weak = pades.seal_pdf(drawn, seal=seal)
    assert pades.PdfFileReader(BytesIO(weak)).embedded_signatures[0].docmdp_level is None
    assert code(weak, seal) == "seal_weak"


def test_a_certificate_that_did_not_hold_yet_is_refused(drawn: bytes, tmp_path: Path) -> None:
    early = seal_key.load_seal(folder=tmp_path, file="", passphrase="", name="Portal", now=utcnow() + timedelta(days=2))
    assert code(pades.seal_pdf(drawn, seal=early), early) == "seal_untrusted"


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    def load() -> Seal:
        return seal_key.load_seal(folder=tmp_path, file="", passphrase="", name="A" * 100, now=utcnow())

    first = load()
    assert load().fingerprint == first.fingerprint
    assert stat.S_IMODE((tmp_path / "seal.pem").stat().st_mode) == 0o600
    assert first.name == "A" * 64
    found = x509.load_pem_x509_certificates(first.pem)
    assert [c.fingerprint(hashes.SHA256()).hex() for c in found] == [first.fingerprint]
    key = found[0].public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    (tmp_path / "seal.pem").write_bytes(b"damaged")
    with pytest.raises(SettingError, match="damaged"):
        load()


def store(path: Path, *, key: Any = None, days: int = 10, passphrase: str = "open") -> Any:
    """Write a PKCS#12 file with a certificate of a small authority, which travels as well."""
    now, ca = utcnow(), ec.generate_private_key(ec.SECP256R1())
    key = key or rsa.generate_private_key(65537, 2048)

    def certificate(of: Any, name: str, by: Any, issuer: str) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, text)])

        return (
            x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer)).public_key(of.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days)).sign(by, hashes.SHA256())
        )  # fmt: skip

    own, above = certificate(key, "Institute", ca, "CA"), certificate(ca, "CA", ca, "CA")
    lock: Any = serialization.BestAvailableEncryption(passphrase.encode())
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"seal", key, own, [above], lock))
    return own


def test_a_seal_of_the_operators_own_is_used_and_earlier_ones_stay_trusted(
    folder: Path, seal: Seal, drawn: bytes, sealed: bytes, tmp_path: Path
) -> None:
    for number, key in enumerate((rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1()))):
        file = tmp_path / f"{number}.p12"
        own = store(file, key=key)
        given = seal_key.load_seal(folder=folder, file=str(file), passphrase="open", name="x", now=utcnow())
        assert given.name == "Institute"
        assert given.fingerprint == own.fingerprint(hashes.SHA256()).hex()
        body = pades.seal_pdf(drawn, seal=given)
        assert pades.verify(body, given.trusted).by == "Institute"
        assert pades.verify(sealed, given.trusted).holds, "receipts of the earlier key"
        assert code(body, seal) == "seal_foreign"
        assert x509.load_pem_x509_certificates(given.pem)[0] == own


def test_a_wrong_file_stops_the_start_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def why(file: Path, passphrase: str = "open") -> str:
        environ = {
            "PORTAL_HOME": str(tmp_path), "PORTAL_SEAL_PKCS12": str(file), "PORTAL_SEAL_PASSPHRASE": passphrase,
        }  # fmt: skip
        settings = Settings.from_env(environ)
        assert passphrase not in str([row for row in settings.shown() if row[0] == "seal_passphrase"])
        with pytest.raises(SettingError) as caught:
            seal_key.open_seal(settings, now=utcnow())
        message = str(caught.value)
        assert message.startswith("PORTAL_SEAL_PKCS12: ")
        assert "\n" not in message
        assert passphrase != "xyzzy7" or passphrase not in message
        return message

    file = tmp_path / "seal.p12"
    assert "cannot be read" in why(file)
    store(file)
    assert "PORTAL_SEAL_PASSPHRASE does not open it" in why(file, "xyzzy7")
    file.write_bytes(b"nothing")
    assert "is no PKCS#12 file" in why(file)
    store(file, days=-1)
    assert "valid only until" in why(file)
    store(file, key=ed25519.Ed25519PrivateKey.generate())
    assert "neither" in why(file)
    file.write_bytes(pkcs12.serialize_key_and_certificates(
        b"x", None, store(tmp_path / "b.p12"), None, serialization.BestAvailableEncryption(b"open")
    ))  # fmt: skip
    assert "needs both" in why(file)
    mine, other = store(file), ec.generate_private_key(ec.SECP256R1())
    monkeypatch.setattr(seal_key.pkcs12, "load_key_and_certificates", lambda *_: (other, mine, []))
    assert "another key" in why(file)


def test_a_seal_can_carry_the_time_of_an_authority(seal: Seal, drawn: bytes, stamps: Stamps) -> None:
    sealer = Sealer(seal, Authority(stamps.url))
    made = sealer.make(drawn, now=utcnow())
    verdict = pades.verify(made.body, seal.trusted)
    assert verdict.holds
    assert verdict.timestamp == made.timestamp
    assert made.timestamp is not None
    assert abs(made.timestamp - utcnow()) < timedelta(minutes=1)
    assert verdict.authority == authority.NAME
    assert stamps.asked == 1
    assert sealer.asks


@pytest.mark.threat("TM-20")
def test_a_changed_timestamp_is_caught(seal: Seal, drawn: bytes, stamps: Stamps) -> None:
    made = Sealer(seal, Authority(stamps.url)).make(drawn, now=utcnow()).body
    start = made.index(b"/Contents <3") + len(b"/Contents <")
    written = made[start : made.index(b">", start)]
    moment = written.index(b"180F3230")  # GeneralizedTime, 20…
    for place in range(start + moment + 4, start + moment + 34, 2):
        changed = bytearray(made)
        changed[place + 1] ^= 1
        assert not pades.verify(bytes(changed), seal.trusted).holds, place


@pytest.mark.threat("TM-25")
@pytest.mark.parametrize(
    "mood", ["error", "garbage", "slow", "endless", "other", "yesterday", "refusal", "forged", "away"]
)
def test_an_authority_that_fails_does_not_keep_a_receipt_from_being_sealed(
    seal: Seal, drawn: bytes, stamps: Stamps, mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "FIRST_PAUSE", 600.0)  # longer than this can take on any machine
    said: list[str] = []
    url = "http://127.0.0.1:9/tsa" if mood == "away" else stamps.url
    asked = Authority(url, patience=0.5)
    sealer = Sealer(seal, asked, say=said.append)
    stamps.mood = mood
    made = sealer.make(drawn, now=utcnow())
    assert made.timestamp is None
    assert pades.verify(made.body, seal.trusted).holds
    assert len(said) == 1
    assert "next try in 600 s" in said[0]
    before = stamps.asked
    assert not sealer.asks
    assert sealer.make(drawn, now=utcnow()).timestamp is None
    assert sealer.with_timestamp(drawn, now=utcnow()) is None
    assert stamps.asked == before, "it is left alone for a while"
    asked.server.due = 0.0
    assert sealer.with_timestamp(drawn, now=utcnow()) is None
    assert asked.server.pause == 1200.0
    if mood != "away":
        stamps.mood, asked.server.due, asked.server.patience = "well", 0.0, 20.0
        again = sealer.with_timestamp(drawn, now=utcnow())
        assert again is not None
        assert again.timestamp is not None
        assert sealer.asks
        assert asked.server.pause == 0.0


def test_the_pause_of_an_authority_has_an_end() -> None:
    asked = Authority("http://user:secret@127.0.0.1:9/tsa")
    assert "secret" not in asked.server.url
    for _ in range(20):
        asked.server.failed()
    assert asked.server.pause == LONGEST_PAUSE


def test_nothing_is_let_out_whose_seal_would_not_be_accepted(
    seal: Seal, drawn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pades, "seal_pdf", lambda *_args, **_given: drawn)
    with pytest.raises(pades.SealError, match="bears no seal"):
        Sealer(seal, None).make(drawn, now=utcnow())


def test_without_an_authority_nobody_is_asked(seal: Seal, drawn: bytes) -> None:
    sealer = Sealer(seal, None)
    assert not sealer.asks
    assert sealer.with_timestamp(drawn, now=datetime.now(UTC)) is None  # noqa: TID251
    assert sha256(sealer.make(drawn, now=utcnow()).body).hexdigest()
