"""Mail to those whom a campaign asks: a first word where they had none, and a second where they did not answer."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import Profile
from portal.campaigns import rules
from portal.campaigns import service as campaigns
from portal.campaigns.models import Campaign, Target
from portal.campaigns.rules import WAVES, CampaignKind, CampaignState, TargetState
from portal.notices import service as notices
from portal.notices.rules import moment

MAILS = 200
TELLING = "campaign"


def remind(session: Session, *, now: datetime, base_url: str) -> bool:
    """Leave the next messages of a running campaign; say whether more are waiting.

    Whoever has answered gets none. A campaign whose version lost its date is called off.
    """
    for campaign in session.scalars(sa.select(Campaign).where(Campaign.state == CampaignState.RUNNING)).all():
        if campaign.version is not None and campaigns.settle(session, version=campaign.version, now=now):
            continue
        if _remind(session, campaign, now=now, base_url=base_url):
            return True
    return False


def _remind(session: Session, campaign: Campaign, *, now: datetime, base_url: str) -> bool:
    started, required = campaign.started_at or now, campaigns.answer_by(campaign) or now
    wave = rules.wave(started, required, now)
    if wave == WAVES and campaign.reminded_at is not None:
        return False
    waiting = sa.select(Target).where(Target.campaign_id == campaign.id, Target.waves < wave)
    targets = session.scalars(waiting.order_by(Target.user_id).limit(MAILS)).all()
    if not targets and wave == WAVES:
        if campaigns.join(session, campaign):
            return True
        campaign.reminded_at = now
        session.flush()
    user_ids = [target.user_id for target in targets]
    come = campaigns.states(session, campaign=campaign, user_ids=user_ids) if targets else {}
    told = notices.told(session, user_ids=user_ids, subject_ref=campaigns.about(campaign))
    for target in targets:
        first = target.waves == 0 and wave == 1
        if come[target.user_id] not in SILENT and not (first and target.user_id in told):
            _mail(session, campaign, target, base_url=base_url, now=now)
        target.waves = wave
    session.flush()
    return bool(targets)


SILENT = frozenset({*TargetState}) - {TargetState.REACHED, TargetState.NOTIFIED, TargetState.WAITING}


def _mail(session: Session, campaign: Campaign, target: Target, *, base_url: str, now: datetime) -> None:
    version, by_then = campaign.version, moment(campaigns.answer_by(campaign) or now)
    profile = session.get(Profile, target.user_id)
    if profile is None:
        return
    if version is not None:
        title, page = version.license.title, f"{base_url}/licenses/{version.license.slug}/{version.number}/sign"
        subject = f"{title}: version {version.number} waits for your answer"
        body = rules.compose_reminder(title=title, number=version.number, required_on=by_then, page=page)
    else:
        name = campaigns.subject_of(campaign)
        subject = f"{'Reminder: ' if target.waves else ''}{name}: {HEADINGS[campaign.kind]}"
        body = rules.compose_telling(
            kind=campaign.kind, name=name, words=campaign.words, answer_on=by_then,
            page=f"{base_url}/settings/acknowledgments/{campaign.public_id}",
        )  # fmt: skip
    notices.queue(
        session, recipient_id=target.user_id, address=profile.email, kind=campaigns.REMINDER if version else TELLING,
        subject_ref=campaigns.about(campaign), subject=subject, body=body, now=now,
    )  # fmt: skip


HEADINGS = {CampaignKind.LIMITATION: "what it cannot do well changed", CampaignKind.CORRECTION: "a correction"}
