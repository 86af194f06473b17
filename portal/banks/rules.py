"""Texts brought into one form, whatever their disguise, and banks of phrases that are looked for in them."""
# ruff: noqa: RUF001 - letters that look like others are what this is about

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portal.core.errors import Invalid

PHRASE_MAX, PHRASES_MAX, SHORT = 400, 2_000, 6
STEP, GAP = "…", 120  # bytes that may lie between two steps of a phrase
DECODED_MAX, RUNS_MAX = 4_000, 8
RESEARCH, NO_RESEARCH, RESEARCHED, FLAGGED = "research", "restriction.exploiting_minors", 0.3, 0.5
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}").fullmatch
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?").fullmatch
# Control characters, joiners and marks of direction, soft hyphens, variation selectors, tags, and the stroke that
# stretches Arabic.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x9f\u00ad\u034f\u061c\u0640\u115f\u1160\u180b-\u180e\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f]+"
)
# Those of them that Python takes for printable, and the punctuation of Chinese, which alone would need no NFKC.
UNSEEN = "\u034f\u0640\u115f\u1160\ufe0e\ufe0f"
WIDE = tuple(zip("，！？：；（）", ",!?:;()", strict=True))
ENCODED = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
RUN = re.compile(r"(\w)\1+")
# Letters that look like Latin ones, figures that stand for letters; i, l and 1 stand for each other.
LOOKS = str.maketrans(
    "абвеёзіїјкмнорстухһԁԛԝѕαβεηικνορτυχıɑɡ013457@$!|l",
    "abbeeeiijkmhopctyxhdqwsabenikvoptuxiagoieastasiii",
)
# What shows, in a text in plain form, that it may be disguised: scripts mixed within a word, letters under marks,
# figures among letters, a letter thrice, and a long run that may be base64.
SIGNS = (
    r"[a-z][\p{Cyrillic}\p{Greek}]|[\p{Cyrillic}\p{Greek}][a-z]|[ɑɡı]",
    r"[a-z]\p{Mn}",
    r"[a-z][013457@$!|][a-z]|[013457@$][a-z][013457@$]|\b[a-z]+[0134$@]+[a-z]",
    "|".join(f"{letter}{{3}}" for letter in "abcdefghijklmnopqrstuvwxyz"),
)
LONG_RUN = r"[a-z0-9+/_-]{24,}"


def plain(text: str) -> str:
    """Return a text in plain form: one case, one way to write each letter, nothing invisible, single spaces.

    Source: Unicode NFKC and case folding, UAX #15. Most of what comes needs little of it, and whether it does is much
    quicker to see than to do.
    """
    if not text.isprintable():  # line ends, say
        text = " ".join(text.split())
        if not text.isprintable():
            text = INVISIBLE.sub("", text)
    if text.isascii():
        text = text.lower()
    else:
        if any(mark in text for mark in UNSEEN):
            text = INVISIBLE.sub("", text)
        if "\uff0c" in text:
            for wide, narrow in WIDE:
                text = text.replace(wide, narrow)
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.split()) if "  " in text else text.strip()


def bare(text: str) -> str:
    """Return a text in plain form without accents and other marks, as people write who are in a hurry."""
    if text.isascii():
        return text
    kept = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return unicodedata.normalize("NFC", kept)


def folded(text: str) -> str:
    """Return a text in plain form with disguises undone: look-alikes, figures for letters, letters doubled."""
    return RUN.sub(r"\1", bare(text).translate(LOOKS))


def decoded(text: str) -> str:
    """Return what the long runs in a text hold that are base64 of readable text, one after the other (RFC 4648)."""
    found = []
    for run in ENCODED.findall(text)[:RUNS_MAX]:
        data = run.rstrip("=").replace("-", "+").replace("_", "/")[:DECODED_MAX]
        try:
            said = base64.b64decode(data[: len(data) - (len(data) % 4 == 1)] + "=" * (-len(data) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
        if said.isprintable() or any(c.isspace() for c in said):
            found.append(said)
    return " ".join(found)


@dataclass(frozen=True, slots=True)
class Bank:
    """Phrases and patterns of one sort in one language.

    Args:
        name: as detection rules write it; the same sort in other languages has the same name.
        language: BCP 47, or ``und`` for what is of no language.
        clause: key of the clause that its phrases are evidence of; empty for what shows only a topic or a manner.
        says: what it holds, in a sentence for those who write rules.
        phrases: as people write them; a star at an end lets the word go on there, ``|`` parts words that may stand for
            each other, and ``…`` a few words between: ``write*|invent* … fake|false … news``.
        patterns: for RE2, matched against the plain form. What has words between is written as a phrase: such a
            pattern takes RE2 a hundred times as long on texts that it has not seen.
    """

    name: str
    language: str
    clause: str
    says: str
    phrases: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


def steps(phrase: str) -> list[list[str]]:
    """Return the steps of a phrase, one after the other with a few words between; each in all its wordings."""
    return [[word for part in step.split("|") if (word := part.strip())] for step in phrase.split(STEP)]


def variants(word: str) -> Iterator[tuple[str, bool, bool, bool]]:
    """Yield the forms in which a wording is looked for: the form, whether a word may go on at either end, disguise."""
    opens, closes = word.startswith("*"), word.endswith("*")
    form = plain(word.strip("*"))
    seen = set()
    for one in (form, bare(form)):
        if one and one not in seen:
            seen.add(one)
            yield one, opens, closes, False
    if len(form) >= SHORT:
        turned = codecs.encode(form, "rot13") if form.isascii() else form
        for one in (turned, folded(form)):
            if one and one not in seen:
                seen.add(one)
                yield one, opens, closes, True


def read_banks(table: Mapping[str, Any], where: str) -> list[Bank]:
    """Read a file of one bank in several languages.

    Args:
        table: what the file says.
        where: how errors name it.

    Raises:
        Invalid: something in it is not as it should be.
    """
    said = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if set(said) - {"name", "clause", "says"} or not isinstance(said.get("name"), str) or not NAME(said["name"]):
        raise Invalid("bank", f"{where}: a bank says name, clause, says, and then one table a language", field="name")
    if not isinstance(said.get("says"), str) or not isinstance(said.get("clause", ""), str):
        raise Invalid("bank", f"{where}: says and clause are texts", field="says")
    banks = []
    for language, kept in table.items():
        if not isinstance(kept, dict):
            continue
        if not (language == "und" or LANGUAGE(language)) or set(kept) - {"phrases", "patterns"}:
            raise Invalid("bank", f"{where}: [{language}] is no language with phrases and patterns", field=language)
        phrases, patterns = (
            _texts(kept.get(part, []), f"{where}: [{language}] {part}") for part in ("phrases", "patterns")
        )
        for phrase in phrases:
            if any(len(word.strip("* ")) < 2 for step in steps(phrase) for word in step or [""]):  # noqa: PLR2004
                raise Invalid("bank", f"{where}: {phrase[:40]!r}: words have 2 characters or more", field="phrases")
        banks.append(Bank(said["name"], language, said.get("clause", ""), said["says"], phrases, patterns))
    if not banks:
        raise Invalid("bank", f"{where}: no language", field="phrases")
    return banks


def _texts(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or len(given) > PHRASES_MAX or not all(isinstance(one, str) for one in given):
        raise Invalid("bank", f"{where} is a list of up to {PHRASES_MAX:,} texts", field="phrases")
    for one in given:
        if not 2 <= len(one) <= PHRASE_MAX:  # noqa: PLR2004
            raise Invalid("bank", f"{where}: {one[:40]!r} has 2 to {PHRASE_MAX} characters", field="phrases")
    if len(set(given)) != len(given):
        raise Invalid("bank", f"{where}: one of them is there twice", field="phrases")
    return tuple(given)


def scores(hits: Mapping[str, int], *, researches: bool) -> dict[str, float]:
    """Return how strongly a text speaks of each clause, from 0 to 1, by how much of its banks was found in it.

    Who checks, studies or prevents a harm uses the same words; the license says so for all clauses but one.

    Args:
        hits: how many phrases and patterns were found, by clause.
        researches: the text speaks of checking, studying or preventing.
    """
    return {
        clause: round((1 - 0.5**count) * (RESEARCHED if researches and clause != NO_RESEARCH else 1), 4)
        for clause, count in hits.items()
    }


def lacking(banks: Sequence[Bank], clauses: Sequence[str], languages: int) -> dict[str, int]:
    """Return which clauses are watched in fewer languages than asked for, and in how many."""
    known = {clause: {bank.language for bank in banks if bank.clause == clause} - {"und"} for clause in clauses}
    return {clause: len(spoken) for clause, spoken in known.items() if len(spoken) < languages}
