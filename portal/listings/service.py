"""Finding models and datasets for programs, and saying what they want to know of them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.models import Requirement
from portal.access.rules import Action
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release
from portal.catalog.rules import ModelState, RepoKind
from portal.core.actor import Actor
from portal.entitlements import service as entitlements
from portal.entitlements.rules import Mode
from portal.files import service as files
from portal.files.models import Commit
from portal.listings.rules import About, Wanted

Metadata = Callable[[str], Mapping[str, Any]]


def about(
    session: Session,
    *,
    models: Sequence[GatedModel],
    metadata: Metadata,
    commits: Mapping[int, Commit] | None = None,
    contents: bool = False,
) -> list[About]:
    """Say of each model what programs want to know; of its newest commit, where none is given by model id.

    Args:
        session: the database.
        models: the models, visible to the caller.
        metadata: reads the metadata of a card's words.
        commits: the commits in question by model id.
        contents: with the files, and the number of parameters in them.
    """
    if commits is None:
        commits = newest(session, models=models)
    gated = _gated(session, [model.id for model in models])
    cards = catalog.card_texts(session, models=models)
    sizes = files.sizes(session, commit_ids=[commit.id for commit in commits.values()])
    found = []
    for model in models:
        commit = commits.get(model.id)
        within: dict[str, Any] = {"files": ()} if contents else {}
        if commit is not None:
            within |= {
                "revision": commit.revision, "changed_at": commit.created_at, "size": sizes.get(commit.id, 0),
            }  # fmt: skip
        if commit is not None and contents:
            within["files"] = files.listed(session, commit_id=commit.id)
            within["parameters"] = files.parameters(session, commit_id=commit.id)
        found.append(
            About(
                kind=model.kind, hub_id=model.hub_id, ref=model.public_id, created_at=model.created_at,
                gated=gated.get(model.id, ""), disabled=model.state is ModelState.WITHDRAWN,
                metadata=metadata(cards[model.id]) if model.id in cards else {}, **within,
            )
        )  # fmt: skip
    return found


def newest(session: Session, *, models: Sequence[GatedModel]) -> dict[int, Commit]:
    """Return the commits that were released last, by model id."""
    last = sa.select(sa.func.max(Release.id)).where(Release.model_id.in_([model.id for model in models]))
    same = sa.and_(Release.model_id == Commit.model_id, Release.revision == Commit.revision)
    query = sa.select(Commit).join(Release, same).where(Release.id.in_(last.group_by(Release.model_id)))
    return {commit.model_id: commit for commit in session.scalars(query)}


def _gated(session: Session, model_ids: Sequence[int]) -> dict[int, str]:
    query = sa.select(Requirement.model_id).where(Requirement.valid_to.is_(None), Requirement.model_id.in_(model_ids))
    forms = entitlements.forms_of(session, model_ids=model_ids)
    asked = {model_id: form.mode.value for model_id, form in forms.items() if form.mode is not Mode.OFF}
    return dict.fromkeys(session.scalars(query), Mode.AUTO.value) | asked


def search(
    session: Session, *, actor: Actor, kind: RepoKind, wanted: Wanted, metadata: Metadata, now: datetime, base_url: str
) -> list[About]:
    """Return what is said of the models, or datasets, that somebody looks for and may read about."""
    rows = access.models_with_decisions(
        session, actor=actor, action=Action.READ, now=now, base_url=base_url, kinds=[kind]
    )
    models = [model for model, _, decision in rows if decision.allowed and wanted.names(model.hub_id)]
    return wanted.ordered([row for row in about(session, models=models, metadata=metadata) if wanted.means(row)])
