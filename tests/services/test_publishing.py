"""A version from submission to retirement: who does what, and in which order."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.rules import Role
from portal.audit.models import AuditEvent
from portal.catalog import service as catalog
from portal.clauses import service as clauses
from portal.clauses.rules import Relation
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, Invalid, PortalError, Refused
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import Materiality, VersionState, Vote
from portal.notices.models import Notice
from portal.publishing import service
from tests import conduct, licensed
from tests.editing import BASE, DAY, LANGUAGES, code, looked, settled, steps, vote, write
from tests.factories import Make
from tests.licensed import SLUG


def names(session: Session, now: datetime) -> list[str]:
    query = sa.select(AuditEvent.name).where(AuditEvent.subject == SLUG, AuditEvent.at >= now).order_by(AuditEvent.id)
    return [name.removeprefix("license:version:") for name in session.scalars(query)]


def test_the_whole_life_of_a_version(session: Session, now: datetime, editors: dict[str, Actor]) -> None:
    ann = conduct.person(session, "ann", now)
    old = licensing.find_version(session, slug=SLUG, number="1.1.0")
    licensed.sign(session, licensed.browsing(ann), old, now)
    start = now + timedelta(seconds=1)
    row = settled(session, editors, start)
    assert (row.state, row.effective_at, row.approved_by) == (VersionState.APPROVED, None, editors["flo"].public_id)
    at, by = now + 20 * DAY, now + 50 * DAY
    when: dict[str, Any] = {"effective_at": at, "required_by": by, "base_url": BASE}
    service.schedule(session, **steps(), **when, previewed=looked(start), by=editors["ed"], now=start)
    service.cancel(session, **steps(), by=editors["gus"], now=start, base_url=BASE)
    assert (row.state, row.effective_at, row.required_by) == (VersionState.APPROVED, None, None)
    service.schedule(session, **steps(), **when, previewed=looked(start), by=editors["ed"], now=start)
    assert licensing.arrive(session, now=at) == 1
    assert (row.state, old.state) == (VersionState.IN_FORCE, VersionState.SUPERSEDED)
    service.retire(session, **steps("1.1.0"), still_asked=[], by=editors["ed"], now=at)
    assert old.state is VersionState.RETIRED
    assert licensing.find_version(session, slug=SLUG, number="1.1.0") is old
    kinds = session.scalars(sa.select(Notice.kind).where(Notice.recipient_id == ann.id).order_by(Notice.id)).all()
    assert [k for k in kinds if k.startswith("license")] == [
        "license_version", "license_version_cancelled", "license_version",
    ]  # fmt: skip
    happened = names(session, start)
    assert happened[-7:] == ["resolved", "approved", "published", "cancelled", "published", "arrived", "retired"]


def test_each_step_has_its_people(session: Session, now: datetime, editors: dict[str, Actor]) -> None:
    row = write(session, editors["ed"], now)
    drafting.save_clause(
        session, **steps(), language="en", key="preamble.purpose", title="Purpose", body="Why.", by=editors["gus"],
        now=now,
    )  # fmt: skip
    drafting.save_description(
        session, **steps(), summary=dict.fromkeys(LANGUAGES, "New."), by=SYSTEM, now=now,
        changes={"restriction.unlawful_use": (Relation.WIDENED, "It changes."),
                 "preamble.purpose": (Relation.REWORDED, "Shorter.")},
    )  # fmt: skip
    service.submit(session, **steps(), by=editors["ed"], now=now)
    vote(session, row, editors["ed"], now)
    for name in ("ed", "gus"):
        with pytest.raises(Refused) as caught:
            service.approve(session, **steps(), by=editors[name], now=now)
        assert code(caught) == "approver_is_author"
    service.approve(session, **steps(), by=editors["flo"], now=now)


def test_review_freezes_the_words_until_changes_are_asked_for(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = write(session, editors["ed"], now)
    service.submit(session, **steps(), by=editors["ed"], now=now)
    with pytest.raises(Conflict) as caught:
        drafting.save_text(session, **steps(), language="en", text="x", by=editors["ed"], now=now)
    assert code(caught) == "version_in_review"
    with pytest.raises(Conflict):
        service.schedule(
            session, **steps(), effective_at=now + 20 * DAY, required_by=now + 20 * DAY, by=editors["ed"], now=now,
            base_url=BASE, previewed=looked(now),
        )  # fmt: skip
    service.request_changes(session, **steps(), words="Say why.", by=editors["flo"], now=now)
    assert row.state is VersionState.DRAFT
    licensing.comment(
        session, version=row, words="Here.", language="fr", key="preamble.purpose", by=editors["gus"], now=now
    )  # fmt: skip
    with pytest.raises(Invalid):
        licensing.comment(session, version=row, words="Where?", key="no.such", by=editors["gus"], now=now)
    service.submit(session, **steps(), by=editors["ed"], now=now)
    assert [(c.words, c.language, c.clause_key) for c in licensing.comments_on(session, version=row)] == [
        ("Say why.", "", ""), ("Here.", "fr", "preamble.purpose"),
    ]  # fmt: skip


def test_what_is_submitted_is_complete_and_what_is_approved_was_looked_at(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = drafting.draft(session, **steps(), by=editors["ed"], now=now)
    row.materiality = Materiality.MATERIAL
    session.flush()
    with pytest.raises(Invalid) as lacking:
        service.submit(session, **steps(), by=editors["ed"], now=now)
    assert code(lacking) == "summary_missing"
    write(session, editors["ed"], now)
    row.materiality = None
    session.flush()
    with pytest.raises(Invalid) as caught:
        service.submit(session, **steps(), by=editors["ed"], now=now)
    assert code(caught) == "materiality_missing"
    row.materiality = Materiality.MATERIAL
    session.flush()
    service.submit(session, **steps(), by=editors["ed"], now=now)
    vote(session, row, editors["ed"], now)
    with pytest.raises(Conflict) as changed:
        service.approve(session, **steps(), shown_sha256="0" * 64, by=editors["flo"], now=now)
    assert code(changed) == "draft_changed"
    shown = licensing.shown(session, version=row)
    service.approve(session, **steps(), shown_sha256=shown, by=editors["flo"], now=now)
    assert licensing.shown(session, version=row) == shown


def test_two_people_put_a_version_in_force_at_once(session: Session, now: datetime, editors: dict[str, Actor]) -> None:
    row = settled(session, editors, now, weight=Materiality.MATERIAL_IMMEDIATE)
    with pytest.raises(Conflict) as caught:
        service.publish_now(session, **steps(), payload_sha256="x", by=editors["flo"], now=now, base_url=BASE)
    assert code(caught) == "proposal_missing"
    with pytest.raises(Invalid):
        service.propose_now(session, **steps(), reason=" ", by=editors["ed"], now=now)
    proposal = service.propose_now(session, **steps(), reason="It is used right now.", by=editors["ed"], now=now)
    given: dict[str, Any] = {**steps(), "payload_sha256": proposal.payload_sha256, "base_url": BASE}
    with pytest.raises(Refused) as own:
        service.publish_now(session, **given, by=editors["ed"], now=now)
    assert code(own) == "second_person_needed"
    with pytest.raises(Conflict) as other:
        service.publish_now(session, **{**given, "payload_sha256": "0" * 64}, by=editors["flo"], now=now)
    assert code(other) == "proposal_changed"
    with pytest.raises(Conflict) as late:
        service.publish_now(session, **given, by=editors["flo"], now=now + DAY)
    assert code(late) == "proposal_expired"
    soon = now + timedelta(hours=23)
    service.publish_now(session, **given, by=editors["flo"], now=soon)
    assert (row.state, row.effective_at, row.required_by) == (VersionState.IN_FORCE, soon, soon)
    assert (proposal.proposed_by, proposal.confirmed_by) == (editors["ed"].public_id, editors["flo"].public_id)


def test_any_change_of_the_version_undoes_a_proposal(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    settled(session, editors, now, weight=Materiality.MATERIAL_IMMEDIATE)
    proposal = service.propose_now(session, **steps(), reason="Now.", by=editors["ed"], now=now)
    when: dict[str, Any] = {"effective_at": now + 20 * DAY, "required_by": now + 20 * DAY, "base_url": BASE}
    service.schedule(session, **steps(), **when, previewed=looked(now), by=editors["gus"], now=now)
    with pytest.raises(Conflict) as caught:
        service.publish_now(
            session, **steps(), payload_sha256=proposal.payload_sha256, by=editors["flo"], now=now, base_url=BASE
        )
    assert code(caught) == "proposal_changed"
    with pytest.raises(Conflict):
        service.propose_now(session, **steps(), reason="Now.", by=editors["ed"], now=now)


def test_a_material_version_is_scheduled_not_rushed(session: Session, now: datetime, editors: dict[str, Actor]) -> None:
    settled(session, editors, now)
    with pytest.raises(Conflict) as caught:
        service.propose_now(session, **steps(), reason="I am in a hurry.", by=editors["ed"], now=now)
    assert code(caught) == "schedule_instead"
    when: dict[str, Any] = {"effective_at": now + 13 * DAY, "required_by": now + 20 * DAY, "base_url": BASE}
    with pytest.raises(Invalid) as soon:
        service.schedule(session, **steps(), **when, previewed=looked(now), by=editors["ed"], now=now)
    assert code(soon) == "effective_soon"


def test_two_people_go_below_the_weight_of_the_changes(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = write(session, editors["ed"], now, weight=Materiality.CLARIFYING)
    service.submit(session, **steps(), by=editors["ed"], now=now)
    with pytest.raises(Invalid) as caught:
        service.approve(session, **steps(), by=editors["flo"], now=now)
    assert code(caught) == "materiality_low"
    with pytest.raises(Refused):
        service.propose_lower(session, **steps(), reason="It is only a typo.", by=editors["ed"], now=now)
    proposal = service.propose_lower(session, **steps(), reason="It is only a typo.", by=editors["flo"], now=now)
    assert (
        service.propose_lower(session, **steps(), reason="It is only a typo.", by=editors["flo"], now=now) is proposal
    )
    given: dict[str, Any] = {**steps(), "payload_sha256": proposal.payload_sha256}
    with pytest.raises(Refused):
        service.approve_lower(session, **given, by=editors["flo"], now=now)
    service.approve_lower(session, **given, by=editors["gus"], now=now)
    assert (row.state, row.approved_by) == (VersionState.APPROVED, editors["flo"].public_id)
    assert row.floor_proposal_id == proposal.id


def test_a_version_that_weighs_enough_needs_no_proposal(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    write(session, editors["ed"], now)
    service.submit(session, **steps(), by=editors["ed"], now=now)
    with pytest.raises(Conflict) as caught:
        service.propose_lower(session, **steps(), reason="Why not.", by=editors["flo"], now=now)
    assert code(caught) == "not_below_floor"


def test_one_person_alone_cannot_propose(session: Session, now: datetime) -> None:
    licensed.publish(session, now)
    ed = conduct.acting(conduct.person(session, "ed", now, Role.LICENSE_EDITOR, domain="staff.example"))
    row = write(session, SYSTEM, now, weight=Materiality.MATERIAL_IMMEDIATE)
    service.submit(session, **steps(), by=SYSTEM, now=now)
    vote(session, row, ed, now)
    service.approve(session, **steps(), by=ed, now=now)
    with pytest.raises(Refused) as caught:
        service.propose_now(session, **steps(), reason="Now.", by=ed, now=now)
    assert code(caught) == "two_people_needed"


def test_only_the_command_line_takes_all_steps_at_once(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = write(session, editors["ed"], now)
    given: dict[str, Any] = {**steps(), "effective_at": now, "required_by": now + 30 * DAY, "now": now}
    with pytest.raises(Refused) as caught:
        service.publish(session, **given, by=editors["ed"])
    assert code(caught) == "operators_only"
    service.submit(session, **steps(), by=editors["ed"], now=now)
    service.publish(session, **given, by=SYSTEM)
    assert (row.state, row.approved_by) == (VersionState.IN_FORCE, "system")
    with pytest.raises(Conflict):
        service.publish(session, **given, by=SYSTEM)


def test_a_scheduled_version_with_a_follower_is_not_called_off(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    settled(session, editors, now)
    when: dict[str, Any] = {"effective_at": now + 20 * DAY, "required_by": now + 20 * DAY, "base_url": BASE}
    service.schedule(session, **steps(), **when, previewed=looked(now), by=editors["ed"], now=now)
    follower = drafting.draft(session, slug=SLUG, number="1.3.0", by=editors["ed"], now=now)
    with pytest.raises(Conflict) as caught:
        service.cancel(session, **steps(), by=editors["ed"], now=now, base_url=BASE)
    assert code(caught) == "version_followed"
    assert follower.predecessor_id is not None
    with pytest.raises(Conflict):
        service.cancel(session, **steps(), by=editors["ed"], now=now + 20 * DAY, base_url=BASE)


def test_an_approved_version_may_be_given_up_and_its_number_is_gone(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = settled(session, editors, now)
    service.retire(session, **steps(), still_asked=[], by=editors["ed"], now=now)
    assert (row.state, row.effective_at) == (VersionState.RETIRED, None)
    with pytest.raises(PortalError):
        licensing.find_version(session, **steps())
    with pytest.raises(Invalid):
        drafting.draft(session, **steps(), by=editors["ed"], now=now)
    after = drafting.draft(session, slug=SLUG, number="1.3.0", by=editors["ed"], now=now)
    assert after.ordinal == row.ordinal + 1
    assert session.get_one(LicenseVersion, after.predecessor_id).number == "1.1.0"


def test_what_a_release_pins_is_not_retired(session: Session, now: datetime, make: Make) -> None:
    make.release(number="1.0.0")
    asked = catalog.asking_for(session, slug=conduct.SLUG, number="1.0.0")
    assert len(asked) == 1
    with pytest.raises(Conflict) as caught:
        service.retire(session, slug=conduct.SLUG, number="1.0.0", still_asked=asked, by=SYSTEM, now=now)
    assert code(caught) == "version_asked_for"
    assert asked[0] in caught.value.message
    assert catalog.asking_for(session, slug=conduct.SLUG, number="9.9.9") == []


def test_a_vote_is_recorded_once_and_before_the_date(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = write(session, editors["ed"], now)
    resolved = Vote("Steering committee", "a" * 64, 12, 1, 2, now)
    kept = licensing.resolve(session, version=row, vote=resolved, by=editors["ed"], now=now)
    assert licensing.resolution_of(session, version=row) is kept
    with pytest.raises(Conflict) as caught:
        licensing.resolve(session, version=row, vote=replace(resolved, votes_for=3), by=editors["ed"], now=now)
    assert code(caught) == "resolution_exists"
    published = licensing.find_version(session, slug=SLUG, number="1.1.0")
    with pytest.raises(Conflict):
        licensing.resolve(session, version=published, vote=resolved, by=editors["ed"], now=now)


def test_a_weighty_version_is_approved_only_with_a_vote_on_its_very_words(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = write(session, editors["ed"], now)
    vote(session, row, editors["ed"], now)
    for text in row.renditions:
        body = clauses.text_of(session, sha256=text.text_sha256).replace("X. ", "Y. ")
        drafting.save_text(session, **steps(), language=text.language, text=body, by=editors["ed"], now=now)
    assert licensing.resolution_of(session, version=row) is None, "they voted on other words"
    service.submit(session, **steps(), by=editors["ed"], now=now)
    with pytest.raises(Conflict) as caught:
        service.approve(session, **steps(), by=editors["flo"], now=now)
    assert code(caught) == "resolution_missing"
    assert caught.value.url == "/staff/licenses/bloom-rail/1.2.0/resolution"
    assert row.state is VersionState.IN_REVIEW
    vote(session, row, editors["ed"], now)
    service.approve(session, **steps(), by=editors["flo"], now=now)
    assert row.state is VersionState.APPROVED


def test_a_light_version_and_a_licensor_without_a_body_need_no_vote(
    session: Session, now: datetime, editors: dict[str, Actor]
) -> None:
    row = write(session, editors["ed"], now)
    service.submit(session, **steps(), by=editors["ed"], now=now)
    row.license.vote_from = None
    session.flush()
    service.check_voted(session, version=row)
    for floor, refused in ((Materiality.MATERIAL_IMMEDIATE, False), (Materiality.MATERIAL, True)):
        row.license.vote_from = floor
        session.flush()
        assert bool(unvoted(session, row)) is refused


def unvoted(session: Session, row: LicenseVersion) -> str:
    try:
        service.check_voted(session, version=row)
    except Conflict as error:
        return error.code
    return ""
