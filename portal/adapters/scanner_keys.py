"""The keys with which the secret scanning of GitHub signs what it found, fetched when needed and kept."""

import json
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from portal.adapters.outside import OutsideError, Server

OK = 200
FRESH = 3600.0
PAUSE = 60.0
KIND = {"Accept": "application/json"}


class ScannerKeys:
    """ECDSA keys on P-256 by their identifiers, as published at an address.

    They are asked for again once an hour at most, and for one that is not known once a minute at most, so that
    whoever makes up identifiers causes no traffic.

    Args:
        url: where they are published; empty for nowhere, then no signature holds.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = Server(url) if url else None
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, EllipticCurvePublicKey] = {}
        self._asked = float("-inf")

    def holds(self, key_id: str, signature: str, body: bytes) -> bool:
        """Say whether a signature in Base64 over bytes is by a key (ECDSA on P-256 with SHA-256)."""
        key = self._key(key_id)
        if key is None:
            return False
        try:
            key.verify(b64decode(signature, validate=True), body, ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True

    def _key(self, key_id: str) -> EllipticCurvePublicKey | None:
        with self._lock:
            age = self._clock() - self._asked
            if self._server is not None and age >= (FRESH if key_id in self._keys else PAUSE):
                self._asked = self._clock()
                try:
                    answer = self._server.get(KIND)
                    if answer.status == OK:
                        self._keys = read_keys(answer.body)
                except (OutsideError, ValueError):
                    pass  # the keys of before are as good as they were
            return self._keys.get(key_id)


def read_keys(body: bytes) -> dict[str, EllipticCurvePublicKey]:
    """Return the keys on P-256 that a list names.

    Raises:
        ValueError: it is no such list.
    """
    value = json.loads(body)
    rows: Any = value.get("public_keys") if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise ValueError("no list of keys")  # noqa: TRY004
    keys = {}
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("key"), str):
            key = load_pem_public_key(row["key"].encode())
            if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
                keys[str(row.get("key_identifier"))] = key
    return keys
