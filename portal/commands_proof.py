"""What operators do with the log and with receipts: recompute them, change the key, read a receipt off paper."""

from pathlib import Path
from typing import TextIO

import click
import sqlalchemy as sa

from portal.commands import fail, json_option, show, work
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings


@click.group()
def receipts() -> None:
    """Receipts of signatures."""


@receipts.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def receipts_verify(file: Path) -> None:
    """Recompute a receipt: seal, evidence, text and file; names the first thing that does not hold."""
    from portal.adapters import authority, pades, pdf, seal_key
    from portal.receipts import service

    with work(write=False) as (session, settings):
        roots = authority.read_roots(settings.timestamp_root)
        trusted = seal_key.open_seal(settings, now=utcnow()).trusted
        found = service.verify(
            session, pdf=file.read_bytes(), check_seal=lambda body: pades.verify(body, trusted, roots),
            read_attachment=pdf.attachment,
        )  # fmt: skip
    click.echo(service.line(found))


@receipts.command("retyped")
@click.argument("file", type=click.File(encoding="utf-8"))
def receipts_retyped(file: TextIO) -> None:
    """Put evidence together from the lines of a printed receipt: the bytes on standard output, the digest beside."""
    from portal.proofs.rules import digest
    from portal.receipts.rules import retyped

    body = retyped(file.read())
    click.echo(body, nl=False)
    click.echo(f"SHA-256 {digest(body)}", err=True)


@click.group()
def audit() -> None:
    """What happened, and the log that commits to it."""


@audit.command("verify")
@json_option
def audit_verify(as_json: bool) -> None:
    """Recompute every event, the tree and every checkpoint; names the first thing that does not hold."""
    from portal.adapters.signing_key import open_key
    from portal.audit import service
    from portal.core.errors import Conflict
    from portal.usage import service as usage_records

    with work(write=False) as (session, settings):
        key = open_key(settings.home)
        kept = key.kept()
        if session.get_bind().dialect.name == "postgresql":
            session.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        try:
            found = service.verify(session, key=key, kept=kept)
            days = usage_records.verify_seals(session)
        except Conflict as error:
            if as_json:
                show({"holds": False, "code": error.code, "problem": error.message}, as_json=True)
            fail(error.message)
    if as_json:
        show({"holds": True, **vars(found), "sealed_days": days}, as_json=True)
    else:
        click.echo(
            f"The log holds: {found.events} events, {found.entries} entries ({found.pending} pending), "
            f"{found.checkpoints} checkpoints, {days} sealed days of use, root {found.root}"
        )


@click.group()
def log() -> None:
    """The public log."""


@log.command("rotate-key")
@click.option("--yes", is_flag=True, help="Do not ask.")
def log_rotate_key(yes: bool) -> None:
    """Hand the log over to a new key; the old one signs that, and its private half is gone afterwards."""
    from portal.adapters.signing_key import open_key
    from portal.audit import service
    from portal.proofs.rules import origin_of, vkey

    if not yes:
        click.confirm("From now on another key signs the log; auditors need its public half. Go on?", abort=True)
    home = Settings.from_env().home
    key, kept = open_key(home), open_key(home).kept()
    successor = key.successor()
    with work() as (session, settings):
        origin = origin_of(settings.base_url)
        note = service.rotate_key(
            session, key=key, successor=successor, origin=origin, kept=kept, by=SYSTEM, now=utcnow()
        )
    key.keep(note)
    key.give_way()
    click.echo(vkey(origin, key.public))


@click.group()
def statements() -> None:
    """What is stated about people to programs of others."""


@statements.command("renew-key")
def statements_renew_key() -> None:
    """Make another key that signs statements from tomorrow on; the ones before are published as long as needed."""
    from portal.adapters.statement_keys import StatementKeys

    starts = StatementKeys(Settings.from_env().home / "keys" / "statements").renew(utcnow())
    click.echo(f"The new key is published from now on and signs from {starts:%Y-%m-%d %H:%M} UTC on.")
