"""What the comparer says about pairs of texts that were written by hand, in languages of several scripts."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from portal.clauses.rules import Suggestion, compare, keyed, suggest

FILE = Path(__file__).resolve().parent.parent / "corpus" / "clauses.toml"
PAIRS: list[dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8"))["pairs"]


def told(suggestion: Suggestion) -> str:
    old, new = (", ".join(sorted(part.key for part in side)) for side in (suggestion.old, suggestion.new))
    return f"{suggestion.sign}: {old} > {new}: {suggestion.relation}"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["name"])
def test_a_pair_is_seen_as_a_reader_sees_it(pair: dict[str, Any]) -> None:
    old, new = keyed(pair["old"]), keyed(pair["new"])
    assert {delta.key: delta.relation.value for delta in compare(old, new)} == pair["relations"]
    found = suggest(old, new)
    assert [told(suggestion) for suggestion in found] == pair["suggestions"]
    assert all(0 < suggestion.similarity <= 1 and suggestion.reason.endswith(".") for suggestion in found)


def test_the_pairs_are_many_and_in_many_languages() -> None:
    assert len({pair["name"] for pair in PAIRS}) == len(PAIRS) >= 25
    assert {pair["language"] for pair in PAIRS} >= {"en", "fr", "es", "zh", "ar", "hi"}
