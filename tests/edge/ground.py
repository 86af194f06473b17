"""A data plane that sends the files of models, over a real database and real bytes, driven by hand."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from portal.access import service as access
from portal.access.edge import Door
from portal.accounts.models import User
from portal.catalog import service as catalog
from portal.catalog.models import Release
from portal.core.actor import SYSTEM
from portal.core.change import watch
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.core.errors import Unavailable
from portal.deliveries import service as deliveries
from portal.downloads.edge import Downloads
from portal.edge.fresh import Fresh
from portal.edge.routes import Answer, FileBody, Request
from portal.edge.threads import Threads
from portal.files import service as files
from portal.files.service import Store
from portal.migrations import upgrade
from portal.usage import service as usage
from portal.usage.rules import Counters
from tests.edge.exchange import FakeExchange
from tests.edge.looping import Looping
from tests.factories import BASE, CARD, PEPPER, Make

SETTINGS = Settings(base_url=BASE, pepper=PEPPER)
CONTENTS = {
    "README.md": CARD.encode(), "config.json": b'{"model_type": "bloom"}', "empty.txt": b"",
    "sub dir/a+b #1.txt": b"odd name", "model.safetensors": bytes(range(256)) * 40,
}  # fmt: skip


@dataclass
class World:
    """A portal's data plane over one database, driven by hand."""

    engine: sa.Engine
    store: Store
    journal: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    broken: bool = False
    unsure: bool = False
    exchange: FakeExchange = field(init=False)

    def __post_init__(self) -> None:
        self.looping, self.threads, self.watch = Looping(), Threads(2), watch(self.engine)
        door = Door(Fresh(self.engine, self.watch, self.threads), SETTINGS, Counters())
        self.downloads = Downloads(door, self.store, self, clock=lambda: self.seconds)

    def close(self) -> None:
        self.threads.close()
        self.watch.close()
        self.looping.close()

    def append(self, *records: dict[str, Any]) -> None:
        """Be the journal."""
        if self.broken:
            raise Unavailable("journal_unwritable", "The portal cannot record this just now.")
        json.dumps(records)
        self.journal += records

    def sure(self, then: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        """Be a journal whose disk fails, if it is to."""
        if self.unsure:
            failed(Unavailable("journal_unwritable", "The portal cannot record this just now."))
        else:
            then()

    @contextmanager
    def make(self) -> Iterator[Make]:
        with transaction(self.engine) as session:
            yield Make(session, utcnow())

    def release(self, name: str, message: str = "Publish", **changed: bytes) -> Release:
        """Publish a model with stored bytes under the small license."""
        folder = self.store.root.parent / "source" / name / message
        for path, body in {**CONTENTS, **changed}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)
        staged = files.stage(directory=folder, store=self.store)
        with self.make() as make:
            model = make.model(name)
            commit = files.commit_files(
                make.session, model_id=model.id, staged=staged, message=message, by=SYSTEM, now=make.now
            )
            if message == "Publish":
                files.tag(make.session, model_id=model.id, name="rel/1.0", commit=commit)
            license_ = make.license()
            access.require_license(make.session, model_id=model.id, license_id=license_.id, now=make.now)
            return catalog.release(
                make.session, model=model, revision=commit.revision, license_slug=license_.slug,
                license_number="2.0.0", by=SYSTEM, now=make.now,
            )  # fmt: skip

    def member(self, signed: str | None = "2.0.0", scope: str = "weights:read", model: str = "") -> tuple[User, str]:
        """A person with an access token, who signed a version of the small license or none."""
        with self.make() as make:
            name = f"reader{make.session.scalar(sa.select(sa.func.count()).select_from(User))}"
            person = make.person(name)
            if signed:
                make.sign(person, signed)
            models = (catalog.find_model(make.session, full_name=model),) if model else ()
            return person, make.token(person, scope, models=models)[1]

    def ask(self, path: str, token: str | None = None, *, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path below ``/lab/one/resolve/``, or for a whole one."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            fields["authorization"] = f"Bearer {token}"
        raw = path if path.startswith("/") else f"/lab/one/resolve/{path}"
        number = f"req_{id(self)}_{len(self.journal)}_{self.seconds}"
        self.exchange = exchange = FakeExchange(Request(method, raw, headers=fields, request_id=number))
        self.looping.do(self.downloads.resolve, exchange)
        self.looping.until(lambda: exchange.ended)
        assert exchange.answer is not None
        return exchange.answer

    def replay(self) -> None:
        """Enter the journal as the background process does, twice."""
        with transaction(self.engine) as session:
            for record in self.journal * 2:
                if record["kind"] == "delivery_started":
                    deliveries.record_started(session, record=record)
                elif record["kind"] == "delivery_finished":
                    deliveries.record_finished(session, record=record)
                else:
                    usage.record(session, record=record)

    @property
    def kinds(self) -> list[str]:
        return [record["kind"] for record in self.journal]


def own_world(home: Path) -> World:
    """Make a database with a released model, and its bytes."""
    engine = make_engine(f"sqlite:///{home / 'portal.db'}")
    upgrade(engine)
    world = World(engine, Store(home / "blobs"))
    world.release("lab/one")
    return world


def catalog_release(session: Any, name: str) -> Release:
    model = catalog.find_model(session, full_name=name)
    return session.scalars(sa.select(Release).where(Release.model_id == model.id)).one()


def body_of(answer: Answer) -> bytes:
    """Send a file as a server would, and tell that it is done."""
    assert isinstance(answer.body, FileBody)
    data = answer.body.path.read_bytes()[answer.body.start : answer.body.start + answer.body.length]
    answer.body.finished(len(data))
    return data


def said(answer: Answer) -> tuple[int, str | None, str | None]:
    headers = dict(answer.headers)
    return answer.status, headers.get("X-Error-Code"), headers.get("X-Error-Message")
