"""The word of a witness, as c2sp.org writes it."""

from datetime import UTC, datetime

import pytest

from portal.adapters.signing_key import holds
from portal.adapters.witnesses import Witness, read_witness
from portal.core.config import SettingError
from portal.core.errors import Invalid
from portal.proofs import rules as proofs
from portal.witnesses import rules
from tests.rules.test_proofs_tree import Key
from tests.witness import Wit

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
NOTE = proofs.checkpoint("log.example", 12, b"r" * 32, Key())
BODY = proofs.read_checkpoint(NOTE).body


def test_a_witness_signs_what_the_format_says() -> None:
    assert rules.cosigned_bytes(b"example.com/behind-the-sofa\n20852163\nCsUY=\n", 1679315147) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUY=\n"
    )


def test_its_word_is_found_among_others() -> None:
    wit, other = Wit(), Wit(name="other.example")
    answer = other.cosign(BODY, SECONDS) + wit.cosign(BODY, SECONDS)
    word = rules.read_word(answer, note=NOTE, witness=wit, holds=holds, now=NOW)
    assert (word.line, word.at) == (wit.cosign(BODY, SECONDS), NOW)
    assert rules.with_words(NOTE, [word.line]).endswith(word.line)
    assert proofs.is_signed(proofs.read_checkpoint(rules.with_words(NOTE, [word.line])), Key())


@pytest.mark.parametrize(
    ("body", "seconds", "code"),
    [
        (BODY + b"x", SECONDS, "cosignature_invalid"), (BODY, 2**40, "cosignature_invalid"),
        (BODY, SECONDS - 3600, "cosignature_invalid"), (BODY, SECONDS + 3600, "cosignature_invalid"),
        (None, 0, "cosignature_missing"),
    ],
)  # fmt: skip
def test_a_word_about_something_else_or_of_another_time_is_refused(body: bytes | None, seconds: int, code: str) -> None:
    wit = Wit()
    answer = (
        b"\xff\n\xe2\x80\x94 witness.example/w1 AAAA\n\xe2\x80\x94 x\n" if body is None else wit.cosign(body, seconds)
    )
    with pytest.raises(Invalid) as caught:
        rules.read_word(answer, note=NOTE, witness=wit, holds=holds, now=NOW)
    assert caught.value.code == code
    assert wit.name in caught.value.message


def test_a_question_is_written_as_witnesses_read_it() -> None:
    order = rules.Order(4, 12, (b"a" * 32,), NOTE)
    assert order.body == b"old 4\n" + proofs.base64(b"a" * 32).encode() + b"\n\n" + NOTE


def test_a_witness_is_read_from_a_setting() -> None:
    wit = Wit()
    found = read_witness(f" {wit.vkey}  https://witness.example/w/ ")
    assert isinstance(found, Witness)
    assert (found.name, found.public, found.server.url) == (wit.name, wit.public, "https://witness.example/w")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("scribble", "not written KEY ADDRESS"), ("a+b+? http://x", "not written KEY ADDRESS"),
        (f"{proofs.vkey('a', b'k' * 32)} http://x", "no key of a cosigner"),
        (f"{Wit(name='a').vkey.replace('a+', 'b+', 1)} http://x", "does not match its own number"),
        (f"{Wit().vkey} ftp://x", "must begin with http"),
    ],
    ids=["no address", "no key", "a log's key", "another's number", "no http"],
)  # fmt: skip
def test_a_wrong_witness_is_named(text: str, why: str) -> None:
    with pytest.raises(SettingError, match=why):
        read_witness(text)


def test_the_checkpoint_of_a_day_says_itself_in_short() -> None:
    daily = rules.Daily("2026-11-02", NOTE)
    assert (daily.size, daily.root, daily.text) == (12, proofs.base64(b"r" * 32), NOTE.decode())
