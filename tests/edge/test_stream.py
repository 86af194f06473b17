"""A stream on its way to a client: the same words come out, however the engine's bytes were cut."""

import json
import random
import re
from typing import Any

import pytest

from gated_inference.meter import Lost, Meter, usage_in
from gated_inference.stream import EVENT_MAX, Stream

COUNTS = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "details": {"cached": {"n": 1}}}
ODD = [
    'say "[DONE]"',
    'a "usage": {"prompt_tokens": 9} of words',
    '"error": no',
    'data: {"',
    "}\n\n\r\n",
    "0\r\n\r\n",
    "漢\\u0000",
]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def choice(text: str, **more: Any) -> dict[str, Any]:
    return {"object": "text_completion", "model": "m", "choices": [{"index": 0, "text": text}], **more}


def written(values: list[Any], line_end: str = "\n", **style: Any) -> list[bytes]:
    """Return the events of an engine that writes JSON in some style."""
    parts = [value if isinstance(value, str) else "data: " + json.dumps(value, **style) for value in values]
    return [(part + line_end * 2).encode() for part in parts]


def taken(data: bytes, *, chunked: bool) -> list[Any]:
    """Return what a client reads."""
    if chunked:
        parts = []
        while data:
            size, _, rest = data.partition(b"\r\n")
            length = int(size, 16)
            assert rest[length : length + 2] == b"\r\n"
            parts.append(rest[:length])
            data = rest[length + 2 :]
        data = b"".join(parts)
    found = re.findall(rb"data: (.*)\n", data.replace(b"\r\n", b"\n"))
    return [part.decode() if part == b"[DONE]" else json.loads(part) for part in found]


def passed(pieces: list[bytes], **kept: Any) -> tuple[Stream, bytes]:
    """Feed a stream piece by piece; return it, and what came out."""
    out: list[bytes] = []
    stream = Stream(out.append, Meter(2), **{"chunked": True, "include_usage": False, **kept})
    for piece in pieces:
        if stream.done:
            break
        stream.feed(piece)
    return stream, b"".join([*out, stream.ending(b"data: [DONE]\n\n")] if stream.done else out)


def cut(data: bytes, dice: random.Random) -> list[bytes]:
    """Cut bytes anywhere."""
    places = sorted(dice.sample(range(1, len(data)), min(dice.randrange(12), len(data) - 1)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.parametrize("seed", range(60))
def test_however_the_bytes_are_cut_the_client_reads_the_same(seed: int) -> None:
    dice = random.Random(seed)
    words = [dice.choice([" word", " and", *ODD]) for _ in range(dice.randrange(1, 12))]
    values: list[Any] = [choice(word, **({"usage": None} if seed % 3 == 0 else {})) for word in words]
    if seed % 4:
        values.append({"model": "m", "choices": [], "usage": COUNTS})
    style = {"separators": (",", ":")} if seed % 2 else {"ensure_ascii": False}
    events = written([*values, "data: [DONE]"], "\r\n" if seed % 5 == 0 else "\n", **style)
    if seed % 7 == 0:
        events.insert(0, b": a comment\n\n")
    if seed % 3:  # several events in a chunk, and events over several chunks
        events = cut(b"".join(events), dice)
    chunked = seed % 6 != 0
    data = b"".join(chunk(event) for event in events) + b"0\r\n\r\n" if chunked else b"".join(events)
    include = seed % 8 == 1
    stream, out = passed(cut(data, dice), chunked=chunked, include_usage=include, model="mine" if seed % 9 == 0 else "")
    *found, done = taken(out.removesuffix(b"0\r\n\r\n") if chunked else out, chunked=chunked)
    assert done == "[DONE]"
    kept = [value for value in values if include or value["choices"]]
    assert found == [{**value, "model": "mine"} for value in kept] if seed % 9 == 0 else found == kept
    assert stream.done
    if seed % 4:
        assert (stream.count.prompt_tokens, stream.count.completion_tokens) == (7, 5)
    else:
        assert stream.count.completion_tokens == len(words)


def test_what_is_plain_is_passed_on_as_it_came() -> None:
    piece = b"".join(chunk(event) for event in written([choice("a"), choice("b")]))
    stream, out = passed([piece, piece])
    assert out == piece * 2
    assert (stream.count.completion_tokens, stream.pieces) == (4, 2)
    assert stream.at_rest


def test_counts_in_the_last_event_with_words_are_found_as_well() -> None:
    events = written([choice("a"), choice("b", usage=COUNTS), "data: [DONE]"])
    stream, _ = passed([chunk(event) for event in events])
    assert (stream.count.prompt_tokens, stream.count.completion_tokens) == (7, 5)


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        (b'{"usage":null}', None),
        (b'"usage": {"prompt_tokens": 3, "d": {"x": {}}}} trailing', {"prompt_tokens": 3, "d": {"x": {}}}),
        (b'"usage":{"prompt_tokens":3},"x":[{"usage":null}]', {"prompt_tokens": 3}),
        (b'"usage":{"prompt_tok', None),
        (b'"text":"\\"usage\\":{\\"prompt_tokens\\":9}"', None),
        (b"", None),
    ],
)
def test_counts_are_looked_for_from_the_end(tail: bytes, found: Any) -> None:
    assert usage_in(tail) == found


@pytest.mark.parametrize(
    "pieces",
    [
        [b"hello, this is no chunk\r\n"],
        [b"5\r\nabcdefgh"],
        [chunk(b"data: no JSON\n\n")],
        [chunk(b"data: 5\n\n")],
        [chunk(b'data: {"error": {"message": "out of memory"}}\n\n')],
        [chunk(b'data: {"choices": [{"text": "a"}], "error":null}\n\n')],
        [chunk(b'data: {"choices": [{"text": "a"}]}\n\n') + b"0\r\n\r\n"],
        [b"fffffff\r\n" + b"x" * 64] * 2,
        [chunk(b"x" * 65_000)] * 20,
    ],
)
def test_what_is_no_stream_of_events_is_a_loss(pieces: list[bytes]) -> None:
    with pytest.raises(Lost):
        passed(pieces)
    with pytest.raises(Lost):
        passed([b"data: " + b"x" * (EVENT_MAX + 1)], chunked=False)


def test_what_comes_behind_the_end_is_kept_apart() -> None:
    stream, _ = passed([chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"])
    assert stream.rest == b"0\r\n\r\n"
    stream, out = passed([chunk(b"data: [DONE]\n\ndata: {}\n\n") + b"0\r\n"])
    assert stream.rest == b"0\r\n"
    assert out == chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
