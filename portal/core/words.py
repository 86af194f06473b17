"""Letters and words of any language: what no reader can see, and what two passages have in common."""

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

# Chinese and Japanese are written without spaces, so there each character is a word; so is a syllable of Thai and its
# neighbors. Signs that Arabic and Indic scripts write onto a letter belong to its word.
WIDE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
SIGNS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0970-\u0dff\u200c\u200d"
WORD = re.compile(
    rf"\n\n+|\s+|[{WIDE}]|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]|(?:(?![{WIDE}])\w[{SIGNS}]*)+|.", re.DOTALL
)
# Blank letters and selectors that Unicode does not count as format characters although they have no shape.
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
SCRIPTS = "\u0600-\u08ff\u0900-\u0dff"
JOINERS = re.compile(f"(?<=[{SCRIPTS}])[\u200c\u200d](?=[{SCRIPTS}])")
UNSEEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
CELLS = 10_000
DEPTH = 12


def unseen(text: str) -> tuple[int, str] | None:
    """Return line and name of the first character that no reader can see, such as a mark that turns the direction.

    Line ends, tabs, and joiners between letters of scripts that are spelled with them are no such characters.
    """
    for number, line in enumerate(text.replace("\t", " ").split("\n"), 1):
        if line.isprintable() and not BLANK.search(line):
            continue
        for letter in JOINERS.sub("", line):
            if unicodedata.category(letter) in UNSEEN or BLANK.match(letter):
                return number, f"U+{ord(letter):04X} {unicodedata.name(letter, 'control character')}"
    return None


def printable(words: str, limit: int = 200) -> str:
    """Return words on one line of at most some length, each unseen character written as its number."""
    shown = "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in words[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[:limit]}…"


def matching(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return the stretches that two rows of words share, in order: where each starts in either, and its length.

    Words that stand once in both rows are the anchors; only short stretches between anchors are compared word with
    word, and long ones without any anchor count as replaced. So the work grows with the length, not with its square.
    """
    found: list[tuple[int, int, int]] = []
    waiting = [(0, len(before), 0, len(after), 0)]
    while waiting:
        a, b, c, d, depth = waiting.pop()
        start, end = (a, c), (b, d)
        while a < b and c < d and before[a] == after[c]:
            a, c = a + 1, c + 1
        while a < b and c < d and before[b - 1] == after[d - 1]:
            b, d = b - 1, d - 1
        found += [(*start, a - start[0]), (b, d, end[0] - b)]
        if a == b or c == d:
            continue
        pairs = _anchors(before, after, (a, b, c, d)) if depth < DEPTH else []
        if pairs:
            stops = [(a, c), *pairs, (b, d)]
            waiting += [(*left, *right, depth + 1) for left, right in _between(stops)]
        elif (b - a) * (d - c) <= CELLS:
            blocks = SequenceMatcher(None, before[a:b], after[c:d], autojunk=False).get_matching_blocks()
            found += [(a + i, c + j, length) for i, j, length in blocks]
    return _joined(sorted(block for block in found if block[2]))


def _between(stops: Sequence[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return [((a, b), (c, d)) for (a, c), (b, d) in pairwise(stops)]


def _anchors(before: Sequence[str], after: Sequence[str], bounds: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Return the longest row of words, in the same order in both, that stand once in either stretch."""
    a, b, c, d = bounds
    left, right = Counter(before[a:b]), Counter(after[c:d])
    at = {word: n for n, word in enumerate(after[c:d], c) if right[word] == 1 and left[word] == 1}
    pairs = [(n, at[word]) for n, word in enumerate(before[a:b], a) if word in at]
    kept = rising([j for _, j in pairs])
    return [pairs[n] for n in kept]


def rising(numbers: Sequence[int]) -> list[int]:
    """Return the positions of a longest rising row of numbers."""
    tails: list[int] = []
    ends: list[int] = []
    earlier: list[int] = []
    for position, number in enumerate(numbers):
        at = bisect_left(tails, number)
        earlier.append(ends[at - 1] if at else -1)
        tails[at : at + 1] = [number]
        ends[at : at + 1] = [position]
    row, position = [], ends[-1] if ends else -1
    while position >= 0:
        row.append(position)
        position = earlier[position]
    return row[::-1]


def _joined(blocks: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    joined: list[tuple[int, int, int]] = []
    for i, j, length in blocks:
        if joined and (joined[-1][0] + joined[-1][2], joined[-1][1] + joined[-1][2]) == (i, j):
            joined[-1] = (*joined[-1][:2], joined[-1][2] + length)
        else:
            joined.append((i, j, length))
    return joined


@dataclass(frozen=True)
class Run:
    """Words in a row that are the same in both texts, only in the earlier one, or only in the later one."""

    kind: str
    words: str


def runs(old: str, new: str) -> tuple[list[Run], list[Run]]:
    """Compare two passages word by word: the earlier one with what went marked, the later one with what came.

    Long stretches without a word in common are marked as replaced whole.
    """
    before, after = WORD.findall(old), WORD.findall(new)
    left: list[Run] = []
    right: list[Run] = []
    a = c = 0
    for b, d, length in [*matching(before, after), (len(before), len(after), 0)]:
        for side, kind, row in (
            (left, "removed", before[a:b]), (right, "added", after[c:d]), (left, "same", before[b : b + length]),
            (right, "same", after[d : d + length]),
        ):  # fmt: skip
            if row:
                side.append(Run(kind, "".join(row)))
        a, c = b + length, d + length
    return left, right


def increasing(numbers: Sequence[int]) -> list[int]:
    """Return the places of a longest run of numbers that only rise, so that the others are the ones out of order."""
    ends: list[int] = []  # the lowest number that ends a run of each length, and where it stands
    places: list[int] = []
    before: list[int] = []
    for place, number in enumerate(numbers):
        length = bisect_left(ends, number)
        ends[length:] = [number, *ends[length + 1 :]]
        places[length:] = [place, *places[length + 1 :]]
        before.append(places[length - 1] if length else -1)
    run, place = [], places[-1] if places else -1
    while place >= 0:
        run.append(place)
        place = before[place]
    return run[::-1]
