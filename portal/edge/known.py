"""Heads that the parser has read before: what is the same again, but for the length of its body, is not parsed anew."""

import re

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)(?=\r\n)", re.IGNORECASE)
END = b"\r\n\r\n"
HEAD_MAX = 4 << 10
DIGITS_MAX = 8


class KnownHead:
    """A head that was read, told again by all its bytes but the digits of its body's length.

    So the parser alone decides what a head means; here it is only seen that the same stands there.
    """

    __slots__ = ("_after", "_at", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._at, self._after = before, len(before), after

    def body_of(self, data: bytes) -> bytes | None:
        """Return the body, if these bytes are such a head with the whole of its body behind it, and nothing else."""
        if not data.startswith(self._before):
            return None
        at = self._at
        end = data.find(b"\r", at, at + DIGITS_MAX)
        length = data[at:end]
        if end < 0 or not length.isdigit() or not data.startswith(self._after, end):
            return None
        body = data[end + len(self._after) :]
        return body if len(body) == int(length) else None


def known_head(data: bytes, length: int) -> KnownHead | None:
    """Learn the head of one whole message, which the parser found these bytes to be; None if it cannot be told again.

    Args:
        data: the bytes, from the first one behind the message before.
        length: of its body, as its Content-Length says.
    """
    end = data.find(END) + len(END)
    found = list(LENGTH.finditer(data, 0, end))
    if len(found) != 1 or end > HEAD_MAX or end + length != len(data) or int(found[0][1]) != length:
        return None
    return KnownHead(data[: found[0].start(1)], data[found[0].end(1) : end])
