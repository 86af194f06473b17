"""Making access tokens: a program is given one only while its person could use what it opens."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action, Decision, Reason
from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import Standing, standing_at
from portal.audit import service as audit
from portal.audit.rules import DeviceApproved, DeviceConsumed, DeviceDenied
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.catalog.rules import RepoKind, parts_of
from portal.core.actor import Actor
from portal.core.db import hold
from portal.core.errors import Conflict, Invalid, PortalError, Refused, TooMany
from portal.core.ids import public_id
from portal.licensing import service as licensing
from portal.oauth import rules
from portal.oauth.models import DeviceCode, DeviceMistake
from portal.oauth.rules import DEVICE, DeviceAction, DeviceState, signed_scopes
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import TokenState, check_new, lacking, sealed

SOME = 100  # models that are offered while none has any files


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
    means: str = "direct",
) -> tuple[AccessToken, str]:
    """Make an access token for the actor and return it with its secret, if the decision allows renewing.

    Args:
        models: names of the models that it is bound to; none means all.
        means: how it comes about.

    Raises:
        Invalid: a field cannot be taken.
        NotFound: a model does not exist.
        Refused: what the decision says of a named model, or of every model when none is named; with all reasons.
            Reading one's own usage asks nothing of the decision.
    """
    check_new(name, scopes, days)
    _check_staff_scopes(session, scopes, by, now)
    bound = [_bindable(session, model, scopes) for model in sorted(set(models))]
    decisions = _decisions(session, by, bound, now, base_url) if signed_scopes(scopes) else []
    _refuse(_in_the_way(decisions, every=bool(bound)))
    return tokens.issue(
        session, by=by, owner_id=by.id, name=name, scopes=scopes, model_ids=[model.id for model in bound], days=days,
        pepper=pepper, now=now, means=means, signature_set=_signatures(session, decisions),
    )  # fmt: skip


def relied_on(session: Session, *, by: Actor, scopes: Collection[str], base_url: str, now: datetime) -> str | None:
    """Return the name of the signatures that let the actor have an access token for every model with some scopes."""
    return _signatures(session, _decisions(session, by, [], now, base_url)) if signed_scopes(scopes) else None


def _signatures(session: Session, decisions: Sequence[Decision]) -> str | None:
    relied = sorted({row.signature_id for decision in decisions if decision.allowed for row in decision.relied_on})
    return licensing.ensure_set(session, signature_ids=relied) if relied else None


def _check_staff_scopes(session: Session, scopes: Collection[str], by: Actor, now: datetime) -> None:
    """Raise where a scope for staff is asked for by somebody whose role does not go with it."""
    wrong = lacking(scopes, accounts.permissions(session, user_id=by.id, now=now))
    if wrong:
        message = f"{wrong[0]} is for staff, and your role does not include it."
        raise Invalid("token_scopes", message, field="scopes")


def _bindable(session: Session, full_name: str, scopes: Collection[str]) -> GatedModel:
    """Find a model to bind an access token to; staff who only write also name one that nobody else sees yet."""
    find = catalog.find_model if signed_scopes(scopes) else catalog.find_any_model
    return find(session, full_name=full_name)


def renewable(session: Session, *, by: Actor, now: datetime, base_url: str) -> list[tuple[GatedModel, Decision]]:
    """Return each model or dataset with files and whether the actor may have an access token for it.

    As long as none has any, some that have none count.
    """

    def found(**which: Any) -> list[tuple[GatedModel, Decision]]:
        rows = access.models_with_decisions(
            session, actor=by, action=Action.RENEW, now=now, base_url=base_url, kinds=list(RepoKind), **which
        )
        return [(model, decision) for model, _, decision in rows]

    return found(released=True) or found(part=(0, SOME))


@dataclass(frozen=True)
class Trial:
    """What an access token is good for at one model.

    Args:
        error: why it cannot be used at all; empty if it can.
        token: it, where it is the visitor's own.
        decisions: what it may do there.
    """

    error: str = ""
    token: AccessToken | None = None
    decisions: tuple[Decision, ...] = ()


def try_out(
    session: Session, *, by: Actor, secret: str, model: str, pepper: bytes, base_url: str, now: datetime
) -> Trial:
    """Say whether an access token of the actor works, and decide for it as if it asked for a model; nothing is used."""
    found = tokens.actor_of(session, authorization=f"Bearer {secret}", pepper=pepper, now=now)
    if found.token_error is not None:
        return Trial(found.token_error)
    if found.user_id != by.user_id or found.access_token_id is None:
        return Trial("access_token_foreign")
    actions = (Action.DOWNLOAD, Action.INFER) if parts_of(model)[0] is RepoKind.MODEL else (Action.DOWNLOAD,)
    decisions = tuple(
        access.check(session, actor=found, model=model, action=action, now=now, base_url=base_url) for action in actions
    )
    return Trial(token=session.get_one(AccessToken, found.access_token_id), decisions=decisions)


def check_name_free(session: Session, *, by: Actor, name: str, now: datetime) -> None:
    """Raise `Invalid` while the actor has a usable access token of that name; sending a form twice makes one."""
    hold(session, User.id, by.id)
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


def _decisions(
    session: Session, by: Actor, bound: Sequence[GatedModel], now: datetime, base_url: str
) -> list[Decision]:
    """Return what is decided of some models, or of every model where none is named."""
    if not bound:
        decisions = [decision for _, decision in renewable(session, by=by, now=now, base_url=base_url)]
        if not decisions:
            raise Invalid("models_none", "No model is published here yet, so there is nothing to open.", field="scopes")
        return decisions
    return [
        access.check(session, actor=by, model=model.full_name, action=Action.RENEW, now=now, base_url=base_url)
        for model in bound
    ]


def _in_the_way(decisions: Sequence[Decision], *, every: bool) -> list[Decision]:
    """Return the decisions that say no; none where one yes is enough and there is one."""
    refusing = [decision for decision in decisions if not decision.allowed]
    return refusing if every or len(refusing) == len(decisions) else []


def reasons_of(decisions: Sequence[Decision]) -> tuple[Reason, ...]:
    """Return what blocks in some decisions, each reason once."""
    return tuple(dict.fromkeys(reason for decision in decisions for reason in decision.blocking))


def _refuse(decisions: Sequence[Decision]) -> None:
    if decisions:
        reasons = reasons_of(decisions)
        first = reasons[0]
        raise Refused(first.code, first.message, reasons=reasons, status=decisions[0].status, url=first.url or None)


@dataclass(frozen=True)
class Begun:
    """What a terminal is told when it asks to be let in; nothing of it is told again."""

    device_code: str
    user_code: str


@dataclass(frozen=True)
class Exchange:
    """What came of a terminal's question: an access token's secret, or the word that says why there is none."""

    error: str = ""
    description: str = ""
    secret: str = ""
    scopes: str = ""


def begin(
    session: Session, *, client_id: str, scope: str, network: str, user_agent: str, pepper: bytes, now: datetime
) -> Begun:
    """Remember that a terminal asks to be let in; whoever is behind it is known once somebody approves.

    Args:
        scope: what it asks for, separated by spaces.
        network: the neighborhood that it calls from, as the page shows it.

    Raises:
        OAuthError: the client or a scope is unknown.
        TooMany: many terminals of that neighborhood wait already.
    """
    rules.client_name(client_id)
    scopes = rules.read_scopes(scope)
    session.execute(sa.delete(DeviceCode).where(DeviceCode.expires_at < now - rules.KEPT))
    waiting = sa.select(sa.func.count()).select_from(DeviceCode).where(
        DeviceCode.network == network, DeviceCode.state == DeviceState.PENDING, DeviceCode.expires_at > now
    )  # fmt: skip
    if session.scalar(waiting) >= rules.MOST_WAITING:  # type: ignore[operator]
        message = "Many terminals of your network wait to be let in. Try again in some minutes."
        raise TooMany("device_codes_too_many", message, retry_after=int(rules.LIFE.total_seconds()) // 2)
    secret, user_code = rules.new_device_code(), rules.new_user_code()
    while session.scalar(sa.select(DeviceCode.id).where(DeviceCode.user_code == user_code)):
        user_code = rules.new_user_code()
    row = DeviceCode(
        public_id=public_id("dev"), hmac=_sealed(secret, pepper), user_code=user_code, client_id=client_id,
        scopes=" ".join(scopes), network=network, user_agent=user_agent.replace("\0", "")[: rules.AGENT_MAX],
        created_at=now, expires_at=now + rules.LIFE, interval=rules.INTERVAL,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return Begun(secret, rules.shown_code(user_code))


def look(session: Session, *, by: Actor, user_code: str, now: datetime) -> DeviceCode | None:
    """Return the terminal that shows a code: one that waits, or one that the actor decided about.

    A code that no terminal shows is counted against the person.

    Raises:
        TooMany: the person typed many such codes lately.
    """
    recent = sa.and_(DeviceMistake.user_id == by.id, DeviceMistake.at > now - rules.WRONG_WINDOW)
    wrong, last_at = session.execute(
        sa.select(sa.func.count(), sa.func.max(DeviceMistake.at)).where(recent)
    ).one()  # fmt: skip
    seconds = rules.wrong_delay(wrong, last_at, now)
    if seconds:
        message = f"You typed many codes that no terminal shows. Wait {seconds} seconds and try again."
        raise TooMany("codes_too_many", message, retry_after=seconds)
    code = rules.read_user_code(user_code)
    row = session.scalar(sa.select(DeviceCode).where(DeviceCode.user_code == code))
    if row is not None and (row.decided_by_id == by.id or _waits(row, now)):
        return row
    session.execute(sa.delete(DeviceMistake).where(DeviceMistake.at <= now - rules.WRONG_WINDOW))
    session.add(DeviceMistake(user_id=by.id, at=now))
    session.flush()
    return None


def missing(session: Session, *, by: Actor, scopes: str, now: datetime, base_url: str) -> tuple[Reason, ...]:
    """Return what keeps the actor from letting a terminal in that asks for some scopes; nothing where they may."""
    if signed_scopes(scopes.split()):
        try:
            return reasons_of(_in_the_way(_decisions(session, by, [], now, base_url), every=False))
        except Invalid as error:
            return (Reason(error.code, 2, True, error.message),)
    user = session.get_one(User, by.id)
    ended = user.standing_until is not None and now >= user.standing_until
    if standing_at(user.standing, ended) is Standing.ACTIVE:
        return ()
    message, remedy = "Your account is suspended.", "Read the statement of reasons; you can appeal there."
    return (Reason("standing_suspended", 1, True, message, remedy, f"{base_url}/appeal/{user.standing_ref}"),)


def approve(session: Session, *, by: Actor, ref: str, base_url: str, now: datetime) -> DeviceCode:
    """Let a terminal in; doing so again changes nothing.

    Raises:
        Refused: the actor could not be given what it asks for; with all reasons.
        Conflict: it waits no more.
    """
    row = _undecided(session, ref, by, now)
    if row.decided_by_id == by.id and row.state in {DeviceState.APPROVED, DeviceState.CONSUMED}:
        return row
    reasons = missing(session, by=by, scopes=row.scopes, now=now, base_url=base_url)
    if reasons:
        raise Refused(reasons[0].code, reasons[0].message, reasons=reasons, url=reasons[0].url or None)
    _decide(row, DeviceAction.APPROVE, by, now)
    event = DeviceApproved(subject=row.public_id, client=row.client_id, scopes=row.scopes)
    audit.record(session, event, by=by, now=now)
    return row


def deny(session: Session, *, by: Actor, ref: str, now: datetime) -> DeviceCode:
    """Turn a terminal away; doing so again changes nothing.

    Raises:
        Conflict: it waits no more.
    """
    row = _undecided(session, ref, by, now)
    if row.decided_by_id == by.id and row.state is DeviceState.DENIED:
        return row
    _decide(row, DeviceAction.DENY, by, now)
    event = DeviceDenied(subject=row.public_id, client=row.client_id, reason="by_person")
    audit.record(session, event, by=by, now=now)
    return row


def exchange(
    session: Session, *, device_code: str, client_id: str, pepper: bytes, base_url: str, now: datetime
) -> Exchange:
    """Answer a terminal that asks whether it was let in; of all its questions one is answered with an access token.

    What goes wrong is returned, not raised, since each question leaves its mark.
    """
    client = rules.client_name(client_id)
    found = session.scalar(sa.select(DeviceCode.id).where(DeviceCode.hmac == _sealed(device_code, pepper)))
    if found is None:
        return Exchange("invalid_grant", "This device_code is unknown.")
    hold(session, DeviceCode.id, found)  # of two questions at once, one finds that it is too late
    row = session.get_one(DeviceCode, found)
    if row.client_id != client_id:
        return Exchange("invalid_grant", f"This device_code was not given to the client {client}.")
    if row.state in {DeviceState.PENDING, DeviceState.APPROVED} and now >= row.expires_at:
        row.state = DEVICE.next(row.state, DeviceAction.EXPIRE)  # the clock did it, and the row says so: no event
    last, row.last_polled_at = row.last_polled_at, now
    if row.state is DeviceState.APPROVED:
        return _hand_over(session, row, pepper, base_url, now)
    if row.state is DeviceState.PENDING and rules.too_fast(last, row.interval, now):
        row.interval += rules.SLOWER
        return Exchange("slow_down", f"Wait {row.interval} seconds between two questions.")
    return {
        DeviceState.PENDING: Exchange("authorization_pending", "Nobody has decided yet."),
        DeviceState.DENIED: Exchange("access_denied", "The request was turned down."),
        DeviceState.EXPIRED: Exchange("expired_token", "The code was too old. Ask for a new one."),
        DeviceState.CONSUMED: Exchange("invalid_grant", "This device_code was used already."),
    }[row.state]


def _hand_over(session: Session, row: DeviceCode, pepper: bytes, base_url: str, now: datetime) -> Exchange:
    """Make the access token of a terminal that was let in, unless its person may not be given one any more."""
    by = accounts.acting(session.get_one(User, row.decided_by_id))
    scopes = row.scopes.split()
    try:
        reasons = missing(session, by=by, scopes=row.scopes, now=now, base_url=base_url)
        if reasons:
            raise Refused(reasons[0].code, reasons[0].message)
        token, secret = mint(
            session, by=by, name=rules.token_name(row.client_id, now), scopes=scopes, models=(), days=rules.TOKEN_DAYS,
            pepper=pepper, base_url=base_url, now=now, means="device_login",
        )  # fmt: skip
    except PortalError as error:
        row.state = DEVICE.next(row.state, DeviceAction.DENY)
        event = DeviceDenied(subject=row.public_id, client=row.client_id, reason=error.code)
        audit.record(session, event, by=by, now=now)
        return Exchange("access_denied", error.message)
    row.state, row.access_token_id = DEVICE.next(row.state, DeviceAction.CONSUME), token.id
    done = DeviceConsumed(subject=row.public_id, client=row.client_id, access_token=token.public_id)
    audit.record(session, done, by=by, now=now)
    session.flush()
    return Exchange(secret=secret, scopes=row.scopes)


def _sealed(device_code: str, pepper: bytes) -> str:
    return sealed(f"device code\0{device_code}", pepper)


def _waits(row: DeviceCode, now: datetime) -> bool:
    return row.state is DeviceState.PENDING and now < row.expires_at


def _undecided(session: Session, ref: str, by: Actor, now: datetime) -> DeviceCode:
    """Return a terminal that waits, and keep others from deciding meanwhile; or one that the actor decided about."""
    row = session.scalars(sa.select(DeviceCode).where(DeviceCode.public_id == ref)).one()
    hold(session, DeviceCode.id, row.id)
    if row.decided_by_id != by.id and not _waits(row, now):
        raise Conflict("device_code_gone", "This terminal waits no more. Start the sign-in there anew.", url="/device")
    return row


def _decide(row: DeviceCode, action: DeviceAction, by: Actor, now: datetime) -> None:
    row.state = DEVICE.next(row.state, action)
    row.decided_by_id, row.decided_at = by.id, now
