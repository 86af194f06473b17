"""Texts, their clauses and how two texts differ, without knowing what a license is."""

import re
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from portal.core import words
from portal.core.errors import Invalid
from portal.core.likeness import SPELLED, Gathered, gather, letter_rows, likeness, neighbors, only_spelling, reach

HEADING = re.compile(r"^### (?P<label>\S+) (?P<title>.+?) \{#(?P<key>[a-z0-9_.]+)\}[ \t]*$", re.MULTILINE)
ANY_HEADING = re.compile(r"^#{1,3} ", re.MULTILINE)
CLAUSE_HEADING = re.compile(r"^###[ \t].*$", re.MULTILINE)
TEXT_MAX = 400_000
EXPLANATION_MAX = 2_000
# What stands outside every clause is compared as one, under a key that no clause may have.
FRAME = "frame"
FRAME_TITLE = "Title, headings and words outside the clauses"
VERSION_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)+")
ALIKE = 0.6


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
    def name(self) -> str:
        """Number and title, as a page names it."""
        return f"{self.label} {self.title}".strip()

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
    boundaries = [*(m.start() for m in ANY_HEADING.finditer(text)), len(text)]
    parts: list[Part] = []
    for match in HEADING.finditer(text):
        end = boundaries[bisect_right(boundaries, match.start())]
        body = text[match.end() : end].strip()
        parts.append(Part(match["key"], match["label"], match["title"].strip(), match.start(), end, body))
    if twice := _twice(text, [(part.key, part) for part in parts]):
        raise Invalid("clause_twice", f"The clause key {twice} stands twice.", field="text")
    return parts


def _twice(text: str, named: Sequence[tuple[str, Part]]) -> str:
    seen: set[str] = set()
    for name, part in named:
        if name in seen:
            return f"{words.printable(name)} on line {line_of(text, part)}"
        seen.add(name)
    return ""


def line_of(text: str, part: Part) -> int:
    """Return the number of the line on which a clause starts."""
    return text.count("\n", 0, part.start) + 1


def keyed(text: str) -> list[Part]:
    """Split a text that people are to sign, and refuse it unless every clause can be cited.

    Raises:
        Invalid: it is empty or too long, holds characters that nobody sees, a clause has no key, or a key or a number
            stands twice.
    """
    if not text.strip() or len(text) > TEXT_MAX:
        raise Invalid("text_length", f"A text has between 1 and {TEXT_MAX:,} characters.", field="text")
    if hidden := words.unseen(text):
        message = f"Line {hidden[0]} holds {hidden[1]}, which no reader can see. Delete it."
        raise Invalid("text_unseen", message, field="text")
    for match in CLAUSE_HEADING.finditer(text):
        if not HEADING.match(match[0]):
            message = (
                "Give each clause a number, a title and a key, as in ### 1.1 Title {#part.key}: line "
                f"{text.count(chr(10), 0, match.start()) + 1} is {words.printable(match[0], 80)}"
            )
            raise Invalid("clause_unkeyed", message, field="text")
    parts = parse(text)
    if not parts:
        raise Invalid(
            "clause_missing", "The text has no clause. Start each with ### 1.1 Title {#part.key}.", field="text"
        )
    if any(part.key == FRAME for part in parts):
        raise Invalid("clause_reserved", f"The key {FRAME} stands for what is outside every clause.", field="text")
    if twice := _twice(text, [(part.label, part) for part in parts]):
        raise Invalid("label_twice", f"The clause number {twice} stands twice.", field="text")
    return parts


def check_listed(text: str, listed: Sequence[tuple[str, str]]) -> list[Part]:
    """Return the clauses of a text that people are to sign, and raise unless they are those of a list, in its order.

    Args:
        listed: key and number of each clause.

    Raises:
        Invalid: as `keyed`, or a clause is missing, not listed, numbered otherwise or in another place.
    """
    parts, labels = keyed(text), dict(listed)
    present = {part.key for part in parts}
    if missing := [key for key, _ in listed if key not in present]:
        raise Invalid("clauses_differ", f"There is no clause {missing[0]}, although it is listed.", field="clauses")
    for part, (key, label) in zip(parts, [*listed, *[("", "")] * len(parts)], strict=False):
        place = f"Line {line_of(text, part)}: {part.key}"
        if part.key not in labels:
            raise Invalid("clauses_differ", f"{place} is not listed.", field="clauses")
        if part.key != key:
            raise Invalid("clauses_differ", f"{place} stands where {key} is listed.", field="clauses")
        if part.label != label:
            raise Invalid("clauses_differ", f"{place} is numbered {part.label}, listed as {label}.", field="clauses")
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


def whole(text: str) -> list[Part]:
    """Return everything that a text says: what stands outside its clauses, as if it were one clause, and its clauses.

    Words outside come with the number of the clause that follows, so that a heading cannot slip past one. A version's
    own number in the title is left out, since it changes each time.
    """
    passages = outline(text)
    rows = []
    for passage, follows in zip(passages, [*passages[1:], None], strict=True):
        if passage.part is None:
            rows.append(f"{passage.words} → {follows.part.label}" if follows and follows.part else passage.words)
    title, end, rest = "\n\n".join(rows).partition("\n")
    if title.startswith("# "):
        title = VERSION_NUMBER.sub("…", title)
    return [Part(FRAME, "", FRAME_TITLE, 0, 0, f"{title}{end}{rest}"), *parse(text)]


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
    place = {part.key: n for n, part in enumerate(old)}
    both = [part.key for part in new if part.key in before]
    stayed = {both[n] for n in words.increasing([place[key] for key in both])}
    deltas: list[Delta] = []
    for part in new:
        earlier = before.get(part.key)
        relation = _relation(earlier, part, stayed=part.key in stayed) if earlier else Relation.ADDED
        deltas.append(Delta(part.key, relation, earlier, part))
    deltas += [Delta(part.key, Relation.REMOVED, part, None) for part in old if part.key not in after]
    return deltas


def _relation(old: Part, new: Part, *, stayed: bool = True) -> Relation:
    if old.sha256 != new.sha256:
        return Relation.REWORDED
    return Relation.SAME if stayed and old.label == new.label else Relation.MOVED


class Sign(StrEnum):
    """What the words of two texts suggest beyond their keys."""

    RENAMED = "renamed"
    SPLIT = "split"
    MERGED = "merged"
    TYPOGRAPHICAL = "typographical"
    REACH = "reach"


@dataclass(frozen=True)
class Suggestion:
    """What an editor may want to decide about clauses, and why; nothing is decided by it.

    Args:
        sign: what the words suggest.
        old, new: the clauses concerned.
        relation: what could be recorded; for a renamed clause, once it has its old key again.
        similarity: how much of the words is in common, from 0 to 1.
        reason: why, for people.
    """

    sign: Sign
    old: tuple[Part, ...]
    new: tuple[Part, ...]
    relation: Relation
    similarity: float
    reason: str


Parts = dict[str, Part]


def suggest(old: Sequence[Part], new: Sequence[Part]) -> list[Suggestion]:
    """Suggest which clauses are the same under another key, split or merged, and what a rewording may amount to."""
    deltas = [delta for delta in compare(old, new) if delta.relation not in {Relation.SAME, Relation.MOVED}]
    before = {delta.key: delta.old for delta in deltas if delta.old}
    after = {delta.key: delta.new for delta in deltas if delta.new}
    was = {key: letter_rows(part.body or part.title) for key, part in before.items()}
    now = {key: letter_rows(part.body or part.title) for key, part in after.items()}
    pairs = neighbors(was, now)
    found = [
        *_regrouped(Sign.SPLIT, before, after, gather(pairs, was, now)),
        *_regrouped(Sign.MERGED, after, before, gather([(b, a) for a, b in pairs], now, was)),
    ]
    used = {part for suggestion in found for part in (*suggestion.old, *suggestion.new)}
    apart = [(likeness(was[a], now[b]), a, b) for a, b in pairs if a not in after and b not in before]
    for share, a, b in sorted(apart, key=lambda row: -row[0]):
        if share >= ALIKE and not used & {before[a], after[b]}:
            used |= {before[a], after[b]}
            reason = f"Nearly the words of {a}. If it is the same clause, give it that key again."
            relation = _relation(before[a], after[b])
            found.append(Suggestion(Sign.RENAMED, (before[a],), (after[b],), relation, share, reason))
    known = {word for part in new for word in SPELLED.findall(part.body)}
    for delta in deltas:
        if delta.old and delta.new and not used & {delta.old, delta.new}:
            found += _reworded(delta.old, delta.new, likeness(was[delta.key], now[delta.key]), known)
    place = {part.key: n for n, part in enumerate(new)}
    return sorted(found, key=lambda suggestion: place[suggestion.new[0].key])


def _regrouped(sign: Sign, wholes: Parts, pieces: Parts, found: Gathered) -> list[Suggestion]:
    suggestions = []
    for key, (names, share) in found.items():
        whole, parts = (wholes[key],), tuple(pieces[name] for name in names)
        old, new = (whole, parts) if sign is Sign.SPLIT else (parts, whole)
        how = "Its words stand in" if sign is Sign.SPLIT else "It holds the words of"
        how = f"{how} {len(names)} clauses. Let the one that is most alike have the key, and say where the rest went."
        suggestions.append(Suggestion(sign, old, new, Relation.REWORDED, share, how))
    return suggestions


def _reworded(old: Part, new: Part, share: float, known: Collection[str]) -> list[Suggestion]:
    if only_spelling(f"{old.title}\n{old.body}", f"{new.title}\n{new.body}", known):
        reason = "Only spelling, punctuation or spacing differs, so it may be editorial; a restriction has its floor."
        return [Suggestion(Sign.TYPOGRAPHICAL, (old,), (new,), Relation.REWORDED, share, reason)]
    wider, narrower = reach(old.body, new.body)
    if not wider and not narrower:
        return []
    relation, verdict = Relation.REWORDED, "it may reach further in one way and less far in another"
    if not narrower:
        relation, verdict = Relation.WIDENED, "it may reach further"
    elif not wider:
        relation, verdict = Relation.NARROWED, "it may reach less far"
    reason = f"{', '.join([*wider, *narrower])}: {verdict}."
    return [Suggestion(Sign.REACH, (old,), (new,), relation, share, reason)]


CHOICES = {Relation.REWORDED: (Relation.REWORDED, Relation.NARROWED, Relation.WIDENED)}


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


def renumbered(delta: Delta) -> str:
    """Explain a clause that kept its words and got another number or place."""
    labels = [part.label for part in (delta.old, delta.new) if part]
    if labels[0] == labels[-1]:
        return "Moved to another place, same number and words."
    return f"Renumbered from {labels[0]} to {labels[-1]}, same words."


def chain(proposed: Relation, hops: Sequence[Relation]) -> Relation:
    """Return how a clause changed over several versions: it widened if it ever did, else narrowed if it ever did."""
    for relation in (Relation.WIDENED, Relation.NARROWED):
        if proposed is Relation.REWORDED and relation in hops:
            return relation
    return proposed


@dataclass(frozen=True)
class Shown:
    """A clause in two texts as a page shows it: each side word by word, None where the clause is absent."""

    delta: Delta
    label: str
    old: list[words.Run] | None
    new: list[words.Run] | None


def side_by_side(deltas: Sequence[Delta]) -> list[Shown]:
    """Return differences ready to be shown; what stands outside the clauses only where it differs."""
    return [_shown(delta) for delta in deltas if delta.key != FRAME or delta.relation is not Relation.SAME]


def _shown(delta: Delta) -> Shown:
    old, new = delta.old, delta.new
    names = [part.name for part in (old, new) if part]
    label = names[0] if len(set(names)) == 1 else " → ".join(names)
    left, right = words.runs(old.body if old else "", new.body if new else "")
    return Shown(delta, label, left if old else None, right if new else None)
