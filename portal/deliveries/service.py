"""Keeping the ledger of delivered copies: who received which bytes, under which signatures and card."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.catalog.models import CardRevision, Release
from portal.core.ids import public_id
from portal.deliveries.models import Delivery
from portal.deliveries.rules import covers_file
from portal.files.models import Commit, TreeEntry
from portal.licensing import service as licensing
from portal.licensing.models import Signature, SignatureSetItem


@dataclass(frozen=True)
class Terms:
    """Under what a person holds a copy of a file."""

    delivery: Delivery
    release: Release
    signatures: tuple[Signature, ...]
    card: CardRevision


def record_started(session: Session, *, record: Mapping[str, Any]) -> Delivery:
    """Enter a delivery whose first byte is about to leave; a record seen before is the same delivery."""
    known = _of_request(session, str(record["id"]))
    if known is not None:
        return known
    delivery = Delivery(
        public_id=public_id("dlv"), request_id=record["id"], user_id=record["user_id"],
        access_token_id=record["access_token_id"], release_id=record["release_id"], path=record["path"],
        file_sha256=record["file_sha256"], size=record["size"], range_start=record["range_start"],
        signature_set=licensing.ensure_set(session, signature_ids=record["signature_ids"]),
        card_revision_id=record["card_revision_id"], opened_at=datetime.fromisoformat(record["at"]),
    )  # fmt: skip
    session.add(delivery)
    session.flush()
    return delivery


def record_finished(session: Session, *, record: Mapping[str, Any]) -> Delivery | None:
    """Enter how many bytes of a delivery left; the first such record counts. None if its start is not known."""
    delivery = _of_request(session, str(record["id"]))
    if delivery is None or delivery.finished_at is not None:
        return delivery
    delivery.bytes_sent = int(record["bytes_sent"])
    delivery.complete = delivery.range_start == 0 and delivery.bytes_sent == delivery.size
    delivery.finished_at = datetime.fromisoformat(record["at"])
    session.flush()
    return delivery


def own(session: Session, *, user_id: int, limit: int = 200) -> Sequence[Delivery]:
    """Return what was delivered to a person, newest first."""
    query = sa.select(Delivery).where(Delivery.user_id == user_id).order_by(Delivery.id.desc()).limit(limit)
    return session.scalars(query).all()


def own_terms(session: Session, *, user_id: int, limit: int = 200) -> list[Terms]:
    """Return what was delivered to a person and under which signatures and card, newest first."""
    return _terms(session, own(session, user_id=user_id, limit=limit))


def terms_of(session: Session, *, sha256: str, user_id: int) -> list[Terms]:
    """Return under which signatures and card a person received a file, named by its SHA-256; oldest first."""
    query = sa.select(Delivery).where(Delivery.file_sha256 == sha256, Delivery.user_id == user_id)
    return _terms(session, session.scalars(query.order_by(Delivery.id)).all())


def holds_copy(session: Session, *, user_id: int, release_id: int) -> bool:
    """Say whether a person received every large file of a release whole; of a release without any, every file."""
    return user_id in copies(session, user_ids=[user_id], release_ids=[release_id])


def copies(session: Session, *, user_ids: Sequence[int], release_ids: Sequence[int]) -> dict[int, frozenset[int]]:
    """Return of which releases people hold a whole copy: person → releases; who holds none is left out."""
    d = Delivery
    rows = sa.select(d.user_id, d.release_id, d.file_sha256, d.range_start, d.bytes_sent).where(
        d.user_id.in_(user_ids), d.release_id.in_(release_ids)
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
        if all(covers_file(had.get(file.blob_sha256, []), file.size) for file in needed[release_id]):
            whole[user_id].add(release_id)
    return {user_id: frozenset(releases) for user_id, releases in whole.items()}


def _terms(session: Session, deliveries: Sequence[Delivery]) -> list[Terms]:
    releases = sa.select(Release).where(Release.id.in_({d.release_id for d in deliveries}))
    cards = sa.select(CardRevision).where(CardRevision.id.in_({d.card_revision_id for d in deliveries}))
    release_of = {release.id: release for release in session.scalars(releases)}
    card_of = {card.id: card for card in session.scalars(cards)}
    signatures = _signatures(session, {d.signature_set for d in deliveries})
    return [
        Terms(d, release_of[d.release_id], tuple(signatures[d.signature_set]), card_of[d.card_revision_id])
        for d in deliveries
    ]


def _files_of(session: Session, release_ids: set[int]) -> dict[int, list[TreeEntry]]:
    query = (
        sa.select(Release.id, TreeEntry)
        .join(Commit, sa.and_(Commit.model_id == Release.model_id, Commit.revision == Release.revision))
        .join(TreeEntry, TreeEntry.commit_id == Commit.id)
        .where(Release.id.in_(release_ids))
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


def _of_request(session: Session, request_id: str) -> Delivery | None:
    return session.scalar(sa.select(Delivery).where(Delivery.request_id == request_id))
