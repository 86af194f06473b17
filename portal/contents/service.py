"""Keeping texts only where that was agreed, finding them by words, and deleting them when their time is over."""

import json
import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit import service as audit
from portal.catalog.models import GatedModel
from portal.clauses.models import Clause, ClauseText
from portal.contents import rules
from portal.contents.models import Content, ContentTerm, Retention, TextConsent
from portal.contents.rules import Keys
from portal.core.actor import Actor
from portal.licensing import service as licensing

FOUND_MAX = 200
BATCH = 1_000
log = logging.getLogger("portal.contents")


def days_of(session: Session, *, model_id: int) -> int:
    """Return for how many days a model keeps texts of those who agreed; 0 is never, and the default."""
    return session.scalar(sa.select(Retention.days).where(Retention.model_id == model_id)) or 0


def keeping(session: Session) -> frozenset[int]:
    """Return the models that keep texts."""
    return frozenset(session.scalars(sa.select(Retention.model_id).where(Retention.days > 0)))


def set_days(session: Session, *, model: GatedModel, days: int, by: Actor, now: datetime) -> Retention:
    """Say for how many days a model keeps texts of those who agreed; what was kept before keeps its day."""
    rules.check_days(days)
    row = session.get(Retention, model.id)
    if row is not None and row.days == days:
        return row
    row = session.merge(Retention(model_id=model.id, days=days, set_by=by.public_id, set_at=now))
    session.flush()
    audit.record(session, rules.RetentionSet(subject=model.public_id, days=days), by=by, now=now)
    return row


def agreed(session: Session, *, user_id: int, model_id: int) -> TextConsent | None:
    """Return since when a person agrees that a model keeps their texts, if they do."""
    query = sa.select(TextConsent).where(TextConsent.user_id == user_id, TextConsent.model_id == model_id)
    return session.scalar(query.where(TextConsent.ended_at.is_(None)))


def agree(session: Session, *, by: Actor, model: GatedModel, now: datetime) -> TextConsent:
    """Agree that a model keeps one's texts from now on; again changes nothing."""
    if (known := agreed(session, user_id=by.id, model_id=model.id)) is not None:
        return known
    row = TextConsent(user_id=by.id, model_id=model.id, given_at=now)
    session.add(row)
    session.flush()
    audit.record(session, rules.ConsentGiven(subject=by.public_id, model=model.public_id), by=by, now=now)
    return row


def disagree(session: Session, *, by: Actor, model: GatedModel, now: datetime) -> int:
    """No longer agree: what was kept for that reason is deleted at once, but for what a case rests on."""
    row = agreed(session, user_id=by.id, model_id=model.id)
    if row is None:
        return 0
    row.ended_at = now
    own = sa.and_(Content.user_id == by.id, Content.model_id == model.id, Content.basis == rules.Basis.CONSENT)
    deleted = _delete(session, own, Content.held_for.is_(None))
    event = rules.ConsentEnded(subject=by.public_id, model=model.public_id, deleted=deleted)
    audit.record(session, event, by=by, now=now)
    return deleted


def choices_of(session: Session, *, user_id: int) -> list[tuple[GatedModel, int, TextConsent | None]]:
    """Return the models that keep texts, for how many days, and whether a person agreed; models once agreed to, too."""
    mine = sa.and_(
        TextConsent.model_id == GatedModel.id, TextConsent.user_id == user_id, TextConsent.ended_at.is_(None)
    )
    query = (
        sa.select(GatedModel, sa.func.coalesce(Retention.days, 0), TextConsent)
        .outerjoin(Retention, Retention.model_id == GatedModel.id)
        .outerjoin(TextConsent, mine)
        .where(sa.or_(Retention.days > 0, TextConsent.id.is_not(None)))
        .order_by(GatedModel.namespace, GatedModel.name)
    )
    return [(model, days, consent) for model, days, consent in session.execute(query)]


def kept_of(session: Session, *, user_id: int) -> int:
    """Count the texts of a person that are kept now."""
    return session.scalar(sa.select(sa.func.count()).select_from(Content).where(Content.user_id == user_id)) or 0


def keep(
    session: Session,
    *,
    request_id: str,
    user_id: int | None,
    model_id: int | None,
    prompt: str,
    answer: str,
    now: datetime,
    keys: Keys,
) -> Content | None:
    """Keep a prompt and its answer if the model does and the person agreed; redacted first, then encrypted.

    Whatever goes wrong with redacting, the text is dropped. Doing so again for the same request changes nothing.
    """
    days = days_of(session, model_id=model_id) if model_id is not None else 0
    if not days or user_id is None or model_id is None:
        return None
    why = rules.basis(
        days=days, license_allows=_license_allows(session, user_id),
        agreed=agreed(session, user_id=user_id, model_id=model_id) is not None,
    )  # fmt: skip
    if why is None:
        return None
    if (known := find(session, request_id=request_id)) is not None:
        return known
    try:
        said = {"prompt": rules.redacted(prompt), "answer": rules.redacted(answer)}
        body = json.dumps(said).encode()
    except Exception as error:  # noqa: BLE001 # whatever it is: the text is not kept, and no word of it is logged
        log.warning("the text of %s is not kept: %s", request_id, type(error).__name__)
        return None
    month = rules.month_of(now)
    wrapped, sealed = keys.seal(month, request_id, body)
    row = Content(
        request_id=request_id, user_id=user_id, model_id=model_id, month=month, wrapped_key=wrapped, sealed=sealed,
        basis=why, kept_at=now, delete_after=now + timedelta(days=days),
    )  # fmt: skip
    session.add(row)
    session.flush()
    if numbers := keys.numbers(month, rules.terms(f"{said['prompt']}\n{said['answer']}")):
        session.execute(sa.insert(ContentTerm), [{"content_id": row.id, "term": number} for number in numbers])
    return row


def _license_allows(session: Session, user_id: int) -> bool:
    """Say whether the license that a person signed last lets the portal keep texts."""
    signature = licensing.promised(session, user_id=user_id)
    if signature is None:
        return False
    query = sa.select(Clause.id).join(ClauseText, ClauseText.clause_id == Clause.id)
    named = query.where(ClauseText.text_sha256 == signature.rendition_sha256, Clause.stable_key == rules.CLAUSE)
    return session.scalar(named.limit(1)) is not None


def find(session: Session, *, request_id: str) -> Content | None:
    """Find the kept text of a request."""
    return session.scalar(sa.select(Content).where(Content.request_id == request_id))


def of_person(session: Session, *, user_id: int, request_ids: Collection[str] = ()) -> Sequence[Content]:
    """Return the kept texts of a person, newest first, and those of some requests."""
    which = sa.or_(Content.user_id == user_id, Content.request_id.in_(request_ids))
    return session.scalars(sa.select(Content).where(which).order_by(Content.id.desc()).limit(FOUND_MAX)).all()


def search(session: Session, *, words: str, among: Collection[int], keys: Keys) -> list[Content]:
    """Return which of some kept texts hold all words of a question, newest first; no text is read for that.

    Raises:
        Invalid: there is no word to look for.
    """
    wanted = rules.check_words(words)
    found: list[Content] = []
    for month in keys.months():
        numbers = keys.numbers(month, wanted)
        query = (
            sa.select(Content)
            .join(ContentTerm, ContentTerm.content_id == Content.id)
            .where(Content.month == month, Content.id.in_(among), ContentTerm.term.in_(numbers))
            .group_by(Content.id)
            .having(sa.func.count() == len(wanted))
        )
        found += session.scalars(query)
    return sorted(found, key=lambda row: -row.id)


def read(row: Content, *, keys: Keys) -> tuple[str, str] | None:
    """Return the prompt and the answer of a kept text, or None where its key is gone or it was changed."""
    body = keys.open(row.month, row.request_id, row.wrapped_key, row.sealed)
    if body is None:
        return None
    said = json.loads(body)
    return said["prompt"], said["answer"]


def hold(session: Session, *, request_ids: Collection[str], case_ref: str) -> int:
    """Keep texts that a case rests on beyond their day."""
    query = sa.update(Content).where(Content.request_id.in_(request_ids), Content.held_for.is_(None))
    return _count(session, query.values(held_for=case_ref))


def release(session: Session, *, case_ref: str, now: datetime) -> int:
    """Let texts that a case rested on be deleted, 30 days after its decision is final."""
    query = sa.update(Content).where(Content.held_for == case_ref)
    return _count(session, query.values(held_for=None, delete_after=now + rules.AFTER_CASE))


def forget(session: Session, *, by: Actor, now: datetime) -> int:
    """Delete texts whose time is over, and record how many, and that none is left."""
    past = sa.and_(Content.delete_after <= now, Content.held_for.is_(None))
    first = sa.select(Content.id).where(past).order_by(Content.id).limit(BATCH)
    deleted = _delete(session, Content.id.in_(first))
    if deleted and deleted < BATCH:
        left = session.scalar(sa.select(sa.func.count()).select_from(Content).where(past)) or 0
        event = rules.TextsDeleted(subject=rules.month_of(now), deleted=deleted, left=left)
        audit.record(session, event, by=by, now=now)
    return deleted


def forget_keys(session: Session, *, keys: Keys, by: Actor, now: datetime) -> list[str]:
    """Delete the keys of past months in which no text is kept any more, so that copies of the database hold none."""
    used = set(session.scalars(sa.select(Content.month).distinct()))
    gone = [month for month in keys.months() if month < rules.month_of(now) and month not in used]
    for month in gone:
        keys.forget(month)
        audit.record(session, rules.KeysDeleted(subject=month), by=by, now=now)
    return gone


def erase(session: Session, *, user: User) -> int:
    """Delete all texts of a person that no case rests on."""
    return _delete(session, Content.user_id == user.id, Content.held_for.is_(None))


def _delete(session: Session, *which: sa.ColumnElement[bool]) -> int:
    return _count(session, sa.delete(Content).where(*which))


def _count(session: Session, statement: sa.Update | sa.Delete) -> int:
    done = session.execute(statement.execution_options(synchronize_session="fetch"))
    return done.rowcount  # type: ignore[attr-defined,no-any-return] # what a writing statement returns has one
