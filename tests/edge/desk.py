"""The gate over a real database and a real journal, in front of a fake engine, for tests of the data plane."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from gated_inference.edge import Inference
from gated_inference.pool import Pool, Server
from portal.access.edge import Door
from portal.access.service import find_subject
from portal.accounts.models import User
from portal.core.actor import Actor
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.edge.journal import Journal, JournalReader, unread
from portal.edge.routes import Answer, Request
from portal.edge.upstream import Address
from portal.migrations import upgrade
from portal.tokens.models import AccessToken
from portal.usage import service as usage
from portal.usage.models import UsageRecord
from portal.usage.rules import Counters
from tests.factories import PEPPER, Make
from tests.fakes import FakeEngine

MODEL = "lab/tiny"
NUMBERS = count(1)


def make_template(path: Path) -> Path:
    """Make a database with one released model, one without weights, and other people's rows."""
    engine = make_engine(f"sqlite:///{path}")
    upgrade(engine)
    with transaction(engine) as session:
        make = Make(session, utcnow())
        make.noise()
        make.release(make.model(MODEL))
        make.model("lab/unfinished")
    with engine.connect() as connection:
        connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@dataclass
class Caller:
    """A person with an access token for everything."""

    user: User
    token: AccessToken
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}


@dataclass
class Desk:
    """All that stands between a client and an engine."""

    home: Path
    template: Path
    settings: Settings = field(init=False)
    engine: Any = field(init=False)
    fake: FakeEngine = field(init=False)
    release: Any = field(init=False)
    caller: Caller = field(init=False)

    def __post_init__(self) -> None:
        keys = self.home / "keys"
        keys.mkdir(exist_ok=True)
        (keys / "pepper").write_bytes(PEPPER)
        self.settings = Settings.from_env({"PORTAL_HOME": str(self.home)})
        shutil.copy(self.template, self.home / "portal.db")
        self.engine = make_engine(self.settings.database_url)
        self.fake = FakeEngine(self.home / "engine.sock", (MODEL,)).start()
        with transaction(self.engine, write=False) as session:
            self.release = find_subject(session, full_name=MODEL).release
        self.caller = self.member()
        self.compose()

    def compose(self, *servers: Server, **times: float) -> None:
        """Start the data plane anew, by default over the fake engine alone."""
        if hasattr(self, "pool"):
            self.pool.close()
        self.counters = Counters()
        self.door = Door(self.engine, self.settings, self.counters)
        self.journal = Journal(self.home / "journal")
        self.pool = Pool(servers or [Server(Address(uds=self.fake.path))], **times)
        self.inference = Inference(self.door, self.pool, self.journal)

    def close(self) -> None:
        self.pool.close()
        self.fake.stop()
        self.journal.close()
        self.engine.dispose()

    def member(self, number: str = "2.0.0", *scopes: str, **bound: Any) -> Caller:
        """Make a person who signed a version of the license ("" for none), with an access token."""
        with transaction(self.engine) as session:
            make = Make(session, utcnow())
            user = make.person(f"member{next(NUMBERS)}")
            if number:
                make.sign(user, number)
            token, secret = make.token(user, *scopes, **bound)
            return Caller(user, token, secret)

    def write(self, work: Callable[[Any], Any]) -> Any:
        """Do something in a write transaction."""
        with transaction(self.engine) as session:
            return work(session)

    def ask(
        self,
        body: Any = None,
        *,
        by: Caller | None = None,
        path: str = "/v1/completions",
        method: str = "POST",
        **more: Any,
    ) -> Answer:
        """Send one request; by default a good completion of the desk's own caller."""
        fields = {"model": MODEL, "prompt": "Once", "max_tokens": 8} if body is None else body
        raw = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        more = {"headers": (by or self.caller).headers, "request_id": f"req_{next(NUMBERS)}", "body": raw, **more}
        return self.inference.handle(Request(method, path, **more))

    def stream(self, **more: Any) -> Any:
        """Ask for a stream and return its body."""
        fields = {"model": MODEL, "prompt": "Once", "max_tokens": 8, "stream": True, **more.pop("fields", {})}
        answer = self.ask(fields, **more)
        assert answer.status == 200, answer
        return answer.body

    def lines(self, kind: str = "use_finished") -> list[dict[str, Any]]:
        """Return what the journal holds of a kind."""
        return [line for line in unread(self.home / "journal") if line["kind"] == kind]

    def only(self) -> dict[str, Any]:
        """Return the one line that ended a request; there must be exactly one."""
        (line,) = self.lines()
        return line

    def actor(self) -> Actor:
        return Actor(user_id=self.caller.user.id, public_id=self.caller.user.public_id)


def value(answer: Answer) -> Any:
    """Return an answer's JSON."""
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def error(answer: Answer) -> Any:
    """Return an answer's error."""
    return value(answer)["error"]


def events(body: Iterator[bytes]) -> list[Any]:
    """Read a stream to its end: JSON of each event, and ``[DONE]``."""
    data = b"".join(body).decode()
    found = [line[6:] for line in data.split("\n") if line.startswith("data: ")]
    return [part if part == "[DONE]" else json.loads(part) for part in found]


def replay(desk: Desk) -> list[UsageRecord]:
    """Enter the journal as the background process does; return the records of the desk's caller, newest first."""
    reader = JournalReader(desk.home / "journal")
    while True:
        batch = reader.read()

        def enter(session: Any, batch: Any = batch) -> None:
            for record in batch.records:
                usage.record(session, record=record)
            for run in batch.ended_runs:
                usage.mark_crashed(session, run=run, now=utcnow())

        desk.write(enter)
        reader.done(batch)
        if not batch.records and not batch.more:
            return desk.write(lambda s: usage.own(s, user_id=desk.caller.user.id))
