"""Usage records: each use once, whatever is replayed, and what they add up to."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.catalog.models import Release
from portal.core.actor import SYSTEM
from portal.core.errors import Invalid
from portal.licensing.models import Signature
from portal.tokens.models import AccessToken
from portal.usage import service
from portal.usage.models import Quota, UsageRecord
from portal.usage.rules import Counters, Limits, Outcome, Used, use_finished, use_opened
from tests.factories import Make


@dataclass(frozen=True)
class Run:
    before: datetime


@dataclass
class Writer:
    """Writes what the gate would write, for one person."""

    session: Session
    user: User
    token: AccessToken
    release: Release
    signature: Signature
    now: datetime
    number: int = 0

    def opened(self, **changed: Any) -> dict[str, Any]:
        self.number += 1
        known: dict[str, Any] = {
            "request_id": f"req_{self.user.public_id}_{self.number}", "at": self.now, "action": "infer",
            "channel": "inference", "model_name": self.release.model.full_name, "user_id": self.user.id,
            "access_token_id": self.token.id, "release_id": self.release.id, "signature_ids": [self.signature.id],
            "card_revision_id": self.release.card_revision_id, "reserved": 50,
        }  # fmt: skip
        return use_opened(**{**known, **changed})

    def finished(self, opened: dict[str, Any], outcome: Outcome = Outcome.FINISHED, **counts: Any) -> dict[str, Any]:
        counts = {"prompt_tokens": 3, "completion_tokens": 4, "ms": 20, **counts}
        return use_finished(opened, at=self.now + timedelta(seconds=1), outcome=outcome, **counts)

    def use(self, outcome: Outcome = Outcome.FINISHED, *, at: datetime | None = None, **counts: Any) -> UsageRecord:
        line = self.finished(self.opened(at=at or self.now), outcome, **counts)
        return service.record(self.session, record=line)


@pytest.fixture
def writer(make: Make, session: Session, now: datetime) -> Writer:
    return writer_of(make, session, now)


def writer_of(make: Make, session: Session, now: datetime, release: Release | None = None) -> Writer:
    user = make.person()
    token, _ = make.token(user)
    return Writer(session, user, token, release or make.release(), make.sign(user), now)


def count(session: Session, user: User) -> int:
    query = sa.select(sa.func.count()).select_from(UsageRecord).where(UsageRecord.user_id == user.id)
    return session.scalar(query) or 0


def test_a_use_is_one_record_however_often_its_lines_are_replayed(session: Session, writer: Writer) -> None:
    opened = writer.opened()
    row = service.record(session, record=opened)
    assert (row.outcome, row.finished_at, row.reason_code) == (Outcome.OPEN, None, "")
    finished = writer.finished(opened)
    for line in (finished, opened, finished, writer.finished(opened, Outcome.CUT, completion_tokens=99)):
        assert service.record(session, record=line) is row
    assert (row.outcome, row.prompt_tokens, row.completion_tokens, row.ms) == (Outcome.FINISHED, 3, 4, 20)
    assert row.finished_at == writer.now + timedelta(seconds=1)
    assert row.started_at == writer.now
    assert row.day == "2026-11-02"
    assert row.signature_set is not None
    assert (row.release_id, row.card_revision_id) == (writer.release.id, writer.release.card_revision_id)
    assert count(session, writer.user) == 1


def test_the_last_line_alone_is_enough(session: Session, writer: Writer) -> None:
    row = service.record(session, record=writer.finished(writer.opened(), Outcome.REFUSED, reason_code="quota_calls"))
    assert (row.outcome, row.reason_code, row.access_token_id) == (Outcome.REFUSED, "quota_calls", writer.token.id)


def test_a_stranger_leaves_a_record_without_a_person(session: Session, now: datetime) -> None:
    opened = use_opened(request_id="req_s", at=now, action="infer", channel="inference", model_name="no\0such")
    row = service.record(session, record=use_finished(opened, at=now, outcome=Outcome.REFUSED, reason_code="x"))
    assert (row.user_id, row.signature_set, row.model_name) == (None, None, "no?such")


def test_more_bytes_than_32_bits_are_kept(session: Session, writer: Writer) -> None:
    row = writer.use(bytes_sent=9_000_000_000)
    session.expire(row)
    assert row.bytes_sent == 9_000_000_000


def test_work_of_a_process_that_died_is_ended_and_a_late_line_still_wins(session: Session, writer: Writer) -> None:
    lost, running, done = writer.opened(), writer.opened(at=writer.now + timedelta(minutes=5)), writer.opened()
    rows = [service.record(session, record=line) for line in (lost, running, writer.finished(done))]
    run = Run(writer.now + timedelta(minutes=1))
    later = writer.now + timedelta(hours=1)
    assert service.mark_crashed(session, run=run, now=later) == 1
    assert service.mark_crashed(session, run=run, now=later) == 0
    assert [row.outcome for row in rows] == [Outcome.CRASHED, Outcome.OPEN, Outcome.FINISHED]
    assert rows[0].finished_at == later
    service.record(session, record=lost)
    assert rows[0].outcome is Outcome.CRASHED
    service.record(session, record=writer.finished(lost))
    assert rows[0].outcome is Outcome.FINISHED


def test_a_day_adds_up_to_what_counts(session: Session, make: Make, writer: Writer, now: datetime) -> None:
    other = writer_of(make, session, now, writer.release)
    writer.use()
    writer.use(Outcome.CUT)
    writer.use(Outcome.REFUSED, prompt_tokens=0, completion_tokens=0)
    writer.use(Outcome.ENGINE_LOST, prompt_tokens=0, completion_tokens=0)
    writer.use(Outcome.ENGINE_LOST)
    writer.use(at=now - timedelta(days=1))
    service.record(session, record=writer.opened())
    service.record(session, record=writer.finished(writer.opened(action="download"), bytes_sent=5))
    other.use()
    assert service.used_today(session, user_id=writer.user.id, now=now) == Used(4, 21)
    rows = {row[0]: row for row in service.counters(session, now=now)}
    assert rows[writer.user.id] == (writer.user.id, "2026-11-02", 4, 21)
    assert rows[other.user.id][2:] == (1, 7)
    counters = Counters()
    counters.load(rows.values())
    assert counters.used(writer.user.id, now) == Used(4, 21)


def test_counting_starts_with_the_journal_as_well(session: Session, writer: Writer, now: datetime) -> None:
    done, open_, new, free = (writer.opened() for _ in range(4))
    service.record(session, record=writer.finished(done))
    service.record(session, record=open_)
    yesterday = writer.opened(at=now - timedelta(days=1))
    stranger = use_opened(request_id="req_s", at=now, action="infer", channel="inference", model_name="x")
    unplayed = [
        done, writer.finished(done), open_, writer.finished(open_), new, writer.finished(yesterday), stranger,
        writer.finished(free, Outcome.INVALID, prompt_tokens=0, completion_tokens=0),
        {"kind": "delivery_started", "id": "x"},
    ]  # fmt: skip
    rows = service.counters(session, now=now, unplayed=unplayed, user_id=writer.user.id)
    assert rows == [(writer.user.id, "2026-11-02", 3, 14)]
    rows = service.counters(session, now=now, unplayed=[writer.finished(open_, Outcome.INVALID, completion_tokens=0)])
    assert (writer.user.id, "2026-11-02", 1, 10) in rows


def test_limits_are_the_portals_own_until_set(session: Session, make: Make, writer: Writer, now: datetime) -> None:
    person, other = writer.user, make.person()
    assert service.limits_for(session, user_id=person.id, now=now) == Limits()
    for _ in range(2):
        quota = service.set_quota(session, user_id=person.id, calls=5, text_tokens=100, by=SYSTEM, now=now)
    assert (quota.set_by, quota.set_at) == ("system", now)
    service.set_quota(session, user_id=person.id, calls=6, text_tokens=100, by=SYSTEM, now=now)
    assert service.limits_for(session, user_id=person.id, now=now) == Limits(6, 100)
    assert service.limits_for(session, user_id=other.id, now=now) == Limits()
    events = session.scalars(
        sa.select(AuditEvent)
        .where(AuditEvent.subject == person.public_id, AuditEvent.name == "usage:quota:changed")
        .order_by(AuditEvent.id)
    ).all()
    assert [event.data for event in events] == [{"calls": 5, "text_tokens": 100}, {"calls": 6, "text_tokens": 100}]
    assert session.scalar(sa.select(sa.func.count()).select_from(Quota)) == 1


def test_limits_out_of_range_are_refused(session: Session, writer: Writer, now: datetime) -> None:
    with pytest.raises(Invalid):
        service.set_quota(session, user_id=writer.user.id, calls=2**40, text_tokens=1, by=SYSTEM, now=now)


def test_people_see_their_own_records_page_by_page(session: Session, make: Make, writer: Writer, now: datetime) -> None:
    writer_of(make, session, now, writer.release).use()
    rows = [writer.use() for _ in range(3)]
    assert list(service.own(session, user_id=writer.user.id)) == rows[::-1]
    assert list(service.own(session, user_id=writer.user.id, limit=2)) == rows[:0:-1]
    assert list(service.own(session, user_id=writer.user.id, before_id=rows[1].id)) == [rows[0]]


def test_staff_find_records_by_person_model_and_outcome(
    session: Session, make: Make, writer: Writer, now: datetime
) -> None:
    other = writer_of(make, session, now)
    mine, cut, theirs = writer.use(), writer.use(Outcome.CUT), other.use()
    stranger = service.record(
        session, record=use_opened(request_id="req_s", at=now, action="infer", channel="inference", model_name="x")
    )

    def found(**wanted: Any) -> list[UsageRecord]:
        return [use.record for use in service.recent(session, **wanted)]

    assert found() == [stranger, theirs, cut, mine]
    assert found(limit=1) == [stranger]
    assert found(before_id=cut.id) == [mine]
    assert found(user=writer.user.public_id) == [cut, mine]
    assert found(user=writer.user.public_id, outcome="cut") == [cut]
    assert found(model=other.release.model.full_name) == [theirs]
    assert found(outcome="nonsense") == []
    assert [use.user for use in service.recent(session, limit=2)] == [None, other.user]


def test_days_without_use_are_days_with_zeros(session: Session, make: Make, writer: Writer, now: datetime) -> None:
    writer_of(make, session, now, writer.release).use()
    writer.use(bytes_sent=9)
    writer.use(Outcome.REFUSED, prompt_tokens=0, completion_tokens=0)
    writer.use(at=now - timedelta(days=2))
    writer.use(at=now - timedelta(days=5))
    days = service.daily(session, days=4, now=now, user_id=writer.user.id)
    assert [day.day for day in days] == ["2026-10-30", "2026-10-31", "2026-11-01", "2026-11-02"]
    assert [(d.requests, d.refused, d.text_tokens, d.bytes_sent) for d in days] == [
        (0, 0, 0, 0), (1, 0, 7, 0), (0, 0, 0, 0), (2, 1, 7, 9),
    ]  # fmt: skip
    assert service.daily(session, days=0, now=now)[0].requests == 3
    assert len(service.daily(session, days=10_000, now=now)) == 400


def test_each_lab_has_its_share(session: Session, make: Make, writer: Writer, now: datetime) -> None:
    other = writer_of(make, session, now, release=writer.release)
    writer.use(server="gpu.north", lab="north")
    other.use(server="gpu.north", lab="north", prompt_tokens=1, completion_tokens=1)
    writer.use(Outcome.ENGINE_LOST, server="gpu.south", lab="south")
    writer.use(server="gpu.south", lab="south", at=now - timedelta(days=1))
    writer.use(server="gpu.south", lab="south", at=now - timedelta(days=2))
    writer.use(Outcome.REFUSED)  # never came to a server
    shares = service.shares(session, days=2, now=now)
    mine = [share for share in shares if share.lab]
    assert [(s.lab, s.server, s.requests, s.text_tokens, s.failed) for s in mine] == [
        ("north", "gpu.north", 2, 9, 0), ("south", "gpu.south", 2, 14, 1),
    ]  # fmt: skip
    assert all(share.server for share in shares)


def test_an_export_holds_plain_values_of_what_began_in_the_time(
    session: Session, writer: Writer, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CHUNK", 2)
    for hours in (-1, 0, 1, 2, 3):
        writer.use(at=now + timedelta(hours=hours))
    service.record(session, record=writer.opened(at=now + timedelta(hours=4)))
    opened = use_opened(request_id="req_s", at=now, action="infer", channel="inference", model_name="x")
    service.record(session, record=opened)
    rows = list(service.export_rows(session, start=now, end=now + timedelta(hours=5)))
    assert len(rows) == 6
    assert rows[0] == {
        "request_id": f"req_{writer.user.public_id}_2", "started_at": now.isoformat(),
        "finished_at": (now + timedelta(seconds=1)).isoformat(), "user": writer.user.public_id,
        "access_token": writer.token.public_id, "model": writer.release.model.full_name,
        "revision": writer.release.revision, "action": "infer", "channel": "inference", "outcome": "finished",
        "reason_code": "", "prompt_tokens": 3, "completion_tokens": 4, "bytes_sent": 0, "ms": 20,
        "server": "", "lab": "", "signature_set": rows[0]["signature_set"], "card_revision": 1,
    }  # fmt: skip
    assert rows[-2]["finished_at"] is None
    assert (rows[-1]["user"], rows[-1]["revision"], rows[-1]["signature_set"]) == (None, None, None)
