"""Writing rules and bringing them into force; trying them on past use; declared research."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.rules import PROPOSAL_LIFE
from portal.audit.models import AuditEvent
from portal.backtests import service as backtests
from portal.backtests.models import BacktestPart
from portal.core.actor import SYSTEM
from portal.core.errors import Invalid, NotFound, PortalError
from portal.detection import service as detection
from portal.detection.models import DetectionRule, RuleMove
from portal.detection.rules import RULE_LIFE, SHADOW_TIME, Mode, Move, OnMissing, RuleOutcome
from portal.exemptions import service as exemptions
from portal.exemptions.rules import Purpose
from portal.notices.models import Notice
from portal.rulebook import service
from tests import conduct
from tests.detecting import DAY, HOUR, NEWS, SECOND, Desk, measure
from tests.factories import BASE, Make


@pytest.fixture
def desk(session: Session, make: Make, now: datetime) -> Desk:
    return Desk(session, make, now)


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(PortalError) as caught:
        yield
    assert caught.value.code == code, caught.value.message


def step(desk: Desk, row: DetectionRule, move: Move, now: datetime, reason: str = "") -> None:
    service.step(desk.session, ref=row.public_id, action=move, reason=reason, by=desk.mo, now=now)


def modes(session: Session, slug: str = "fake-news") -> dict[int, str]:
    return {row.version: row.mode.value for row in service.versions(session, slug=slug)}


def test_a_rule_goes_from_draft_through_shadow_to_enforcing(session: Session, desk: Desk, now: datetime) -> None:
    row = desk.write(outcome=RuleOutcome.THROTTLE)
    assert (row.version, row.owner, row.expires_at) == (1, desk.mo.public_id, now + RULE_LIFE)
    assert desk.write(outcome=RuleOutcome.THROTTLE) is row
    with refused("backtest_missing"):
        step(desk, row, Move.SHADOW, now)
    backtests.ask(session, rule=row, days=30, by=desk.mo, now=now)
    with refused("backtest_missing"):
        step(desk, row, Move.SHADOW, now)
    desk.try_out()
    for move in (Move.FLAG, Move.ENFORCE, Move.BRAKE, Move.SHIP):
        with refused("move_refused"):
            step(desk, row, move, now)
    step(desk, row, Move.SHADOW, now)
    with refused("shadow_short"):
        step(desk, row, Move.FLAG, now + SHADOW_TIME - SECOND)
    step(desk, row, Move.FLAG, now + SHADOW_TIME)
    step(desk, row, Move.ENFORCE, now + SHADOW_TIME, "It is right.")
    history = service.history(session, slug="fake-news")
    assert [(one.version, one.move.mode.value, one.move.reason) for one in history] == [
        (1, "enforcing", "It is right."), (1, "flagging", ""), (1, "shadow", ""),
    ]  # fmt: skip
    names = session.scalars(sa.select(AuditEvent.name).where(AuditEvent.name.startswith("detection:")))
    assert sorted(names) == ["detection:backtest:done", "detection:rule:created", *["detection:rule:moved"] * 3]
    with refused("rule_expired"):
        step(desk, desk.write(slug="late"), Move.SHADOW, now + RULE_LIFE)


def test_the_next_version_replaces_the_one_before_it_once_it_is_as_far(
    session: Session, desk: Desk, now: datetime
) -> None:
    first = desk.rule()
    second = desk.write(when=f"{NEWS} >= 2 and chars < 99")
    backtests.ask(session, rule=second, days=1, by=desk.mo, now=now)
    desk.try_out()
    step(desk, second, Move.SHADOW, now)
    assert modes(session) == {1: "enforcing", 2: "shadow"}
    user = desk.make.person()
    assert [(hit.rule.version, hit.applied.value) for hit in desk.hit(user)] == [(1, "block"), (2, "allow")]
    step(desk, second, Move.FLAG, now + DAY)
    assert modes(session) == {1: "enforcing", 2: "flagging"}
    desk.step(second, Move.ENFORCE, now + DAY)
    assert modes(session) == {1: "retired", 2: "enforcing"}
    why = session.scalars(sa.select(RuleMove.reason).where(RuleMove.rule_id == first.id).order_by(RuleMove.id)).all()[
        -1
    ]
    assert why == "Version 2 replaces it."
    assert [row.version for row in service.listed(session)] == [2]
    step(desk, second, Move.RETIRE, now + DAY)
    assert [row.version for row in service.listed(session)] == [2]
    assert desk.write(when=f"{NEWS} >= 2 and chars < 99").version == 3


def test_what_refuses_people_takes_two(session: Session, desk: Desk, now: datetime) -> None:
    row = desk.rule("flagging")
    with refused("two_people"):
        step(desk, row, Move.ENFORCE, now)
    with refused("reason_missing"):
        service.propose(session, ref=row.public_id, reason=" ", by=desk.mo, now=now)
    proposal = service.propose(session, ref=row.public_id, reason="Tried.", by=desk.mo, now=now)
    given: dict[str, Any] = {"ref": row.public_id, "payload_sha256": proposal.payload_sha256}
    with refused("second_person_needed"):
        service.confirm(session, by=desk.mo, now=now, **given)
    with refused("proposal_changed"):
        service.confirm(session, by=desk.nia, now=now, **{**given, "payload_sha256": "0" * 64})
    with refused("proposal_expired"):
        service.confirm(session, by=desk.nia, now=now + PROPOSAL_LIFE, **given)
    assert row.mode is Mode.FLAGGING
    service.confirm(session, by=desk.nia, now=now + HOUR, **given)
    assert row.mode is Mode.ENFORCING
    assert service.history(session, slug=row.slug)[0].move.proposal_id == proposal.id
    with refused("move_refused"):
        service.propose(session, ref=row.public_id, reason="Again.", by=desk.mo, now=now)


def test_what_was_proposed_is_confirmed_only_as_it_was(session: Session, desk: Desk, now: datetime) -> None:
    row = desk.rule("flagging")
    proposal = service.propose(session, ref=row.public_id, reason="Tried.", by=desk.mo, now=now)
    desk.step(row, Move.ENFORCE, now, "Other words.")
    step(desk, row, Move.FLAG, now + HOUR)
    with refused("proposal_confirmed"):
        service.confirm(session, ref=row.public_id, payload_sha256=proposal.payload_sha256, by=desk.nia, now=now + HOUR)


def test_the_brake_is_lifted_only_with_a_reason(session: Session, desk: Desk, now: datetime) -> None:
    row = desk.rule(outcome=RuleOutcome.THROTTLE)
    detection.apply_brake(session, rule=row, why="Too many.", now=now, base_url=BASE)
    with refused("reason_missing"):
        step(desk, row, Move.ENFORCE, now)
    step(desk, row, Move.ENFORCE, now, "All of them were right.")
    assert detection.braked(session, rule=row) is None
    assert row.mode is Mode.ENFORCING


def test_what_cannot_be_kept_is_named(session: Session, desk: Desk) -> None:
    for field, said in (
        ("clauses", {"clauses": ()}), ("clauses", {"clauses": ("restriction.nothing",)}),
        ("clauses", {"clauses": ("definition.model",)}), ("clauses", {"license": "no-license"}),
        ("model", {"model": "lab/none"}), ("owner", {"owner": "usr_nobody"}), ("reviewer", {"reviewer": "usr_nobody"}),
        ("when", {"when": 'phrases("olds") > 1'}), ("when", {"when": "x.y"}),
    ):  # fmt: skip
        with pytest.raises(Invalid) as caught:
            desk.write(**said)  # type: ignore[arg-type]
        assert caught.value.field == field
    assert service.versions(session, slug="fake-news") == []
    with pytest.raises(NotFound):
        step(desk, DetectionRule(public_id="rul_none"), Move.SHADOW, desk.now)


def test_a_rule_is_written_anew_from_what_it_says(session: Session, desk: Desk) -> None:
    row = desk.write(
        reviewer=desk.nia.public_id, exempt=(Purpose.TEACHING,), model="lab/watched", per_hour=3, weight=2,
        passes=("one", "two\nlines"), route="page",
    )  # fmt: skip
    again = service.write(
        session, draft=service.draft_of(row), banks=None, measure=measure, by=desk.mo, now=desk.now + HOUR
    )  # fmt: skip
    assert again is row
    other = desk.write(slug="other")
    assert service.twins(session, rule=row) == []
    desk.rule("shadow", slug="third", when=f"({NEWS}  >= 2)")
    assert service.twins(session, rule=other) == ["third"]
    assert [user.public_id for user in service.editors(session, now=desk.now)] == [
        desk.mo.public_id,
        desk.nia.public_id,
    ]


FILE = f"""
slug = "fake-news"
title = "Fake news"
license = "{conduct.SLUG}"
clauses = ["restriction.spam"]
when = '{NEWS} >= 2'
outcome = "flag"
reason_text = "It asks for invented news."
match = ["news news"]
pass = ["news"]
"""


def test_rules_that_come_with_the_portal_flag_until_staff_take_them_over(
    session: Session, desk: Desk, now: datetime, tmp_path: Path
) -> None:
    (tmp_path / "fake-news.toml").write_text(FILE)
    (tmp_path / "other.toml").write_text(FILE.replace("fake-news", "other").replace(conduct.SLUG, "unknown-license"))
    given: dict[str, Any] = {"banks": {"news"}, "measure": measure, "by": SYSTEM, "folder": tmp_path}
    assert service.sync_shipped(session, now=now, **given) == ["Detection rule fake-news 1 flags."]
    assert service.sync_shipped(session, now=now, **given) == []
    assert [hit.applied for hit in desk.hit(desk.make.person())] == [RuleOutcome.FLAG]
    (tmp_path / "fake-news.toml").write_text(FILE.replace("Fake news", "Faked news"))
    assert service.sync_shipped(session, now=now, **given) == ["Detection rule fake-news 2 flags."]
    assert modes(session) == {1: "retired", 2: "flagging"}
    desk.write(outcome=RuleOutcome.WARN)
    (tmp_path / "fake-news.toml").write_text(FILE)
    assert service.sync_shipped(session, now=now, **given) == []
    (tmp_path / "bad.toml").write_text(FILE.replace("fake-news", "bad").replace(">= 2", ">= 9"))
    with pytest.raises(Invalid, match=r"bad\.toml: Prompt 1 is not matched"):
        service.sync_shipped(session, now=now, **given)


def test_owner_and_reviewer_are_told_once_that_a_rule_expires(session: Session, desk: Desk, now: datetime) -> None:
    row = desk.rule("flagging", reviewer=desk.nia.public_id)
    assert service.remind(session, now=row.expires_at - 14 * DAY - SECOND, base_url=BASE) == 0
    assert service.remind(session, now=row.expires_at - 14 * DAY, base_url=BASE) == 1
    assert service.remind(session, now=row.expires_at - 13 * DAY, base_url=BASE) == 0
    mails = session.scalars(sa.select(Notice.address).where(Notice.kind == "rule_expiring").order_by(Notice.id)).all()
    assert mails == ["mo@staff.example", "nia@staff.example"]


def test_a_backtest_says_what_a_rule_would_have_done(
    session: Session, desk: Desk, now: datetime, monkeypatch: Any
) -> None:
    monkeypatch.setattr(backtests, "CHUNK", 3)
    people = [desk.make.person() for _ in range(3)]
    desk.rule(slug="other", when="chars > 5", match=("long enough",), passes=("x",))
    for number in range(8):
        desk.use(people[number % 2], {NEWS: number % 4, "chars": number}, now - 2 * DAY - number * HOUR)
    desk.use(people[2], {NEWS: 9}, now - 31 * DAY)
    desk.use(people[2], {NEWS: 9, "chars": 9}, now)
    row = desk.write()
    test = backtests.ask(session, rule=row, days=30, by=desk.mo, now=now)
    assert backtests.ask(session, rule=row, days=7, by=desk.mo, now=now) is test
    part = backtests.look(session, now=now)
    assert part is not None
    backtests.look(session, now=now)  # killed before it was kept: nothing is counted twice
    assert backtests.keep(session, part=part, now=now) is None
    assert (backtests.progress(session, backtest=test), test.total) == (3, 8)
    done = desk.try_out()
    assert done is test
    assert done.result is not None
    told = {key: done.result[key] for key in ("looked", "hits", "people", "others", "judged", "minutes")}
    assert told == {"looked": 8, "hits": 4, "people": 2, "others": {"other": 2}, "judged": 0, "minutes": 16}
    assert sum(done.result["days"].values()) == 4
    assert {record.id for record in backtests.sampled(session, backtest=done)} == set(done.result["sample"])
    assert session.scalar(sa.select(sa.func.count()).select_from(BacktestPart)) == 3
    assert backtests.look(session, now=now) is None
    assert [one.id for one in backtests.of_rule(session, rule=row)] == [test.id]
    assert backtests.find(session, ref=test.public_id) is test
    with pytest.raises(NotFound):
        backtests.find(session, ref="bkt_none")
    with pytest.raises(Invalid):
        backtests.ask(session, rule=row, days=0, by=desk.mo, now=now)


def test_a_backtest_counts_what_people_found(session: Session, desk: Desk, now: datetime) -> None:
    old = desk.rule("flagging", now=now - 3 * DAY)
    user = desk.make.person()
    for day in (2, 1):
        desk.hit(user, now - day * DAY)
    hits = detection.hits_without_case(session, limit=10)
    for case, hit in enumerate(hits, 1):
        detection.mark_in_case(session, hit_ids=[hit.id], case_id=case)
        detection.note_finding(session, case_id=case, breach=True, now=now)
    detection.note_finding(session, case_id=2, breach=False, now=now)  # reversed on appeal
    backtests.ask(session, rule=old, days=30, by=desk.mo, now=now)
    result = desk.try_out().result
    assert result is not None
    assert (result["hits"], result["judged"], result["precision"]) == (2, 2, 0.5)


def test_a_backtest_takes_a_rule_as_it_would_be_in_force(session: Session, desk: Desk, now: datetime) -> None:
    user = desk.make.person()
    for vector in ({NEWS: 1}, {NEWS: 1, "scanned": True}, {NEWS: 1, "near_24h": 9, "scanned": True}):
        desk.use(user, vector, now - DAY)
    said: dict[str, Any] = {
        "when": f"{NEWS} >= 1 and not near_24h > 5",
        "match": ("news",),
        "outcome": RuleOutcome.FLAG,
    }
    for slug, more, hits in (
        ("skips", {}, 1), ("flags", {"on_missing": OnMissing.FLAG}, 2), ("elsewhere", {"route": "page"}, 0),
        ("here", {"model": "lab/watched", "route": "inference"}, 1),
    ):  # fmt: skip
        row = desk.write(slug=slug, passes=("x",), **said, **more)
        backtests.ask(session, rule=row, days=30, by=desk.mo, now=now)
        result = desk.try_out().result
        assert result is not None
        assert result["hits"] == hits, slug


def test_an_exemption_is_granted_by_somebody_else_and_ends_by_itself_or_early(
    session: Session, desk: Desk, now: datetime
) -> None:
    ann = desk.make.person("ann")
    given: dict[str, Any] = {
        "person": ann.public_id, "purpose": Purpose.TEACHING, "license_slug": conduct.SLUG, "model_name": "",
        "clause_keys": ["restriction.spam"], "safeguards": "A closed course.", "since": now, "until": now + DAY,
        "page": BASE, "by": desk.mo, "now": now,
    }  # fmt: skip
    for code, said in (
        ("person_unknown", {"person": "usr_none"}), ("until_past", {"until": now}),
        ("model_unknown", {"model_name": "a/b"}),
        ("until_late", {"until": now + 367 * DAY}), ("safeguards_missing", {"safeguards": "\n"}),
        ("clause_missing", {"clause_keys": []}), ("clause_unknown", {"clause_keys": ["x"]}),
        ("safeguards_letters", {"safeguards": "a\x00"}), ("own_exemption", {"person": desk.mo.public_id}),
        ("safeguards_long", {"safeguards": "x" * 2_001}),
    ):  # fmt: skip
        with refused(code):
            exemptions.grant(session, **{**given, **said})
    row = exemptions.grant(session, **given)
    assert [fact.user_id for fact in exemptions.in_force(session, now=now)] == [ann.id]
    assert [fact.until for fact in exemptions.in_force(session, now=now + 2 * DAY - SECOND)] == [now + DAY]
    assert exemptions.in_force(session, now=now + 2 * DAY) == []
    for _ in range(2):
        exemptions.end(session, ref=row.public_id, reason="The course is over.", by=desk.nia, now=now + HOUR)
    assert (row.ended_at, row.ended_by, row.end_reason) == (now + HOUR, desk.nia.public_id, "The course is over.")
    with refused("exemption_not_found"):
        exemptions.find(session, ref="exm_none")
    mails = session.scalars(sa.select(Notice.subject).where(Notice.kind == "exemption").order_by(Notice.id)).all()
    assert mails == ["Your declared research is exempt", "The exemption of your research ended"]
    assert exemptions.names_of(session, rows=exemptions.exemptions(session)) == {ann.public_id: "Ann"}
