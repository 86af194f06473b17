"""A completion on a page: the control plane asks the data plane, where alone use is counted and engines are asked."""

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from portal.core.actor import Actor
from portal.edge.routes import Exchange

ADDRESS = "/completions"
PERSON, REQUEST_ID = "portal-person", "portal-request-id"
PATIENCE_S = 300.0
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

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def completer(path: Path) -> Callable[..., Completion]:
    """Return what continues a prompt for a person: decided, counted and recorded as any other request.

    Args:
        path: the Unix socket on which the data plane answers the portal's own processes.
    """

    def complete(
        actor: Actor, *, model: str, prompt: str, max_tokens: int, temperature: float, request_id: str
    ) -> Completion:
        fields = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature}
        headers = {PERSON: f"{actor.id} {actor.public_id}", REQUEST_ID: request_id}
        connection = _Inside(path)
        try:
            connection.request("POST", ADDRESS, json.dumps(fields), headers)
            answer = connection.getresponse()
            value = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return Completion(503, AWAY)
        finally:
            connection.close()
        return _completed(value) if answer.status == http.client.OK else _refused(answer.status, value["error"])

    return complete


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
