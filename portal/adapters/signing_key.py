"""The key that signs checkpoints of the log, and the last checkpoint, which is kept outside the database."""

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from portal.core.config import SettingError


def holds(public: bytes, signature: bytes, body: bytes) -> bool:
    """Say whether a signature over bytes is by an Ed25519 key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, body)
    except (InvalidSignature, ValueError):
        return False
    return True


class SigningKey:
    """An Ed25519 key, made the first time it is asked for; when its file is replaced, the new one counts at once.

    Args:
        path: where it is kept, readable for the portal's user alone.
        kept_at: where the last checkpoint is kept.

    Raises:
        SettingError: the file holds something else.
    """

    def __init__(self, path: Path, kept_at: Path) -> None:
        self.path = path
        self.kept_at = kept_at
        self._read: tuple[tuple[int, int], Ed25519PrivateKey] | None = None
        self._current()

    def _current(self) -> Ed25519PrivateKey:
        if not self.path.exists():
            if self._read is not None:
                return self._read[1]  # it was taken away, and nothing took its place
            _make(self.path)
        at = self.path.stat()
        if self._read is None or self._read[0] != (at.st_ino, at.st_mtime_ns):
            self._read = (at.st_ino, at.st_mtime_ns), _load(self.path)
        return self._read[1]

    @property
    def public(self) -> bytes:
        """The public key."""
        return self._current().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, body: bytes) -> bytes:
        """Return the signature over bytes."""
        return self._current().sign(body)

    def holds(self, signature: bytes, body: bytes, by: bytes | None = None) -> bool:
        """Say whether a signature over bytes is by this key, or by the public key that is given."""
        return holds(by or self.public, signature, body)

    def successor(self) -> "SigningKey":
        """Return the key that is to come after this one; it is made once and lies beside it until it takes over."""
        return SigningKey(self.path.with_name(f"{self.path.name}.next"), self.kept_at)

    def give_way(self) -> None:
        """Put the successor in the place of this key, whose private half is gone from then on."""
        self.path.with_name(f"{self.path.name}.next").replace(self.path)

    def kept(self) -> bytes | None:
        """Return the checkpoint that is kept, if one is."""
        try:
            return self.kept_at.read_bytes()
        except FileNotFoundError:
            return None

    def keep(self, note: bytes) -> None:
        """Keep a checkpoint in the place of the one before; a crash leaves the one or the other, whole."""
        self.kept_at.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.kept_at.with_name(f".{self.kept_at.name}.{secrets.token_hex(8)}")
        with draft.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.kept_at)


def open_key(home: Path) -> SigningKey:
    """Return the log's key of a portal."""
    return SigningKey(home / "keys" / "log", home / "log" / "checkpoint")


def _make(path: Path) -> None:
    """Make the key; two processes that start at once end up with the same one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600)
    made = Ed25519PrivateKey.generate()
    draft.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingError(f"{path} holds no Ed25519 key; put the log's key back there")
    return key
