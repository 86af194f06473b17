"""Whether each part of the portal works, and figures of what it does; what the parts are, others say."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from threading import Lock

from portal.edge.routes import Answer, Request

ALIVE_S = 15
Check = Callable[[], str]
GAUGES = frozenset({"portal_in_flight", "portal_journal_bytes"})
HELP = {
    "portal_requests_total": "Requests that ended, by channel and outcome.",
    "portal_text_tokens_total": "Text tokens read and written by engines.",
    "portal_in_flight": "Requests that an engine works on now.",
    "portal_journal_bytes": "Bytes of the journal that are not yet entered in the database.",
}
NO_STORE = ("Cache-Control", "no-store")
log = logging.getLogger("portal.health")


class Figures:
    """Counts what happens, exact under threads."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], int] = defaultdict(int)
        self._lock = Lock()

    def add(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a figure."""
        with self._lock:
            self._values[name, tuple(sorted(labels.items()))] += amount

    def value(self, name: str, **labels: str) -> int:
        """Return a figure."""
        with self._lock:
            return self._values.get((name, tuple(sorted(labels.items()))), 0)

    def text(self, gauges: Mapping[str, Callable[[], int]]) -> str:
        """Write all figures, and some that are asked for at this moment, the way Prometheus reads them."""
        with self._lock:
            values = dict(self._values)
        values |= {(name, ()): read() for name, read in gauges.items()}
        lines = []
        for name in sorted({name for name, _ in values}):
            kind = "gauge" if name in GAUGES else "counter"
            lines += [f"# HELP {name} {HELP.get(name, name)}", f"# TYPE {name} {kind}"]
            lines += [
                f"{name}{_labels(labels)} {value}" for (known, labels), value in sorted(values.items()) if known == name
            ]
        return "\n".join(lines) + "\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def beat(path: Path) -> None:
    """Say that a process is alive, by the time of a file."""
    path.touch(mode=0o600)


def heartbeat(path: Path, now: Callable[[], datetime], *, within_s: int = ALIVE_S) -> Check:
    """Return a check that a process touched its file not long ago."""

    def check() -> str:
        try:
            age = now().timestamp() - path.stat().st_mtime
        except FileNotFoundError:
            return "not started"
        return "" if age <= within_s else f"no sign of life for {age:.0f} s"

    return check


class Health:
    """Answers whether the portal is alive, whether each part works, and how much it does.

    A check returns an empty string when its part works, and otherwise what is wrong; one that raises is down.
    """

    def __init__(
        self, parts: Mapping[str, Check], figures: Figures, gauges: Mapping[str, Callable[[], int]] | None = None
    ) -> None:
        self.parts = parts
        self.figures = figures
        self.gauges = gauges or {}

    def healthz(self, _request: Request) -> Answer:
        """Say that this process answers."""
        return Answer(200, [("Content-Type", "text/plain; charset=utf-8"), NO_STORE], b"ok\n")

    def readyz(self, _request: Request) -> Answer:
        """Say of each part whether it works; 503 when one does not."""
        found = {name: _state(name, check) for name, check in self.parts.items()}
        ready = all(state == "ok" for state in found.values())
        body = json.dumps({"ready": ready, "parts": found}).encode() + b"\n"
        return Answer(200 if ready else 503, [("Content-Type", "application/json"), NO_STORE], body)

    def metrics(self, _request: Request) -> Answer:
        """Give all figures."""
        content_type = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        return Answer(200, [content_type, NO_STORE], self.figures.text(self.gauges).encode())


def _state(name: str, check: Check) -> str:
    try:
        return check() or "ok"
    except Exception as error:
        log.exception("checking %s", name)
        return f"down: {type(error).__name__}"
