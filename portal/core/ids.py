"""Names by which outsiders refer to records: a prefix that says the kind, and randomness that says nothing."""

import secrets

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


def public_id(prefix: str, length: int = 16) -> str:
    """Make a new public id such as ``sig_…`` (31^16, about 79 random bits)."""
    return f"{prefix}_" + "".join(secrets.choice(ALPHABET) for _ in range(length))
