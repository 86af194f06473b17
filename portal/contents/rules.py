"""Texts of prompts and answers: when any is kept, in what form, for how long, and by which words it can be found."""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Protocol

from portal.audit.rules import Event
from portal.core.errors import Invalid
from portal.redaction.rules import LONGEST, spans

DAYS = (0, 7, 30)
AFTER_CASE = timedelta(days=30)
TERMS_MAX = 20
# A license that lets the portal keep texts of everybody who signed it says so in a clause of this key.
CLAUSE = "right.keep_texts"
WORD = re.compile(r"\w+")
# Written without spaces between words, so what is looked for are pairs of neighbors: Han, Thai, Khmer.
PAIRED = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0e7f\u1780-\u17ff]+")


class Basis(StrEnum):
    """Why a text may be kept."""

    LICENSE = "license"
    CONSENT = "consent"


@dataclass(frozen=True)
class RetentionSet(Event, name="contents:retention:set"):
    """Staff said for how many days a model keeps texts of those who agreed; 0 is never."""

    days: int


@dataclass(frozen=True)
class ConsentGiven(Event, name="contents:consent:given"):
    """A person agreed that a model keeps their texts."""

    model: str


@dataclass(frozen=True)
class ConsentEnded(Event, name="contents:consent:ended"):
    """A person no longer agrees that a model keeps their texts; those kept so far were deleted."""

    model: str
    deleted: int


@dataclass(frozen=True)
class TextsDeleted(Event, name="contents:text:deleted"):
    """Texts whose time was over were deleted; `left` counts those that should have been and were not."""

    deleted: int
    left: int


@dataclass(frozen=True)
class KeysDeleted(Event, name="contents:key:deleted"):
    """The key of a month was deleted, so nothing kept in it can be read from any copy."""


class Keys(Protocol):
    """Keys of months, kept outside the database; without the key of its month a text is gone."""

    def seal(self, month: str, name: str, body: bytes) -> tuple[bytes, bytes]:
        """Return the key of a row, wrapped, and its bytes, encrypted; `name` says which row it is."""

    def open(self, month: str, name: str, wrapped: bytes, sealed: bytes) -> bytes | None:
        """Return the bytes of a row, or None where the key is gone or anything of it was changed."""

    def numbers(self, month: str, words: Collection[str]) -> set[int]:
        """Return under which numbers words are found in a month; none, where its key is gone."""

    def months(self) -> list[str]:
        """Return the months that have a key, in order."""

    def forget(self, month: str) -> None:
        """Delete the key of a month."""


def check_days(days: int) -> None:
    """Raise `Invalid` unless texts may be kept for so long."""
    if days not in DAYS:
        raise Invalid("days", f"Texts are kept for {', '.join(map(str, DAYS))} days.", field="days")


def basis(*, days: int, license_allows: bool, agreed: bool) -> Basis | None:
    """Return why a person's text may be kept by a model, or None where it may not, which is the default.

    Args:
        days: for how long the model keeps texts at all.
        license_allows: the license that the person signed has a clause that says so.
        agreed: the person said yes for this model.
    """
    if days == 0:
        return None
    if agreed:
        return Basis.CONSENT
    return Basis.LICENSE if license_allows else None


def redacted(text: str) -> str:
    """Return a text without what is secret or about a person, each piece replaced by the name of its kind.

    Raises:
        ValueError: something of the kind is still in it; then it is not kept.
    """
    text = text[:LONGEST]
    parts, at = [], 0
    for span in spans(text):
        if span.end > at:
            parts += [text[at : max(span.start, at)], f"[{span.kind}]"]
            at = span.end
    found = "".join([*parts, text[at:]])
    if spans(found):
        raise ValueError("a text could not be redacted")
    return found


def month_of(at: datetime) -> str:
    """Return the month of an instant, UTC; its key seals what is kept in it."""
    return f"{at.astimezone(UTC):%Y-%m}"


def terms(text: str) -> set[str]:
    """Return by what a text is found: its words without signs on letters, and pairs where words are not parted."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.casefold()) if unicodedata.category(c) != "Mn")
    found = {word for word in WORD.findall(PAIRED.sub(" ", plain)) if len(word) > 1}
    for run in PAIRED.findall(plain):
        found |= {one + other for one, other in pairwise(run)}
    return found


def check_words(words: str) -> set[str]:
    """Return the terms that somebody looks for, or raise `Invalid`."""
    found = terms(words)
    if not found:
        raise Invalid("words_short", "Write a word of two characters or more.", field="words")
    if len(found) > TERMS_MAX:
        raise Invalid("words_many", "Look for fewer words at once.", field="words")
    return found
