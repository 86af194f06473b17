"""Card items: what a model card says, one thing at a time, each under a key that it keeps.

An item is an entry of a list in the card's own Markdown, so that there is one place where it is written::

    - **limitation.invents_facts** (safety; `restriction.medical_advice`; `intended_use.humanities`): It makes up names.

The brackets may be left out. They hold how grave it is, the license clauses that it stands behind (or ``none``), and
the intended uses that it touches (none named: all of them). On the Hub it is an ordinary list.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from portal.core.errors import Invalid

ITEMS_MAX = 500
WORDING_MAX = 4_000
NONE = "none"


class ItemKind(StrEnum):
    """What an item says of a model."""

    CAPABILITY = "capability"
    LIMITATION = "limitation"
    RISK = "risk"
    EVALUATION = "evaluation"
    INTENDED_USE = "intended_use"
    OUT_OF_SCOPE = "out_of_scope"
    MISUSE = "misuse"


class Severity(StrEnum):
    """How grave an item is; a changed one of safety is told to those whom it touches."""

    INFO = "info"
    CAUTION = "caution"
    SAFETY = "safety"


KINDS = "|".join(ItemKind)
ENTRY = re.compile(rf"[-*+] +\*\*(?P<key>(?P<kind>{KINDS})\.(?P<name>[^*]*))\*\*(?P<rest>.*)")
NAME = re.compile(r"[a-z0-9_]{1,80}")
MARKS = re.compile(r"\s*\((?P<marks>[^()]*)\)")
REF = re.compile(r"[a-z0-9_]{1,80}(\.[a-z0-9_]{1,80}){1,3}")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


@dataclass(frozen=True)
class Item:
    """One thing that a card says.

    Args:
        clauses: keys of the license clauses that it stands behind.
        purposes: keys of the intended uses that it touches; none means all of them.
        line: where the text says it; two items that say the same elsewhere are the same.
    """

    key: str
    kind: ItemKind
    severity: Severity
    wording: str
    clauses: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    line: int = 0

    @property
    def name(self) -> str:
        """What the key says, as readable words."""
        return self.key.partition(".")[2].replace("_", " ")

    @property
    def said(self) -> tuple[object, ...]:
        """All that it says, wherever it stands."""
        return self.key, self.severity, self.wording, self.clauses, self.purposes


@dataclass(frozen=True)
class ItemChange:
    """How an item differs between two revisions; a new one has no `old`, one taken out no `new`."""

    old: Item | None
    new: Item | None

    @property
    def key(self) -> str:
        """Its key, the same on both sides."""
        return (self.new or self.old or _NOTHING).key

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        return "added" if self.old is None else "removed" if self.new is None else "changed"

    @property
    def is_grave(self) -> bool:
        """Whether it is about safety, before or after."""
        return any(one is not None and one.severity is Severity.SAFETY for one in (self.old, self.new))


_NOTHING = Item("", ItemKind.CAPABILITY, Severity.INFO, "")


@lru_cache(maxsize=256)  # texts named by a digest never change
def parse(text: str) -> tuple[Item, ...]:
    """Return the items of a card, in its order.

    Raises:
        Invalid: an entry is begun like an item and is none, with its line and what to write instead.
    """
    found: dict[str, Item] = {}
    for line, entry, words in _entries(text):
        item = _item(line, entry, words)
        if (known := found.setdefault(item.key, item)) is not item:
            raise _wrong(line, f"{item.key} stands in line {known.line} already; give it another name")
        if len(found) > ITEMS_MAX:
            raise _wrong(line, f"a card has at most {ITEMS_MAX} items")
    for item in found.values():
        if missing := [key for key in item.purposes if key not in found]:
            raise _wrong(item.line, f"{item.key} touches {missing[0]}, which is no item of this card")
    return tuple(found.values())


def readable(text: str) -> tuple[Item, ...]:
    """Return the items of a card that may have been kept before items were known; none where they cannot be read."""
    try:
        return parse(text)
    except Invalid:
        return ()


def _entries(text: str) -> Iterator[tuple[int, re.Match[str], str]]:
    """Yield each entry that begins like an item, with its line and all its words; what is shown as code is none."""
    fence, lines = "", text.split("\n")
    for number, line in enumerate(lines):
        if mark := FENCE.match(line):
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        elif not fence and (entry := ENTRY.fullmatch(line.rstrip())):
            more = []
            for following in lines[number + 1 :]:
                if not following.startswith("  ") or not following.strip():
                    break
                more.append(following.strip())
            yield number + 1, entry, " ".join([entry["rest"].strip(), *more])


def _item(line: int, entry: re.Match[str], words: str) -> Item:
    if not NAME.fullmatch(entry["name"]):
        raise _wrong(line, f"{entry['key'][:100]!r} is no key; write small letters, digits and _ after the dot")
    kind, severity, refs = ItemKind(entry["kind"]), Severity.INFO, list[str]()
    if marks := MARKS.match(words):
        words = words[marks.end() :]
        severity, refs = _marks(line, entry["key"], marks["marks"])
    wording = " ".join(words.strip().removeprefix(":").split())
    if not wording or len(wording) > WORDING_MAX:
        raise _wrong(line, f"say after {entry['key']} what it is, in 1 to {WORDING_MAX:,} characters")
    purposes = tuple(key for key in refs if key.startswith(f"{ItemKind.INTENDED_USE}."))
    clauses = tuple(key for key in refs if key not in purposes and key != NONE)
    if severity is Severity.SAFETY and not clauses and NONE not in refs:
        raise _wrong(line, f"{entry['key']} is about safety; name the license clauses behind it, or {NONE}")
    return Item(entry["key"], kind, severity, wording, clauses, purposes, line)


def _marks(line: int, key: str, marks: str) -> tuple[Severity, list[str]]:
    first, *refs = [word.strip("`") for word in re.split(r"[\s,;]+", marks.strip())]
    if first not in set(Severity):
        raise _wrong(line, f"the brackets of {key} begin with one of {', '.join(Severity)}")
    for ref in refs:
        if ref != NONE and not REF.fullmatch(ref):
            raise _wrong(line, f"{ref[:100]!r} in the brackets of {key} is no key of a clause or an intended use")
    return Severity(first), sorted(set(refs))


def _wrong(line: int, what: str) -> Invalid:
    return Invalid("card_item", f"Line {line} of the card: {what}.", field="text")


def check_clauses(items: Sequence[Item], known: frozenset[str]) -> None:
    """Raise `Invalid` unless each clause that an item names is a clause of some license."""
    for item in items:
        if missing := [key for key in item.clauses if key not in known]:
            raise _wrong(item.line, f"{item.key} names {missing[0]}, which is no clause of any license here")


def check_rendition(prevailing: Sequence[Item], items: Sequence[Item], language: str) -> None:
    """Raise `Invalid` unless a card in another language says the same things, as grave, with the same links."""
    wanted = {item.key: (item.severity, item.clauses, item.purposes) for item in prevailing}
    for item in items:
        if wanted.pop(item.key, None) != (item.severity, item.clauses, item.purposes):
            message = f"{item.key} is not marked as in the card that this one renders; copy its key and brackets"
            raise _wrong(item.line, message)
    if wanted:
        raise Invalid("card_item", f"The card in {language!r} lacks {next(iter(wanted))}.", field="text")


def compare(old: Sequence[Item], new: Sequence[Item]) -> list[ItemChange]:
    """Return the items that differ, in the order of the newer card, then those that it no longer has."""
    before, after = {item.key: item for item in old}, {item.key: item for item in new}
    changed = [ItemChange(before.get(key), item) for key, item in after.items()]
    gone = [ItemChange(item, None) for key, item in before.items() if key not in after]
    return [one for one in [*changed, *gone] if not (one.old and one.new and one.old.said == one.new.said)]


def touched(changes: Sequence[ItemChange]) -> frozenset[str] | None:
    """Return the intended uses that changes touch; None where one of them touches all."""
    sides = [side for one in changes for side in (one.old, one.new) if side is not None]
    if any(not side.purposes for side in sides):
        return None
    return frozenset(key for side in sides for key in side.purposes)
