"""Texts: when any is kept, without what is secret, and found by words of any script."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.contents import rules
from portal.contents.rules import Basis, terms
from portal.core.clock import utcnow
from portal.core.errors import Conflict, Invalid, NotFound, Refused
from portal.redaction.rules import spans
from portal.reveals import rules as reveals

MAIL, CARD, IBAN = "ann@mail.example", "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32"
TOKEN = "hf_" + "a1B2" * 8


@pytest.mark.parametrize(("days", "license_allows", "agreed", "found"), [
    (0, True, True, None), (7, False, False, None), (7, True, False, Basis.LICENSE), (30, False, True, Basis.CONSENT),
    (30, True, True, Basis.CONSENT),
])  # fmt: skip
def test_nothing_is_kept_unless_the_model_does_and_the_person_agreed_or_signed_so(
    days: int, license_allows: bool, agreed: bool, found: Basis | None
) -> None:
    assert rules.basis(days=days, license_allows=license_allows, agreed=agreed) is found


def test_only_the_named_numbers_of_days_can_be_set() -> None:
    for days in rules.DAYS:
        rules.check_days(days)
    for days in (-1, 1, 31, 365):
        with pytest.raises(Invalid):
            rules.check_days(days)


def test_what_is_secret_or_about_a_person_is_taken_out() -> None:
    text = f"Write to {MAIL}, pay {CARD} or {IBAN}, call +49 30 1234567, token {TOKEN}."
    assert rules.redacted(text) == "Write to [mail], pay [card] or [iban], call [phone], token [secret]."
    assert rules.redacted("4111 1111 1111 1112 is no card") == "4111 1111 1111 1112 is no card"


@given(
    st.lists(st.sampled_from([MAIL, CARD, IBAN, TOKEN, "+49 30 1234567", "words ", "密码：abcdef12 ", " ", "\n", "é"]))
)
@settings(deadline=None, max_examples=100)
def test_a_redacted_text_holds_nothing_of_the_kind_or_is_refused(parts: list[str]) -> None:
    try:
        found = rules.redacted("".join(parts))
    except ValueError:
        return
    assert spans(found) == []


def test_what_is_too_long_to_be_looked_at_is_cut_off() -> None:
    assert len(rules.redacted("x " * 200_000)) == 200_000


@pytest.mark.parametrize(("text", "words"), [
    ("他们在散布假新闻", "新闻"), ("他们在散布假新闻", "假新闻"), ("ข่าวปลอมวันนี้", "ปลอม"), ("ព័ត៌មានក្លែងក្លាយ", "ក្លែង"),
    ("Élections truquées à Paris", "elections"), ("elections", "ÉLECTIONS"), ("أخبارٌ كاذبة", "أخبار"),
    ("Straße", "STRASSE"), ("habari za uongo", "Uongo"), ("𠀀𠀁𠀂", "𠀁𠀂"),
])  # fmt: skip
def test_words_are_found_in_any_script(text: str, words: str) -> None:
    assert rules.check_words(words) <= terms(text)


@pytest.mark.parametrize(("text", "words"), [("他们在散布假新闻", "旧闻"), ("elections", "election"), ("他们", "们他")])
def test_other_words_are_not_found(text: str, words: str) -> None:
    assert not rules.check_words(words) <= terms(text)


@pytest.mark.parametrize("words", ["", "x", "新", " ", "!?", "a b c", " ".join(f"word{n}" for n in range(21))])
def test_a_question_without_words_or_with_too_many_names_its_field(words: str) -> None:
    with pytest.raises(Invalid) as caught:
        rules.check_words(words)
    assert caught.value.field == "words"


@pytest.mark.threat("TM-34")
def test_reading_takes_a_reason_and_has_its_bounds() -> None:
    assert reveals.check_reason("  To see what\nwas asked. ") == "To see what was asked."
    for words in ("", "why", "x" * 1001, "because of\u202e that one"):
        with pytest.raises(Invalid):
            reveals.check_reason(words)
    reveals.check_amount(50, in_case=0, in_all=50)
    with pytest.raises(Invalid):
        reveals.check_amount(0, in_case=0, in_all=0)
    for bad in ((51, 0, 0), (1, 50, 50), (50, 0, 51)):
        with pytest.raises(Refused):
            reveals.check_amount(bad[0], in_case=bad[1], in_all=bad[2])


@pytest.mark.threat("TM-34")
def test_what_was_asked_for_is_open_to_the_reader_alone_and_for_a_while() -> None:
    at: datetime = utcnow()
    kept: dict[str, Any] = {"reader_id": 1, "at": at}
    reveals.check_open(by_user=1, now=at + timedelta(minutes=14), **kept)
    with pytest.raises(NotFound):
        reveals.check_open(by_user=2, now=at, **kept)
    with pytest.raises(Conflict):
        reveals.check_open(by_user=1, now=at + timedelta(minutes=15), **kept)
