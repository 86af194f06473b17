"""The keys that sign what the portal states about people to programs, published as a set (RFC 7517)."""

import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

from portal.core.config import SettingError

ALGORITHM = "RS256"
BITS = 2048
LEAD = timedelta(days=1)
LINGER = timedelta(days=1)


class StatementKeys:
    """RSA keys in a folder, each named by the second in which it was made; the first is made when it is asked for.

    A new key is published for a day before it signs, and an old one for a day after it last did: whoever keeps the set
    for less than a day never meets a key that they do not know.

    Args:
        folder: where they are kept, readable for the portal's user alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, RSAKey] = {}

    def sign(self, claims: Mapping[str, Any], *, kind: str, now: datetime, keys_at: str = "") -> str:
        """Return a signed statement (JWT, RFC 7519).

        Args:
            kind: its media type (`typ`).
            keys_at: the address of the set of keys, where the statement has to name it (`jku`).
        """
        key = self._key(self._signing(now))
        head = {"alg": ALGORITHM, "kid": key.kid, "typ": kind, **({"jku": keys_at} if keys_at else {})}
        return jwt.encode(head, dict(claims), key, algorithms=[ALGORITHM])

    def published(self, now: datetime) -> dict[str, Any]:
        """Return the public halves of the keys by which statements may be checked now."""
        paths = self._paths(now)
        kept = [
            path for path, later in zip(paths, [*paths[1:], None], strict=True) if later is None or now < _gone(later)
        ]
        return {"keys": [self._key(path).as_dict(private=False) for path in kept]}

    def renew(self, now: datetime) -> datetime:
        """Make the key that signs a day from now, and return when; the ones that are no longer published go."""
        for path, later in zip(paths := self._paths(now), paths[1:], strict=False):
            if now >= _gone(later):
                path.unlink(missing_ok=True)
        self._make(now)
        return now + LEAD

    def _signing(self, now: datetime) -> Path:
        """Return the newest key that was published for long enough, or the oldest of all."""
        paths = self._paths(now)
        return next((path for path in reversed(paths) if _made_at(path) + LEAD <= now), paths[0])

    def _paths(self, now: datetime) -> list[Path]:
        return self._listed() or [self._make(now, first=True)]

    def _listed(self) -> list[Path]:
        return sorted(self.folder.glob("*.pem"), key=_made_at)

    def _make(self, now: datetime, *, first: bool = False) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.folder / f".{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_bytes(RSAKey.generate_key(BITS).as_pem(private=True))
        # Two processes that make the first key at once end up with the same one; it signs at once.
        path = self.folder / ("0.pem" if first else f"{int(now.timestamp())}.pem")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path

    def _key(self, path: Path) -> RSAKey:
        if path.name not in self._read:
            try:
                key = RSAKey.import_key(path.read_bytes())
            except ValueError:
                raise SettingError(f"{path} holds no RSA key; put the key back there, or take the file away") from None
            kid = key.thumbprint()
            self._read[path.name] = RSAKey.import_key(
                key.as_dict(private=True), {"kid": kid, "use": "sig", "alg": ALGORITHM}
            )
        return self._read[path.name]


def _made_at(path: Path) -> datetime:
    return datetime.fromtimestamp(int(path.stem) if path.stem.isdigit() else 0, UTC)


def _gone(later: Path) -> datetime:
    """Return when a key is no longer published that another one followed."""
    return _made_at(later) + LEAD + LINGER
