"""What operators, scripts and tests do without a browser: the same use cases as the console, one command each."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import Any, NoReturn

import click
from sqlalchemy.orm import Session

from portal.core import sheets
from portal.core.actor import SYSTEM, Actor
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.migrations.tables import load_tables

DAY_END = timedelta(days=1)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Print one line on standard error and exit."""
    click.echo(f"portal: {message}", err=True)
    sys.exit(code)


@contextmanager
def work(*, write: bool = True) -> Iterator[tuple[Session, Settings]]:
    """One transaction over the configured database; a command is whole or absent."""
    settings = Settings.from_env()
    load_tables()  # a row may refer to a table that the command itself never asks
    engine = make_engine(settings.database_url)
    try:
        with transaction(engine, write=write) as session:
            yield session, settings
    finally:
        engine.dispose()


def show(data: Any, as_json: bool) -> None:
    """Print data as JSON, or for people: a list as a line per row, one thing as a line per value."""
    if as_json:
        click.echo(json.dumps(data, default=str, indent=2, ensure_ascii=False))
        return
    if isinstance(data, dict):
        for name, value in data.items():
            for line in (value if isinstance(value, list) else [value]) or ["-"]:
                click.echo(f"{name:<{max(map(len, data))}}  {'-' if line is None else line}")
        return
    for row in data if isinstance(data, list) else [data]:
        click.echo("  ".join(f"{k}: {v}" for k, v in row.items()) if isinstance(row, dict) else str(row))


def json_option(function: Any) -> Any:
    """Add ``--json``."""
    return update_wrapper(click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function), function)


def person(session: Session, email: str) -> Any:
    """Find a person by address, or fail with a line."""
    from portal.accounts import service

    user = service.find_by_email(session, email=email)
    if user is None:
        fail(f"{email} has no account here")
    return user


@click.group()
def staff() -> None:
    """Staff accounts."""


@staff.command("add")
@click.argument("email")
@click.option("--role", required=True, type=click.Choice(["license_editor", "card_editor", "moderator", "admin"]))
@click.option("--name", default="")
def staff_add(email: str, role: str, name: str) -> None:
    """Give somebody a staff role; prints a one-time sign-in link."""
    from portal.accounts.rules import Role
    from portal.identity import service

    with work() as (session, settings):
        _user, secret = service.invite_staff(
            session, email=email, name=name, role=Role(role), pepper=settings.pepper, by=SYSTEM, now=utcnow()
        )
    click.echo(f"{settings.base_url}/invite/{secret}")


@staff.command("end")
@click.argument("email")
@click.option("--role", required=True, type=click.Choice(["license_editor", "card_editor", "moderator", "admin"]))
def staff_end(email: str, role: str) -> None:
    """Take a staff role from somebody, from their next request on."""
    from portal.accounts import service
    from portal.accounts.rules import Role

    with work() as (session, _settings):
        user = person(session, email)
        service.end_role(session, user_id=user.id, role=Role(role), by=SYSTEM, now=utcnow())
    click.echo(f"{email} is no {role} any more.")


@click.group()
def members() -> None:
    """People who use the models."""


@members.command("add")
@click.argument("email")
@click.option("--name", required=True)
@click.option("--affiliation", required=True)
@click.option("--country", required=True, metavar="CC")
def members_add(email: str, name: str, affiliation: str, country: str) -> None:
    """Make a verified member; the password comes from standard input."""
    from portal.adapters.hashing import Hasher
    from portal.identity import service

    password = sys.stdin.readline().rstrip("\n")
    with work() as (session, _settings):
        user = service.add_verified(
            session, email=email, password=password, name=name, affiliation=affiliation, country=country,
            hasher=Hasher(), by=SYSTEM, now=utcnow(),
        )  # fmt: skip
        click.echo(user.public_id)


@members.command("show")
@click.argument("email")
@json_option
def members_show(email: str, as_json: bool) -> None:
    """Print a member's standing, signatures, access tokens and use."""
    from portal.people import service

    with work(write=False) as (session, _settings):
        show(service.member_summary(session, email=email, now=utcnow()), as_json)


@members.command("suspend")
@click.argument("email")
@click.option("--clause", "clauses", multiple=True, required=True, help="Stable key of a signed clause.")
@click.option("--facts", required=True)
@click.option("--until", required=True, type=click.DateTime(["%Y-%m-%d"]))
def members_suspend(email: str, clauses: tuple[str, ...], facts: str, until: datetime) -> None:
    """Suspend a member, citing clauses they signed; the notice is mailed."""
    from datetime import UTC

    from portal.moderation import service

    with work() as (session, settings):
        user = person(session, email)
        order: dict[str, Any] = {"clause_keys": list(clauses), "facts": facts, "until": until.replace(tzinfo=UTC)}
        about: dict[str, Any] = {"user_id": user.id, "base_url": settings.base_url, "now": utcnow()}
        notice = service.preview(session, order=service.suspension(**order), **about)
        decision = service.suspend(session, **order, **about, notice_sha256=notice.sha256, by=SYSTEM)
        click.echo(decision.sanctions[0].public_id)


@members.command("reinstate")
@click.argument("email")
@click.option("--reason", required=True)
def members_reinstate(email: str, reason: str) -> None:
    """Overturn what suspends a member; the correction is mailed."""
    from portal.redress import service

    with work() as (session, settings):
        user = person(session, email)
        service.reinstate(session, user_id=user.id, reason=reason, base_url=settings.base_url, by=SYSTEM, now=utcnow())
    click.echo(f"{email} is active")


@members.command("reset-factors")
@click.argument("email")
def members_reset_factors(email: str) -> None:
    """Remove the second factors of somebody who lost them, once you know that it is they; they are told by mail."""
    from portal.factors import service

    with work() as (session, settings):
        user = person(session, email)
        had = service.remove_all(session, user=user, by=SYSTEM, base_url=settings.base_url, now=utcnow())
    click.echo(f"{email} signs in with a password alone now." if had else f"{email} has no second factor.")


@click.group()
def licenses() -> None:
    """License texts."""


@licenses.command("sync")
def licenses_sync() -> None:
    """Read the folder licenses/, check digests, make drafts of what is new."""
    from portal import setup

    with work() as (session, _settings):
        for line in setup.sync_licenses(session, now=utcnow()):
            click.echo(line)


@licenses.command("list")
@json_option
def licenses_list(as_json: bool) -> None:
    """List license versions with their states and dates."""
    from portal.licensing import service

    with work(write=False) as (session, _settings):
        rows = [
            {"license": v.license.slug, "number": v.number, "state": v.state.value, "materiality": v.materiality,
             "effective_at": v.effective_at, "required_by": v.required_by}
            for v in service.all_versions(session)
        ]  # fmt: skip
        show(rows, as_json)


@licenses.command("publish")
@click.argument("slug")
@click.argument("number")
def licenses_publish(slug: str, number: str) -> None:
    """Publish a drafted version with the dates that its file declares."""
    from portal import setup

    with work() as (session, _settings):
        click.echo(setup.publish_license(session, slug=slug, number=number, now=utcnow()))


@click.group()
def tokens() -> None:
    """Access tokens."""


@tokens.command("issue")
@click.argument("email")
@click.option("--name", required=True)
@click.option("--scope", "scopes", multiple=True, required=True)
@click.option("--model", "model_names", multiple=True, metavar="NS/NAME")
@click.option("--days", default=90, show_default=True)
def tokens_issue(email: str, name: str, scopes: tuple[str, ...], model_names: tuple[str, ...], days: int) -> None:
    """Make an access token for a member; prints it alone."""
    from portal.catalog import service as catalog
    from portal.oauth import service

    with work() as (session, settings):
        user = person(session, email)
        for model_name in model_names:
            catalog.find_model(session, full_name=model_name)
        _token, secret = service.mint(
            session, by=Actor(user_id=user.id, public_id=user.public_id), name=name, scopes=list(scopes),
            models=list(model_names), days=days, pepper=settings.pepper, base_url=settings.base_url, now=utcnow(),
        )  # fmt: skip
    click.echo(secret)


@click.command()
@click.argument("email")
@click.argument("model", metavar="NS/NAME")
@click.argument("action", type=click.Choice(["read", "ask", "download", "infer", "renew"]))
@json_option
def explain(email: str, model: str, action: str, as_json: bool) -> None:
    """Print the decision for a member with all reasons, as the model's page shows it."""
    from portal.access import service
    from portal.access.rules import Action

    with work(write=False) as (session, settings):
        user = person(session, email)
        actor = Actor(user_id=user.id, public_id=user.public_id)
        decision = service.check(
            session, actor=actor, model=model, action=Action(action), now=utcnow(), base_url=settings.base_url
        )
    rows = [{"state": r.state, "code": r.code, "message": r.message, "url": r.url} for r in decision.reasons]
    rows += [{"state": "met", "code": code, "message": message, "url": ""} for code, message in decision.met]
    if as_json:
        show({"allowed": decision.allowed, "status": decision.status, "reasons": rows}, as_json=True)
    else:
        click.echo(f"{'allowed' if decision.allowed else 'refused'}: {action} {model}")
        for row in rows:
            click.echo(f"  [{row['state']}] {row['code']}: {row['message']} {row['url']}".rstrip())
    sys.exit(0 if decision.allowed else 1)


@click.group()
def usage() -> None:
    """Usage records."""


@usage.command("export")
@click.option("--from", "start", required=True, type=click.DateTime(["%Y-%m-%d"]))
@click.option("--to", "end", required=True, type=click.DateTime(["%Y-%m-%d"]))
@json_option
def usage_export(start: datetime, end: datetime, as_json: bool) -> None:
    """Print usage records of whole days, `--to` included, as CSV or JSON lines."""
    from datetime import UTC

    from portal.usage import service

    with work(write=False) as (session, _settings):
        rows = service.export_rows(session, start=start.replace(tzinfo=UTC), end=end.replace(tzinfo=UTC) + DAY_END)
        for line in (json.dumps(row, default=str) + "\n" for row in rows) if as_json else sheets.lines(rows):
            click.echo(line, nl=False)
