"""A completion on a page: the control plane asks the data plane, where alone use is counted and engines are asked."""

import http.client
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gated_inference.schemas import json_answer, model_of, read
from portal.core.actor import Actor
from portal.core.clock import utcnow
from portal.edge.routes import HAND_ON, Exchange
from portal.usage.rules import Counters, Used

ADDRESS, OUTLOOK, POOL = "/completions", "/outlook", "/pool"
PERSON, REQUEST_ID = "portal-person", "portal-request-id"
PATIENCE_S, QUICK_S = 300.0, 2.0
AWAY = "The data plane does not answer just now. Try again in a moment."


@dataclass(frozen=True)
class Shown:
    """A reason as a page lists it."""

    code: str
    state: str
    message: str
    remedy_text: str
    remedy_url: str
    due_at: datetime | None

    @property
    def url(self) -> str:
        """Where the remedy is."""
        return self.remedy_url


@dataclass(frozen=True)
class Completion:
    """What a page shows of an inference: the text, or why there is none."""

    status: int
    error: str = ""
    reasons: tuple[Shown, ...] = ()
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Outlook:
    """What a page knows before anybody asks.

    Args:
        used: today's use of the person, what runs included.
        answers: whether an engine answers for the model, as far as is known.
    """

    used: Used
    answers: bool


@dataclass(frozen=True)
class EngineState:
    """How one server does, as the data plane sees it at this moment."""

    title: str
    lab: str
    models: tuple[str, ...]
    weight: float
    limit: int
    running: int
    healthy: bool
    problem: str
    leaving: bool


@dataclass(frozen=True)
class PoolState:
    """How all servers do, and how many requests wait for a place, by model."""

    servers: tuple[EngineState, ...]
    waiting: Mapping[str, int]


def for_person(handler: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
    """Have a handler answer for the person whom a page names; only the portal's own processes reach such an address."""

    def handle(exchange: Exchange) -> None:
        request = exchange.request
        user_id, _, public_id = request.headers[PERSON].partition(" ")
        actor = Actor(user_id=int(user_id), public_id=public_id)
        exchange.request = replace(request, actor=actor, request_id=request.headers[REQUEST_ID])
        handler(exchange)

    return handle


class _Inside(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self.path = path

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def outlook(counters: Counters, answers: Callable[[str], bool]) -> Callable[[Exchange], None]:
    """Return a handler that tells a person's use of today, and whether an engine answers for a model."""

    def handle(exchange: Exchange) -> None:
        request = exchange.request
        person = request.actor
        used = counters.used(person.id, utcnow()) if person is not None else Used()
        exchange.send(json_answer(200, {"used": asdict(used), "answers": answers(model_of(read(request.body)))}, []))

    return handle


def pool(state: Callable[[], dict[str, Any]]) -> Callable[[Exchange], None]:
    """Return a handler that tells how the engines do."""
    return lambda exchange: exchange.send(json_answer(200, state(), []))


class Inside:
    """Asks the data plane on behalf of pages.

    Args:
        path: the Unix socket on which it answers the portal's own processes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def complete(self, actor: Actor, *, request_id: str, **fields: Any) -> Completion:
        """Continue a prompt for a person: decided, counted and recorded as any other request."""
        found = self._ask(ADDRESS, fields, _heads(actor, request_id))
        if found is None:
            return Completion(503, AWAY)
        status, value = found
        return _completed(value) if status == http.client.OK else _refused(status, value["error"])

    def streamed(self, actor: Actor, *, request_id: str, **fields: Any) -> tuple[dict[str, str], bytes]:
        """Return fields and body of an answer that has the data plane answer the browser in its place, as it goes."""
        asked = {**fields, "stream": True, "stream_options": {"include_usage": True}}
        return {HAND_ON: ADDRESS, **_heads(actor, request_id)}, json.dumps(asked).encode()

    def outlook(self, actor: Actor, *, model: str, request_id: str) -> Outlook | None:
        """Tell what a person used and whether the model answers; None while the data plane is away."""
        found = self._ask(OUTLOOK, {"model": model}, _heads(actor, request_id), patience=QUICK_S)
        if found is None or found[0] != http.client.OK:
            return None
        return Outlook(Used(**found[1]["used"]), bool(found[1]["answers"]))

    def engines(self) -> PoolState | None:
        """Tell how the engines do; None while the data plane is away."""
        found = self._ask(POOL, {}, {}, patience=QUICK_S)
        if found is None:
            return None
        servers = tuple(EngineState(**{**one, "models": tuple(one["models"])}) for one in found[1]["servers"])
        return PoolState(servers, found[1]["waiting"])

    def _ask(
        self, address: str, fields: dict[str, Any], heads: dict[str, str], *, patience: float = PATIENCE_S
    ) -> tuple[int, dict[str, Any]] | None:
        connection = _Inside(self.path, patience)
        try:
            connection.request("POST", address, json.dumps(fields), heads)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()


def _heads(actor: Actor, request_id: str) -> dict[str, str]:
    return {PERSON: f"{actor.id} {actor.public_id}", REQUEST_ID: request_id}


def _completed(value: dict[str, Any]) -> Completion:
    choices, usage = value.get("choices"), value.get("usage")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    counts = usage if isinstance(usage, dict) else {}
    return Completion(
        200, text=str(first.get("text", "")), prompt_tokens=int(counts.get("prompt_tokens", 0)),
        completion_tokens=int(counts.get("completion_tokens", 0)),
    )  # fmt: skip


def _refused(status: int, error: dict[str, Any]) -> Completion:
    return Completion(status, error["message"], tuple(_shown(reason) for reason in error["reasons"]))


def _shown(reason: dict[str, Any]) -> Shown:
    by = datetime.fromisoformat(reason["by"]) if reason["by"] else None
    state = "unmet" if reason["blocks"] else "due"
    return Shown(reason["code"], state, reason["message"], reason["remedy"], reason["url"], by)
