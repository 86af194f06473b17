"""The gate over a real database and a real journal, in front of a fake engine, for tests of the data plane."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from gated_inference.edge import Inference
from gated_inference.lookout import Lookout, open_eyes
from gated_inference.pool import Pool
from gated_inference.servers import Server
from portal.access.edge import Door
from portal.access.service import find_subject
from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.core.actor import Actor
from portal.core.change import watch
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.edge.address import Address
from portal.edge.durable import Durable
from portal.edge.fresh import Fresh
from portal.edge.journal import Journal, JournalReader, unread
from portal.edge.routes import Answer, Request
from portal.edge.threads import Threads
from portal.features.service import purpose_key
from portal.migrations import upgrade
from portal.tokens.models import AccessToken
from portal.usage import service as usage
from portal.usage.models import UsageRecord
from portal.usage.rules import Counters, Line, Used
from tests.edge.exchange import FakeExchange
from tests.edge.looping import Looping
from tests.factories import PEPPER, Make
from tests.fakes import FakeEngine

MODEL = "lab/tiny"
NUMBERS = count(1)
GOOD = {"model": MODEL, "prompt": "Once", "max_tokens": 8}
STREAM = {**GOOD, "stream": True}


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
        self.looping, self.threads = Looping(), Threads(4)
        self.compose()

    def compose(self, *servers: Server, **times: float) -> None:
        """Start the data plane anew, by default over the fake engine alone."""
        self.stop()
        self.counters = Counters()
        self.watch = watch(self.engine)
        self.door = Door(Fresh(self.engine, self.watch, self.threads), self.settings, self.counters)
        self.written = Journal(self.home / "journal")
        self.journal = Durable(self.written, self.threads)
        self.pool = Pool(servers or [Server(Address(uds=self.fake.path))], **times)
        with transaction(self.engine, write=False) as session:
            self.lookout = Lookout(
                self.door.fresh, open_eyes(session), key=purpose_key(PEPPER, "prompts"),
                base_url=self.settings.base_url,
            )  # fmt: skip
        self.inference = Inference(self.door, self.pool, self.journal, self.lookout)
        self.looping.do(self.pool.start)

    def look_away(self) -> None:
        """Have nobody look after the engines meanwhile."""
        if self.pool._timer is not None:
            self.pool._timer.cancel()

    def stop(self) -> None:
        if hasattr(self, "pool"):
            self.looping.do(self.pool.close)
            self.written.close()
            self.watch.close()

    def close(self) -> None:
        self.stop()
        self.fake.stop()
        self.threads.close()
        self.looping.close()
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

    def send(
        self,
        body: Any = None,
        *,
        by: Caller | None = None,
        path: str = "/v1/completions",
        method: str = "POST",
        chunks: bool = True,
        **more: Any,
    ) -> FakeExchange:
        """Send one request, without waiting; by default a good completion of the desk's own caller."""
        fields = {"model": MODEL, "prompt": "Once", "max_tokens": 8} if body is None else body
        raw = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        more = {"headers": (by or self.caller).headers, "request_id": f"req_{next(NUMBERS)}", "body": raw, **more}
        exchange = FakeExchange(Request(method, path, **more), chunks)
        self.looping.do(self.inference.handle, exchange)
        return exchange

    def ask(self, body: Any = None, **more: Any) -> Answer:
        """Send one request and wait for its whole answer."""
        exchange = self.send(body, **more)
        self.looping.until(lambda: exchange.ended)
        assert exchange.answer is not None, "a stream"
        return exchange.answer

    def stream(self, *, words: int = 0, **more: Any) -> FakeExchange:
        """Ask for a stream and return it once it has so many words."""
        fields = {"model": MODEL, "prompt": "Once", "max_tokens": 8, "stream": True, **more.pop("fields", {})}
        exchange = self.send(fields, **more)
        self.looping.until(lambda: exchange.status and len(events(exchange)) >= words)
        assert exchange.status == 200, exchange.answer
        return exchange

    def whole(self, **more: Any) -> list[Any]:
        """Ask for a stream and return all its events."""
        return self.rest(self.stream(**more))

    def rest(self, exchange: FakeExchange) -> list[Any]:
        """Wait for the end of a stream and return its events."""
        self.looping.until(lambda: exchange.ended)
        return events(exchange)

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


def text(exchange: FakeExchange) -> bytes:
    """Return what was streamed so far, with the chunks taken apart."""
    if not exchange.raw:
        return exchange.body
    data, parts = exchange.body, []
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        parts.append(rest[:length])
        data = rest[length + 2 :]
        assert length or not data
    assert not exchange.ended or not parts[-1]
    return b"".join(parts)


def events(exchange: FakeExchange) -> list[Any]:
    """Return the events of a stream so far: their JSON, and ``[DONE]``."""
    found = [line[6:] for line in text(exchange).decode().split("\n") if line.startswith("data: ")]
    return [part if part == "[DONE]" else json.loads(part) for part in found]


def replay(desk: Desk) -> list[UsageRecord]:
    """Enter the journal as the background process does; return the records of the desk's caller, newest first."""
    reader = JournalReader(desk.home / "journal")
    while True:
        batch = reader.read()

        def enter(session: Any, batch: Any = batch) -> None:
            for record in batch.records:
                if record["kind"] != Line.RUNNING:  # on a busy machine an answer may run long enough for one
                    usage.record(session, record=record)
            for run in batch.ended_runs:
                usage.mark_crashed(session, run=run, now=utcnow())

        desk.write(enter)
        reader.done(batch)
        if not batch.records and not batch.more:
            return desk.write(lambda s: usage.own(s, user_id=desk.caller.user.id))


def suspend(desk: Desk) -> None:
    def work(session: Any) -> None:
        user = session.get_one(User, desk.caller.user.id)
        user.standing, user.standing_until, user.standing_ref = (
            Standing.SUSPENDED,
            utcnow() + timedelta(days=1),
            "dec_1",
        )

    desk.write(work)


def used(desk: Desk) -> Used:
    return desk.counters.used(desk.caller.user.id, utcnow())


def settled(desk: Desk) -> None:
    """Nothing is left running, and every opened line has its one end."""
    assert [engine.running for engine in desk.pool.engines] == [0] * len(desk.pool.engines)
    assert desk.inference.gate.running == set()
    assert not any(group.works for group in desk.door._running)
    opened = [line["id"] for line in desk.lines("use_opened")]
    finished = [line["id"] for line in desk.lines()]
    assert len(finished) == len(set(finished))
    assert set(opened) <= set(finished)


def words(found: list[Any]) -> str:
    """Return the text of some events."""
    return "".join(event["choices"][0]["text"] for event in found if event != "[DONE]" and event.get("choices"))
