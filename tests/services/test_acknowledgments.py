"""Telling those whom it concerns of a changed limitation or a correction, and keeping their word that they read it."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.rules import Standing
from portal.acknowledgments import service
from portal.audit.models import AuditEvent
from portal.campaigns import service as campaigns
from portal.campaigns.models import Campaign
from portal.campaigns.rules import QUIET, CampaignAction, CampaignKind, CampaignState, TargetState
from portal.cards import service as cards
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, Invalid, NotFound
from portal.entitlements import service as entitlements
from portal.entitlements.rules import Mode
from portal.notices import service as notices
from portal.notices.models import Notice
from portal.reminders import service as reminders
from portal.usage import service as usage
from portal.usage.rules import Line
from tests import conduct
from tests.editing import BASE, DAY, code
from tests.population import Situation, Town

ED = Actor(public_id="usr_ed")
LIMITATION, CORRECTION = CampaignKind.LIMITATION, CampaignKind.CORRECTION


def card(session: Session, name: str, line: str, now: datetime) -> None:
    """The next revision of a card, with one more line."""
    model = catalog.find_model(session, full_name=name)
    current = catalog.current_card(session, model=model)
    assert current is not None
    text = catalog.card_text(session, revision=current) + line + "\n"
    draft = catalog.save_draft(session, model=model, text=text, note="", by=SYSTEM, now=now)
    catalog.publish_card(session, model=model, shown_sha256=draft.text_sha256, by=SYSTEM, now=now)


def plan(session: Session, now: datetime, kind: CampaignKind = LIMITATION, **said: Any) -> Campaign:
    given: dict[str, Any] = {"model": "lab/standard", "revision": "", "words": "It is worse at dates. Check them."}
    return service.plan(session, kind=kind, answer_by=now + 30 * DAY, by=ED, now=now, **given | said)


def move(session: Session, campaign: Campaign, action: CampaignAction, now: datetime) -> None:
    campaigns.move(session, ref=campaign.public_id, action=action, by=ED, now=now, limit=0.0)


def states(session: Session, campaign: Campaign) -> Counter[TargetState]:
    return Counter(campaigns.states(session, campaign=campaign).values())


def mails(session: Session, user_id: int) -> list[str]:
    query = sa.select(Notice.subject).where(Notice.recipient_id == user_id, Notice.kind == "campaign")
    return list(session.scalars(query.order_by(Notice.id)))


def remind(session: Session, now: datetime) -> None:
    while reminders.remind(session, now=now, base_url=BASE):
        pass


def used(session: Session, town: Town, user_id: int, name: str, now: datetime) -> None:
    """A completion by somebody who never downloaded."""
    release = town.releases[name]
    line = {
        "kind": Line.OPENED, "id": f"req_{user_id}", "user_id": user_id, "access_token_id": None, "model_name": name,
        "release_id": release.id, "action": "infer", "channel": "api", "signature_ids": [],
        "card_revision_id": release.card_revision_id, "started_at": now.isoformat(), "at": now.isoformat(),
    }  # fmt: skip
    usage.record(session, record=line)
    session.execute(sa.text("UPDATE usage_record SET completion_tokens = 3"))


def test_a_changed_limitation_is_told_read_and_kept(session: Session, now: datetime, town: Town) -> None:
    ann = town.settle(Situation(copies=("lab/standard",)))
    bob = town.settle(Situation(copies=("lab/lenient",)))
    cyd = town.settle(Situation())
    used(session, town, cyd.id, "lab/standard", now)
    card(session, "lab/standard", "It errs in dates.", now)
    campaign = plan(session, now)
    assert (campaign.state, states(session, campaign)) == (CampaignState.PLANNED, {})
    assert campaigns.concerned(session, campaign=campaign) == [ann.id, cyd.id]
    with pytest.raises(Conflict) as twice:
        plan(session, now)
    assert code(twice) == "campaign_open"
    with pytest.raises(NotFound):
        service.find(session, by=conduct.acting(ann), ref=campaign.public_id)
    move(session, campaign, CampaignAction.START, now)
    assert states(session, campaign) == {TargetState.WAITING: 2}
    remind(session, now)
    remind(session, now)
    assert [mails(session, user.id) for user in (ann, bob, cyd)] == [
        ["lab/standard: what it cannot do well changed"], [], ["lab/standard: what it cannot do well changed"],
    ]  # fmt: skip
    told = service.told(session, campaign=campaign, by=conduct.acting(ann))
    assert (told.before and told.before.number, told.after and told.after.number) == (1, 2)
    assert told.new == told.old + "It errs in dates.\n"
    given: dict[str, Any] = {"by": conduct.acting(ann), "ref": campaign.public_id}
    with pytest.raises(Conflict) as other:
        service.acknowledge(session, shown_sha256="0" * 64, now=now, **given)
    assert code(other) == "shown_changed"
    word = service.acknowledge(session, shown_sha256=told.sha256, now=now, **given)
    assert service.acknowledge(session, shown_sha256="whatever", now=now + DAY, **given) is word
    notices.mark_shown(session, user_id=cyd.id, subject_ref=campaigns.about(campaign), now=now)
    assert states(session, campaign) == {TargetState.ACKNOWLEDGED: 1, TargetState.REACHED: 1}
    later = now + 30 * DAY
    remind(session, later)
    assert [len(mails(session, user.id)) for user in (ann, bob, cyd)] == [1, 0, 2]
    assert mails(session, cyd.id)[1].startswith("Reminder: ")
    move(session, campaign, CampaignAction.FINISH, later)
    assert [row[0].id for row in service.own(session, by=conduct.acting(ann))] == [campaign.id]
    query = (
        sa.select(AuditEvent.name, AuditEvent.data)
        .where(AuditEvent.subject == campaign.public_id)
        .order_by(AuditEvent.id)
    )
    events = [(name, data.get("change", data.get("shown"))) for name, data in session.execute(query)]
    assert events == [
        ("license:campaign:changed", "planned"), ("license:campaign:changed", "running"),
        ("license:campaign:acknowledged", told.sha256), ("license:campaign:changed", "finished"),
    ]  # fmt: skip


def test_a_person_sees_the_card_since_the_one_with_which_they_got_their_copy(
    session: Session, now: datetime, town: Town
) -> None:
    card(session, "lab/standard", "Second.", now)
    old, new = town.settle(Situation(copies=("lab/standard",))), town.settle(Situation())
    card(session, "lab/standard", "Third.", now)
    used(session, town, new.id, "lab/standard", now)
    campaign = plan(session, now)
    move(session, campaign, CampaignAction.START, now)
    befores = [service.told(session, campaign=campaign, by=conduct.acting(user)).before for user in (old, new)]
    assert [one and one.number for one in befores] == [1, 2]


def test_a_correction_is_told_to_those_who_hold_a_copy_and_to_those_who_come_to(
    session: Session, now: datetime, town: Town
) -> None:
    ann, bob, cyd, dee = (
        town.settle(Situation(copies=copies)) for copies in (("lab/standard",), ("lab/lenient",), (), ("lab/standard",))
    )  # fmt: skip
    dee.standing, dee.standing_ref = Standing.CLOSED, "san_x"
    used(session, town, cyd.id, "lab/standard", now)
    release = town.releases["lab/standard"]
    campaign = plan(session, now, CORRECTION, revision=release.revision)
    move(session, campaign, CampaignAction.START, now)
    remind(session, now)
    assert list(campaigns.states(session, campaign=campaign)) == [ann.id]
    late = town.settle(Situation(copies=("lab/standard",)))
    remind(session, now + QUIET - timedelta(seconds=1))
    assert list(campaigns.states(session, campaign=campaign)) == [ann.id]
    remind(session, now + 30 * DAY)
    assert [len(mails(session, user.id)) for user in (ann, bob, cyd, dee, late)] == [2, 0, 0, 0, 1]
    told = service.told(session, campaign=campaign, by=conduct.acting(ann))
    assert (told.before, told.after, told.old) == (None, None, "")
    service.acknowledge(
        session, by=conduct.acting(ann), ref=campaign.public_id, shown_sha256=told.sha256, now=now + 31 * DAY
    )
    assert states(session, campaign) == {TargetState.ACKNOWLEDGED: 1, TargetState.NOTIFIED: 1}
    move(session, campaign, CampaignAction.CANCEL, now + 31 * DAY)
    with pytest.raises(Conflict):
        service.acknowledge(
            session, by=conduct.acting(late), ref=campaign.public_id, shown_sha256=told.sha256, now=now + 31 * DAY
        )
    assert service.own(session, by=conduct.acting(late)) == []


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"words": " \n"}, "campaign_words"), ({"words": "x" * 4_001}, "campaign_words"),
        ({"words": "a\0b"}, "campaign_letters"), ({"words": "a\u202eb"}, "campaign_letters"),
        ({"model": "lab/none"}, "model_not_found"), ({"model": "\0/\udc80"}, "model_not_found"),
        ({"kind": CORRECTION, "revision": "0" * 40}, "release_not_found"),
        ({"kind": CORRECTION, "revision": "\0"}, "release_not_found"),
        ({"kind": CampaignKind.RE_SIGN}, "campaign_kind"),
    ],
)  # fmt: skip
def test_what_cannot_be_told(session: Session, now: datetime, town: Town, said: dict[str, Any], wrong: str) -> None:
    with pytest.raises(Invalid) as caught:
        plan(session, now, **said)
    assert code(caught) == wrong
    assert session.scalar(sa.select(sa.func.count()).select_from(Campaign)) == 0


@pytest.mark.parametrize("days", [6, 366, -1])
def test_people_have_time_to_answer(session: Session, now: datetime, town: Town, days: int) -> None:
    with pytest.raises(Invalid) as caught:
        service.plan(
            session, kind=LIMITATION, model="lab/standard", revision="", words="X.", answer_by=now + days * DAY,
            by=ED, now=now,
        )  # fmt: skip
    assert code(caught) == "answer_by"


def test_it_has_no_preview_and_no_cut_over(session: Session, now: datetime, town: Town) -> None:
    campaign = plan(session, now)
    for action in (CampaignAction.PREVIEW, CampaignAction.CUT_OVER, CampaignAction.FINISH):
        with pytest.raises(Conflict):
            move(session, campaign, action, now)
    with pytest.raises(Conflict) as caught:
        campaigns.cut_over_facts(session, campaign=campaign, limit=0.0, now=now)
    assert code(caught) == "campaign_asks_to_read"


USES = "\n- **intended_use.research**: Finding out.\n- **intended_use.teaching**: Showing.\n"
GRAVE = "- **limitation.facts** (safety; none; `intended_use.research`): It makes up {}.\n"


def test_a_changed_safety_item_is_planned_to_be_told_to_those_whom_it_touches(
    session: Session, now: datetime, town: Town
) -> None:
    model = catalog.find_model(session, full_name="lab/standard")
    entitlements.set_form(session, model_id=model.id, model_ref=model.public_id, mode=Mode.MANUAL, by=SYSTEM, now=now)
    people = {name: town.settle(Situation(copies=("lab/standard",))) for name in ("research", "teaching", "silent")}
    people["stranger"] = town.settle(Situation())
    for name in ("research", "teaching"):
        entitlements.submit(
            session, user_id=people[name].id, model_id=model.id, purpose="To see what it does.", by=SYSTEM, now=now,
            purposes=[f"intended_use.{name}"],
        )  # fmt: skip
    texts = [
        GRAVE.format("names") + USES, GRAVE.format("names") + USES + "More.\n", GRAVE.format("dates") + USES,
        GRAVE.format("dates").replace("; `intended_use.research`", "") + USES,
    ]  # fmt: skip
    found = []
    for text in texts:
        draft = catalog.save_draft(session, model=model, text=text, note="", by=SYSTEM, now=now)
        cards.publish(session, model=model, shown_sha256=draft.text_sha256, by=SYSTEM, now=now)
        planned = session.scalar(
            sa.select(Campaign).where(Campaign.card_revision_id == draft.id, Campaign.kind == CampaignKind.LIMITATION)
        )
        found.append(planned)
    assert found[1] is None  # nothing about safety changed
    planned, wide = found[2], found[3]
    assert planned is not None
    assert wide is not None
    assert planned.state is CampaignState.PLANNED  # nobody is told before staff start it
    assert "Changed: facts. It makes up dates." in planned.words
    assert campaigns.purposes_of(session, campaign=planned) == {"intended_use.research"}
    told = {name for name, user in people.items() if user.id in campaigns.concerned(session, campaign=planned)}
    assert told == {"research", "silent"}
    told = {name for name, user in people.items() if user.id in campaigns.concerned(session, campaign=wide)}
    assert told == {"research", "teaching", "silent"}
