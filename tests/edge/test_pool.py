"""Which engine is asked: the healthy ones, the least busy first, by what the file of servers says."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gated_inference.pool import Engine, NoEngine, Pool, Server, make_pool, read_servers
from portal.core.config import SettingError, Settings
from portal.edge.upstream import Address, Exchange, Lost, Unreachable
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


def server(path: Path, **kept: Any) -> Server:
    return Server(Address(uds=path), **kept)


def nothing() -> None:
    pass


def test_a_file_names_servers(tmp_path: Path) -> None:
    path = tmp_path / "engines.toml"
    path.write_text(FILE)
    first, second = read_servers(path)
    assert (first.address.authority, first.address.prefix, first.address.tls) == ("gpu.example", "", True)
    assert (first.name, first.weight, first.lab, first.key) == ("bloom", 2.0, "north", "secret")
    assert (second.address.authority, second.address.prefix, second.name) == (
        "[::1]:8000", "/serving", "bigscience/bloom",
    )  # fmt: skip
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


def test_the_least_busy_for_its_weight_is_asked(tmp_path: Path) -> None:
    fakes = [FakeEngine(tmp_path / f"{n}.sock").start() for n in range(2)]
    pool = Pool([server(fakes[0].path, model="m"), server(fakes[1].path, model="m", weight=3)])
    running = [pool.open("m", {"prompt": "x"}, nothing) for _ in range(8)]
    assert [engine.running for engine in pool.engines] == [2, 6]
    for one in running:
        one.close()
        one.close()
    assert [engine.running for engine in pool.engines] == [0, 0]
    for _ in range(4):
        pool.open("m", {"prompt": "x"}, nothing).close()
    assert 0 < len(fakes[0].calls) - 2 < 4  # ties go round
    for fake in fakes:
        fake.stop()
    pool.close()


def test_a_model_without_a_server_has_none(tmp_path: Path) -> None:
    pool = Pool([server(tmp_path / "x.sock", model="m")])
    with pytest.raises(NoEngine) as caught:
        pool.open("other", {}, nothing)
    assert (caught.value.status, caught.value.overloaded) == (503, False)
    pool.close()


def test_an_embedded_engine_is_asked_only_for_what_it_has(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e.sock", ("lab/tiny",)).start()
    pool = Pool([server(fake.path)])
    assert pool.trouble() == ""
    with pytest.raises(NoEngine):
        pool.open("lab/other", {"prompt": "x"}, nothing)
    assert fake.calls == []
    pool.open("lab/tiny", {"prompt": "x"}, nothing).close()
    fake.stop()
    pool.close()


def test_two_failures_take_a_server_out_until_it_answers_again(tmp_path: Path) -> None:
    engine = Engine(server(tmp_path / "e.sock"))
    assert engine.healthy
    engine.check()
    assert engine.healthy
    assert engine.next_check <= time.monotonic()
    engine.check()
    assert not engine.healthy
    assert 0.5 < engine.next_check - time.monotonic() <= 1
    far = Engine(Server(Address(), model="m"))
    for _ in range(9):
        far.failed("down")
    assert 50 < far.next_check - time.monotonic() <= 60
    fake = FakeEngine(tmp_path / "e.sock", ("lab/tiny",)).start()
    engine.check()
    assert (engine.healthy, engine.problem, engine.models) == (True, "", frozenset({"lab/tiny"}))
    fake.stop()


def test_readiness_names_the_models_that_nobody_answers_for(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "a.sock").start()
    pool = Pool(
        [
            server(fake.path, model="lab/a"),
            server(tmp_path / "no.sock", model="lab/a"),
            server(tmp_path / "n2", model="b"),
        ]
    )
    trouble = pool.trouble()
    assert trouble.startswith("b: ")
    assert "lab/a" not in trouble
    fake.behave = 500
    pool.engines[0].check()
    assert "lab/a: answered 500" in pool.trouble()
    fake.stop()
    pool.close()


def test_engines_are_looked_after_meanwhile(tmp_path: Path) -> None:
    pool = Pool([server(tmp_path / "e.sock")])
    assert pool.trouble() != ""
    fake = FakeEngine(tmp_path / "e.sock").start()
    deadline = time.monotonic() + 5
    while pool.engines[0].problem and time.monotonic() < deadline:
        time.sleep(0.02)
    assert pool.engines[0].problem == ""
    fake.stop()
    pool.close()


def test_an_engine_that_speaks_nonsense_is_not_well(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path / "e.sock").start()
    fake.models = 5  # type: ignore[assignment]
    engine = Engine(server(fake.path))
    engine.check()
    assert engine.problem
    fake.stop()


@pytest.mark.parametrize("url", ["gpu.example", "ftp://x", "http://", "http://x/?q", "http://x:port"])
def test_addresses_are_http(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Address.parse(url)


def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable):
            Exchange(Address("127.0.0.1", probe.getsockname()[1]))
    with pytest.raises(Unreachable):
        Exchange(Address("no such host.invalid"))


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_speaks_no_http_is_lost(tls: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1], tls)
        if tls:
            threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()  # noqa: PLW0108
            with pytest.raises(Unreachable):
                address.connect()
            return
        exchange = Exchange(address)
        peer, _ = listener.accept()
        exchange.send("GET", "/x")
        assert b"Host: 127.0.0.1" in peer.recv(1000)
        peer.sendall(b"SSH-2.0\r\n\r\n")
        with pytest.raises(Lost):
            exchange.head()
        exchange.close()
        peer.close()
        with pytest.raises(Lost):
            exchange.send("GET", "/x")


def test_a_server_that_leaves_before_or_in_its_answer_is_lost() -> None:
    for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            exchange = Exchange(Address("127.0.0.1", listener.getsockname()[1]))
            peer, _ = listener.accept()
            exchange.send("GET", "/x")
            peer.recv(1000)
            peer.sendall(said)
            peer.close()
            with pytest.raises(Lost):
                assert [exchange.head(), *exchange.pieces()] == []
            exchange.close()
