"""The database: one base for tables, UTC times, enums by value, and rows that are never changed."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session, UOWTransaction
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from portal.core.errors import Conflict

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
T = TypeVar("T", bound="Base")
APPEND_ONLY: dict[str, frozenset[str]] = {}
FROZEN: dict[str, "Frozen"] = {}
# PostgreSQL compares jsonb, not json, and the append-only triggers compare.
JSON_VALUE = sa.JSON().with_variant(JSONB(), "postgresql")


class Utc(TypeDecorator[datetime]):
    """An instant: aware UTC in Python, microseconds kept by both databases."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time reached the database")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Give back aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Ids(TypeDecorator[list[int]]):
    """Ids as one value: an array, or JSON where a database has none."""

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        """Say as what a database takes them."""
        return dialect.type_descriptor(ARRAY(sa.Integer) if dialect.name == "postgresql" else sa.String())

    def process_bind_param(self, value: list[int] | None, dialect: sa.Dialect) -> Any:
        """Hand them over."""
        return value if dialect.name == "postgresql" else json.dumps(value)


FEW = 100


def among(column: Any, ids: Iterable[int]) -> sa.ColumnElement[bool]:
    """Say whether a column holds one of some ids, however many there are.

    With ``IN`` each id is a parameter of its own; thousands of them take longer to write than the answer does to find.
    A few are written so all the same: then SQLite sees that they are few, and looks each up instead of reading all.
    """
    listed = list(ids)
    return column.in_(listed) if len(listed) <= FEW else _Among(column, sa.literal(listed, _Ids()))


class _Among(FunctionElement[bool]):
    """A column and many ids, which travel as one value."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(_Among)
def _among(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, ids = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - both are SQL already


@compiles(_Among, "postgresql")
def _among_array(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, ids = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = ANY ({ids})"


class Base(DeclarativeBase):
    """Every table of the portal."""

    metadata = sa.MetaData(naming_convention=NAMES)
    type_annotation_map = {datetime: Utc(), str: sa.String(), bytes: sa.LargeBinary(), dict[str, Any]: JSON_VALUE}


def enum_type(values: type[StrEnum], name: str) -> sa.Enum:
    """A column type that stores an enum's values as text under a CHECK called `name`."""
    return sa.Enum(
        values,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=40,
        values_callable=lambda members: [member.value for member in members],
    )


def hold(session: Session, column: InstrumentedAttribute[int], row_id: int) -> None:
    """Keep others from changing a row until this is done.

    What was read before is read anew, since somebody may have changed it until now. SQLite, which takes one writer at
    a time, keeps others out from the start of a transaction.
    """
    session.flush()
    session.execute(sa.select(column).where(column == row_id).with_for_update())
    rows: list[Any] = list(session.identity_map.values())
    for row in rows:
        if row.__tablename__ not in APPEND_ONLY:
            with suppress(sa.exc.InvalidRequestError):  # the row is gone
                session.refresh(row)


def append_only(*once: str) -> Callable[[type[T]], type[T]]:
    """Mark a table as append-only: no row is deleted, and no column changes except those in `once`.

    A column in `once` may go from NULL to a value, one time. The same rule is a trigger in the database
    (`append_only_ddl`), so neither the ORM nor SQL gets around it.
    """

    def mark(table: type[T]) -> type[T]:
        APPEND_ONLY[table.__tablename__] = frozenset(once)
        return table

    return mark


@event.listens_for(Session, "before_flush")
def _guard_append_only(session: Session, _context: UOWTransaction, _instances: object) -> None:
    for row in session.deleted:
        if row.__tablename__ in APPEND_ONLY:
            raise Conflict("append_only", f"Rows of {row.__tablename__} are never deleted.")
    for row in session.dirty:
        if row.__tablename__ not in APPEND_ONLY or not session.is_modified(row):
            continue
        for attribute in sa.inspect(row).attrs:
            history, once = attribute.history, attribute.key in APPEND_ONLY[row.__tablename__]
            # What was never loaded has no old value here; then the trigger decides about columns of `once`.
            first = once and list(history.deleted or ()) in ([], [None])
            if (history.deleted or history.added) and not first:
                raise Conflict("append_only", f"{row.__tablename__}.{attribute.key} is never changed.")


def append_only_ddl(table: str, columns: Iterable[str], once: Collection[str], dialect: str) -> list[str]:
    """Return the statements that make the database itself refuse changes to a table.

    Args:
        table: name of the table.
        columns: its columns.
        once: those of them that may go from NULL to a value, one time.
        dialect: ``sqlite`` or ``postgresql``.
    """
    differs = "IS NOT" if dialect == "sqlite" else "IS DISTINCT FROM"
    fixed = [f'NEW."{c}" {differs} OLD."{c}"' for c in columns if c not in once]
    fixed += [f'(OLD."{c}" IS NOT NULL AND NEW."{c}" {differs} OLD."{c}")' for c in sorted(once)]
    condition = " OR ".join(fixed)
    message = f"{table} is append-only"
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER ao_{table}_update BEFORE UPDATE ON {table} WHEN {condition} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END",
            f"CREATE TRIGGER ao_{table}_delete BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, '{message}'); END",
        ]
    return [
        f"CREATE FUNCTION ao_{table}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        f"CREATE TRIGGER ao_{table}_update BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({condition}) "
        f"EXECUTE FUNCTION ao_{table}()",
        f"CREATE TRIGGER ao_{table}_delete BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION ao_{table}()",
        f"CREATE TRIGGER ao_{table}_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION ao_{table}()",
    ]


@dataclass(frozen=True)
class Frozen:
    """When rows of a table refuse every write.

    Args:
        table: the table.
        when: an SQL condition over ``{row}``, which stands for the row as it was and as it would be.
        free: columns that change all the same, as long as the condition then still holds; with them a new row is
            allowed as well.
    """

    table: str
    when: str
    free: frozenset[str] = frozenset()


def freeze(table: str, when: str, *, free: Collection[str] = (), name: str = "") -> None:
    """Let rows of a table refuse every write while a condition holds, in the database itself and in the ORM."""
    FROZEN[name or table] = Frozen(table, when, frozenset(free))


@event.listens_for(Session, "before_flush")
def _guard_frozen(session: Session, _context: UOWTransaction, _instances: object) -> None:
    for frozen in FROZEN.values():
        for row in {*session.new, *session.dirty, *session.deleted}:
            if row.__tablename__ == frozen.table and _refuses(session, frozen, row):
                raise Conflict("frozen", f"This {frozen.table.replace('_', ' ')} is settled and never changes.")


def _refuses(session: Session, frozen: Frozen, row: Any) -> bool:
    state, now = sa.inspect(row), sa.inspect(row).dict
    before = {**now, **state.committed_state}
    if row in session.new:
        return not frozen.free and _holds(session, frozen.when, now)
    if row in session.deleted:
        return _holds(session, frozen.when, before)
    changed = {a.key for a in state.mapper.column_attrs if state.attrs[a.key].history.has_changes()} - frozen.free
    if frozen.free:
        return _holds(session, frozen.when, before) and (bool(changed) or not _holds(session, frozen.when, now))
    return bool(changed) and (_holds(session, frozen.when, before) or _holds(session, frozen.when, now))


def _holds(session: Session, when: str, values: dict[str, Any]) -> bool:
    column = re.compile(r"\{row\}\.(\w+)")
    given = {name: getattr(values.get(name), "value", values.get(name)) for name in column.findall(when)}
    query = sa.text("SELECT 1 WHERE " + column.sub(r":\1", when))
    return session.connection().execute(query, given).first() is not None


def frozen_ddl(
    name: str, *, table: str, columns: Iterable[str], when: str, free: Collection[str], dialect: str
) -> list[str]:
    """Return the statements that make the database itself refuse writes to frozen rows.

    Args:
        name: of the rule, for its triggers.
        columns: all columns of the table.
        table, when, free: as in `Frozen`.
        dialect: ``sqlite`` or ``postgresql``.
    """
    differs = "IS NOT" if dialect == "sqlite" else "IS DISTINCT FROM"
    changed = " OR ".join(f'NEW."{c}" {differs} OLD."{c}"' for c in sorted(set(columns) - set(free)))
    old, new, message = when.format(row="OLD"), when.format(row="NEW"), f"a row of {table} is frozen"
    update = f"({old}) AND (({changed}) OR NOT ({new}))" if free else f"({changed}) AND (({old}) OR ({new}))"
    if dialect == "sqlite":
        moments = {"update": update, "delete": old} | ({} if free else {"insert": new})
        return [
            f"CREATE TRIGGER fz_{name}_{moment} BEFORE {moment.upper()} ON {table} WHEN {condition} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            for moment, condition in moments.items()
        ]
    refuse = f"RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation';"
    insert = "" if free else f"IF TG_OP = 'INSERT' THEN IF {new} THEN {refuse} END IF; RETURN NEW; END IF; "
    return [
        f"CREATE FUNCTION fz_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'TRUNCATE' THEN {refuse} END IF; {insert}"
        f"IF TG_OP = 'DELETE' THEN IF {old} THEN {refuse} END IF; RETURN OLD; END IF; "
        f"IF {update} THEN {refuse} END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER fz_{name} BEFORE {'' if free else 'INSERT OR '}UPDATE OR DELETE ON {table} FOR EACH ROW "
        f"EXECUTE FUNCTION fz_{name}()",
        f"CREATE TRIGGER fz_{name}_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION fz_{name}()",
    ]


def make_engine(url: str) -> sa.Engine:
    """Open the database that a URL names, SQLite in WAL mode with foreign keys on.

    On SQLite a transaction that will write says so at its start (`transaction(write=True)`): taking the
    write lock later, after a read, can fail at once instead of waiting.
    """
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    pragmas = ["journal_mode=WAL", "foreign_keys=ON", "busy_timeout=10000", "synchronous=NORMAL"]
    pragmas.append("recursive_triggers=ON")  # without it, REPLACE deletes rows behind the back of triggers
    pragmas.append("secure_delete=ON")  # what was taken out of a row is not left behind on the disk
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("portal_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def transaction(engine: sa.Engine, *, write: bool = True) -> Iterator[Session]:
    """Open one unit of work: returning commits, raising rolls back."""
    with (
        engine.connect().execution_options(portal_write=write) as connection,
        connection.begin(),
        Session(connection, expire_on_commit=False, join_transaction_mode="rollback_only") as session,
    ):
        yield session
        session.flush()
