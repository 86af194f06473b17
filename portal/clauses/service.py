"""Keeping exact texts, knowing their clauses, and telling how two texts differ."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.clauses import rules
from portal.clauses.models import Clause, ClauseChange, ClauseText, Text
from portal.clauses.rules import ClauseKind, Delta, Element, Part, Relation, Suggestion
from portal.core.errors import Invalid, NotFound
from portal.proofs.rules import digest

Kinds = Mapping[str, tuple[ClauseKind, Element | None]]
Described = Mapping[str, tuple[Relation, str]]


@dataclass(frozen=True)
class Provision:
    """A clause of a family as it stands in one text."""

    clause_id: int
    kind: ClauseKind
    part: Part


def store_text(session: Session, *, body: bytes, media_type: str = "text/markdown") -> str:
    """Keep exact bytes and return their SHA-256; keeping the same bytes again changes nothing."""
    sha256 = digest(body)
    if session.get(Text, sha256) is None:
        session.add(Text(sha256=sha256, body=body, media_type=media_type))
        session.flush()
    return sha256


def text_of(session: Session, *, sha256: str) -> str:
    """Return the words that a digest names."""
    text = session.get(Text, sha256)
    if text is None:
        raise NotFound("text_not_found", f"No text with the digest {sha256} is on record.")
    return text.body.decode()


def parts_of(session: Session, *, sha256: str) -> list[Part]:
    """Return the clauses of a stored text, in its order."""
    return rules.parse(text_of(session, sha256=sha256))


def whole_of(session: Session, *, sha256: str) -> list[Part]:
    """Return all that a stored text says: what stands outside its clauses, as if it were one, and its clauses."""
    return rules.whole(text_of(session, sha256=sha256))


def keep_clauses(session: Session, *, family: str, sha256: str, kinds: Kinds) -> list[Part]:
    """Note which clauses a stored text has, each under its key in the family; noting it again changes nothing.

    `kinds` says what each clause does, by key. A key that is neither there nor known in the family is taken by its
    first part, and a new restriction as one of conduct.

    Raises:
        Invalid: a clause has no key, a key or number stands twice, or a known clause is said to do something else.
    """
    parts = rules.keyed(text_of(session, sha256=sha256))
    known = _clauses(session, family)
    for key, (kind, element) in kinds.items():
        if key in known and (known[key].kind, known[key].element) != (kind, element):
            message = f"{key} is on record as {known[key].kind}; a clause that does something else needs its own key."
            raise Invalid("clause_kind", message, field="clauses")
    for part in parts:
        if part.key not in known:
            kind, element = kinds.get(part.key) or _guess(part.key)
            known[part.key] = Clause(family=family, stable_key=part.key, kind=kind, element=element)
            session.add(known[part.key])
    if rules.FRAME not in known:
        session.add(Clause(family=family, stable_key=rules.FRAME, kind=ClauseKind.OTHER))
    session.flush()
    if session.scalar(sa.select(ClauseText.id).where(ClauseText.text_sha256 == sha256).limit(1)) is None:
        session.add_all(
            ClauseText(
                text_sha256=sha256, clause_id=known[part.key].id, ordinal=ordinal, label=part.label, start=part.start,
                end=part.end, sha256=part.sha256,
            )
            for ordinal, part in enumerate(parts)
        )  # fmt: skip
        session.flush()
    return parts


def _clauses(session: Session, family: str) -> dict[str, Clause]:
    query = sa.select(Clause).where(Clause.family == family)
    return {clause.stable_key: clause for clause in session.scalars(query)}


def _guess(key: str) -> tuple[ClauseKind, Element | None]:
    kind = rules.kind_of(key)
    return kind, Element.CONDUCT if kind is ClauseKind.RESTRICTION else None


def provisions(session: Session, *, sha256: str) -> list[Provision]:
    """Return the clauses of a stored text with what each does, in its order."""
    parts = {part.key: part for part in parts_of(session, sha256=sha256)}
    query = (
        sa.select(Clause.id, Clause.kind, Clause.stable_key)
        .join(ClauseText, ClauseText.clause_id == Clause.id)
        .where(ClauseText.text_sha256 == sha256)
        .order_by(ClauseText.ordinal)
    )
    return [Provision(clause_id, kind, parts[key]) for clause_id, kind, key in session.execute(query)]


def delta(session: Session, *, from_sha256: str, to_sha256: str, through: Sequence[str] = ()) -> list[Delta]:
    """Say clause by clause how a later text differs from an earlier one.

    `through` holds the digests of the texts between the two, oldest first, where they are known; what editors said
    about each step is then told in order. Without them only direct neighbors have explanations.
    """
    compared = _compare(session, from_sha256, to_sha256)
    stops = [from_sha256, *through, to_sha256]
    steps = [described(session, from_sha256=a, to_sha256=b) for a, b in pairwise(stops) if a != b]
    told = []
    for found in compared:
        said = [step[found.key] for step in steps if found.key in step]
        if found.relation is Relation.SAME or not said:
            told.append(found)
            continue
        relation = rules.chain(found.relation, [relation for relation, _ in said])
        words = " ".join(words for _, words in said if words)
        if relation is Relation.MOVED and len(said) > 1:
            words = rules.renumbered(found)  # whatever came and went between, only the number differs in the end
        told.append(replace(found, relation=relation, explanation=words))
    return told


def _compare(session: Session, from_sha256: str, to_sha256: str) -> list[Delta]:
    return rules.compare(whole_of(session, sha256=from_sha256), whole_of(session, sha256=to_sha256))


def suggestions(session: Session, *, from_sha256: str, to_sha256: str) -> list[Suggestion]:
    """Suggest what an editor may want to decide about the clauses of a later text: renamed, split, merged, reworded."""
    return rules.suggest(parts_of(session, sha256=from_sha256), parts_of(session, sha256=to_sha256))


def described(session: Session, *, from_sha256: str, to_sha256: str) -> dict[str, tuple[Relation, str]]:
    """Return what editors recorded about the clauses that differ between two texts, by key."""
    query = (
        sa.select(Clause.stable_key, ClauseChange.relation, ClauseChange.explanation)
        .join(Clause, Clause.id == ClauseChange.clause_id)
        .where(ClauseChange.from_sha256 == from_sha256, ClauseChange.to_sha256 == to_sha256)
    )
    return {key: (relation, explanation) for key, relation, explanation in session.execute(query)}


def describe(
    session: Session, *, family: str, from_sha256: str, to_sha256: str, changes: Described, otherwise: str = ""
) -> None:
    """Record what an editor says about the clauses that differ between two texts; saying it again replaces it.

    `changes` holds relation and plain-language explanation by key; keys of clauses that do not differ are passed over.
    A clause that differs although nothing was said about it is explained by `otherwise`; without that it stays
    undescribed.

    Raises:
        Invalid: a relation is not borne out by the words, or an explanation is missing.
    """
    known = _clauses(session, family)
    query = sa.select(ClauseChange).where(ClauseChange.from_sha256 == from_sha256, ClauseChange.to_sha256 == to_sha256)
    recorded = {row.clause_id: row for row in session.scalars(query)}
    for found in _compare(session, from_sha256, to_sha256):
        if found.relation is Relation.SAME:
            continue
        relation, explanation = _said(found, changes, otherwise)
        if not explanation and found.key not in changes:
            continue
        rules.check_change(found, relation, explanation)
        clause = known[found.key]
        row = recorded.get(clause.id) or ClauseChange(
            from_sha256=from_sha256, to_sha256=to_sha256, clause_id=clause.id, relation=relation
        )
        row.relation, row.explanation = relation, explanation.strip()
        session.add(row)
    session.flush()


def _said(found: Delta, changes: Described, otherwise: str) -> tuple[Relation, str]:
    relation, explanation = changes.get(found.key, (found.relation, otherwise))
    if found.relation is Relation.MOVED:
        return Relation.MOVED, explanation or rules.renumbered(found)
    if otherwise and relation is Relation.SAME:
        return found.relation, otherwise
    return relation, explanation


def check_translation(session: Session, *, prevailing: str, translation: str, language: str) -> None:
    """Raise unless a translation has the clauses of the prevailing text, with the same numbers, in the same order."""
    wanted = [(part.key, part.label) for part in parts_of(session, sha256=prevailing)]
    found = [(part.key, part.label) for part in parts_of(session, sha256=translation)]
    if found != wanted:
        key = next((a[0] for a, b in zip_longest(wanted, found, fillvalue=("", "")) if a != b), "") or "an extra clause"
        message = f"The {language!r} text does not follow the prevailing text clause by clause: first at {key}."
        raise Invalid("translation_differs", message, field="text")


def carry_over(session: Session, *, family: str, from_sha256: str, old_sha256: str, new_sha256: str) -> None:
    """Keep what was said about a draft's changes while its words are edited, as far as it still fits."""
    proposed = {found.key: found.relation for found in _compare(session, from_sha256, new_sha256)}
    said = described(session, from_sha256=from_sha256, to_sha256=old_sha256)
    kept = {key: told for key, told in said.items() if told[0] in rules.choices(proposed.get(key, Relation.SAME))}
    describe(session, family=family, from_sha256=from_sha256, to_sha256=new_sha256, changes=kept)


def keys_of(session: Session, *, sha256: str) -> list[str]:
    """Return the keys of the clauses of a stored text, in its order."""
    query = sa.select(Clause.stable_key).join(ClauseText, ClauseText.clause_id == Clause.id)
    return list(session.scalars(query.where(ClauseText.text_sha256 == sha256).order_by(ClauseText.ordinal)))


def ids_of(session: Session, *, keys: Collection[str]) -> dict[str, list[int]]:
    """Return, by key, the clauses of all families that have it: one key means the same in each."""
    query = sa.select(Clause.stable_key, Clause.id).where(Clause.stable_key.in_(keys)).order_by(Clause.id)
    found: dict[str, list[int]] = {}
    for key, clause_id in session.execute(query) if keys else ():
        found.setdefault(key, []).append(clause_id)
    return found


def kinds_of(session: Session, *, family: str) -> dict[str, ClauseKind]:
    """Return what each clause of a family does, by key."""
    return {key: clause.kind for key, clause in _clauses(session, family).items()}
