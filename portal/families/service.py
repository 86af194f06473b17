"""Finding the siblings of a model, the licenses that they share, and whether a signature opens them."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access.models import Requirement
from portal.adapters import hub
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release
from portal.catalog.rules import ModelState
from portal.core.actor import Actor
from portal.core.errors import NotFound
from portal.families.rules import Place, place_of
from portal.licensing import service as licensing
from portal.licensing.models import License, LicenseVersion
from portal.licensing.rules import Satisfaction, satisfies
from portal.notices import service as notices


@dataclass(frozen=True)
class Sibling:
    """A model of a family; `has_weights` says whether this portal serves it."""

    model: GatedModel
    place: Place
    license: str
    has_weights: bool


@dataclass(frozen=True)
class Shared:
    """A license that siblings share, its version in force, and whether the reader's signature satisfies it."""

    license: License
    version: LicenseVersion
    count: int
    satisfaction: Satisfaction | None


@dataclass(frozen=True)
class Family:
    """Siblings, largest first, and their licenses."""

    name: str
    siblings: list[Sibling]
    licenses: list[Shared]


def family_of(session: Session, *, model: GatedModel, by: Actor, now: datetime) -> Family:
    """Return the family of a model, which lives in one namespace, or raise `NotFound`."""
    shown = sa.select(GatedModel).where(
        GatedModel.namespace == model.namespace, GatedModel.kind == model.kind, GatedModel.state == ModelState.PUBLISHED
    )
    models = session.scalars(shown.order_by(GatedModel.name)).all()
    texts = catalog.card_texts(session, models=models)
    places = {row.id: place_of(hub.read_card(texts[row.id]).metadata) for row in models if row.id in texts}
    mine = places.get(model.id)
    if mine is None:
        raise NotFound("family_not_found", f"The card of {model.full_name} names no family.")
    ids = [row.id for row in models if (place := places.get(row.id)) and place.family == mine.family]
    asked, served = _asked(session, ids), _served(session, ids)
    siblings = [
        Sibling(row, place, asked.get(row.id, place.license), row.id in served)
        for row in models
        if row.id in ids and (place := places[row.id])
    ]
    siblings.sort(key=lambda one: (-one.place.parameters, one.model.name))
    slugs = sorted({one.license for one in siblings if one.license})
    shared = [_shared(session, slug, sum(one.license == slug for one in siblings), by, now) for slug in slugs]
    return Family(mine.family, siblings, [one for one in shared if one is not None])


def _asked(session: Session, model_ids: list[int]) -> dict[int, str]:
    query = sa.select(Requirement.model_id, License.slug).join(License, License.id == Requirement.license_id)
    query = query.where(Requirement.model_id.in_(model_ids), Requirement.valid_to.is_(None)).order_by(License.slug)
    return {model_id: slug for model_id, slug in session.execute(query)}  # noqa: C416 - a row is no pair to mypy


def _served(session: Session, model_ids: list[int]) -> set[int]:
    return set(session.scalars(sa.select(Release.model_id).where(Release.model_id.in_(model_ids))))


def _shared(session: Session, slug: str, count: int, by: Actor, now: datetime) -> Shared | None:
    try:
        license_, version = licensing.in_force(session, slug=slug, now=now)
    except NotFound:
        return None
    if by.user_id is None:
        return Shared(license_, version, count, None)
    facts = licensing.versions_for(session, license_ids=[license_.id]).get(license_.id, [])
    required = next(fact for fact in facts if fact.id == version.id)
    signed = licensing.signatures_of(session, user_ids=[by.user_id], license_ids=[license_.id])
    refs = {f"license_version:{slug}/{fact.number}": fact.number for fact in facts}
    told = notices.reached_of(session, user_ids=[by.user_id], subject_refs=list(refs)).get(by.user_id, {})
    reached = {refs[ref]: at for ref, at in told.items()}
    found = satisfies(signed.get(by.user_id, {}).get(license_.id, []), facts, required, reached, now)
    return Shared(license_, version, count, found)
