"""Keeping access requests and what they gave; every move is the newest request's, and an event."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit import service as audit
from portal.core.actor import Actor
from portal.core.db import among, hold
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.entitlements.models import AccessRequest, AccessRequestPurpose, Entitlement, EntitlementEnd, RequestForm
from portal.entitlements.rules import (
    DEFAULT_DAYS,
    REQUEST,
    TEXT_MAX,
    AccessRequested,
    AccessRequestMoved,
    AskFact,
    EndKind,
    EntitlementEnded,
    EntitlementGranted,
    Mode,
    RequestAction,
    RequestFormSet,
    RequestState,
    check_days,
    check_purpose,
    check_reason,
)  # fmt: skip

QUESTION = "What do you want the model for? Name the project, and who else will use it."
ENDS = {RequestAction.REOPEN: EndKind.REOPENED, RequestAction.RESET: EndKind.RESET}


def form_of(session: Session, *, model_id: int) -> RequestForm | None:
    """Return what a model asks of people who want it; None where it never asked for anything."""
    query = sa.select(RequestForm).where(RequestForm.model_id == model_id).order_by(RequestForm.number.desc())
    return session.scalar(query.limit(1))


def forms_of(session: Session, *, model_ids: Sequence[int]) -> dict[int, RequestForm]:
    """Return what models ask of people who want them, by model id."""
    newest = sa.select(sa.func.max(RequestForm.id)).where(RequestForm.model_id.in_(model_ids))
    rows = session.scalars(sa.select(RequestForm).where(RequestForm.id.in_(newest.group_by(RequestForm.model_id))))
    return {row.model_id: row for row in rows}


def set_form(
    session: Session,
    *,
    model_id: int,
    model_ref: str,
    mode: Mode,
    by: Actor,
    now: datetime,
    question: str = "",
    days: int | None = None,
) -> RequestForm:
    """Say what a model asks of people who want it, from now on; saying the same again changes nothing.

    Args:
        question: what people are asked; as before if empty.
        days: how long a yes lasts; as before if None.
    """
    before = form_of(session, model_id=model_id)
    question = question[:TEXT_MAX] or (before.question if before else QUESTION)
    days = check_days(days if days is not None else before.days if before else DEFAULT_DAYS)
    if before is not None and (before.mode, before.question, before.days) == (mode, question, days):
        return before
    row = RequestForm(
        model_id=model_id, number=before.number + 1 if before else 1, mode=mode, question=question, days=days,
        created_at=now, created_by=by.public_id,
    )  # fmt: skip
    session.add(row)
    session.flush()
    audit.record(session, RequestFormSet(subject=model_ref, number=row.number, mode=mode.value), by=by, now=now)
    return row


def facts_of(session: Session, *, user_ids: Sequence[int], model_ids: Sequence[int]) -> dict[int, dict[int, AskFact]]:
    """Return what decisions need to know of people's asking for models: person → model → fact.

    Only models that have to be asked for are named; person 0 stands for everybody who never asked for any.
    """
    forms = forms_of(session, model_ids=model_ids)
    asked = [model_id for model_id, form in forms.items() if form.mode is not Mode.OFF]
    never = {id_: AskFact(forms[id_].mode) for id_ in asked}
    found = {0: never}
    if not user_ids or not asked:
        return found
    a, e = AccessRequest, Entitlement
    theirs = sa.select(a).where(among(a.user_id, user_ids), a.model_id.in_(asked)).order_by(a.id)
    newest = {(row.user_id, row.model_id): row for row in session.scalars(theirs)}
    given = sa.select(e, EntitlementEnd).outerjoin(EntitlementEnd, EntitlementEnd.entitlement_id == e.id)
    given = given.where(among(e.user_id, user_ids), e.model_id.in_(asked)).order_by(e.id)
    granted = {(row.user_id, row.model_id): (row, end) for row, end in session.execute(given)}
    for (user_id, model_id), request in newest.items():
        fact = _fact(forms[model_id], request, granted.get((user_id, model_id)))
        found.setdefault(user_id, dict(never))[model_id] = fact
    return found


def _fact(
    form: RequestForm, request: AccessRequest, given: tuple[Entitlement, EntitlementEnd | None] | None
) -> AskFact:
    entitlement, end = given or (None, None)
    return AskFact(
        form.mode, request.state, request.moved_at, request.reason, request.may_reapply_at,
        entitlement.valid_to if entitlement is not None and end is None else None,
        end is not None and end.kind is EndKind.RETURNED,
    )  # fmt: skip


def newest_of(session: Session, *, user_id: int, model_id: int) -> AccessRequest | None:
    """Return a person's newest request for a model."""
    query = sa.select(AccessRequest).where(AccessRequest.user_id == user_id, AccessRequest.model_id == model_id)
    return session.scalar(query.order_by(AccessRequest.id.desc()).limit(1))


def purposes_of(session: Session, *, request: AccessRequest) -> list[str]:
    """Return the intended uses that were declared with a request."""
    query = sa.select(AccessRequestPurpose.stable_key).where(AccessRequestPurpose.access_request_id == request.id)
    return list(session.scalars(query.order_by(AccessRequestPurpose.stable_key)))


def declared(session: Session, *, model_id: int) -> dict[int, frozenset[str]]:
    """Return the intended uses that people declared when they last asked for a model; some declared none."""
    last = sa.select(sa.func.max(AccessRequest.id)).where(AccessRequest.model_id == model_id)
    query = sa.select(AccessRequest.user_id, AccessRequestPurpose.stable_key).join(
        AccessRequestPurpose, AccessRequestPurpose.access_request_id == AccessRequest.id
    )
    found: dict[int, set[str]] = {}
    for user_id, key in session.execute(query.where(AccessRequest.id.in_(last.group_by(AccessRequest.user_id)))):
        found.setdefault(user_id, set()).add(key)
    return {user_id: frozenset(keys) for user_id, keys in found.items()}


def find(session: Session, *, ref: str) -> AccessRequest:
    """Find an access request by public id, or raise `NotFound`."""
    row = session.scalar(sa.select(AccessRequest).where(AccessRequest.public_id == ref))
    if row is None:
        raise NotFound("access_request_not_found", "There is no such access request.")
    return row


def listed(
    session: Session, *, state: RequestState, model_id: int | None = None, after_id: int = 0, limit: int = 100
) -> Sequence[AccessRequest]:
    """Return access requests in a state that are their person's newest for the model, oldest first."""
    newest = sa.select(sa.func.max(AccessRequest.id)).group_by(AccessRequest.user_id, AccessRequest.model_id)
    query = sa.select(AccessRequest).where(
        AccessRequest.state == state, AccessRequest.id > after_id, AccessRequest.id.in_(newest)
    )
    if model_id is not None:
        query = query.where(AccessRequest.model_id == model_id)
    return session.scalars(query.order_by(AccessRequest.id).limit(limit)).all()


def submit(
    session: Session, *, user_id: int, model_id: int, purpose: str, by: Actor, now: datetime,
    purposes: Collection[str] = (),
) -> AccessRequest:  # fmt: skip
    """Ask for a model in somebody's name; whether they may ask is decided before.

    Args:
        purposes: keys of the intended uses of the model's card that are declared.

    Raises:
        Conflict: the model asks for nothing, or the person asked already.
    """
    hold(session, User.id, user_id)
    form = form_of(session, model_id=model_id)
    if form is None or form.mode is Mode.OFF:
        raise Conflict("access_request_needless", "This model need not be asked for.")
    before = newest_of(session, user_id=user_id, model_id=model_id)
    if before is not None and before.state is RequestState.SUBMITTED:
        raise Conflict("access_request_open", "You asked for this model already; the request waits for an answer.")
    row = AccessRequest(
        public_id=public_id("ask"), model_id=model_id, form_id=form.id, form=form, user_id=user_id,
        purpose=check_purpose(purpose), asked_at=now, moved_at=now, moved_by=by.public_id,
    )  # fmt: skip
    session.add(row)
    session.flush()
    session.add_all(AccessRequestPurpose(access_request_id=row.id, stable_key=key) for key in sorted(set(purposes)))
    session.flush()
    audit.record(session, AccessRequested(subject=row.public_id, form=form.number), by=by, now=now)
    return row


def move(
    session: Session,
    *,
    request: AccessRequest,
    action: RequestAction,
    by: Actor,
    now: datetime,
    reason: str = "",
    may_reapply_at: datetime | None = None,
) -> AccessRequest:
    """Move an access request, and with it what it gave: accepting entitles, looking at it again ends that.

    Raises:
        Conflict: it cannot move so from where it is, or it is not the person's newest for the model.
        Invalid: a rejection without a reason for the person.
    """
    hold(session, User.id, request.user_id)
    newest = newest_of(session, user_id=request.user_id, model_id=request.model_id)
    if newest is None or newest.id != request.id:
        raise Conflict("access_request_superseded", "The person has asked anew since. Answer the newer request.")
    request.state = REQUEST.next(request.state, action)
    if action is RequestAction.REJECT:
        check_reason(reason)
    request.reason, request.may_reapply_at = reason[:TEXT_MAX], may_reapply_at
    request.moved_at, request.moved_by = now, by.public_id
    session.flush()
    event = AccessRequestMoved(subject=request.public_id, action=action.value, state=request.state.value)
    audit.record(session, event, by=by, now=now)
    if action in ENDS:
        _end(session, request, ENDS[action], by, now)
    if action is RequestAction.APPROVE:
        _grant(session, request, by, now)
    return request


def give_back(session: Session, *, request: AccessRequest, by: Actor, now: datetime) -> None:
    """End what an accepted request gave, as its person wishes; they may ask anew.

    Raises:
        Conflict: nothing is left of it.
    """
    hold(session, User.id, request.user_id)
    row = entitlement_of(session, request=request)
    if row is None or row.valid_to <= now or not _end(session, request, EndKind.RETURNED, by, now):
        raise Conflict("entitlement_over", "You have no access to give back.")


def entitlement_of(session: Session, *, request: AccessRequest) -> Entitlement | None:
    """Return what an access request gave last, whether it ended since or not."""
    query = sa.select(Entitlement).where(Entitlement.access_request_id == request.id)
    return session.scalar(query.order_by(Entitlement.id.desc()).limit(1))


def _grant(session: Session, request: AccessRequest, by: Actor, now: datetime) -> None:
    row = Entitlement(
        public_id=public_id("ent"), user_id=request.user_id, model_id=request.model_id, access_request_id=request.id,
        valid_from=now, valid_to=now + timedelta(days=request.form.days),
    )  # fmt: skip
    session.add(row)
    session.flush()
    event = EntitlementGranted(subject=row.public_id, request=request.public_id, valid_to=row.valid_to.isoformat())
    audit.record(session, event, by=by, now=now)


def _end(session: Session, request: AccessRequest, kind: EndKind, by: Actor, now: datetime) -> bool:
    row = entitlement_of(session, request=request)
    over = sa.select(EntitlementEnd.id).where(EntitlementEnd.entitlement_id == row.id) if row else None
    if row is None or (over is not None and session.scalar(over) is not None):
        return False
    session.add(EntitlementEnd(entitlement_id=row.id, kind=kind, by=by.public_id, at=now))
    session.flush()
    audit.record(session, EntitlementEnded(subject=row.public_id, kind=kind.value), by=by, now=now)
    return True
