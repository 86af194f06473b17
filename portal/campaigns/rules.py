"""How those who must sign a new version are asked, reminded and counted, until the campaign is cut over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.core.errors import Conflict, Invalid
from portal.core.machine import Machine

SECOND_BEFORE = timedelta(days=14)
QUIET = timedelta(days=7)
WAVES = 2
REASON_MAX = 500


class CampaignState(StrEnum):
    """Where a campaign is in its life."""

    PLANNED = "planned"
    PREVIEWED = "previewed"
    RUNNING = "running"
    PAUSED = "paused"
    CUT_OVER = "cut_over"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class CampaignAction(StrEnum):
    """What moves a campaign."""

    PREVIEW = "preview"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CUT_OVER = "cut_over"
    FINISH = "finish"
    CANCEL = "cancel"


S, A = CampaignState, CampaignAction
CAMPAIGN = Machine(
    "campaign",
    S.PLANNED,
    {
        (S.PLANNED, A.PREVIEW): S.PREVIEWED,
        (S.PREVIEWED, A.PREVIEW): S.PREVIEWED,
        (S.PREVIEWED, A.START): S.RUNNING,
        (S.RUNNING, A.PAUSE): S.PAUSED,
        (S.PAUSED, A.RESUME): S.RUNNING,
        (S.RUNNING, A.CUT_OVER): S.CUT_OVER,
        (S.CUT_OVER, A.FINISH): S.FINISHED,
        **{(state, A.CANCEL): S.CANCELLED for state in (S.PLANNED, S.PREVIEWED, S.RUNNING, S.PAUSED)},
    },
)
ENDED = frozenset({S.FINISHED, S.CANCELLED})


class TargetState(StrEnum):
    """How far somebody who is asked to sign has come; follows from signatures and notices, and is never stored."""

    SIGNED = "signed"
    DECLINED = "declined"
    EXEMPT = "exempt"
    REACHED = "reached"
    UNREACHABLE = "unreachable"
    NOTIFIED = "notified"
    WAITING = "waiting"


UNREACHED = frozenset({TargetState.UNREACHABLE, TargetState.NOTIFIED, TargetState.WAITING})


@dataclass(frozen=True)
class TargetFact:
    """What is known of somebody who is asked to sign."""

    waves: int = 0
    signed: bool = False
    declined: bool = False
    exempt: bool = False
    reached: bool = False
    bounced: bool = False


def target_state(fact: TargetFact) -> TargetState:
    """Say how far somebody has come: what they did counts most, then what reached them."""
    if fact.signed:
        return TargetState.SIGNED
    if fact.declined:
        return TargetState.DECLINED
    if fact.exempt:
        return TargetState.EXEMPT
    if fact.reached:
        return TargetState.REACHED
    if fact.bounced:
        return TargetState.UNREACHABLE
    return TargetState.NOTIFIED if fact.waves else TargetState.WAITING


def unreached_share(states: Mapping[TargetState, int]) -> float:
    """Return the share of targets that no news reached; those who are exempt are not counted."""
    counted = sum(count for state, count in states.items() if state is not TargetState.EXEMPT)
    return sum(states.get(state, 0) for state in UNREACHED) / counted if counted else 0.0


def second_at(started_at: datetime, required_by: datetime) -> datetime:
    """Return when those who have not answered are reminded: a while after the start, and before they must sign."""
    return max(started_at + QUIET, required_by - SECOND_BEFORE)


def wave(started_at: datetime, required_by: datetime, now: datetime) -> int:
    """Return how many messages somebody who has not answered should have had by now."""
    return WAVES if now >= second_at(started_at, required_by) else WAVES - 1


@dataclass(frozen=True)
class CutOver:
    """What a cut-over depends on.

    Args:
        in_force: the version is.
        reminded_at: when the last second reminder was handed in for sending; None before.
        under_way: second reminders that the mail server has not taken yet.
        states: how far the targets have come.
        limit: the largest share of unreached targets.
    """

    in_force: bool
    required_by: datetime
    reminded_at: datetime | None
    under_way: int
    states: Mapping[TargetState, int]
    limit: float


@dataclass(frozen=True)
class Condition:
    """One thing that a cut-over waits for, as a checklist shows it."""

    code: str
    met: bool
    message: str

    @property
    def state(self) -> str:
        """How the checklist marks it."""
        return "met" if self.met else "unmet"


def conditions(facts: CutOver, now: datetime) -> list[Condition]:
    """Return all that has to be true before a campaign is cut over, and what of it is."""
    share, quiet = unreached_share(facts.states), QUIET.days
    reminded = facts.reminded_at is not None and not facts.under_way and now >= facts.reminded_at + QUIET
    count = sum(facts.states.get(state, 0) for state in UNREACHED)
    return [
        Condition("required", now >= facts.required_by, f"The day has come: {facts.required_by:%Y-%m-%d %H:%M} UTC."),
        Condition("in_force", facts.in_force, "The version is in force."),
        Condition(
            "reached", share <= facts.limit,
            f"No news reached {count:,} of those who are asked: {share:.1%}, and at most {facts.limit:.1%} is allowed.",
        ),
        Condition("reminded", reminded, f"The second reminder went out at least {quiet} days ago."),
    ]  # fmt: skip


def check_cut_over(facts: CutOver, now: datetime) -> None:
    """Raise unless a campaign may be cut over; whoever was not reached stays protected either way."""
    lacking = [condition.message for condition in conditions(facts, now) if not condition.met]
    if lacking:
        raise Conflict("cut_over_early", "It cannot be cut over yet. This has to be true first: " + " ".join(lacking))


def check_reason(reason: str) -> str:
    """Return why somebody is not counted, as it is kept, or raise `Invalid`."""
    kept = reason.strip()
    if not kept or len(kept) > REASON_MAX or not kept.isprintable():
        raise Invalid("reason_missing", f"Say why, in one line of at most {REASON_MAX} characters.", field="reason")
    return kept


def compose_reminder(*, title: str, number: str, required_on: str, page: str) -> str:
    """Write the mail that reminds somebody who has not answered yet."""
    return (
        f"You signed an earlier version of the {title}, and version {number} waits for your answer.\n\n"
        f"Please read what changed and sign before {required_on}. From then on, downloads and completions wait until "
        "you have signed; your account, access tokens and the copies you hold stay as they are. If you do not want to "
        f"sign, you can say so on the same page, and get no more mails about it.\n\n{page}\n"
    )
