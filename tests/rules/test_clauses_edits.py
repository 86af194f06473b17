"""Texts that were renumbered, shuffled, cut and joined at random: the comparer sees what was done to them."""

import random
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.clauses import rules
from portal.clauses.rules import Part, Relation, Sign, Suggestion, compare, keyed, suggest
from portal.core import likeness, words
from tests.corpus.writing import Sketch, edited, merged, misspelt, renamed, split, written

SAME, MOVED, REWORDED, ADDED, REMOVED = (
    Relation.SAME, Relation.MOVED, Relation.REWORDED, Relation.ADDED, Relation.REMOVED,
)  # fmt: skip
seeds = st.builds(random.Random, st.integers(0, 2**32))


def told(suggestion: Suggestion) -> str:
    old, new = (", ".join(sorted(part.key for part in side)) for side in (suggestion.old, suggestion.new))
    return f"{suggestion.sign}: {old} > {new}"


def relations(old: Sketch, new: Sketch) -> dict[str, Relation]:
    return {delta.key: delta.relation for delta in compare(keyed(old.text()), keyed(new.text()))}


def suggested(old: Sketch, new: Sketch) -> list[str]:
    return sorted(told(suggestion) for suggestion in suggest(keyed(old.text()), keyed(new.text())))


@given(seeds, st.booleans())
def test_keys_survive_renumbering_and_shuffling(rng: random.Random, han: bool) -> None:
    old = written(rng, clauses=12, han=han)
    order = rng.sample(old.clauses, len(old.clauses))
    new = Sketch(tuple(order))
    place = {clause.key: n for n, clause in enumerate(old.clauses)}
    found = relations(old, new)
    assert all(found[c.key] is MOVED for n, c in enumerate(order) if place[c.key] != n), "each has another number"
    still = [place[c.key] for c in order if found[c.key] is SAME]
    assert still == sorted(still)
    assert suggested(old, new) == []


@given(seeds, st.booleans())
def test_what_came_and_what_went_is_seen(rng: random.Random, han: bool) -> None:
    old = written(rng, clauses=10, han=han)
    extra = [replace(clause, key=f"new.{clause.key}") for clause in written(rng, clauses=3, han=han).clauses]
    gone = {clause.key for clause in rng.sample(old.clauses, 3)}
    kept = [clause for clause in old.clauses if clause.key not in gone]
    found = relations(old, Sketch((*extra, *kept)))
    assert {key for key, relation in found.items() if relation is ADDED} == {clause.key for clause in extra}
    assert {key for key, relation in found.items() if relation is REMOVED} == gone
    assert {found[clause.key] for clause in kept} <= {SAME, MOVED}


@given(seeds, st.booleans(), st.booleans())
def test_one_clause_renamed_split_or_merged_is_suggested_alone(rng: random.Random, han: bool, keep: bool) -> None:
    old = written(rng, clauses=8, han=han)
    one, other, *rest = rng.sample(old.clauses, 8)
    for made, done in (renamed(one), split(one, keep=keep)):
        assert suggested(old, Sketch((*rest, other, *made))) == done
    made, done = merged(one, other, keep=keep)
    assert suggested(old, Sketch((*made, *rest))) == done


@settings(max_examples=30)
@given(seeds, st.booleans())
def test_every_edit_of_many_at_once_is_suggested_and_nothing_else(rng: random.Random, han: bool) -> None:
    old = written(rng, clauses=40, han=han)
    new = edited(rng, old, han=han)
    assert suggested(old, new.sketch) == sorted(new.done)


@given(seeds)
def test_a_misspelling_put_right_is_one_of_spelling_only(rng: random.Random) -> None:
    right = written(rng, clauses=6)
    wrong, key = misspelt(rng, right)
    found = suggest(keyed(wrong.text()), keyed(right.text()))
    assert [(s.sign, s.new[0].key) for s in found] == [(Sign.TYPOGRAPHICAL, key)]
    assert relations(wrong, right)[key] is REWORDED


@given(seeds, st.booleans())
def test_comparing_the_other_way_turns_splits_into_merges(rng: random.Random, keep: bool) -> None:
    old = written(rng, clauses=6)
    one, *rest = old.clauses
    pieces, _ = split(one, keep=keep)
    new = Sketch((*pieces, *rest))
    (back,) = suggest(keyed(new.text()), keyed(old.text()))
    assert back.sign is Sign.MERGED
    assert {part.key for part in back.old} == {piece.key for piece in pieces}


@given(seeds, st.integers(0, 11), st.integers(0, 11))
def test_one_clause_that_jumps_with_its_number_is_the_one_that_moved(rng: random.Random, a: int, b: int) -> None:
    old = keyed(written(rng, clauses=12).text())
    new = [part for n, part in enumerate(old) if n != a]
    new.insert(b, old[a])
    moved = [delta.key for delta in compare(old, new) if delta.relation is not SAME]
    assert len(moved) == (a != b)
    assert moved == [old[a].key] or abs(a - b) <= 1, "of two neighbors that changed places either may be the one"


@given(st.lists(st.integers(0, 30), unique=True, max_size=9))
def test_the_longest_run_that_rises_is_found(numbers: list[int]) -> None:
    run = [numbers[place] for place in words.increasing(numbers)]
    assert run == sorted(set(run))
    rising = [sub for n in range(len(numbers) + 1) for sub in combinations(numbers, n) if list(sub) == sorted(sub)]
    assert len(run) == max(map(len, rising))


THERE = (SAME, MOVED, REWORDED)
# Whether a clause moved depends on which others are there to be passed, so over several steps it may come and go.
HOPS: dict[tuple[Relation | None, Relation | None], set[Relation | None]] = {
    **{(a, b): {SAME, MOVED} for a in (SAME, MOVED) for b in (SAME, MOVED)},
    **{(there, REWORDED): {REWORDED} for there in (SAME, MOVED)},
    **{(REWORDED, there): {REWORDED} for there in (SAME, MOVED)},
    (REWORDED, REWORDED): set(THERE),
    **{(ADDED, there): {ADDED} for there in THERE}, **{(there, REMOVED): {REMOVED} for there in THERE},
    (ADDED, REMOVED): {None}, (REMOVED, ADDED): set(THERE), (REMOVED, None): {REMOVED}, (None, ADDED): {ADDED},
    (None, None): {None},
}  # fmt: skip


def part(key: str, label: str, body: str) -> Part:
    return Part(key, label, "Title", 0, 1, body)


versions = st.lists(
    st.builds(part, st.sampled_from("abcd"), st.sampled_from(["1", "2"]), st.sampled_from(["x", "y"])),
    unique_by=lambda one: one.key,
)  # fmt: skip


@given(versions, versions, versions)
def test_two_steps_add_up_to_the_whole_way(a: list[Part], b: list[Part], c: list[Part]) -> None:
    first, second, whole = (
        {delta.key: delta for delta in compare(*pair)} for pair in ((a, b), (b, c), (a, c))
    )  # fmt: skip
    for key in "abcd":
        hops = tuple(step[key].relation if key in step else None for step in (first, second))
        direct = whole.get(key)
        assert (direct.relation if direct else None) in HOPS[hops], (key, hops)  # type: ignore[index]
        if direct:
            assert (direct.old, direct.new) == (
                first[key].old if key in first else None, second[key].new if key in second else None,
            )  # fmt: skip


class Counted:
    """Counts how often a function is called, and how many pairs of words it was given."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls, self.cells = inner, 0, 0

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.calls += 1
        if len(args) == 3:
            self.cells += len(args[1]) * len(args[2])
        return self.inner(*args, **named)


@pytest.mark.parametrize(
    "boilerplate", ["", "You may not use the Model or a Derivative of the Model in any way to do "]
)
def test_few_pairs_of_clauses_are_compared_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, boilerplate: str
) -> None:
    rng = random.Random(3)
    old = written(rng, clauses=100, size=60_000)
    clauses = [replace(c, sentences=(boilerplate + c.sentences[0], *c.sentences[1:])) for c in old.clauses]
    new = Sketch(tuple(replace(c, key=f"{c.key}.x") for c in clauses))
    counted = Counted(rules.likeness)
    monkeypatch.setattr(rules, "likeness", counted)
    found = suggest(keyed(Sketch(tuple(clauses)).text()), keyed(new.text()))
    assert [s.sign for s in found] == [Sign.RENAMED] * 100
    assert 100 <= counted.calls <= 100 * likeness.NEIGHBORS


def test_clauses_that_all_say_the_same_are_not_compared_each_with_each() -> None:
    rows = likeness.letter_rows("Reserved for a later version of this text.")
    pairs = likeness.neighbors({f"a{n}": rows for n in range(500)}, {f"b{n}": rows for n in range(500)})
    assert pairs == []


def test_long_clauses_are_compared_word_by_word_in_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(4)
    old = written(rng, clauses=1, size=60_000).clauses[0].body
    tokens = old.split(" ")
    for n in range(0, len(tokens), 50):
        tokens[n] = "changed"
    counted = Counted(words.SequenceMatcher)
    monkeypatch.setattr(words, "SequenceMatcher", counted)
    left, right = words.runs(old, " ".join(tokens))
    kept = sum(len(run.words) for run in right if run.kind == "same")
    assert "".join(run.words for run in left) == old
    assert kept > 0.9 * len(old)
    assert counted.cells < 20 * len(tokens)


def test_a_text_of_very_many_small_clauses_is_taken_apart_in_little_work() -> None:
    text = "".join(f"### {n} A {{#a.k{n}}}\nx\n" for n in range(15_000))
    assert len(keyed(text)) == 15_000
    assert suggest(keyed(text), keyed(text.replace("#a.", "#b.")[:100_000].rsplit("###", 1)[0])) == []
