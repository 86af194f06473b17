"""Reports of mail servers: asked for from a real one that offers them, read back, and kept as rungs of the ladder."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.adapters.mail import SmtpMailer
from portal.adapters.mail_reports import Report, Reports, read_report
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.main_work import Work
from portal.migrations import upgrade
from portal.notices import service as notices
from portal.notices.models import Notice, NoticeEvent

REF = "ntc_" + "a2" * 8
CODES = {"delivered": "2.0.0", "failed": "5.1.1", "delayed": "4.2.0", "relayed": "2.0.0", "expanded": "2.0.0"}
REPORT = """\
From: MAILER-DAEMON@mail.test
To: no-reply@portal.example
Subject: Delivery status
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="cut"

--cut
Content-Type: text/plain; charset=us-ascii

What became of your message.
--cut
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.test
{envelope}
Final-Recipient: rfc822; ann@example.org
Action: {action}
Status: {code}

--cut
Content-Type: {kind}

{head}
--cut--
"""


def report(action: str, *, envelope: str = "", head: str = "", kind: str = "text/rfc822-headers") -> bytes:
    """A delivery status notification as a mail server writes it."""
    line = f"Original-Envelope-Id: {envelope}\n" if envelope else ""
    code = CODES.get(action.lower(), "5.0.0")
    text = REPORT.format(envelope=line, action=action, code=code, head=head, kind=kind)
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


class Reporting(SMTP):
    """A mail server that offers reports on delivery, and remembers what it was asked for."""

    def _noted(self, arg: str) -> str:
        words = arg.split()
        asked = [word for word in words if word.partition("=")[0] in {"RET", "ENVID", "NOTIFY", "ORCPT"}]
        self.event_handler.asked += asked
        return " ".join(word for word in words if word not in asked)

    async def smtp_MAIL(self, arg: str) -> None:  # noqa: N802
        await super().smtp_MAIL(self._noted(arg))

    async def smtp_RCPT(self, arg: str) -> None:  # noqa: N802
        await super().smtp_RCPT(self._noted(arg))


@dataclass
class Desk:
    """What the server was asked for, and the Maildir where it leaves its reports."""

    maildir: Path
    offers: bool = True
    asked: list[str] = field(default_factory=list)
    action: str = "delivered"
    taken: int = 0

    async def handle_EHLO(self, _server: Any, session: Session, _envelope: Envelope, hostname: str, lines: Any) -> Any:  # noqa: N802
        session.host_name = hostname
        return [*lines[:-1], *(["250-DSN"] if self.offers else []), lines[-1]]

    async def handle_DATA(self, _server: Any, _session: Any, _envelope: Envelope) -> str:  # noqa: N802
        self.taken += 1
        named = [word.partition("=")[2] for word in self.asked if word.startswith("ENVID=")]
        if named and "NOTIFY=SUCCESS,FAILURE" in self.asked:
            (self.maildir / "new").mkdir(parents=True, exist_ok=True)
            (self.maildir / "new" / f"{self.taken}.mail.test").write_bytes(report(self.action, envelope=named[-1]))
        return "250 OK"


class Server(Controller):
    """Such a server on a free port."""

    def factory(self) -> SMTP:
        return Reporting(self.handler, enable_SMTPUTF8=True, hostname="mail.test")

    def _trigger_server(self) -> None:
        self.port = self.bound
        super()._trigger_server()

    @property
    def bound(self) -> int:
        return int(self.server.sockets[0].getsockname()[1])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "Maildir")


@pytest.fixture
def port(desk: Desk) -> Iterator[int]:
    server = Server(desk, hostname="127.0.0.1", port=0)
    server.start()
    yield server.bound
    server.stop()


def mailer(port: int, *, reports: bool = True) -> SmtpMailer:
    return SmtpMailer(host="127.0.0.1", port=port, sender="no-reply@portal.example", reports=reports, timeout=5)


@pytest.mark.parametrize("address", ["ann@example.org", "änn@example.org"])
def test_a_server_that_can_is_asked_what_becomes_of_a_message(desk: Desk, port: int, address: str) -> None:
    mailer(port).send(address, "Hello", "Words.\n", REF)
    assert desk.asked == ["RET=HDRS", f"ENVID={REF}", "NOTIFY=SUCCESS,FAILURE"]


def test_who_cannot_or_need_not_is_not_asked(desk: Desk, port: int) -> None:
    mailer(port, reports=False).send("ann@example.org", "Hello", "Words.\n", REF)
    desk.offers = False
    mailer(port).send("ann@example.org", "Hello", "Words.\n", REF)
    assert (desk.asked, desk.taken) == ([], 2)


@pytest.fixture
def work(tmp_path: Path, desk: Desk, port: int) -> Iterator[Work]:
    """Background work over a database, which sends through that server."""
    given = Settings.from_env(
        {
            "PORTAL_HOME": str(tmp_path / "home"), "PORTAL_MAIL_URL": f"smtp://127.0.0.1:{port}",
            "PORTAL_MAIL_REPORTS": str(desk.maildir),
        }
    )  # fmt: skip
    engine = make_engine(given.database_url)
    upgrade(engine)
    yield Work(given, engine)
    engine.dispose()


def leave(work: Work) -> str:
    with transaction(work.engine) as session:
        return notices.queue(
            session, recipient_id=7, address="ann@example.org", kind="test", subject_ref="thing:1", subject="Hello",
            body="Words.\n", now=utcnow(),
        ).public_id  # fmt: skip


def rungs(work: Work, ref: str) -> list[str]:
    with transaction(work.engine, write=False) as session:
        query = sa.select(NoticeEvent.rung).join(Notice).where(Notice.public_id == ref).order_by(NoticeEvent.id)
        return [rung.value for rung in session.scalars(query)]


def test_from_the_queue_to_the_report_that_it_arrived(work: Work, desk: Desk) -> None:
    assert not work.report()
    ref = leave(work)
    assert work.mail()
    assert rungs(work, ref) == ["queued", "sent"]
    assert work.report()
    assert rungs(work, ref) == ["queued", "sent", "delivered"]
    assert not work.report()
    [seen] = (desk.maildir / "cur").iterdir()
    assert seen.name == "1.mail.test:2,S"
    seen.rename(desk.maildir / "new" / "again")
    assert work.report()
    assert rungs(work, ref) == ["queued", "sent", "delivered"]
    with transaction(work.engine, write=False) as session:
        assert list(notices.reached_at(session, user_id=7, subject_refs=["thing:1"])) == ["thing:1"]


def test_a_message_that_comes_back_later_is_known_to_have(work: Work, desk: Desk) -> None:
    desk.action = "failed"
    ref = leave(work)
    assert work.mail()
    assert work.report()
    assert rungs(work, ref) == ["queued", "sent", "bounced"]
    with transaction(work.engine, write=False) as session:
        assert notices.bounced(session, user_ids=[7]) == {(7, "ann@example.org")}
        assert notices.reached_at(session, user_id=7, subject_refs=["thing:1"]) == {}


def test_mail_that_is_no_report_is_put_aside_and_says_nothing(work: Work, desk: Desk, tmp_path: Path) -> None:
    new, ref = desk.maildir / "new", leave(work)
    new.mkdir(parents=True)
    (new / "a").write_bytes(b"Subject: I am away\r\n\r\nBack on Monday.\r\n")
    (new / "b").write_bytes(report("delivered", envelope="ntc_" + "z" * 16))
    (new / "c").write_bytes(b"x" * (1 << 20) + report("delivered", envelope=ref))
    (new / "d").mkdir()
    outside = tmp_path / "outside"
    outside.write_bytes(report("delivered", envelope=ref))
    (new / "e").symlink_to(outside)
    (new / ".part").write_bytes(report("delivered", envelope=ref))
    os.mkfifo(new / "f")
    assert work.report()
    assert sorted(path.name for path in new.iterdir()) == [".part"]
    assert rungs(work, ref) == ["queued"]


def test_without_a_maildir_nothing_is_read(tmp_path: Path) -> None:
    assert Reports("").waiting(limit=5) == []
    assert Reports(str(tmp_path)).waiting(limit=5) == []
    gone = tmp_path / "new" / "gone"
    gone.parent.mkdir()
    Reports(str(tmp_path)).done(gone)
    assert Reports(str(tmp_path)).read(gone) is None


@pytest.mark.parametrize(
    ("action", "delivered"),
    [("delivered", True), ("Delivered (to mailbox)", None), ("FAILED", False), ("delayed", None), ("relayed", None),
     ("expanded", None), ("", None)],
)  # fmt: skip
def test_what_a_report_settles(action: str, delivered: bool | None) -> None:
    expected = None if delivered is None else Report(REF, delivered)
    assert read_report(report(action, envelope=REF)) == expected


def test_a_report_that_names_no_envelope_is_known_by_what_it_returns() -> None:
    head = f"From: a@b\r\nMessage-ID: <{REF}@portal.example>\r\n"
    assert read_report(report("failed", head=head)) == Report(REF, False)
    whole = head + "\r\nntc_" + "b" * 16
    assert read_report(report("failed", head=whole, kind="message/rfc822")) == Report(REF, False)
    assert read_report(report("failed", head="From: a@b\r\n\r\n" + REF)) is None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 1000), st.integers(0, 60))
def test_damaged_reports_never_stop_the_work(tmp_path_factory: Any, noise: bytes, start: int, length: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    whole = report("delivered", envelope=REF)
    path = folder / "mail"
    path.write_bytes(whole[:start] + noise + whole[start + length :])
    found = Reports("").read(path)  # damage may make another name of the one in it
    assert found is None or (found.ref.startswith("ntc_") and len(found.ref) == len(REF))
