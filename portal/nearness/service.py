"""Counting the texts of a day that are near to a text. They are counted and never joined into groups.

Of 100,000 pairs of unrelated texts six are near by chance. Joined, those would soon make one giant group of everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters import nearness
from portal.nearness.models import NearBand, NearText
from portal.nearness.rules import (
    ALIKE,
    CHARACTERS,
    DAY,
    KEPT,
    MOST,
    WORDS,
    bands,
    entities,
    expected,
    likeness,
    script_of,
    shingles,
)  # fmt: skip

ALGORITHM = f"rensa{nearness.VERSION}-r{nearness.PERMUTATIONS}-w{WORDS}c{CHARACTERS}"


@dataclass(frozen=True)
class Near:
    """How many texts of a day are near to one.

    Args:
        own: of the same person.
        others: of other people.
        people: how many other people those are.
        by_chance: how many there would be if all were unrelated.
    """

    own: int = 0
    others: int = 0
    people: int = 0
    by_chance: float = 0.0


def note(
    session: Session, *, usage_record_id: int, user_id: int, part: str, text: str, seed: int, at: datetime
) -> NearText | None:
    """Keep the signature of a text in plain form, and return it; None of one that is too short to be compared."""
    pieces, named = shingles(text), entities(text)
    if not pieces and not named:
        return None
    key = seed.to_bytes(8, "big")
    row = NearText(
        usage_record_id=usage_record_id, user_id=user_id, at=at, part=part, algorithm=ALGORITHM if pieces else "",
        signature=nearness.signature(pieces, seed=seed) if pieces else b"", script=script_of(text),
        entities=blake2b("\n".join(named).encode(), key=key, digest_size=16).hexdigest() if named else "",
    )  # fmt: skip
    session.add(row)
    session.flush()
    if pieces:
        values = [{"value": value, "near_text_id": row.id} for value in set(bands(row.signature))]
        session.execute(sa.insert(NearBand), values)
    return row


def neighbors(session: Session, *, row: NearText) -> Near:
    """Count the texts of the day before one that are near to it."""
    since = row.at - DAY
    of_day = session.scalar(sa.select(sa.func.count()).select_from(NearText).where(NearText.at >= since)) or 0
    if not row.algorithm:
        return Near(by_chance=expected(of_day))
    shared = sa.select(NearBand.near_text_id).where(NearBand.value.in_(bands(row.signature))).distinct()
    rows = session.execute(
        sa.select(NearText.user_id, NearText.usage_record_id, NearText.signature)
        .where(
            NearText.id.in_(shared), NearText.usage_record_id != row.usage_record_id, NearText.at >= since,
            NearText.at <= row.at, NearText.algorithm == row.algorithm, NearText.part == row.part,
        )
        .order_by(NearText.id.desc()).limit(MOST)
    ).all()  # fmt: skip
    near = [user_id for user_id, _, signature in rows if likeness(signature, row.signature) >= ALIKE]
    others = [user_id for user_id in near if user_id != row.user_id]
    return Near(len(near) - len(others), len(others), len(set(others)), expected(of_day))


def fan_out(session: Session, *, row: NearText) -> int:
    """Count the scripts in which the person wrote about the same numbers and addresses within a day; 0 for none."""
    if not row.entities:
        return 0
    same = sa.and_(
        NearText.user_id == row.user_id, NearText.entities == row.entities, NearText.at >= row.at - DAY,
        NearText.at <= row.at, NearText.part == row.part,
    )  # fmt: skip
    return session.scalar(sa.select(sa.func.count(NearText.script.distinct())).where(same)) or 0


def forget(session: Session, *, now: datetime) -> int:
    """Delete signatures that nothing compares any more, and return how many there were."""
    old: Sequence[int] = session.scalars(sa.select(NearText.id).where(NearText.at < now - KEPT).limit(MOST)).all()
    if old:
        session.execute(sa.delete(NearBand).where(NearBand.near_text_id.in_(old)))
        session.execute(sa.delete(NearText).where(NearText.id.in_(old)))
    return len(old)
