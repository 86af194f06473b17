"""Sanctions: what each kind does, which of them hold at an instant, and what they amount to together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from portal.audit.rules import Event
from portal.core.errors import Invalid

INTERIM = timedelta(hours=72)
THROTTLE_CALLS = 50
THROTTLE_TEXT_TOKENS = 10_000
HIGHEST = 1_000_000_000


class SanctionKind(StrEnum):
    """What a sanction does, the mildest first."""

    THROTTLE = "throttle"
    RECONFIRM = "reconfirm"
    FREEZE_ACCESS_TOKEN = "freeze_access_token"  # noqa: S105 - a kind of sanction
    LIMIT_ACTION = "limit_action"
    SUSPEND_ENTITLEMENT = "suspend_entitlement"
    REVOKE_ENTITLEMENT = "revoke_entitlement"
    SUSPEND = "suspend"
    CLOSE = "close"


K = SanctionKind
# These have no end of their own, so two people order them, and no program ever does.
PERMANENT = frozenset({K.REVOKE_ENTITLEMENT, K.CLOSE})
LIMITED = ("download", "infer")
USES = frozenset({"download", "infer", "renew", "ask"})
ABOUT_MODEL = frozenset({K.LIMIT_ACTION, K.SUSPEND_ENTITLEMENT, K.REVOKE_ENTITLEMENT})


@dataclass(frozen=True)
class SanctionEnded(Event, name="moderation:sanction:ended"):
    """A sanction ended before its day, because its decision was overturned or varied, or nobody confirmed it."""

    case_decision: str
    because: str


@dataclass(frozen=True)
class Measure:
    """One thing that a decision orders.

    Args:
        kind: what it does.
        target: the public id of the model or access token that it is about; empty for all.
        action: what a limit forbids, ``download`` or ``infer``.
        calls, text_tokens: what a throttle leaves of a day.
        until: when it ends by itself; None for the kinds that do not.
    """

    kind: SanctionKind
    until: datetime | None
    target: str = ""
    action: str = ""
    calls: int | None = None
    text_tokens: int | None = None


def check_measure(measure: Measure, *, now: datetime, interim: bool = False) -> None:
    """Raise `Invalid`, naming the field, unless a measure can be ordered so."""
    kind, permanent = measure.kind, measure.kind in PERMANENT
    if permanent and interim:
        raise Invalid("never_interim", "No program revokes an entitlement or closes an account.", field="kind")
    if permanent != (measure.until is None):
        message = "This has no end." if permanent else "Name the day on which this ends."
        raise Invalid("until_wrong", message, field="until")
    if measure.until is not None and measure.until <= now:
        raise Invalid("until_past", "The end of a sanction lies in the future.", field="until")
    if (kind is K.LIMIT_ACTION) != (measure.action in LIMITED):
        raise Invalid("action_wrong", "Say what is forbidden: downloads, or use.", field="action")
    if measure.target.partition("_")[0] not in _targets(kind):
        raise Invalid("target_wrong", "Name the model or the access token that this is about.", field="target")
    amounts = (measure.calls, measure.text_tokens)
    if any((amount is None) == (kind is K.THROTTLE) for amount in amounts):
        raise Invalid("throttle_wrong", "A throttle says how many requests and tokens are left a day.", field="calls")
    if any(amount is not None and not 0 <= amount <= HIGHEST for amount in amounts):
        raise Invalid("throttle_range", f"Give a number from 0 to {HIGHEST:,}.", field="calls")


def _targets(kind: SanctionKind) -> tuple[str, ...]:
    if kind is K.FREEZE_ACCESS_TOKEN:
        return ("tok", "")
    if kind is K.LIMIT_ACTION:
        return ("mod", "")
    return ("mod",) if kind in ABOUT_MODEL else ("",)


@dataclass(frozen=True)
class SanctionFact:
    """What the effects of a sanction depend on; `ended_at` is when it was ended before its day."""

    public_id: str
    kind: SanctionKind
    starts_at: datetime
    until: datetime | None
    target: str = ""
    action: str = ""
    calls: int | None = None
    text_tokens: int | None = None
    lapses_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ends_at(self) -> datetime | None:
        """The instant at which it ends by the clock alone; one that nobody confirmed lapses."""
        return min((at for at in (self.until, self.lapses_at) if at is not None), default=None)

    def holds(self, now: datetime) -> bool:
        """Say whether it is in force at an instant."""
        over = any(at is not None and at <= now for at in (self.ends_at, self.ended_at))
        return self.starts_at <= now and not over


def in_force(sanctions: Iterable[SanctionFact], now: datetime) -> list[SanctionFact]:
    """Return the sanctions that hold at an instant."""
    return [s for s in sanctions if s.holds(now)]


@dataclass(frozen=True)
class Effects:
    """What sanctions amount to for somebody's standing.

    Args:
        closed_by: the sanction that closes the account, if one does.
        suspended_until, suspended_by: until when it is suspended, and by which sanction.
    """

    closed_by: str | None = None
    suspended_until: datetime | None = None
    suspended_by: str | None = None

    @property
    def ref(self) -> str | None:
        """The sanction that the standing rests on."""
        return self.closed_by or self.suspended_by


def effects(sanctions: Sequence[SanctionFact], now: datetime) -> Effects:
    """Compute what the sanctions in force do to a standing; reversal computes it anew, no inverse is stored."""
    live = in_force(sanctions, now)
    closing = sorted(s.public_id for s in live if s.kind is K.CLOSE)
    suspending = [(s.ends_at, s.public_id) for s in live if s.kind is K.SUSPEND and s.ends_at is not None]
    until, ref = max(suspending, default=(None, None))
    return Effects(closing[0] if closing else None, until, ref)


def throttled(sanctions: Iterable[SanctionFact], calls: int, text_tokens: int, now: datetime) -> tuple[int, int]:
    """Return what is left of daily limits under the throttles in force."""
    live = [s for s in in_force(sanctions, now) if s.kind is K.THROTTLE]
    return (
        min([calls, *(s.calls for s in live if s.calls is not None)]),
        min([text_tokens, *(s.text_tokens for s in live if s.text_tokens is not None)]),
    )


@dataclass(frozen=True)
class Bar:
    """One thing that a decision has to say because of a sanction.

    Args:
        stage: 3 access token, 4 signature, 5 what the person may do.
        ref: the sanction, whose page holds the statement of reasons.
        until: when it ends by itself.
    """

    code: str
    stage: int
    blocks: bool
    message: str
    ref: str
    until: datetime | None


def bars(
    sanctions: Iterable[SanctionFact], *, action: str, model: str, signed_at: datetime | None, now: datetime
) -> list[Bar]:
    """Return what stands in the way because of the sanctions in force that concern a model and an access token.

    Args:
        action: what is asked for.
        model: what the model is called.
        signed_at: when the person last signed what the model asks for; a demand to sign again is met by that.
    """
    found = [_bar(s, action, model, signed_at) for s in in_force(sanctions, now) if action in USES]
    return [bar for bar in found if bar is not None]


def _bar(s: SanctionFact, action: str, model: str, signed_at: datetime | None) -> Bar | None:  # noqa: PLR0911 - one kind each
    def bar(code: str, stage: int, message: str, *, blocks: bool = True) -> Bar:
        return Bar(code, stage, blocks, f"{message}{f' until {s.ends_at:%Y-%m-%d %H:%M} UTC' if s.ends_at else ''}.",
                   s.public_id, s.ends_at)  # fmt: skip

    match s.kind:
        case K.THROTTLE if action == "infer":
            return bar("use_throttled", 5, "Your daily limits are lowered", blocks=False)
        case K.RECONFIRM if signed_at is None or signed_at <= s.starts_at:
            # Asking again whether somebody means it keeps them from use, not from asking for a model.
            return bar("reconfirmation_ordered", 4, "Sign the license again before you go on; this is asked for")
        case K.FREEZE_ACCESS_TOKEN if action in LIMITED:
            return bar("access_token_frozen", 3, "This access token is frozen")
        case K.LIMIT_ACTION if action == s.action:
            what = "download" if action == "download" else "use"
            return bar("use_limited", 5, f"You may not {what} {model if s.target else 'models'}")
        case K.SUSPEND_ENTITLEMENT:
            return bar("use_limited", 5, f"Your access to {model} is suspended")
        case K.REVOKE_ENTITLEMENT:
            return bar("entitlement_revoked", 5, f"Your access to {model} was revoked")
        case _:
            return None


def concerning(
    sanctions: Iterable[SanctionFact], *, model_ref: str, token_ref: str | None
) -> tuple[SanctionFact, ...]:  # fmt: skip
    """Return the sanctions that concern a model, when it is asked for with an access token or without any."""
    return tuple(s for s in sanctions if _concerns(s, model_ref, token_ref))


def _concerns(s: SanctionFact, model_ref: str, token_ref: str | None) -> bool:
    if s.kind is K.FREEZE_ACCESS_TOKEN:
        return token_ref is not None and s.target in {"", token_ref}
    return not s.target or s.target == model_ref


def reconfirm_since(sanctions: Iterable[SanctionFact], now: datetime) -> datetime | None:
    """Return since when a person is asked to sign again; None where they are not."""
    return max((s.starts_at for s in in_force(sanctions, now) if s.kind is K.RECONFIRM), default=None)


def sentence(measure: Measure, *, target: str, base_url: str) -> str:
    """Write what a measure restricts, for the person concerned.

    Args:
        target: what the model or access token is called; empty for all.
    """
    end = moment(measure.until) if measure.until else ""
    thing = target or "any model"
    return {
        K.THROTTLE: f"Until {end} you can make {measure.calls or 0:,} requests and use {measure.text_tokens or 0:,} "
        "text tokens a day.",
        K.RECONFIRM: f"You are asked to read and sign the license again. Until you have, or until {end}, you cannot\n"
        "use models here, download files or make access tokens.",
        K.FREEZE_ACCESS_TOKEN: f"{f'The access token {target} is' if target else 'All your access tokens are'} "
        f"refused until {end}.",
        K.LIMIT_ACTION: f"Until {end} you cannot {'download files of' if measure.action == 'download' else 'use'} "
        f"{thing}.",
        K.SUSPEND_ENTITLEMENT: f"Your access to {target} is suspended until {end}.",
        K.REVOKE_ENTITLEMENT: f"Your access to {target} is revoked. This has no end.",
        K.SUSPEND: f"Your account at {base_url} is suspended until {end}. Until then you cannot use models\n"
        "here, download files, ask for access or make access tokens; your access tokens are refused. Running answers\n"
        "and downloads are cut. The suspension ends by itself at the time above.",
        K.CLOSE: f"Your account at {base_url} is closed. You cannot use models here, download files, ask for access\n"
        "or sign. This has no end.",
    }[measure.kind]


LEFT_BEHIND = {
    K.THROTTLE: "Lowers the daily limits from the next request on; the person's own limits come back by themselves.",
    K.RECONFIRM: "Use, downloads and new access tokens wait until the license is signed again, or until the end.",
    K.FREEZE_ACCESS_TOKEN: "The access token is refused until the end and works again after it; it is not revoked.",
    K.LIMIT_ACTION: "One action is refused, for one model or for all; everything else goes on.",
    K.SUSPEND_ENTITLEMENT: "One model is out of reach until the end; asking again is, too.",
    K.REVOKE_ENTITLEMENT: "One model is out of reach for good. Two people.",
    K.SUSPEND: "Everything is refused from the next request on, running work is cut, the person is signed out. "
    "Signing in, reading and appealing work.",
    K.CLOSE: "The account is closed for good; the person can still sign in to appeal. Two people.",
}


def moment(at: datetime) -> str:
    """Write an instant in words, UTC."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%B %Y}, {at:%H:%M} UTC"
