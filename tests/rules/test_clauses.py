"""Texts split into clauses, compared clause by clause and word by word."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.clauses import rules
from portal.clauses.rules import ClauseKind, Delta, Relation, compare, keyed, outline, parse
from portal.core.errors import Invalid
from portal.core.words import increasing, runs

OLD = """# License, version 1

A preface.

## Part 1

### 1.1 Model {#definition.model}

The thing.

### 1.2 Use {#duty.use}

Use it well.

## Attachment A

### A.1 Spam {#restriction.spam}

No spam.

### A.2 Harm {#restriction.harm}

No harm.
"""
NEW = OLD.replace("version 1", "version 2").replace("No spam.", "No spam,\n\never.").replace(
    "### A.2 Harm {#restriction.harm}\n\nNo harm.\n", "### A.2 Late {#restriction.late}\n\nNot late.\n"
)  # fmt: skip


def by_key(deltas: list[Delta]) -> dict[str, Relation]:
    return {delta.key: delta.relation for delta in deltas}


def test_a_text_is_its_clauses() -> None:
    parts = parse(OLD)
    assert [(p.label, p.title, p.key, p.body) for p in parts] == [
        ("1.1", "Model", "definition.model", "The thing."),
        ("1.2", "Use", "duty.use", "Use it well."),
        ("A.1", "Spam", "restriction.spam", "No spam."),
        ("A.2", "Harm", "restriction.harm", "No harm."),
    ]
    assert "Attachment" not in parts[1].body


def test_an_outline_leaves_nothing_out() -> None:
    passages = outline(OLD)
    assert "".join("".join(p.words for p in passages).split()) == "".join(OLD.split())
    assert [p.part.label if p.part else p.words.split("\n")[0] for p in passages] == [
        "# License, version 1", "1.1", "1.2", "## Attachment A", "A.1", "A.2",
    ]  # fmt: skip
    assert outline("Words alone.\n")[0].words == "Words alone."
    assert outline("") == []
    assert outline(OLD + "\n## The end\n")[-1].words == "## The end"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "text_length"),
        (" \n", "text_length"),
        ("x" * (rules.TEXT_MAX + 1), "text_length"),
        ("# Title\n\nWords.", "clause_missing"),
        ("### 1.1 Title\n\nWords.", "clause_unkeyed"),
        ("### 1 A {#a.b}\nx\n### 2 B {#a.b}\ny", "clause_twice"),
        ("### 1 A {#a.b}\nx\n### 1 B {#a.c}\ny", "label_twice"),
        ("### 1 A {#a.b}\nx\u200by", "text_unseen"),
    ],
)
def test_a_text_in_which_something_cannot_be_cited_is_refused(text: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        keyed(text)
    assert (caught.value.code, caught.value.field) == (code, "text")


def test_what_cannot_be_cited_is_named_with_its_line() -> None:
    for text, place in (
        (OLD.replace("{#duty.use}", ""), "line 11 is ### 1.2 Use"),
        (OLD.replace("duty.use", "definition.model"), "definition.model on line 11"),
        (OLD.replace("### 1.2", "### 1.1"), "1.1 on line 11"),
        (OLD.replace("Use it", "Use\u202e it"), "Line 13 holds U+202E RIGHT-TO-LEFT OVERRIDE"),
    ):
        with pytest.raises(Invalid) as caught:
            keyed(text)
        assert place in caught.value.message


LISTED = [("definition.model", "1.1"), ("duty.use", "1.2"), ("restriction.spam", "A.1"), ("restriction.harm", "A.2")]


@pytest.mark.parametrize(
    ("listed", "place"),
    [
        ([*LISTED, ("duty.more", "9")], "There is no clause duty.more"),
        (LISTED[:-1], "Line 21: restriction.harm is not listed"),
        (LISTED[1:], "Line 7: definition.model is not listed"),
        ([LISTED[1], LISTED[0], *LISTED[2:]], "Line 7: definition.model stands where duty.use is listed"),
        ([("definition.model", "1"), *LISTED[1:]], "Line 7: definition.model is numbered 1.1, listed as 1."),
    ],
)
def test_a_text_has_the_clauses_of_its_list(listed: list[tuple[str, str]], place: str) -> None:
    assert rules.check_listed(OLD, LISTED) == parse(OLD)
    with pytest.raises(Invalid) as caught:
        rules.check_listed(OLD, listed)
    assert place in caught.value.message


def test_each_clause_is_compared_with_itself() -> None:
    deltas = compare(parse(OLD), parse(NEW))
    assert by_key(deltas) == {
        "definition.model": Relation.SAME, "duty.use": Relation.SAME, "restriction.spam": Relation.REWORDED,
        "restriction.late": Relation.ADDED, "restriction.harm": Relation.REMOVED,
    }  # fmt: skip
    assert deltas[-1].key == "restriction.harm"
    moved = OLD.replace("A.1 Spam", "A.9 Spam")
    assert by_key(compare(parse(OLD), parse(moved)))["restriction.spam"] is Relation.MOVED
    told = [rules.renumbered(d) for d in compare(parse(OLD), parse(moved)) if d.relation is Relation.MOVED]
    assert told == ["Renumbered from A.1 to A.9, same words."]


keys = st.lists(st.sampled_from([f"duty.k{n}" for n in range(8)]), unique=True, max_size=8)
bodies = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=30).filter(
    lambda s: not s.lstrip().startswith("#")
)


@st.composite
def texts(draw: Any) -> str:
    return "# T\n\n" + "".join(f"### {n} Title {{#{key}}}\n\n{draw(bodies)}\n\n" for n, key in enumerate(draw(keys)))


@given(texts(), texts())
def test_comparing_accounts_for_every_clause_once(old: str, new: str) -> None:
    before, after = parse(old), parse(new)
    deltas = compare(before, after)
    assert sorted(d.key for d in deltas) == sorted({p.key for p in before} | {p.key for p in after})
    mirrored = {d.key: d.relation for d in compare(after, before)}
    for d in deltas:
        opposite = {Relation.ADDED: Relation.REMOVED, Relation.REMOVED: Relation.ADDED}.get(d.relation, d.relation)
        still = {Relation.SAME, Relation.MOVED}  # which of two that passed each other moved depends on the side
        assert mirrored[d.key] is opposite or {mirrored[d.key], opposite} == still
    assert all(d.relation is Relation.SAME for d in compare(before, before))


@given(st.text(max_size=60), st.text(max_size=60))
def test_word_by_word_nothing_is_lost(old: str, new: str) -> None:
    left, right = runs(old, new)
    assert "".join(r.words for r in left) == old
    assert "".join(r.words for r in right) == new
    assert [r.words for r in left if r.kind == "same"] == [r.words for r in right if r.kind == "same"]


def test_words_that_came_and_went_are_marked() -> None:
    left, right = runs("You may not lie.", "You may never lie.")
    assert [(r.kind, r.words) for r in left] == [("same", "You may "), ("removed", "not"), ("same", " lie.")]
    assert [(r.kind, r.words) for r in right] == [("same", "You may "), ("added", "never"), ("same", " lie.")]
    assert [r.words for r in runs("您可以使用", "您不可以使用")[1] if r.kind == "added"] == ["不"]
    hindi = runs("मॉडल की सूचना", "मॉडल की सूची")[1]
    assert [r.words for r in hindi if r.kind == "added"] == ["सूची"]


def test_passages_too_long_to_compare_are_replaced_whole() -> None:
    old, new = " ".join("a" * 4_000), " ".join("b" * 4_000)
    assert [r.kind for r in runs(old, new)[0]] == ["removed"]
    assert [r.kind for r in runs(old, old)[0]] == ["same"]


def test_a_difference_stands_under_its_number_and_title() -> None:
    shown = {row.delta.key: row for row in rules.side_by_side(compare(parse(OLD), parse(NEW)))}
    assert shown["restriction.spam"].label == "A.1 Spam"
    assert shown["restriction.late"].old is None
    assert shown["restriction.harm"].new is None
    moved = rules.side_by_side(compare(parse(OLD), parse(OLD.replace("A.1 Spam", "A.9 Mail"))))
    assert {row.label for row in moved} >= {"A.1 Spam → A.9 Mail"}


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("restriction.x", ClauseKind.RESTRICTION), ("definition.y", ClauseKind.DEFINITION), ("odd", ClauseKind.OTHER),
        ("preamble.z", ClauseKind.OTHER),
    ],
)  # fmt: skip
def test_a_new_clause_does_what_its_key_says(key: str, kind: ClauseKind) -> None:
    assert rules.kind_of(key) is kind


def change(proposed: Relation) -> Delta:
    return Delta("restriction.spam", proposed, None, None)


@pytest.mark.parametrize(
    ("proposed", "relation", "words", "code"),
    [
        (Relation.REWORDED, Relation.SAME, "x", "relation_wrong"),
        (Relation.REWORDED, Relation.ADDED, "x", "relation_wrong"),
        (Relation.ADDED, Relation.WIDENED, "x", "relation_wrong"),
        (Relation.SAME, Relation.WIDENED, "x", "relation_wrong"),
        (Relation.REWORDED, Relation.WIDENED, " ", "explanation_missing"),
        (Relation.REWORDED, Relation.WIDENED, "x" * (rules.EXPLANATION_MAX + 1), "explanation_long"),
        (Relation.REWORDED, Relation.NARROWED, "x", ""),
        (Relation.REMOVED, Relation.REMOVED, "x", ""),
        (Relation.SAME, Relation.SAME, "", ""),
    ],
)
def test_only_what_the_words_bear_out_can_be_said(
    proposed: Relation, relation: Relation, words: str, code: str
) -> None:
    if not code:
        rules.check_change(change(proposed), relation, words)
        return
    with pytest.raises(Invalid) as caught:
        rules.check_change(change(proposed), relation, words)
    assert caught.value.code == code


def test_over_several_versions_the_heaviest_step_counts() -> None:
    assert rules.chain(Relation.REWORDED, [Relation.NARROWED, Relation.WIDENED]) is Relation.WIDENED
    assert rules.chain(Relation.REWORDED, [Relation.NARROWED, Relation.REWORDED]) is Relation.NARROWED
    assert rules.chain(Relation.REWORDED, [Relation.REWORDED]) is Relation.REWORDED
    assert rules.chain(Relation.ADDED, [Relation.ADDED, Relation.WIDENED]) is Relation.ADDED


FRAMED = """# License, version 1.0.0

A preface.

## Part 1

### 1.1 Model {#definition.model}

The thing.

## Part 2

### 2.1 Use {#duty.use}

Use it well.

## End

The end.
"""


def frame_of(text: str) -> Relation:
    return compare(rules.whole(FRAMED), rules.whole(text))[0].relation


@pytest.mark.parametrize(
    ("old", "new", "relation"),
    [
        ("1.0.0", "1.1.0", Relation.SAME), ("The thing.", "Another thing.", Relation.SAME),
        ("A preface.", "A preface. It binds nobody.", Relation.REWORDED), ("A preface.\n", "", Relation.REWORDED),
        ("# License", "# Advice", Relation.REWORDED), ("## Part 2", "## Part 2, for information", Relation.REWORDED),
        ("The end.", "The end. You pay.", Relation.REWORDED),
        ("Use it well.\n", "Use it well.\n\n## Notes\n\nOr not.\n", Relation.REWORDED),
        ("### 1.1", "# Recommendations\n\n### 1.1", Relation.REWORDED),
        ("### 2.1 Use", "### 2.9 Use", Relation.REWORDED),
    ],
)  # fmt: skip
def test_words_outside_every_clause_are_compared_as_one(old: str, new: str, relation: Relation) -> None:
    assert frame_of(FRAMED.replace(old, new, 1)) is relation


def test_a_clause_that_slips_under_another_heading_is_seen() -> None:
    text = FRAMED.replace("### 2.1 Use {#duty.use}\n\nUse it well.\n\n", "").replace(
        "## Part 2", "### 2.1 Use {#duty.use}\n\nUse it well.\n\n## Part 2"
    )
    assert frame_of(text) is Relation.REWORDED
    assert {d.relation for d in compare(parse(FRAMED), parse(text))} == {Relation.SAME}, "by itself it stayed as it was"


@given(st.text(alphabet="ab#{} \n1.", max_size=60), st.text(alphabet="ab#{} \n1.", max_size=60))
def test_no_word_of_a_text_is_outside_what_is_compared(body: str, more: str) -> None:
    changed = FRAMED.replace("A preface.", f"A preface.{body}").replace("The end.", f"The end.{more}")
    try:
        old, new = rules.whole(FRAMED), rules.whole(changed)
    except Invalid:
        return
    if "".join(changed.split()) != "".join(FRAMED.split()):
        assert any(d.relation is not Relation.SAME for d in compare(old, new))


def test_no_clause_may_have_the_key_of_what_is_outside() -> None:
    with pytest.raises(Invalid) as caught:
        keyed(FRAMED.replace("duty.use", rules.FRAME))
    assert caught.value.code == "clause_reserved"


def test_a_clause_that_moved_with_its_number_says_so() -> None:
    parts = parse(FRAMED)
    delta = next(d for d in compare(parts, parts[::-1]) if d.relation is Relation.MOVED)
    assert rules.renumbered(delta) == "Moved to another place, same number and words."
    assert increasing([]) == []
