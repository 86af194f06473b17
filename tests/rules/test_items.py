"""What a card says, one thing at a time, read from its own text."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.errors import Invalid
from portal.items.rules import (
    Item,
    ItemKind,
    Severity,
    check_clauses,
    check_rendition,
    compare,
    parse,
    readable,
    touched,
)

CARD = """# A model

- **limitation.facts** (safety; `restriction.b`, `restriction.a`; `intended_use.research`): It makes up
  names and numbers.
- **risk.bias** (caution): It repeats prejudice.
* **intended_use.research**: Finding out.
+ **misuse.news** (safety; none) Writing false news.
- **Limitations**: bold words only
- **Risk.Bias**: of other letters, so none

```
- **limitation.code**: shown as code
```
"""


def one(text: str) -> Item:
    return parse(text)[0]


def test_items_are_entries_of_lists_with_a_key_in_bold() -> None:
    assert [item.key for item in parse(CARD)] == [
        "limitation.facts", "risk.bias", "intended_use.research", "misuse.news",
    ]  # fmt: skip
    assert one(CARD) == Item(
        "limitation.facts", ItemKind.LIMITATION, Severity.SAFETY, "It makes up names and numbers.",
        ("restriction.a", "restriction.b"), ("intended_use.research",), 3,
    )  # fmt: skip
    assert [item.severity for item in parse(CARD)[1:]] == [Severity.CAUTION, Severity.INFO, Severity.SAFETY]
    assert parse(CARD)[3].wording == "Writing false news."
    assert one(CARD).name == "facts"


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("- **limitation.Facts**: x", 1, "'limitation.Facts' is no key"),
        ("\n- **limitation.**: x", 2, "is no key"),
        ("- **limitation.a**: x\n- **limitation.a**: y", 2, "stands in line 1 already"),
        ("- **limitation.a** (grave): x", 1, "begin with one of info, caution, safety"),
        ("- **limitation.a** (): x", 1, "begin with one of"),
        ("- **limitation.a** (safety): x", 1, "name the license clauses behind it, or none"),
        ("- **limitation.a** (safety; `restriction`): x", 1, "'restriction' in the brackets"),
        ("- **limitation.a** (info; <b>): x", 1, "'<b>' in the brackets"),
        ("- **limitation.a** (info; `intended_use.b`): x", 1, "intended_use.b, which is no item of this card"),
        ("- **limitation.a**:", 1, "say after limitation.a what it is"),
        ("- **limitation.a**: " + "x" * 4001, 1, "in 1 to 4,000 characters"),
        ("\n".join(f"- **risk.r{n}**: x" for n in range(501)), 501, "at most 500 items"),
    ],
)
def test_an_entry_that_is_begun_like_an_item_has_to_be_one(text: str, line: int, complaint: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert caught.value.message.startswith(f"Line {line} of the card: ")
    assert complaint in caught.value.message
    assert caught.value.field == "text"
    assert readable(text) == ()


def test_links_lead_to_clauses_that_exist() -> None:
    check_clauses(parse(CARD), frozenset({"restriction.a", "restriction.b"}))
    with pytest.raises(Invalid, match=r"Line 3 of the card: limitation\.facts names restriction\.b"):
        check_clauses(parse(CARD), frozenset({"restriction.a"}))


def test_a_rendition_says_the_same_under_the_same_keys() -> None:
    check_rendition(parse(CARD), parse(CARD.replace("It makes up", "Il invente")), "fr")
    with pytest.raises(Invalid, match=r"The card in 'fr' lacks risk\.bias"):
        check_rendition(parse(CARD), parse(CARD.replace("- **risk.bias**", "- **bias**")), "fr")
    for other in (
        CARD.replace("(caution)", "(info)"),
        CARD.replace("`restriction.a`; ", ""),
        f"{CARD}- **risk.b**: x\n",
    ):
        with pytest.raises(Invalid, match="is not marked as in the card that this one renders"):
            check_rendition(parse(CARD), parse(other), "fr")


def test_what_changed_is_told_by_key_wherever_it_stands() -> None:
    old = parse(CARD)
    assert compare(old, parse(f"A line more.\n\n{CARD}")) == []
    new = parse(CARD.replace("names and", "dates and").replace("- **risk.bias** (caution)", "- **risk.other**"))
    changes = compare(old, new)
    assert [(change.key, change.kind, change.is_grave) for change in changes] == [
        ("limitation.facts", "changed", True), ("risk.other", "added", False), ("risk.bias", "removed", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "uses"),
    [
        ("(safety; none; `intended_use.a`): x", "(safety; none; `intended_use.a`): y", {"intended_use.a"}),
        (
            "(safety; none; `intended_use.a`): x", "(safety; none; `intended_use.b`): x",
            {"intended_use.a", "intended_use.b"},
        ),
        ("(safety; none; `intended_use.a`): x", "(safety; none): x", None),
        ("(safety; none): x", "(safety; none; `intended_use.a`): x", None),
        ("(safety; none; `intended_use.a`): x", "(info; `intended_use.a`): x", {"intended_use.a"}),
    ],
)  # fmt: skip
def test_a_change_touches_what_it_touched_before_or_touches_now(old: str, new: str, uses: set[str] | None) -> None:
    ends = "\n- **intended_use.a**: a\n- **intended_use.b**: b"
    changes = compare(parse(f"- **risk.r** {old}{ends}"), parse(f"- **risk.r** {new}{ends}"))
    assert [change.is_grave for change in changes] == [True]
    assert touched(changes) == uses


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([*CARD.splitlines(), "- **risk.", "**", "(safety; ", "`", "  ", "```", "é"]), max_size=8)
)
def test_any_card_is_read_or_refused(lines: list[str]) -> None:
    text = "\n".join(lines)
    with suppress(Invalid):
        found = parse(text)
        assert [item.line for item in found] == sorted({item.line for item in found})
