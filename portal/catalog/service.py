"""Models, releases and the life of model cards."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit import service as audit
from portal.audit.rules import CardDrafted, CardPublished, ModelPublished
from portal.catalog.models import (
    CardItem,
    CardItemClause,
    CardItemPurpose,
    CardRevision,
    FormerName,
    GatedModel,
    Release,
    by_name,
)
from portal.catalog.rules import (
    CARD,
    MODEL,
    PREVAILING,
    CardAction,
    CardState,
    ModelAction,
    ModelRenamed,
    ModelState,
    can_be_name,
    check_language,
    named,
    parts_of,
    split_name,
)  # fmt: skip
from portal.clauses import service as clauses
from portal.clauses.models import Clause, Text
from portal.core.actor import Actor
from portal.core.db import hold
from portal.core.errors import Conflict, Invalid, NotFound
from portal.core.ids import public_id
from portal.items import rules as items
from portal.items.rules import Item

CARD_MAX = 400_000


@dataclass(frozen=True)
class Card:
    """A card revision with its words."""

    revision: CardRevision
    text: str


def called(session: Session, *, full_name: str) -> GatedModel | None:
    """Return the model or dataset that goes by a name now, in whatever state it is; None for none."""
    kind, namespace, name = parts_of(full_name)
    if not can_be_name(namespace, name):
        return None
    query = sa.select(GatedModel).where(GatedModel.namespace == namespace, GatedModel.name == name)
    return session.scalar(query.where(GatedModel.kind == kind))


def once_called(session: Session, *, full_name: str) -> GatedModel | None:
    """Return the shown model or dataset that went by a name before it was renamed; None for none."""
    kind, namespace, name = parts_of(full_name)
    if not can_be_name(namespace, name):
        return None
    query = sa.select(FormerName).where(FormerName.namespace == namespace, FormerName.name == name)
    former = session.scalar(query.where(FormerName.kind == kind))
    return former.model if former and former.model.state is not ModelState.DRAFT else None


def find_model(session: Session, *, full_name: str) -> GatedModel:
    """Find a model by ``namespace/name``, or raise `NotFound`."""
    model = called(session, full_name=full_name)
    if model is None or model.state is ModelState.DRAFT:
        raise NotFound("model_not_found", f"There is no model {full_name} here.")
    return model


def ensure_model(session: Session, *, full_name: str, now: datetime) -> GatedModel:
    """Return the model of that name, making a draft if there is none.

    Raises:
        Invalid: nothing can be called so.
        Conflict: another one was called so before, and the name still leads to it.
    """
    kind, namespace, name = split_name(full_name)
    model = called(session, full_name=full_name)
    if model is None:
        _check_free(session, full_name)
        model = GatedModel(public_id=public_id("mod"), kind=kind, namespace=namespace, name=name, created_at=now)
        session.add(model)
        session.flush()
    return model


def _check_free(session: Session, full_name: str) -> None:
    kind, namespace, name = parts_of(full_name)
    taken = sa.select(FormerName.id).where(FormerName.namespace == namespace, FormerName.name == name)
    if called(session, full_name=full_name) or session.scalar(taken.where(FormerName.kind == kind)):
        raise Conflict("name_taken", f"{full_name} is the name of another one, now or before.")


def rename(session: Session, *, model: GatedModel, to: str, by: Actor, now: datetime) -> None:
    """Give a model another name; the one before leads to it for ever, in papers as in programs.

    Raises:
        Invalid: nothing can be called so, or it names the other kind.
        Conflict: the name is, or was, that of another one.
    """
    kind, namespace, name = split_name(to)
    hold(session, GatedModel.id, model.id)
    if to == model.full_name:
        return
    if kind is not model.kind:
        raise Invalid("model_name", f"A dataset stays a dataset, and a model a model: {to!r}.", field="model")
    own = sa.select(FormerName).where(FormerName.model_id == model.id)
    known = {named(row.kind, row.namespace, row.name) for row in session.scalars(own)}
    if to in known:
        raise Conflict("name_taken", f"{model.full_name} was called {to} before; that name already leads to it.")
    _check_free(session, to)
    session.add(FormerName(kind=kind, namespace=model.namespace, name=model.name, model_id=model.id, given_up_at=now))
    model.namespace, model.name = namespace, name
    session.flush()
    audit.record(session, ModelRenamed(subject=model.public_id, to=to), by=by, now=now)


def publish_model(model: GatedModel) -> None:
    """Show a model to everybody; nothing happens if it is shown already."""
    if model.state is ModelState.DRAFT:
        model.state = MODEL.next(model.state, ModelAction.PUBLISH)


def release(
    session: Session,
    *,
    model: GatedModel,
    revision: str,
    license_slug: str,
    license_number: str,
    by: Actor,
    now: datetime,
) -> Release:
    """Publish a commit under the card in force and one license version; both stay pinned to it for ever.

    Raises:
        Conflict: the model has no published card, or the commit was published under another license.
    """
    found = session.scalar(sa.select(Release).where(Release.model_id == model.id, Release.revision == revision))
    if found is not None and found.license_slug != license_slug:
        message = f"These files of {model.full_name} are published under {found.license_slug}; that stays."
        raise Conflict("release_licensed", message)
    if found is not None:
        return found
    card = current_card(session, model=model)
    if card is None:
        raise Conflict("card_missing", f"{model.full_name} has no published card. Publish one first.")
    publish_model(model)
    row = Release(
        public_id=public_id("rel"), model_id=model.id, model=model, revision=revision, card_revision_id=card.id,
        license_slug=license_slug, license_number=license_number, published_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    event = ModelPublished(subject=model.public_id, revision=revision, license=f"{license_slug}/{license_number}")
    audit.record(session, event, by=by, now=now)
    return row


def released(session: Session, *, model: GatedModel) -> frozenset[str]:
    """Return the ids of the commits of a model that were released; readers know no others."""
    return frozenset(session.scalars(sa.select(Release.revision).where(Release.model_id == model.id)))


def releases_of(session: Session, *, model_id: int) -> Sequence[Release]:
    """Return the releases of a model, newest first."""
    return session.scalars(sa.select(Release).where(Release.model_id == model_id).order_by(Release.id.desc())).all()


def release_of(session: Session, *, model: GatedModel, revision: str) -> Release | None:
    """Return the release of a commit, if it was released."""
    return session.scalar(sa.select(Release).where(Release.model_id == model.id, Release.revision == revision))


def current_card(session: Session, *, model: GatedModel, language: str = PREVAILING) -> CardRevision | None:
    """Return the published card revision of a model."""
    return session.scalar(
        sa.select(CardRevision).where(
            CardRevision.model_id == model.id, CardRevision.language == language,
            CardRevision.state == CardState.PUBLISHED,
        )
    )  # fmt: skip


def card_text(session: Session, *, revision: CardRevision) -> str:
    """Return a card revision's words."""
    return clauses.text_of(session, sha256=revision.text_sha256)


def card_texts(session: Session, *, models: Sequence[GatedModel]) -> dict[int, str]:
    """Return the words of the published cards of models, by model id."""
    query = sa.select(CardRevision.model_id, Text.body).join(Text, Text.sha256 == CardRevision.text_sha256)
    query = query.where(CardRevision.language == PREVAILING, CardRevision.state == CardState.PUBLISHED)
    rows = session.execute(query.where(CardRevision.model_id.in_([model.id for model in models])))
    return {model_id: body.decode() for model_id, body in rows}


def find_card(session: Session, *, model: GatedModel, number: int) -> Card:
    """Return a published or past revision of a model's card by number, or raise `NotFound`."""
    row = session.scalar(
        sa.select(CardRevision).where(
            CardRevision.model_id == model.id, CardRevision.number == number, CardRevision.state != CardState.DRAFT
        )
    )
    if row is None:
        raise NotFound("card_not_found", f"The card of {model.full_name} has no revision {number}.")
    return Card(row, card_text(session, revision=row))


def cards_of(session: Session, *, model: GatedModel) -> Sequence[CardRevision]:
    """Return all revisions of a model's card, newest first, drafts included."""
    query = sa.select(CardRevision).where(CardRevision.model_id == model.id).order_by(CardRevision.number.desc())
    return session.scalars(query).all()


def draft_of(session: Session, *, model: GatedModel, language: str = PREVAILING) -> CardRevision | None:
    """Return the draft of a model's card in a language, if there is one."""
    query = sa.select(CardRevision).where(CardRevision.model_id == model.id, CardRevision.language == language)
    return session.scalar(query.where(CardRevision.state == CardState.DRAFT))


def save_draft(
    session: Session, *, model: GatedModel, text: str, note: str, by: Actor, now: datetime, language: str = PREVAILING
) -> CardRevision:
    """Keep a draft of the next card revision; saving again replaces the draft's words.

    A draft in another language renders the published card, and its items say the same under the same keys.

    Raises:
        Invalid: the text is empty, larger than 400,000 characters, or an item in it is wrong.
        Conflict: there is no published card yet that a card in another language could render.
    """
    text = text.replace("\r\n", "\n")
    if not text.strip() or len(text) > CARD_MAX or "\0" in text:
        raise Invalid("card_length", f"A card has between 1 and {CARD_MAX:,} characters, no NUL.", field="text")
    hold(session, GatedModel.id, model.id)  # or somebody could be publishing what is written here
    rendered = _rendered(session, model, check_language(language))
    said = items.parse(text)
    named_clauses = {key for item in said for key in item.clauses}
    items.check_clauses(said, frozenset(clauses.ids_of(session, keys=named_clauses)))
    if rendered is not None:
        items.check_rendition(items_of(session, revision=rendered), said, language)
    sha256 = clauses.store_text(session, body=text.encode())
    draft = draft_of(session, model=model, language=language)
    if draft is None:
        last = session.scalar(sa.select(sa.func.max(CardRevision.number)).where(CardRevision.model_id == model.id)) or 0
        draft = CardRevision(
            public_id=public_id("crd"), model_id=model.id, model=model, number=last + 1, language=language,
            text_sha256=sha256, created_at=now, created_by=by.public_id,
        )  # fmt: skip
        session.add(draft)
        event = CardDrafted(subject=model.public_id, number=draft.number)
        audit.record(session, event, by=by, now=now)
    draft.text_sha256, draft.note, draft.translates = sha256, note, rendered
    session.flush()
    return draft


def _rendered(session: Session, model: GatedModel, language: str) -> CardRevision | None:
    if language == PREVAILING:
        return None
    card = current_card(session, model=model)
    if card is None:
        raise Conflict("card_missing", f"{model.full_name} has no published card in {PREVAILING!r} to render.")
    return card


def publish_card(
    session: Session, *, model: GatedModel, shown_sha256: str, by: Actor, now: datetime, language: str = PREVAILING
) -> CardRevision:
    """Publish the draft exactly as it was previewed, and its items with it; the revision before stays readable.

    Raises:
        Conflict: there is no draft, or it changed since it was previewed.
    """
    hold(session, GatedModel.id, model.id)
    draft = draft_of(session, model=model, language=language)
    if draft is None:
        raise Conflict("draft_missing", "There is no draft to publish. Write one first.")
    if draft.text_sha256 != shown_sha256:
        raise Conflict("draft_changed", "The draft changed since you previewed it. Look at it again.")
    before = current_card(session, model=model, language=draft.language)
    if before is not None:
        before.state = CARD.next(before.state, CardAction.SUPERSEDE)
        session.flush()
    draft.state = CARD.next(draft.state, CardAction.PUBLISH)
    draft.published_at = now
    publish_model(model)
    session.flush()
    _keep_items(session, draft)
    audit.record(session, CardPublished(subject=model.public_id, number=draft.number), by=by, now=now)
    return draft


def _keep_items(session: Session, revision: CardRevision) -> None:
    said = items.parse(card_text(session, revision=revision))
    known = clauses.ids_of(session, keys={key for item in said for key in item.clauses})
    rows = {
        item.key: CardItem(
            revision_id=revision.id, stable_key=item.key, kind=item.kind, severity=item.severity, wording=item.wording,
            line=item.line,
        )
        for item in said
    }  # fmt: skip
    session.add_all(rows.values())
    session.flush()
    for item in said:
        at = rows[item.key].id
        session.add_all(CardItemClause(item_id=at, clause_id=one) for key in item.clauses for one in known.get(key, ()))
        session.add_all(CardItemPurpose(item_id=at, purpose_id=rows[key].id) for key in item.purposes)
    session.flush()


def items_of(session: Session, *, revision: CardRevision) -> list[Item]:
    """Return what a published card revision says, one thing at a time, in its order."""
    mine = sa.select(CardItem.id).where(CardItem.revision_id == revision.id)
    links = sa.select(CardItemClause.item_id, Clause.stable_key).join(Clause, Clause.id == CardItemClause.clause_id)
    touches = sa.select(CardItemPurpose.item_id, CardItem.stable_key)
    touches = touches.join(CardItem, CardItem.id == CardItemPurpose.purpose_id)
    behind, purposes = dict[int, list[str]](), dict[int, list[str]]()
    for item_id, key in session.execute(links.where(CardItemClause.item_id.in_(mine)).distinct()):
        behind.setdefault(item_id, []).append(key)
    for item_id, key in session.execute(touches.where(CardItemPurpose.item_id.in_(mine))):
        purposes.setdefault(item_id, []).append(key)
    rows = session.scalars(sa.select(CardItem).where(CardItem.revision_id == revision.id).order_by(CardItem.line))
    return [
        Item(
            row.stable_key, row.kind, row.severity, row.wording, tuple(sorted(behind.get(row.id, ()))),
            tuple(sorted(purposes.get(row.id, ()))), row.line,
        )
        for row in rows
    ]  # fmt: skip


def sync_card(session: Session, *, full_name: str, text: str, by: Actor, now: datetime) -> bool:
    """Publish a card from the repository for a model that has none yet; say whether anything was done."""
    model = ensure_model(session, full_name=full_name, now=now)
    if current_card(session, model=model) is not None:
        return False
    draft = save_draft(session, model=model, text=text, note="From the portal's card folder.", by=by, now=now)
    publish_card(session, model=model, shown_sha256=draft.text_sha256, by=by, now=now)
    return True


def find_by_ref(session: Session, *, ref: str) -> GatedModel:
    """Find a model for staff by its public id, or raise `NotFound`."""
    model = session.scalar(sa.select(GatedModel).where(GatedModel.public_id == ref))
    if model is None:
        raise NotFound("model_not_found", "There is no such model here.")
    return model


def find_any_model(session: Session, *, full_name: str) -> GatedModel:
    """Find a model for staff, drafts included, or raise `NotFound`."""
    model = called(session, full_name=full_name)
    if model is None:
        raise NotFound("model_not_found", f"There is no model {full_name} here.")
    return model


def all_models(
    session: Session, *, words: str = "", part: tuple[int, int] = (0, 10_000)
) -> list[tuple[GatedModel, CardRevision | None, CardRevision | None]]:
    """Return models whose name holds some words, each with its published card and its draft; a part of them."""
    models = session.scalars(by_name(words).offset(part[0]).limit(part[1])).all()
    of_them = CardRevision.model_id.in_([model.id for model in models])
    live = sa.select(CardRevision).where(CardRevision.state != CardState.SUPERSEDED, of_them)
    rows = session.scalars(live.where(CardRevision.language == PREVAILING)).all()
    published = {r.model_id: r for r in rows if r.state is CardState.PUBLISHED}
    drafts = {r.model_id: r for r in rows if r.state is CardState.DRAFT}
    return [(model, published.get(model.id), drafts.get(model.id)) for model in models]


def asking_for(session: Session, *, slug: str, number: str) -> list[str]:
    """Return the models of which a release pins a license version, so that its downloads still ask for it."""
    query = (
        sa.select(GatedModel.kind, GatedModel.namespace, GatedModel.name)
        .join(Release, Release.model_id == GatedModel.id)
        .where(Release.license_slug == slug, Release.license_number == number, GatedModel.state != ModelState.WITHDRAWN)
        .distinct()
        .order_by(GatedModel.namespace, GatedModel.name)
    )
    return [named(kind, namespace, name) for kind, namespace, name in session.execute(query)]
