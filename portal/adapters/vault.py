"""Secrets that must be read again are stored under a key kept outside the database (AES-256-GCM, NIST SP 800-38D)."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE = 12


class Vault:
    """Locks and unlocks secrets of one kind.

    Args:
        pepper: the key of all keys.
        kind: what the secrets are; another kind has another key.
    """

    def __init__(self, pepper: bytes, kind: str) -> None:
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"portal vault: {kind}".encode()).derive(pepper)
        self._key = AESGCM(derived)

    def lock(self, secret: bytes, *, about: str) -> bytes:
        """Return the form in which a secret is stored; it opens only for what it is about."""
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._key.encrypt(nonce, secret, about.encode())

    def unlock(self, locked: bytes, *, about: str) -> bytes:
        """Return a secret, or raise `ValueError` where it was locked with another key, changed, or about another."""
        try:
            return self._key.decrypt(locked[:NONCE], locked[NONCE:], about.encode())
        except InvalidTag:
            raise ValueError("a stored secret does not open") from None
