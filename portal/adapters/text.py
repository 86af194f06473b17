"""The one door to Aho-Corasick and RE2: many phrases and many patterns looked for in one pass, in linear time."""

from collections.abc import Sequence

import ahocorasick_rs
import re2

from portal.core.errors import Invalid

MEMORY = 64 << 20


class Phrases:
    """Many phrases, looked for at once (A. Aho and M. Corasick, 1975)."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self._automaton = ahocorasick_rs.BytesAhoCorasick([phrase.encode() for phrase in phrases] or [b"\xff"])

    def find(self, data: bytes) -> list[tuple[int, int, int]]:
        """Return number, start and end, in bytes, of every phrase in a text in UTF-8."""
        return self._automaton.find_matches_as_indexes(data, overlapping=True)


class Patterns:
    """Many regular expressions, looked for at once and without backtracking.

    Raises:
        Invalid: one of them is none that RE2 takes.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        options = re2.Options()
        options.max_mem = MEMORY
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        for pattern in patterns:
            check_pattern(pattern)
            self._set.Add(pattern)
        self._any = bool(patterns)
        if self._any:
            self._set.Compile()

    def find(self, data: bytes) -> list[int]:
        """Return the numbers of the patterns that a text in UTF-8 matches somewhere."""
        return (self._set.Match(data) or []) if self._any else []


def check_pattern(pattern: str) -> None:
    """Raise `Invalid` unless this is a regular expression that RE2 takes."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise Invalid("pattern", f"{pattern[:80]!r} is no pattern: {words[:200]}", field="patterns") from None
