"""The door to seals: documents signed with the portal's own key, and times that another authority confirms."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from typing import Any

from asn1crypto import cms, x509
from pyhanko.pdf_utils.content import RawContent
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.layout import BoxConstraints
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import PdfSignatureMetadata, PdfSigner, SimpleSigner
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.signers import ExternalSigner
from pyhanko.sign.signers.pdf_signer import DSSContentSettings, SigDSSPlacementPreference
from pyhanko.sign.validation import SignatureCoverageLevel, validate_pdf_signature
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko.sign.validation.errors import NoDSSFoundError
from pyhanko.sign.validation.generic_cms import extract_tst_data_iter, validate_sig_integrity
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.stamp import StaticStampStyle
from pyhanko_certvalidator.registry import SimpleCertificateStore

from portal.adapters.authority import Authority, carried, offline, open_authority
from portal.adapters.seal_key import Seal, named, open_seal
from portal.core.config import Settings

FIELD = "Seal"
# Left, bottom, right, top in points: where pdf.css leaves room at the foot of the first page.
BOX = (57, 36, 103, 82)
# Hex digits kept free for the seal; with a timestamp it carries an authority's certificates as well.
ROOM, ROOM_TIMESTAMP = 8_192, 32_768
RANGES = re.compile(rb"/ByteRange\s*\[\s*(\d{1,10})\s+(\d{1,10})\s+(\d{1,10})\s+(\d{1,10})\s*\]")
HEX = re.compile(rb"<(?:[0-9A-F]{2})+>")
# What does not hold is said once, in a sentence of ours; the libraries would tell it on standard error as well.
for library in ("pyhanko", "pyhanko_certvalidator"):
    logging.getLogger(library).addHandler(logging.NullHandler())


class SealError(Exception):
    """A seal came out that would not be accepted."""


def open_sealer(settings: Settings, *, now: datetime) -> "Sealer":
    """Open the seal together with the timestamp authority, if there is one."""
    return Sealer(open_seal(settings, now=now), open_authority(settings))


@dataclass(frozen=True)
class Verdict:
    """What the seal of a document says.

    Args:
        problem: the first thing that does not hold; empty if all does.
        code: a stable name of that problem.
        sealed_at: by the clock of whoever sealed it.
        timestamp: when it existed already, as an authority confirms; None without a timestamp.
        authority: who confirms it.
        pinned: whether that authority leads up to a root that the operators chose.
        long_term: whether all that a check of it needs is in the document.
        by: whose seal it is.
    """

    problem: str = ""
    code: str = ""
    sealed_at: datetime | None = None
    timestamp: datetime | None = None
    authority: str = ""
    pinned: bool = False
    long_term: bool = False
    by: str = ""

    @property
    def holds(self) -> bool:
        """Say whether the document is exactly what was sealed."""
        return not self.problem


@dataclass(frozen=True)
class Sealed:
    """A sealed document and, if an authority confirmed one, its time, and whether that leads up to a chosen root."""

    body: bytes
    timestamp: datetime | None
    pinned: bool = False


class Sealer:
    """Seals documents, with the time of an authority when there is one that answers.

    Args:
        seal: the key.
        authority: confirms times; None if the portal's clock has to do.
    """

    def __init__(self, seal: Seal, authority: Authority | None, *, say: Callable[[str], object] = print) -> None:
        self.seal = seal
        self.authority = authority
        self.say = say

    @property
    def asks(self) -> bool:
        """Say whether an authority is configured and may be asked now."""
        return self.authority is not None and self.authority.server.ready()

    def make(self, pdf: bytes, *, now: datetime) -> Sealed:
        """Seal a document; without a timestamp if the authority cannot give one."""
        return self.with_timestamp(pdf, now=now) or Sealed(self._checked(pdf, None).body, None)

    def with_timestamp(self, pdf: bytes, *, now: datetime) -> Sealed | None:
        """Seal a document with a timestamp, or return None if the authority cannot give one now."""
        if self.authority is None or not self.authority.server.ready():
            return None
        try:
            sealed = self._checked(pdf, self.authority)
            self.authority.check(sealed.timestamp, sealed.pinned, now)
        except Exception as error:  # noqa: BLE001 # whatever an outsider sends, the receipt is made all the same
            self.authority.server.failed()
            self.say(f"timestamp authority: {type(error).__name__}: {str(error)[:200]}; next try in "
                     f"{self.authority.server.pause:g} s")  # fmt: skip
            return None
        self.authority.server.answered()
        return sealed

    def _checked(self, pdf: bytes, authority: Authority | None) -> Sealed:
        """Seal, and let nothing out whose seal would not be accepted."""
        body = seal_pdf(pdf, seal=self.seal, authority=authority)
        verdict = verify(body, self.seal.trusted, authority.roots if authority else ())
        if not verdict.holds:
            raise SealError(verdict.problem)
        return Sealed(body, verdict.timestamp, verdict.pinned)


def seal_pdf(pdf: bytes, *, seal: Seal, authority: Authority | None = None) -> bytes:
    """Seal a document in a visible box, so that no change at all is permitted.

    That is PAdES B-B; with an authority B-T; with one that leads up to a chosen root B-LT: all that a check of it needs
    later, certificates and word of what was revoked, goes into the document before it is sealed.
    """
    return asyncio.run(_seal(pdf, seal, authority))


async def _seal(pdf: bytes, seal: Seal, authority: Authority | None) -> bytes:
    store = SimpleCertificateStore()  # type: ignore[no-untyped-call]
    store.register_multiple(seal.chain)
    signer = SimpleSigner(signing_cert=seal.certificate, signing_key=seal.key, cert_registry=store)
    field = SigFieldSpec(FIELD, on_page=0, box=BOX, readable_field_name="Seal of the portal")
    together = DSSContentSettings(
        include_vri=False, placement=SigDSSPlacementPreference.TOGETHER_WITH_SIGNATURE
    )  # fmt: skip
    async with authority.context(seal.certificate) if authority else nullcontext() as context:
        metadata = PdfSignatureMetadata(
            field_name=FIELD, subfilter=SigSeedSubFilter.PADES, md_algorithm="sha256", certify=True,
            docmdp_permissions=MDPPerm.NO_CHANGES, name=seal.name, reason="Receipt of a signature",
            embed_validation_info=context is not None, validation_context=context, signer_key_usage=set(),
            dss_settings=together,
        )  # fmt: skip
        pen = PdfSigner(metadata, signer=signer, stamp_style=_emblem(), timestamper=authority, new_field_spec=field)
        room = ROOM_TIMESTAMP if authority else ROOM
        out = await pen.async_sign_pdf(IncrementalPdfFileWriter(BytesIO(pdf)), bytes_reserved=room)
    return bytes(out.getvalue())


@lru_cache(maxsize=1)
def _emblem() -> StaticStampStyle:
    """Draw the seal itself: a ring and eight petals, without words, so that no font is needed."""
    width, height = BOX[2] - BOX[0], BOX[3] - BOX[1]
    lines = ["q 0.478 0.122 0.388 RG 0.973 0.929 0.961 rg 0.8 w", f"1 0 0 1 {width / 2} {height / 2} cm"]
    lines.append(_ellipse(0, 0, 22, 22) + " B 0.55 w")
    for cos, sin in ((1, 0), (0.70711, 0.70711), (0, 1), (-0.70711, 0.70711)):
        petal = _ellipse(0, 11, 5.6, 9)
        lines += [f"q {cos} {sin} {-sin} {cos} 0 0 cm {petal} S Q", f"q {-cos} {-sin} {sin} {-cos} 0 0 cm {petal} S Q"]
    lines.append("Q")
    content = RawContent("\n".join(lines).encode(), box=BoxConstraints(width, height))
    return StaticStampStyle(background=content, border_width=0)


def _ellipse(x: float, y: float, a: float, b: float) -> str:
    p, q = 0.5523 * a, 0.5523 * b
    return (
        f"{x + a} {y} m {x + a} {y + q} {x + p} {y + b} {x} {y + b} c {x - p} {y + b} {x - a} {y + q} {x - a} {y} c "
        f"{x - a} {y - q} {x - p} {y - b} {x} {y - b} c {x + p} {y - b} {x + a} {y - q} {x + a} {y} c"
    )


def verify(pdf: bytes, trusted: Sequence[bytes], roots: Sequence[x509.Certificate] = ()) -> Verdict:
    """Check the seal of a document offline, naming the first thing that does not hold.

    The bytes are checked against the seal before anything of the document is read: a file that somebody made up or
    changed never reaches a PDF reader.

    Args:
        pdf: the file as it was handed in.
        trusted: DER of the certificates whose seals are accepted.
        roots: to one of which the authority of a timestamp should lead up; the answer says whether it does.
    """
    try:
        _check_bytes(pdf, trusted)
        return _document(pdf, trusted, roots)
    except _Broken as broken:
        return Verdict(broken.problem, broken.code)
    except Exception:  # noqa: BLE001 # the file is anybody's; every way to fail is one answer
        return Verdict("The seal cannot be read, so nothing in this file can be relied on.", "seal_unreadable")


class _Broken(Exception):
    """The first thing that does not hold."""

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem


def _check_bytes(pdf: bytes, trusted: Sequence[bytes]) -> None:
    """Raise unless the file, all of it, is what a trusted key signed."""
    room, covered = _split(pdf)
    size = _length(room)
    data = cms.ContentInfo.load(room[:size], strict=True)["content"]
    info, carried = data["signer_infos"][0], [c.chosen for c in data["certificates"]]
    signers = [c for c in carried if c.dump() in trusted]
    if len(signers) != 1 or len(data["signer_infos"]) != 1:
        raise _Broken("seal_foreign", "This file is sealed with a key that is not this portal's.")
    intact, valid = validate_sig_integrity(info, signers[0], "data", sha256(covered).digest())
    if not intact:
        raise _Broken("seal_changed", "This file was changed after it was sealed.")
    if not valid or any(room[size:]) or _as_sealed(info, signers[0], carried) != room[:size]:
        raise _Broken("seal_invalid", "The seal itself was changed.")


def _split(pdf: bytes) -> tuple[bytes, bytes]:
    """Return the seal in a file and all bytes around it, which it must cover."""
    found = RANGES.findall(pdf)
    if not found:
        raise _Broken("no_seal", "This file bears no seal, so it is no receipt of this portal.")
    start, length, after, rest = map(int, found[0])
    if len(found) > 1 or after + rest < len(pdf):
        raise _Broken("seal_appended", "Something was added to this file after it was sealed.")
    if start != 0 or after + rest != len(pdf) or not HEX.fullmatch(pdf, length, after):
        raise _Broken("seal_partial", "The seal does not cover this whole file.")
    return bytes.fromhex(pdf[length + 1 : after - 1].decode()), pdf[:length] + pdf[after:]


def _as_sealed(info: cms.SignerInfo, certificate: x509.Certificate, carried: list[x509.Certificate]) -> bytes:
    """Write a seal anew from what is signed in it: what is not signed has one form only, so nothing hides there."""
    digest = cms.DigestAlgorithm({"algorithm": "sha256"})
    issuer = {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
    mechanism = ExternalSigner(certificate, None).get_signature_mechanism_for_digest("sha256")
    one = {
        "version": "v1", "sid": cms.SignerIdentifier({"issuer_and_serial_number": cms.IssuerAndSerialNumber(issuer)}),
        "digest_algorithm": digest, "signature_algorithm": mechanism, "signed_attrs": info["signed_attrs"],
        "signature": info["signature"].native,
    }  # fmt: skip
    if len(info["unsigned_attrs"]):
        one["unsigned_attrs"] = info["unsigned_attrs"]
    whole = {
        "version": "v1", "digest_algorithms": cms.DigestAlgorithms((digest,)),
        "encap_content_info": {"content_type": "data"},
        "certificates": [cms.CertificateChoices({"certificate": c}) for c in carried],
        "signer_infos": [cms.SignerInfo(one)],
    }  # fmt: skip
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(whole)}).dump())


def _length(raw: bytes) -> int:
    """Return how long a DER value is by its own head; zeros fill the room after it."""
    count = raw[1] & 0x7F if raw[1] & 0x80 else 0
    return 2 + count + int.from_bytes(raw[2 : 2 + count] if count else raw[1:2], "big")


def _document(pdf: bytes, trusted: Sequence[bytes], roots: Sequence[x509.Certificate]) -> Verdict:
    """Check the seal as any PDF reader would: key, cover of the whole file, no change permitted, its time."""
    reader = PdfFileReader(BytesIO(pdf))
    signature = reader.embedded_signatures[0]
    token = next(extract_tst_data_iter(signature.signer_info, signed=False), None)
    claimed = signature.self_reported_timestamp
    moment = token["encap_content_info"]["content"].parsed["gen_time"].native if token else claimed
    status, pinned = None, False
    for pinned in (True, False) if roots and token else (False,):
        times = _long_term(reader, roots if pinned else carried(token), moment) if token else None
        status = validate_pdf_signature(
            signature, offline([x509.Certificate.load(der) for der in trusted], moment), times,
            key_usage_settings=KeyUsageConstraints(key_usage=set()),
        )  # fmt: skip
        if status.timestamp_validity is None or status.timestamp_validity.trusted:
            break
    return _verdict(signature, status, moment, pinned, long_term=_store(reader) is not None)


def _verdict(signature: Any, status: Any, moment: datetime, pinned: bool, *, long_term: bool) -> Verdict:
    if status.coverage != SignatureCoverageLevel.ENTIRE_FILE:
        raise _Broken("seal_partial", "The seal does not cover this whole file.")
    if signature.docmdp_level != MDPPerm.NO_CHANGES or not status.docmdp_ok:
        raise _Broken("seal_weak", "The seal permits changes to the file.")
    stamped = status.timestamp_validity
    if stamped is not None and not (stamped.intact and stamped.valid and stamped.trusted):
        raise _Broken("timestamp_invalid", "The timestamp in the seal is not one of this seal.")
    holder = status.signing_cert
    # A trusted certificate is an anchor, whose dates the library does not look at.
    if not (status.bottom_line and holder.not_valid_before <= moment <= holder.not_valid_after):
        raise _Broken("seal_untrusted", "The seal's certificate did not hold when the file was sealed.")
    return Verdict(
        sealed_at=signature.self_reported_timestamp.astimezone(UTC), by=named(holder),
        timestamp=stamped.timestamp.astimezone(UTC) if stamped else None,
        authority=named(stamped.signing_cert) if stamped else "", pinned=pinned, long_term=long_term,
    )  # fmt: skip


def _store(reader: PdfFileReader) -> DocumentSecurityStore | None:
    """Return what the document carries for checks in the long term."""
    try:
        return DocumentSecurityStore.read_dss(reader)
    except NoDSSFoundError:
        return None


def _long_term(reader: PdfFileReader, roots: Sequence[x509.Certificate], moment: datetime) -> Any:
    """Return how the certificates of a timestamp are checked: with what the document carries for that."""
    store = _store(reader)
    given = {
        "trust_roots": list(roots), "moment": moment, "best_signature_time": moment, "allow_fetching": False,
        "revocation_mode": "soft-fail",
    }  # fmt: skip
    return store.as_validation_context(given) if store else offline(roots, moment)
