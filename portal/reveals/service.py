"""Reading kept texts within a case that one holds; the record of it is committed before any text is opened."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit import service as audit
from portal.cases import service as cases
from portal.cases.models import Case, CaseLink, EvidenceHold
from portal.cases.rules import CaseState, LinkKind
from portal.contents import service as contents
from portal.contents.models import Content
from portal.contents.rules import Keys
from portal.core.actor import Actor
from portal.core.errors import NotFound
from portal.core.ids import public_id
from portal.proofs.rules import digest
from portal.reveals import rules
from portal.reveals.models import Reveal, RevealedText


@dataclass(frozen=True)
class Opened:
    """A text that is read: of which request, and its words; None where its key is gone."""

    request_id: str
    kept_at: datetime
    words: tuple[str, str] | None


def texts_of(session: Session, *, case: Case) -> Sequence[Content]:
    """Return the kept texts that a case is about: those of its person, and of the uses that are its evidence."""
    records = cases.refs(session, case=case, kind=LinkKind.RECORD)
    return contents.of_person(session, user_id=case.user_id or 0, request_ids=records)


def hold_evidence(session: Session, *, now: datetime) -> None:
    """Keep texts that cases rest on until these are closed and nothing holds their evidence.

    Once no case holds a text any more, it ends 30 days later.
    """
    held = sa.select(EvidenceHold.id).where(EvidenceHold.case_id == Case.id, EvidenceHold.released_at.is_(None))
    free = sa.select(Content.request_id).where(Content.held_for.is_(None))
    rests = (
        sa.select(CaseLink.ref, Case.public_id)
        .join(Case, Case.id == CaseLink.case_id)
        .where(CaseLink.kind == LinkKind.RECORD, CaseLink.ref.in_(free))
        .where(sa.or_(Case.state != CaseState.CLOSED, held.exists()))
    )
    for request_id, case_ref in session.execute(rests.order_by(Case.id)).all():
        contents.hold(session, request_ids=[request_id], case_ref=case_ref)
    over = sa.select(Case.public_id).where(
        Case.state == CaseState.CLOSED, ~held.exists(), Case.public_id.in_(sa.select(Content.held_for))
    )
    for case_ref in session.scalars(over).all():
        contents.release(session, case_ref=case_ref, now=now)


def search(session: Session, *, case_ref: str, words: str, keys: Keys, by: Actor, now: datetime) -> list[Content]:
    """Find which kept texts of a case hold all words; says only which, and is on record."""
    case = cases.held(session, ref=case_ref, by=by, now=now)
    among = [row.id for row in texts_of(session, case=case)]
    found = contents.search(session, words=words, among=among, keys=keys)
    audit.record(session, rules.TextsSearched(subject=case.public_id, found=len(found)), by=by, now=now)
    return found


def reveal(
    session: Session, *, case_ref: str, request_ids: Collection[str], reason: str, by: Actor, now: datetime
) -> Reveal:
    """Put on record that the actor reads some texts of a case that they hold, and why; nothing is opened yet.

    Raises:
        Conflict: the actor does not hold the case.
        NotFound: one of the texts is none of this case.
        Invalid: no text, or no reason.
        Refused: too many for one person, or for a day.
    """
    case = cases.held(session, ref=case_ref, by=by, now=now)
    known = {row.request_id: row.user_id for row in texts_of(session, case=case)}
    wanted = sorted(set(request_ids))
    if set(wanted) - set(known):
        raise NotFound("text_not_found", "One of these texts is not kept, or is no part of this case.")
    why = rules.check_reason(reason)
    rules.check_amount(
        len(wanted), in_case=_shown(session, by, now, Reveal.case_id == case.id), in_all=_shown(session, by, now)
    )
    row = Reveal(public_id=public_id("rev"), case_id=case.id, reader_id=by.id, reason=why, at=now)
    session.add(row)
    session.flush()
    session.add_all(RevealedText(reveal_id=row.id, request_id=ref, user_id=known[ref]) for ref in wanted)
    session.flush()
    event = rules.TextsRevealed(
        subject=row.public_id, case=case.public_id, texts=len(wanted), reason=digest(why.encode())
    )  # fmt: skip
    audit.record(session, event, by=by, now=now)
    return row


def _shown(session: Session, by: Actor, now: datetime, *which: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(RevealedText).join(Reveal, Reveal.id == RevealedText.reveal_id)
    return session.scalar(query.where(Reveal.reader_id == by.id, Reveal.at > now - rules.DAY, *which)) or 0


def opened(session: Session, *, ref: str, keys: Keys, by: Actor, now: datetime) -> tuple[Reveal, Case, list[Opened]]:
    """Open the texts that the actor put on record a moment ago, while they still hold the case.

    The record was committed by the request before this one, so no text is ever read without it.

    Raises:
        NotFound: there is no such record, or it is somebody else's.
        Conflict: the time to look is over, or the case is no longer held.
    """
    row = session.scalar(sa.select(Reveal).where(Reveal.public_id == ref))
    if row is None:
        raise NotFound("reveal_not_found", "There is no such page for you.")
    rules.check_open(reader_id=row.reader_id, by_user=by.id, at=row.at, now=now)
    case = cases.held(session, ref=session.get_one(Case, row.case_id).public_id, by=by, now=now)
    wanted = sa.select(RevealedText.request_id).where(RevealedText.reveal_id == row.id)
    kept = session.scalars(sa.select(Content).where(Content.request_id.in_(wanted)).order_by(Content.id))
    return row, case, [Opened(one.request_id, one.kept_at, contents.read(one, keys=keys)) for one in kept]


def of_person(session: Session, *, user_id: int) -> int:
    """Return how many texts of a person staff asked to read, those deleted since included."""
    query = sa.select(sa.func.count()).select_from(RevealedText).where(RevealedText.user_id == user_id)
    return session.scalar(query) or 0
