"""Who else vouches for the log: asking witnesses, serving their word, and the checkpoint that stands for each day."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.core.errors import Conflict
from portal.proofs import service as proofs
from portal.proofs.models import Checkpoint
from portal.proofs.rules import digest
from portal.witnesses.models import Cosignature, DailyCheckpoint
from portal.witnesses.rules import Daily, Order, Word, with_words


def order(session: Session, *, witness: str, seen: int | None = None) -> Order | None:
    """Return what a witness has to be asked now; None while it has vouched for the newest checkpoint.

    Args:
        witness: its name.
        seen: how many entries it says that it has seen, where that differs from what is on record here.

    Raises:
        Conflict: it has seen more than there is; so an older copy of the database was put back.
    """
    last = proofs.newest(session)
    query = sa.select(sa.func.max(Cosignature.size)).where(Cosignature.witness == witness)
    known = session.scalar(query) or 0
    if last is None or last.size == known:
        return None
    old = known if seen is None else seen
    if old > last.size:
        here = f"there are {last.size}; an older copy was put back"
        message = f"Witness {witness} has seen {old} entries of the log and {here}."
        raise Conflict("log_broken", message)
    path = proofs.consistency(session, old=old, new=last.size)
    return Order(old, last.size, tuple(path), last.note)


def store(session: Session, *, witness: str, size: int, word: Word) -> None:
    """Keep the word of a witness about a checkpoint; its first word stands."""
    if session.get(Cosignature, (size, witness)) is None:
        session.add(Cosignature(size=size, witness=witness, line=word.line, witnessed_at=word.at))
        session.flush()


def note_of(session: Session, *, checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as it is served: with the words of all witnesses."""
    query = sa.select(Cosignature.line).where(Cosignature.size == checkpoint.size).order_by(Cosignature.witness)
    return with_words(checkpoint.note, session.scalars(query).all())


def served(session: Session) -> bytes | None:
    """Return the newest checkpoint as outsiders get it; None before the first one."""
    last = proofs.newest(session)
    return note_of(session, checkpoint=last) if last else None


def proofs_of(session: Session, *, event_refs: Sequence[str]) -> list[bytes]:
    """Return proofs that events are in the log, all under one checkpoint; none while no checkpoint covers them all.

    The newest one that a witness vouched for is taken before a newer one that nobody did yet.
    """
    vouched = sa.select(sa.func.max(Cosignature.size)).scalar_subquery()
    chosen = [session.scalar(sa.select(Checkpoint).where(Checkpoint.size == vouched)), proofs.newest(session)]
    for head in chosen:
        if head is None:
            continue
        note = note_of(session, checkpoint=head)
        found = [proofs.proof_of(session, event_ref=ref, size=head.size, note=note) for ref in event_refs]
        whole = [one for one in found if one is not None]
        if len(whole) == len(event_refs):
            return whole
    return []


def note_day(session: Session, *, day: str, now: datetime) -> DailyCheckpoint | None:
    """Let the newest checkpoint stand for a day; None if one does already, or if there is none yet."""
    last = proofs.newest(session)
    if last is None or session.get(DailyCheckpoint, day) is not None:
        return None
    made = DailyCheckpoint(day=day, size=last.size, noted_at=now)
    session.add(made)
    session.flush()
    return made


def daily(session: Session, *, day: str = "") -> DailyCheckpoint | None:
    """Return the checkpoint of a day, or without one the last of all."""
    query = sa.select(DailyCheckpoint).order_by(DailyCheckpoint.day.desc()).limit(1)
    return session.scalar(query.where(DailyCheckpoint.day == day) if day else query)


def in_short(session: Session) -> Daily | None:
    """Return the last checkpoint of a day as receipts print it; None before the first one."""
    last = daily(session)
    return Daily(last.day, note_of_day(session, row=last)) if last else None


def note_of_day(session: Session, *, row: DailyCheckpoint) -> bytes:
    """Return the checkpoint of a day as it was timestamped: with the log's own signature alone."""
    return session.get_one(Checkpoint, row.size).note


def untimed(session: Session, *, limit: int = 10) -> list[Daily]:
    """Return the checkpoints of days that wait for a timestamp, the last one first."""
    query = sa.select(DailyCheckpoint).where(DailyCheckpoint.token.is_(None)).order_by(DailyCheckpoint.day.desc())
    return [Daily(row.day, note_of_day(session, row=row)) for row in session.scalars(query.limit(limit))]


def store_time(session: Session, *, day: str, token: bytes) -> None:
    """Keep the timestamp over the checkpoint of a day; the first one stands."""
    row = session.get_one(DailyCheckpoint, day)
    if row.token is None:
        row.token = token
        session.flush()


def letter(row: DailyCheckpoint, *, note: bytes, base_url: str) -> tuple[str, str]:
    """Return subject and words of the mail that carries the checkpoint of a day out of the portal's reach."""
    words = (
        f"This is the checkpoint of the portal's public log for {row.day} (UTC), SHA-256 {digest(note)}.\n"
        "Keep this mail. Whoever has it can prove that entries were taken away or rewritten later.\n\n"
        f"{note.decode()}\n"
        f"Compare: {base_url}/log/daily/{row.day}\n"
        "Check all later ones against it: save the lines from the name of the log on as "
        f"KEPT/{row.size:012d}.checkpoint, and run\n  python verify.py monitor {base_url} --keep KEPT\n"
    )
    return f"Checkpoint of {row.day}: {row.size} entries", words
