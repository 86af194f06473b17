"""A server with what is known of it now: what it works on, whether it is well, and which models it has."""

import time
from typing import Any

import orjson

from gated_inference.meter import WHOLE_MAX
from gated_inference.servers import Server
from portal.edge.upstream import Call, Connections

FAILURES = 2
CHECK_S = 5.0
CHECK_NEAR_S = 1.0
CHECK_ANSWER_S = 5.0
BACK_OFF_S = 60.0
BACK_OFF_NEAR_S = 1.0
COMPLETIONS = "/v1/completions"
JSON_BODY = ("Content-Type", "application/json")


class Engine:
    """A server with what is known of it now."""

    def __init__(self, server: Server, *, first_byte_s: float = 120.0, silence_s: float = 60.0) -> None:
        self.server = server
        self.connections = Connections(server.address, first_byte_s=first_byte_s, silence_s=silence_s)
        self.checks = Connections(server.address, first_byte_s=CHECK_ANSWER_S, silence_s=CHECK_ANSWER_S)
        self.head = server.address.request("POST", COMPLETIONS, [JSON_BODY, *server.headers])
        self.running = 0
        self.failures = 0
        self.problem = "not asked yet"
        self.models: frozenset[str] | None = None
        self.next_check = 0.0
        self.leaving = False
        self._checking = False

    @property
    def healthy(self) -> bool:
        """Say whether requests are sent to it: one failure alone does not take it out."""
        return self.failures < FAILURES

    def serves(self, model: str) -> bool:
        """Say whether it has a model, as far as it is known."""
        return self.server.model == model or (not self.server.model and (self.models is None or model in self.models))

    def failed(self, why: str) -> None:
        """Remember a failure; after two in a row it is left alone, longer each time, until it answers again."""
        self.failures += 1
        longest = BACK_OFF_NEAR_S if self.server.address.uds else BACK_OFF_S
        wait = min(longest, 2.0 ** min(self.failures - FAILURES, 6)) if self.failures >= FAILURES else 0.0
        self.next_check = time.monotonic() + wait
        self.problem = why
        self.models = None

    def worked(self) -> None:
        """Remember that it answered."""
        self.failures, self.problem = 0, ""
        self.next_check = time.monotonic() + (CHECK_NEAR_S if self.server.address.uds else CHECK_S)

    def check(self) -> None:
        """Ask it whether it is well; where it serves whatever it has, ask what that is."""
        if self._checking:
            return
        self._checking = True
        path = "/health" if self.server.model else "/v1/models"
        request = self.server.address.request("GET", path, self.server.headers) + b"\r\n"
        self.checks.ask(_Check(self), request)

    def checked(self, status: int, body: bytes) -> None:
        """Learn from its answer."""
        self._checking = False
        try:
            if status >= 500:  # noqa: PLR2004
                raise ValueError(f"answered {status}")
            if not self.server.model:
                self.models = frozenset(str(entry["id"]) for entry in orjson.loads(body)["data"])
        except (ValueError, KeyError, TypeError) as error:
            self.unchecked(str(error) or type(error).__name__)
            return
        self.worked()

    def look(self, now: float, passed: float) -> None:
        """Give up on what does not come, ask how it is when that is due, and let go of it when it is to leave."""
        self.connections.sweep(passed)
        self.checks.sweep(passed)
        if self.next_check <= now and not self.leaving:
            self.check()
        if self.leaving and not self.running:
            self.close()

    def state(self) -> dict[str, Any]:
        """Say how it does: nothing of its key, and of its address only what records name."""
        server = self.server
        models = [server.model] if server.model else sorted(self.models or ())
        return {
            "title": server.title, "lab": server.lab, "models": models, "weight": server.weight, "limit": server.limit,
            "running": self.running, "healthy": self.healthy, "problem": self.problem, "leaving": self.leaving,
        }  # fmt: skip

    def close(self) -> None:
        """Let go of it."""
        self.connections.close()
        self.checks.close()

    def unchecked(self, why: str) -> None:
        """Learn that it did not answer."""
        self._checking = False
        self.failed(why)


class _Check(Call):
    """A question about an engine's health."""

    __slots__ = ("body", "engine", "status")

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine, self.status, self.body = engine, 0, b""

    def head(self, status: int, _fields: dict[bytes, bytes]) -> bool:
        self.status = status
        return False

    def data(self, data: bytes) -> None:
        if len(self.body) < WHOLE_MAX:
            self.body += data

    def done(self) -> None:
        self.engine.checked(self.status, self.body)

    def lost(self, why: str) -> None:
        self.engine.unchecked(why)
