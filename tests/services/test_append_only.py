"""Rows that are never changed: held by the database itself and, with a clearer word, by the ORM."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.core.db import APPEND_ONLY, Base, Utc
from portal.core.errors import Conflict
from portal.deliveries import service as deliveries
from portal.deliveries.models import Delivery
from portal.migrations.tables import load_tables
from tests.factories import Make

load_tables()
TABLES = sorted(APPEND_ONLY)
ONCE = [(t, name) for t in TABLES for name in sorted(APPEND_ONLY[t])]
# Columns that are written together, or of rows that hang on others: tested where their service is.
TOGETHER = {"proposal", "after_review", "daily_checkpoint", "preview", "sanction", "strike", "evidence_hold", "batch",
            "backtest", "exemption", "hit"}  # fmt: skip
ALONE = [(t, name) for t, name in ONCE if t not in TOGETHER]
# What a made-up row has to hold so that the other checks of its table pass.
SHAPES: dict[str, dict[str, Any]] = {
    "annulment": {"proposal_id": None}, "receipt": {"timestamped_at": None}, "resolution": {"votes_against": 0},
}  # fmt: skip
CLASSES: dict[str, Any] = {mapper.local_table.name: mapper.class_ for mapper in Base.registry.mappers}  # type: ignore[attr-defined]


def value(column: sa.Column[Any], now: datetime, shift: int = 0) -> Any:
    """A value for a column; another `shift` gives another value."""
    place = 7_000 + list(column.table.columns).index(column) + shift
    if isinstance(column.type, sa.Enum):
        return sa.literal(column.type.enums[0] if not shift else f"other{shift}", sa.String)
    if isinstance(column.type, Utc):
        return now + timedelta(days=place)
    made: dict[type, Any] = {
        int: place, bytes: bytes([place % 256]), bool: shift % 2 == 0, object: {"a": place}, str: f"{place:064d}",
    }  # fmt: skip
    return made[column.type.python_type if column.type.python_type in made else object]


def fill(session: Session, name: str, now: datetime) -> Any:
    """Put a row into a table whatever its foreign keys say, and return the condition that finds it."""
    table = Base.metadata.tables[name]
    row = {c.name: value(c, now) for c in table.columns if c.name not in APPEND_ONLY[name]} | SHAPES.get(name, {})
    if session.get_bind().dialect.name == "sqlite":
        session.execute(sa.text("PRAGMA defer_foreign_keys=ON"))
        session.execute(sa.insert(table).values(row))
    else:
        session.execute(sa.text("SET LOCAL session_replication_role = replica"))
        session.execute(sa.insert(table).values(row))
        session.execute(sa.text("SET LOCAL session_replication_role = origin"))
        session.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))  # no table is cleared while triggers wait
    return sa.and_(*(c == row[c.name] for c in table.primary_key.columns))


def refused(session: Session, statement: Any) -> None:
    with pytest.raises(IntegrityError, match=r"append-only|frozen"), session.begin_nested():
        session.execute(statement)


@pytest.mark.invariant("INV-01")
@pytest.mark.parametrize("name", TABLES)
def test_sql_neither_deletes_nor_replaces_a_row(session: Session, now: datetime, name: str) -> None:
    table, this = Base.metadata.tables[name], fill(session, name, now)
    refused(session, sa.delete(table).where(this))
    if session.get_bind().dialect.name == "postgresql":
        refused(session, sa.text(f"TRUNCATE {name} CASCADE"))
    else:
        columns = ", ".join(f'"{c.name}"' for c in table.columns)
        refused(session, sa.text(f"INSERT OR REPLACE INTO {name} ({columns}) SELECT {columns} FROM {name}"))
    assert session.scalar(sa.select(sa.func.count()).select_from(table).where(this)) == 1


@pytest.mark.invariant("INV-01")
@pytest.mark.parametrize("name", TABLES)
def test_sql_changes_no_fixed_column(session: Session, now: datetime, name: str) -> None:
    table, this = Base.metadata.tables[name], fill(session, name, now)
    for column in table.columns:
        if column.name not in APPEND_ONLY[name]:
            refused(session, sa.update(table).where(this).values({column.name: value(column, now, shift=101)}))
            if column.nullable and column.name not in SHAPES.get(name, {}):
                refused(session, sa.update(table).where(this).values({column.name: None}))


@pytest.fixture
def delivery(session: Session, make: Make) -> Delivery:
    """A delivery that has started, the one kind of row that is finished later."""
    user, release = make.person(), make.release()
    record = {
        "id": "req_begun", "user_id": user.id, "access_token_id": None, "release_id": release.id, "path": "a",
        "file_sha256": "0" * 64, "size": 9, "range_start": 0, "signature_ids": [make.sign(user).id],
        "card_revision_id": release.card_revision_id, "at": make.now.isoformat(),
    }  # fmt: skip
    return deliveries.record_started(session, record=record)


def test_only_these_are_finished_later() -> None:
    assert ONCE == [
        ("after_review", "finding"), ("after_review", "overdue_at"), ("after_review", "reviewed_at"),
        ("after_review", "reviewed_by"), ("after_review", "words"),
        ("backtest", "done_at"), ("backtest", "result"),
        ("batch", "confirmed_by"), ("batch", "executed_at"), ("batch", "undone_at"), ("batch", "undone_by"),
        ("daily_checkpoint", "token"), ("delivery", "completed_at"), ("delivery_part", "bytes_sent"),
        ("delivery_part", "finished_at"), ("evidence_hold", "released_at"),
        ("exemption", "end_reason"), ("exemption", "ended_at"), ("exemption", "ended_by"), ("hit", "case_id"),
        ("leaf", "index"),
        ("preview", "done_at"), ("preview", "result"), ("proposal", "confirmed_at"), ("proposal", "confirmed_by"),
        ("sanction", "confirmed_at"), ("sanction", "ended_at"), ("strike", "overruled_at"),
    ]  # fmt: skip


@pytest.fixture
def begun(session: Session, now: datetime, delivery: Delivery) -> Callable[[str], Any]:
    """Gives a row of a table that is finished later."""
    real = {"delivery": delivery, "delivery_part": delivery.parts[0]}
    return lambda name: real.get(name) or loaded(session, name, now)


@pytest.mark.parametrize(("name", "key"), ALONE)
def test_a_column_that_is_written_once_is_written_once(
    session: Session, now: datetime, begun: Callable[[str], Any], name: str, key: str
) -> None:
    table = Base.metadata.tables[name]
    this, column = table.c.id == begun(name).id, table.columns[key]
    for _ in range(2):
        session.execute(sa.update(table).where(this).values({key: value(column, now)}))
    refused(session, sa.update(table).where(this).values({key: value(column, now, shift=101)}))
    refused(session, sa.update(table).where(this).values({key: None}))


@pytest.mark.parametrize(("name", "key"), ALONE)
def test_the_orm_lets_a_column_be_written_once(
    session: Session, now: datetime, begun: Callable[[str], Any], name: str, key: str
) -> None:
    column, row = Base.metadata.tables[name].columns[key], begun(name)
    setattr(row, key, value(column, now))
    session.flush()
    setattr(row, key, value(column, now, shift=101))
    with pytest.raises(Conflict, match="never changed"):
        session.flush()
    session.expire(row)
    # Not loaded, so only the database knows what was there.
    setattr(row, key, value(column, now, shift=101))
    with pytest.raises(IntegrityError, match="append-only"), session.begin_nested():
        session.flush()


def test_a_proposal_is_confirmed_once_by_somebody_else(session: Session, now: datetime) -> None:
    row = loaded(session, "proposal", now)
    table = Base.metadata.tables["proposal"]
    this, at = table.c.id == row.id, row.expires_at - timedelta(hours=1)
    for by, when, why in ((row.proposed_by, at, "two_people"), ("usr_x", row.expires_at, "in_time")):
        with pytest.raises(IntegrityError, match=why), session.begin_nested():
            session.execute(sa.update(table).where(this).values(confirmed_by=by, confirmed_at=when))
    session.execute(sa.update(table).where(this).values(confirmed_by="usr_x", confirmed_at=at))
    refused(session, sa.update(table).where(this).values(confirmed_by="usr_y"))
    refused(session, sa.update(table).where(this).values(confirmed_by=None, confirmed_at=None))


def loaded(session: Session, name: str, now: datetime) -> Any:
    this = fill(session, name, now)
    return session.scalars(sa.select(CLASSES[name]).where(this)).unique().one()


@pytest.mark.parametrize("name", TABLES)
def test_the_orm_says_so_before_the_database_does(session: Session, now: datetime, name: str) -> None:
    row = loaded(session, name, now)
    keys = {a.columns[0].name: a.key for a in sa.inspect(CLASSES[name]).column_attrs}
    for column in Base.metadata.tables[name].columns:
        if column.name in APPEND_ONLY[name] or column.primary_key:
            continue
        key = keys[column.name]
        setattr(row, key, value(column, now, shift=101) if not isinstance(column.type, sa.Enum) else None)
        with pytest.raises(Conflict, match="never changed"):
            session.flush()
        session.expire(row)
    session.delete(row)
    with pytest.raises(Conflict, match="never deleted"):
        session.flush()
    session.expunge(row)


def test_a_row_that_did_not_really_change_is_no_change(session: Session, now: datetime) -> None:
    row = loaded(session, "blob", now)
    row.size = row.size
    session.flush()


def test_other_tables_may_change_and_lose_rows(session: Session, make: Make) -> None:
    user = make.person("changing")
    user.profile.name = "Changed"
    session.flush()
    session.delete(user.profile)
    session.flush()


def test_every_table_that_must_not_change_is_marked() -> None:
    assert {"signature", "release", "audit_event", "delivery", "text", "blob", "sanction", "receipt"} <= set(TABLES)
    assert all(name in Base.metadata.tables[table].columns for table, name in ONCE)
