"""Asking everybody who must sign a license version to do so: from the preview, through reminders, to the cut-over."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import Profile, User
from portal.accounts.rules import Standing
from portal.audit import service as audit
from portal.audit.rules import CampaignChanged
from portal.campaigns import rules
from portal.campaigns.models import Campaign, Target
from portal.campaigns.rules import (
    CAMPAIGN,
    ENDED,
    WAVES,
    CampaignAction,
    CampaignState,
    CutOver,
    TargetFact,
    TargetState,
)  # fmt: skip
from portal.core.actor import SYSTEM, Actor
from portal.core.db import hold
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import WEIGHT, Materiality, VersionState, state_at
from portal.notices import service as notices
from portal.notices.rules import moment
from portal.previews import service as previews
from portal.previews.models import Preview, PreviewPerson
from portal.previews.rules import Lot
from portal.publishing import service as publishing
from portal.signing import service as signing

MAILS = 200
PART = 5_000  # as many ids as both databases take in one question
REMINDER = "license_reminder"


def ask(
    session: Session,
    *,
    version: LicenseVersion,
    effective_at: datetime,
    required_by: datetime,
    by: Actor,
    now: datetime,
) -> Preview:
    """Ask for a preview of a version; one that many must sign gets a campaign with it."""
    _settle(session, version=version, now=now)
    preview = previews.ask(session, version=version, effective_at=effective_at, required_by=required_by, by=by, now=now)
    if _is_material(version) and preview.people and open_campaign(session, version=version) is None:
        campaign = Campaign(
            public_id=public_id("cmp"), version_id=version.id, preview_id=preview.id, planned_by=by.public_id,
            planned_at=now,
        )  # fmt: skip
        session.add(campaign)
        session.flush()
        _record(session, campaign, by=by, now=now)
    return preview


def take_preview(session: Session, *, preview: Preview, now: datetime) -> None:
    """Let a campaign that has not started go by a preview that was just done."""
    campaign = open_campaign(session, version=preview.version)
    if campaign is not None and CAMPAIGN.can(campaign.state, CampaignAction.PREVIEW):
        _move(session, campaign, CampaignAction.PREVIEW, by=SYSTEM, now=now, preview_id=preview.id)


def schedule(session: Session, *, ref: str, by: Actor, now: datetime, base_url: str) -> LicenseVersion:
    """Give a version the dates of its preview, tell its signers, and start its campaign.

    Of a version that has its dates already, for example by the command line, only the campaign is started.

    Raises:
        Conflict: the preview is not done, too old, or looked at something else; or the campaign runs already.
    """
    preview = previews.find(session, ref=ref)
    version, seen = preview.version, previews.previewed(session, preview=preview)
    if version.state is VersionState.APPROVED:
        publishing.schedule(
            session, slug=version.license.slug, number=version.number, effective_at=preview.effective_at,
            required_by=preview.required_by, previewed=seen, by=by, now=now, base_url=base_url,
        )  # fmt: skip
    elif open_campaign(session, version=version) is None:
        raise Conflict("campaign_missing", f"Version {version.number} has its dates, and nobody must sign it again.")
    if (campaign := open_campaign(session, version=version)) is not None:
        _start(session, campaign, preview, by=by, now=now)
    return version


def _start(session: Session, campaign: Campaign, preview: Preview, *, by: Actor, now: datetime) -> None:
    _move(session, campaign, CampaignAction.START, by=by, now=now, preview_id=preview.id, started_at=now)
    asked = sa.and_(PreviewPerson.preview_id == preview.id, PreviewPerson.lot == Lot.MUST_SIGN)
    rows = sa.select(sa.literal(campaign.id), PreviewPerson.user_id, sa.literal(0)).where(asked)
    session.execute(sa.insert(Target).from_select(["campaign_id", "user_id", "waves"], rows))


def find(session: Session, *, ref: str) -> Campaign:
    """Find a campaign by its public id."""
    found = session.scalar(sa.select(Campaign).where(Campaign.public_id == ref))
    if found is None:
        raise NotFound("campaign_not_found", "There is no such campaign.")
    return found


def campaigns(session: Session, *, limit: int = 100) -> Sequence[Campaign]:
    """Return campaigns, newest first."""
    return session.scalars(sa.select(Campaign).order_by(Campaign.id.desc()).limit(limit)).all()


def open_campaign(session: Session, *, version: LicenseVersion) -> Campaign | None:
    """Return the campaign of a version that has not ended."""
    query = sa.select(Campaign).where(Campaign.version_id == version.id, Campaign.state.not_in(ENDED))
    return session.scalar(query)


def move(session: Session, *, ref: str, action: CampaignAction, by: Actor, now: datetime, limit: float) -> Campaign:
    """Pause, resume, cut over, finish or call off a campaign.

    Args:
        limit: the largest share of targets that nothing reached, for a cut-over.
    """
    campaign = find(session, ref=ref)
    hold(session, Campaign.id, campaign.id)
    if action in {CampaignAction.PREVIEW, CampaignAction.START}:
        raise Conflict("move_refused", "A campaign starts with its preview.")
    CAMPAIGN.next(campaign.state, action)
    if action is CampaignAction.CUT_OVER:
        _join(session, campaign)
        rules.check_cut_over(cut_over_facts(session, campaign=campaign, limit=limit, now=now), now)
    _move(session, campaign, action, by=by, now=now)
    return campaign


def _move(
    session: Session, campaign: Campaign, action: CampaignAction, *, by: Actor, now: datetime, **values: Any
) -> None:
    state = CAMPAIGN.next(campaign.state, action)
    values |= {"ended_at": now} if state in ENDED else {}
    moved = session.scalar(
        sa.update(Campaign)
        .where(Campaign.id == campaign.id, Campaign.state == campaign.state)
        .values(state=state, **values)
        .returning(Campaign.id)
        .execution_options(synchronize_session=False)
    )
    session.refresh(campaign)
    if moved is None:
        raise Conflict("changed_meanwhile", "This campaign was just changed. Look at it again.")
    if action is not CampaignAction.PREVIEW:
        _record(session, campaign, by=by, now=now)


def _record(session: Session, campaign: Campaign, *, by: Actor, now: datetime, user: str = "") -> None:
    change = "exempted" if user else campaign.state.value
    event = CampaignChanged(campaign.public_id, publishing.ref(campaign.version), change, user)
    audit.record(session, event, by=by, now=now)


def _is_material(version: LicenseVersion) -> bool:
    return version.materiality is not None and WEIGHT[version.materiality] >= WEIGHT[Materiality.MATERIAL]


def _settle(session: Session, *, version: LicenseVersion, now: datetime) -> bool:
    """Call off a campaign of which the version's date was called off; say whether there was one."""
    campaign = open_campaign(session, version=version)
    if campaign is None or campaign.started_at is None or version.effective_at is not None:
        return False
    _move(session, campaign, CampaignAction.CANCEL, by=SYSTEM, now=now)
    return True


def states(
    session: Session, *, campaign: Campaign, user_ids: Sequence[int] | None = None
) -> dict[int, TargetState]:  # fmt: skip
    """Say how far the targets of a campaign have come, or some of them; found out anew each time, never stored."""
    version, about = campaign.version, publishing.ref(campaign.version)
    rows = (
        sa.select(Target.user_id, Target.waves, Target.exempt_at, Profile.email, User.standing)
        .join(User, User.id == Target.user_id)
        .outerjoin(Profile, Profile.user_id == Target.user_id)
        .where(Target.campaign_id == campaign.id)
    )
    if user_ids is not None:
        rows = rows.where(Target.user_id.in_(user_ids))
    signed = signing.signers(session, version=version, user_ids=user_ids)
    said = licensing.declined_of(session, user_ids=user_ids, license_ids=[version.license_id])
    reached = notices.reached_of(session, user_ids=user_ids, subject_refs=[about])
    back = notices.bounced(session, user_ids=user_ids)
    return {
        user_id: rules.target_state(
            TargetFact(
                waves=waves, signed=user_id in signed, declined=version.id in said.get(user_id, ()),
                exempt=exempt_at is not None or standing is Standing.CLOSED, reached=user_id in reached,
                bounced=email is None or (user_id, email) in back,
            )
        )
        for user_id, waves, exempt_at, email, standing in session.execute(rows.order_by(Target.user_id))
    }  # fmt: skip


def cut_over_facts(session: Session, *, campaign: Campaign, limit: float, now: datetime) -> CutOver:
    """Return what a cut-over depends on."""
    version = campaign.version
    known = licensing.versions_for(session, license_ids=[version.license_id]).get(version.license_id, [])
    dated = version.effective_at is not None
    return CutOver(
        in_force=dated and state_at(known, version.id, now) is VersionState.IN_FORCE,
        required_by=version.required_by or campaign.preview.required_by, reminded_at=campaign.reminded_at,
        under_way=notices.under_way(session, kind=REMINDER, subject_ref=publishing.ref(version)),
        states=Counter(states(session, campaign=campaign).values()), limit=limit,
    )  # fmt: skip


def exempt(session: Session, *, ref: str, person: str, reason: str, by: Actor, now: datetime) -> None:
    """Take somebody who cannot be reached off the count of a campaign, for a reason; that takes no right from them."""
    campaign, kept = find(session, ref=ref), rules.check_reason(reason)
    if campaign.state in ENDED:
        raise Conflict("campaign_ended", "This campaign has ended.")
    query = sa.select(Target).join(User, User.id == Target.user_id)
    target = session.scalar(query.where(Target.campaign_id == campaign.id, User.public_id == person))
    if target is None:
        raise NotFound("target_not_found", "This campaign does not ask anybody by that public id.", field="person")
    if target.exempt_at is None:
        target.exempt_by, target.exempt_at, target.exempt_reason = by.public_id, now, kept
        session.flush()
        _record(session, campaign, by=by, now=now, user=person)


def remind(session: Session, *, now: datetime, base_url: str) -> bool:
    """Leave the next messages of a running campaign; say whether more are waiting.

    Whoever has answered gets none. A campaign whose version lost its date is called off.
    """
    for campaign in session.scalars(sa.select(Campaign).where(Campaign.state == CampaignState.RUNNING)).all():
        if _settle(session, version=campaign.version, now=now):
            continue
        if _remind(session, campaign, now=now, base_url=base_url):
            return True
    return False


def _remind(session: Session, campaign: Campaign, *, now: datetime, base_url: str) -> bool:
    started, required = campaign.started_at or now, campaign.version.required_by or now
    wave = rules.wave(started, required, now)
    if wave == WAVES and campaign.reminded_at is not None:
        return False
    waiting = sa.select(Target).where(Target.campaign_id == campaign.id, Target.waves < wave)
    targets = session.scalars(waiting.order_by(Target.user_id).limit(MAILS)).all()
    if not targets and wave == WAVES:
        if _join(session, campaign):
            return True
        campaign.reminded_at = now
        session.flush()
    user_ids = [target.user_id for target in targets]
    come = states(session, campaign=campaign, user_ids=user_ids) if targets else {}
    told = notices.told(session, user_ids=user_ids, subject_ref=publishing.ref(campaign.version))
    for target in targets:
        first = target.waves == 0 and wave == 1
        if come[target.user_id] not in SILENT and not (first and target.user_id in told):
            _mail(session, campaign, target.user_id, base_url=base_url, now=now)
        target.waves = wave
    session.flush()
    return bool(targets)


SILENT = frozenset({TargetState.SIGNED, TargetState.DECLINED, TargetState.EXEMPT, TargetState.UNREACHABLE})


def _mail(session: Session, campaign: Campaign, user_id: int, *, base_url: str, now: datetime) -> None:
    version, license_ = campaign.version, campaign.version.license
    profile = session.get(Profile, user_id)
    if profile is None:
        return
    body = rules.compose_reminder(
        title=license_.title, number=version.number, required_on=moment(version.required_by or now),
        page=f"{base_url}/licenses/{license_.slug}/{version.number}/sign",
    )  # fmt: skip
    notices.queue(
        session, recipient_id=user_id, address=profile.email, kind=REMINDER, subject_ref=publishing.ref(version),
        subject=f"{license_.title}: version {version.number} waits for your answer", body=body, now=now,
    )  # fmt: skip


def _join(session: Session, campaign: Campaign) -> bool:
    """Ask those, too, who signed an earlier version since the preview; say whether there were any."""
    preview, known = campaign.preview, sa.select(Target.user_id).where(Target.campaign_id == campaign.id)
    since = signing.holders(session, license_id=campaign.version.license_id, since=preview.asked_at)
    new = sorted(set(since) - set(session.scalars(known)))
    found = [
        row["user_id"]
        for row in previews.examine(session, preview=preview, user_ids=new).people
        if row["lot"] is Lot.MUST_SIGN
    ]
    session.add_all(Target(campaign_id=campaign.id, user_id=user_id) for user_id in found)
    session.flush()
    return bool(found)


@dataclass(frozen=True)
class Asked:
    """Somebody whom a campaign asks, how far they have come, and what names them where they still have a name."""

    user_id: int
    ref: str
    name: str
    email: str
    state: TargetState


def targets(
    session: Session,
    *,
    campaign: Campaign,
    wanted: frozenset[TargetState] = frozenset(),
    after_id: int = 0,
    limit: int | None = None,
) -> list[Asked]:
    """Return targets of a campaign in the order of their ids; of some states only, or all."""
    come = states(session, campaign=campaign)
    ids = [one for one, state in come.items() if one > after_id and (not wanted or state in wanted)][:limit]
    query = sa.select(User.id, User.public_id, Profile.name, Profile.email)
    query = query.outerjoin(Profile, Profile.user_id == User.id).order_by(User.id)
    return [
        Asked(row[0], row[1], row[2] or "", row[3] or "", come[row[0]])
        for start in range(0, len(ids), PART)
        for row in session.execute(query.where(User.id.in_(ids[start : start + PART])))
    ]
