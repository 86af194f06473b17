"""Keeping usage records, and what each person may use in a day."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.audit import service as audit
from portal.audit.rules import QuotaChanged, UsageSealed
from portal.catalog.models import CardRevision, Release
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict
from portal.licensing import service as licensing
from portal.sanctions import service as sanctions
from portal.sanctions.rules import throttled
from portal.tokens.models import AccessToken
from portal.usage.models import Quota, UsageRecord, UsageSeal
from portal.usage.rules import (
    INFER,
    Limits,
    Line,
    Outcome,
    Record,
    Used,
    check_limits,
    counts_as_call,
    day_of,
    seal_line,
)  # fmt: skip

CHUNK = 500
DAY_GRACE = timedelta(hours=1)
LATE = timedelta(days=31)
UNFINISHED = (Outcome.OPEN, Outcome.CRASHED)
DAYS_MAX = 400


@dataclass(frozen=True)
class Use:
    """A usage record as staff see it, with the person it is about; refused strangers have none."""

    record: UsageRecord
    user: User | None


@dataclass(frozen=True)
class Day:
    """What was used in one UTC day."""

    day: str
    requests: int = 0
    refused: int = 0
    text_tokens: int = 0
    bytes_sent: int = 0


@dataclass(frozen=True)
class Share:
    """What one server of a lab did for callers; `failed` are requests that it began and did not finish."""

    lab: str
    server: str
    requests: int
    text_tokens: int
    failed: int


def record(session: Session, *, record: Mapping[str, Any]) -> UsageRecord:
    """Enter one line of the journal; entering it again, or a second end of the same use, changes nothing."""
    row = session.scalar(sa.select(UsageRecord).where(UsageRecord.request_id == str(record["id"])))
    if row is None:
        row = _opened(session, record)
        session.add(row)
    if record["kind"] == Line.FINISHED and row.outcome in UNFINISHED:
        row.outcome, row.reason_code = Outcome(record["outcome"]), str(record["reason_code"])
        row.prompt_tokens, row.completion_tokens = int(record["prompt_tokens"]), int(record["completion_tokens"])
        row.bytes_sent, row.ms = int(record["bytes_sent"]), int(record["ms"])
        row.server, row.lab = record.get("server", ""), record.get("lab", "")
        row.finished_at = datetime.fromisoformat(record["at"])
    session.flush()
    return row


class EndedRun(Protocol):
    """A process that wrote a journal and is gone, with all it wrote entered here."""

    @property
    def before(self) -> datetime:
        """When the oldest process that still writes began: nothing open from earlier will ever be ended."""


def mark_crashed(
    session: Session, *, run: EndedRun, now: datetime, written: Mapping[str, int] = MappingProxyType({})
) -> int:
    """End the records of work whose process died, and return how many there were.

    `written` says how many text tokens uses, by request id, had written when they were last heard of.
    """
    lost = sa.select(UsageRecord).where(UsageRecord.outcome == Outcome.OPEN, UsageRecord.started_at < run.before)
    rows = session.scalars(lost).all()
    for row in rows:
        row.outcome, row.finished_at = Outcome.CRASHED, now
        row.completion_tokens = written.get(row.request_id, row.completion_tokens)
    session.flush()
    return len(rows)


def limits_for(session: Session, *, user_id: int, now: datetime) -> Limits:
    """Return a person's daily limits as they are now, under the throttles in force."""
    own = quota_of(session, user_id=user_id)
    return Limits(*throttled(sanctions.of_person(session, user_id=user_id), own.calls, own.text_tokens, now))


def quota_of(session: Session, *, user_id: int) -> Limits:
    """Return the daily limits that a person has by themselves."""
    quota = session.get(Quota, user_id)
    return Limits() if quota is None else Limits(quota.calls, quota.text_tokens)


def used_today(session: Session, *, user_id: int, now: datetime) -> Used:
    """Return what a person used on this UTC day, by the records."""
    rows = counters(session, now=now, user_id=user_id)
    return Used(sum(row[2] for row in rows), sum(row[3] for row in rows))


def counters(
    session: Session, *, now: datetime, unplayed: Iterable[Record] = (), user_id: int | None = None
) -> list[tuple[int, str, int, int]]:
    """Return what each person used on this UTC day: (user id, day, calls, text tokens).

    `unplayed` are lines that the journal still held when it was read, before this is asked; each counts once.
    """
    used = UsageRecord
    tokens = used.prompt_tokens + used.completion_tokens
    some = tokens > sa.literal_column("0")  # no parameter: PostgreSQL would take each use of it for another expression
    query = (
        sa.select(used.user_id, used.outcome, some, sa.func.count(), sa.func.coalesce(sa.func.sum(tokens), 0))
        .where(used.day == day_of(now), used.action == INFER)
        .where(used.user_id.is_not(None) if user_id is None else used.user_id == user_id)
        .group_by(used.user_id, used.outcome, some)
    )
    totals: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for person, outcome, any_, count, total in session.execute(query):
        totals[person][0] += count if counts_as_call(outcome, int(any_)) else 0
        totals[person][1] += int(total)
    for person, calls, text_tokens in _unplayed(session, list(unplayed), day_of(now)):
        totals[person][0] += calls
        totals[person][1] += text_tokens
    return [(person, day_of(now), calls, text_tokens) for person, (calls, text_tokens) in sorted(totals.items())]


def set_quota(session: Session, *, user_id: int, calls: int, text_tokens: int, by: Actor, now: datetime) -> Quota:
    """Give a person daily limits of their own; they hold from the next request."""
    check_limits(calls, text_tokens)
    user = session.get_one(User, user_id)
    quota = session.get(Quota, user_id)
    if quota is not None and (quota.calls, quota.text_tokens) == (calls, text_tokens):
        return quota
    if quota is None:
        quota = Quota(user_id=user_id)
        session.add(quota)
    quota.calls, quota.text_tokens, quota.set_by, quota.set_at = calls, text_tokens, by.public_id, now
    session.flush()
    event = QuotaChanged(subject=user.public_id, calls=calls, text_tokens=text_tokens)
    audit.record(session, event, by=by, now=now)
    return quota


def own(session: Session, *, user_id: int, before_id: int | None = None, limit: int = 100) -> Sequence[UsageRecord]:
    """Return a person's usage records, newest first, going on before a record where one is named."""
    query = sa.select(UsageRecord).where(UsageRecord.user_id == user_id)
    if before_id is not None:
        query = query.where(UsageRecord.id < before_id)
    return session.scalars(query.order_by(UsageRecord.id.desc()).limit(limit)).all()


def recent(
    session: Session,
    *,
    user: str = "",
    model: str = "",
    outcome: str = "",
    before_id: int | None = None,
    limit: int = 100,
) -> list[Use]:
    """Return everybody's usage records, newest first, of one person (public id), model and outcome where given."""
    query = sa.select(UsageRecord, User).outerjoin(User, User.id == UsageRecord.user_id)
    if user:
        query = query.where(User.public_id == user)
    if model:
        query = query.where(UsageRecord.model_name == model)
    if outcome:
        if outcome not in set(Outcome):
            return []
        query = query.where(UsageRecord.outcome == Outcome(outcome))
    if before_id is not None:
        query = query.where(UsageRecord.id < before_id)
    rows = session.execute(query.order_by(UsageRecord.id.desc()).limit(limit)).unique()
    return [Use(row, person) for row, person in rows]


def users_of(session: Session, *, release_ids: Sequence[int]) -> list[int]:
    """Return, in order of their ids, the people for whom some releases have written anything."""
    u = UsageRecord
    query = sa.select(u.user_id).where(u.release_id.in_(release_ids), u.completion_tokens > 0, u.user_id.is_not(None))
    return [user_id or 0 for user_id in session.scalars(query.distinct().order_by(u.user_id))]


def daily(session: Session, *, days: int, now: datetime, user_id: int | None = None) -> list[Day]:
    """Return what was used on each of the last UTC days, oldest first, today included; quiet days are zeros."""
    names = [day_of(now - timedelta(days=back)) for back in reversed(range(min(max(days, 1), DAYS_MAX)))]
    used = UsageRecord
    tokens = used.prompt_tokens + used.completion_tokens
    refused = sa.case((used.outcome == Outcome.REFUSED, 1), else_=0)
    query = (
        sa.select(used.day, sa.func.count(), sa.func.sum(refused), sa.func.sum(tokens), sa.func.sum(used.bytes_sent))
        .where(used.day >= names[0], used.day <= names[-1])
        .group_by(used.day)
    )
    if user_id is not None:
        query = query.where(used.user_id == user_id)
    found = {
        day: Day(day, count, int(no), int(text), int(size)) for day, count, no, text, size in session.execute(query)
    }
    return [found.get(name, Day(name)) for name in names]


def shares(session: Session, *, days: int, now: datetime) -> list[Share]:
    """Return what each server of each lab did in the last UTC days, today included, by lab and server."""
    used, since = UsageRecord, day_of(now - timedelta(days=min(max(days, 1), DAYS_MAX) - 1))
    failed = sa.case((used.outcome.in_((Outcome.ENGINE_LOST, Outcome.CRASHED)), 1), else_=0)
    query = (
        sa.select(
            used.lab, used.server, sa.func.count(), sa.func.sum(used.prompt_tokens + used.completion_tokens),
            sa.func.sum(failed),
        )
        .where(used.day >= since, used.server != "")
        .group_by(used.lab, used.server)
        .order_by(used.lab, used.server)
    )  # fmt: skip
    return [
        Share(lab, server, count, int(text), int(lost)) for lab, server, count, text, lost in session.execute(query)
    ]


def export_rows(session: Session, *, start: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    """Give the usage records that began from `start` until before `end`, oldest first, as plain values."""
    return _exported_rows(session, UsageRecord.started_at >= start, UsageRecord.started_at < end)


def _exported_rows(session: Session, *which: sa.ColumnElement[bool]) -> Iterator[dict[str, Any]]:
    used = UsageRecord
    query = (
        sa.select(used, User.public_id, AccessToken.public_id, Release.revision, CardRevision.number)
        .outerjoin(User, User.id == used.user_id)
        .outerjoin(AccessToken, AccessToken.id == used.access_token_id)
        .outerjoin(Release, Release.id == used.release_id)
        .outerjoin(CardRevision, CardRevision.id == used.card_revision_id)
        .where(*which)
        .order_by(used.id)
        .limit(CHUNK)
    )
    last = 0
    while rows := session.execute(query.where(used.id > last)).all():
        for row, user, token, revision, card in rows:
            yield _exported(row, user=user, access_token=token, revision=revision, card_revision=card)
            last = row.id


def _exported(row: UsageRecord, **names: Any) -> dict[str, Any]:
    return {
        "request_id": row.request_id, "started_at": row.started_at.isoformat(),
        "finished_at": row.finished_at.isoformat() if row.finished_at else None, "user": names["user"],
        "access_token": names["access_token"], "model": row.model_name, "revision": names["revision"],
        "action": row.action, "channel": row.channel, "outcome": row.outcome.value, "reason_code": row.reason_code,
        "prompt_tokens": row.prompt_tokens, "completion_tokens": row.completion_tokens, "bytes_sent": row.bytes_sent,
        "ms": row.ms, "server": row.server, "lab": row.lab, "signature_set": row.signature_set,
        "card_revision": names["card_revision"],
    }  # fmt: skip


def seal_days(session: Session, *, now: datetime) -> list[UsageSeal]:
    """Seal the usage records of days that are over, once all of them have ended; returns the seals that were made.

    What is entered later for a sealed day gets a further seal, so a seal never covers what came after it.
    """
    used, seal, today = UsageRecord, UsageSeal, now - DAY_GRACE
    covered = sa.select(sa.func.coalesce(sa.func.max(seal.last_id), 0)).where(seal.day == used.day)
    open_ = sa.func.sum(sa.case((used.outcome == Outcome.OPEN, 1), else_=0))
    query = (
        sa.select(used.day)
        .where(used.day < day_of(today), used.day >= day_of(now - LATE), used.id > covered.scalar_subquery())
        .group_by(used.day)
        .having(open_ == 0)
        .order_by(used.day)
    )
    return [_seal_day(session, day, now) for day in session.scalars(query).all()]


def _seal_day(session: Session, day: str, now: datetime) -> UsageSeal:
    before = _seals_of(session, day)
    first = before[-1].last_id if before else 0
    last = session.scalar(sa.select(sa.func.max(UsageRecord.id)).where(UsageRecord.day == day)) or 0
    records, sha256_ = _digest(session, day, first, last)
    made = UsageSeal(
        day=day, number=len(before) + 1, last_id=last, records=records, sha256=sha256_, sealed_at=now
    )  # fmt: skip
    session.add(made)
    session.flush()
    audit.record(session, UsageSealed(day, made.number, records, sha256_), by=SYSTEM, now=now)
    return made


def _seals_of(session: Session, day: str) -> Sequence[UsageSeal]:
    return session.scalars(sa.select(UsageSeal).where(UsageSeal.day == day).order_by(UsageSeal.number)).all()


def _digest(session: Session, day: str, after: int, last: int) -> tuple[int, str]:
    count, whole = 0, sha256()
    used = UsageRecord
    for row in _exported_rows(session, used.day == day, used.id > after, used.id <= last):
        count += 1
        whole.update(seal_line(row))
    return count, whole.hexdigest()


def verify_seals(session: Session) -> int:
    """Recompute the seal of every day and return how many there are.

    Raises:
        Conflict: names the first day whose usage records are not what was sealed.
    """
    seals = session.scalars(sa.select(UsageSeal).order_by(UsageSeal.day, UsageSeal.number)).all()
    day, after = "", 0
    for seal in seals:
        after = after if seal.day == day else 0
        if _digest(session, seal.day, after, seal.last_id) != (seal.records, seal.sha256):
            raise Conflict("usage_changed", f"The usage records of {seal.day} are not those that were sealed.")
        day, after = seal.day, seal.last_id
    return len(seals)


def _opened(session: Session, line: Mapping[str, Any]) -> UsageRecord:
    began = datetime.fromisoformat(line["started_at"])
    signatures = line["signature_ids"]
    return UsageRecord(
        request_id=str(line["id"]), user_id=line["user_id"], access_token_id=line["access_token_id"],
        model_name=line["model_name"], release_id=line["release_id"], action=line["action"], channel=line["channel"],
        signature_set=licensing.ensure_set(session, signature_ids=signatures) if signatures else None,
        card_revision_id=line["card_revision_id"], outcome=Outcome.OPEN, day=day_of(began), started_at=began,
    )  # fmt: skip


def _unplayed(session: Session, lines: list[Record], day: str) -> Iterator[tuple[int, int, int]]:
    """Yield (user id, calls, text tokens) that the journal knows of and the records do not."""
    last = {line["id"]: line for line in lines if line.get("action") == INFER and line["user_id"] is not None}
    for line in lines:
        for request_id, tokens in line.get("written", {}).items():
            if request_id in last and last[request_id]["kind"] == Line.OPENED:
                last[request_id] = {**last[request_id], "completion_tokens": tokens}
    ids = list(last)
    for start in range(0, len(ids), CHUNK):
        some = ids[start : start + CHUNK]
        query = sa.select(UsageRecord.request_id, UsageRecord.outcome).where(UsageRecord.request_id.in_(some))
        known = {row.request_id: row.outcome for row in session.execute(query)}
        for line in (last[request_id] for request_id in some):
            state = known.get(line["id"])
            if day_of(datetime.fromisoformat(line["started_at"])) != day or state not in {None, *UNFINISHED}:
                continue
            tokens = int(line.get("prompt_tokens", 0)) + int(line.get("completion_tokens", 0))
            counts = counts_as_call(Outcome(line.get("outcome", Outcome.OPEN)), tokens)
            yield line["user_id"], int(counts) - int(state is not None), tokens
