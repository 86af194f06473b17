"""Keeping banks of phrases, and looking for all of them in a text at once."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from unicodedata import category

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.text import Patterns, Phrases
from portal.banks.models import PhraseBank
from portal.banks.rules import (
    GAP,
    LONG_RUN,
    RESEARCH,
    SIGNS,
    Bank,
    bare,
    decoded,
    folded,
    plain,
    read_banks,
    scores,
    steps,
    variants,
)  # fmt: skip
from portal.core.actor import Actor
from portal.core.errors import Invalid

SHIPPED = Path(__file__).parent / "shipped"


def shipped(folder: Path = SHIPPED) -> list[Bank]:
    """Read the banks that come with the portal; raises `Invalid` that names the file at fault."""
    banks = []
    for path in sorted(folder.glob("*.toml")):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Invalid("bank", f"{path.name}: {error}", field="name") from None
        banks += read_banks(table, path.name)
        if table["name"] != path.stem:
            raise Invalid("bank", f"{path.name}: its name is {table['name']}", field="name")
    return banks


def sync(session: Session, *, banks: Sequence[Bank], by: Actor, now: datetime) -> list[Bank]:
    """Make a new version of each bank that says something else than the one kept, and return those."""
    Scanner(banks)  # what cannot be looked for is refused before any of it is kept
    kept = {(row.name, row.language): row for row in newest(session)}
    changed = []
    for bank in banks:
        row = kept.get((bank.name, bank.language))
        if row is not None and _bank(row) == bank:
            continue
        session.add(
            PhraseBank(
                name=bank.name, language=bank.language, version=1 if row is None else row.version + 1,
                clause=bank.clause, says=bank.says, phrases=list(bank.phrases), patterns=list(bank.patterns),
                added_by=by.public_id, added_at=now,
            )
        )  # fmt: skip
        changed.append(bank)
    session.flush()
    return changed


def newest(session: Session) -> Sequence[PhraseBank]:
    """Return the version of each bank that holds, in order."""
    last = sa.select(sa.func.max(PhraseBank.id)).group_by(PhraseBank.name, PhraseBank.language)
    rows = sa.select(PhraseBank).where(PhraseBank.id.in_(last)).order_by(PhraseBank.name, PhraseBank.language)
    return session.scalars(rows).all()


def version(session: Session) -> int:
    """Return a number that grows whenever a bank changes."""
    return session.scalar(sa.select(sa.func.max(PhraseBank.id))) or 0


def load(session: Session) -> list[Bank]:
    """Return the banks that hold now."""
    return [_bank(row) for row in newest(session)]


def names(session: Session) -> dict[str, str]:
    """Return which banks there are, and what each holds."""
    return {row.name: row.says for row in newest(session)}


def _bank(row: PhraseBank) -> Bank:
    return Bank(row.name, row.language, row.clause, row.says, tuple(row.phrases), tuple(row.patterns))


@dataclass(slots=True)
class Found:
    """What was found in a text, or in several parts of one: numbers of phrases and of patterns."""

    phrases: set[int] = field(default_factory=set)
    patterns: set[int] = field(default_factory=set)
    disguised: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Form:
    """A form that is looked for: of which phrases it is which step, and whether it is the last.

    `later` says that it is the first step of none.
    """

    steps: tuple[tuple[int, int, bool], ...]
    later: bool
    opens: bool
    closes: bool
    disguised: bool


class Scanner:
    """All banks, made ready to be looked for at once; shared by every request until one of them changes."""

    def __init__(self, banks: Iterable[Bank]) -> None:
        self.phrase_banks: list[str] = []
        self.pattern_banks: list[str] = []
        self.clauses: dict[str, str] = {}
        forms: dict[tuple[str, bool, bool, bool], list[tuple[int, int, bool]]] = {}
        patterns = []
        numbers: dict[tuple[str, str], int] = {}  # what languages share but for accents is one phrase, and counts once
        for bank in banks:
            self.clauses[bank.name] = bank.clause
            for phrase in bank.phrases:
                number = numbers.setdefault((bank.name, bare(plain(phrase))), len(self.phrase_banks))
                if number == len(self.phrase_banks):
                    self.phrase_banks.append(bank.name)
                wordings = steps(phrase)
                for at, words in enumerate(wordings):
                    step = (number, at, at == len(wordings) - 1)
                    for form in (form for word in words for form in variants(word)):
                        forms.setdefault(form, []).append(step)
            for pattern in bank.patterns:
                patterns.append(pattern)
                self.pattern_banks.append(bank.name)
        self._forms = [
            _Form(tuple(places), all(at > 0 for _, at, _ in places), *form[1:]) for form, places in forms.items()
        ]
        self._phrases = Phrases([form[0] for form in forms])
        self._patterns = Patterns([*patterns, *SIGNS, LONG_RUN])
        self._signs = len(patterns)

    def scan(self, text: str, found: Found | None = None, *, clear: str | None = None) -> Found:
        """Look for everything in a text, and in what it hides if it seems to hide something.

        Args:
            text: as it came.
            found: what was found in other parts of it, to which this is added.
            clear: the text in plain form, if it is known already.
        """
        found = Found() if found is None else found
        clear = plain(text) if clear is None else clear
        signs = self._look(clear, found, hidden=False)
        if signs:
            self._look(folded(clear), found, hidden=True)
            if len(SIGNS) in signs and (inner := decoded(text)):
                self._look(plain(inner), found, hidden=True)
        return found

    def scores(self, found: Found) -> dict[str, float]:
        """Say how strongly what was found speaks of each clause."""
        hits = dict.fromkeys(filter(None, self.clauses.values()), 0)
        names = [self.phrase_banks[number] for number in found.phrases]
        names += [self.pattern_banks[number] for number in found.patterns]
        for name in names:
            if clause := self.clauses[name]:
                hits[clause] += 1
        return scores(hits, researches=RESEARCH in names)

    def _look(self, text: str, found: Found, *, hidden: bool) -> list[int]:
        """Look once; returns which signs of a disguise there are."""
        data = text.encode("utf-8", "replace")
        self._find_phrases(data, found, hidden=hidden)
        matched = self._patterns.find(data)
        found.patterns.update(number for number in matched if number < self._signs)
        return [number - self._signs for number in matched if number >= self._signs]

    def _find_phrases(self, data: bytes, found: Found, *, hidden: bool) -> None:
        ways: dict[tuple[int, int], int] = {}  # where each step of a phrase was found to end, most lately
        for number, start, end in self._phrases.find(data):
            form = self._forms[number]
            if form.later and not ways:
                continue
            if not ((form.opens or _begins(data, start)) and (form.closes or _ends(data, end))):
                continue
            for phrase, at, last in form.steps:
                if at and not _follows(data, ways.get((phrase, at - 1)), start):
                    continue
                if not last:
                    ways[phrase, at] = end
                elif phrase not in found.phrases:
                    found.phrases.add(phrase)
                    if hidden or form.disguised:
                        found.disguised.add(phrase)


# Han, kana, Thai, Lao, Khmer, Myanmar and Tibetan have no spaces between words: there a phrase ends anywhere.
_UNSPACED = ((0x0E00, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_SPACE = 32


def _follows(data: bytes, before: int | None, start: int) -> bool:
    """Say whether what starts here can be the next step after one that ended before, within one sentence."""
    if before is None or not before <= start <= before + GAP:
        return False
    between = data[before:start]
    return b"." not in between and "。".encode() not in between


def _begins(data: bytes, start: int) -> bool:
    """Say whether a word begins here."""
    if start == 0 or data[start - 1] == _SPACE:
        return True
    inner, outer = data[start : start + 4], data[max(0, start - 4) : start]
    return _is_apart(inner.decode("utf-8", "ignore")[:1], outer.decode("utf-8", "ignore")[-1:])


def _ends(data: bytes, end: int) -> bool:
    """Say whether a word ends here."""
    if end == len(data) or data[end] == _SPACE:
        return True
    inner, outer = data[max(0, end - 4) : end], data[end : end + 4]
    return _is_apart(inner.decode("utf-8", "ignore")[-1:], outer.decode("utf-8", "ignore")[:1])


def _is_apart(inner: str, outer: str) -> bool:
    """Say whether two neighboring characters belong to different words; vowel signs belong to their letter."""
    if not inner or not outer or category(outer)[0] not in "LMN" or category(inner)[0] not in "LMN":
        return True
    return any(low <= ord(inner) <= high for low, high in _UNSPACED)
