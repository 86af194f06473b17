"""Whether each part of the portal works, and figures of what it does; what the parts are, others say."""

import json
import logging
import socket
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from portal.edge.routes import Answer, Exchange, Route, Routes
from portal.edge.threads import Threads

ALIVE_S = 15
ANSWER_S = 2
Check = Callable[[], str]
GAUGES = frozenset({"portal_in_flight", "portal_journal_bytes", "portal_waiting"})
HELP = {
    "portal_requests_total": "Requests that ended, by channel and outcome.",
    "portal_text_tokens_total": "Text tokens read and written by engines.",
    "portal_in_flight": "Requests that are not answered yet.",
    "portal_waiting": "Of these, requests that wait for a place at an engine.",
    "portal_journal_bytes": "Bytes of the journal that are not yet entered in the database.",
}
NO_STORE = ("Cache-Control", "no-store")
log = logging.getLogger("portal.health")


Figure = tuple[str, tuple[tuple[str, str], ...]]


class Figures:
    """Counts what happens; on the loop alone, so that nothing is lost."""

    def __init__(self) -> None:
        self._values: dict[Figure, int] = defaultdict(int)

    @staticmethod
    def named(name: str, **labels: str) -> Figure:
        """Return a figure to count by."""
        return name, tuple(sorted(labels.items()))

    def add(self, figure: Figure, amount: int = 1) -> None:
        """Add to a figure."""
        self._values[figure] += amount

    def ended(self, request: Figure, prompt: int, completion: int) -> None:
        """Count a request that ended, and the text tokens that were read and written for it."""
        values = self._values
        values[request] += 1
        values[PROMPT] += prompt
        values[COMPLETION] += completion

    def value(self, name: str, **labels: str) -> int:
        """Return a figure."""
        return self._values.get(self.named(name, **labels), 0)

    def text(self, gauges: Mapping[str, Callable[[], int]]) -> str:
        """Write all figures, and some that are asked for at this moment, the way Prometheus reads them."""
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


PROMPT, COMPLETION = (Figures.named("portal_text_tokens_total", kind=kind) for kind in ("prompt", "completion"))


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

    A check returns an empty string when its part works, and otherwise what is wrong; one that raises is down. Checks
    may wait, so they run beside the loop; who asks meanwhile is given the same answer.

    Args:
        parts: a check by name of its part.
        figures: what was counted.
        gauges: figures that are asked for at the moment.
        threads: where checks run.
    """

    def __init__(
        self,
        parts: Mapping[str, Check],
        figures: Figures,
        gauges: Mapping[str, Callable[[], int]] | None = None,
        *,
        threads: Threads,
    ) -> None:
        self.parts, self.figures, self.gauges, self.threads = parts, figures, gauges or {}, threads
        self._waiting: dict[Callable[[], Answer], list[Exchange]] = {}

    def register(self, routes: Routes) -> None:
        """Answer ``/healthz``, ``/readyz`` and ``/metrics``."""
        for name in ("healthz", "readyz", "metrics"):
            routes.add("GET HEAD", f"/{name}", Route(getattr(self, name)))

    def healthz(self, exchange: Exchange) -> None:
        """Say that this process answers."""
        exchange.send(Answer(200, [("Content-Type", "text/plain; charset=utf-8"), NO_STORE], b"ok\n"))

    def readyz(self, exchange: Exchange) -> None:
        """Say of each part whether it works; 503 when one does not."""
        self._look(exchange, self.state)

    def metrics(self, exchange: Exchange) -> None:
        """Give all figures."""
        self._look(exchange, self.text)

    def state(self) -> Answer:
        """Check every part."""
        found = {name: _state(name, check) for name, check in self.parts.items()}
        ready = all(state == "ok" for state in found.values())
        body = json.dumps({"ready": ready, "parts": found}).encode() + b"\n"
        return Answer(200 if ready else 503, [("Content-Type", "application/json"), NO_STORE], body)

    def text(self) -> Answer:
        """Write all figures."""
        content_type = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        return Answer(200, [content_type, NO_STORE], self.figures.text(self.gauges).encode())

    def _look(self, exchange: Exchange, work: Callable[[], Answer]) -> None:
        waiting = self._waiting.setdefault(work, [])
        waiting.append(exchange)
        if len(waiting) > 1:
            return

        def done(answer: Answer) -> None:
            for one in self._waiting.pop(work):
                one.send(answer)

        def failed(_error: BaseException) -> None:
            done(Answer(503, [NO_STORE], b"the parts cannot be looked at\n"))

        self.threads.run(work, done, failed)


def answers(path: Path) -> Check:
    """Return a check that something speaks HTTP on a Unix socket."""

    def check() -> str:
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.settimeout(ANSWER_S)
                made.connect(str(path))
                made.sendall(b"HEAD /static/portal.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return "" if made.recv(16).startswith(b"HTTP/1.1 ") else "does not answer"
        except TimeoutError:
            return f"no answer in {ANSWER_S} s"
        except OSError:
            return "not started"

    return check


def _state(name: str, check: Check) -> str:
    try:
        return check() or "ok"
    except Exception as error:
        log.exception("checking %s", name)
        return f"down: {type(error).__name__}"
