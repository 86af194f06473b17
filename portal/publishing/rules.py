"""What has to be true before a license version is approved, put in force or retired, and what signers are told."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from portal.core.errors import Conflict, Invalid, Refused
from portal.licensing import rules as licensing
from portal.licensing.rules import NOTICE_MINIMUM, SUMMARY_MAX, WEIGHT, Materiality, VersionAction, VersionState

PREVIEW_LIFE = timedelta(hours=24)


@dataclass(frozen=True)
class Plan:
    """With which weight and dates a version is to be published.

    Args:
        after: when the version before it comes into force; None for the first version.
        declared: the operators act together, with dates that come with texts published elsewhere already.
    """

    materiality: Materiality
    effective_at: datetime
    required_by: datetime
    after: datetime | None
    declared: bool = False


def check_plan(plan: Plan, now: datetime) -> None:
    """Raise unless weight and dates of a version to be published can be."""
    if plan.after is not None and plan.effective_at <= plan.after:
        message = f"It must come into force after its predecessor, so later than {plan.after:%Y-%m-%d %H:%M} UTC."
        raise Invalid("effective_early", message, field="effective_at")
    if plan.effective_at < now and not plan.declared:
        raise Invalid("effective_past", "It cannot come into force in the past.", field="effective_at")
    if plan.required_by < plan.effective_at:
        message = "Nobody can be required to sign before the version is in force."
        raise Invalid("required_early", message, field="required_by")


@dataclass(frozen=True)
class Previewed:
    """The look ahead that a date rests on.

    Args:
        at: when it was asked for.
        over_sha256: digest of what it looked at: the version, its dates, and all that asks for the license.
        now_sha256: digest of the same as it is now.
    """

    at: datetime
    over_sha256: str
    now_sha256: str


def check_schedule(plan: Plan, now: datetime, previewed: Previewed) -> None:
    """Raise unless a version may be scheduled: somebody has just seen what exactly that does to whom.

    This is the one place for what has to be true before a date is set.
    """
    check_dates(plan, now)
    if now - previewed.at > PREVIEW_LIFE:
        hours = int(PREVIEW_LIFE.total_seconds() // 3600)
        raise Conflict("preview_old", f"The preview is more than {hours} hours old. Ask for a new one.")
    if previewed.over_sha256 != previewed.now_sha256:
        message = "The version, or what asks for it, changed since the preview. Ask for a new one."
        raise Conflict("preview_other", message)


def check_dates(plan: Plan, now: datetime) -> None:
    """Raise unless signers would hear of a version a while before it is in force."""
    check_plan(plan, now)
    if plan.effective_at < now + NOTICE_MINIMUM:
        days = NOTICE_MINIMUM.days
        message = f"It comes into force at the earliest {days} days from now, so that signers hear of it before."
        raise Invalid("effective_soon", message, field="effective_at")


def check_publish_now(plan: Plan, reason: str, now: datetime) -> None:
    """Raise unless a version may come into force at once: the first, or one that must bind before the next use."""
    check_plan(plan, now)
    if plan.after is not None and plan.materiality is not Materiality.MATERIAL_IMMEDIATE:
        message = "Only a first version or one that is material at once comes into force now. Schedule this one."
        raise Conflict("schedule_instead", message)
    check_reason(reason)


def check_reason(reason: str) -> None:
    """Raise unless a reason for a grave act is given, in words that fit on a page."""
    if not reason.strip():
        raise Invalid("reason_missing", "Say why, in a sentence that others can follow.", field="reason")
    if len(reason) > SUMMARY_MAX:
        raise Invalid("reason_long", f"The reason is longer than {SUMMARY_MAX:,} characters.", field="reason")
    if not all(letter.isprintable() or letter == "\n" for letter in reason):
        raise Invalid("reason_letters", "The reason holds characters that cannot be kept.", field="reason")


def check_approver(approver: str, authors: Collection[str]) -> None:
    """Raise unless somebody approves a version in which they had no hand."""
    if approver in authors:
        message = "You drafted, edited or submitted this version, so somebody else has to approve it."
        raise Refused("approver_is_author", message)


def check_weight(materiality: Materiality, floor: Materiality, *, agreed: bool) -> None:
    """Raise unless a version weighs at least what its clause changes make it, or two people agreed on less."""
    if WEIGHT[materiality] < WEIGHT[floor] and not agreed:
        message = f"The clause changes make this version at least {floor}: a restriction changed."
        raise Invalid("materiality_low", message, field="materiality")


def check_voted(materiality: Materiality, vote_from: Materiality | None, *, voted: bool, page: str) -> None:
    """Raise unless a body of the licensor stands behind a version's words, where one of its weight needs that.

    Args:
        vote_from: the least weight that needs a vote; None where the licensor needs none.
        page: where the vote is recorded.
    """
    if vote_from is not None and WEIGHT[materiality] >= WEIGHT[vote_from] and not voted:
        message = (
            f"A version that is {materiality.value.replace('_', ' ')} needs the vote of a body of the licensor on "
            f"exactly these words. Record it first: {page}"
        )
        raise Conflict("resolution_missing", message, url=page)


def check_retire(state: VersionState, still_asked: Collection[str]) -> None:
    """Raise unless nothing asks for a version any more; `still_asked` names what does."""
    licensing.VERSION.next(state, VersionAction.RETIRE)
    if still_asked:
        message = f"It is still asked for by {', '.join(sorted(still_asked)[:5])}. Release them under a newer version."
        raise Conflict("version_asked_for", message)


def compose_notice(
    *, title: str, number: str, materiality: Materiality, effective_on: str, required_on: str, summary: str, page: str
) -> str:
    """Write the mail that tells a signer about a new version."""
    if WEIGHT[materiality] >= WEIGHT[Materiality.MATERIAL]:
        ask = (
            f"Please read it and sign before {required_on}. From then on, downloads and completions wait until you "
            "have signed; your account, access tokens and the copies you hold stay as they are.\n\n"
            "Read what changed, and sign:"
        )
        page = f"{page}/sign"
    else:
        ask = "Your signature stays valid and there is nothing you have to do.\n\nRead what changed:"
    return (
        f"You signed the {title}. Version {number} comes into force on {effective_on}.\n\n"
        f"What changes\n\n{summary}\n\n{ask}\n{page}\n"
    )


def compose_cancelled(*, title: str, number: str, page: str) -> str:
    """Write the mail that tells a signer that an announced version does not come."""
    return (
        f"You were told that version {number} of the {title} comes into force. That is called off: no date is set any "
        f"more, and there is nothing you have to do. You will hear of it if that changes.\n\n{page}\n"
    )
