"""Editing a text by its clauses, and setting a translation beside the text that prevails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from portal.clauses.rules import TEXT_MAX, VERSION_NUMBER, Part, Relation, parse
from portal.core.errors import Invalid, NotFound

TITLE_MAX = 200


def rewrite(text: str, *, key: str, title: str, body: str) -> str:
    """Return a text with the title and words of one clause replaced; its number and key stay.

    Raises:
        NotFound: the text has no such clause.
        Invalid: title or words would make other clauses of it, or are empty.
    """
    part = next((p for p in parse(text) if p.key == key), None)
    if part is None:
        raise NotFound("clause_not_found", "This text has no such clause.")
    name = " ".join(title.split())
    words = body.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not name or len(name) > TITLE_MAX or "{#" in name or not name.isprintable():
        raise Invalid("title_wrong", f"Give the clause a title of at most {TITLE_MAX} characters.", field="title")
    if not words or len(words) > TEXT_MAX or "\0" in words:
        raise Invalid("clause_empty", "Write the words of the clause.", field="body")
    if any(line.startswith(("# ", "## ", "### ")) for line in words.split("\n")):
        message = "A line that starts with # begins another clause or part. Change that in the whole text."
        raise Invalid("clause_heading", message, field="body")
    heading = f"### {part.label} {name} {{#{part.key}}}"
    rest = text[part.end :]
    return f"{text[: part.start]}{heading}\n\n{words}\n{chr(10) if rest else ''}{rest}"


def check_title(text: str, number: str, language: str) -> None:
    """Raise unless the title of a text names, if it names a version at all, the version that people would sign."""
    title = text.partition("\n")[0]
    if title.startswith("# ") and set(VERSION_NUMBER.findall(title)) - {number}:
        message = f"The title of the {language!r} text has to name version {number}. Change its first line."
        raise Invalid("title_number", message, field="text")


class Lack(StrEnum):
    """What a translation lacks in a clause."""

    NOTHING = "nothing"
    CLAUSE = "missing"
    CHANGE = "behind"
    EXTRA = "extra"


@dataclass(frozen=True)
class Pair:
    """A clause in the prevailing text and in a translation, and what the translation lacks."""

    key: str
    prevailing: Part | None
    translation: Part | None
    lack: Lack


def in_words(
    changes: Mapping[str, tuple[Relation, str]], own: Mapping[str, str]
) -> dict[str, tuple[Relation, str]]:  # fmt: skip
    """Return what is said about changes with the words of another language where there are any."""
    return {key: (relation, own.get(key, "").strip() or words) for key, (relation, words) in changes.items()}


def pair(
    prevailing: Sequence[Part], translation: Sequence[Part], changed: Mapping[str, Relation],
    followed: Mapping[str, Relation],
) -> list[Pair]:  # fmt: skip
    """Set a translation beside the prevailing text, clause by clause in the latter's order.

    Args:
        prevailing, translation: the clauses of both texts.
        changed, followed: what became of each clause since the version before, in both texts.
    """
    there = {part.key: part for part in translation}
    rows = [Pair(p.key, p, there.get(p.key), _lack(p.key, there, changed, followed)) for p in prevailing]
    known = {part.key for part in prevailing}
    return rows + [Pair(p.key, None, p, Lack.EXTRA) for p in translation if p.key not in known]


def _lack(
    key: str, there: Mapping[str, Part], changed: Mapping[str, Relation], followed: Mapping[str, Relation]
) -> Lack:
    if key not in there:
        return Lack.CLAUSE
    still = {Relation.SAME, Relation.MOVED}
    behind = changed.get(key, Relation.SAME) not in still and followed.get(key, Relation.SAME) in still
    return Lack.CHANGE if behind else Lack.NOTHING
