"""What a witness of the log signs, how it is asked, and what stands for a day: formats of c2sp.org."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Protocol

from portal.core.errors import Invalid
from portal.proofs.rules import DASH, base64, read_checkpoint, unbase64

COSIGNATURE = b"\4"
TIME_SIZE, SIGNATURE_SIZE = 8, 64
LATEST = 2**33
CLOCK_SLACK = timedelta(minutes=10)
Holds = Callable[[bytes, bytes, bytes], bool]


class Witness(Protocol):
    """Somebody outside who remembers how far the log was, and signs only what extends that."""

    @property
    def name(self) -> str: ...

    @property
    def public(self) -> bytes: ...


@dataclass(frozen=True)
class Order:
    """What a witness is asked: whether a checkpoint extends the one that it saw last.

    Args:
        old: how many entries it has seen.
        size: how many the checkpoint covers.
        path: the proof that the one begins with the other.
        note: the checkpoint.
    """

    old: int
    size: int
    path: tuple[bytes, ...]
    note: bytes

    @property
    def body(self) -> bytes:
        """The question as a witness reads it."""
        lines = [f"old {self.old}", *map(base64, self.path), "", ""]
        return "\n".join(lines).encode() + self.note


@dataclass(frozen=True)
class Word:
    """A cosignature that holds: its line, and when the witness gave it."""

    line: bytes
    at: datetime


def cosigned_bytes(body: bytes, seconds: int) -> bytes:
    """Return the bytes that a witness signs: that at a time, this was the furthest it saw of the log."""
    return f"cosignature/v1\ntime {seconds}\n".encode() + body


def cosigner_id(name: str, public: bytes) -> bytes:
    """Return the four bytes by which a cosignature says whose it is."""
    return sha256(name.encode() + b"\n" + COSIGNATURE + public).digest()[:4]


def read_word(answer: bytes, *, note: bytes, witness: Witness, holds: Holds, now: datetime) -> Word:
    """Find the cosignature of a witness over a checkpoint in its answer.

    Args:
        answer: lines of signatures; those of others are passed over.
        note: the checkpoint.
        witness: whose word is wanted.
        holds: checks an Ed25519 signature.
        now: cosignatures of another time are refused.

    Raises:
        Invalid: there is none, or it does not hold.
    """
    body, mine = read_checkpoint(note).body, cosigner_id(witness.name, witness.public)
    for line in answer.decode(errors="replace").splitlines():
        data = _signature(line, witness.name)
        if data[:4] != mine or len(data) != len(mine) + TIME_SIZE + SIGNATURE_SIZE:
            continue
        seconds = int.from_bytes(data[4 : 4 + TIME_SIZE], "big")
        good = seconds < LATEST and holds(witness.public, data[4 + TIME_SIZE :], cosigned_bytes(body, seconds))
        if not good:
            raise Invalid("cosignature_invalid", f"The cosignature of {witness.name} does not hold.")
        at = datetime.fromtimestamp(seconds, UTC)
        if abs(at - now) > CLOCK_SLACK:
            raise Invalid("cosignature_invalid", f"The cosignature of {witness.name} is of another time.")
        return Word(f"{line}\n".encode(), at)
    raise Invalid("cosignature_missing", f"The answer holds no cosignature of {witness.name}.")


def _signature(line: str, name: str) -> bytes:
    try:
        dash, signer, value = line.split(" ")
        return unbase64(value) if (dash, signer) == (DASH, name) else b""
    except ValueError:
        return b""


def with_words(note: bytes, lines: Sequence[bytes]) -> bytes:
    """Return a checkpoint with the cosignatures of witnesses below the log's own signature."""
    return note + b"".join(lines)


@dataclass(frozen=True)
class Daily:
    """The checkpoint of a day in short, as receipts print it and as its square code says it.

    Args:
        day: the UTC day.
        note: the checkpoint with the log's own signature.
    """

    day: str
    note: bytes

    @property
    def size(self) -> int:
        """How many entries it covers."""
        return read_checkpoint(self.note).size

    @property
    def root(self) -> str:
        """The root as it stands in the checkpoint."""
        return base64(read_checkpoint(self.note).root)

    @property
    def text(self) -> str:
        """The checkpoint word for word: whoever scans it has all that a monitor needs."""
        return self.note.decode()
