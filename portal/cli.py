"""The command line: starting things, and the commands of `portal.commands`."""

import os
import sys
from typing import Any

import click
import sqlalchemy as sa

from portal import commands, commands_proof, shelf, upkeep
from portal.commands import fail, json_option, show
from portal.core.config import SettingError, Settings
from portal.core.errors import PortalError


class Portal(click.Group):
    """Turns every foreseen failure into one line on standard error and the right exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except SettingError as error:
            fail(str(error), code=2)
        except PortalError as error:
            fail(error.message)
        except sa.exc.OperationalError as error:
            fail(f"the database does not answer ({error.orig}): run `portal init`, or check PORTAL_DATABASE_URL")


@click.group(cls=Portal, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A portal for language models under a responsible license."""
    os.umask(0o077)  # databases, receipts and mail are for the portal's own user alone


@main.command("settings")
@json_option
def settings_(as_json: bool) -> None:
    """Print every setting, where it came from, secrets masked."""
    rows = Settings.from_env().shown()
    if as_json:
        show([{"name": n, "value": v, "source": s} for n, v, s in rows], as_json=True)
        return
    for name, value, source in rows:
        click.echo(f"{'PORTAL_' + name.upper():<24} {value:<50} {source}")


@main.command()
@click.option("--staff-link", is_flag=True, help="Print a one-time sign-in link for the demo administrator.")
def serve(staff_link: bool) -> None:
    """Run all processes, supervised, until Ctrl-C."""
    from portal import processes

    processes.serve(Settings.from_env(), staff_link=staff_link)


@main.command()
def edge() -> None:
    """Run what owns the port: model output, weight bytes, and the way to all else (data plane)."""
    from portal import processes

    processes.become_edge(Settings.from_env())


@main.command()
def web() -> None:
    """Run the pages and programs' addresses (control plane), behind the data plane."""
    from portal import processes

    processes.become_web(Settings.from_env())


@main.command("work")
def work_() -> None:
    """Run the background jobs."""
    from portal.main_work import run

    run(Settings.from_env())


@main.command()
@click.option("--model", default="", help="NS/NAME; default: the first model that was published.")
@click.option("--ranks", default="auto", help="Processes that share the model; auto: one for each GPU.")
def engine(model: str, ranks: str) -> None:
    """Run the embedded engine on a published model."""
    from portal import processes

    processes.become_engine(Settings.from_env(), model, ranks)


@main.command()
@click.option("--demo/--no-demo", default=True, help="Publish the demo model and its license.")
def init(demo: bool) -> None:
    """Bring the database to the newest schema, load licenses and cards, publish the demo model."""
    from portal import setup

    setup.init(Settings.from_env(), demo=demo, say=click.echo)


@main.command()
@click.option("--check", is_flag=True, help="Only name the pages that are stale; exit code 1 if any.")
def docs(check: bool) -> None:
    """Write the generated pages of the docs."""
    from portal import reference

    stale = reference.write(main, check=check)
    for name in stale:
        click.echo(f"{name} {'is stale: run `portal docs`' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


for command in (
    commands.staff,
    commands.members,
    commands.licenses,
    shelf.models,
    shelf.cards,
    commands.tokens,
    commands.explain,
    commands_proof.receipts,
    commands_proof.audit,
    commands_proof.log,
    commands_proof.statements,
    commands.usage,
    upkeep.deliveries,
    upkeep.storage,
):
    main.add_command(command)
shelf.models.add_command(upkeep.models_rename)


if __name__ == "__main__":
    main()
