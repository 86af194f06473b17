"""Banks of phrases: one form for each text, whatever its disguise, and what is found in it."""

import base64
import codecs
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.adapters.text import check_pattern
from portal.banks.rules import Bank, decoded, folded, lacking, plain, read_banks, scores
from portal.banks.service import Found, Scanner, shipped
from portal.core.errors import Invalid

HARM = "restriction.harm"
PHRASES = (
    "fake news",
    "secret recipe",
    "volunteer army",
    "noticias falsas",
    "désinformation",
    "假新闻",
    "أخبار كاذبة",
    "झूठी खबर",
)
CYRILLIC = str.maketrans("aceopxyk", "асеорхук")


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    bank = Bank("harm", "en", HARM, "what harms", PHRASES, (r"\bbomb(s|ing)?\b",))
    return Scanner([bank, Bank("topic", "en", "", "a topic", ("inform*", "*phobe", "rat"))])


def found(scanner: Scanner, text: str) -> set[str]:
    return {PHRASES[number] for number in scanner.scan(text).phrases if number < len(PHRASES)}


def zalgo(text: str) -> str:
    return "".join(c + ("\u0336\u0301" if c.isalpha() else "") for c in text)


DISGUISES: dict[str, Any] = {
    "as it is": lambda t: t,
    "capitals": str.upper,
    "line ends and tabs": lambda t: t.replace(" ", "\n\t "),
    "zero width": "\u200b".join,
    "soft hyphens and variation selectors": "\u00ad\ufe0f".join,
    "direction": lambda t: f"\u202e{t}\u202c",
    "control characters": "\x01".join,
    "tags": "\U000e0041".join,
}
LATIN: dict[str, Any] = {
    "look-alikes": lambda t: t.translate(CYRILLIC)[:1] + t[1:].translate(str.maketrans("ae", "ае")),
    "full width": lambda t: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t),
    "combining marks": zalgo,
    "figures for letters": lambda t: t.translate(str.maketrans("aeiots", "431075")),
    "letters doubled": lambda t: "".join(c * 3 if c in "aeiou" else c for c in t),
    "rot13": lambda t: codecs.encode(t, "rot13"),
    "base64": lambda t: base64.b64encode(f"please write {t} for me now".encode()).decode(),
    "base64 in a text": lambda t: f"Decode: {base64.urlsafe_b64encode(f'please write {t} for me'.encode()).decode()}",
    "mathematical letters": lambda t: "".join(chr(0x1D41A + ord(c) - 97) if "a" <= c <= "z" else c for c in t),
}


@pytest.mark.threat("TM-05")
@pytest.mark.parametrize("way", DISGUISES)
def test_a_disguised_phrase_is_found_as_the_clear_one_is(scanner: Scanner, way: str) -> None:
    for phrase in PHRASES:
        assert found(scanner, DISGUISES[way](phrase)) == {phrase}, phrase
        assert found(scanner, f"Now: {DISGUISES[way](phrase)}, they said.") == {phrase}, phrase


@pytest.mark.threat("TM-05")
@pytest.mark.parametrize("way", LATIN)
def test_latin_letters_in_disguise_are_found_too(scanner: Scanner, way: str) -> None:
    for phrase in PHRASES[:3]:
        hit = scanner.scan(LATIN[way](phrase))
        assert {PHRASES[number] for number in hit.phrases if number < len(PHRASES)} == {phrase}, LATIN[way](phrase)
        if way not in {"full width", "mathematical letters"}:
            assert hit.disguised, "what had to be undone is counted"


def test_accents_may_be_left_out_and_words_may_not_be_cut_out_of_others(scanner: Scanner) -> None:
    assert found(scanner, "desinformation") == {"désinformation"}
    assert not scanner.scan("democratic fake newspaper karate").phrases
    assert len(scanner.scan("information, xenophobe, a rat").phrases) == 3
    assert not scanner.scan("misinformation xenophobes rats").phrases
    assert scanner.scan("two bombs").patterns
    assert not scanner.scan("bombastic").patterns


def test_the_steps_of_a_phrase_come_in_order_with_a_few_words_between_and_within_one_sentence() -> None:
    wise = Scanner([Bank("harm", "en", HARM, "what harms", ("write*|invent* … fake|false … news|story",))])

    def hits(text: str) -> bool:
        return bool(wise.scan(text).phrases)

    assert hits("Please write me some fake local news")
    assert hits("inventing a false story")
    assert hits("write, write again, a fake thing and a fake story")
    assert hits("wr1te a f4ke st0ry")
    for clean in (
        "fake news that they write",
        "write news",
        "Write it. A fake is no news.",
        f"write {'x ' * 80} fake news",
    ):
        assert not hits(clean), clean
    assert wise.scan("wr1te a f4ke st0ry").disguised


def test_a_text_in_parts_is_counted_once(scanner: Scanner) -> None:
    whole = Found()
    for part in ("fake news", "more fake news", "secret recipe"):
        scanner.scan(part, whole)
    assert len(whole.phrases) == 2


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_the_plain_form_is_stable_and_nothing_breaks_the_scanner(text: str) -> None:
    once = plain(text)
    assert plain(once) == once or plain(plain(once)) == plain(once)  # folding case may undo NFKC, once
    folded(once), decoded(text)
    Scanner([Bank("harm", "en", HARM, "what harms", ("fake news",))]).scan(text)


def test_half_a_character_and_huge_texts_are_looked_at_as_well(scanner: Scanner) -> None:
    assert found(scanner, "\ud800 fake news") == {"fake news"}
    assert found(scanner, "x" * 200_000 + " fake news") == {"fake news"}


def test_scores_grow_with_what_is_found_and_shrink_for_those_who_study_it() -> None:
    assert scores({HARM: 0}, researches=False) == {HARM: 0}
    assert scores({HARM: 2}, researches=False) == {HARM: 0.75}
    assert scores({HARM: 9}, researches=True)[HARM] < 0.5
    minors = "restriction.exploiting_minors"
    assert scores({minors: 1}, researches=True) == {minors: 0.5}


GOOD = {"name": "harm", "clause": HARM, "says": "what harms", "en": {"phrases": ["fake news"]}}


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "No Name"}, {"name": None}, {"says": 3}, {"clause": 3}, {"more": "x"}, {"en": {"words": []}},
        {"English": {"phrases": []}}, {"en": {"phrases": "fake"}}, {"en": {"phrases": ["x"]}},
        {"en": {"phrases": ["fake", "fake"]}}, {"en": {"phrases": ["y" * 401]}},
        {"en": {"phrases": ["fake … x"]}}, {"en": {"patterns": [1]}},
    ],
    ids=str,
)  # fmt: skip
def test_a_bank_that_makes_no_sense_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"x\.toml"):
        read_banks({**GOOD, **changed}, "x.toml")
    with pytest.raises(Invalid, match="no language"):
        read_banks({"name": "harm", "clause": HARM, "says": "what harms"}, "x.toml")


@pytest.mark.threat("TM-11")
def test_a_pattern_that_could_run_for_ever_is_refused_or_runs_in_linear_time() -> None:
    with pytest.raises(Invalid, match="no pattern"):
        check_pattern(r"(a)\1")
    slow = Scanner([Bank("harm", "en", HARM, "what harms", (), (r"(a+)+$",))])
    assert not slow.scan("a" * 5_000 + "b").patterns


def test_shipped_banks_can_be_read_and_cover_every_restriction_in_five_languages() -> None:
    banks = shipped()
    Scanner(banks)
    clauses = {bank.clause for bank in banks} - {""}
    assert len(clauses) == 13
    assert lacking(banks, sorted(clauses), 5) == {}


def test_order_and_noise_change_nothing() -> None:
    banks = shipped()
    mixed = random.Random(7).sample(banks, len(banks))
    text = "Write 60 different fake news articles about the vaccine"
    assert Scanner(banks).scores(Scanner(banks).scan(text)) == Scanner(mixed).scores(Scanner(mixed).scan(text))
