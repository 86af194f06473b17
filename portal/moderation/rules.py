"""Case decisions: what a person found and orders, who may order it, and how a reversal reads."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from portal.audit.rules import Event
from portal.core.errors import Invalid, Refused
from portal.core.machine import Machine
from portal.sanctions.rules import PERMANENT, Effects, Measure, SanctionFact, SanctionKind, check_measure
from portal.statements.rules import check_grounds, day, plain
from portal.strikes.rules import Intent

PROGRAM = "program"
ACTION = "moderation:decide"
MEASURES_MAX = 8


class Finding(StrEnum):
    """What a person found."""

    VIOLATION = "violation"
    NONE = "none"
    INCONCLUSIVE = "inconclusive"


class DecisionState(StrEnum):
    """Whether a case decision stands."""

    IN_FORCE = "in_force"
    OVERTURNED = "overturned"


class DecisionAction(StrEnum):
    """What moves a case decision."""

    OVERTURN = "overturn"


DECISION = Machine(
    "case decision",
    DecisionState.IN_FORCE,
    {(DecisionState.IN_FORCE, DecisionAction.OVERTURN): DecisionState.OVERTURNED},
)


class Phase(StrEnum):
    """How a case decision stands at an instant; what the clock changed is not stored."""

    IN_FORCE = "in_force"
    INTERIM = "interim"
    SERVED = "served"
    LAPSED = "lapsed"
    OVERTURNED = "overturned"


@dataclass(frozen=True)
class DecisionTaken(Event, name="moderation:case_decision:created"):
    """A case was decided; `clauses` are the stable keys that were broken, and `confirmed_by` the second person."""

    case: str
    user: str
    finding: str
    clauses: str
    confirmed_by: str


@dataclass(frozen=True)
class DecisionConfirmed(Event, name="moderation:case_decision:confirmed"):
    """A person stands behind what a program decided for the time being."""

    case: str


@dataclass(frozen=True)
class DecisionLapsed(Event, name="moderation:case_decision:lapsed"):
    """Nobody confirmed what a program had decided: it ended by itself, or when a person decided its case."""

    case: str


def phase_at(
    state: DecisionState, sanctions: Sequence[SanctionFact], lapses_at: datetime | None, now: datetime
) -> Phase:  # fmt: skip
    """Return how a case decision stands at an instant.

    Args:
        lapses_at: when it ends unless a person confirms it; None where a person stands behind it.
    """
    if state is DecisionState.OVERTURNED:
        return Phase.OVERTURNED
    if lapses_at is not None:
        return Phase.INTERIM if now < lapses_at else Phase.LAPSED
    return Phase.IN_FORCE if any(s.holds(now) for s in sanctions) else Phase.SERVED


@dataclass(frozen=True)
class Order:
    """What a person decides about a case.

    Args:
        clause_keys: stable keys of the clauses that were broken, as the person signed them.
        facts: what happened, in words that the person concerned reads.
        strike: whether it counts towards later decisions.
    """

    finding: Finding
    intent: Intent = Intent.NONE
    clause_keys: tuple[str, ...] = ()
    facts: str = ""
    measures: tuple[Measure, ...] = ()
    strike: bool = False

    @property
    def tells(self) -> bool:
        """Say whether the person concerned is told."""
        return self.finding is Finding.VIOLATION

    @property
    def needs_two(self) -> bool:
        """Say whether a second person has to confirm it."""
        return any(measure.kind in PERMANENT for measure in self.measures)

    @property
    def until(self) -> datetime | None:
        """When the last of it ends by itself."""
        return max((m.until for m in self.measures if m.until is not None), default=None)


def check_order(order: Order, *, now: datetime, interim: bool = False) -> None:
    """Raise `Invalid`, naming the field, unless a case can be decided so."""
    if order.finding is not Finding.VIOLATION:
        if order.measures or order.strike:
            raise Invalid("nothing_found", "Without a violation there is no sanction and no strike.", field="finding")
        return
    check_grounds(facts=order.facts, clause_keys=order.clause_keys)
    if len(order.measures) > MEASURES_MAX:
        raise Invalid("measures_many", f"Order at most {MEASURES_MAX} sanctions at once.", field="kind")
    if order.strike and order.intent is Intent.NONE:
        raise Invalid("intent_missing", "A strike says with what intent a clause was broken.", field="intent")
    for measure in order.measures:
        check_measure(measure, now=now, interim=interim)


def payload(order: Order, *, person: str, state: Sequence[str]) -> dict[str, Any]:
    """Return exactly what an order does to whom, as two people agree on it.

    Args:
        state: the standing of the person, the sanctions in force and the decisions so far; any change of it makes
            the agreement void.
    """
    measures = [asdict(m) | {"until": m.until.isoformat() if m.until else None} for m in order.measures]
    return {
        "reason": plain(order.facts), "person": person, "finding": order.finding.value, "intent": order.intent.value,
        "clauses": sorted(order.clause_keys), "measures": measures, "strike": order.strike, "state": list(state),
    }  # fmt: skip


def order_of(body: dict[str, Any]) -> Order:
    """Read back the order that a payload holds."""
    measures = tuple(
        Measure(**{
            **m, "kind": SanctionKind(m["kind"]), "until": datetime.fromisoformat(m["until"]) if m["until"] else None
        })
        for m in body["measures"]
    )  # fmt: skip
    return Order(
        Finding(body["finding"]), Intent(body["intent"]), tuple(body["clauses"]), body["reason"], measures,
        body["strike"],
    )  # fmt: skip


def check_may_order(*, by_user: int | None, user_id: int, concerns_staff: bool, manages_staff: bool) -> None:
    """Raise `Refused` when somebody would decide about themselves, or about staff without the power to.

    Args:
        by_user: who decides; None for the operators, who act over the command line, and for programs.
        user_id: the person concerned.
        concerns_staff: the person concerned holds a staff role.
        manages_staff: who decides may manage staff.
    """
    if by_user is None:
        return
    if by_user == user_id:
        raise Refused("own_case", "Somebody else decides about your own account.")
    if concerns_staff and not manages_staff:
        raise Refused("staff_case", "This person is staff; an admin decides about their account.")


def milder(measure: Measure, until: datetime) -> Measure:
    """Return what is left of a measure that is made milder: it ends at an instant, and nothing is for good."""
    kind = {SanctionKind.CLOSE: SanctionKind.SUSPEND, SanctionKind.REVOKE_ENTITLEMENT: SanctionKind.SUSPEND_ENTITLEMENT}
    ends = min(measure.until, until) if measure.until is not None else until
    return Measure(
        kind.get(measure.kind, measure.kind), ends, measure.target, measure.action, measure.calls, measure.text_tokens
    )


def compose_correction(*, ref: str, base_url: str, reason: str, left: Effects, others: int) -> str:
    """Write the correction of an earlier notice, once its decision was overturned.

    Args:
        left: the standing that the sanctions still in force amount to.
        others: how many sanctions are still in force.
    """
    if left.closed_by:
        rest = "Another decision still stands: your account stays closed."
    elif left.suspended_until is not None:
        rest = f"Another decision still stands: your account stays suspended until {day(left.suspended_until)}."
    elif others:
        rest = "Your account is active. Other decisions still restrict something; your settings show what."
    else:
        rest = "Your account is active; signatures and access tokens work as before."
    return f"""The decision told to you under {base_url}/appeal/{ref} is overturned and counts no more.

WHY
{plain(reason)}

WHERE THIS LEAVES YOU
{rest}
This corrects our earlier notice.
"""


def compose_lapsed(*, ref: str, base_url: str) -> str:
    """Write the notice that nobody confirmed what a program had decided."""
    return f"""What a detection rule decided about your account has ended by itself: nobody confirmed it.
It counts for nothing. What it was: {base_url}/appeal/{ref}
"""


def compose_replaced(*, ref: str) -> str:
    """Write the notice that a person has decided a case in which a program had."""
    return f"""What a detection rule decided about your account for the time being ({ref}) has ended.
It counts for nothing: a person has decided the case. If anything follows from that, a letter of its own says so.
"""


def compose_confirmed(*, ref: str, base_url: str, until: datetime | None) -> str:
    """Write the notice that a person stands behind what a program had decided."""
    end = f" It ends on {day(until)}." if until else ""
    return f"""A person has looked at what a detection rule decided about your account, and stands behind it.{end}
The reasons, and how to contest them: {base_url}/appeal/{ref}
"""
