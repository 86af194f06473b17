"""A campaign from its preview to its end: who is asked and reminded, and what a cut-over waits for."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.models import Requirement
from portal.access.rules import Action, Follows
from portal.accounts.models import Profile, User
from portal.accounts.rules import Standing
from portal.annulments import service as annulments
from portal.audit.models import AuditEvent
from portal.campaigns import service
from portal.campaigns.models import Campaign, Target
from portal.campaigns.rules import QUIET, CampaignAction, CampaignState, TargetState, second_at
from portal.core.actor import Actor
from portal.core.errors import Conflict, Invalid, NotFound
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import NOTICE_MINIMUM, DeclineReason, Materiality
from portal.notices import service as notices
from portal.notices.models import Notice
from portal.previews import service as previews
from portal.previews.rules import Lot
from portal.publishing import service as publishing
from portal.reminders import service as reminders
from portal.signing import service as signing
from tests import conduct, licensed
from tests.editing import BASE, DAY, code, settled, steps
from tests.licensed import SLUG
from tests.population import Situation, Town, look_ahead, sign
from tests.services.test_previews import approved, previewed

MOVE: dict[str, Any] = {"limit": 0.05}


@pytest.fixture
def version(session: Session, editors: dict[str, Actor], now: datetime) -> LicenseVersion:
    return settled(session, editors, now)


def started(session: Session, version: LicenseVersion, by: Actor, now: datetime) -> Campaign:
    """A campaign that just started: in force in 20 days, binding in 50."""
    preview = previewed(session, version, by, now)
    service.schedule(session, ref=preview.public_id, by=by, now=now, base_url=BASE)
    campaign = service.open_campaign(session, version=version)
    assert campaign is not None
    return campaign


def mails(session: Session, user: User) -> list[str]:
    query = sa.select(Notice.kind).where(Notice.recipient_id == user.id, Notice.subject_ref.endswith("/1.2.0"))
    return list(session.scalars(query.order_by(Notice.id)))


def send(session: Session, now: datetime, *back: User) -> None:
    """Hand every mail that waits to the mail server; to some people it comes back."""
    while claimed := notices.claim_due(session, now=now):
        for mail in claimed:
            owner = session.get_one(Notice, mail.notice_id).recipient_id
            if owner in {user.id for user in back}:
                notices.mark_failed(session, notice_id=mail.notice_id, error="550", now=now, permanent=True)
            else:
                notices.mark_sent(session, notice_id=mail.notice_id, now=now)


def remind(session: Session, now: datetime) -> None:
    while reminders.remind(session, now=now, base_url=BASE):
        pass


def shown(session: Session, user: User, now: datetime) -> None:
    notices.mark_shown(session, user_id=user.id, subject_ref=f"license_version:{SLUG}/1.2.0", now=now)


def states(session: Session, campaign: Campaign) -> Counter[TargetState]:
    return Counter(service.states(session, campaign=campaign).values())


def test_the_whole_life_of_a_campaign(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    ann, bob, cyd, dee = (town.settle(Situation()) for _ in range(4))
    preview = service.ask(
        session, version=version, effective_at=now + 20 * DAY, required_by=now + 50 * DAY, by=editors["ed"], now=now
    )
    campaign = service.open_campaign(session, version=version)
    assert campaign is not None
    assert campaign.state is CampaignState.PLANNED
    with pytest.raises(Conflict) as early:
        service.schedule(session, ref=preview.public_id, by=editors["ed"], now=now, base_url=BASE)
    assert code(early) == "preview_running"
    look_ahead(session, now)
    assert (campaign.state, preview.done_at) == (CampaignState.PREVIEWED, now)
    assert preview.result is not None
    assert preview.result["lots"]["must_sign"] == 4
    service.schedule(session, ref=preview.public_id, by=editors["ed"], now=now, base_url=BASE)
    assert (campaign.state, states(session, campaign)) == (CampaignState.RUNNING, {TargetState.WAITING: 4})
    remind(session, now)
    assert [mails(session, user) for user in (ann, bob, cyd, dee)] == [["license_version"]] * 4
    send(session, now, cyd)
    assert states(session, campaign) == {TargetState.NOTIFIED: 3, TargetState.UNREACHABLE: 1}
    sign(session, ann, version, now + DAY)
    ceremony = signing.open_ceremony(session, by=licensed.browsing(dee), version_id=version.id, language="en", now=now)
    annulments.decline(
        session, by=licensed.browsing(dee), version_id=version.id, nonce=ceremony.nonce, reason=DeclineReason.UNSAID,
        now=now,
    )  # fmt: skip
    later = second_at(now, now + 50 * DAY)
    remind(session, later - timedelta(seconds=1))
    assert campaign.reminded_at is None
    remind(session, later)
    assert campaign.reminded_at == later
    assert [len(mails(session, user)) for user in (ann, bob, cyd, dee)] == [1, 2, 1, 1]
    send(session, later)
    shown(session, bob, later)
    service.exempt(session, ref=campaign.public_id, person=cyd.public_id, reason="Left.", by=editors["flo"], now=later)
    come = {TargetState.SIGNED: 1, TargetState.REACHED: 1, TargetState.EXEMPT: 1, TargetState.DECLINED: 1}
    assert states(session, campaign) == come
    move: dict[str, Any] = {"ref": campaign.public_id, "by": editors["flo"], "now": now + 50 * DAY, **MOVE}
    licensing.arrive(session, now=now + 20 * DAY)
    assert service.move(session, action=CampaignAction.CUT_OVER, **move).state is CampaignState.CUT_OVER
    remind(session, now + 60 * DAY)
    assert len(mails(session, bob)) == 2
    sign(session, dee, version, now + 51 * DAY)
    assert states(session, campaign)[TargetState.SIGNED] == 2
    assert service.move(session, action=CampaignAction.FINISH, **move).ended_at == now + 50 * DAY
    query = sa.select(AuditEvent.data).where(AuditEvent.subject == campaign.public_id).order_by(AuditEvent.id)
    changes = [data["change"] for data in session.scalars(query)]
    assert changes == ["planned", "running", "exempted", "cut_over", "finished"]


@pytest.mark.invariant("INV-32")
def test_a_cut_over_waits_for_every_condition(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    people = [town.settle(Situation()) for _ in range(20)]
    campaign = started(session, version, editors["ed"], now)
    remind(session, now)
    send(session, now)
    for user in people[:-2]:
        shown(session, user, now)
    day = now + 50 * DAY

    def cut(at: datetime) -> str:
        nested = session.begin_nested()
        try:
            service.move(
                session, ref=campaign.public_id, action=CampaignAction.CUT_OVER, by=editors["flo"], now=at, **MOVE
            )
        except Conflict as error:
            return error.message.partition("This has to be true first: ")[2]
        finally:
            nested.rollback()
            session.refresh(campaign)
        return ""

    assert cut(now).count(".") >= 4
    remind(session, day - QUIET)
    assert "reminder" in cut(day)  # the mail server has not taken them yet
    send(session, day - QUIET)
    assert "reminder" not in cut(day)
    assert "reminder" in cut(day - timedelta(seconds=1))
    assert "The day has come" in cut(day - timedelta(seconds=1))
    assert "No news reached 2 of those who are asked: 10.0%" in cut(day)
    shown(session, people[-1], day)
    assert cut(day) == ""  # one of twenty is as many as may be
    newcomer = town.settle(Situation())
    licensing_row = licensing.find_version(session, slug=SLUG, number="1.1.0")
    sign(session, newcomer, licensing_row, now + DAY)
    assert "No news reached 2 of those who are asked" in cut(day)  # whoever signed since the preview counts
    session.execute(sa.update(Campaign).values(reminded_at=None))
    assert "reminder" in cut(day)


@pytest.mark.invariant("INV-14")
def test_whoever_was_never_reached_keeps_what_they_have_after_the_cut_over(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    ann, bob = town.settle(Situation()), town.settle(Situation(bounces=True))
    campaign = started(session, version, editors["ed"], now)
    remind(session, now)
    send(session, now, bob)
    shown(session, ann, now)
    day = now + 50 * DAY
    remind(session, day - QUIET)
    send(session, day - QUIET, bob)
    service.exempt(session, ref=campaign.public_id, person=bob.public_id, reason="Gone.", by=editors["ed"], now=day)
    service.move(session, ref=campaign.public_id, action=CampaignAction.CUT_OVER, by=editors["ed"], now=day, **MOVE)

    def infer(user: User, at: datetime) -> tuple[bool, list[str]]:
        answer = access.check(
            session, actor=conduct.acting(user), model="lab/standard", action=Action.INFER, now=at, base_url=BASE
        )
        return answer.allowed, [reason.code for reason in answer.reasons]

    assert infer(ann, day) == (False, ["signature_lapsed"])
    assert infer(bob, day + 400 * DAY) == (True, ["signature_due"])
    shown(session, bob, day)
    assert infer(bob, day + NOTICE_MINIMUM - timedelta(seconds=1)) == (True, ["signature_due"])
    assert infer(bob, day + NOTICE_MINIMUM) == (False, ["signature_lapsed"])


def test_a_cut_over_moves_what_downloads_ask_for_where_that_is_meant(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    ann, day = town.settle(Situation()), now + 50 * DAY
    campaign = started(session, version, editors["ed"], now)
    remind(session, now)
    send(session, now)
    shown(session, ann, now)
    remind(session, day - QUIET)
    send(session, day - QUIET)
    licensing.arrive(session, now=day)

    def download(at: datetime) -> list[str]:
        answer = access.check(
            session, actor=conduct.acting(ann), model="lab/standard", action=Action.DOWNLOAD, now=at, base_url=BASE
        )
        return [reason.code for reason in answer.reasons]

    assert previews.pins(session, version=version) == [{"model": "lab/standard", "number": "1.1.0"}]
    assert download(day) == []
    rows = sa.select(Requirement).where(Requirement.valid_to == day)
    given: dict[str, Any] = {"ref": campaign.public_id, "action": CampaignAction.CUT_OVER, "by": editors["ed"], **MOVE}
    nested = session.begin_nested()
    service.move(session, now=day, **given)
    assert (download(day), session.scalars(rows).all()) == ([], [])
    nested.rollback()
    session.expire_all()
    service.move(session, now=day, follow=["lab/standard", "lab/strict", "lab/none"], **given)
    assert download(day) == ["signature_lapsed"]
    assert previews.pins(session, version=version) == []
    old = session.scalars(rows).one()
    query = sa.select(Requirement).where(Requirement.model_id == old.model_id, Requirement.action == Action.DOWNLOAD)
    [_, new] = session.scalars(query.order_by(Requirement.id))
    assert (old.follows, new.follows) == (Follows.RELEASE, Follows.LICENSE)
    assert (new.valid_from, new.valid_to, new.grace) == (day, None, old.grace)
    moved = session.scalars(sa.select(AuditEvent).where(AuditEvent.name == "license:requirement:moved")).one()
    assert moved.data == {"license": SLUG, "campaign": campaign.public_id}


def test_a_version_that_nobody_must_sign_gets_its_date_without_a_campaign(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town
) -> None:
    version = approved(session, editors, now, Materiality.EDITORIAL)
    town.settle(Situation())
    preview = previewed(session, version, editors["ed"], now)
    assert preview.result is not None
    assert preview.result["lots"] == {lot.value: int(lot is Lot.CARRIED_OVER) for lot in Lot}
    assert service.open_campaign(session, version=version) is None
    service.schedule(session, ref=preview.public_id, by=editors["ed"], now=now, base_url=BASE)
    assert service.open_campaign(session, version=version) is None
    with pytest.raises(Conflict) as caught:
        service.schedule(session, ref=preview.public_id, by=editors["ed"], now=now, base_url=BASE)
    assert code(caught) == "campaign_missing"


def test_a_version_that_has_its_date_already_gets_its_campaign_later(
    session: Session, now: datetime, town: Town
) -> None:
    """As after `portal licenses publish`."""
    ann, bob = town.settle(Situation(signed=("1.0.0",))), town.settle(Situation())
    version = licensing.find_version(session, slug=SLUG, number="1.1.0")
    by = Actor(public_id="usr_x")
    preview = previewed(session, version, by, now)
    assert (preview.effective_at, preview.required_by) == (version.effective_at, version.required_by)
    service.schedule(session, ref=preview.public_id, by=by, now=now, base_url=BASE)
    campaign = service.open_campaign(session, version=version)
    assert campaign is not None
    assert list(service.states(session, campaign=campaign)) == [ann.id]
    lots = {row.user_id: row.lot for row in previews.people(session, preview=preview)}
    assert lots == {ann.id: Lot.MUST_SIGN, bob.id: Lot.SIGNED}
    remind(session, now)
    kinds = session.scalars(sa.select(Notice.kind).where(Notice.recipient_id == ann.id, Notice.due_at.is_not(None)))
    assert list(kinds) == ["license_reminder"]


def test_calling_off_the_date_calls_off_the_campaign(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    town.settle(Situation())
    first = started(session, version, editors["ed"], now)
    publishing.cancel(session, **steps(), by=editors["ed"], now=now, base_url=BASE)
    remind(session, now)
    assert (first.state, first.ended_at) == (CampaignState.CANCELLED, now)
    second = started(session, version, editors["ed"], now)
    publishing.cancel(session, **steps(), by=editors["ed"], now=now, base_url=BASE)
    third = started(session, version, editors["ed"], now)
    assert second.state is CampaignState.CANCELLED
    assert len({first.id, second.id, third.id}) == 3
    assert [row.id for row in service.campaigns(session)] == [third.id, second.id, first.id]


def test_a_paused_campaign_reminds_nobody(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    ann = town.settle(Situation())
    campaign = started(session, version, editors["ed"], now)
    move: dict[str, Any] = {"ref": campaign.public_id, "by": editors["ed"], "now": now, **MOVE}
    service.move(session, action=CampaignAction.PAUSE, **move)
    remind(session, now + 45 * DAY)
    assert mails(session, ann) == ["license_version"]
    with pytest.raises(Conflict):
        service.move(session, action=CampaignAction.CUT_OVER, **move)
    with pytest.raises(Conflict):
        service.move(session, action=CampaignAction.START, **move)
    service.move(session, action=CampaignAction.RESUME, **move)
    remind(session, now + 45 * DAY)
    assert mails(session, ann) == ["license_version", "license_reminder"]
    service.move(session, action=CampaignAction.CANCEL, **move)
    with pytest.raises(Conflict) as ended:
        service.exempt(session, ref=campaign.public_id, person=ann.public_id, reason="x", by=editors["ed"], now=now)
    assert code(ended) == "campaign_ended"


def test_whom_a_campaign_does_not_count(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    ann, bob, cyd = (town.settle(Situation()) for _ in range(3))
    campaign = started(session, version, editors["ed"], now)
    given: dict[str, Any] = {"ref": campaign.public_id, "by": editors["ed"], "now": now}
    for _ in range(2):
        service.exempt(session, person=ann.public_id, reason=" Gone. ", **given)
    target = session.get_one(Target, (campaign.id, ann.id))
    assert (target.exempt_reason, target.exempt_by) == ("Gone.", editors["ed"].public_id)
    with pytest.raises(NotFound):
        service.exempt(session, person="usr_nobody", reason="Gone.", **given)
    for reason in ("", "x" * 501, "a\nb"):
        with pytest.raises(Invalid):
            service.exempt(session, person=bob.public_id, reason=reason, **given)
    bob.standing, bob.standing_ref = Standing.CLOSED, "san_x"
    session.delete(session.get_one(Profile, cyd.id))
    session.flush()
    session.expire(cyd)
    assert states(session, campaign) == {TargetState.EXEMPT: 2, TargetState.UNREACHABLE: 1}
    remind(session, now + 45 * DAY)
    rows = service.targets(session, campaign=campaign, wanted=frozenset({TargetState.UNREACHABLE}))
    assert [(row.ref, row.name, row.email) for row in rows] == [(cyd.public_id, "", "")]
    assert [row.ref for row in service.targets(session, campaign=campaign, after_id=ann.id, limit=1)] == [bob.public_id]
    with pytest.raises(NotFound):
        service.find(session, ref="cmp_none")


def test_two_who_move_a_campaign_at_once_do_not_both_win(
    session: Session, editors: dict[str, Actor], now: datetime, town: Town, version: LicenseVersion
) -> None:
    town.settle(Situation())
    campaign = started(session, version, editors["ed"], now)
    session.execute(
        sa.update(Campaign).values(state=CampaignState.PAUSED).execution_options(synchronize_session=False)
    )  # fmt: skip
    with pytest.raises(Conflict) as caught:
        service._move(session, campaign, CampaignAction.PAUSE, by=editors["ed"], now=now)
    assert code(caught) == "changed_meanwhile"
