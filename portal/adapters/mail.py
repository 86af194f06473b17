"""Sending mail: into files while developing, over SMTP for real."""

import os
import re
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import click

from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.ids import public_id

SENDER_NAME = "BLOOM Portal"
TIMEOUT_SECONDS = 20.0
PORTS = {"smtp": 587, "smtps": 465}
LINK = re.compile(r"https?://\S+")
UNSAFE = re.compile(r"[\x00-\x1f\x7f\s,;<>\"]")


class MailFailed(OSError):
    """A message could not be handed over.

    Args:
        permanent: trying again is no use.
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class Mailer(Protocol):
    """Hands over messages."""

    def send(self, address: str, subject: str, body: str, message_id: str | None = None) -> None:
        """Hand over one message, or raise `MailFailed`."""


def make_mailer(settings: Settings) -> Mailer:
    """Return the mailer that the settings name."""
    url = urlsplit(settings.mail_url)
    sender = _sender(settings, url)
    if url.scheme == "file":
        return FileMailer(settings.folder("mail"), sender)
    return SmtpMailer(
        host=url.hostname or "localhost", port=url.port or PORTS[url.scheme], implicit_tls=url.scheme == "smtps",
        user=unquote(url.username or ""), password=unquote(url.password or ""), sender=sender,
        require_tls=settings.is_production, reports=bool(settings.mail_reports),
    )  # fmt: skip


def _sender(settings: Settings, url: SplitResult) -> str:
    """Return the address that mail comes from: ``?from=``, a user name that is one, or no-reply at the portal."""
    named = parse_qs(url.query).get("from", [""])[0]
    user = unquote(url.username or "")
    host = urlsplit(settings.base_url).hostname or "localhost"
    domain = host if re.search("[a-z]", host) and ":" not in host else "localhost"
    return named or (user if "@" in user else f"no-reply@{domain}")


def compose(sender: str, address: str, subject: str, body: str, message_id: str | None, *, raw: bool) -> EmailMessage:
    """Build a plain-text message; an address or a subject that would break its head is refused.

    Args:
        raw: keep letters beyond ASCII as they are, so that a file can be read by eye.
    """
    local, _, domain = address.rpartition("@")
    if UNSAFE.search(address) or not local or not domain:
        raise MailFailed(f"{address!r} is no address", permanent=True)
    message = EmailMessage(policy=policy.default if raw else policy.SMTP)
    try:
        message["From"] = Address(SENDER_NAME, addr_spec=sender)
        message["To"] = Address(username=local, domain=_ascii(domain))
        message["Subject"] = subject
    except (ValueError, IndexError, UnicodeError) as error:
        raise MailFailed(f"the head of the message cannot be written: {error}", permanent=True) from None
    message["Date"] = format_datetime(utcnow())
    message["Message-ID"] = f"<{message_id or public_id('mail')}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body, cte="8bit" if raw else None)
    return message


def _ascii(domain: str) -> str:
    return domain if domain.isascii() else domain.encode("idna").decode("ascii")


@dataclass(frozen=True)
class FileMailer:
    """Writes each message as a file and says so on the console, for development.

    Args:
        folder: where the files go.
        sender: the address that mail comes from.
        say: prints one line.
    """

    folder: Path
    sender: str
    say: Callable[[str], None] = click.echo

    def send(self, address: str, subject: str, body: str, message_id: str | None = None) -> None:
        """Write one message; a reader sees it whole or not at all."""
        message = compose(self.sender, address, subject, body, message_id, raw=True)
        name = f"{utcnow():%Y%m%dT%H%M%S.%f}-{public_id('mail')}.eml"
        draft = self.folder / f".{name}"
        try:
            with draft.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(message.as_bytes(policy=policy.default.clone(utf8=True)))
            draft.replace(self.folder / name)
        except OSError as error:
            raise MailFailed(f"cannot write to {self.folder}: {error.strerror}") from None
        link = LINK.search(body)
        self.say(f"mail to {address}: {subject}{' ' + link.group() if link else ''}")


@dataclass(frozen=True)
class SmtpMailer:
    """Hands messages to a mail server, over TLS where it can, and never a password without.

    Args:
        host, port: the mail server.
        implicit_tls: the connection begins with TLS.
        user, password: credentials, or none.
        sender: the address that mail comes from.
        require_tls: refuse a server that offers no TLS.
        reports: ask a server that can for a report on whether each message was delivered (RFC 3461).
        context: which certificates count; by default those of the system.
    """

    host: str
    port: int
    sender: str
    implicit_tls: bool = False
    user: str = ""
    password: str = ""
    require_tls: bool = False
    reports: bool = False
    context: ssl.SSLContext | None = None
    timeout: float = TIMEOUT_SECONDS

    def send(self, address: str, subject: str, body: str, message_id: str | None = None) -> None:
        """Hand over one message, or raise `MailFailed` with whether trying again makes sense."""
        message = compose(self.sender, address, subject, body, message_id, raw=False)
        try:
            with self._connect() as server:
                if self.user:
                    server.login(self.user, self.password)
                server.ehlo_or_helo_if_needed()
                asked = _asked(message_id) if self.reports and server.has_extn("dsn") else ((), ())
                server.send_message(message, mail_options=asked[0], rcpt_options=asked[1])
        except MailFailed:
            raise
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise MailFailed(f"{code} {_words(text)}", permanent=_is_permanent(code)) from None
        except smtplib.SMTPNotSupportedError as error:
            raise MailFailed(f"the mail server cannot do this: {error}", permanent=not address.isascii()) from None
        except smtplib.SMTPAuthenticationError as error:
            # The password is the operators' to mend; the message itself is fine, so it waits.
            raise MailFailed(f"{error.smtp_code} {_words(error.smtp_error)}") from None
        except smtplib.SMTPResponseException as error:
            permanent = isinstance(error, smtplib.SMTPDataError) and _is_permanent(error.smtp_code)
            raise MailFailed(f"{error.smtp_code} {_words(error.smtp_error)}", permanent=permanent) from None
        except (smtplib.SMTPException, OSError) as error:
            raise MailFailed(f"{self.host}:{self.port}: {error}") from None

    def _connect(self) -> smtplib.SMTP:
        context = self.context or ssl.create_default_context()
        if self.implicit_tls:
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout, context=context)
        server = smtplib.SMTP(self.host, self.port, timeout=self.timeout)
        try:
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            elif self.require_tls or self.user:
                raise MailFailed(f"{self.host}:{self.port} offers no STARTTLS, and this must not go in clear")
        except BaseException:
            server.close()
            raise
        return server


def _asked(message_id: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what asks for a report, of the message and of its recipient; the report then names the message."""
    envelope = (f"ENVID={message_id}",) if message_id else ()
    return ("RET=HDRS", *envelope), ("NOTIFY=SUCCESS,FAILURE",)


def _is_permanent(code: int) -> bool:
    return 500 <= code < 600  # noqa: PLR2004


def _words(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
