"""Making, checking and ending access tokens; whether they open anything is for the decision to say."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.accounts.rules import Permission
from portal.audit import service as audit
from portal.audit.rules import TokenIssued, TokenRevoked
from portal.core.actor import Actor
from portal.core.db import among, hold
from portal.core.errors import Conflict, NotFound, Refused
from portal.core.ids import public_id
from portal.notices import service as notices
from portal.sanctions import service as sanctions
from portal.sanctions.rules import SanctionKind, in_force
from portal.tokens.models import AccessToken, AccessTokenModel, AccessTokenScope, LeakReport, TokenSighting
from portal.tokens.rules import (
    GRANTED_PREFIX,
    LEAK_KEPT,
    LEAK_WINDOW,
    MAX_LIVE,
    Found,
    LeakSource,
    Scope,
    TokenFacts,
    TokenLeaked,
    TokenState,
    check_leaks,
    check_new,
    compose_leaked,
    mint,
    same,
    sealed,
    unusable,
    well_formed,
)  # fmt: skip

PART = 500


def issue(
    session: Session,
    *,
    by: Actor,
    owner_id: int,
    name: str,
    scopes: Collection[str],
    model_ids: Collection[int],
    days: int,
    pepper: bytes,
    now: datetime,
    means: str = "direct",
    signature_set: str | None = None,
) -> tuple[AccessToken, str]:
    """Make an access token for a person and return it with its secret, which is never shown again.

    Args:
        model_ids: the models it is bound to; none means all.
        days: how long it lasts.
        means: how it came about.
        signature_set: names the signatures that let the person have it.
    """
    check_new(name, scopes, days)
    hold(session, User.id, owner_id)
    owner = session.get_one(User, owner_id)
    own = sa.and_(AccessToken.user_id == owner_id, AccessToken.grant_id.is_(None), _live(now))
    live = sa.select(sa.func.count()).select_from(AccessToken).where(own)
    if session.scalar(live) >= MAX_LIVE:  # type: ignore[operator]
        raise Conflict("token_limit", f"You have {MAX_LIVE} access tokens. Revoke one first.")
    token = AccessToken(
        name=name.strip(), expires_at=now + timedelta(days=days), signature_set=signature_set,
        model_rows=[AccessTokenModel(model_id=model_id) for model_id in sorted(set(model_ids))],
    )  # fmt: skip
    return token, _keep(session, token, mint(), owner=owner, scopes=scopes, means=means, by=by, pepper=pepper, now=now)


def issue_granted(
    session: Session,
    *,
    by: Actor,
    grant_id: int,
    name: str,
    scopes: Collection[str],
    life: timedelta,
    pepper: bytes,
    now: datetime,
    signature_set: str | None = None,
) -> tuple[AccessToken, str]:
    """Make an access token of the actor for a program that they let act for them, and return it with its secret.

    Args:
        grant_id: their permission; the access token before under the same one ends.
        scopes: what it opens; none for a program that only wants to know who they are.
        signature_set: names the signatures that let the person have it.
    """
    end_granted(session, grant_ids=[grant_id], by=by, now=now)
    token = AccessToken(name=name, expires_at=now + life, signature_set=signature_set, grant_id=grant_id)
    owner = session.get_one(User, by.id)
    secret = mint(GRANTED_PREFIX)
    return token, _keep(
        session, token, secret, owner=owner, scopes=scopes, means="program", by=by, pepper=pepper, now=now
    )


def _keep(
    session: Session, token: AccessToken, secret: str, *, owner: User, scopes: Collection[str], means: str, by: Actor,
    pepper: bytes, now: datetime,
) -> str:  # fmt: skip
    """Store a new access token and return its secret, of which only an HMAC is kept."""
    token.public_id, token.user_id, token.created_at = public_id("tok"), owner.id, now
    token.hmac, token.last4 = sealed(secret, pepper), secret[-4:]
    token.scope_rows = [AccessTokenScope(scope=Scope(scope)) for scope in sorted(set(scopes))]
    session.add(token)
    session.flush()
    named = " ".join(sorted(set(scopes)))
    event = TokenIssued(subject=token.public_id, owner=owner.public_id, scopes=named, means=means)
    audit.record(session, event, by=by, now=now)
    return secret


def find_granted(session: Session, *, value: str, pepper: bytes) -> AccessToken | None:
    """Return the access token of a program by its secret, ended ones included."""
    if not well_formed(value, GRANTED_PREFIX):
        return None
    return session.scalar(sa.select(AccessToken).where(AccessToken.hmac == sealed(value, pepper)))


def end_granted(session: Session, *, grant_ids: Collection[int], by: Actor, now: datetime) -> None:
    """End the access tokens that programs were given by some permissions."""
    query = sa.select(AccessToken).where(AccessToken.grant_id.in_(grant_ids), AccessToken.state == TokenState.LIVE)
    for token in session.scalars(query.order_by(AccessToken.id)):
        end(session, token=token, by=by, now=now)


def authenticate(session: Session, *, value: str, pepper: bytes, now: datetime) -> TokenFacts | str:
    """Return whose access token a program showed, or the reason code why it cannot be used."""
    if not well_formed(value):
        return "access_token_invalid"
    digest = sealed(value, pepper)
    token = session.scalar(sa.select(AccessToken).where(AccessToken.hmac == digest))
    if token is None or not same(token.hmac, digest):
        return "access_token_invalid"
    code = unusable(token.state, token.expires_at, now)
    if code is not None:
        return code
    return TokenFacts(
        token_id=token.id, public_id=token.public_id, user_id=token.user_id,
        scopes=frozenset(row.scope.value for row in token.scope_rows), expires_at=token.expires_at,
    )  # fmt: skip


def actor_of(session: Session, *, authorization: str, pepper: bytes, now: datetime) -> Actor:
    """Return the person behind an ``Authorization`` header, with the scopes of the access token as the only powers.

    A header that cannot be used makes an actor whose `token_error` says why; nobody is taken for anonymous by mistake.
    """
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() != "bearer":
        return Actor(token_error="access_token_invalid")  # noqa: S106
    facts = authenticate(session, value=value.strip(), pepper=pepper, now=now)
    if isinstance(facts, str):
        return Actor(token_error=facts)
    user = session.get_one(User, facts.user_id)
    return Actor(
        user_id=user.id, public_id=user.public_id, name=user.profile.name if user.profile else "",
        access_token_id=facts.token_id, scopes=facts.scopes, frozen=_frozen(session, facts, now),
    )  # fmt: skip


def _frozen(session: Session, facts: TokenFacts, now: datetime) -> bool:
    orders = in_force(sanctions.of_person(session, user_id=facts.user_id), now)
    return any(o.kind is SanctionKind.FREEZE_ACCESS_TOKEN and o.target in {"", facts.public_id} for o in orders)


def refresh_actor(session: Session, *, actor: Actor, now: datetime) -> Actor:
    """Return the actor as things are now, for work that goes on: an access token may have ended meanwhile."""
    if actor.access_token_id is None:
        return actor
    token = session.get_one(AccessToken, actor.access_token_id)
    return replace(actor, token_error=unusable(token.state, token.expires_at, now))


def bound_to(session: Session, *, actor: Actor) -> frozenset[int]:
    """Return the models that an access token is bound to; none where it is for all of them."""
    query = sa.select(AccessTokenModel.model_id).where(AccessTokenModel.access_token_id == actor.access_token_id)
    return frozenset(session.scalars(query))


def check_bound(session: Session, *, actor: Actor, model_id: int | None) -> None:
    """Raise where an access token is bound to other models than this one, or than one that is still to be made."""
    bound = bound_to(session, actor=actor)
    if bound and model_id not in bound:
        raise Refused("access_token_wrong_model", "This access token is bound to other models.")


def expiry(session: Session, *, token_id: int) -> datetime:
    """Return when an access token ends by itself."""
    return session.get_one(AccessToken, token_id).expires_at


def refs(session: Session, *, token_ids: Collection[int]) -> dict[int, str]:
    """Return the public ids of access tokens."""
    if not token_ids:
        return {}
    rows = session.execute(sa.select(AccessToken.id, AccessToken.public_id).where(AccessToken.id.in_(token_ids)))
    return {row.id: row.public_id for row in rows}


def of_person(session: Session, *, user_id: int) -> Sequence[AccessToken]:
    """Return the access tokens that a person made, newest first, ended ones included; not those of programs."""
    query = sa.select(AccessToken).where(AccessToken.user_id == user_id, AccessToken.grant_id.is_(None))
    return session.scalars(query.order_by(AccessToken.id.desc())).all()


def live_of(session: Session, *, user_ids: Collection[int], now: datetime) -> list[TokenFacts]:
    """Return what the access tokens of many people say, those that can still be used."""
    query = sa.select(AccessToken.id, AccessToken.public_id, AccessToken.user_id, AccessToken.expires_at)
    rows = session.execute(query.where(among(AccessToken.user_id, user_ids), _live(now)).order_by(AccessToken.id)).all()
    scopes: dict[int, set[str]] = {row.id: set() for row in rows}
    owned = sa.select(AccessTokenScope.access_token_id, AccessTokenScope.scope).join(
        AccessToken, AccessToken.id == AccessTokenScope.access_token_id
    )
    for token_id, scope in session.execute(owned.where(among(AccessToken.user_id, user_ids), _live(now))):
        scopes[token_id].add(scope.value)
    return [TokenFacts(row.id, row.public_id, row.user_id, frozenset(scopes[row.id]), row.expires_at) for row in rows]


def find(session: Session, *, by: Actor, ref: str) -> AccessToken:
    """Return an access token that the actor may end: an own one, or anybody's for staff who may order sanctions."""
    token = session.scalar(sa.select(AccessToken).where(AccessToken.public_id == ref))
    allowed = token is not None and (token.user_id == by.user_id or Permission.PEOPLE_SANCTION in by.permissions)
    if token is None or not allowed:
        raise NotFound("access_token_not_found", "You have no such access token.")
    return token


def revoke(session: Session, *, by: Actor, ref: str, now: datetime) -> AccessToken:
    """End an access token at once; doing so again changes nothing."""
    token = find(session, by=by, ref=ref)
    end(session, token=token, by=by, now=now)
    return token


def report_leak(
    session: Session,
    *,
    found: Sequence[Found],
    source: LeakSource,
    pepper: bytes,
    now: datetime,
    network: str = "",
    body_sha256: str | None = None,
) -> None:
    """Take a list of secrets that somebody found in public; the work is the same whether or not any is real.

    Whether one is real is looked at by `settle_leaks`, so neither the answer nor its time tells.

    Args:
        network: the neighborhood that it comes from; limits hold for each.
        body_sha256: digest of the signed bytes, if they were signed; sending them again does nothing.

    Raises:
        TooMany: this network reported too often within the hour.
    """
    where = sealed(network, pepper) if network else ""
    if source is LeakSource.PUBLIC:
        recent = sa.select(sa.func.count()).select_from(LeakReport)
        since = sa.and_(LeakReport.network == where, LeakReport.received_at > now - LEAK_WINDOW)
        check_leaks(session.scalar(recent.where(since)) or 0)
    items = [[sealed(one.value, pepper), one.shown_place] for one in found]
    # Only signed bytes are unique, and those that came before have been taken.
    with suppress(sa.exc.IntegrityError), session.begin_nested():
        session.add(LeakReport(source=source, network=where, body_sha256=body_sha256, items=items, received_at=now))


def settle_leaks(session: Session, *, by: Actor, base_url: str, now: datetime, limit: int = 5) -> bool:
    """End the access tokens among the secrets that were reported, tell their owners, and say whether more wait."""
    query = sa.select(LeakReport).where(LeakReport.settled_at.is_(None)).order_by(LeakReport.id).limit(limit)
    reports = session.scalars(query.with_for_update(skip_locked=True)).all()
    for report in reports:
        places = dict(reversed(report.items or []))
        for token in _sealed_as(session, list(places)):
            _note_sighting(session, token, report.source, places[token.hmac], now)
            if end(session, token=token, by=by, now=now):
                _tell_leaked(session, token, report.source, by=by, base_url=base_url, now=now)
                report.ended += 1
        report.items, report.settled_at = None, now
    if reports:
        old = sa.and_(LeakReport.source == LeakSource.PUBLIC, LeakReport.ended == 0)
        session.execute(sa.delete(LeakReport).where(old, LeakReport.settled_at < now - LEAK_KEPT))
    session.flush()
    return len(reports) == limit


def _sealed_as(session: Session, digests: Sequence[str]) -> list[AccessToken]:
    found: list[AccessToken] = []
    for start in range(0, len(digests), PART):
        query = sa.select(AccessToken).where(AccessToken.hmac.in_(digests[start : start + PART]))
        found += session.scalars(query.order_by(AccessToken.id))
    return found


def _note_sighting(session: Session, token: AccessToken, source: LeakSource, place: str, now: datetime) -> None:
    seen = sa.select(TokenSighting.id).where(
        TokenSighting.access_token_id == token.id, TokenSighting.source == source, TokenSighting.place == place
    )
    if session.scalar(seen.limit(1)) is None:
        session.add(TokenSighting(access_token_id=token.id, source=source, place=place, seen_at=now))


def _tell_leaked(
    session: Session, token: AccessToken, source: LeakSource, *, by: Actor, base_url: str, now: datetime
) -> None:
    owner = session.get_one(User, token.user_id)
    event = TokenLeaked(subject=token.public_id, owner=owner.public_id, source=source.value)
    audit.record(session, event, by=by, now=now)
    if owner.profile:  # an erased account has no address any more
        notices.queue(
            session, recipient_id=owner.id, address=owner.profile.email, kind="token_leaked",
            subject_ref=token.public_id, subject="An access token of yours was found in public", now=now,
            body=compose_leaked(name=token.name, last4=token.last4, source=source, base_url=base_url),
        )  # fmt: skip


def sightings(session: Session, *, token_ids: Collection[int]) -> dict[int, list[TokenSighting]]:
    """Return where access tokens were seen in public, in order: access token → sightings."""
    found: dict[int, list[TokenSighting]] = {}
    query = sa.select(TokenSighting).where(TokenSighting.access_token_id.in_(token_ids)).order_by(TokenSighting.id)
    for row in session.scalars(query):
        found.setdefault(row.access_token_id, []).append(row)
    return found


def touch_used(session: Session, *, token_id: int, at: datetime) -> None:
    """Remember, by the minute, when an access token was last used."""
    minute = at.replace(second=0, microsecond=0)
    older = sa.or_(AccessToken.last_used_at.is_(None), AccessToken.last_used_at < minute)
    session.execute(sa.update(AccessToken).where(AccessToken.id == token_id, older).values(last_used_at=minute))


def _live(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(AccessToken.state == TokenState.LIVE, AccessToken.expires_at > now)


def end(session: Session, *, token: AccessToken, by: Actor, now: datetime) -> bool:
    """End an access token, whosever it is, and say whether it held until now."""
    if token.state is TokenState.REVOKED:
        return False
    token.state, token.revoked_at = TokenState.REVOKED, now
    session.flush()
    owner = session.get_one(User, token.user_id)
    audit.record(session, TokenRevoked(subject=token.public_id, owner=owner.public_id), by=by, now=now)
    return True
