"""Which texts are nearly the same, and which are about the same in other scripts."""

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

WORDS, CHARACTERS, LEAST = 3, 5, 8
ROWS = 2
ALIKE = 0.25
DAY = timedelta(days=1)
KEPT = timedelta(days=2)
MOST = 500  # neighbors that are counted; far more than any rule asks for
BY_CHANCE = 6e-5  # of two unrelated texts, measured on paragraphs of documentation
LONGEST = 20_000
ENTITIES_LEAST = 2
MASK = 2**63 - 1
WORD = re.compile(r"[^\s.,;:!?()\[\]{}\"'«»“”‘’…—–،؛؟。、]+")  # noqa: RUF001
NUMBER = re.compile(r"\d[\d.,٫٬]*\d|\d{2,}")  # noqa: RUF001
ADDRESS = re.compile(r"(?:https?://)?(?:[a-z0-9-]+\.)+[a-z]{2,}(?:/[\w./?=&%-]*)?")
_UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def shingles(text: str) -> list[str]:
    """Return the pieces of a text in plain form by which it is compared; none of one that is too short to tell.

    Three words each; five characters where words are written without spaces.
    """
    text = text[:LONGEST]
    if 2 * len(_UNSPACED.findall(text)) > len(text):
        joined = "".join(WORD.findall(text))
        pieces = {joined[at : at + CHARACTERS] for at in range(len(joined) - CHARACTERS + 1)}
    else:
        words = WORD.findall(text)
        pieces = {" ".join(words[at : at + WORDS]) for at in range(len(words) - WORDS + 1)}
    return sorted(pieces) if len(pieces) >= LEAST else []


def bands(signature: bytes) -> list[int]:
    """Return the bands of a signature: two of its numbers each, and the place where they stand."""
    numbers = array("I", signature)
    return [
        ((numbers[at] << 32 | numbers[at + 1]) * 0x9E3779B97F4A7C15 + at * 0xC2B2AE3D27D4EB4F & MASK)
        for at in range(0, len(numbers), ROWS)
    ]


def likeness(one: bytes, other: bytes) -> float:
    """Return the estimated share of pieces that two texts have in common (Jaccard), by their signatures."""
    same = sum(a == b for a, b in zip(array("I", one), array("I", other), strict=True))
    return same / (len(one) // 4)


def expected(texts: int) -> float:
    """Return how many of so many unrelated texts are near to one of them by chance."""
    return round(texts * BY_CHANCE, 4)


def script_of(text: str) -> str:
    """Return the script that most letters of a text are of, in the first word of their Unicode names."""
    found = scripts(text)
    return max(sorted(found), key=found.__getitem__, default="") if found else ""


def scripts(text: str) -> Counter[str]:
    """Count the letters of a text by script; Chinese, Japanese and Korean share one."""
    return Counter(_script(letter) for letter in text[:2_000] if letter.isalpha())


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "OTHER").split(" ", 1)[0].split("-", 1)[0]
    return {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK"}.get(name, name)


def entities(text: str) -> list[str]:
    """Return the numbers and addresses in a text in plain form, which stay when it is translated.

    Too few of them say nothing; then there are none.
    """
    found = set(_entities(text[:LONGEST]))
    return sorted(found) if len(found) >= ENTITIES_LEAST else []


def _entities(text: str) -> Iterator[str]:
    yield from ADDRESS.findall(text)
    for number in NUMBER.findall(ADDRESS.sub(" ", text)):
        yield "".join(str(unicodedata.digit(c)) for c in number if c.isdigit()).lstrip("0")
