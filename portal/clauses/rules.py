"""Texts, their clauses and how two texts differ, without knowing what a license is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from hashlib import sha256

from portal.core.errors import Invalid

HEADING = re.compile(r"^### (?P<label>\S+) (?P<title>.+?) \{#(?P<key>[a-z0-9_.]+)\}[ \t]*$", re.MULTILINE)
ANY_HEADING = re.compile(r"^#{1,3} ", re.MULTILINE)
CLAUSE_HEADING = re.compile(r"^###[ \t].*$", re.MULTILINE)
# Chinese and Japanese are written without spaces, so there each character is a word.
WORD = re.compile(r"\n\n+|\s+|[\u3040-\u30ff\u3400-\u9fff]|\w+|.", re.DOTALL)
WORDS_MAX = 4_000
TEXT_MAX = 400_000
EXPLANATION_MAX = 2_000


class ClauseKind(StrEnum):
    """What a clause does."""

    DEFINITION = "definition"
    PERMISSION = "permission"
    DUTY = "duty"
    RESTRICTION = "restriction"
    RIGHT = "right"
    OTHER = "other"


class Element(StrEnum):
    """What has to be shown for a restriction to be broken: an act, or an act with a purpose."""

    CONDUCT = "conduct"
    INTENT = "intent"


class Relation(StrEnum):
    """How a clause of a later text relates to the same clause of an earlier one."""

    SAME = "same"
    REWORDED = "reworded"
    NARROWED = "narrowed"
    WIDENED = "widened"
    MOVED = "moved"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True)
class Part:
    """One clause as it stands in one text.

    Args:
        key: stable key.
        label: its printed number.
        title: its printed heading, without label and key.
        start, end: character span of heading and body in the text.
        body: the words under the heading.
    """

    key: str
    label: str
    title: str
    start: int
    end: int
    body: str

    @property
    def sha256(self) -> str:
        """Digest of title and body; a changed label alone is not a changed clause."""
        return sha256(f"{self.title}\n{self.body}".encode()).hexdigest()


@dataclass(frozen=True)
class Passage:
    """A stretch of a text: a clause, or the headings and words between two clauses, as they are written."""

    words: str
    part: Part | None = None


def parse(text: str) -> list[Part]:
    """Split a text into its clauses: each starts at a heading ``### LABEL TITLE {#stable.key}``.

    Raises:
        Invalid: a key stands twice.
    """
    boundaries = sorted({m.start() for m in ANY_HEADING.finditer(text)} | {len(text)})
    parts: list[Part] = []
    for match in HEADING.finditer(text):
        end = next(b for b in boundaries if b > match.start())
        body = text[match.end() : end].strip()
        parts.append(Part(match["key"], match["label"], match["title"].strip(), match.start(), end, body))
    keys = [part.key for part in parts]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise Invalid("clause_twice", f"The clause key {min(twice)} stands twice.", field="text")
    return parts


def keyed(text: str) -> list[Part]:
    """Split a text that people are to sign, and refuse it unless every clause can be cited.

    Raises:
        Invalid: it is empty or too long, a clause has no key, or a key or a number stands twice.
    """
    if not text.strip() or len(text) > TEXT_MAX:
        raise Invalid("text_length", f"A text has between 1 and {TEXT_MAX:,} characters.", field="text")
    for match in CLAUSE_HEADING.finditer(text):
        if not HEADING.match(match[0]):
            message = (
                f"Give each clause a number, a title and a key, as in ### 1.1 Title {{#part.key}}: {match[0][:80]}"
            )
            raise Invalid("clause_unkeyed", message, field="text")
    parts = parse(text)
    if not parts:
        raise Invalid(
            "clause_missing", "The text has no clause. Start each with ### 1.1 Title {#part.key}.", field="text"
        )
    labels = [part.label for part in parts]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise Invalid("label_twice", f"The clause number {min(twice)} stands twice.", field="text")
    return parts


def outline(text: str) -> list[Passage]:
    """Return the whole text in order: its clauses, and everything that stands between them."""
    passages, at = [], 0
    for part in parse(text):
        if between := text[at : part.start].strip():
            passages.append(Passage(between))
        passages.append(Passage(text[part.start : part.end], part))
        at = part.end
    if rest := text[at:].strip():
        passages.append(Passage(rest))
    return passages


def kind_of(key: str) -> ClauseKind:
    """Return what a new clause does, by the first part of its key; `OTHER` where that says nothing."""
    first = key.partition(".")[0]
    return ClauseKind(first) if first in set(ClauseKind) else ClauseKind.OTHER


@dataclass(frozen=True)
class Delta:
    """One clause in two texts: either side is None where the clause is absent."""

    key: str
    relation: Relation
    old: Part | None
    new: Part | None
    explanation: str = ""


def compare(old: Sequence[Part], new: Sequence[Part]) -> list[Delta]:
    """Propose how each clause changed, in the order of the new text, removed clauses last.

    A person decides between `REWORDED`, `NARROWED` and `WIDENED`; the comparer can only say that words changed.
    """
    before = {part.key: part for part in old}
    after = {part.key for part in new}
    deltas: list[Delta] = []
    for part in new:
        earlier = before.get(part.key)
        if earlier is None:
            relation = Relation.ADDED
        elif earlier.sha256 != part.sha256:
            relation = Relation.REWORDED
        elif earlier.label != part.label:
            relation = Relation.MOVED
        else:
            relation = Relation.SAME
        deltas.append(Delta(part.key, relation, earlier, part))
    deltas += [Delta(part.key, Relation.REMOVED, part, None) for part in old if part.key not in after]
    return deltas


CHOICES = {
    Relation.REWORDED: (Relation.REWORDED, Relation.NARROWED, Relation.WIDENED),
}


def choices(proposed: Relation) -> tuple[Relation, ...]:
    """Return what a person may decide about a clause for which the comparer proposed a relation."""
    return CHOICES.get(proposed, (proposed,))


def check_change(delta: Delta, relation: Relation, explanation: str) -> None:
    """Raise unless a described change is one that the two texts bear out, and says in plain words what it is."""
    if relation not in choices(delta.relation):
        message = f"{delta.key} cannot be {relation}: its words say that it is {delta.relation}."
        raise Invalid("relation_wrong", message, field=f"relation-{delta.key}")
    if relation is Relation.SAME:
        return
    if not explanation.strip():
        message = f"Say in plain words what changed in {delta.key}."
        raise Invalid("explanation_missing", message, field=f"explanation-{delta.key}")
    if len(explanation) > EXPLANATION_MAX:
        message = f"The explanation of {delta.key} is longer than {EXPLANATION_MAX:,} characters."
        raise Invalid("explanation_long", message, field=f"explanation-{delta.key}")


def chain(proposed: Relation, hops: Sequence[Relation]) -> Relation:
    """Return how a clause changed over several versions: it widened if it ever did, else narrowed if it ever did."""
    for relation in (Relation.WIDENED, Relation.NARROWED):
        if proposed is Relation.REWORDED and relation in hops:
            return relation
    return proposed


@dataclass(frozen=True)
class Run:
    """Words in a row that are the same in both texts, only in the earlier one, or only in the later one."""

    kind: str
    words: str


def runs(old: str, new: str) -> tuple[list[Run], list[Run]]:
    """Compare two passages word by word: the earlier one with what went marked, the later one with what came.

    Passages so long that comparing them would keep a reader waiting are marked as replaced whole.
    """
    before, after = WORD.findall(old), WORD.findall(new)
    if max(len(before), len(after)) > WORDS_MAX and old != new:
        return [Run("removed", old)], [Run("added", new)]
    left: list[Run] = []
    right: list[Run] = []
    for tag, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if words := "".join(before[a:b]):
            left.append(Run("same" if tag == "equal" else "removed", words))
        if words := "".join(after[c:d]):
            right.append(Run("same" if tag == "equal" else "added", words))
    return left, right


@dataclass(frozen=True)
class Shown:
    """A clause in two texts as a page shows it: each side word by word, None where the clause is absent."""

    delta: Delta
    label: str
    old: list[Run] | None
    new: list[Run] | None


def side_by_side(deltas: Sequence[Delta]) -> list[Shown]:
    """Return differences ready to be shown, each under the number and title that it has, or had."""
    return [_shown(delta) for delta in deltas]


def _shown(delta: Delta) -> Shown:
    old, new = delta.old, delta.new
    names = [f"{part.label} {part.title}" for part in (old, new) if part]
    label = names[0] if len(set(names)) == 1 else " → ".join(names)
    left, right = runs(old.body if old else "", new.body if new else "")
    return Shown(delta, label, left if old else None, right if new else None)
