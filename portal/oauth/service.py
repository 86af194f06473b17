"""Making access tokens: a program is given one only while its person could use what it opens."""

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action, Decision, Reason
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.core.actor import Actor
from portal.core.errors import Invalid, Refused
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import Scope, TokenState, check_new

SIGNED_SCOPES = frozenset({Scope.WEIGHTS_READ.value, Scope.INFERENCE.value})


def mint(
    session: Session,
    *,
    by: Actor,
    name: str,
    scopes: Collection[str],
    models: Collection[str],
    days: int,
    pepper: bytes,
    base_url: str,
    now: datetime,
) -> tuple[AccessToken, str]:
    """Make an access token for the actor and return it with its secret, if the decision allows renewing.

    Args:
        models: names of the models that it is bound to; none means all.

    Raises:
        Invalid: a field cannot be taken.
        NotFound: a model does not exist.
        Refused: what the decision says of a named model, or of every model when none is named; with all reasons.
            Reading one's own usage asks nothing of the decision.
    """
    check_new(name, scopes, days)
    bound = [catalog.find_model(session, full_name=model) for model in sorted(set(models))]
    if SIGNED_SCOPES & set(scopes):
        _refuse(_in_the_way(session, by, bound, now, base_url))
    return tokens.issue(
        session, by=by, owner_id=by.id, name=name, scopes=scopes, model_ids=[model.id for model in bound], days=days,
        pepper=pepper, now=now,
    )  # fmt: skip


def renewable(session: Session, *, by: Actor, now: datetime, base_url: str) -> list[tuple[GatedModel, Decision]]:
    """Return each model with weights and whether the actor may have an access token for it.

    As long as no model has weights, every model counts.
    """
    rows = access.models_with_decisions(session, actor=by, action=Action.RENEW, now=now, base_url=base_url)
    return [(m, d) for m, release, d in rows if release is not None] or [(m, d) for m, _, d in rows]


def check_name_free(session: Session, *, by: Actor, name: str, now: datetime) -> None:
    """Raise `Invalid` while the actor has a usable access token of that name; sending a form twice makes one."""
    query = sa.select(AccessToken.id).where(
        AccessToken.user_id == by.id, AccessToken.name == name.strip(), AccessToken.state == TokenState.LIVE,
        AccessToken.expires_at > now,
    )  # fmt: skip
    if session.scalar(query.limit(1)) is not None:
        message = "You have an access token of this name. Choose another name, or revoke that one first."
        raise Invalid("token_name_taken", message, field="name")


def models_of(session: Session, *, owned: Sequence[AccessToken]) -> dict[int, list[str]]:
    """Return the names of the models that each access token is bound to, by its id."""
    ids = {row.model_id for token in owned for row in token.model_rows}
    names = {m.id: m.full_name for m in session.scalars(sa.select(GatedModel).where(GatedModel.id.in_(ids)))}
    return {token.id: sorted(names[row.model_id] for row in token.model_rows) for token in owned}


def _in_the_way(
    session: Session, by: Actor, bound: Sequence[GatedModel], now: datetime, base_url: str
) -> list[Decision]:
    """Return the decisions that say no; none where one yes is enough and there is one."""
    if bound:
        decisions = [
            access.check(
                session, actor=by, model=model.full_name, action=Action.RENEW, now=now, base_url=base_url
            )
            for model in bound
        ]  # fmt: skip
        return [decision for decision in decisions if not decision.allowed]
    decisions = [decision for _, decision in renewable(session, by=by, now=now, base_url=base_url)]
    if not decisions:
        raise Invalid("models_none", "No model is published here yet, so there is nothing to open.", field="scopes")
    return [] if any(decision.allowed for decision in decisions) else decisions


def reasons_of(decisions: Sequence[Decision]) -> tuple[Reason, ...]:
    """Return what blocks in some decisions, each reason once."""
    return tuple(dict.fromkeys(reason for decision in decisions for reason in decision.blocking))


def _refuse(decisions: Sequence[Decision]) -> None:
    if decisions:
        reasons = reasons_of(decisions)
        first = reasons[0]
        raise Refused(first.code, first.message, reasons=reasons, status=decisions[0].status, url=first.url or None)
