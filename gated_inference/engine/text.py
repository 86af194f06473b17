"""Turns tokens into text: whole characters only, and never a part of a stop string."""

import codecs
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer


def byte_letters() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {chr(byte): byte for byte in plain}
    others = (byte for byte in range(256) if byte not in set(plain))
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}


class Vocabulary:
    """The tokenizer of a model: text to token ids, and the bytes of each token."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        if json.loads(self.tokenizer.to_str())["decoder"]["type"] != "ByteLevel":
            raise ValueError("The tokenizer is not byte-level, as BLOOM's is")
        letters = byte_letters()
        added = self.tokenizer.get_added_tokens_decoder()
        self.special = {number for number, token in added.items() if token.special}
        self.pieces: dict[int, bytes] = {}
        for token, number in self.tokenizer.get_vocab(with_added_tokens=True).items():
            whole = number in added
            self.pieces[number] = token.encode() if whole else bytes(letters[letter] for letter in token)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without adding any."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def name(self, token: int) -> str:
        """Return a token as text; one that is not whole characters is written out byte by byte."""
        piece = self.pieces.get(token)
        if piece is None:  # the output layer may be wider than the vocabulary
            return f"<{token}>"
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)

    def spoken(self, token: int) -> bytes:
        """Return the bytes that a token adds to an answer: none for `<s>` and its like."""
        return b"" if token in self.special else self.pieces.get(token, b"")


class Writer:
    """Writes the text of one answer and decides how much of it may be sent.

    A character that is not complete yet waits for its other bytes, and is left out when they never come. The end of
    the text waits while it could be the beginning of a stop string.
    """

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str], before: Sequence[int]) -> None:
        self.vocabulary = vocabulary
        self.stops = tuple(stops)
        self.longest = max(map(len, self.stops), default=0)
        self.bytes = codecs.getincrementaldecoder("utf-8")("replace")
        # A prompt given as token ids may end inside a character.
        self.bytes.decode(b"".join(vocabulary.spoken(token) for token in before[-4:]))
        self.text = ""
        self.sent = 0

    def add(self, token: int) -> bool:
        """Append a token; return whether a stop string is complete, the text then ends before it."""
        searched = max(0, len(self.text) - self.longest + 1)
        self.text += self.bytes.decode(self.vocabulary.spoken(token))
        found = [place for stop in self.stops if (place := self.text.find(stop, searched)) >= 0]
        if found:
            self.text = self.text[: min(found)]
        return bool(found)

    def held_back(self) -> int:
        """Return how many characters at the end could still become a stop string."""
        for length in range(min(self.longest - 1, len(self.text)), 0, -1):
            tail = self.text[-length:]
            if any(stop.startswith(tail) for stop in self.stops):
                return length
        return 0

    def release(self, *, last: bool) -> str:
        """Return the text that may be sent now; at the end of an answer, all of it."""
        safe = len(self.text) if last else len(self.text) - self.held_back()
        released, self.sent = self.text[self.sent : safe], max(self.sent, safe)
        return released
