"""The card editors' desk: taking cards in, publishing them, looking at them again, and telling what changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.acknowledgments import service as acknowledgments
from portal.adapters import hub
from portal.adapters.plots import draw
from portal.audit import service as audit
from portal.cards import rules
from portal.cards.models import CardPlot, CardReview
from portal.catalog import service as catalog
from portal.catalog.models import CardRevision, GatedModel
from portal.catalog.rules import PREVAILING, CardState, difference
from portal.clauses import service as clauses
from portal.core.actor import Actor
from portal.core.db import among
from portal.core.errors import Conflict, Invalid, NotFound
from portal.evaluations import rules as evaluations
from portal.items import rules as items
from portal.items.rules import ItemChange
from portal.licensing import service as licensing


@dataclass(frozen=True)
class Difference:
    """How two revisions of a card differ: thing by thing, and line by line."""

    old: CardRevision
    new: CardRevision
    items: list[ItemChange]
    lines: list[tuple[str, str]]


def between(session: Session, *, model: GatedModel, old: int, new: int) -> Difference:
    """Compare two published or past revisions of a card, or raise `NotFound`."""
    one, other = (catalog.find_card(session, model=model, number=number) for number in (old, new))
    changed = items.compare(items.readable(one.text), items.readable(other.text))
    return Difference(one.revision, other.revision, changed, difference(one.text, other.text))


def before(session: Session, *, revision: CardRevision) -> CardRevision | None:
    """Return the revision that one followed on, in the same language."""
    query = sa.select(CardRevision).where(
        CardRevision.model_id == revision.model_id, CardRevision.language == revision.language,
        CardRevision.number < revision.number, CardRevision.state != CardState.DRAFT,
    )  # fmt: skip
    return session.scalar(query.order_by(CardRevision.number.desc()).limit(1))


def places(session: Session) -> dict[str, str]:
    """Return where each clause of the newest version of each license can be read, by its key."""
    found: dict[str, str] = {}
    for license_, versions in licensing.licenses(session):
        for version in versions[:1]:
            for key in clauses.keys_of(session, sha256=licensing.rendition(version).text_sha256):
                found.setdefault(key, f"/licenses/{license_.slug}/{version.number}#{key}")
    return found


def take_in(
    session: Session,
    *,
    full_name: str,
    body: bytes,
    note: str,
    by: Actor,
    now: datetime,
    language: str = PREVAILING,
) -> CardRevision:
    """Take a card from elsewhere as the draft of a model's card, making the model where there is none.

    Raises:
        Invalid: it is no text, its metadata cannot be read, or an item in it is wrong; then nothing is changed.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise Invalid("card_encoding", f"Line {line} of the card is not UTF-8.", field="text") from None
    hub.check_card(text)
    model = catalog.ensure_model(session, full_name=full_name, now=now)
    return catalog.save_draft(session, model=model, text=text, note=note, by=by, now=now, language=language)


def review(
    session: Session, *, revision: CardRevision, note: str, next_at: datetime, by: Actor, now: datetime
) -> CardReview:
    """Keep that a published card was looked at again and still holds, and when it is looked at next.

    Raises:
        Conflict: it is not published any more.
        Invalid: nothing is said, or the day is none that comes.
    """
    if revision.state is not CardState.PUBLISHED:
        raise Conflict("card_superseded", "Only the card that is published now is looked at again.")
    row = CardReview(
        revision_id=revision.id, by=by.public_id, at=now, note=rules.check_note(note),
        next_at=rules.check_next(next_at, now),
    )  # fmt: skip
    session.add(row)
    session.flush()
    audit.record(session, rules.CardReviewed(revision.model.public_id, revision.number), by=by, now=now)
    return row


def reviews_of(session: Session, *, revision: CardRevision) -> Sequence[CardReview]:
    """Return the reviews of a card revision, newest first."""
    query = sa.select(CardReview).where(CardReview.revision_id == revision.id).order_by(CardReview.id.desc())
    return session.scalars(query).all()


def due(session: Session, *, revisions: Sequence[CardRevision]) -> dict[int, datetime]:
    """Return when published card revisions are to be looked at again, by id."""
    last = sa.select(sa.func.max(CardReview.id)).group_by(CardReview.revision_id)
    query = sa.select(CardReview.revision_id, CardReview.next_at).where(CardReview.id.in_(last))
    wanted = [one for one in revisions if one.state is CardState.PUBLISHED and one.published_at is not None]
    rows = session.execute(query.where(among(CardReview.revision_id, [one.id for one in wanted])))
    said = {revision_id: next_at for revision_id, next_at in rows}  # noqa: C416 - a row is no pair to mypy
    return {one.id: rules.due_at(one.published_at, said.get(one.id)) for one in wanted if one.published_at}


def draft(session: Session, *, model: GatedModel, language: str) -> CardRevision:
    """Return the draft of a model's card in a language, or raise `NotFound`."""
    found = catalog.draft_of(session, model=model, language=language)
    if found is None:
        raise NotFound("draft_missing", f"The card of {model.full_name} has no draft.")
    return found


def publish(
    session: Session, *, model: GatedModel, shown_sha256: str, by: Actor, now: datetime, language: str = PREVAILING
) -> CardRevision:
    """Publish the draft of a card exactly as it was previewed; what changes about safety is planned to be told.

    Raises:
        Conflict: there is no draft, or it changed since it was previewed.
    """
    old = catalog.current_card(session, model=model, language=language)
    card = catalog.publish_card(session, model=model, shown_sha256=shown_sha256, by=by, now=now, language=language)
    if old is not None and card.translates is None:
        acknowledgments.plan_change(session, card=card, before=old, by=by, now=now)
    _draw(session, card)
    return card


def _draw(session: Session, card: CardRevision) -> None:
    found = evaluations.results(hub.read_card(catalog.card_text(session, revision=card)).metadata)
    for ordinal, plot in enumerate(evaluations.plots(found)):
        rows = [(row.label, row.value, row.interval, row.is_bias) for row in plot.rows]
        svg = draw(rows, axis=plot.title, alt=plot.alt, name=f"plot{ordinal}")
        session.add(CardPlot(revision_id=card.id, ordinal=ordinal, title=plot.title, svg=svg))
    session.flush()


def plots_of(session: Session, *, revision: CardRevision) -> Sequence[CardPlot]:
    """Return what was drawn of a card revision's results."""
    query = sa.select(CardPlot).where(CardPlot.revision_id == revision.id).order_by(CardPlot.ordinal)
    return session.scalars(query).all()


def sync(session: Session, *, full_name: str, text: str, by: Actor, now: datetime) -> bool:
    """Publish a card of the portal's folder for a model that has none yet; say whether anything was done."""
    if not catalog.sync_card(session, full_name=full_name, text=text, by=by, now=now):
        return False
    card = catalog.current_card(session, model=catalog.find_model(session, full_name=full_name))
    if card is not None:
        _draw(session, card)
    return True


def add_results(session: Session, *, full_name: str, said: bytes, note: str, by: Actor, now: datetime) -> CardRevision:
    """Take what EleutherAI's harness wrote into a new draft of a model's card, beside the results that it has.

    Results of the same data set by the same version of the harness are replaced.

    Raises:
        Invalid: these are no such results.
        Conflict: the model has no card.
    """
    try:
        read = json.loads(said)
    except (ValueError, RecursionError):
        raise Invalid("results_file", "This file is no JSON.", field="file") from None
    entries = evaluations.from_harness(read)
    model = catalog.find_any_model(session, full_name=full_name)
    row = catalog.draft_of(session, model=model) or catalog.current_card(session, model=model)
    if row is None:
        raise Conflict("card_missing", f"{full_name} has no card. Write one first.")
    text = catalog.card_text(session, revision=row)
    index = evaluations.merged(hub.read_card(text).metadata.get("model-index"), entries, model.name)
    newer = hub.with_index(text, index)
    hub.check_card(newer)
    return catalog.save_draft(session, model=model, text=newer, note=note, by=by, now=now)
