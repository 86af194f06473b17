"""Keeping which file is the receipt of what, and the log: leaves, their tree, signed checkpoints and proofs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.core.errors import Conflict, PortalError
from portal.proofs import rules
from portal.proofs.models import Checkpoint, Leaf, Node, Receipt
from portal.proofs.rules import Edge, LogKey, Place, ReceiptTime

SIGN_EVERY = timedelta(seconds=60)
MANY = 256
BATCH = 2000
AT_ONCE = 400
LOCK = 0x706F7274616C  # any number that nothing else locks


def store_receipt(
    session: Session,
    *,
    subject_ref: str,
    statement_sha256: str,
    pdf_sha256: str,
    now: datetime,
    timestamped_at: datetime | None = None,
    pending: bool = False,
) -> Receipt:
    """Record the file that states something about a subject; a further file for it is numbered and supersedes it.

    Recording the same file again returns the same receipt.
    """
    mine = sa.select(Receipt).where(Receipt.subject_ref == subject_ref)
    known = session.scalar(mine.where(Receipt.pdf_sha256 == pdf_sha256).limit(1))
    if known is not None:
        return known
    last = session.scalar(sa.select(sa.func.max(Receipt.number)).where(Receipt.subject_ref == subject_ref)) or 0
    unconfirmed = ReceiptTime.PENDING if pending else ReceiptTime.PORTAL
    receipt = Receipt(
        subject_ref=subject_ref, number=last + 1, statement_sha256=statement_sha256, pdf_sha256=pdf_sha256, made_at=now,
        time=ReceiptTime.AUTHORITY if timestamped_at else unconfirmed, timestamped_at=timestamped_at,
    )  # fmt: skip
    session.add(receipt)
    session.flush()
    return receipt


def receipt_of(session: Session, *, subject_ref: str) -> Receipt | None:
    """Return the receipt of a subject, its newest file, once there is one."""
    query = sa.select(Receipt).where(Receipt.subject_ref == subject_ref).order_by(Receipt.number.desc()).limit(1)
    return session.scalar(query)


def add_leaf(session: Session, *, event_ref: str, commitment: bytes) -> Leaf:
    """Commit to an event in the caller's transaction; its place in the log it gets later."""
    leaf = Leaf(event_ref=event_ref, commitment=commitment)
    session.add(leaf)
    return leaf


def size(session: Session) -> int:
    """Return how many entries the log has."""
    last = session.scalar(sa.select(sa.func.max(Node.index)).where(Node.level == 0))
    return 0 if last is None else last + 1


@cache
def _nodes_at(count: int) -> sa.Executable:
    """Return the query for nodes at some places, built once for each count: building takes longer than asking."""
    places: list[tuple[Any, Any]] = [(sa.bindparam(f"level{n}"), sa.bindparam(f"index{n}")) for n in range(count)]
    here = sa.or_(*(sa.and_(Node.level == level, Node.index == index) for level, index in places))
    return sa.select(Node.level, Node.index, Node.hash).where(here)


def _hashes(session: Session, places: Iterable[Place]) -> dict[Place, bytes]:
    """Return the hashes at some places, no more than a proof needs."""
    wanted = sorted(set(places))
    if not wanted:
        return {}
    values = {f"level{n}": place[0] for n, place in enumerate(wanted)}
    values |= {f"index{n}": place[1] for n, place in enumerate(wanted)}
    return {(level, index): value for level, index, value in session.execute(_nodes_at(len(wanted)), values).all()}


def _roots(session: Session, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return the root over each range of leaves."""
    covers = [rules.cover(start, end) for start, end in ranges]
    known = _hashes(session, (place for cover in covers for place in cover))
    try:
        return [rules.fold([known[place] for place in cover]) for cover in covers]
    except KeyError as missing:
        level, index = missing.args[0]
        raise _broken(f"the tree lacks its node {index} of level {level}") from None


def root(session: Session, *, at: int) -> bytes:
    """Return the root of the log as it was with `at` entries."""
    return _roots(session, [(0, at)])[0]


def consistency(session: Session, *, old: int, new: int) -> list[bytes]:
    """Return the proof that the log of `new` entries begins with that of `old` entries."""
    return _roots(session, rules.consistency_ranges(old, new)) if old else []


def newest(session: Session) -> Checkpoint | None:
    """Return the checkpoint that was signed last."""
    return session.scalar(sa.select(Checkpoint).order_by(Checkpoint.size.desc()).limit(1))


def leaf_of(session: Session, *, event_ref: str) -> Leaf | None:
    """Return the leaf of an event."""
    query = sa.select(Leaf).where(Leaf.event_ref == event_ref)
    return session.scalar(query.execution_options(populate_existing=True))


def handover(session: Session, *, by: str) -> Checkpoint | None:
    """Return the checkpoint by which a key, named by its number in hex, handed the log over to its successor."""
    for found in handovers(session):
        if rules.key_id(rules.read_checkpoint(found.note).origin, found.signer).hex() == by:
            return found
    return None


def handovers(session: Session) -> Sequence[Checkpoint]:
    """Return the checkpoints by which keys handed the log over, the first one first."""
    query = sa.select(Checkpoint).where(Checkpoint.successor.is_not(None)).order_by(Checkpoint.size)
    return session.scalars(query).all()


def proof_of(session: Session, *, event_ref: str, size: int, note: bytes) -> bytes | None:
    """Return the proof that an event is in the log, under a checkpoint; None if that does not cover it.

    Args:
        event_ref: the event, by public id.
        size: how many entries the checkpoint covers.
        note: the checkpoint, as it is to stand in the proof.
    """
    leaf = leaf_of(session, event_ref=event_ref)
    if leaf is None or leaf.index is None or leaf.index >= size:
        return None
    path = _roots(session, rules.inclusion_ranges(leaf.index, size))
    return rules.proof(leaf.index, leaf.commitment, path, note)


def tile(session: Session, *, level: int, number: int, width: int) -> bytes | None:
    """Return hashes of a tile, as far as the newest checkpoint covers them; None for others."""
    last = newest(session)
    first, height = number * rules.TILE, rules.TILE_LEVELS * level
    if last is None or first + width > last.size >> height:
        return None
    query = sa.select(Node.hash).where(Node.level == height, Node.index.between(first, first + width - 1))
    return b"".join(session.scalars(query.order_by(Node.index)))


def entries(session: Session, *, number: int, width: int) -> bytes | None:
    """Return entries of the log, each after its length; None for those that the newest checkpoint does not cover."""
    last, first = newest(session), number * rules.TILE
    if last is None or first + width > last.size:
        return None
    query = sa.select(Leaf.commitment).where(Leaf.index.between(first, first + width - 1)).order_by(Leaf.index)
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in session.scalars(query))


def _broken(why: str) -> Conflict:
    return Conflict("log_broken", f"The log does not hold: {why}.")


def check_kept(session: Session, *, key: LogKey, kept: bytes | None) -> None:
    """Raise unless the log still begins with all that was signed: its newest checkpoint, and the one kept outside.

    Args:
        key: the key that signs checkpoints.
        kept: the checkpoint that is kept outside the database, read before this transaction began.
    """
    last = newest(session)
    now = size(session)
    if last is not None:
        _check_head(session, "the newest checkpoint", last.note, key, now)
        if last.successor not in {None, key.public}:
            raise _broken("its newest checkpoint hands it over to another key; `portal log rotate-key` finishes that")
    if kept is not None:
        head = _check_head(session, "the checkpoint kept outside the database", kept, key, now)
        if last is None or last.size < head.size:
            raise _broken("the checkpoint kept outside the database is missing in it; an older copy was put back")
    elif (session.scalar(sa.select(sa.func.count()).select_from(Checkpoint)) or 0) > 1:
        raise _broken("no checkpoint is kept outside the database; put the newest known one at log/checkpoint")


def _check_head(session: Session, name: str, note: bytes, key: LogKey, now: int) -> rules.TreeHead:
    try:
        head = rules.read_checkpoint(note)
    except PortalError:
        raise _broken(f"{name} is not written as a checkpoint is") from None
    if not rules.is_signed(head, key):
        raise _broken(f"{name} is not signed by the key of this log")
    if head.size > now:
        raise _broken(f"{name} covers {head.size} entries and the database has {now}; an older copy was put back")
    if root(session, at=head.size) != head.root:
        raise _broken(f"{name} has another root over the first {head.size} entries than the database")
    return head


def trouble(session: Session, *, key: LogKey, kept: bytes | None) -> str:
    """Say in a line why nothing more is signed, or nothing if all is well."""
    try:
        check_kept(session, key=key, kept=kept)
    except Conflict as error:
        return error.message
    return ""


@dataclass(frozen=True)
class Step:
    """What moving the log on did: the newest checkpoint, and whether more leaves wait."""

    note: bytes | None
    more: bool


def is_due(session: Session, *, kept: bytes | None, now: datetime) -> bool:
    """Say whether there is anything to number, to sign or to keep."""
    pending = session.scalar(sa.select(Leaf.id).where(Leaf.index.is_(None)).limit(1))
    last = newest(session)
    return pending is not None or _wants_signing(last, size(session), now) or (last.note if last else None) != kept


def _wants_signing(last: Checkpoint | None, entries_now: int, now: datetime) -> bool:
    fresh = entries_now - (last.size if last else 0)
    return fresh > 0 and (last is None or fresh >= MANY or not timedelta() <= now - last.signed_at < SIGN_EVERY)


def advance(session: Session, *, key: LogKey, origin: str, kept: bytes | None, now: datetime) -> Step:
    """Give pending leaves their places and sign a checkpoint when one is due. Only one may do so at a time.

    Args:
        key: the key that signs checkpoints.
        origin: the name of the log.
        kept: the checkpoint that is kept outside the database.
        now: when.

    Raises:
        Conflict: the log no longer begins with what was signed; then nothing is numbered or signed.
    """
    if _is_postgresql(session) and not session.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(LOCK))):
        return Step(kept, more=False)
    check_kept(session, key=key, kept=kept)
    more = number_pending(session)
    last, entries_now = newest(session), size(session)
    if _wants_signing(last, entries_now, now):
        last = _sign(session, key=key, origin=origin, now=now)
    return Step(last.note if last else None, more)


def hand_over(
    session: Session, *, key: LogKey, successor: LogKey, origin: str, kept: bytes | None, now: datetime
) -> bytes:
    """Sign the last checkpoint of a key over all that there is, which names its successor; both keys sign it.

    Raises:
        Conflict: the log no longer begins with what was signed.
    """
    if _is_postgresql(session):
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    check_kept(session, key=key, kept=kept)
    while number_pending(session):
        pass
    return _sign(session, key=key, successor=successor, origin=origin, now=now).note


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _sign(session: Session, *, key: LogKey, origin: str, now: datetime, successor: LogKey | None = None) -> Checkpoint:
    entries_now = size(session)
    top = root(session, at=entries_now)
    note = rules.checkpoint(origin, entries_now, top, key, successor)
    signed = Checkpoint(
        size=entries_now, root=top, note=note, signer=key.public, signed_at=now,
        successor=successor.public if successor else None,
    )  # fmt: skip
    session.add(signed)
    session.flush()
    return signed


def number_pending(session: Session, *, limit: int = BATCH) -> bool:
    """Append pending leaves to the tree, in the order in which they were made; says whether more may wait.

    What is pending is taken, not what lies above the last number: rows of long transactions appear late.
    """
    query = sa.select(Leaf.id, Leaf.commitment).where(Leaf.index.is_(None)).order_by(Leaf.id).limit(limit)
    rows = session.execute(query).all()
    if not rows:
        return False
    before = size(session)
    whole = [(index << level, (index + 1) << level) for level, index in rules.cover(0, before)]
    edge = Edge(before, _roots(session, whole))
    nodes = [node for row in rows for node in edge.add(rules.leaf_hash(row.commitment))]
    for start in range(0, len(nodes), AT_ONCE):
        values = [{"level": n[0], "index": n[1], "hash": n[2]} for n in nodes[start : start + AT_ONCE]]
        session.execute(sa.insert(Node), values)
    session.execute(sa.update(Leaf), [{"id": row.id, "index": before + n} for n, row in enumerate(rows)])
    return len(rows) == limit


def verify_tree(session: Session, *, key: LogKey, kept: bytes | None) -> tuple[int, int, bytes]:
    """Recompute the tree from the leaves and every checkpoint from the tree.

    Returns:
        How many entries and checkpoints there are, and the root.

    Raises:
        Conflict: names the first thing that does not hold.
    """
    signed = session.scalars(sa.select(Checkpoint).order_by(Checkpoint.size)).all()
    _check_signers(signed, key)
    heads = {row.size: row for row in signed}
    edge = Edge()
    _check_signed(heads.pop(0, None), edge, key)
    for rows in _numbered(session):
        made = []
        for index, commitment in rows:
            if index != edge.size:
                raise _broken(f"no leaf has the place {edge.size}")
            made += edge.add(rules.leaf_hash(commitment))
            _check_signed(heads.pop(edge.size, None), edge, key)
        known = _between(session, made)
        for level, index, value in made:
            if known.get((level, index)) != value:
                raise _broken(f"node {index} of level {level} is not the hash of what lies below it")
    if heads:
        raise _broken(f"a checkpoint covers {min(heads)} entries and there are {edge.size}")
    count = session.scalar(sa.select(sa.func.count()).select_from(Node))
    if count != 2 * edge.size - edge.size.bit_count():
        raise _broken(f"the tree of {edge.size} entries has {count} nodes")
    check_kept(session, key=key, kept=kept)
    return edge.size, len(signed), edge.root


def _numbered(session: Session) -> Iterator[Sequence[Any]]:
    query = sa.select(Leaf.index, Leaf.commitment).where(Leaf.index.is_not(None)).order_by(Leaf.index)
    last = -1
    while rows := session.execute(query.where(Leaf.index > last).limit(AT_ONCE)).all():
        yield rows
        last = rows[-1][0] or 0


def _between(session: Session, made: Sequence[tuple[int, int, bytes]]) -> dict[Place, bytes]:
    """Return the hashes of nodes that were completed one after the other."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for level, index, _ in made:
        first.setdefault(level, index)
        last[level] = index
    spans = (sa.and_(Node.level == level, Node.index.between(first[level], last[level])) for level in first)
    here = sa.or_(*spans)
    rows = session.execute(sa.select(Node.level, Node.index, Node.hash).where(here))
    return {(level, index): value for level, index, value in rows}


def _check_signers(signed: Sequence[Checkpoint], key: LogKey) -> None:
    """Raise unless one key signed them all, or each handed the log over to the next one, up to the key of today."""
    signer = signed[0].signer if signed else key.public
    for row in signed:
        if row.signer != signer:
            raise _broken(f"the checkpoint over {row.size} entries is by a key that nobody handed the log over to")
        signer = row.successor or signer
    if signer != key.public:
        raise _broken("its checkpoints do not lead to the key that it has now")


def _check_signed(row: Checkpoint | None, edge: Edge, key: LogKey) -> None:
    if row is None:
        return
    name = f"the checkpoint over {row.size} entries"
    try:
        head = rules.read_checkpoint(row.note)
    except PortalError:
        raise _broken(f"{name} is not written as a checkpoint is") from None
    signers = [row.signer, row.successor] if row.successor else [row.signer]
    if not all(rules.is_signed(head, key, by) for by in signers):
        raise _broken(f"{name} is not signed by the key of this log")
    if head.successor != (rules.vkey(head.origin, row.successor) if row.successor else ""):
        raise _broken(f"{name} names another successor than the records")
    if (head.size, head.root) != (edge.size, edge.root) or row.root != edge.root:
        raise _broken(f"{name} has another root than its entries")
