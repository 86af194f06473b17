"""Whether the portal says truly which of its parts work."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from portal.core.clock import utcnow
from portal.edge import health
from portal.edge.health import Figures, Health, answers, beat, heartbeat
from portal.edge.routes import Answer, Request, Routes
from portal.edge.threads import Threads
from tests.edge.exchange import FakeExchange
from tests.edge.looping import Looping
from tests.edge.plane import BadWeb


@pytest.fixture
def ask() -> Iterator[Callable[..., Answer]]:
    """Asks an address and waits for the answer."""
    looping, threads = Looping(), Threads(1)

    def ask(path: str, parts: Any, figures: Figures, gauges: Any = None) -> Answer:
        routes = Routes()
        Health(parts, figures, gauges, threads=threads).register(routes)
        exchanges = [FakeExchange(Request("GET", path)) for _ in range(3)]
        route = routes.find("GET", path)
        assert route is not None
        looping.do(lambda: [route.handler(exchange) for exchange in exchanges])
        looping.until(lambda: all(exchange.ended for exchange in exchanges))
        assert exchanges[0].answer == exchanges[1].answer == exchanges[2].answer
        assert exchanges[0].answer is not None
        return exchanges[0].answer

    yield ask
    threads.close()
    looping.close()


def test_being_alive_needs_nothing_else(ask: Callable[..., Answer]) -> None:
    answer = ask("/healthz", {"database": lambda: "down"}, Figures())
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_each_part_is_named_with_its_state(ask: Callable[..., Answer]) -> None:
    def broken() -> str:
        raise OSError("secret path")

    parts = {"database": lambda: "", "engine": lambda: "no engine answers", "work": broken}
    answer = ask("/readyz", parts, Figures())
    assert answer.status == 503
    assert json.loads(answer.body) == {  # type: ignore[arg-type]
        "ready": False, "parts": {"database": "ok", "engine": "no engine answers", "work": "down: OSError"},
    }  # fmt: skip
    assert ask("/readyz", {"database": lambda: ""}, Figures()).status == 200


def test_a_process_is_alive_while_it_touches_its_file(tmp_path: Path) -> None:
    path, now = tmp_path / "work.alive", utcnow()
    assert heartbeat(path, lambda: now)() == "not started"
    beat(path)
    assert heartbeat(path, utcnow)() == ""
    assert heartbeat(path, lambda: utcnow() + timedelta(seconds=20))() == "no sign of life for 20 s"


def test_the_control_plane_works_if_it_speaks_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = answers(tmp_path / "web.sock")
    assert check() == "not started"
    said = {"good": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "bad": b"ok\r\n", "none": b""}
    for kind, expected in (("good", ""), ("bad", "does not answer"), ("none", "does not answer")):
        web = BadWeb(tmp_path / "web.sock", lambda sock, kind=kind: sock.sendall(said[kind]))  # type: ignore[misc]
        assert check() == expected
        web.close()
    monkeypatch.setattr(health, "ANSWER_S", 0.05)
    wait = threading.Event()
    web = BadWeb(tmp_path / "web.sock", lambda _sock: wait.wait(10) and None)
    assert check() == "no answer in 0.05 s"
    wait.set()
    web.close()


def test_figures_are_written_as_prometheus_reads_them(ask: Callable[..., Answer]) -> None:
    figures = Figures()
    figures.add(Figures.named("portal_requests_total", channel="inference", outcome='"odd"\n\\'))
    figures.add(Figures.named("portal_requests_total", channel="inference", outcome="finished"), 2)
    figures.add(Figures.named("portal_in_flight"))
    figures.add(Figures.named("portal_in_flight"), -1)
    assert figures.value("portal_requests_total", channel="inference", outcome="finished") == 2
    assert figures.value("portal_requests_total") == 0
    answer = ask("/metrics", {}, figures, {"portal_journal_bytes": lambda: 5})
    assert answer.body == (
        b"# HELP portal_in_flight Requests that are not answered yet.\n"
        b"# TYPE portal_in_flight gauge\nportal_in_flight 0\n"
        b"# HELP portal_journal_bytes Bytes of the journal that are not yet entered in the database.\n"
        b"# TYPE portal_journal_bytes gauge\nportal_journal_bytes 5\n"
        b"# HELP portal_requests_total Requests that ended, by channel and outcome.\n"
        b"# TYPE portal_requests_total counter\n"
        b'portal_requests_total{channel="inference",outcome="\\"odd\\"\\n\\\\"} 1\n'
        b'portal_requests_total{channel="inference",outcome="finished"} 2\n'
    )
