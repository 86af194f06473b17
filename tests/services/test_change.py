"""The number that says whether anything has changed that a decision rests on."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from portal.access.edge import Door
from portal.access.rules import Action
from portal.accounts.models import Profile, User
from portal.annulments import service as annulments
from portal.banks import service as banks
from portal.banks.rules import Bank
from portal.catalog import service as catalog
from portal.contents.models import Retention
from portal.core.actor import SYSTEM
from portal.core.change import FACTS, RAISE, PostgresWatch, SqliteWatch, Watch, facts_version, watch
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import Base, hold, make_engine, transaction
from portal.detection import service as detection
from portal.detection.rules import Move
from portal.edge.fresh import Fresh
from portal.edge.routes import Request
from portal.entitlements import service as entitlements
from portal.entitlements.rules import Mode, RequestAction
from portal.exemptions import service as exemptions
from portal.exemptions.rules import Purpose
from portal.licensing.models import Ceremony, Decline, LicenseVersion
from portal.migrations import upgrade
from portal.notices import service as notices
from portal.rulebook import service as rulebook
from portal.sanctions import service as sanctions
from portal.sanctions.rules import Measure, SanctionKind
from portal.signing import service as signing
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.rules import Counters, Outcome, use_finished, use_opened
from tests.conduct import SLUG, acting
from tests.detecting import DRAFT
from tests.detecting import measure as measure_prompt
from tests.factories import BASE, PEPPER, Make

# Tables that the loader reads and whose changes raise nothing, each with the reason.
SETTLED = {
    "ceremony": "read only through a decline, and who and what it is about never changes",
    "notice": "read only through its events, and whom and what it is about never changes",
    "delivery": "what it could change, leave to complete a copy, is never kept while it is missing",
    "delivery_part": "as its delivery",
    "tree_entry": "of a commit, which never changes; read together with deliveries",
    "blob": "named by what it holds; read together with deliveries",
    "commit": "never changes; read together with deliveries",
    "facts_version": "the number itself",
}
RAISED = sa.text("SELECT set_config('portal.facts', '', true)")


@pytest.fixture
def seen(session: Session) -> Iterator[set[str]]:
    """The tables named by statements that read."""
    found: set[str] = set()
    names = set(Base.metadata.tables)

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            found.update(names & set(re.findall(r"(?:FROM|JOIN|,)\s+(\w+)", statement)))

    engine = session.get_bind().engine
    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


def number(session: Session) -> int:
    """Return the number, with what PostgreSQL leaves to the end of the transaction done now, and again next time."""
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
        session.execute(RAISED)
    return facts_version(session)


def test_every_table_that_admission_reads_raises_the_number(session: Session, make: Make, seen: set[str]) -> None:
    model = make.model("lab/watched")
    make.release(model)
    person = make.person()
    make.sign(person, "1.0.0")
    _, secret = make.token(person)
    session.flush()
    session.expunge_all()
    seen.clear()
    settings = Settings(base_url=BASE, pepper=PEPPER)
    door = Door(Fresh(session.get_bind().engine, None, None), settings, Counters())  # type: ignore[arg-type]
    call = Request("POST", "/", headers={"authorization": f"Bearer {secret}"})
    for action in Action:
        for running in (False, True):
            actor = tokens.refresh_actor(session, actor=door.identify(session, call), now=make.now)
            door._decide(session, actor, ("", "lab/watched", None, action), already_running=running)
    assert {"signature", "access_token", "delivery", "quota", "notice_event", "requirement"} <= seen
    assert seen - set(SETTLED) <= set(FACTS)


def rows_everywhere(session: Session, make: Make) -> None:
    """Make sure that each table has a row."""
    model, person = make.model(), make.person()
    make.release(model)
    signature = make.sign(person)
    make.token(person, models=(model,))
    usage.set_quota(session, user_id=person.id, calls=1, text_tokens=1, by=acting(person), now=make.now)
    ceremony = session.scalars(sa.select(Ceremony)).first()
    assert ceremony is not None
    session.add(Decline(ceremony_id=ceremony.id, reason_code="other", at=make.now))
    notices.mark_shown(session, user_id=person.id, subject_ref="license_version:x/1", now=make.now)
    annulments.withdraw(session, by=acting(person), ref=signature.public_id, now=make.now, base_url=BASE)
    catalog.rename(session, model=model, to="lab/renamed", by=SYSTEM, now=make.now)
    entitlements.set_form(session, model_id=model.id, model_ref="x", mode=Mode.MANUAL, by=SYSTEM, now=make.now)
    request = entitlements.submit(
        session, user_id=person.id, model_id=model.id, purpose="To study how models speak.", by=acting(person),
        now=make.now,
    )  # fmt: skip
    version = session.get_one(LicenseVersion, signature.version_id)
    signing.order_again(
        session, user_id=person.id, license_ids=[version.license_id], model_id=model.id, by=SYSTEM, now=make.now
    )
    for action in (RequestAction.APPROVE, RequestAction.RESET):
        entitlements.move(session, request=request, action=action, by=SYSTEM, now=make.now)
    bank = Bank("news", "en", "", "news", ("fake news",))
    banks.sync(session, banks=[bank], by=SYSTEM, now=make.now)
    session.add(Retention(model_id=model.id, days=7, set_by="system", set_at=make.now))
    measure = Measure(SanctionKind.SUSPEND, make.now + timedelta(days=1))
    sanctions.order(session, user_id=person.id, decision_ref="dec_x", measures=[measure], lapses_at=None, now=make.now)
    rule = rulebook.write(session, draft=DRAFT, banks=None, measure=measure_prompt, by=SYSTEM, now=make.now)
    detection.move(session, rule=rule, action=Move.SHIP, by=SYSTEM, now=make.now)
    exempt = exemptions.grant(
        session, person=person.public_id, purpose=Purpose.TEACHING, license_slug=SLUG, clause_keys=["restriction.spam"],
        model_name="", safeguards="None.", since=make.now, until=make.now + timedelta(days=1), page="", by=SYSTEM,
        now=make.now,
    )  # fmt: skip
    exemptions.end(session, ref=exempt.public_id, reason="Over.", by=SYSTEM, now=make.now)
    session.flush()


@pytest.mark.parametrize("table", sorted(FACTS))
def test_any_change_of_such_a_table_raises_it(session: Session, make: Make, table: str) -> None:
    rows_everywhere(session, make)
    before = number(session)
    columns = sorted(set(Base.metadata.tables[table].c.keys()) - FACTS[table])
    assert session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() > 0
    for column in columns:
        session.execute(sa.text(f'UPDATE {table} SET "{column}" = "{column}"'))
        after = number(session)
        assert after > before, column
        before = after
    for column in FACTS[table]:
        session.execute(sa.text(f'UPDATE {table} SET "{column}" = "{column}"'))
        assert number(session) == before


def test_rows_that_come_and_go_raise_it(session: Session, make: Make) -> None:
    model, person = make.model(), make.person()
    before = number(session)
    token, _ = make.token(person, models=(model,))
    session.flush()
    came = number(session)
    session.delete(token.model_rows[0])
    assert before < came < number(session)


def test_what_is_used_raises_nothing(session: Session, make: Make) -> None:
    release, person = make.release(), make.person()
    token, _ = make.token(person)
    before = number(session)
    line = use_opened(
        request_id="req_1", at=make.now, action="infer", channel="inference", model_name="x", user_id=person.id,
        access_token_id=token.id, release_id=release.id,
    )  # fmt: skip
    usage.record(session, record=line)
    usage.record(session, record=use_finished(line, at=make.now, outcome=Outcome.FINISHED, prompt_tokens=3))
    tokens.touch_used(session, token_id=token.id, at=make.now)
    assert number(session) == before


def soon(known: Watch, *wanted: int | None) -> int | None:
    """Wait until the number is one of these."""
    deadline = time.monotonic() + 10
    while (found := known.current()) not in wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found in wanted
    return found


def test_a_watch_knows_what_others_committed(own: sa.Engine) -> None:
    known = watch(own)
    with transaction(own) as session:
        before = facts_version(session)
    soon(known, before)
    with transaction(own) as session:
        Make(session, utcnow()).person()
        session.flush()
        assert known.current() == before
    after = soon(known, *range(before + 1, before + 50))
    with transaction(own, write=False) as session:
        assert facts_version(session) == after
    known.close()


def test_many_writers_at_once_never_wait_for_each_other_in_a_circle(own: sa.Engine) -> None:
    with transaction(own) as session:
        people = [Make(session, utcnow()).person(f"p{n}").id for n in range(2)]
    problems: list[BaseException] = []

    def write(*those: int) -> None:
        try:
            for _ in range(10):
                with transaction(own) as session:
                    for person in those:
                        hold(session, User.id, person)
                        session.get_one(Profile, person).name = str(time.monotonic_ns())
                        session.flush()
        except sa.exc.DBAPIError as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=those) for those in ((people[0], people[1]), (people[1],))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


WRITER = """
import sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None)
writer.execute("CREATE TABLE use (n)")
for line in sys.stdin:
    writer.execute(line)
    print(flush=True)
"""


def test_sqlite_is_read_only_after_a_commit_and_after_each(tmp_path: Path) -> None:
    path = tmp_path / "with a space" / "shared.db"
    path.parent.mkdir()
    engine = make_engine(f"sqlite:///{path}")
    upgrade(engine)
    queries: list[str] = []
    known = SqliteWatch(engine)
    known._raw.driver_connection.set_trace_callback(queries.append)  # type: ignore[union-attr]
    first = known.current()
    assert first is not None
    assert known.current() == known.current() == first
    assert len(queries) == (2 if known._head is not None else 4)
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdin=PIPE, stdout=PIPE, text=True) as other:
        told, done = other.stdin, other.stdout
        assert told is not None
        assert done is not None

        def write(statement: str) -> None:
            told.write(statement + "\n")
            told.flush()
            assert done.readline(), "the other process has ended"

        for number in range(first + 1, first + 200):
            write(RAISE)
            assert known.current() == number
            write(f"INSERT INTO use VALUES ({number})")
            if number % 50 == 0:
                write("PRAGMA wal_checkpoint(TRUNCATE)")
            assert known.current() == number
            asked = len(queries)
            assert known.current() == number
            assert len(queries) == asked or known._head is None
        told.close()
    assert known.current() == first + 199
    known.close()
    engine.dispose()


def test_a_number_that_is_not_there_is_not_known(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'broken.db'}")
    upgrade(engine)
    known = SqliteWatch(engine)
    assert known.current() is not None
    with engine.connect() as connection:
        connection.execute(sa.text("DROP TABLE facts_version"))
        connection.commit()
    assert known.current() is None
    known.close()
    engine.dispose()


def test_a_database_that_says_nothing_is_not_believed(own: sa.Engine) -> None:
    if own.dialect.name == "sqlite":
        return
    known = PostgresWatch(own)
    soon(known, *range(1, 100))
    own.dispose()
    name = own.url.database
    server = make_engine(own.url.set(database="postgres").render_as_string(hide_password=False))
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
    soon(known, None)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    soon(known, *range(1, 100))
    known.close()
    server.dispose()
