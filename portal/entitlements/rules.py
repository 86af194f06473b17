"""Asking for a model that is not for everybody who signs: the life of an access request, and how long a yes lasts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.audit.rules import Event
from portal.core.errors import Invalid
from portal.core.machine import Machine

TEXT_MAX = 2_000
PURPOSE_MIN = 20
DAYS_MAX = 3650
DEFAULT_DAYS = 365
WARNED = timedelta(days=30)


class Mode(StrEnum):
    """Whether a model has to be asked for, beside its license, and whether a person answers."""

    OFF = "off"
    AUTO = "auto"
    MANUAL = "manual"


class RequestState(StrEnum):
    """Where an access request is in its life."""

    SUBMITTED = "submitted"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    RESET = "reset"


class RequestAction(StrEnum):
    """What moves an access request."""

    APPROVE = "approve"
    REJECT = "reject"
    REOPEN = "reopen"
    WITHDRAW = "withdraw"
    RESET = "reset"


S, A = RequestState, RequestAction
REQUEST = Machine(
    "access request",
    S.SUBMITTED,
    {
        (S.SUBMITTED, A.APPROVE): S.APPROVED,
        (S.SUBMITTED, A.REJECT): S.REJECTED,
        (S.SUBMITTED, A.WITHDRAW): S.WITHDRAWN,
        (S.SUBMITTED, A.RESET): S.RESET,
        (S.APPROVED, A.REOPEN): S.SUBMITTED,
        (S.APPROVED, A.RESET): S.RESET,
        (S.REJECTED, A.REOPEN): S.SUBMITTED,
        (S.REJECTED, A.RESET): S.RESET,
    },
)


class EndKind(StrEnum):
    """Why an entitlement ended before its day: none of these is a sanction."""

    REOPENED = "reopened"
    RESET = "reset"
    RETURNED = "returned"


@dataclass(frozen=True)
class RequestFormSet(Event, name="access:request_form:set"):
    """It was said what a model asks of people who want it; `mode` says who answers."""

    number: int
    mode: str


@dataclass(frozen=True)
class AccessRequested(Event, name="access:request:created"):
    """Somebody asked for a model, in answer to a form."""

    form: int


@dataclass(frozen=True)
class AccessRequestMoved(Event, name="access:request:moved"):
    """An access request was answered, withdrawn, looked at again or reset."""

    action: str
    state: str


@dataclass(frozen=True)
class EntitlementGranted(Event, name="access:entitlement:created"):
    """An accepted access request entitled its person, until a day."""

    request: str
    valid_to: str


@dataclass(frozen=True)
class EntitlementEnded(Event, name="access:entitlement:ended"):
    """An entitlement ended before its day; `kind` says why, and none is a sanction."""

    kind: str


@dataclass(frozen=True)
class AskFact:
    """What a decision needs to know of one person's asking for one model.

    Args:
        mode: as the newest form of the model says.
        state: of the newest access request; None where there is none.
        since: when that state was reached.
        reason: what the reviewer wrote to the person.
        may_reapply_at: from when a rejected person may ask again.
        valid_to: until when the entitlement lasts; None where there is none, or where it ended before its day.
        returned: the person gave it back.
    """

    mode: Mode = Mode.OFF
    state: RequestState | None = None
    since: datetime | None = None
    reason: str = ""
    may_reapply_at: datetime | None = None
    valid_to: datetime | None = None
    returned: bool = False

    def holds(self, at: datetime) -> bool:
        """Say whether the person is entitled at an instant."""
        return self.valid_to is not None and at < self.valid_to

    def open(self, at: datetime) -> bool:
        """Say whether the person may ask (again) at an instant."""
        if self.state is RequestState.SUBMITTED:
            return False
        if self.state is RequestState.REJECTED and self.may_reapply_at is not None and at < self.may_reapply_at:
            return False
        return not self.holds(at) or self.ending(at)

    def ending(self, at: datetime) -> bool:
        """Say whether the entitlement ends soon."""
        return self.valid_to is not None and at < self.valid_to <= at + WARNED


NOTHING = AskFact()


@dataclass(frozen=True)
class Finding:
    """One thing that a decision has to say about asking."""

    code: str
    blocks: bool
    message: str
    remedy: str = ""
    due_at: datetime | None = None


def found(fact: AskFact, model: str, now: datetime, *, asking: bool = False) -> list[Finding]:
    """Return what stands in the way, or is about to.

    Args:
        asking: the question is whether the person may ask, and not whether they may use the model.
    """
    if fact.mode is Mode.OFF:
        return []
    if asking:
        return [] if fact.open(now) else [_not_again(fact, model, now)]
    if fact.holds(now):
        return [_ending(fact)] if fact.ending(now) else []
    return [_missing(fact, model, now)]


def met(fact: AskFact, model: str, now: datetime) -> list[tuple[str, str]]:
    """Return what holds, for a checklist: code and sentence."""
    holds = fact.mode is not Mode.OFF and fact.holds(now)
    return [("entitlement_active", f"You may use {model} until {fact.valid_to:%Y-%m-%d}.")] if holds else []


def _not_again(fact: AskFact, model: str, now: datetime) -> Finding:
    if fact.holds(now):
        message = f"You may use {model} already."
        return Finding("access_request_needless", True, message, "Use it; you can ask again before that ends.")
    return _missing(fact, model, now)


def _ending(fact: AskFact) -> Finding:
    return Finding(
        "entitlement_ending", False, f"Your access ends on {fact.valid_to:%Y-%m-%d}.", "Ask again.", fact.valid_to
    )


def _missing(fact: AskFact, model: str, now: datetime) -> Finding:
    because = f": {fact.reason.rstrip('.')}." if fact.reason else "."
    match fact.state:
        case RequestState.SUBMITTED:
            message = f"Your request for {model} of {fact.since:%Y-%m-%d} waits for an answer."
            return Finding("access_request_open", True, message, "See where it stands.")
        case RequestState.REJECTED:
            later = fact.may_reapply_at if fact.may_reapply_at is not None and now < fact.may_reapply_at else None
            remedy = f"You can ask again from {later:%Y-%m-%d}." if later else "You can ask again."
            return Finding("access_request_rejected", True, f"Your request for {model} was rejected{because}", remedy)
        case RequestState.RESET:
            message = f"Your access to {model} was reset{because}"
            return Finding("access_request_reset", True, message, "Sign the license again, and ask anew.")
        case RequestState.APPROVED if fact.returned:
            return Finding("entitlement_returned", True, f"You gave your access to {model} back.", "Ask again.")
        case RequestState.APPROVED:
            return Finding("entitlement_expired", True, f"Your access to {model} has expired.", "Ask again.")
        case _:
            return Finding("access_request_missing", True, f"{model} has to be asked for.", "Ask for access.")


def instants(fact: AskFact) -> list[datetime]:
    """Return when the clock alone changes what was found."""
    known = [fact.may_reapply_at, fact.valid_to, fact.valid_to - WARNED if fact.valid_to else None]
    return [moment for moment in known if moment is not None]


def check_purpose(text: str) -> str:
    """Return what a person wants a model for, or raise `Invalid`."""
    if not PURPOSE_MIN <= len(text) <= TEXT_MAX:
        message = f"Say in {PURPOSE_MIN} to {TEXT_MAX:,} characters what you want the model for."
        raise Invalid("purpose", message, field="purpose")
    return text


def check_reason(text: str) -> str:
    """Return what a reviewer tells a person, or raise `Invalid`."""
    if not text or len(text) > TEXT_MAX:
        raise Invalid("reason", f"Give the person a reason of at most {TEXT_MAX:,} characters.", field="reason")
    return text


def check_days(days: int) -> int:
    """Return for how many days a yes lasts, or raise `Invalid`."""
    if not 1 <= days <= DAYS_MAX:
        raise Invalid("days", f"Access lasts 1 to {DAYS_MAX:,} days.", field="days")
    return days


def mail(state: RequestState, *, model: str, reason: str, page: str, until: datetime | None) -> tuple[str, str]:
    """Return subject and body of the message that tells a person how their request was answered."""
    if state is RequestState.APPROVED:
        subject = f"You may use {model}"
        body = f"Your request for {model} was accepted. Your access lasts until {until:%Y-%m-%d}.\n"
    elif state is RequestState.REJECTED:
        subject = f"Your request for {model} was rejected"
        body = f"Your request for {model} was rejected, for this reason:\n\n{reason}\n"
    elif state is RequestState.RESET:
        subject = f"Your access to {model} was reset"
        body = f"Your access to {model} was reset. Sign its license again, and ask anew.\n\n{reason}\n"
    else:
        subject = f"Your request for {model} is looked at again"
        body = f"Your request for {model} is looked at again. Until it is answered you cannot use the model.\n"
    return subject, f"{body}\n{page}\n"
