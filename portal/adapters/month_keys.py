"""Keys that seal texts, one a month, in files beside the database and never in it; deleting one erases its month."""

import hmac
import os
import re
import secrets
from collections.abc import Collection
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SIZE, NONCE = 32, 12
MONTH = re.compile(r"\d{4}-\d{2}")


class MonthKeys:
    """AES-256-GCM: each row has a key of its own, wrapped by the key of its month, wrapped by one of the deployment.

    Args:
        folder: where the keys of months are kept, readable for the portal's user alone.
        pepper: a secret of the deployment, from which the key that wraps them is drawn.
    """

    def __init__(self, folder: Path, pepper: bytes) -> None:
        self._folder = folder
        self._outer = AESGCM(hmac.digest(pepper, b"keys of months", "sha256"))

    def seal(self, month: str, name: str, body: bytes) -> tuple[bytes, bytes]:
        """Return the key of a row, wrapped, and its bytes, encrypted; neither opens as another row's."""
        own, bound = secrets.token_bytes(SIZE), f"content\0{name}\0{month}".encode()
        return _encrypt(AESGCM(self._made(month)), own, bound), _encrypt(AESGCM(own), body, bound)

    def open(self, month: str, name: str, wrapped: bytes, sealed: bytes) -> bytes | None:
        """Return the bytes of a row, or None where the key is gone or anything of it was changed."""
        key, bound = self._read(month), f"content\0{name}\0{month}".encode()
        own = _decrypt(AESGCM(key), wrapped, bound) if key is not None else None
        return _decrypt(AESGCM(own), sealed, bound) if own is not None else None

    def numbers(self, month: str, words: Collection[str]) -> set[int]:
        """Return under which numbers words are found in a month; they say nothing without its key."""
        key = self._read(month)
        if key is None:
            return set()
        digests = (hmac.digest(key, b"term\0" + word.encode(), "sha256") for word in words)
        return {int.from_bytes(digest[:8], "big", signed=True) for digest in digests}

    def months(self) -> list[str]:
        """Return the months that have a key, in order."""
        names = (path.name for path in self._folder.iterdir()) if self._folder.exists() else ()
        return sorted(name for name in names if MONTH.fullmatch(name))

    def forget(self, month: str) -> None:
        """Delete the key of a month; what it sealed cannot be read any more, from whatever copy."""
        path = self._folder / month
        if path.exists():
            path.write_bytes(secrets.token_bytes(path.stat().st_size))
            path.unlink()

    def _read(self, month: str) -> bytes | None:
        try:
            body = (self._folder / month).read_bytes()
        except FileNotFoundError:
            return None
        return _decrypt(self._outer, body, month.encode())

    def _made(self, month: str) -> bytes:
        """Return the key of a month; two processes that make it at once end up with the same one."""
        key = self._read(month)
        if key is not None:
            return key
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._folder / f".{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_bytes(_encrypt(self._outer, secrets.token_bytes(SIZE), month.encode()))
        try:
            os.link(draft, self._folder / month)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        key = self._read(month)
        if key is None:
            raise OSError(f"the key of {month} was not made under this deployment's secret")
        return key


def _encrypt(cipher: AESGCM, body: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE)
    return nonce + cipher.encrypt(nonce, body, bound)


def _decrypt(cipher: AESGCM, body: bytes, bound: bytes) -> bytes | None:
    try:
        return cipher.decrypt(body[:NONCE], body[NONCE:], bound)
    except (InvalidTag, ValueError):
        return None
