"""Witnesses on both databases: each is asked for what it has not seen, and only a word that holds is kept."""

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters import outside
from portal.adapters.signing_key import SigningKey, holds, open_key
from portal.adapters.witnesses import SeenElse, WitnessError, open_witnesses
from portal.core.clock import utcnow
from portal.core.config import SettingError, Settings
from portal.core.db import make_engine, transaction
from portal.core.errors import Conflict
from portal.main_work import Work
from portal.migrations import upgrade
from portal.witnesses import service
from portal.witnesses.models import Cosignature, DailyCheckpoint
from portal.witnesses.rules import Word, read_word
from tests import witness as witnesses
from tests.logged import advance, index_of, record
from tests.witness import Wit


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """The key of a log."""
    return open_key(tmp_path)


def ask(session: Session, wit: Wit, seen: int | None = None) -> Word:
    """What the worker does, in one transaction."""
    order = service.order(session, witness=wit.name, seen=seen)
    assert order is not None
    status, answer = wit.answer(order.body)
    assert status == 200, answer
    word = read_word(answer, note=order.note, witness=wit, holds=holds, now=utcnow())
    service.store(session, witness=wit.name, size=order.size, word=word)
    return word


def test_a_witness_is_asked_from_where_it_was_with_a_proof_that_it_checks(
    session: Session, now: datetime, key: SigningKey
) -> None:
    wit, other = Wit(), Wit(name="a.example")
    assert service.order(session, witness=wit.name) is None, "nothing is signed yet"
    assert service.served(session) is None
    for minute in range(6):
        record(session, now, *map(str, range(minute + 2)))
        note = advance(session, key, now + timedelta(minutes=minute)).note
        word = ask(session, wit)
        if minute % 2:
            ask(session, other)
        assert service.order(session, witness=wit.name) is None, "it has vouched for this one"
        lines = (service.served(session) or b"").splitlines(keepends=True)[5:]
        assert word.line in lines
        assert len(lines) == 1 + minute % 2
        assert (service.served(session) or b"").startswith(note or b"x")
    assert len(wit.asked) == 6
    assert sorted(set(wit.asked)) == wit.asked, "each time from where it was"
    service.store(session, witness=wit.name, size=wit.seen[0], word=Word(b"another\n", now))
    assert b"another" not in (service.served(session) or b"")


def test_a_witness_that_has_seen_more_gives_an_older_copy_away(
    session: Session, now: datetime, key: SigningKey
) -> None:
    record(session, now, "a")
    advance(session, key, now)
    with pytest.raises(Conflict, match="an older copy was put back"):
        service.order(session, witness="w", seen=10**6)
    order = service.order(session, witness="w", seen=1)
    assert order is not None
    assert order.old == 1


def test_proofs_stand_under_the_newest_checkpoint_that_somebody_vouched_for(
    session: Session, now: datetime, key: SigningKey
) -> None:
    first, second = record(session, now, "a", "b")
    assert service.proofs_of(session, event_refs=[first.public_id]) == []
    advance(session, key, now)
    wit = Wit()
    word = ask(session, wit)
    (third,) = record(session, now, "c")
    advance(session, key, now + timedelta(minutes=1))
    one, other = service.proofs_of(session, event_refs=[first.public_id, second.public_id])
    assert one.endswith(word.line)
    assert one.split(b"\n\n", 1)[1] == other.split(b"\n\n", 1)[1]
    (newest,) = service.proofs_of(session, event_refs=[third.public_id])
    assert word.line not in newest
    assert f"index {index_of(session, third)}\n".encode() in newest
    assert len(service.proofs_of(session, event_refs=[first.public_id, third.public_id])) == 2
    (pending,) = record(session, now, "d")
    assert service.proofs_of(session, event_refs=[first.public_id, pending.public_id]) == []


def test_the_checkpoint_of_a_day_is_chosen_once_and_timestamped_once(
    session: Session, now: datetime, key: SigningKey
) -> None:
    assert service.note_day(session, day="2026-11-02", now=now) is None
    assert service.in_short(session) is None
    record(session, now, "a")
    note = advance(session, key, now).note
    made = service.note_day(session, day="2026-11-02", now=now)
    assert made is not None
    assert service.note_day(session, day="2026-11-02", now=now) is None
    record(session, now, "b")
    advance(session, key, now + timedelta(minutes=1))
    (waits,) = service.untimed(session)
    assert (waits.day, waits.note) == ("2026-11-02", note)
    service.store_time(session, day="2026-11-02", token=b"token")
    service.store_time(session, day="2026-11-02", token=b"another")
    assert made.token == b"token"
    assert service.untimed(session) == []
    later = service.note_day(session, day="2026-11-03", now=now)
    assert service.in_short(session) == service.untimed(session)[0]
    assert service.daily(session) is later
    assert service.daily(session, day="2026-11-02") is made
    for changed in (sa.update(DailyCheckpoint).values(token=b"x"), sa.update(DailyCheckpoint).values(size=1)):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"), session.begin_nested():
            session.execute(changed.where(DailyCheckpoint.day == "2026-11-02"))


# The worker and a witness that really answers.


@pytest.fixture
def wit() -> Any:
    """A witness that runs."""
    with witnesses.running() as running, pytest.MonkeyPatch.context() as changed:
        changed.setattr(outside, "FIRST_PAUSE", 600.0)  # longer than a test takes on any machine
        yield running


@pytest.fixture
def work(wit: Wit, tmp_path: Path) -> Any:
    """The worker of a portal that names it."""
    settings = Settings.from_env({"PORTAL_HOME": str(tmp_path), "PORTAL_WITNESSES": f"{wit.vkey} {wit.url}"})
    engine = make_engine(settings.database_url)
    upgrade(engine)
    yield Work(settings, engine)
    engine.dispose()


def words(work: Work) -> int:
    with transaction(work.engine, write=False) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Cosignature)) or 0


def happen(work: Work, count: int = 1) -> None:
    with transaction(work.engine) as session:
        record(session, utcnow(), *map(str, range(count)))
    work.log()


def test_the_worker_gets_the_word_of_a_witness_once(work: Work, wit: Wit) -> None:
    assert not work.witness()
    assert wit.asked == []
    happen(work, 300)
    work.witness()
    work.witness()
    assert (words(work), wit.asked) == (1, [0])
    happen(work, 300)
    work.witness()
    assert (words(work), wit.asked) == (2, [0, 300])


def test_a_witness_that_has_seen_something_else_is_asked_from_there(work: Work, wit: Wit) -> None:
    happen(work, 300)
    work.witness()
    happen(work, 300)
    with transaction(work.engine) as session:
        session.execute(sa.text("DROP TRIGGER ao_cosignature_delete"))
        session.execute(sa.delete(Cosignature))
    work.witness()
    assert (words(work), wit.asked) == (1, [0, 0, 300])


@pytest.mark.threat("TM-21")
@pytest.mark.threat("TM-25")
@pytest.mark.parametrize(
    ("mood", "why"),
    [("error", "it answers 500"), ("garbage", "holds no cosignature"), ("stranger", "holds no cosignature"),
     ("forged", "does not hold"), ("yesterday", "of another time"), ("ahead", "an older copy was put back"),
     ("away", "Connect")],
)  # fmt: skip
def test_a_witness_that_fails_is_left_alone_for_a_while_and_stops_nothing(
    work: Work, wit: Wit, mood: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wit.mood = mood
    (door,) = work.witnesses
    address = door.server.url
    if mood == "away":
        door.server.url = "http://127.0.0.1:9"
    happen(work, 300)
    assert not work.witness()
    said = capsys.readouterr().err
    assert why in said
    assert "next try in 600 s" in said
    asked = len(wit.asked)
    work.witness()
    assert (len(wit.asked), words(work)) == (asked, 0)
    door.server.due, door.server.url, wit.mood = time.monotonic(), address, "well"
    work.witness()
    assert words(work) == 1
    assert door.server.pause == 0.0


def test_a_witness_refuses_what_does_not_extend_what_it_saw(work: Work, wit: Wit) -> None:
    wit.seen = (5, b"x" * 32)
    happen(work, 300)
    (door,) = work.witnesses
    with transaction(work.engine, write=False) as session:
        order = service.order(session, witness=wit.name, seen=5)
    assert order is not None
    with pytest.raises(WitnessError, match="it answers 422: not consistent"):
        door.ask(order.body)
    with pytest.raises(SeenElse, match="it has seen 5 entries"):
        door.ask(b"old 0\n\n" + order.note)


def test_a_wrong_witness_stops_the_start_with_one_line(tmp_path: Path) -> None:
    one = Wit()
    for text, why in (("x", "KEY ADDRESS"), (f"{one.vkey} http://a,{one.vkey} http://b", "stands twice")):
        settings = Settings.from_env({"PORTAL_HOME": str(tmp_path), "PORTAL_WITNESSES": text})
        with pytest.raises(SettingError, match=why):
            open_witnesses(settings)
    assert open_witnesses(Settings.from_env({"PORTAL_HOME": str(tmp_path)})) == []
