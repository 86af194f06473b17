"""The door to witnesses of the log (c2sp.org/tlog-witness): who they are, and asking them to vouch for a checkpoint."""

from base64 import b64decode
from hashlib import sha256

from portal.adapters.outside import PATIENCE, OutsideError, Server
from portal.core.config import SettingError, Settings

COSIGNATURE = b"\4"
KEY_SIZE = 33
OK, CONFLICT = 200, 409
SIZE_MAX = 18
KIND = {"Content-Type": "text/plain; charset=utf-8"}


class WitnessError(Exception):
    """A witness does not vouch for what it was asked."""


class SeenElse(WitnessError):
    """A witness has seen another number of entries than it was told."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it has seen {size} entries")
        self.size = size


class Witness:
    """A witness by its key, and where it is asked.

    Args:
        name: the name in its key.
        public: its Ed25519 key.
        url: below it lies ``/add-checkpoint``.
    """

    def __init__(self, name: str, public: bytes, url: str, *, patience: float = PATIENCE) -> None:
        self.name = name
        self.public = public
        self.server = Server(url.rstrip("/"), patience=patience)

    def ask(self, question: bytes) -> bytes:
        """Hand in a checkpoint with its proof and return the lines of the answer.

        Raises:
            SeenElse: its last checkpoint is another one than the question says.
            WitnessError: it refuses.
            OutsideError: it is away or slow.
        """
        answer = self.server.post(question, KIND, at="/add-checkpoint")
        if answer.status == CONFLICT:
            text = answer.body.strip()
            if text.isdigit() and len(text) <= SIZE_MAX:
                raise SeenElse(int(text))
        if answer.status != OK:
            raise WitnessError(f"it answers {answer.status}: {answer.body[:200].decode(errors='replace').strip()}")
        return answer.body


def read_witness(text: str) -> Witness:
    """Read a witness as settings name it: its key, a space, and its address.

    Raises:
        SettingError: it is written in another way, or its key is no cosigner's.
    """
    try:
        key, url = text.split()
        name, number, data = key.split("+", 2)
        kind = b64decode(data, validate=True)
    except ValueError:
        raise SettingError(f"PORTAL_WITNESSES: {text[:100]!r} is not written KEY ADDRESS") from None
    if kind[:1] != COSIGNATURE or len(kind) != KEY_SIZE:
        raise SettingError(f"PORTAL_WITNESSES: {name} has no key of a cosigner (Ed25519, type 4)")
    if sha256(name.encode() + b"\n" + kind).digest()[:4].hex() != number:
        raise SettingError(f"PORTAL_WITNESSES: the key of {name} does not match its own number")
    if not url.startswith(("http://", "https://")):
        raise SettingError(f"PORTAL_WITNESSES: the address of {name} must begin with http(s)://")
    return Witness(name, kind[1:], url)


def open_witnesses(settings: Settings) -> list[Witness]:
    """Open all witnesses that the settings name.

    Raises:
        SettingError: names what is wrong with one.
    """
    found = [read_witness(text) for text in settings.witnesses.split(",") if text.strip()]
    if len({witness.name for witness in found}) < len(found):
        raise SettingError("PORTAL_WITNESSES: a name stands twice")
    return found


__all__ = ["OutsideError", "SeenElse", "Witness", "WitnessError", "open_witnesses", "read_witness"]
