"""Editing a text by clause, and what a translation lacks beside the text that prevails."""

import pytest

from portal.clauses.rules import Relation, parse
from portal.core.errors import NotFound, PortalError
from portal.drafting.rules import Lack, check_title, pair, rewrite

TEXT = "# License\n\n### 1 One {#duty.one}\n\nFirst.\n\n### 2 Two {#duty.two}\n\nSecond.\n"


def test_only_the_words_of_one_clause_change() -> None:
    new = rewrite(TEXT, key="duty.one", title="  Another   one ", body="\r\nNew.\r\nMore.\n")
    assert new == TEXT.replace("One {", "Another one {").replace("First.", "New.\nMore.")
    last = rewrite(TEXT, key="duty.two", title="Two", body="Third.")
    assert last == TEXT.replace("Second.", "Third.")
    for part in parse(TEXT):
        assert rewrite(TEXT, key=part.key, title=part.title, body=part.body) == TEXT


@pytest.mark.parametrize(
    ("title", "body", "field"),
    [("", "x", "title"), ("x" * 201, "x", "title"), ("x {#a.b}", "x", "title"), ("a\0b", "x", "title"),
     ("x", " ", "body"), ("x", "a\0b", "body"), ("x", "x" * 400_001, "body"), ("x", "### 9 Y {#duty.y}", "body"),
     ("x", "a\n# Part", "body")],
)  # fmt: skip
def test_what_would_make_another_text_of_it_is_refused(title: str, body: str, field: str) -> None:
    with pytest.raises(PortalError) as caught:
        rewrite(TEXT, key="duty.one", title=title, body=body)
    assert caught.value.field == field


def test_a_clause_has_to_be_there() -> None:
    with pytest.raises(NotFound):
        rewrite(TEXT, key="duty.none", title="x", body="y")


def test_what_a_translation_lacks_is_named_clause_by_clause() -> None:
    here = parse(TEXT.replace("{#duty.two}", "{#duty.two}\n\nx\n\n### 3 Three {#duty.three}"))
    there = parse(TEXT + "\n### 9 Nine {#duty.nine}\n\nMore.\n")
    changed = {"duty.one": Relation.REWORDED, "duty.two": Relation.WIDENED}
    rows = pair(here, there, changed, {"duty.two": Relation.REWORDED})
    assert [(row.key, row.lack) for row in rows] == [
        ("duty.one", Lack.CHANGE), ("duty.two", Lack.NOTHING), ("duty.three", Lack.CLAUSE), ("duty.nine", Lack.EXTRA),
    ]  # fmt: skip
    assert rows[-1].prevailing is None
    moved = pair(here, there, {"duty.one": Relation.MOVED}, {})
    assert moved[0].lack is Lack.NOTHING


@pytest.mark.parametrize(
    ("title", "right"),
    [("# License, version 1.2.0", True), ("# License", True), ("# 许可证，1.2.0 版", True), ("1.1.0", True),
     ("# License, version 1.1.0", False), ("# License 1.2.0, was 1.1.0", False)],
)  # fmt: skip
def test_a_title_names_the_version_that_would_be_signed(title: str, right: bool) -> None:
    text = f"{title}\n\nSince 1.0.0.\n"
    if right:
        check_title(text, "1.2.0", "en")
        return
    with pytest.raises(PortalError) as caught:
        check_title(text, "1.2.0", "en")
    assert caught.value.code == "title_number"
