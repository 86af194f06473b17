"""How those whom something concerns are asked, reminded and counted, until the campaign is over."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.audit.rules import Event
from portal.core.errors import Conflict, Invalid
from portal.core.machine import Machine
from portal.items.rules import ItemChange

SECOND_BEFORE = timedelta(days=14)
QUIET = timedelta(days=7)
YEAR = timedelta(days=365)
WAVES = 2
REASON_MAX = 500
WORDS_MAX = 4_000
ANSWER = timedelta(days=30)


@dataclass(frozen=True)
class CampaignChanged(Event, name="license:campaign:changed"):
    """A campaign came into another state, or counts somebody (`user`) no more; `about` is what it is about."""

    about: str
    change: str
    user: str = ""


@dataclass(frozen=True)
class RequirementMoved(Event, name="license:requirement:moved"):
    """Downloads of a model ask, from a cut-over on, for the version in force and no more for the one pinned."""

    license: str
    campaign: str


@dataclass(frozen=True)
class Acknowledged(Event, name="license:campaign:acknowledged"):
    """Somebody confirmed that they read what a campaign tells them; `shown` is the digest of what they were shown."""

    shown: str


class CampaignKind(StrEnum):
    """What a campaign asks for: a signature, or a word that a changed limitation or a correction was read."""

    RE_SIGN = "re_sign"
    LIMITATION = "limitation"
    CORRECTION = "correction"


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
        (S.PLANNED, A.START): S.RUNNING,
        (S.RUNNING, A.PAUSE): S.PAUSED,
        (S.PAUSED, A.RESUME): S.RUNNING,
        (S.RUNNING, A.CUT_OVER): S.CUT_OVER,
        (S.CUT_OVER, A.FINISH): S.FINISHED,
        (S.RUNNING, A.FINISH): S.FINISHED,
        **{(state, A.CANCEL): S.CANCELLED for state in (S.PLANNED, S.PREVIEWED, S.RUNNING, S.PAUSED)},
    },
)
ENDED = frozenset({S.FINISHED, S.CANCELLED})


SHORT = frozenset({(S.PLANNED, A.START), (S.RUNNING, A.FINISH)})


def life(kind: CampaignKind) -> Machine[CampaignState, CampaignAction]:
    """Return the moves of a campaign: one that asks to sign has a preview and is cut over, the others are not."""
    signs = kind is CampaignKind.RE_SIGN

    def has(state: CampaignState, action: CampaignAction) -> bool:
        if signs:
            return (state, action) not in SHORT
        return action not in {A.PREVIEW, A.CUT_OVER} and state not in {S.PREVIEWED, S.CUT_OVER}

    return Machine(CAMPAIGN.name, CAMPAIGN.start, {move: to for move, to in CAMPAIGN.table.items() if has(*move)})


class TargetState(StrEnum):
    """How far somebody who is asked has come; follows from signatures, words and notices, and is never stored."""

    SIGNED = "signed"
    ACKNOWLEDGED = "acknowledged"
    DECLINED = "declined"
    EXEMPT = "exempt"
    REACHED = "reached"
    UNREACHABLE = "unreachable"
    NOTIFIED = "notified"
    WAITING = "waiting"


UNREACHED = frozenset({TargetState.UNREACHABLE, TargetState.NOTIFIED, TargetState.WAITING})


@dataclass(frozen=True)
class TargetFact:
    """What is known of somebody who is asked."""

    waves: int = 0
    signed: bool = False
    acknowledged: bool = False
    declined: bool = False
    exempt: bool = False
    reached: bool = False
    bounced: bool = False


def target_state(fact: TargetFact) -> TargetState:
    """Say how far somebody has come: what they did counts most, then what reached them."""
    ladder = (
        (fact.signed, TargetState.SIGNED), (fact.acknowledged, TargetState.ACKNOWLEDGED),
        (fact.declined, TargetState.DECLINED), (fact.exempt, TargetState.EXEMPT), (fact.reached, TargetState.REACHED),
        (fact.bounced, TargetState.UNREACHABLE), (fact.waves > 0, TargetState.NOTIFIED),
    )  # fmt: skip
    return next((state for holds, state in ladder if holds), TargetState.WAITING)


def unreached_share(states: Mapping[TargetState, int]) -> float:
    """Return the share of targets that no news reached; those who are exempt are not counted."""
    counted = sum(count for state, count in states.items() if state is not TargetState.EXEMPT)
    return sum(states.get(state, 0) for state in UNREACHED) / counted if counted else 0.0


def second_at(started_at: datetime, required_by: datetime) -> datetime:
    """Return when those who have not answered are reminded: a while after the start, and before the day that counts."""
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


def is_touched(uses: Collection[str], declared: Collection[str]) -> bool:
    """Say whether a changed limitation concerns somebody: who declared nothing may do anything with a model."""
    return not uses or not declared or not set(uses).isdisjoint(declared)


def check_reason(reason: str) -> str:
    """Return why somebody is not counted, as it is kept, or raise `Invalid`."""
    kept = reason.strip()
    if not kept or len(kept) > REASON_MAX or not kept.isprintable():
        raise Invalid("reason_missing", f"Say why, in one line of at most {REASON_MAX} characters.", field="reason")
    return kept


HOW = {"added": "New", "changed": "Changed", "removed": "No longer in the card"}


def change_words(changes: Sequence[ItemChange]) -> str:
    """Write what those whom it touches are told of a card that says something else about safety."""
    lines = ["What the card says about safety changed:"]
    for change in changes:
        one = change.new or change.old
        lines.append(f"{HOW[change.kind]}: {one.name}. {one.wording}" if one else "")
    words = "\n".join(lines)
    return words if len(words) <= WORDS_MAX else f"{words[: WORDS_MAX - 30]}… and more, see the card."


def check_words(words: str) -> str:
    """Return what those whom a campaign concerns are told, as it is kept, or raise `Invalid`."""
    kept = words.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not kept or len(kept) > WORDS_MAX:
        message = f"Say what changed and what to do about it, in 1 to {WORDS_MAX:,} characters."
        raise Invalid("campaign_words", message, field="words")
    if not all(letter.isprintable() or letter == "\n" for letter in kept):
        raise Invalid("campaign_letters", "That holds characters that cannot be kept.", field="words")
    return kept


def check_answer_by(answer_by: datetime, now: datetime) -> None:
    """Raise unless those who are asked have time to answer, and the campaign an end in sight."""
    if not now + QUIET <= answer_by <= now + YEAR:
        message = f"Leave them at least {QUIET.days} days, and at most {YEAR.days}."
        raise Invalid("answer_by", message, field="answer_by")


CONCERNS = {
    CampaignKind.LIMITATION: "You used {name} or hold a copy of it, and what its card says of its limits changed.",
    CampaignKind.CORRECTION: "You hold a copy of {name}, and it has to be corrected.",
}


def compose_telling(*, kind: CampaignKind, name: str, words: str, answer_on: str, page: str) -> str:
    """Write the mail that tells somebody of a changed limitation or a correction, and asks for a word back."""
    return (
        f"{CONCERNS[kind].format(name=name)}\n\n{words}\n\nPlease read the page below and confirm there, before "
        f"{answer_on}, that you did. Nothing stops if you do not: we ask so that we know that this reached you.\n\n"
        f"{page}\n"
    )


def compose_reminder(*, title: str, number: str, required_on: str, page: str) -> str:
    """Write the mail that reminds somebody who has not answered yet."""
    return (
        f"You signed an earlier version of the {title}, and version {number} waits for your answer.\n\n"
        f"Please read what changed and sign before {required_on}. From then on, downloads and completions wait until "
        "you have signed; your account, access tokens and the copies you hold stay as they are. If you do not want to "
        f"sign, you can say so on the same page, and get no more mails about it.\n\n{page}\n"
    )
