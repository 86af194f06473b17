"""Keeping the ledger of delivered copies: who received which bytes, under which signatures and card."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.catalog.models import CardRevision, Release
from portal.core.db import among
from portal.core.ids import public_id
from portal.deliveries.models import Delivery, DeliveryPart
from portal.deliveries.rules import JOINED_FOR, covers_file
from portal.files.models import Commit, TreeEntry
from portal.licensing import service as licensing
from portal.licensing.models import Signature, SignatureSetItem
from portal.tokens.models import AccessToken

BATCH = 500
COLUMNS = (
    "delivery", "person", "access_token", "model", "revision", "path", "sha256", "size", "bytes_sent", "complete",
    "requests", "opened_at", "completed_at", "licenses", "signatures", "card_revision",
)  # fmt: skip


@dataclass(frozen=True)
class Terms:
    """Under what a person holds a copy of a file; `person` is their public id."""

    delivery: Delivery
    release: Release
    signatures: tuple[Signature, ...]
    card: CardRevision
    person: str


def record_started(session: Session, *, record: Mapping[str, Any]) -> Delivery:
    """Enter a request whose first byte is about to leave; one seen before changes nothing.

    Requests of one person with one access token, for one file under the same terms, fetch one copy until it is whole:
    that is how clients go on after an interruption, and how several connections share a file.
    """
    known = _of_request(session, str(record["id"]))
    if known is not None:
        return session.get_one(Delivery, known.delivery_id)
    at = datetime.fromisoformat(record["at"])
    what = {
        name: record[name]
        for name in ("user_id", "access_token_id", "release_id", "path", "file_sha256", "size", "card_revision_id")
    }
    what["signature_set"] = licensing.ensure_set(session, signature_ids=record["signature_ids"])
    delivery = _unfinished(session, what, at)
    if delivery is None:
        delivery = Delivery(public_id=public_id("dlv"), opened_at=at, **what)
        session.add(delivery)
        session.flush()
    part = {"request_id": record["id"], "range_start": record["range_start"], "opened_at": at}
    session.add(DeliveryPart(delivery_id=delivery.id, **part))
    session.flush()
    session.expire(delivery, ["parts"])
    return delivery


def _unfinished(session: Session, what: Mapping[str, Any], at: datetime) -> Delivery | None:
    same = sa.select(Delivery).filter_by(**what).where(Delivery.completed_at.is_(None))
    recent = same.where(Delivery.opened_at > at - JOINED_FOR)
    return session.scalar(recent.order_by(Delivery.id.desc()).limit(1))


def record_finished(session: Session, *, record: Mapping[str, Any]) -> Delivery | None:
    """Enter how many bytes a request brought; the first such record counts. None if its start is not known."""
    part = _of_request(session, str(record["id"]))
    if part is None:
        return None
    delivery = session.get_one(Delivery, part.delivery_id)
    if part.finished_at is not None:
        return delivery
    part.bytes_sent, part.finished_at = int(record["bytes_sent"]), datetime.fromisoformat(record["at"])
    if not delivery.complete and covers_file([_span(p) for p in delivery.parts], delivery.size):
        delivery.completed_at = part.finished_at
    session.flush()
    return delivery


def _span(part: DeliveryPart) -> tuple[int, int]:
    return part.range_start, part.range_start + (part.bytes_sent or 0)


def own(session: Session, *, user_id: int, limit: int = 200) -> Sequence[Delivery]:
    """Return what was delivered to a person, newest first."""
    query = sa.select(Delivery).where(Delivery.user_id == user_id).order_by(Delivery.id.desc()).limit(limit)
    return session.scalars(query).all()


def own_terms(session: Session, *, user_id: int, limit: int = 200) -> list[Terms]:
    """Return what was delivered to a person and under which signatures and card, newest first."""
    return _terms(session, own(session, user_id=user_id, limit=limit))


def terms_of(session: Session, *, sha256: str, user_id: int | None = None, limit: int = 1000) -> list[Terms]:
    """Return under which signatures and card a person, or anybody, received a file, named by its SHA-256; oldest first.

    Args:
        user_id: the person; None for everybody who received it.
        limit: return at most so many.
    """
    query = sa.select(Delivery).where(Delivery.file_sha256 == sha256)
    if user_id is not None:
        query = query.where(Delivery.user_id == user_id)
    return _terms(session, session.scalars(query.order_by(Delivery.id).limit(limit)).all())


def export_rows(session: Session, *, start: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    """Return the ledger from an instant up to another as flat rows, oldest first: ids, digests and terms, no names."""
    after = 0
    while True:
        query = sa.select(Delivery).where(Delivery.opened_at >= start, Delivery.opened_at < end, Delivery.id > after)
        some = _terms(session, session.scalars(query.order_by(Delivery.id).limit(BATCH)).all())
        tokens = sa.select(AccessToken).where(AccessToken.id.in_({t.delivery.access_token_id for t in some}))
        token_of = {token.id: token.public_id for token in session.scalars(tokens)}
        yield from (row(terms, token_of.get(terms.delivery.access_token_id or 0, "")) for terms in some)
        if len(some) < BATCH:
            return
        after = some[-1].delivery.id
        session.expunge_all()


def row(terms: Terms, access_token: str = "") -> dict[str, Any]:
    """Return a copy and what governs it as one flat row."""
    delivery, release = terms.delivery, terms.release
    return {
        "delivery": delivery.public_id, "person": terms.person, "access_token": access_token,
        "model": release.model.full_name, "revision": release.revision, "path": delivery.path,
        "sha256": delivery.file_sha256, "size": delivery.size, "bytes_sent": delivery.bytes_sent,
        "complete": delivery.complete, "requests": len(delivery.parts), "opened_at": delivery.opened_at.isoformat(),
        "completed_at": delivery.completed_at.isoformat() if delivery.completed_at else "",
        "licenses": " ".join(f"{s.version.license.slug}/{s.version.number}" for s in terms.signatures),
        "signatures": " ".join(s.public_id for s in terms.signatures), "card_revision": terms.card.number,
    }  # fmt: skip


def copies(session: Session, *, user_ids: Sequence[int], release_ids: Sequence[int]) -> dict[int, frozenset[int]]:
    """Return of which releases people hold a whole copy: person → releases; who holds none is left out.

    A copy is whole with every large file of its release; of a release without any, with every file.
    """
    d, part = Delivery, DeliveryPart
    rows = (
        sa.select(d.user_id, d.release_id, d.file_sha256, part.range_start, part.bytes_sent)
        .join(part, part.delivery_id == d.id)
        .where(among(d.user_id, user_ids), d.release_id.in_(release_ids))
    )
    spans: dict[tuple[int, int], dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for user_id, release_id, sha256, start, sent in session.execute(rows):
        spans[user_id, release_id][sha256].append((start, start + (sent or 0)))
    if not spans:
        return {}
    files = _files_of(session, {release_id for _, release_id in spans})
    needed = {release_id: [file for file in all_ if file.lfs] or all_ for release_id, all_ in files.items()}
    whole: dict[int, set[int]] = defaultdict(set)
    for (user_id, release_id), had in spans.items():
        if all(covers_file(had.get(file.blob_sha256 or "", []), file.size) for file in needed[release_id]):
            whole[user_id].add(release_id)
    return {user_id: frozenset(releases) for user_id, releases in whole.items()}


def holders(session: Session, *, release_ids: Sequence[int]) -> list[int]:
    """Return, in order of their ids, the people who were handed a whole copy of any file of some releases."""
    d = Delivery
    query = sa.select(d.user_id).where(d.release_id.in_(release_ids), d.completed_at.is_not(None))
    return list(session.scalars(query.distinct().order_by(d.user_id)))


def _terms(session: Session, deliveries: Sequence[Delivery]) -> list[Terms]:
    releases = sa.select(Release).where(Release.id.in_({d.release_id for d in deliveries}))
    cards = sa.select(CardRevision).where(CardRevision.id.in_({d.card_revision_id for d in deliveries}))
    release_of = {release.id: release for release in session.scalars(releases)}
    card_of = {card.id: card for card in session.scalars(cards)}
    signatures = _signatures(session, {d.signature_set for d in deliveries})
    people = sa.select(User.id, User.public_id).where(User.id.in_({d.user_id for d in deliveries}))
    person_of = {row.id: row.public_id for row in session.execute(people)}
    return [
        Terms(
            d, release_of[d.release_id], tuple(signatures[d.signature_set]), card_of[d.card_revision_id],
            person_of[d.user_id],
        )
        for d in deliveries
    ]  # fmt: skip


def _files_of(session: Session, release_ids: set[int]) -> dict[int, list[TreeEntry]]:
    query = (
        sa.select(Release.id, TreeEntry)
        .join(Commit, sa.and_(Commit.model_id == Release.model_id, Commit.revision == Release.revision))
        .join(TreeEntry, TreeEntry.commit_id == Commit.id)
        .where(Release.id.in_(release_ids), TreeEntry.blob_sha256.is_not(None))
    )
    found: dict[int, list[TreeEntry]] = {release_id: [] for release_id in release_ids}
    for release_id, entry in session.execute(query):
        found[release_id].append(entry)
    return found


def _signatures(session: Session, sets: set[str]) -> dict[str, list[Signature]]:
    query = (
        sa.select(SignatureSetItem.sha256, Signature)
        .join(Signature, Signature.id == SignatureSetItem.signature_id)
        .where(SignatureSetItem.sha256.in_(sets))
        .order_by(Signature.id)
    )
    found: dict[str, list[Signature]] = defaultdict(list)
    for digest, signature in session.execute(query):
        found[digest].append(signature)
    return found


def _of_request(session: Session, request_id: str) -> DeliveryPart | None:
    return session.scalar(sa.select(DeliveryPart).where(DeliveryPart.request_id == request_id))
