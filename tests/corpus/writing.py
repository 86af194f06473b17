"""Writes texts of clauses, and edits them in known ways, so that a comparer can be asked what it sees."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
HAN = [chr(0x4E00 + 7 * n) for n in range(900)]


@dataclass(frozen=True)
class Written:
    """A clause as an author thinks of it: its key, its title, its sentences."""

    key: str
    title: str
    sentences: tuple[str, ...]

    @property
    def body(self) -> str:
        return " ".join(self.sentences)


@dataclass(frozen=True)
class Sketch:
    """A text as an author thinks of it; numbers are given by place when it is written out."""

    clauses: tuple[Written, ...]
    labels: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Write it out, each clause under its number."""
        return "# A license\n\n" + "".join(
            f"### {self.labels.get(c.key, str(n))} {c.title} {{#{c.key}}}\n\n{c.body}\n\n"
            for n, c in enumerate(self.clauses, 1)
        )

    def keys(self) -> list[str]:
        return [clause.key for clause in self.clauses]


def vocabulary(rng: random.Random, han: bool) -> list[str]:
    if han:
        return rng.sample(HAN, 600)
    return sorted({"".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(1500)})


def sentence(rng: random.Random, words: list[str], han: bool) -> str:
    chosen = rng.choices(words, k=rng.randint(9, 16))
    return "".join(chosen) + "。" if han else f"{' '.join(chosen).capitalize()}."


def written(rng: random.Random, *, clauses: int, size: int = 0, han: bool = False) -> Sketch:
    """Write a text of clauses with at least two sentences each, of about so many characters in all."""
    words, made = vocabulary(rng, han), []
    for n in range(clauses):
        sentences: list[str] = []
        while len(sentences) < 2 or sum(map(len, sentences)) < size / clauses:
            sentences.append(sentence(rng, words, han))
        made.append(Written(f"duty.k{n}", f"Title {n}", tuple(sentences)))
    return Sketch(tuple(made))


def misspelt(rng: random.Random, sketch: Sketch) -> tuple[Sketch, str]:
    """Change places of two inner letters of a long word of some clause; says which clause."""
    at, words, n = rng.choice([
        (at, clause.sentences[0].split(" "), n)
        for at, clause in enumerate(sketch.clauses)
        for n, word in enumerate(clause.sentences[0].split(" ")[1:-1], 1)
        if len(word) >= 6
    ])  # fmt: skip
    clause = sketch.clauses[at]
    m = rng.choice([m for m in range(1, len(words[n]) - 2) if words[n][m] != words[n][m + 1]])
    word = words[n]
    words[n] = word[:m] + word[m + 1] + word[m] + word[m + 2 :]
    clauses = list(sketch.clauses)
    clauses[at] = replace(clause, sentences=(" ".join(words), *clause.sentences[1:]))
    return Sketch(tuple(clauses)), clause.key


@dataclass
class Edited:
    """A text after its editing, and what was done to it as a comparer should suggest it."""

    sketch: Sketch
    done: list[str]


def renamed(clause: Written) -> tuple[list[Written], list[str]]:
    """Give a clause another key."""
    key = f"{clause.key}.renamed"
    return [replace(clause, key=key)], [f"renamed: {clause.key} > {key}"]


def split(clause: Written, *, keep: bool) -> tuple[list[Written], list[str]]:
    """Cut a clause in half; the first half may keep the key."""
    half = len(clause.sentences) // 2
    first = clause.key if keep else f"{clause.key}.first"
    pieces = [
        replace(clause, key=first, sentences=clause.sentences[:half]),
        Written(f"{clause.key}.rest", "The rest", clause.sentences[half:]),
    ]
    return pieces, [f"split: {clause.key} > {', '.join(sorted(piece.key for piece in pieces))}"]


def merged(one: Written, other: Written, *, keep: bool) -> tuple[list[Written], list[str]]:
    """Join two clauses, under the key of the first or under a new one."""
    key = one.key if keep else f"{one.key}.merged"
    whole = Written(key, one.title, (*one.sentences, *other.sentences))
    return [whole], [f"merged: {', '.join(sorted((one.key, other.key)))} > {key}"]


def edited(rng: random.Random, sketch: Sketch, *, han: bool = False) -> Edited:
    """Edit a text in every way at once: move, rename, split, merge, drop, add."""
    rest, clauses, done = list(sketch.clauses), list[Written](), list[str]()
    rng.shuffle(rest)
    added = written(rng, clauses=len(rest) // 10 + 1, han=han)
    clauses += [replace(clause, key=f"new.{clause.key}") for clause in added.clauses]
    while rest:
        clause, how = rest.pop(), rng.randrange(7)
        made: tuple[list[Written], list[str]] = [clause], []
        if how == 0:
            made = renamed(clause)
        elif how == 1:
            made = split(clause, keep=rng.random() < 0.5)
        elif how == 2 and rest:
            made = merged(clause, rest.pop(), keep=rng.random() < 0.5)
        elif how == 3:
            made = [], []
        clauses += made[0]
        done += made[1]
    rng.shuffle(clauses)
    return Edited(Sketch(tuple(clauses)), done)
