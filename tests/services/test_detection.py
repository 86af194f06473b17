"""Which rules are looked at, what they hit, and the brake."""

from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.audit.models import AuditEvent
from portal.core.change import facts_version
from portal.core.errors import Conflict, NotFound
from portal.detection import service
from portal.detection.models import DetectionRule, Hit
from portal.detection.rules import RULE_LIFE, Mode, Move, RuleOutcome, RuleSet, Use
from portal.exemptions import service as exemptions
from portal.exemptions.rules import Purpose
from portal.notices.models import Notice
from tests import conduct
from tests.detecting import DAY, HOUR, NEWS, SECOND, Desk
from tests.factories import BASE, Make


@pytest.fixture
def desk(session: Session, make: Make, now: datetime) -> Desk:
    return Desk(session, make, now)


def hits(session: Session) -> list[tuple[str, str]]:
    rows = session.scalars(sa.select(Hit).order_by(Hit.id))
    return [(hit.outcome.value, hit.applied.value) for hit in rows]


def exempt(desk: Desk, ref: str, **said: Any) -> Any:
    given: dict[str, Any] = {
        "person": ref, "purpose": Purpose.DETECTION_RESEARCH, "license_slug": conduct.SLUG,
        "clause_keys": ["restriction.spam"], "model_name": "", "safeguards": "Nothing is published.",
        "since": desk.now, "until": desk.now + 30 * DAY, "page": BASE, "by": desk.mo, "now": desk.now,
    }  # fmt: skip
    return exemptions.grant(desk.session, **{**given, **said})


@pytest.mark.parametrize(
    ("mode", "applied"), [("shadow", "allow"), ("flagging", "flag"), ("enforcing", "block")], ids=lambda value: value
)
def test_what_a_hit_comes_to_follows_from_how_far_its_rule_has_come(
    session: Session, desk: Desk, mode: str, applied: str
) -> None:
    desk.rule(mode)
    desk.rule("draft", slug="not-yet", when=f"{NEWS} >= 1", passes=("none",), match=("news",))
    user = desk.make.person()
    found = desk.hit(user)
    assert [(hit.rule.slug, hit.applied.value) for hit in found] == [("fake-news", applied)]
    assert not desk.hit(user, vector={NEWS: 1})
    assert hits(session) == [("block", applied)]
    waiting = service.hits_without_case(session, limit=10)
    assert [(hit.rule, hit.clauses, hit.user_id) for hit in waiting] == (
        [] if mode == "shadow" else [("fake-news", ("restriction.spam",), user.id)]
    )


def test_a_retired_or_expired_rule_enforces_nothing(session: Session, desk: Desk, now: datetime) -> None:
    row = desk.rule()
    user = desk.make.person()
    late = row.expires_at
    assert [hit.applied for hit in desk.hit(user, late - SECOND)] == [RuleOutcome.BLOCK]
    assert [hit.applied for hit in desk.hit(user, late)] == [RuleOutcome.FLAG]
    assert late == now - DAY + RULE_LIFE
    desk.step(row, Move.RETIRE)
    assert desk.hit(user) == []
    with pytest.raises(Conflict):
        desk.step(row, Move.RETIRE)


def test_the_version_of_the_set_moves_with_every_change(session: Session, desk: Desk) -> None:
    seen = [(service.rule_set_version(session), facts(session))]

    def moved() -> None:
        seen.append((service.rule_set_version(session), facts(session)))
        assert seen[-1][0] > seen[-2][0]
        assert seen[-1][1] > seen[-2][1]

    row = desk.rule("shadow")
    moved()
    for move in (Move.FLAG, Move.ENFORCE, Move.FLAG):
        desk.step(row, move, desk.now)
        moved()
    granted = exempt(desk, desk.make.person().public_id)
    moved()
    exemptions.end(session, ref=granted.public_id, reason="Over.", by=desk.mo, now=desk.now)
    moved()
    desk.step(row, Move.RETIRE)
    moved()
    assert service.rule_set(session, now=desk.now).version == service.rule_set_version(session)
    service.rule_set(session, now=desk.now)
    assert service.rule_set_version(session) == seen[-1][0]


def facts(session: Session) -> int:
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
        session.execute(sa.text("SELECT set_config('portal.facts', '', true)"))
    return facts_version(session)


def test_a_hit_is_kept_once_and_goes_into_one_case(session: Session, desk: Desk) -> None:
    desk.rule()
    user = desk.make.person()
    record = desk.use(user, {NEWS: 2})
    use = Use(user.id, desk.release.model_id, conduct.SLUG, "inference", desk.now)
    for _ in range(2):
        service.record_hits(
            session, ruleset=service.rule_set(session, now=desk.now), usage_record_id=record.id, vector={NEWS: 2},
            use=use, base_url=BASE,
        )  # fmt: skip
    waiting = service.hits_without_case(session, limit=10)
    assert len(waiting) == 1
    assert (waiting[0].request_id, waiting[0].model_name) == (record.request_id, "lab/watched")
    for case in (7, 8):
        service.mark_in_case(session, hit_ids=[waiting[0].id], case_id=case)
    assert service.hits_without_case(session, limit=10) == []
    assert [hit.id for hit in service.hits_of(session, case_id=7)] == [waiting[0].id]
    assert service.hits_of(session, case_id=8) == []
    for other in (8, None):
        with pytest.raises(IntegrityError, match="append-only"), session.begin_nested():
            session.execute(sa.update(Hit).values(case_id=other))
    row = session.scalars(sa.select(Hit)).one()
    row.case_id = 8
    with pytest.raises(Conflict, match="never changed"):
        session.flush()


def test_what_the_data_plane_did_is_what_is_kept(session: Session, desk: Desk) -> None:
    row = desk.rule()
    gone = desk.rule(slug="other", when=f"{NEWS} >= 9", match=("news " * 9,))
    user = desk.make.person()
    desk.step(gone, Move.RETIRE)
    desk.hit(user, applied={row.id: RuleOutcome.FLAG, gone.id: RuleOutcome.BLOCK})
    assert hits(session) == [("block", "flag"), ("block", "block")]


def test_rules_watch_only_what_is_in_their_scope(session: Session, desk: Desk) -> None:
    desk.rule(model="lab/watched", route="inference")
    ruleset = service.rule_set(session, now=desk.now)
    bits = ruleset.run({NEWS: 5})
    assert bits

    def found(**other: Any) -> int:
        use = {"user_id": 1, "model_id": desk.release.model_id, "license": conduct.SLUG, "route": "inference"}
        return len(ruleset.found(bits, Use(**{**use, **other}, at=desk.now)))

    assert found() == 1
    assert [found(model_id=0), found(license="another"), found(route="page")] == [0, 0, 0]


def test_beyond_its_cap_an_hour_a_rule_only_flags(session: Session, desk: Desk) -> None:
    desk.rule(per_hour=2)
    user = desk.make.person()
    came = [desk.hit(user, desk.now + n * SECOND)[0].applied.value for n in range(3)]
    assert came == ["block", "block", "flag"]
    assert desk.hit(user, desk.now + HOUR + SECOND)[0].applied is RuleOutcome.BLOCK


@pytest.mark.threat("TM-07")
def test_declared_research_is_recorded_and_not_refused(session: Session, desk: Desk) -> None:
    desk.rule(exempt=(Purpose.DETECTION_RESEARCH,))
    other = desk.rule(
        slug="other", clauses=("restriction.spam", "restriction.later"), exempt=(Purpose.DETECTION_RESEARCH,)
    )
    strict = desk.rule(slug="strict")
    user, stranger = desk.make.person(), desk.make.person()
    granted = exempt(desk, user.public_id, model_name="lab/watched")
    came = {hit.rule.slug: (hit.applied.value, hit.exemption_id) for hit in desk.hit(user)}
    assert came == {"fake-news": ("tag", granted.id), "other": ("block", None), "strict": ("block", None)}
    for row in (other, strict):
        desk.step(row, Move.RETIRE)
    kept = session.scalars(sa.select(Hit).where(Hit.exemption_id == granted.id)).one()
    assert (kept.outcome, kept.applied) == (RuleOutcome.BLOCK, RuleOutcome.TAG)
    assert kept.id not in {hit.id for hit in service.hits_without_case(session, limit=10)}
    assert [hit.applied for hit in desk.hit(stranger)] == [RuleOutcome.BLOCK]
    for outside in (desk.now - SECOND, granted.valid_to):
        assert [hit.applied for hit in desk.hit(user, outside)] == [RuleOutcome.BLOCK]
    elsewhere = Use(user.id, 0, conduct.SLUG, "inference", desk.now)
    ruleset = service.rule_set(session, now=desk.now)
    assert ruleset.found(ruleset.run({NEWS: 3}), elsewhere)[0].applied is RuleOutcome.BLOCK
    exemptions.end(session, ref=granted.public_id, reason="Over.", by=desk.mo, now=desk.now + HOUR)
    assert [hit.applied.value for hit in desk.hit(user, desk.now + HOUR - SECOND)] == ["tag"]
    assert [hit.applied.value for hit in desk.hit(user, desk.now + HOUR)] == ["block"]


@pytest.mark.parametrize(("on_missing", "applied"), [("skip", []), ("flag", ["flag"])])
def test_where_a_text_was_not_looked_at_a_rule_is_passed_over_or_flags(
    session: Session, desk: Desk, on_missing: str, applied: list[str]
) -> None:
    desk.rule(
        when=f"{NEWS} >= 1 and not near_24h > 5", match=("news",), passes=("@near_24h 9\nnews",),
        on_missing=on_missing, outcome=RuleOutcome.WARN,
    )  # fmt: skip
    user = desk.make.person()
    assert [hit.applied.value for hit in desk.hit(user, vector={NEWS: 1})] == applied
    assert [hit.applied.value for hit in desk.hit(user, vector={NEWS: 1, "scanned": True})] == ["warn"]
    assert service.rule_set(session, now=desk.now).run({NEWS: 1}) == 0  # before an engine is asked it is not known


def test_a_rule_that_fails_is_taken_out_and_the_others_are_looked_at(session: Session, desk: Desk) -> None:
    broken = desk.rule(slug="broken", when="chars > 0 and vel_req_1h > 3", match=("@vel_req_1h 9\nx",), passes=("x",))
    desk.rule()
    user = desk.make.person()
    found = desk.hit(user, vector={NEWS: 3, "chars": 5, "vel_req_1h": "many"})
    assert [hit.rule.slug for hit in found] == ["fake-news"]
    session.refresh(broken)
    assert broken.mode is Mode.FLAGGING
    assert service.braked(session, rule=broken) is not None


@pytest.mark.threat("TM-12")
def test_the_brake_counts_people_and_not_hits(session: Session, desk: Desk) -> None:
    row = desk.rule()
    people = [desk.make.person() for _ in range(20)]
    for _ in range(30):
        desk.hit(people[0])
    again = [Hit(rule_id=row.id, usage_record_id=desk.use(people[0], {}).id, user_id=people[0].id, at=desk.now,
                 outcome=row.outcome, applied=row.outcome) for _ in range(1_000)]  # fmt: skip
    session.add_all(again)
    for user in people[1:5]:
        desk.hit(user)
    assert service.watch_reach(session, now=desk.now + SECOND, base_url=BASE) == []
    desk.hit(people[5])
    assert service.watch_reach(session, now=desk.now + SECOND, base_url=BASE) == [row]
    assert (row.mode, row.mode_since) == (Mode.FLAGGING, desk.now + SECOND)
    assert desk.hit(people[6], desk.now + 2 * SECOND)[0].applied is RuleOutcome.FLAG
    brake = service.braked(session, rule=row)
    assert brake is not None
    assert "6 people within an hour" in brake.reason
    mails = session.scalars(sa.select(Notice).where(Notice.kind == "rule_braked")).all()
    assert [(mail.address, brake.reason in mail.body) for mail in mails] == [("mo@staff.example", True)]
    events = session.scalars(sa.select(AuditEvent).where(AuditEvent.subject == row.public_id).order_by(AuditEvent.id))
    assert [event.data.get("move", "written") for event in events] == ["written", "shadow", "flag", "enforce", "brake"]
    assert service.watch_reach(session, now=desk.now + SECOND, base_url=BASE) == []


def test_the_brake_looks_at_one_in_a_hundred_of_those_who_are_active_and_only_in_the_first_week(
    session: Session, desk: Desk
) -> None:
    row = desk.rule()
    crowd = [desk.make.person() for _ in range(8)]
    for user in crowd:
        desk.hit(user)
    reach = service.reach(session, rule=row, now=desk.now)
    assert (reach.hour, reach.day, reach.active) == (8, 8, 8)
    later = desk.now + 7 * DAY
    for user in crowd:
        desk.hit(user, later)
    assert service.watch_reach(session, now=later, base_url=BASE) == []
    assert service.watch_reach(session, now=desk.now, base_url=BASE) == [row]


def test_beyond_its_people_a_day_a_rule_is_braked_at_any_age(session: Session, desk: Desk) -> None:
    row = desk.rule(accounts_per_day=3)
    later = desk.now + 20 * DAY
    for n in range(4):
        assert service.watch_reach(session, now=later, base_url=BASE) == []
        desk.hit(desk.make.person(), later - n * HOUR)
    assert service.watch_reach(session, now=later, base_url=BASE) == [row]


def test_no_word_of_a_version_changes(session: Session, desk: Desk) -> None:
    row = desk.rule("draft")
    for column, value in (("condition", "chars > 1"), ("outcome", "tag"), ("expires_at", desk.now + DAY)):
        with pytest.raises(IntegrityError, match="frozen"), session.begin_nested():
            session.execute(sa.update(DetectionRule).values({column: value}))
    with pytest.raises(IntegrityError, match="frozen"), session.begin_nested():
        session.execute(sa.delete(DetectionRule))
    row.title = "Another"
    with pytest.raises(Conflict):
        session.flush()


def test_what_is_not_there(session: Session, desk: Desk) -> None:
    with pytest.raises(NotFound):
        service.find(session, ref="rul_none")
    assert service.hits_without_case(session, limit=10) == []
    service.mark_in_case(session, hit_ids=[], case_id=1)
    assert RuleSet(1).run({}) == 0


def test_two_who_move_a_rule_at_once_do_not_both_win(session: Session, desk: Desk) -> None:
    row = desk.rule("flagging")
    session.execute(
        sa.update(DetectionRule).values(mode=Mode.RETIRED).execution_options(synchronize_session=False)
    )  # fmt: skip
    with pytest.raises(Conflict) as caught:
        service.move(session, rule=row, action=Move.RETIRE, by=desk.mo, now=desk.now)
    assert caught.value.code == "changed_meanwhile"
