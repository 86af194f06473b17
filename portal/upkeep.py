"""What operators do with what is kept: look through the stored bytes, clear away, ask which terms govern a copy."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from portal.commands import fail, json_option, person, show, work
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction

MEGA = 1_000_000


@click.command()
@click.option("--sha256", required=True, help="The file, as sha256sum prints it.")
@click.option("--person", "who", default="", help="E-mail or public id; everybody who received it by default.")
@json_option
def deliveries(sha256: str, who: str, as_json: bool) -> None:
    """Say which terms govern a copy: who received the file, under which signatures and card."""
    from portal.accounts import service as accounts
    from portal.deliveries import service

    with work(write=False) as (session, _settings):
        user = None if not who else person(session, who) if "@" in who else accounts.find(session, ref=who)
        found = service.terms_of(session, sha256=sha256.lower(), user_id=user.id if user else None)
        rows = [service.row(terms) for terms in found]
    if as_json:
        show(rows, as_json=True)
        return
    for row in rows:
        click.echo(
            f"{row['opened_at']}  {row['person']}  {row['model']}/{row['path']} at {row['revision'][:12]}  "
            f"{'whole' if row['complete'] else 'in part'}  {row['licenses'] or 'no license'} "
            f"({row['signatures'] or 'no signature'})  card revision {row['card_revision']}"
        )
    if not rows:
        fail(f"no delivery of {sha256} {'to ' + who + ' ' if who else ''}is on record")


@click.group()
def storage() -> None:
    """The stored bytes of models."""


@storage.command("verify")
@click.option("--rate", default=200, show_default=True, help="Read at most so many MB a second; 0: as fast as it goes.")
@click.option("--quick", is_flag=True, help="Look only whether all files are there and how long, and read none.")
@click.option("--restart", is_flag=True, help="Begin anew instead of going on where an earlier run ended.")
@json_option
def storage_verify(rate: int, quick: bool, restart: bool, as_json: bool) -> None:
    """Recompute the digest of every stored file; may be killed, and goes on where it was when it is run again.

    A file whose bytes are not those of its name is put aside, so that nobody is sent them; publishing it again puts
    the right ones in its place. Names every file that is not as it should be, and fails if there is any.
    """
    settings = Settings.from_env()
    round_ = _Round(settings, contents=not quick)
    if restart or quick:
        round_.forget()
    round_.run(rate * MEGA)
    problems = round_.problems
    if as_json:
        show({"holds": not problems, "files": round_.files, "bytes": round_.bytes, "problems": problems}, as_json=True)
    else:
        for problem in problems:
            click.echo(f"{problem['sha256']}  {problem['flaw']}")
        verb = "are there" if quick else "hold"
        click.echo(f"{round_.files - len(problems):,} of {round_.files:,} files, {round_.bytes:,} bytes, {verb}")
    round_.forget()
    sys.exit(1 if problems else 0)


class _Round:
    """One look through all stored files, which a later process can take up.

    Args:
        settings: where the files and the notes of the round lie.
        contents: whether the files are read.
    """

    def __init__(self, settings: Settings, *, contents: bool) -> None:
        from portal.storage.service import Store

        self.settings = settings
        self.contents = contents
        self.store = Store(settings.folder("blobs"))
        self.notes: Path = settings.folder("run") / "storage-verify.json"
        self.after, self.files, self.bytes = "", 0, 0
        self.problems: list[dict[str, str]] = []
        if self.notes.exists():
            for name, value in json.loads(self.notes.read_text()).items():
                setattr(self, name, value)

    def forget(self) -> None:
        """Forget what was looked at."""
        self.notes.unlink(missing_ok=True)
        self.after, self.files, self.bytes = "", 0, 0

    def run(self, rate: float) -> None:
        """Look at every file that was not looked at yet, with what each step finds on disk at once."""
        from portal.storage import service

        engine = make_engine(self.settings.database_url)
        try:
            with transaction(engine, write=False) as session:
                number, size = service.totals(session)
            if self.files:
                click.echo(f"Going on after {self.files:,} of {number:,} files", err=True)
            with _Progress(size if self.contents else number, self.bytes if self.contents else self.files) as told:
                reading = service.Reading(self.store, rate=rate, told=told if self.contents else lambda _: None)
                while True:
                    with transaction(engine, write=False) as session:
                        some = service.next_blobs(session, after=self.after)
                    if not some:
                        return
                    for digest, length in some:
                        self._look(reading, digest, length)
                        if not self.contents:
                            told(1)
        finally:
            engine.dispose()

    def _look(self, reading: Any, digest: str, size: int) -> None:
        from portal.storage.rules import Flaw

        flaw = reading.flaw(digest, size, contents=self.contents)
        if flaw in {Flaw.CORRUPT, Flaw.LENGTH}:
            self.store.set_aside(digest)
        if flaw is not None:
            self.problems.append({"sha256": digest, "flaw": flaw.value})
        self.after, self.files, self.bytes = digest, self.files + 1, self.bytes + size
        if self.contents:
            said = {name: getattr(self, name) for name in ("after", "files", "bytes", "problems")}
            draft = self.notes.with_suffix(".new")
            draft.write_text(json.dumps(said))
            draft.replace(self.notes)


class _Progress:
    """Shows how far a long reading is: a bar on a terminal, a line for each tenth elsewhere."""

    def __init__(self, length: int, done: int) -> None:
        self.length = max(length, 1)
        self.done = done
        self.bar: Any = click.progressbar(length=self.length, label="Verifying", file=sys.stderr)

    def __enter__(self) -> Callable[[int], object]:
        if sys.stderr.isatty():
            self.bar.__enter__()
            self.bar.update(self.done)
            return self._bar
        return self._line

    def __exit__(self, *args: object) -> None:
        if sys.stderr.isatty():
            self.bar.__exit__(*args)

    def _bar(self, amount: int) -> None:
        self.bar.update(amount)

    def _line(self, amount: int) -> None:
        before, self.done = self.done * 10 // self.length, self.done + amount
        if self.done * 10 // self.length > before:
            click.echo(f"Verifying: {self.done * 100 // self.length} %", err=True)


@storage.command("collect")
@click.option("--yes", is_flag=True, help="Clear them away; otherwise they are only named.")
@json_option
def storage_collect(yes: bool, as_json: bool) -> None:
    """Clear away stored files that no commit names and no upload waits for, two days after they were last needed."""
    from portal.files import service
    from portal.storage.service import Store

    with work(write=False) as (session, settings):
        gone = service.collect(session, store=Store(settings.folder("blobs")), now=utcnow(), remove=yes)
    if as_json:
        show({"removed": yes, "files": [{"sha256": d, "size": s} for d, s in gone]}, as_json=True)
        return
    for digest, size in gone:
        click.echo(f"{digest}  {size:,}")
    verb = "cleared away" if yes else "could be cleared away: run again with --yes"
    click.echo(f"{len(gone):,} files, {sum(size for _, size in gone):,} bytes, {verb}" if gone else "Nothing to do")


@click.command("rename")
@click.argument("name", metavar="NS/NAME")
@click.argument("to", metavar="NS/NAME")
def models_rename(name: str, to: str) -> None:
    """Give a model or dataset (datasets/NS/NAME) another name; the one before leads to it for ever."""
    from portal.catalog import service

    with work() as (session, _settings):
        model = service.find_any_model(session, full_name=name)
        service.rename(session, model=model, to=to, by=SYSTEM, now=utcnow())
    click.echo(f"{name} is {to} now")
