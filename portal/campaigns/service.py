"""Asking everybody whom something concerns: from the preview or the plan, through reminders, to the end."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.accounts.models import Profile, User
from portal.accounts.rules import Standing
from portal.audit import service as audit
from portal.campaigns import rules
from portal.campaigns.models import Acknowledgment, Campaign, CampaignPurpose, Target
from portal.campaigns.rules import (
    ENDED,
    CampaignAction,
    CampaignChanged,
    CampaignKind,
    CutOver,
    RequirementMoved,
    TargetFact,
    TargetState,
    life,
)  # fmt: skip
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM, Actor
from portal.core.db import among, hold
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.deliveries import service as deliveries
from portal.entitlements import service as entitlements
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import WEIGHT, Materiality, VersionState, state_at
from portal.notices import service as notices
from portal.previews import service as previews
from portal.previews.models import Preview, PreviewPerson
from portal.previews.rules import Lot
from portal.publishing import service as publishing
from portal.signers import service as signers
from portal.usage import service as usage

REMINDER = "license_reminder"


def about(campaign: Campaign) -> str:
    """Return how notices name what a campaign is about."""
    return publishing.ref(campaign.version) if campaign.version else f"campaign:{campaign.public_id}"


def signing_of(campaign: Campaign) -> tuple[LicenseVersion, Preview]:
    """Return the version that a campaign asks to sign, with its preview; another kind of campaign has none."""
    if campaign.version is None or campaign.preview is None:
        raise Conflict("campaign_asks_to_read", "This campaign asks nobody to sign.")
    return campaign.version, campaign.preview


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
    settle(session, version=version, now=now)
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
    if campaign is not None and life(campaign.kind).can(campaign.state, CampaignAction.PREVIEW):
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


def move(
    session: Session,
    *,
    ref: str,
    action: CampaignAction,
    by: Actor,
    now: datetime,
    limit: float,
    follow: Collection[str] = (),
) -> Campaign:
    """Pause, resume, cut over, finish or call off a campaign, or start one that has no preview.

    Args:
        limit: the largest share of targets that nothing reached, for a cut-over.
        follow: names of the models of which downloads ask for the version in force from a cut-over on.
    """
    campaign = find(session, ref=ref)
    hold(session, Campaign.id, campaign.id)
    signs = campaign.kind is CampaignKind.RE_SIGN
    if action is CampaignAction.PREVIEW or (signs and action is CampaignAction.START):
        raise Conflict("move_refused", "A campaign that asks to sign starts with its preview.")
    life(campaign.kind).next(campaign.state, action)
    started: dict[str, Any] = {"started_at": now} if action is CampaignAction.START else {}
    if action is CampaignAction.CUT_OVER:
        join(session, campaign)
        rules.check_cut_over(cut_over_facts(session, campaign=campaign, limit=limit, now=now), now)
        _follow(session, campaign, follow, by=by, now=now)
    _move(session, campaign, action, by=by, now=now, **started)
    if started:
        join(session, campaign)
    return campaign


def _follow(session: Session, campaign: Campaign, names: Collection[str], *, by: Actor, now: datetime) -> None:
    version, _ = signing_of(campaign)
    for name in sorted({pin["model"] for pin in previews.pins(session, version=version)} & set(names)):
        model = catalog.find_any_model(session, full_name=name)
        if access.follow_license(session, model_id=model.id, license_id=version.license_id, now=now):
            event = RequirementMoved(model.public_id, version.license.slug, campaign.public_id)
            audit.record(session, event, by=by, now=now)


def _move(
    session: Session, campaign: Campaign, action: CampaignAction, *, by: Actor, now: datetime, **values: Any
) -> None:
    state = life(campaign.kind).next(campaign.state, action)
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
    audit.record(session, CampaignChanged(campaign.public_id, about(campaign), change, user), by=by, now=now)


def _is_material(version: LicenseVersion) -> bool:
    return version.materiality is not None and WEIGHT[version.materiality] >= WEIGHT[Materiality.MATERIAL]


def settle(session: Session, *, version: LicenseVersion, now: datetime) -> bool:
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
    version = campaign.version
    rows = (
        sa.select(Target.user_id, Target.waves, Target.exempt_at, Profile.email, User.standing)
        .join(User, User.id == Target.user_id)
        .outerjoin(Profile, Profile.user_id == Target.user_id)
        .where(Target.campaign_id == campaign.id)
    )
    if user_ids is not None:
        rows = rows.where(among(Target.user_id, user_ids))
    signed, said, read = set[int](), dict[int, frozenset[int]](), set[int]()
    if version is None:
        words = sa.select(Acknowledgment.user_id).where(Acknowledgment.campaign_id == campaign.id)
        read = set(session.scalars(words))
    else:
        signed = signers.signers(session, version=version, user_ids=user_ids)
        said = licensing.declined_of(session, user_ids=user_ids, license_ids=[version.license_id])
    reached = notices.reached_of(session, user_ids=user_ids, subject_refs=[about(campaign)])
    back = notices.bounced(session, user_ids=user_ids)
    return {
        user_id: rules.target_state(
            TargetFact(
                waves=waves, signed=user_id in signed, acknowledged=user_id in read,
                declined=version is not None and version.id in said.get(user_id, ()),
                exempt=exempt_at is not None or standing is Standing.CLOSED, reached=user_id in reached,
                bounced=email is None or (user_id, email) in back,
            )
        )
        for user_id, waves, exempt_at, email, standing in session.execute(rows.order_by(Target.user_id))
    }  # fmt: skip


def cut_over_facts(session: Session, *, campaign: Campaign, limit: float, now: datetime) -> CutOver:
    """Return what a cut-over depends on."""
    version, preview = signing_of(campaign)
    known = licensing.versions_for(session, license_ids=[version.license_id]).get(version.license_id, [])
    dated = version.effective_at is not None
    return CutOver(
        in_force=dated and state_at(known, version.id, now) is VersionState.IN_FORCE,
        required_by=version.required_by or preview.required_by, reminded_at=campaign.reminded_at,
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


def answer_by(campaign: Campaign) -> datetime | None:
    """Return by when a campaign asks for an answer; one of which the version has no date yet does not say."""
    return campaign.version.required_by if campaign.version else campaign.answer_by


def subject_of(campaign: Campaign) -> str:
    """Return what a campaign is about, as people call it."""
    if campaign.version is not None:
        return f"{campaign.version.license.title} {campaign.version.number}"
    model = campaign.card.model if campaign.card is not None else campaign.release.model if campaign.release else None
    return model.full_name if model is not None else ""


def join(session: Session, campaign: Campaign) -> bool:
    """Ask those, too, whom it has come to concern since others were asked; say whether there were any."""
    known = set(session.scalars(sa.select(Target.user_id).where(Target.campaign_id == campaign.id)))
    if campaign.version is None:
        found = [user_id for user_id in concerned(session, campaign=campaign) if user_id not in known]
    else:
        version, preview = signing_of(campaign)
        since = signers.holders(session, license_id=version.license_id, since=preview.asked_at)
        people = previews.examine(session, preview=preview, user_ids=sorted(set(since) - known)).people
        found = [row["user_id"] for row in people if row["lot"] is Lot.MUST_SIGN]
    if found:
        session.execute(sa.insert(Target), [{"campaign_id": campaign.id, "user_id": user_id} for user_id in found])
    return bool(found)


def purposes_of(session: Session, *, campaign: Campaign) -> frozenset[str]:
    """Return the intended uses that a changed limitation touches; none stands for all."""
    query = sa.select(CampaignPurpose.stable_key).where(CampaignPurpose.campaign_id == campaign.id)
    return frozenset(session.scalars(query))


def concerned(session: Session, *, campaign: Campaign) -> list[int]:
    """Return, in order of their ids, the people with an open account whom a limitation or a correction concerns.

    A correction concerns whoever holds a copy of its release; a limitation whoever holds or used any of its model,
    but for those who declared other uses than it touches.
    """
    if campaign.card is not None:
        releases = [one.id for one in catalog.releases_of(session, model_id=campaign.card.model_id)]
        people = {*deliveries.holders(session, release_ids=releases), *usage.users_of(session, release_ids=releases)}
        uses = purposes_of(session, campaign=campaign)
        declared = entitlements.declared(session, model_id=campaign.card.model_id) if uses else {}
        people = {one for one in people if rules.is_touched(uses, declared.get(one, frozenset()))}
    else:
        people = set(deliveries.holders(session, release_ids=[campaign.release_id or 0]))
    query = sa.select(User.id).where(among(User.id, people), User.standing != Standing.CLOSED)
    return list(session.scalars(query.order_by(User.id)))


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
    rows = session.execute(query.where(among(User.id, ids)))
    return [Asked(row[0], row[1], row[2] or "", row[3] or "", come[row[0]]) for row in rows]
