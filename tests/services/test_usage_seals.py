"""Sealed days: what was used cannot be told otherwise later."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit import service as audit
from portal.audit.models import AuditEvent
from portal.audit.rules import UsageSealed
from portal.core.errors import Conflict
from portal.usage import service
from portal.usage.models import UsageRecord, UsageSeal
from portal.usage.rules import Outcome, seal_line, use_finished, use_opened
from tests.logged import behind_the_back

DAY = "2026-09-01"
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
NEXT = datetime(2026, 9, 2, 1, 0, tzinfo=UTC)
name = iter(range(10**6))


def use(session: Session, at: datetime, *, ends: bool = True, **changed: Any) -> UsageRecord:
    """One use of a model."""
    opened = use_opened(
        request_id=f"req_seal_{next(name)}", at=at, action="infer", channel="api", model_name="a/b", user_id=None,
        access_token_id=None, release_id=None, signature_ids=(), card_revision_id=None, reserved=0,
    )  # fmt: skip
    row = service.record(session, record={**opened, **changed})
    if ends:
        finish(session, opened, at)
    return row


def finish(session: Session, opened: Any, at: datetime) -> None:
    finished = use_finished(
        opened, at=at, outcome=Outcome.REFUSED, reason_code="not_signed_in", prompt_tokens=3, completion_tokens=4,
        bytes_sent=5, ms=1,
    )  # fmt: skip
    service.record(session, record=finished)


def seals(session: Session, day: str = DAY) -> list[tuple[int, int]]:
    rows = session.scalars(sa.select(UsageSeal).where(UsageSeal.day == day).order_by(UsageSeal.number))
    return [(row.number, row.records) for row in rows]


def test_a_day_is_sealed_once_it_is_over_and_all_its_uses_have_ended(session: Session) -> None:
    for hour in range(5):
        use(session, NOON + timedelta(hours=hour), model_name="café \u202e 李" if hour else "a/b")
    service.seal_days(session, now=NEXT - timedelta(minutes=1))
    assert seals(session) == []
    running = use(session, NOON + timedelta(hours=11), ends=False)
    service.seal_days(session, now=NEXT)
    assert seals(session) == [], "one of them still runs"
    running.outcome = Outcome.FINISHED
    session.flush()
    (made,) = [seal for seal in service.seal_days(session, now=NEXT) if seal.day == DAY]
    assert service.seal_days(session, now=NEXT) == []
    assert seals(session) == [(1, 6)]
    rows = list(service.export_rows(session, start=NOON - timedelta(hours=12), end=NOON + timedelta(hours=12)))
    assert made.sha256 == sha256(b"".join(map(seal_line, rows))).hexdigest(), "the export gives the digest"
    event = audit.logged(session, UsageSealed(DAY, 1, 6, made.sha256))
    assert event is not None
    assert service.verify_seals(session) >= 1


def test_what_comes_late_gets_a_seal_of_its_own(session: Session) -> None:
    use(session, NOON)
    service.seal_days(session, now=NEXT)
    use(session, NEXT)
    use(session, NOON + timedelta(hours=1))
    service.seal_days(session, now=NEXT + timedelta(minutes=1))
    assert seals(session) == [(1, 1), (2, 1)]
    service.seal_days(session, now=NEXT + timedelta(days=1))
    assert (seals(session), seals(session, "2026-09-02")) == ([(1, 1), (2, 1)], [(1, 1)])
    assert service.verify_seals(session) >= 3
    use(session, NOON)
    service.seal_days(session, now=NEXT + timedelta(days=40))
    assert seals(session) == [(1, 1), (2, 1)], "what comes more than a month late is left alone"


@pytest.mark.threat("TM-21")
@pytest.mark.parametrize("act", ["changed", "deleted", "moved"])
def test_usage_records_that_were_changed_later_are_named(session: Session, act: str) -> None:
    rows = [use(session, NOON + timedelta(minutes=n)) for n in range(3)]
    service.seal_days(session, now=NEXT)
    service.verify_seals(session)
    one = UsageRecord.id == rows[1].id
    change: dict[str, Any] = {
        "changed": sa.update(UsageRecord).where(one).values(completion_tokens=0),
        "deleted": sa.delete(UsageRecord).where(one),
        "moved": sa.update(UsageRecord).where(one).values(day="2026-09-05"),
    }
    session.execute(change[act])
    session.expire_all()
    with pytest.raises(Conflict, match=f"The usage records of {DAY} are not those that were sealed"):
        service.verify_seals(session)


@pytest.mark.threat("TM-21")
def test_a_seal_that_was_changed_is_not_what_the_log_says(session: Session, tmp_path: Any) -> None:
    from portal.adapters.signing_key import open_key

    use(session, NOON)
    service.seal_days(session, now=NEXT)
    key = open_key(tmp_path)
    audit.verify(session, key=key, kept=None)
    digest = sha256(b"").hexdigest()
    behind_the_back(session, sa.update(UsageSeal).where(UsageSeal.day == DAY).values(records=0, sha256=digest))
    with pytest.raises(Conflict, match=f"The usage_seal {DAY} is not what the log says of it"):
        audit.verify(session, key=key, kept=None)
    assert session.scalar(sa.select(sa.func.count()).where(AuditEvent.name == UsageSealed.name))
