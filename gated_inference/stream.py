"""A streamed answer on its way to a client: passed on as it comes, read closely only where it has to be."""

import re
from collections.abc import Callable

import orjson

from gated_inference.meter import Lost, Meter, is_usage_only, parse
from gated_inference.pool import END

EVENT_MAX = 1 << 20
DONE = b"[DONE]"
SIZE = re.compile(rb"([0-9a-fA-F]{1,8})\r\n").match
BEGINS, ENDS = b'data: {"', b"}\n\n\r\n"
CHOICES, ERROR = (b'"choices":[{', b'"choices": [{'), b'"error":'


class Stream:
    """What comes of one stream.

    A piece that holds whole chunks of whole events, and nothing that concerns us, is passed on without being taken
    apart. Whatever else comes is: the counts, which we always ask for and the client perhaps did not; an error; the
    end, before which a record must be written; chunks cut anywhere, and events of an engine that names the model
    otherwise.

    Args:
        emit: takes what goes to the client, in chunks if `chunked`.
        chunked: the engine's chunks are passed on as such, and `feed` is given them as they come.
        model: what the client calls the model, where the engine calls it otherwise.
    """

    __slots__ = (
        "_chunks", "_emit", "_place", "_text", "chunked", "count", "done", "include_usage", "last", "model", "pieces",
    )  # fmt: skip

    def __init__(
        self, emit: Callable[[bytes], None], count: Meter, *, chunked: bool, include_usage: bool, model: str = ""
    ) -> None:
        self._emit, self.count, self.chunked = emit, count, chunked
        self.include_usage, self.model = include_usage, model
        self._chunks = self._text = b""
        self.pieces = self._place = 0
        self.last = b""
        self.done = False

    @property
    def rest(self) -> bytes:
        """What came behind the last event."""
        return self._chunks

    def feed(self, data: bytes) -> None:
        """Take a piece of the engine's answer; raises `Lost` if no stream of events is in it."""
        self.pieces += 1
        if self.chunked:
            events = 0 if self._text or self._chunks else self._whole_events(data)
            if events:
                self.count.completion_tokens += events
                self.last = data
                self._emit(data)
            else:
                self._read_chunks(data)
        else:
            self._read(data)

    def say(self, event: bytes) -> bytes:
        """Return an event, or a comment, as it goes to the client."""
        return b"%x\r\n%b\r\n" % (len(event), event) if self.chunked else event

    def ending(self, last: bytes) -> bytes:
        """Return the last event with what ends the answer."""
        return (self.say(last) if last else b"") + END if self.chunked else last

    @property
    def at_rest(self) -> bool:
        """Say whether nothing is half sent, so that something of ours may be put in."""
        return not self._text

    def _whole_events(self, data: bytes) -> int:
        """Return how many chunks of one event each a piece consists of, 0 if it is anything else, or concerns us.

        An event that brings words has choices, and no model can write what is looked for, as its quotes are escaped.
        It mostly stands where it stood in the event before.
        """
        at, events, size, place = 0, 0, len(data), self._place
        while at < size:
            found = SIZE(data, at)
            if found is None:
                return 0
            begin = found.end()
            at = begin + int(found[1], 16) + 2
            if at > size or not data.startswith(BEGINS, begin) or data[at - 5 : at] != ENDS:
                return 0
            if not data.startswith(CHOICES, begin + place):
                place = data.find(CHOICES[0], begin, at) - begin
                if place < 0:
                    place = data.find(CHOICES[1], begin, at) - begin
                if place < 0 or data.find(ERROR, begin, at) >= 0:
                    return 0
                self._place = place
            events += 1
        return events

    def _read_chunks(self, data: bytes) -> None:
        """Take chunks apart; what is not whole yet waits."""
        data, at, size = self._chunks + data, 0, 0
        while not self.done and (found := SIZE(data, at)) is not None:
            size = int(found[1], 16)
            end = found.end() + size
            if len(data) < end + 2:
                break
            if size == 0 or data[end : end + 2] != b"\r\n":
                raise Lost("the stream ended without its last event" if size == 0 else "the engine wrote no chunks")
            self._read(data[found.end() : end])
            at = end + 2
        self._chunks = data[at:]
        if not self.done and (len(self._chunks) > EVENT_MAX or size > EVENT_MAX):
            raise Lost("an event without end")
        if not self.done and len(self._chunks) >= 10 and SIZE(self._chunks) is None:  # noqa: PLR2004
            raise Lost("the engine wrote no chunks")

    def _read(self, text: bytes) -> None:
        """Read events; one that is not whole yet waits."""
        text = (self._text + text).replace(b"\r\n", b"\n")
        *whole, self._text = text.split(b"\n\n")
        for event in whole:
            if self.done:
                break
            self._event(b"\n".join(line[5:].lstrip(b" ") for line in event.split(b"\n") if line.startswith(b"data:")))
        if len(self._text) > EVENT_MAX:
            raise Lost("an event without end")

    def _event(self, data: bytes) -> None:
        if not data:
            return
        if data == DONE:
            self.done = True
            self.count.see_tail(self.last)
            self.count.end()
            return
        value = parse(data)
        if "error" in value:
            raise Lost("the engine reported an error")
        self.count.see(value)
        if is_usage_only(value) and not self.include_usage:
            return
        self.last = data
        if self.model:
            data = orjson.dumps({**value, "model": self.model})
        elif b"\n" in data:
            data = orjson.dumps(value)
        self._emit(self.say(b"data: " + data + b"\n\n"))
