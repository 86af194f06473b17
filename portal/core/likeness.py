"""Which of many texts say nearly the same, whole or in parts, and what a rewording may amount to, in any language."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from itertools import chain

from portal.core.words import SIGNS, WIDE

Rows = dict[str, frozenset[str]]
Pairs = list[tuple[str, str]]
Gathered = dict[str, tuple[list[str], float]]

LETTERS = re.compile(r"[^\W_]+")
EACH_WIDE = re.compile(f"[{WIDE}]")
BESIDE_WIDE = re.compile(f"(?<=[{WIDE}]) | (?=[{WIDE}])")
ROW = 5
# What is no word and no sign of its own is spelling: spaces, and the marks that part sentences.
SPELLED = re.compile(
    rf"[0-9]+(?:[.,][0-9]+)*|[{WIDE}]|(?:(?![{WIDE}0-9])\w[{SIGNS}]*)+"
    r"|[^\s.,;:!?'\"“”‘’«»‹›„‚–—…，。；：、！？「」『』،؛؟।-]"  # noqa: RUF001 the marks of many languages
)
MISSPELT_MIN = 5
SWAPPED = 2
ALTERNATIVES = re.compile(r"\b(?:or|ou|o|u)\b|或|أو", re.IGNORECASE)
CONDITIONS = re.compile(
    r"\b(?:if|unless|provided|except|excluding|only|si|à condition|à moins|sauf|excepté|uniquement|seulement"
    r"|siempre que|a menos|salvo|excepto|s[oó]lo|únicamente)\b|如果|若|只有|仅|除",
    re.IGNORECASE,
)
ITEM = re.compile(r"^[ \t]*(?:\(\w{1,3}\)|[-*•]|[0-9]{1,2}[.)])[ \t]", re.MULTILINE)
ALL_OF = re.compile(r"(?:\b(?:and|et|y|e)|和|以及|且)[ \t]*$", re.MULTILINE)
NEIGHBORS = 5
RARE = 8
COVER, OWN, SHARE = 0.6, 0.6, 0.15


def letter_rows(text: str) -> frozenset[str]:
    """Return every short row of letters of a text, where a character of a script without spaces says as much as three.

    Texts that are nearly the same share most of them, in any language and in any order.
    """
    plain = BESIDE_WIDE.sub("", " ".join(LETTERS.findall(text.casefold())))
    plain = EACH_WIDE.sub(r"\g<0>\g<0>\g<0>", plain)
    return frozenset(plain[n : n + ROW] for n in range(max(1, len(plain) - ROW + 1)))


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Return how much of their rows of letters two texts share, from 0 to 1."""
    return 2 * len(one & other) / (len(one) + len(other))


def neighbors(old: Rows, new: Rows) -> Pairs:
    """Return the pairs of clauses worth comparing: each with itself, and with the few that share its rare letters.

    One side of a pair is always a clause that came or went. There are at most `NEIGHBORS` pairs for a clause of the
    later text beside itself, however long the texts are and however much their clauses repeat each other.
    """
    where: dict[str, list[str]] = defaultdict(list)
    place = {key: n for n, key in enumerate(old)}
    for key, rows in old.items():
        for row in rows:
            where[row].append(key)
    pairs: Pairs = []
    for key, rows in new.items():
        rare = [where[row] for row in rows if 0 < len(where.get(row, ())) <= RARE]
        hits = Counter(
            other for other in chain.from_iterable(rare) if other != key and (other not in new or key not in old)
        )
        pairs += [(key, key)] if key in old else []
        pairs += [(other, key) for other in sorted(hits, key=lambda k: (-hits[k], place[k]))[:NEIGHBORS]]
    return pairs


def gather(pairs: Pairs, wholes: Rows, pieces: Rows) -> Gathered:
    """Return by key the clauses whose words several others hold together, each a good part that the rest lack."""
    near: dict[str, list[str]] = defaultdict(list)
    for outer, piece in pairs:
        near[outer].append(piece)
    found: Gathered = {}
    for key, names in near.items():
        whole = left = wholes[key]
        kept: list[str] = []
        for name in sorted(names, key=lambda n: -len(whole & pieces[n])):
            rows = pieces[name]
            if len(left & rows) >= SHARE * len(whole) and len(whole & rows) >= OWN * len(rows):
                left, kept = left - rows, [*kept, name]
        share = 1 - len(left) / len(whole)
        if len(kept) > 1 and share >= COVER:
            found[key] = kept, share
    return found


def only_spelling(old: str, new: str, known: Collection[str]) -> bool:
    """Say whether two passages differ in spelling, punctuation and spacing only.

    A word is taken for misspelt when one inner letter is wrong, missing, too many or out of order, and it stands
    nowhere else; so no word that is another word passes for an error where the text uses both.

    Args:
        known: the words of the whole later text.
    """
    before, after = SPELLED.findall(old), SPELLED.findall(new)
    if len(before) != len(after):
        return False
    changed = {pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]}
    return all(_misspelt(*pair) for pair in changed) and not {a for a, _ in changed} & set(known)


def _misspelt(old: str, new: str) -> bool:
    if min(len(old), len(new)) < MISSPELT_MIN or not (old + new).isalpha():
        return False
    if (old[0], old[-1]) != (new[0], new[-1]):
        return False
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return (len(old), len(new)) in {(0, 1), (1, 0), (1, 1)} or (len(old) == SWAPPED and old == new[::-1])


def reach(old: str, new: str) -> tuple[list[str], list[str]]:
    """Return what in a rewording may make a clause reach further, and what less far; only an editor can tell."""
    wider: list[str] = []
    narrower: list[str] = []
    for pattern, more, less in ((ALTERNATIVES, wider, narrower), (CONDITIONS, narrower, wider)):
        before, after = (Counter(found.lower() for found in pattern.findall(side)) for side in (old, new))
        more += [f"“{word}” was added" for word in sorted(after - before)]
        less += [f"“{word}” was removed" for word in sorted(before - after)]
    items = len(ITEM.findall(new)) - len(ITEM.findall(old))
    if items and not ALL_OF.search(new if items > 0 else old):
        (wider if items > 0 else narrower).append(f"its list has {abs(items)} {'more' if items > 0 else 'fewer'}")
    return wider, narrower
