"""Whether anything has changed that a decision rests on: one number in the database, raised by triggers."""

import ctypes
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, Session, mapped_column

from portal.core.db import Base

LOOK_S = 0.25
SILENCE_S = 1.0
CHANNEL = "facts"
FACTS: dict[str, frozenset[str]] = {}
QUERY = "SELECT number FROM facts_version"
WAL_INDEX_HEAD, WAL_INDEX_VERSION = 96, 3_007_000  # two copies of 48 bytes
RAISE = "UPDATE facts_version SET number = number + 1"
log = logging.getLogger("portal.change")


class FactsVersion(Base):
    """One row, whose number grows with every change of a table that decisions rest on."""

    __tablename__ = "facts_version"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


def facts(table: str, *, but: Collection[str] = ()) -> None:
    """Have every change of a table raise the number, in the database itself, so that no writer can forget it.

    `but` are columns that no decision reads, and whose change alone raises nothing.
    """
    FACTS[table] = frozenset(but)


def facts_ddl(table: str, columns: Collection[str], dialect: str) -> list[str]:
    """Return the statements that let changes of a table raise the number.

    PostgreSQL does it at the end of the transaction, once: raised earlier, the row would stay locked meanwhile, and
    two writers could wait for each other.

    Args:
        table: name of the table.
        columns: those whose change matters.
        dialect: ``sqlite`` or ``postgresql``.
    """
    changed = "UPDATE OF " + ", ".join(f'"{column}"' for column in sorted(columns))
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER fv_{table}_{event.split()[0].lower()} AFTER {event} ON {table} BEGIN {RAISE}; END"
            for event in ("INSERT", changed, "DELETE")
        ]
    return [
        f"CREATE CONSTRAINT TRIGGER fv_{table} AFTER INSERT OR {changed} OR DELETE ON {table} "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION facts_moved()",
        f"CREATE TRIGGER fv_{table}_truncate AFTER TRUNCATE ON {table} EXECUTE FUNCTION facts_moved()",
    ]


def facts_start_ddl(dialect: str) -> list[str]:
    """Return the statements that make what those triggers need; before them."""
    first = ["INSERT INTO facts_version (id, number) VALUES (1, 1)"]
    if dialect == "sqlite":
        return first
    once = "current_setting('portal.facts', true) IS DISTINCT FROM txid_current()::text"
    return [
        *first,
        "CREATE FUNCTION facts_moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {once} THEN "
        "PERFORM set_config('portal.facts', txid_current()::text, true); "
        f"{RAISE}; PERFORM pg_notify('{CHANNEL}', ''); "
        "END IF; RETURN NULL; END $$",
    ]


def facts_version(session: Session) -> int:
    """Return the number as a transaction sees it; read it before the facts, so that they are never older than it."""
    return int(session.scalar(sa.text(QUERY)))


class Watch(Protocol):
    """Knows the number as it is now."""

    def current(self) -> int | None:
        """Return the number; None when it is not known, and everything has to be asked anew."""

    def close(self) -> None:
        """Stop watching."""


def watch(engine: sa.Engine) -> Watch:
    """Watch a database."""
    return SqliteWatch(engine) if engine.dialect.name == "sqlite" else PostgresWatch(engine)


class SqliteWatch:
    """Sees whether anybody has committed in the memory that SQLite shares among its processes.

    SQLite itself begins each read by comparing that memory's head with the one it saw last (WAL-Index Header,
    https://sqlite.org/walformat.html), so whatever a reader would see is noticed here. It moves with every usage
    record as well; only then is the number itself read.

    The memory is read where SQLite has mapped it. Opening its file a second time would, once closed, take away the
    locks that SQLite holds on it for this process. Where it is not found, the number is read each time.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._raw = engine.raw_connection()
        self._cursor: sqlite3.Cursor = self._raw.cursor()  # type: ignore[assignment]
        self._path = f"{Path(engine.url.database or '').resolve()}-shm"
        self._head: Any = None
        self._sought = False
        self._seen: bytes | None = None
        self._number: int | None = None

    def current(self) -> int | None:
        """Return the number; None when the database cannot be read."""
        if self._head is not None and self._head.raw == self._seen:
            return self._number
        return self._read()

    def close(self) -> None:
        """Stop watching."""
        self._head, self._sought = None, True  # it goes with the connection
        self._raw.close()

    def _read(self) -> int | None:
        try:
            seen = self._head.raw if self._head is not None else None  # before the number, which may then be newer
            ((self._number,),) = self._cursor.execute(QUERY).fetchall()
            self._seen = seen
        except (sqlite3.Error, ValueError):
            log.exception("reading the facts' version")
            self._seen = self._number = None
        else:
            if not self._sought:
                self._head, self._sought = _shared_head(self._path), True
        return self._number


def _shared_head(path: str) -> Any:
    """Return the head of the memory that SQLite has mapped from a file, or None where that is not to be found."""
    with suppress(OSError), Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            place, _, offset, _, _, *name = line.rstrip("\n").split(maxsplit=5)
            if name == [path] and not int(offset, 16):
                head = (ctypes.c_char * WAL_INDEX_HEAD).from_address(int(place.split("-")[0], 16))
                return head if int.from_bytes(head.raw[:4], sys.byteorder) == WAL_INDEX_VERSION else None
    return None


class PostgresWatch:
    """Listens for changes on a connection of its own, and reads the number four times a second all the same.

    A notification alone is lost with its connection. After a second without a word the number is not known.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._number: int | None = None
        self._heard = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="facts", daemon=True)
        self._thread.start()

    def current(self) -> int | None:
        """Return the number as last heard; None after a second of silence."""
        return self._number if time.monotonic() - self._heard < SILENCE_S else None

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _listen(self) -> None:
        import psycopg  # noqa: PLC0415 - only where PostgreSQL is used

        while not self._stop.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._url, autocommit=True, connect_timeout=2) as connection:
                connection.execute(f"LISTEN {CHANNEL}")
                while not self._stop.is_set():
                    for row in connection.execute(QUERY):
                        self._number, self._heard = row[0], time.monotonic()
                    for _ in connection.notifies(timeout=LOOK_S, stop_after=1):
                        break
            self._stop.wait(LOOK_S)
