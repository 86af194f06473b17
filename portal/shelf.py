"""What operators do with models and their cards: publish a folder, mirror a repository, release, take a card in."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from portal.commands import json_option, show, work
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings


@click.group()
def models() -> None:
    """Models and their weights."""


@contextmanager
def _bar(length: int) -> Iterator[Callable[[int], object]]:
    with click.progressbar(length=length, label="Hashing", file=sys.stderr) as bar:
        yield bar.update


@models.command("publish")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("name", metavar="NS/NAME")
@click.option("--license", "license_slug", required=True, metavar="SLUG")
@click.option("--message", default="")
@click.option("--allow-pickle", is_flag=True, help="Accept weights that can run code when loaded.")
def models_publish(directory: Path, name: str, license_slug: str, message: str, allow_pickle: bool) -> None:
    """Add a directory as a new commit of a model and release it; may be killed, and then goes on where it was."""
    from portal import setup

    with _bar(setup.size_of(directory)) as progress:
        release = setup.publish_model(
            Settings.from_env(), directory=directory, name=name, license_slug=license_slug, message=message,
            allow_pickle=allow_pickle, progress=progress,
        )  # fmt: skip
    click.echo(release)


@models.command("mirror")
@click.argument("hf_repo")
@click.argument("name", metavar="[NS/NAME]", required=False)
@click.option("--license", "license_slug", default="bloom-rail", metavar="SLUG")
def models_mirror(hf_repo: str, name: str | None, license_slug: str) -> None:
    """Fetch a repository with huggingface-hub, then publish it; may be killed, and then goes on where it was."""
    from portal import setup
    from portal.adapters import hub

    settings = Settings.from_env()
    directory = hub.mirror(hf_repo, settings.folder("mirror"))
    with _bar(setup.size_of(directory)) as progress:
        release = setup.publish_model(
            settings, directory=directory, name=name or hf_repo, license_slug=license_slug,
            message=f"Mirror of {hf_repo}", allow_pickle=False, progress=progress,
        )  # fmt: skip
    click.echo(release)


@models.command("commits")
@click.argument("name", metavar="NS/NAME")
@json_option
def models_commits(name: str, as_json: bool) -> None:
    """List the commits of a model, newest first, and which of them readers get."""
    from portal.catalog import service as catalog
    from portal.releases import service

    with work(write=False) as (session, _settings):
        rows = [
            {"commit": row.commit.revision, "title": row.commit.title, "at": row.commit.created_at,
             "names": " ".join(row.names), "by": row.commit.author,
             "released": f"{row.release.license_slug}/{row.release.license_number}" if row.release else None}
            for row in service.desk(session, model=catalog.find_any_model(session, full_name=name))
        ]  # fmt: skip
        show(rows, as_json)


@models.command("release")
@click.argument("name", metavar="NS/NAME")
@click.argument("revision")
@click.option("--license", "license_slug", required=True, metavar="SLUG")
@click.option("--allow-pickle", "allowed", multiple=True, metavar="FILE",
              help="Accept these weights, which can run code when loaded; once for each file.")  # fmt: skip
def models_release(name: str, revision: str, license_slug: str, allowed: tuple[str, ...]) -> None:
    """Put an uploaded commit (an id, a branch or a tag) before readers, under the license version in force."""
    from portal.catalog import service as catalog
    from portal.files import service as files
    from portal.releases import service

    with work() as (session, _settings):
        model = catalog.find_any_model(session, full_name=name)
        commit = files.find_commit(session, model_id=model.id, revision=revision)
        row = service.release(
            session, model=model, commit=commit, license_slug=license_slug, allowed_pickles=allowed, by=SYSTEM,
            now=utcnow(),
        )  # fmt: skip
        click.echo(f"{name}@{row.revision}")


@click.group()
def cards() -> None:
    """Model cards."""


@cards.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name", metavar="NS/NAME")
@click.option("--note", default="Taken in from a file.", help="What changed, and why; readers see it.")
@click.option("--language", default="en", metavar="CODE", help="Of a card that renders the published one.")
@click.option("--publish", is_flag=True, help="Publish it at once, instead of keeping a draft.")
def cards_import(file: Path, name: str, note: str, language: str, publish: bool) -> None:
    """Take a model card in Hub format as the draft of a model's card; one that cannot be read changes nothing."""
    from portal.cards import service

    with work() as (session, _settings):
        draft = service.take_in(
            session, full_name=name, body=file.read_bytes(), note=note, by=SYSTEM, now=utcnow(), language=language
        )
        if publish:
            service.publish(
                session, model=draft.model, shown_sha256=draft.text_sha256, by=SYSTEM, now=utcnow(), language=language
            )
        click.echo(f"{name}: revision {draft.number} {draft.state.value}")


@cards.command("add-results")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name", metavar="NS/NAME")
@click.option("--note", default="Results of an evaluation.", help="What changed, and why; readers see it.")
def cards_add_results(file: Path, name: str, note: str) -> None:
    """Take what lm-eval wrote (results_….json) into a new draft of a model's card."""
    from portal.cards import service

    with work() as (session, _settings):
        draft = service.add_results(session, full_name=name, said=file.read_bytes(), note=note, by=SYSTEM, now=utcnow())
        click.echo(f"{name}: revision {draft.number} draft, at /staff/cards/{name}/preview")
