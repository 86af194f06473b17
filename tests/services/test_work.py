"""Background work: mail, receipts, the journal and the clock, none of which stops the others."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.adapters.mail import MailFailed
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.edge.journal import Journal
from portal.main_work import ERROR_PAUSE, Work
from portal.migrations import upgrade
from portal.notices import service as notices
from portal.notices.models import Notice
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome, use_finished, use_opened
from tests.factories import Make


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    """The jobs over a fresh database."""
    settings = Settings.from_env({"PORTAL_HOME": str(tmp_path)})
    engine = make_engine(settings.database_url)
    upgrade(engine)
    with transaction(engine) as session:
        Make(session, utcnow()).noise()
    yield Work(settings, engine)
    engine.dispose()


def queue(work: Work, address: str) -> None:
    with transaction(work.engine) as session:
        notices.queue(
            session, recipient_id=None, address=address, kind="test", subject_ref="", subject="Hello",
            body="Words.", now=utcnow(),
        )  # fmt: skip


def state(work: Work) -> list[tuple[int, str, bool]]:
    with transaction(work.engine, write=False) as session:
        rows = session.scalars(sa.select(Notice).where(Notice.kind == "test").order_by(Notice.id)).all()
        return [(row.tries, row.last_error, row.due_at is None) for row in rows]


def test_mail_is_sent_once(work: Work) -> None:
    queue(work, "a@example.org")
    assert work.mail()
    assert not work.mail()
    files = list((work.settings.home / "mail").glob("*.eml"))
    assert len(files) == 1
    assert "Words." in files[0].read_text()
    assert state(work)[0][2]


@pytest.mark.parametrize(("permanent", "given_up"), [(False, False), (True, True)])
def test_mail_that_fails_waits_or_is_given_up(
    work: Work, monkeypatch: pytest.MonkeyPatch, permanent: bool, given_up: bool
) -> None:
    class Away:
        def send(self, *_args: object) -> None:
            raise MailFailed("the server is away", permanent=permanent)

    work.mailer = Away()
    queue(work, "a@example.org")
    queue(work, "b@example.org")
    assert work.mail()
    assert [(error, done) for _, error, done in state(work)] == [("the server is away", given_up)] * 2


def line(number: int, **changed: object) -> list[dict[str, object]]:
    opened = use_opened(
        request_id=f"req_{number}", at=utcnow(), action="infer", channel="api", model_name="a/b", user_id=None,
        access_token_id=None, release_id=None, signature_ids=(), card_revision_id=None, reserved=0,
    )  # fmt: skip
    finished = use_finished(
        opened, at=utcnow(), outcome=Outcome.REFUSED, reason_code="not_signed_in", prompt_tokens=0,
        completion_tokens=0, bytes_sent=0, ms=1,
    )  # fmt: skip
    return [{**finished, **changed}]


def outcomes(work: Work) -> dict[str, str]:
    with transaction(work.engine, write=False) as session:
        return {row.request_id: row.outcome.value for row in session.scalars(sa.select(UsageRecord))}


def test_the_journal_is_entered_and_one_bad_record_holds_up_no_other(work: Work) -> None:
    journal = Journal(work.settings.folder("journal"))
    for number in range(3):
        for record in line(number):
            journal.append(record)
    for record in line(3, access_token_id=10**9):
        journal.append(record)
    for record in line(4):
        journal.append(record)
    journal.close()
    while work.replay():
        pass
    assert outcomes(work) == {f"req_{number}": "refused" for number in (0, 1, 2, 4)}
    aside = work.settings.home / "journal" / "rejected.jsonl"
    assert "req_3" in aside.read_text()
    assert not work.replay()
    assert len(outcomes(work)) == 4


def test_one_job_that_fails_stops_no_other_and_is_tried_again(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    queue(work, "a@example.org")

    def broken() -> bool:
        raise RuntimeError("the disk is gone")

    work.jobs[1].run = broken
    assert work.turn(100.0)
    assert work.alive.exists()
    assert state(work)[0][2], "mail went out all the same"
    assert work.jobs[1].due == 100.0 + ERROR_PAUSE
    assert "the disk is gone" in capsys.readouterr().err
    assert not work.turn(100.1)


def test_what_the_clock_changed_is_recorded(work: Work) -> None:
    with transaction(work.engine) as session:
        make = Make(session, utcnow())
        user = make.person("late")
        make.sign(user)
        session.flush()
        ended = utcnow() - timedelta(seconds=1)
        session.execute(
            sa.update(User).where(User.id == user.id)
            .values(standing=Standing.SUSPENDED, standing_until=ended, standing_ref="san_x")
        )  # fmt: skip
    assert not work.clock()
    with transaction(work.engine, write=False) as session:
        assert session.get_one(User, user.id).standing is Standing.ACTIVE


def test_background_work_knows_every_table_that_its_rows_refer_to(tmp_path: Path) -> None:
    program = (
        "from portal.core.config import Settings\n"
        "from portal.core.db import Base, make_engine\n"
        "from portal.main_work import Work\n"
        f"settings = Settings.from_env({{'PORTAL_HOME': {str(tmp_path)!r}}})\n"
        "Work(settings, make_engine(settings.database_url))\n"
        "print(len([key.column for table in Base.metadata.tables.values() for key in table.foreign_keys]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
