"""Filling a database: schema, license texts, model cards and the demo model; every step may be repeated."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.models import Requirement
from portal.adapters import texts
from portal.banks import service as banks
from portal.cards import service as cards
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release
from portal.catalog.rules import RepoKind
from portal.clauses import rules as clauses
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.core.errors import Invalid, NotFound
from portal.drafting import service as drafting
from portal.files import service as files
from portal.licensing import service as licensing
from portal.migrations import is_current, upgrade
from portal.publishing import service as publishing
from portal.releases import service as releases
from portal.rulebook import service as rulebook
from portal.storage.service import Kept

ROOT = Path(__file__).resolve().parent.parent
LICENSES = ROOT / "licenses"
CARDS = ROOT / "model_cards"
DEMO = ROOT / "gated_inference" / "demo" / "model"
DEMO_NAME = "demo/bloom-tiny"
DEMO_LICENSE = "bloom-rail"


def init(settings: Settings, *, demo: bool, say: Callable[[str], object]) -> None:
    """Bring the database to the newest schema, load licenses and cards, and publish the demo model.

    Args:
        settings: where the database and the weights lie.
        demo: publish the shipped license versions and the demo model as well.
        say: writes a line for whoever waits.
    """
    engine = make_engine(settings.database_url)
    try:
        if not is_current(engine):
            say("Preparing the database…")
            upgrade(engine)
        with transaction(engine) as session:
            for line in sync_licenses(session, now=utcnow(), publish=demo):
                say(line)
            for line in sync_cards(session, now=utcnow()):
                say(line)
            for line in sync_banks(session, now=utcnow()):
                say(line)
            for line in sync_rules(session, now=utcnow()):
                say(line)
        if demo and not _is_published(engine, DEMO_NAME):
            say(f"Publishing {DEMO_NAME}…")
            publish_model(
                settings, directory=DEMO, name=DEMO_NAME, license_slug=DEMO_LICENSE,
                message="Publish the demo model", allow_pickle=False, progress=lambda _: None,
            )  # fmt: skip
        if not demo:
            for line in unnamed(settings):
                say(line)
    finally:
        engine.dispose()


def unnamed(settings: Settings) -> list[str]:
    """Say what the license promises to its signers and the operator has not named yet."""
    lines = []
    if not settings.licensor:
        lines.append("Nobody is named as licensor, although the license speaks of one. Set PORTAL_LICENSOR.")
    if not settings.contact:
        lines.append("No contact address is named, so /contact cannot say where to write. Set PORTAL_CONTACT.")
    return lines


def sync_licenses(session: Session, *, now: datetime, publish: bool = False) -> list[str]:
    """Read the folder of licenses, check every digest, and make drafts of what is new; says what was done.

    Args:
        publish: put new versions in force with the dates that their file declares. A license has one draft
            at a time, so without this a second new version waits until the first is published.
    """
    lines = []
    documents = texts.read_licenses(LICENSES)
    for document in documents:
        check_license(document)  # all of them first: what is not right stops everything before anything is written
    for document in documents:
        for version in document.versions:
            if licensing.has_draft(session, slug=document.slug) and not publish:
                lines.append(f"{document.slug} {version.number} waits: publish the draft before it first")
                break
            with _named(f"{document.slug}/license.toml: versions[{version.number}]"):
                drafted = drafting.sync_version(session, document=document, version=version, by=SYSTEM, now=now)
            if drafted:
                lines.append(f"License {document.slug} {version.number}: drafted from its file")
                if publish:
                    lines.append(publish_license(session, slug=document.slug, number=version.number, now=now))
    return lines


def check_license(document: texts.LicenseDocument) -> None:
    """Refuse a license whose texts do not have the clauses that its file lists, or did not change as it says.

    Raises:
        Invalid: in one line, the file, where it is known the line, and the reason.
    """
    older: dict[str, list[clauses.Part]] = {}
    for version in document.versions:
        listed = [(clause.key, clause.label) for clause in version.clauses]
        parts: dict[str, list[clauses.Part]] = {}
        for language, body in version.texts.items():
            with _named(f"{document.slug}/{version.number}.{language}.md"):
                clauses.check_listed(body.decode(), listed)
            parts[language] = clauses.whole(body.decode())
        with _named(f"{document.slug}/license.toml: versions[{version.number}].changes"):
            for delta in clauses.compare(older.get(version.prevailing, []), parts[version.prevailing]):
                if delta.key in version.changes:
                    relation, explanation = version.changes[delta.key]
                    clauses.check_change(delta, clauses.Relation(relation), explanation)
        older = parts


@contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except Invalid as error:
        raise Invalid("license_file", f"{place}: {error.message}", field=error.field) from error


def publish_license(session: Session, *, slug: str, number: str, now: datetime) -> str:
    """Publish a drafted version with the weight and dates that its file declares."""
    for document in texts.read_licenses(LICENSES):
        for version in document.versions:
            if (document.slug, version.number) == (slug, number):
                row = publishing.publish(
                    session, slug=slug, number=number, materiality=version.materiality,
                    effective_at=version.effective_at, required_by=version.required_by, by=SYSTEM, now=now,
                )  # fmt: skip
                return f"License {slug} {number}: {row.state.value.replace('_', ' ')}"
    raise NotFound("version_not_found", f"licenses/{slug}/license.toml declares no version {number}.")


def sync_banks(session: Session, *, now: datetime) -> list[str]:
    """Bring the banks of phrases that come with the portal into the database, and say which are new or changed."""
    changed = banks.sync(session, banks=banks.shipped(), by=SYSTEM, now=now)
    return [f"Banks of phrases: {len(changed)} new or changed"] if changed else []


def sync_rules(session: Session, *, now: datetime) -> list[str]:
    """Bring the detection rules that come with the portal into the database, and say which are new or changed."""
    names, measure = rulebook.measuring(session)
    return rulebook.sync_shipped(session, banks=names, measure=measure, by=SYSTEM, now=now)


def sync_cards(session: Session, *, now: datetime) -> list[str]:
    """Publish the cards of the repository for models that have none yet; says what was done."""
    lines = []
    for path in sorted([*CARDS.glob("*/*.md"), *CARDS.glob("datasets/*/*.md")]):
        name = path.relative_to(CARDS).with_suffix("").as_posix()
        if cards.sync(session, full_name=name, text=path.read_text(encoding="utf-8"), by=SYSTEM, now=now):
            lines.append(f"Card of {name}: published")
    return lines


def size_of(directory: Path) -> int:
    """Return the bytes of a directory's files, for a progress bar."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def publish_model(
    settings: Settings,
    *,
    directory: Path,
    name: str,
    license_slug: str,
    message: str,
    allow_pickle: bool,
    progress: Callable[[int], object],
) -> str:
    """Add a directory's files as a commit of a model and release it under the license version in force.

    Hashing needs no transaction and may take long; only then are the bytes named, at once or not at all.

    Args:
        progress: told how many more bytes were read.

    Returns:
        ``namespace/name@revision``.
    """
    store = files.Store(settings.folder("blobs"))
    notes, done = Notes(settings.folder("run"), directory, store), 0

    def told(_path: str, now_done: int, _total: int) -> None:
        nonlocal done
        progress(now_done - done)
        done = now_done

    staged = files.stage(
        directory=directory, store=store, allow_pickle=allow_pickle, progress=told, known=notes.known, noted=notes.add
    )
    engine = make_engine(settings.database_url)
    try:
        with transaction(engine) as session:
            made = _name(session, staged=staged, name=name, license_slug=license_slug, message=message)
    finally:
        engine.dispose()
    notes.drop()
    return made


class Notes:
    """What a run that publishes a directory has stored so far, so that one that was killed is not begun anew.

    Args:
        folder: where the notes lie.
        directory: what is published.
        store: where the bytes go.
    """

    def __init__(self, folder: Path, directory: Path, store: files.Store) -> None:
        name = sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
        self.path = folder / f"publish-{name}.jsonl"
        self.store = store
        self.rows: dict[str, Kept] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else ():
            with suppress(ValueError, TypeError, KeyError):  # the last line of a run that was killed may be half
                row = json.loads(line)
                self.rows[row["file"]] = Kept(row["sha256"], row["git_oid"], row["size"])

    def known(self, source: Path) -> Kept | None:
        """Return what is stored of a file that has not changed since."""
        kept = self.rows.get(_mark(source))
        return kept if kept is not None and self.store.keep(kept.sha256) else None

    def add(self, source: Path, kept: Kept) -> None:
        """Note that a file is stored."""
        with self.path.open("a", encoding="utf-8") as notes:
            notes.write(json.dumps({"file": _mark(source), **vars(kept)}) + "\n")

    def drop(self) -> None:
        """Forget everything: the commit names it now."""
        self.path.unlink(missing_ok=True)


def _mark(source: Path) -> str:
    """Return what tells a file from any other, and from itself after a change."""
    stat = source.stat()
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


def _name(session: Session, *, staged: tuple[files.Staged, ...], name: str, license_slug: str, message: str) -> str:
    now = utcnow()
    model = catalog.ensure_model(session, full_name=name, now=now)
    commit = files.commit_files(session, model_id=model.id, staged=staged, message=message, by=SYSTEM, now=now)
    releases.release(
        session, model=model, commit=commit, license_slug=license_slug, by=SYSTEM, now=now,
        allowed_pickles=[one.path for one in staged],  # looked at before anything was read
    )  # fmt: skip
    return f"{name}@{commit.revision}"


def _is_published(engine: sa.Engine, name: str) -> bool:
    with transaction(engine, write=False) as session:
        return access.find_subject(session, full_name=name).release is not None


def engine_directory(settings: Settings, model: str) -> tuple[str, Path]:
    """Lay out a published model's files for the engine, as links into the store, and return name and folder.

    Args:
        model: ``namespace/name``; empty for the model whose weights were published first.
    """
    engine = make_engine(settings.database_url)
    try:
        with transaction(engine, write=False) as session:
            name, entries = _files_of(session, model)
    finally:
        engine.dispose()
    store = files.Store(settings.folder("blobs"))
    folder = settings.folder("run") / "model"
    draft = settings.folder("run") / "model.new"
    shutil.rmtree(draft, ignore_errors=True)
    for path, digest in entries:
        link = draft / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(store.path(digest))
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return name, folder


def _files_of(session: Session, model: str) -> tuple[str, list[tuple[str, str]]]:
    query = sa.select(GatedModel).join(Release, Release.model_id == GatedModel.id).order_by(Release.id)
    query = query.where(GatedModel.id.in_(sa.select(Requirement.model_id)))
    if model:
        namespace, _, short = model.partition("/")
        query = query.where(GatedModel.namespace == namespace, GatedModel.name == short)
    query = query.where(GatedModel.kind == RepoKind.MODEL)
    gated = session.scalar(query.limit(1))
    if gated is None:
        raise NotFound(
            "model_not_found", f"No weights of {model or 'any model'} are published: `portal models publish`."
        )
    newest = access.find_subject(session, full_name=gated.full_name).release
    commit = files.find_commit(session, model_id=gated.id, revision=newest.revision if newest else "main")
    return gated.full_name, [(e.path, e.sha256 or "") for e in files.listed(session, commit_id=commit.id)]
