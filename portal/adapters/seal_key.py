"""The key that seals documents: made at first start or read from a file, with the certificates that stay trusted."""

import os
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asn1crypto import keys, pem, x509
from cryptography import x509 as certificates
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from portal.core.config import SettingError, Settings

LIFE = timedelta(days=30 * 365)


def named(certificate: x509.Certificate) -> str:
    """Return whose certificate it is, in a word."""
    names = certificate.subject.native
    return str(names.get("common_name") or names.get("organization_name") or certificate.subject.human_friendly)


@dataclass(frozen=True)
class Seal:
    """The key with which documents are sealed, its certificate, and all certificates that seals may carry.

    Args:
        key: the private key.
        certificate: the certificate of the key.
        chain: further certificates that travel in a seal.
        trusted: DER of the certificates of this key and of the portal's earlier ones.
    """

    key: keys.PrivateKeyInfo = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    trusted: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """Whose seal it is, as the certificate says."""
        return named(self.certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as documents print it."""
        return sha256(self.certificate.dump()).hexdigest()

    @property
    def pem(self) -> bytes:
        """The certificate for those who check seals, followed by earlier ones."""
        own = self.certificate.dump()
        rest = [der for der in self.trusted if der != own]
        return b"".join(pem.armor("CERTIFICATE", der) for der in (own, *rest))


def load_seal(*, folder: Path, file: str, passphrase: str, name: str, now: datetime) -> Seal:
    """Read the seal, or make one at first start; certificates of earlier seals stay trusted.

    Args:
        folder: where keys are kept, private.
        file: a PKCS#12 file with key and certificate; empty for a key that the portal makes itself.
        passphrase: opens that file.
        name: whose seal a new one is.
        now: from when a new certificate holds.

    Raises:
        SettingError: the file cannot be read, or holds no usable key and certificate.
    """
    key, certificate, others = _from_pkcs12(file, passphrase, now) if file else _own(folder, name, now)
    der = certificate.public_bytes(serialization.Encoding.DER)
    known = folder / "seals"
    known.mkdir(mode=0o700, exist_ok=True)
    _keep(known / f"{sha256(der).hexdigest()}.pem", certificate.public_bytes(serialization.Encoding.PEM))
    trusted = [pem.unarmor(path.read_bytes())[2] for path in sorted(known.glob("*.pem"))]
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = tuple(x509.Certificate.load(c.public_bytes(serialization.Encoding.DER)) for c in others)
    return Seal(keys.PrivateKeyInfo.load(private), x509.Certificate.load(der), chain, tuple(trusted))


def _from_pkcs12(file: str, passphrase: str, now: datetime) -> tuple[Any, Any, list[Any]]:
    def bad(why: str) -> SettingError:
        return SettingError(f"PORTAL_SEAL_PKCS12: {file} {why}")

    try:
        body = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise bad(f"cannot be read: {error.strerror}") from None
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(body, passphrase.encode() or None)
    except ValueError:
        raise bad("is no PKCS#12 file, or PORTAL_SEAL_PASSPHRASE does not open it") from None
    if key is None or certificate is None:
        raise bad("needs both a key and its certificate")
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise bad("holds a key that is neither an elliptic curve nor an RSA key")
    if _public(key.public_key()) != _public(certificate.public_key()):
        raise bad("holds a certificate of another key")
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise bad(f"holds a certificate that is valid only until {certificate.not_valid_after_utc:%Y-%m-%d}")
    return key, certificate, list(others)


def _public(key: Any) -> bytes:
    return bytes(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def _own(folder: Path, name: str, now: datetime) -> tuple[Any, Any, list[Any]]:
    path = folder / "seal.pem"
    if not path.exists():
        _keep(path, _make(name, now))
    body = path.read_bytes()
    try:
        return serialization.load_pem_private_key(body, None), certificates.load_pem_x509_certificate(body), []
    except ValueError:
        raise SettingError(f"PORTAL_HOME: {path} is damaged; put it back from a backup, or move it away") from None


def _make(name: str, now: datetime) -> bytes:
    """Make a key on the curve P-256 and a certificate that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = certificates.Name([
        certificates.NameAttribute(certificates.NameOID.COMMON_NAME, name[:64]),
        certificates.NameAttribute(certificates.NameOID.ORGANIZATIONAL_UNIT_NAME, "Seal of receipts"),
    ])  # fmt: skip
    usage = certificates.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        certificates.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(certificates.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + LIFE)
        .add_extension(certificates.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(certificates.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _keep(path: Path, body: bytes) -> None:
    """Write a file that nobody else may read; of two processes that do so at once, the first one stands."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600)
    draft.write_bytes(body)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def open_seal(settings: Settings, *, now: datetime) -> Seal:
    """Open the portal's seal as its settings say, or make it at first start.

    Raises:
        SettingError: the configured file cannot be used.
    """
    return load_seal(
        folder=settings.folder("keys"), file=settings.seal_pkcs12, passphrase=settings.seal_passphrase,
        name=f"BLOOM Portal at {urlsplit(settings.base_url).hostname}", now=now,
    )  # fmt: skip
