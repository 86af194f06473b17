"""How a case reads that leads to a better text, and where the text goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.cases.rules import Origin
from portal.core.errors import Invalid
from portal.suggestions import rules

KIND = rules.case_class(Origin.RULE, ["restriction.spam"])


def test_the_kind_of_a_case_names_clauses_and_nobody() -> None:
    assert KIND == "cases about `restriction.spam`, found by detection rules"
    assert set(rules.FROM) == set(Origin)


@pytest.mark.parametrize(
    ("card", "wanted"),
    [
        ("# A\n", "# A\n\n## Limitations\n\n{}\n"),
        ("# A\n\n## Limitations\n", "# A\n\n## Limitations\n\n{}\n"),
        ("# A\n\n## Limitations\n\n- Old.\n\n## More\n\nText.\n",
         "# A\n\n## Limitations\n\n- Old.\n{}\n\n## More\n\nText.\n"),
        ("# A\n\n## Limitations\n\n### Deep\n\n- Old.", "# A\n\n## Limitations\n\n### Deep\n\n- Old.\n{}\n"),
    ],
)  # fmt: skip
def test_a_limitation_goes_to_the_end_of_its_section(card: str, wanted: str) -> None:
    line = f"- It makes up names. *(Added after {KIND}.)*"
    assert rules.with_limitation(card, "It makes up names.", KIND) == wanted.format(line)


@given(st.lists(st.sampled_from(["# A", "## Limitations", "- Old.", "", "## More", "words"]), max_size=9))
def test_nothing_of_a_card_is_lost_and_again_changes_nothing(lines: list[str]) -> None:
    card = "\n".join(lines) + "\n"
    once = rules.with_limitation(card, "New.", KIND)
    assert [line for line in once.splitlines() if line and "New." not in line and line != rules.HEADING] == [
        line for line in card.splitlines() if line and line != rules.HEADING
    ]
    assert rules.with_limitation(once, "New.", KIND) == once


@pytest.mark.parametrize("words", ["", " \n", "x" * 2_001, "a\0b"])
def test_a_suggestion_is_words_that_can_be_kept(words: str) -> None:
    with pytest.raises(Invalid) as caught:
        rules.check_words(words)
    assert caught.value.field == "words"
