"""Which engine is asked: the healthy ones, the least busy first, by what the file of servers says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gated_inference import pool as pools
from gated_inference.engines import Engine
from gated_inference.pool import NoEngine, Pool, Running, make_pool
from gated_inference.servers import Server, read_servers
from portal.core.config import SettingError, Settings
from portal.edge.address import Address
from tests.edge.looping import Looping
from tests.fakes import FakeEngine

FILE = """
[[servers]]
model = "bigscience/bloom"
url = "https://gpu.example/v1/"
key = "secret"
weight = 2
lab = "north"
name = "bloom"

[[servers]]
model = "bigscience/bloom"
url = "http://[::1]:8000/serving"
"""
ASKED = {"prompt": "x", "max_tokens": 1}


def server(path: Path, **kept: Any) -> Server:
    return Server(Address(uds=path), **kept)


class Asked:
    """Keeps what comes of a request."""

    def __init__(self) -> None:
        self.status, self.body, self.end = 0, b"", ""
        self.error: NoEngine | None = None

    def begun(self, status: int, _fields: dict[bytes, bytes]) -> bool:
        self.status = status
        return False

    def data(self, data: bytes) -> None:
        self.body += data

    def whole(self, status: int, body: bytes) -> None:
        self.status, self.body, self.end = status, body, "done"

    def done(self) -> None:
        self.end = "done"

    def lost(self, why: str) -> None:
        self.end = why

    def nobody(self, error: NoEngine) -> None:
        self.error, self.end = error, error.code


@pytest.fixture
def looping() -> Iterator[Looping]:
    made = Looping()
    yield made
    made.close()


def ask(looping: Looping, pool: Pool, model: str = "m", **fields: Any) -> tuple[Asked, Running]:
    """Ask, without waiting."""
    asked = Asked()
    return asked, looping.do(pool.ask, asked, model, {**ASKED, **fields})


def answered(looping: Looping, pool: Pool, model: str = "m") -> Asked:
    """Ask, and wait for what comes of it."""
    asked, _ = ask(looping, pool, model)
    looping.until(lambda: asked.end)
    return asked


def checked(looping: Looping, engine: Engine) -> None:
    """Have an engine looked at, and wait for what comes of it."""
    looping.do(lambda: (engine.check(), engine.check()))  # once at a time
    looping.until(lambda: not engine._checking)


def test_a_file_names_servers(tmp_path: Path) -> None:
    path = tmp_path / "engines.toml"
    path.write_text(FILE)
    first, second = read_servers(path)
    assert (first.address.authority, first.address.prefix, first.address.tls) == ("gpu.example", "", True)
    assert (first.name, first.weight, first.lab, first.key) == ("bloom", 2.0, "north", "secret")
    assert (second.address.authority, second.address.prefix, second.name) == (
        "[::1]:8000", "/serving", "bigscience/bloom",
    )  # fmt: skip
    assert (first.title, second.title) == ("gpu.example", "[::1]:8000")
    settings = Settings(home=tmp_path, engines=str(path))
    assert len(make_pool(settings).engines) == 2
    (embedded,) = make_pool(Settings(home=tmp_path)).engines
    assert embedded.server.address.uds == tmp_path / "run" / "engine.sock"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "cannot read"),
        ("[[", "cannot read"),
        ("", "[[servers]]"),
        ("servers = 1", "[[servers]]"),
        ("[[servers]]\nmodel = 'a/b'", "model and url"),
        ("[[servers]]\nmodel = 'a/b'\nurl = 'ftp://x'", "url"),
        ("[[servers]]\nmodel = 'a/b'\nurl = 'http://x'\nweight = 0", "weight"),
        ("[[servers]]\nmodel = 'a/b'\nurl = 'http://x'\nweight = true", "weight"),
        ("[[servers]]\nmodel = 'a/b'\nurl = 'http://x'\nlimit = 0", "limit"),
        ("[[servers]]\nmodel = 'a/b'\nurl = 'http://x'\nlimit = 1.5", "limit"),
        ("[[servers]]\nmodel = 'a/b'\nurl = 'http://x'\ncolour = 'red'", "colour"),
    ],
)
def test_a_bad_file_is_one_line_that_names_what_is_wrong(tmp_path: Path, text: str | None, named: str) -> None:
    path = tmp_path / "engines.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingError) as caught:
        read_servers(path)
    assert named in str(caught.value)
    assert "PORTAL_ENGINES" in str(caught.value)


def test_the_least_busy_for_its_weight_is_asked(looping: Looping, tmp_path: Path) -> None:
    fakes = [FakeEngine(tmp_path / f"{n}.sock").start() for n in range(2)]
    pool = Pool([server(fakes[0].path, model="m"), server(fakes[1].path, model="m", weight=3)])
    for fake in fakes:
        fake.behave = "silent"
    running = [ask(looping, pool)[1] for _ in range(8)]
    assert [engine.running for engine in pool.engines] == [2, 6]
    looping.until(lambda: len(fakes[0].calls) + len(fakes[1].calls) == 8)
    for one in running:
        looping.do(one.cancel)
        looping.do(one.cancel)
    assert [engine.running for engine in pool.engines] == [0, 0]
    for fake in fakes:
        fake.behave = "answer"
    before = len(fakes[0].calls)
    for _ in range(4):
        assert answered(looping, pool).end == "done"
    assert 0 < len(fakes[0].calls) - before < 4  # ties go round
    for fake in fakes:
        fake.stop()
    looping.do(pool.close)


def test_a_model_without_a_server_has_none(looping: Looping, tmp_path: Path) -> None:
    pool = Pool([server(tmp_path / "x.sock", model="m")])
    error = answered(looping, pool, "other").error
    assert error is not None
    assert (error.status, error.overloaded) == (503, False)


def test_an_embedded_engine_is_asked_only_for_what_it_has(looping: Looping, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e.sock", ("lab/tiny",)).start()
    pool = Pool([server(fake.path)])
    assert pool.trouble() == "embedded: not asked yet"
    checked(looping, pool.engines[0])
    assert pool.trouble() == ""
    assert answered(looping, pool, "lab/other").end == "engine_unavailable"
    assert fake.calls == []
    assert answered(looping, pool, "lab/tiny").end == "done"
    fake.stop()
    looping.do(pool.close)


def full(looping: Looping, fake: FakeEngine, pool: Pool) -> Running:
    """Give the one place there is to a request that is not answered."""
    fake.behave = "silent"
    _, running = ask(looping, pool)
    looping.until(lambda: len(fake.calls) == 1)
    fake.behave = "answer"
    return running


def test_a_request_waits_for_a_place_in_the_order_in_which_it_came(looping: Looping, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e.sock").start()
    pool = Pool([server(fake.path, model="m", limit=1)])
    running = full(looping, fake, pool)
    waiting = [ask(looping, pool, prompt=str(n)) for n in range(4)]
    assert pool.state()["waiting"] == {"m": 4}
    assert pool.engines[0].running == 1
    looping.do(waiting[2][1].cancel)  # a client that leaves gives up its turn
    looping.do(running.cancel)
    looping.until(lambda: all(asked.end for n, (asked, _) in enumerate(waiting) if n != 2))
    assert [call["prompt"] for call in fake.calls[1:]] == ["0", "1", "3"]
    assert (waiting[2][0].end, pool.engines[0].running, pool.waiting) == ("", 0, {})
    fake.stop()
    looping.do(pool.close)


def test_more_than_may_wait_are_told_to_come_back(
    looping: Looping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WAITING_MAX", 1)
    fake = FakeEngine(tmp_path / "e.sock").start()
    pool = Pool([server(fake.path, model="m", limit=1)])
    full(looping, fake, pool)
    ask(looping, pool)
    error = answered(looping, pool).error
    assert error is not None
    assert (error.status, error.code, error.overloaded, error.retry_after > 0) == (429, "engine_overloaded", True, True)
    fake.stop()
    looping.do(pool.close)


def test_whoever_waits_too_long_or_for_a_server_that_fails_is_told(
    looping: Looping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeEngine(tmp_path / "e.sock").start()
    pool = Pool([server(fake.path, model="m", limit=1)])
    full(looping, fake, pool)
    asked, _ = ask(looping, pool)
    for _ in range(2):
        pool.engines[0].failed("down")
    looping.do(pool.start)
    looping.until(lambda: asked.end)
    assert asked.error is not None
    assert (asked.error.status, asked.error.code) == (503, "engine_unavailable")
    pool.engines[0].worked()
    asked, _ = ask(looping, pool)
    assert len(pool.waiting) == 1
    monkeypatch.setattr(pools, "WAIT_S", -1.0)
    looping.until(lambda: asked.end)
    assert asked.error is not None
    assert (asked.error.status, asked.error.code, asked.error.overloaded) == (503, "engine_overloaded", True)
    fake.stop()
    looping.do(pool.close)


def test_whoever_waits_is_served_by_a_server_that_comes(looping: Looping, tmp_path: Path) -> None:
    fakes = [FakeEngine(tmp_path / f"{n}.sock").start() for n in range(2)]
    first, second = (server(fake.path, model="m", limit=1) for fake in fakes)
    pool = Pool([first])
    looping.do(pool.start)
    full(looping, fakes[0], pool)
    asked, _ = ask(looping, pool)
    pool.replace([first, second])
    looping.until(lambda: asked.end)
    assert (asked.end, len(fakes[1].calls)) == ("done", 1)
    for fake in fakes:
        fake.stop()
    looping.do(pool.close)


def test_the_state_of_a_server_says_what_staff_need_and_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "engines.toml"
    path.write_text(FILE)
    pool = Pool(read_servers(path))
    pool.engines[1].failed("answered 500")
    first, second = pool.state()["servers"]
    assert first == {
        "title": "gpu.example", "lab": "north", "models": ["bigscience/bloom"], "weight": 2.0, "limit": 1_024,
        "running": 0, "healthy": True, "problem": "not asked yet", "leaving": False,
    }  # fmt: skip
    assert (second["title"], second["problem"], second["healthy"]) == ("[::1]:8000", "answered 500", True)


def test_two_failures_take_a_server_out_until_it_answers_again(looping: Looping, tmp_path: Path) -> None:
    engine = Engine(server(tmp_path / "e.sock"))
    assert engine.healthy
    checked(looping, engine)
    assert engine.healthy
    assert engine.next_check <= pools.time.monotonic()
    checked(looping, engine)
    assert not engine.healthy
    assert 0 < engine.next_check - pools.time.monotonic() <= 1
    far = Engine(Server(Address(), model="m"))
    for _ in range(9):
        far.failed("down")
    assert 50 < far.next_check - pools.time.monotonic() <= 60
    fake = FakeEngine(tmp_path / "e.sock", ("lab/tiny",)).start()
    checked(looping, engine)
    assert (engine.healthy, engine.problem, engine.models) == (True, "", frozenset({"lab/tiny"}))
    fake.stop()


def test_readiness_names_the_models_that_nobody_answers_for(looping: Looping, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "a.sock").start()
    pool = Pool(
        [
            server(fake.path, model="lab/a"),
            server(tmp_path / "no.sock", model="lab/a"),
            server(tmp_path / "n2", model="b"),
        ]
    )
    looping.do(pool.start)
    looping.until(lambda: "lab/a" not in pool.trouble())
    assert pool.trouble().startswith("b: ")
    fake.behave = 500
    checked(looping, pool.engines[0])
    assert "lab/a: answered 500" in pool.trouble()
    fake.stop()
    looping.do(pool.close)


def test_engines_are_looked_after_meanwhile(looping: Looping, tmp_path: Path) -> None:
    pool = Pool([server(tmp_path / "e.sock")])
    looping.do(pool.start)
    looping.until(lambda: "reached" in pool.trouble())
    fake = FakeEngine(tmp_path / "e.sock").start()
    looping.until(lambda: pool.trouble() == "")
    fake.stop()
    looping.do(pool.close)


def test_an_engine_that_speaks_nonsense_is_not_well(looping: Looping, tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e.sock").start()
    fake.models = 5  # type: ignore[assignment]
    engine = Engine(server(fake.path))
    checked(looping, engine)
    assert engine.problem
    fake.stop()


def test_servers_that_are_taken_out_finish_what_they_work_on(looping: Looping, tmp_path: Path) -> None:
    fakes = [FakeEngine(tmp_path / f"{n}.sock").start() for n in range(2)]
    old, new = (server(fake.path, model="m") for fake in fakes)
    pool = Pool([old])
    looping.do(pool.start)
    fakes[0].behave = "silent"
    asked, _ = ask(looping, pool)
    looping.until(lambda: fakes[0].calls)
    pool.replace([new])
    assert answered(looping, pool).end == "done"
    assert len(fakes[1].calls) == 1
    fakes[0].go_on.set()
    looping.until(lambda: asked.end == "done")
    looping.until(lambda: len(pool.engines) == 1)
    pool.replace([new])
    assert [engine.server for engine in pool.engines] == [new]
    for fake in fakes:
        fake.stop()
    looping.do(pool.close)


def test_engines_are_looked_after_whatever_goes_wrong(
    looping: Looping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, looked = Pool([server(tmp_path / "a.sock"), server(tmp_path / "b.sock")]), []

    def look(self: Engine, _now: float, _passed: float) -> None:
        looked.append(self)
        raise OSError("no descriptor is left")

    monkeypatch.setattr(pools, "SWEEP_S", 0.001)
    monkeypatch.setattr(Engine, "look", look)
    looping.do(pool.start)
    looping.until(lambda: len(looked) > 5)
    assert looked[:4] == [*pool.engines, *pool.engines]
    looping.do(pool.close)
