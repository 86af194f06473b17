"""Canonical bytes and commitments: what is hashed is written exactly one way."""

import json
import unicodedata
from hashlib import sha256
from typing import Any

from portal.core.errors import Invalid

MAX_INTEGER = 2**53


def canonical(value: Any) -> bytes:
    """Write JSON data in its canonical form (RFC 8785, by restriction of what may be written).

    Args:
        value: dicts with ASCII keys, lists, strings in NFC without lone surrogates, integers below 2^53,
            booleans, None. Anything else is refused.

    Returns:
        UTF-8 bytes.
    """
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise Invalid("not_canonical", "Keys of evidence are ASCII.")
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif isinstance(value, str):
        if unicodedata.normalize("NFC", value) != value or any("\ud800" <= c <= "\udfff" for c in value):
            raise Invalid("not_canonical", "Text in evidence is in Unicode normal form C.")
    elif isinstance(value, bool) or value is None:
        return
    elif not isinstance(value, int) or abs(value) >= MAX_INTEGER:
        raise Invalid("not_canonical", "Numbers in evidence are integers below 2^53.")


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, 64 hex digits."""
    return sha256(data).hexdigest()


def commitment(salt: bytes, data: bytes) -> str:
    """Commit to bytes so that without the salt nobody can tell what they were: SHA-256(salt ‖ data), hex."""
    return sha256(salt + data).hexdigest()
