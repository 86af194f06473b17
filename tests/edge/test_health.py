"""Whether the portal says truly which of its parts work."""

import json
from datetime import timedelta
from pathlib import Path

from portal.core.clock import utcnow
from portal.edge.health import Figures, Health, beat, heartbeat
from portal.edge.routes import Request

ASKED = Request("GET", "/readyz")


def test_being_alive_needs_nothing_else() -> None:
    answer = Health({"database": lambda: "down"}, Figures()).healthz(ASKED)
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_each_part_is_named_with_its_state() -> None:
    def broken() -> str:
        raise OSError("secret path")

    parts = {"database": lambda: "", "engine": lambda: "no engine answers", "work": broken}
    answer = Health(parts, Figures()).readyz(ASKED)
    assert answer.status == 503
    assert json.loads(answer.body) == {  # type: ignore[arg-type]
        "ready": False, "parts": {"database": "ok", "engine": "no engine answers", "work": "down: OSError"},
    }  # fmt: skip
    assert Health({"database": lambda: ""}, Figures()).readyz(ASKED).status == 200


def test_a_process_is_alive_while_it_touches_its_file(tmp_path: Path) -> None:
    path, now = tmp_path / "work.alive", utcnow()
    assert heartbeat(path, lambda: now)() == "not started"
    beat(path)
    assert heartbeat(path, utcnow)() == ""
    assert heartbeat(path, lambda: utcnow() + timedelta(seconds=20))() == "no sign of life for 20 s"


def test_figures_are_written_as_prometheus_reads_them() -> None:
    figures = Figures()
    figures.add("portal_requests_total", channel="inference", outcome='"odd"\n\\')
    figures.add("portal_requests_total", 2, channel="inference", outcome="finished")
    figures.add("portal_in_flight")
    figures.add("portal_in_flight", -1)
    assert figures.value("portal_requests_total", channel="inference", outcome="finished") == 2
    assert figures.value("portal_requests_total") == 0
    answer = Health({}, figures, {"portal_journal_bytes": lambda: 5}).metrics(ASKED)
    assert answer.body == (
        b"# HELP portal_in_flight Requests that an engine works on now.\n"
        b"# TYPE portal_in_flight gauge\nportal_in_flight 0\n"
        b"# HELP portal_journal_bytes Bytes of the journal that are not yet entered in the database.\n"
        b"# TYPE portal_journal_bytes gauge\nportal_journal_bytes 5\n"
        b"# HELP portal_requests_total Requests that ended, by channel and outcome.\n"
        b"# TYPE portal_requests_total counter\n"
        b'portal_requests_total{channel="inference",outcome="\\"odd\\"\\n\\\\"} 1\n'
        b'portal_requests_total{channel="inference",outcome="finished"} 2\n'
    )
