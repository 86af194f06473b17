"""Mail as files and over SMTP, against a real server."""

import email
import email.policy
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope

from portal.adapters.mail import FileMailer, MailFailed, SmtpMailer, make_mailer
from portal.core.config import Settings

BODY = "Hello José,\n\nplease follow this link:\n\nhttps://portal.example/signup/verify/" + "a" * 80 + "\n"


@dataclass
class Inbox:
    """What a mail server took."""

    taken: list[Envelope] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    refuse: str = ""
    refuse_data: str = ""

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any) -> str:  # noqa: N802
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self.refuse_data:
            return self.refuse_data
        self.taken.append(envelope)
        return "250 OK"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"right", handled=False)

    def message(self) -> Any:
        (envelope,) = self.taken
        return email.message_from_bytes(envelope.content or b"", policy=email.policy.default)


class Server(Controller):
    """A mail server on a free port that may offer TLS and ask for a password."""

    def __init__(
        self, inbox: Inbox, *, tls: ssl.SSLContext | None, utf8: bool, auth: bool, from_start: bool = False
    ) -> None:
        upgraded = None if from_start else tls
        self.options = {
            "tls_context": upgraded, "auth_require_tls": upgraded is not None, "enable_SMTPUTF8": utf8,
            "authenticator": inbox.authenticate if auth else None, "auth_required": auth and upgraded is not None,
            "hostname": "mail.test",
        }  # fmt: skip
        super().__init__(inbox, hostname="127.0.0.1", port=0, ssl_context=tls if from_start else None)

    def factory(self) -> SMTP:
        return SMTP(self.handler, **self.options)

    def _trigger_server(self) -> None:
        """Let the self-test know which free port it was."""
        self.port = self.bound
        super()._trigger_server()

    @property
    def bound(self) -> int:
        return int(self.server.sockets[0].getsockname()[1])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key, made for this run."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem",
         "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def serve(inbox: Inbox, certificate: Path) -> Iterator[Any]:
    """Start mail servers; returns a mailer for each that trusts its certificate."""
    running = []

    def start(*, tls: bool = False, utf8: bool = True, auth: bool = False, trusted: bool = True, **kept: Any) -> Any:
        context = None
        if tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        server = Server(inbox, tls=context, utf8=utf8, auth=auth, from_start=kept.get("implicit_tls", False))
        server.start()
        running.append(server)
        trust = ssl.create_default_context(cafile=certificate / "cert.pem") if trusted else None
        return SmtpMailer(
            host="127.0.0.1", port=server.bound, sender="no-reply@portal.example", context=trust, timeout=5, **kept
        )

    yield start
    for server in running:
        server.stop()


def test_a_message_arrives_as_it_was_written(serve: Any, inbox: Inbox) -> None:
    serve().send("ann@example.org", "Bestätigung ✓", BODY, "ntc_1")
    (envelope,) = inbox.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@portal.example", ["ann@example.org"])
    message = inbox.message()
    assert message["Subject"] == "Bestätigung ✓"
    assert message["From"] == "BLOOM Portal <no-reply@portal.example>"
    assert message["To"] == "ann@example.org"
    assert message["Message-ID"] == "<ntc_1@portal.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"]
    assert message.get_content_type() == "text/plain"
    assert message.get_content().replace("\r\n", "\n") == BODY


def test_tls_is_used_where_it_is_offered_and_carries_the_password(serve: Any, inbox: Inbox) -> None:
    serve(tls=True, auth=True, user="portal", password="right").send("ann@example.org", "Hello", "Text\n")
    assert inbox.logins == [(b"portal", b"right")]
    assert len(inbox.taken) == 1


def test_tls_from_the_start_is_used_where_the_address_says_so(serve: Any, inbox: Inbox) -> None:
    serve(tls=True, implicit_tls=True, require_tls=True).send("ann@example.org", "Hello", "Text\n")
    assert len(inbox.taken) == 1


def test_a_wrong_password_leaves_the_message_for_later(serve: Any, inbox: Inbox) -> None:
    with pytest.raises(MailFailed, match="535") as caught:
        serve(tls=True, auth=True, user="portal", password="wrong").send("ann@example.org", "Hello", "Text\n")
    assert not caught.value.permanent
    assert inbox.taken == []


@pytest.mark.parametrize("kept", [{"user": "portal", "password": "right"}, {"require_tls": True}])
def test_neither_passwords_nor_production_mail_go_in_clear(serve: Any, inbox: Inbox, kept: dict[str, Any]) -> None:
    with pytest.raises(MailFailed, match="offers no STARTTLS") as caught:
        serve(auth="user" in kept, **kept).send("ann@example.org", "Hello", "Text\n")
    assert not caught.value.permanent
    assert (inbox.logins, inbox.taken) == ([], [])


def test_a_server_that_cannot_prove_its_name_gets_nothing(serve: Any, inbox: Inbox) -> None:
    with pytest.raises(MailFailed, match="CERTIFICATE_VERIFY_FAILED"):
        serve(tls=True, auth=True, user="portal", password="right", trusted=False).send("ann@example.org", "Hi", "T")
    assert (inbox.logins, inbox.taken) == ([], [])


@pytest.mark.parametrize(("refusal", "permanent"), [("550 no such user", True), ("450 mailbox busy", False)])
def test_a_refused_recipient_is_told_with_whether_trying_again_helps(
    serve: Any, inbox: Inbox, refusal: str, permanent: bool
) -> None:
    inbox.refuse = refusal
    with pytest.raises(MailFailed, match=refusal) as caught:
        serve().send("ann@example.org", "Hello", "Text\n")
    assert caught.value.permanent is permanent


@pytest.mark.parametrize(("refusal", "permanent"), [("554 looks like spam", True), ("451 later", False)])
def test_a_refused_text_is_told_with_whether_trying_again_helps(
    serve: Any, inbox: Inbox, refusal: str, permanent: bool
) -> None:
    inbox.refuse_data = refusal
    with pytest.raises(MailFailed, match=refusal) as caught:
        serve().send("ann@example.org", "Hello", "Text\n")
    assert caught.value.permanent is permanent


def test_a_letter_beyond_ascii_in_an_address_needs_a_server_that_takes_it(serve: Any, inbox: Inbox) -> None:
    with pytest.raises(MailFailed, match="cannot do this") as caught:
        serve(utf8=False).send("grün@example.org", "Hello", "Text\n")
    assert caught.value.permanent
    serve().send("grün@bücher.example", "Hello", "Text\n")
    (envelope,) = inbox.taken
    assert envelope.rcpt_tos == ["grün@xn--bcher-kva.example"]


@pytest.mark.threat("TM-31")
@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("ann@example.org\r\nBcc: all@example.org", "Hello"),
        ("ann@example.org, bob@example.org", "Hello"),
        ("ann <ann@example.org>", "Hello"),
        ("ann@", "Hello"),
        ("ann", "Hello"),
        ("ann\0@example.org", "Hello"),
        ("ann@" + "ü" * 80 + ".example", "Hello"),
        ("ann@example.org", "Hello\r\nBcc: all@example.org"),
        ("ann@example.org", "Hello\nX-Evil: 1"),
    ],
)
def test_nothing_can_be_smuggled_into_the_head_of_a_message(tmp_path: Path, address: str, subject: str) -> None:
    # Nobody listens on port 1: what is refused is refused before anybody is called.
    for mailer in (
        SmtpMailer("127.0.0.1", 1, "no-reply@portal.example"),
        FileMailer(tmp_path, "no-reply@portal.example"),
    ):
        with pytest.raises(MailFailed) as caught:
            mailer.send(address, subject, "Text\n")
        assert caught.value.permanent
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_away_leaves_the_message_for_later() -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mailer = SmtpMailer(host="127.0.0.1", port=probe.getsockname()[1], sender="a@portal.example", timeout=1)
        with pytest.raises(MailFailed, match="refused") as caught:
            mailer.send("ann@example.org", "Hello", "Text\n")
    assert not caught.value.permanent


def test_a_server_that_says_nothing_is_given_up_on() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for tls in (False, True):
            mailer = SmtpMailer(host="127.0.0.1", port=port, sender="a@portal.example", timeout=0.2, implicit_tls=tls)
            with pytest.raises(MailFailed, match="timed out") as caught:
                mailer.send("ann@example.org", "Hello", "Text\n")
            assert not caught.value.permanent


def test_a_mail_file_appears_whole_readable_by_eye_and_by_nobody_else(tmp_path: Path) -> None:
    said: list[str] = []
    mailer = FileMailer(tmp_path, "no-reply@portal.example", said.append)
    mailer.send("grün@example.org", "Bestätigung", BODY)
    mailer.send("bob@example.org", "No link", "Text\n")
    paths = sorted(tmp_path.iterdir())
    assert [path.suffix for path in paths] == [".eml", ".eml"]
    assert paths[0].stat().st_mode & 0o777 == 0o600
    raw = paths[0].read_text(encoding="utf-8")
    assert BODY in raw
    message = email.message_from_bytes(paths[0].read_bytes(), policy=email.policy.default)
    assert (message["To"], message["Subject"]) == ("grün@example.org", "Bestätigung")
    assert message.get_content() == BODY
    link = BODY.rsplit(maxsplit=1)[-1]
    assert said == [f"mail to grün@example.org: Bestätigung {link}", "mail to bob@example.org: No link"]


def test_a_mail_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(MailFailed, match="No such file") as caught:
        FileMailer(tmp_path / "gone", "no-reply@portal.example", print).send("ann@example.org", "Hello", "Text\n")
    assert not caught.value.permanent


def mailer_for(tmp_path: Path, url: str, **more: str) -> Any:
    return make_mailer(Settings.from_env({"PORTAL_HOME": str(tmp_path), "PORTAL_MAIL_URL": url, **more}))


def test_the_setting_says_how_mail_goes_out(tmp_path: Path) -> None:
    files = mailer_for(tmp_path, "file:")
    assert (files.folder, files.sender) == (tmp_path / "mail", "no-reply@localhost")
    assert os.access(tmp_path / "mail", os.W_OK)
    plain = mailer_for(tmp_path, "smtp://host.example", PORTAL_BASE_URL="http://portal.example:8000")
    assert (plain.host, plain.port, plain.implicit_tls, plain.user) == ("host.example", 587, False, "")
    assert plain.sender == "no-reply@portal.example"
    full = mailer_for(tmp_path, "smtps://me%40x.example:p%3Aw@host.example:2465")
    assert (full.port, full.implicit_tls, full.user, full.password) == (2465, True, "me@x.example", "p:w")
    assert (full.sender, full.require_tls) == ("me@x.example", False)
    named = mailer_for(tmp_path, "smtp://h.example?from=bloom@x.example", PORTAL_BASE_URL="http://[::1]:8000")
    assert named.sender == "bloom@x.example"
    production = mailer_for(tmp_path, "smtp://h.example", PORTAL_ENV="production", PORTAL_BASE_URL="https://p.example")
    assert production.require_tls
