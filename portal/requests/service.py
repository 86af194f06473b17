"""Asking for a model, and answering: from the console as from scripts that administer a gate, by the same moves."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.models import Requirement
from portal.access.rules import Action, Decision
from portal.accounts import service as accounts
from portal.accounts.models import User
from portal.accounts.rules import storable
from portal.catalog.models import GatedModel
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, NotFound, Refused
from portal.entitlements import service as entitlements
from portal.entitlements.models import AccessRequest, Entitlement, RequestForm
from portal.entitlements.rules import Mode, RequestAction, RequestState, mail
from portal.notices import service as notices
from portal.requests.rules import LAST, NO_REASON, STATES, STATUS, Answer
from portal.signing import service as signing

GRANTED = "Granted by staff; the person did not ask."
PAGE = 100


@dataclass(frozen=True)
class Asked:
    """An access request with its person, its model and what it gave."""

    request: AccessRequest
    user: User
    model: GatedModel
    entitlement: Entitlement | None = None


def may_ask(session: Session, *, by: Actor, full_name: str, now: datetime, base_url: str) -> Decision:
    """Decide whether the actor may ask for a model."""
    return access.check(session, actor=by, model=full_name, action=Action.ASK, now=now, base_url=base_url)


def ask(
    session: Session, *, by: Actor, model: GatedModel, purpose: str, now: datetime, base_url: str,
    purposes: Collection[str] = (),
) -> AccessRequest:  # fmt: skip
    """Ask for a model; where nobody has to look at it, the answer is yes at once.

    Raises:
        Refused: the decision says that the actor may not ask; with all reasons.
        Invalid: the purpose says too little, or too much.
    """
    access.refuse(may_ask(session, by=by, full_name=model.full_name, now=now, base_url=base_url))
    row = entitlements.submit(
        session, user_id=by.id, model_id=model.id, purpose=purpose, purposes=purposes, by=by, now=now
    )  # fmt: skip
    if row.form.mode is Mode.AUTO:
        entitlements.move(session, request=row, action=RequestAction.APPROVE, by=SYSTEM, now=now)
    return row


def withdraw(session: Session, *, by: Actor, model: GatedModel, now: datetime) -> AccessRequest:
    """Take back what the actor asked for."""
    row = entitlements.newest_of(session, user_id=by.id, model_id=model.id)
    if row is None:
        raise NotFound("access_request_not_found", "You did not ask for this model.")
    return entitlements.move(session, request=row, action=RequestAction.WITHDRAW, by=by, now=now)


def give_back(session: Session, *, by: Actor, model: GatedModel, now: datetime) -> None:
    """Give back what the actor was granted; nothing of it is a sanction, and they may ask anew."""
    row = entitlements.newest_of(session, user_id=by.id, model_id=model.id)
    if row is None:
        raise NotFound("access_request_not_found", "You did not ask for this model.")
    entitlements.give_back(session, request=row, by=by, now=now)


def answer(
    session: Session,
    *,
    request: AccessRequest,
    to: Answer,
    by: Actor,
    now: datetime,
    base_url: str,
    reason: str = "",
    wait_days: int = 0,
) -> AccessRequest:
    """Answer an access request, or answer it anew; its person is told by mail.

    Args:
        reason: what the person is told.
        wait_days: after how many days a rejected person may ask again.

    Raises:
        NotFound: it is answered so already, or cannot be answered any more.
        Refused: it is the reviewer's own.
    """
    if request.user_id == by.user_id:
        raise Refused("own_request", "This request is your own. Somebody else has to answer it.")
    if request.state is STATES[to] or request.state in {RequestState.WITHDRAWN, RequestState.RESET}:
        raise NotFound("access_request_answered", f"This access request is {STATUS.get(request.state, 'withdrawn')}.")
    if request.state is not RequestState.SUBMITTED and to in {Answer.ACCEPTED, Answer.REJECTED}:
        entitlements.move(session, request=request, action=RequestAction.REOPEN, by=by, now=now)
    rejected = to is Answer.REJECTED
    entitlements.move(
        session, request=request, action=LAST[to], by=by, now=now, reason=reason or (NO_REASON if rejected else ""),
        may_reapply_at=now + timedelta(days=wait_days) if rejected and wait_days else None,
    )  # fmt: skip
    if to is Answer.RESET:
        asked = sa.select(Requirement.license_id).where(
            Requirement.model_id == request.model_id, Requirement.valid_to.is_(None)
        )
        signing.order_again(
            session, user_id=request.user_id, license_ids=sorted(set(session.scalars(asked))),
            model_id=request.model_id, by=by, now=now,
        )  # fmt: skip
    _tell(session, request, now, base_url)
    return request


def grant(session: Session, *, model: GatedModel, user: User, by: Actor, now: datetime, base_url: str) -> AccessRequest:
    """Let somebody in who did not ask, or whose request waits; signing the license stays theirs to do.

    Raises:
        Conflict: the model need not be asked for, or the person is let in already.
    """
    form = entitlements.form_of(session, model_id=model.id)
    if form is None or form.mode is Mode.OFF:
        raise Conflict("access_request_needless", f"{model.full_name} need not be asked for.")
    row = entitlements.newest_of(session, user_id=user.id, model_id=model.id)
    if row is not None and row.state is RequestState.APPROVED and _lasts(session, row, now):
        raise Conflict("access_granted_already", f"{user.public_id} may use {model.full_name} already.")
    if row is None or row.state is not RequestState.SUBMITTED:
        row = entitlements.submit(session, user_id=user.id, model_id=model.id, purpose=GRANTED, by=by, now=now)
    return answer(session, request=row, to=Answer.ACCEPTED, by=by, now=now, base_url=base_url)


def _lasts(session: Session, request: AccessRequest, now: datetime) -> bool:
    row = entitlements.entitlement_of(session, request=request)
    return row is not None and now < row.valid_to


def find_person(session: Session, *, name: str) -> User:
    """Find a person as scripts name them: by public id, or by address."""
    user = accounts.find_by_email(session, email=name) if "@" in name else None
    return user or accounts.find(session, ref=name if storable(name) else "")


def find_request(session: Session, *, model: GatedModel, user: str = "", ref: str = "") -> AccessRequest:
    """Find the request that a script means: by its id, or the newest one of a person.

    Raises:
        NotFound: there is none about this model.
    """
    if ref:
        row: AccessRequest | None = entitlements.find(session, ref=ref)
    else:
        person = find_person(session, name=user)
        row = entitlements.newest_of(session, user_id=person.id, model_id=model.id)
    if row is None or row.model_id != model.id:
        raise NotFound("access_request_not_found", "There is no such access request for this model.")
    return row


def shown(session: Session, rows: Sequence[AccessRequest]) -> list[Asked]:
    """Return access requests with what pages and scripts say of them."""
    users = {u.id: u for u in session.scalars(sa.select(User).where(User.id.in_([r.user_id for r in rows])))}
    models = {
        m.id: m for m in session.scalars(sa.select(GatedModel).where(GatedModel.id.in_([r.model_id for r in rows])))
    }
    return [
        Asked(row, users[row.user_id], models[row.model_id], entitlements.entitlement_of(session, request=row))
        for row in rows
    ]


def gates(session: Session) -> list[tuple[GatedModel, RequestForm | None, int]]:
    """Return every model with what it asks of people, and how many requests wait."""
    models = session.scalars(sa.select(GatedModel).order_by(GatedModel.namespace, GatedModel.name)).all()
    forms = entitlements.forms_of(session, model_ids=[model.id for model in models])
    waiting = sa.select(AccessRequest.model_id, sa.func.count()).where(AccessRequest.state == RequestState.SUBMITTED)
    counts = {id_: int(count) for id_, count in session.execute(waiting.group_by(AccessRequest.model_id))}
    return [(model, forms.get(model.id), counts.get(model.id, 0)) for model in models]


def _tell(session: Session, request: AccessRequest, now: datetime, base_url: str) -> None:
    profile = session.get_one(User, request.user_id).profile
    if profile is None:
        return
    model = session.get_one(GatedModel, request.model_id).full_name
    row = entitlements.entitlement_of(session, request=request)
    subject, body = mail(
        request.state, model=model, reason=request.reason, page=f"{base_url}/{model}/request",
        until=row.valid_to if row else None,
    )  # fmt: skip
    notices.queue(
        session, recipient_id=request.user_id, address=profile.email, kind="access_request",
        subject_ref=request.public_id, subject=subject, body=body, now=now,
    )  # fmt: skip
