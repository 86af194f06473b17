"""Letters and words of any language: what no reader sees, what is mere spelling, and what changes a clause's reach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core import likeness, words


@pytest.mark.parametrize(
    ("letter", "name"),
    [
        ("\u200e", "U+200E LEFT-TO-RIGHT MARK"), ("\u200f", "U+200F RIGHT-TO-LEFT MARK"),
        ("\u061c", "U+061C ARABIC LETTER MARK"), ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\u2067", "U+2067 RIGHT-TO-LEFT ISOLATE"), ("\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\u200c", "U+200C ZERO WIDTH NON-JOINER"), ("\u200d", "U+200D ZERO WIDTH JOINER"),
        ("\u2060", "U+2060 WORD JOINER"), ("\ufeff", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("\u00ad", "U+00AD SOFT HYPHEN"), ("\0", "U+0000 control character"), ("\x1b", "U+001B control character"),
        ("\r", "U+000D control character"), ("\x85", "U+0085 control character"),
        ("\u2028", "U+2028 LINE SEPARATOR"), ("\u3164", "U+3164 HANGUL FILLER"),
        ("\ufe0f", "U+FE0F VARIATION SELECTOR-16"), ("\ue000", "U+E000 control character"),
        ("\U000e0041", "U+E0041 TAG LATIN CAPITAL LETTER A"),
    ],
)  # fmt: skip
def test_what_no_reader_sees_is_found_with_its_line(letter: str, name: str) -> None:
    assert words.unseen(f"One.\nT{letter}wo.") == (2, name)


@pytest.mark.parametrize(
    "text",
    [
        "", "Plain\twords.\n\nAnd more.", "l’auteur\u00a0: «\u202fmodèle\u202f»", "مدل\u200cها", "क्\u200dष",
        "“您”　可以", "שלום", "e\u0301",
    ],
)  # fmt: skip
def test_what_languages_are_written_with_is_allowed(text: str) -> None:
    assert words.unseen(text) is None


def test_words_for_a_message_stand_on_one_line() -> None:
    assert words.printable("a\nb\u202ec") == "a<U+000A>b<U+202E>c"
    assert words.printable("x" * 300) == "x" * 200 + "…"
    assert words.printable("x" * 80, 80) == "x" * 80


few = st.lists(st.sampled_from("abcde "), max_size=14)


@given(few, few)
def test_stretches_in_common_are_in_common_in_order_and_apart(before: list[str], after: list[str]) -> None:
    a = c = 0
    for i, j, length in words.matching(before, after):
        assert length > 0
        assert i >= a
        assert j >= c
        assert before[i : i + length] == after[j : j + length]
        a, c = i + length, j + length
    same = words.matching(before, before)
    assert same == ([(0, 0, len(before))] if before else [])


@given(st.lists(st.integers(0, 50), unique=True, max_size=12))
def test_a_longest_rising_row_rises_and_none_is_longer(numbers: list[int]) -> None:
    row = [numbers[n] for n in words.rising(numbers)]
    assert row == sorted(row)
    longest = [1] * len(numbers)
    for n, number in enumerate(numbers):
        longest[n] += max((longest[m] for m in range(n) if numbers[m] < number), default=0)
    assert len(row) == max(longest, default=0)


def test_deeply_nested_changes_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "DEPTH", 0)
    monkeypatch.setattr(words, "CELLS", 0)
    assert words.matching(list("axb"), list("ayb")) == [(0, 0, 1), (2, 2, 1)]


@pytest.mark.parametrize(
    ("old", "new", "only"),
    [
        ("Whoever recieves it.", "Whoever receives it.", True),
        ("The modle weights", "The model weights", False),  # a last letter is often an ending, so it may be meant
        ("the permision given", "the permission given", True),
        ("the permissiion given", "the permission given", True),
        ("a permossion given", "a permission given", True),
        ("one  two\nthree", "one two three", True),
        ("one; two", "one, two.", True),
        ("You may", "You must", False),
        ("lawful use", "unlawful use", False),
        ("restriction", "restrictions", False),
        ("within 30 days", "within 60 days", False),
        ("1,000 copies", "1000 copies", False),
        ("10 % of it", "10 of it", False),
        ("the Model", "the model", False),
        ("now or never", "not or never", False),
        ("permission", "prohibition", False),
        ("a trial run", "a trail run", False),
        ("words", "words and more", False),
        ("您不得使用", "您可得使用", False),
        ("您，可以", "您可以。", True),
    ],
)
def test_mere_spelling_is_told_from_other_words(old: str, new: str, only: bool) -> None:
    assert likeness.only_spelling(old, new, {"trial"}) is only


@pytest.mark.parametrize(
    ("old", "new", "wider", "narrower"),
    [
        ("harm", "harm or lie", ["“or” was added"], []),
        ("harm or lie", "harm", [], ["“or” was removed"]),
        ("no", "no, unless asked", [], ["“unless” was added"]),
        ("no, except here", "no", ["“except” was removed"], []),
        ("mal", "mal ou pire, sauf accord", ["“ou” was added"], ["“sauf” was added"]),
        ("不得", "不得，除非同意", [], ["“除” was added"]),
        ("(a) x;\n(b) y", "(a) x;\n(b) y;\n(c) z", ["its list has 1 more"], []),
        ("- one\n- two\n- three", "- one", [], ["its list has 2 fewer"]),
        ("(a) x; and\n(b) y", "(a) x;\n(b) y; and\n(c) z", [], []),
        ("same", "same words", [], []),
    ],
)
def test_words_that_change_a_reach_are_named(old: str, new: str, wider: list[str], narrower: list[str]) -> None:
    assert likeness.reach(old, new) == (wider, narrower)


def test_alike_texts_share_their_rows_of_letters_in_any_script() -> None:
    for one, other in (
        ("You may not lie to anybody.", "YOU MAY NOT lie, to anybody!"), ("您不得说谎", "您不得，说谎。"),
    ):  # fmt: skip
        assert likeness.likeness(likeness.letter_rows(one), likeness.letter_rows(other)) > 0.8
    assert likeness.likeness(likeness.letter_rows(""), likeness.letter_rows("words")) == 0
    assert likeness.letter_rows("…") == {""}
