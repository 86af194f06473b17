"""The door to zxcvbn, and to a list of passwords that became known: how easily a password is guessed."""

import os
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

from zxcvbn import zxcvbn
from zxcvbn.matching import L33T_TABLE

LOOKED_AT = 64
SCORE = 3
GUESSED = "It would be guessed quickly: common words, names, keys in a row and repeats are tried first."
KNOWN = "It is on a list of passwords that became known elsewhere."

# Every combination of what signs can stand for is tried: of many signs for one letter, and of signs that stand for two,
# a password full of such signs takes seconds. The commonest are left.
L33T_TABLE.update({"c": ["("], "g": ["9"], "i": ["1", "!"], "l": ["|"], "t": ["7"]})


class Guesser:
    """Judges passwords without asking anybody.

    Args:
        known: a file of SHA-1 digests in order, one a line, as "Have I Been Pwned" offers them for download
            (``DIGEST`` or ``DIGEST:COUNT``); None for no such list.
    """

    def __init__(self, known: Path | None = None) -> None:
        self._known = known

    def weakness(self, password: str, about: Sequence[str]) -> str:
        """Say why a password is easily guessed by those who know this about the person; nothing where it is not."""
        if not password:
            return GUESSED
        words = [part for known in about for part in (known, *known.replace("@", ".").split(".")) if part]
        if zxcvbn(password[:LOOKED_AT], user_inputs=words, max_length=LOOKED_AT)["score"] < SCORE:
            return GUESSED
        return KNOWN if self._known is not None and listed(self._known, password) else ""


def listed(path: Path, password: str) -> bool:
    """Say whether a list of digests in order holds a password's: a binary search over the file, of whatever size."""
    wanted = sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest().upper().encode()
    with path.open("rb") as file:
        low, high = 0, file.seek(0, os.SEEK_END)
        while low < high:
            middle = (low + high) // 2
            if middle:
                file.seek(middle - 1)
                file.readline()  # what is left of the line before: now comes the first that begins at `middle` or later
            else:
                file.seek(0)
            line = file.readline()
            digest = line[: len(wanted)].upper()
            if digest == wanted:
                return True
            if not line or digest > wanted:
                high = middle
            else:
                low = middle + 1
        return False
