"""Text from tokens: whole characters, and never a part of a stop string."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from gated_inference.engine.text import Vocabulary, Writer, byte_letters
from tests.engine.conftest import FOLDER

WORDS = Vocabulary(FOLDER)
TEXTS = st.text(alphabet="ab人é ", min_size=1, max_size=30)


def write(text: str, stops: tuple[str, ...] = ()) -> tuple[str, list[str], bool]:
    """Write a text token by token; return it, what was sent at each step, and whether a stop ended it."""
    writer, sent = Writer(WORDS, stops, [1]), []
    for token in WORDS.encode(text):
        if writer.add(token):
            sent.append(writer.release(last=True))
            return writer.text, sent, True
        sent.append(writer.release(last=False))
    sent.append(writer.release(last=True))
    return writer.text, sent, False


def test_every_byte_has_one_letter() -> None:
    assert sorted(byte_letters().values()) == list(range(256))


@pytest.mark.parametrize(
    "text", ["Everyone has", "人人生而自由", "ẹ̀tọ́ ọmọnìyàn", "சுதந்திரம்", "👩‍👩‍👧 a\x00b", "  x\n\n\ty"]
)
def test_what_was_encoded_comes_back_whole(text: str) -> None:
    written, sent, stopped = write(text)
    assert (written, "".join(sent), stopped) == (text, text, False)
    assert not any("\ufffd" in part for part in sent)


@given(text=TEXTS, stops=st.lists(st.text(alphabet="ab人é ", min_size=1, max_size=4), max_size=4))
def test_no_part_of_a_stop_string_is_ever_sent(text: str, stops: list[str]) -> None:
    written, sent, stopped = write(text, tuple(stops))
    first = min((text.find(stop) for stop in stops if stop in text), default=None)
    assert stopped == (first is not None)
    assert "".join(sent) == written
    if first is None:
        assert written == text
    else:
        # A token may complete a longer stop that begins later than a shorter one which it completes as well.
        assert written == text[: len(written)]
        assert not any(stop in written for stop in stops)


def test_what_could_become_a_stop_waits_and_is_sent_when_it_does_not() -> None:
    writer = Writer(WORDS, ["human beings"], [1])
    released = []
    for token in WORDS.encode("All human rights"):
        assert not writer.add(token)
        released.append(writer.release(last=False))
        assert "human".startswith(writer.text[writer.sent :].strip()) or writer.text[writer.sent :] == "human "
    assert "".join(released) == "All human rights"


def test_the_earliest_of_several_stops_counts() -> None:
    assert write("one two three", ("three", "two"))[0] == "one "


def test_special_tokens_say_nothing() -> None:
    writer = Writer(WORDS, [], [])
    assert not any(writer.add(token) for token in (0, 1, 2, 3))
    assert writer.release(last=True) == ""


def token_of(byte: int) -> int:
    return next(token for token, piece in WORDS.pieces.items() if piece == bytes([byte]))


def test_a_character_that_never_becomes_whole_is_left_out() -> None:
    writer = Writer(WORDS, [], [])
    for byte in "人".encode()[:2]:
        writer.add(token_of(byte))
        assert writer.release(last=False) == ""
    assert writer.release(last=True) == ""


def test_bytes_that_are_no_text_become_the_replacement_character() -> None:
    writer = Writer(WORDS, [], [])
    for byte in (0xE4, ord("a")):
        writer.add(token_of(byte))
    assert writer.release(last=True) == "\ufffda"


def test_a_prompt_may_end_inside_a_character() -> None:
    bytes_of = "人".encode()
    writer = Writer(WORDS, [], [token_of(ord("x")), token_of(bytes_of[0]), token_of(bytes_of[1])])
    writer.add(token_of(bytes_of[2]))
    assert writer.release(last=True) == "人"


def test_names_of_tokens_are_readable_and_distinct() -> None:
    names = [WORDS.name(token) for token in range(len(WORDS.pieces) + 1)]
    assert names[:4] == ["<unk>", "<s>", "</s>", "<pad>"]
    assert WORDS.name(token_of(0xE4)) == "bytes:\\xe4"
    assert len(set(names)) == len(names)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    other: Any = Tokenizer(models.BPE())
    other.decoder = decoders.WordPiece()
    other.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="byte-level"):
        Vocabulary(tmp_path)
