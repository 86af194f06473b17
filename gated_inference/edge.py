"""The addresses under ``/v1``: the protocol that clients of language models speak."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import unquote

from sqlalchemy.exc import OperationalError

from gated_inference import schemas
from gated_inference.gate import Gate
from gated_inference.pool import Pool
from gated_inference.schemas import Refusal, json_answer
from portal.access.edge import Door, Offer
from portal.access.rules import TOKEN_MESSAGES
from portal.core.actor import Actor
from portal.core.errors import PortalError
from portal.edge.health import Figures
from portal.edge.journal import Journal
from portal.edge.routes import Answer, Headers, Request
from portal.usage.rules import Outcome

INFERENCE, PAGE = "inference", "page"
T = TypeVar("T")
log = logging.getLogger("portal.inference")


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


class Inference:
    """Answers requests under ``/v1`` and completions in pages, all through the same gate."""

    def __init__(self, door: Door, pool: Pool, journal: Journal, figures: Figures | None = None) -> None:
        self.figures = figures or Figures()
        self.door = door
        self.gate = Gate(door, pool, journal, self.figures)
        self.routes = {
            "/v1/models": ("GET", self.models), "/v1/completions": ("POST", self.completions),
            "/v1/chat/completions": ("POST", self.chat),
        }  # fmt: skip

    def handle(self, request: Request) -> Answer:
        """Answer anything under ``/v1``."""
        common: Headers = [("Cache-Control", "no-store"), ("X-Request-Id", request.request_id)]
        try:
            method, handler = self.routes.get(request.raw_path.rstrip("/"), ("", self.nothing))
            if request.raw_path.startswith("/v1/models/"):
                method, handler = "GET", self.model
            if method and request.method != method and not (method == "GET" and request.method == "HEAD"):
                common.append(("Allow", method))
                raise Refusal(405, "method_not_allowed", f"{request.raw_path} takes {method}.")
            answer = handler(request)
        except Refusal as refused:
            return refused.answer(common)
        except PortalError as error:
            return Refusal(error.status, error.code, error.message, retry_after=5).answer(common)
        except OperationalError:
            log.exception("request %s", request.request_id)
            message = "The database does not answer just now. Try again in a moment."
            return Refusal(503, "database_busy", message, retry_after=5).answer(common)
        except Exception:
            log.exception("request %s", request.request_id)
            message = f"Something is wrong on our side. Tell the operators the request id {request.request_id}."
            return Refusal(500, "internal_error", message).answer(common)
        return Answer(answer.status, [*answer.headers, *common], answer.body)

    def nothing(self, request: Request) -> Answer:
        """Say that there is nothing at an address."""
        raise Refusal(404, "not_found", f"There is nothing at {request.method} {request.raw_path[:200]}.")

    def models(self, request: Request) -> Answer:
        """List the models that are offered."""
        return json_answer(
            200, {"object": "list", "data": [_model_json(offer) for offer in self._offered(request)]}, []
        )

    def model(self, request: Request) -> Answer:
        """Describe one model."""
        name = unquote(request.raw_path.removeprefix("/v1/models/").rstrip("/"))
        for offer in self._offered(request):
            if offer.name == name:
                return json_answer(200, _model_json(offer), [])
        raise Refusal(404, "model_not_found", "There is no such model here.", param="model")

    def completions(self, request: Request) -> Answer:
        """Have a prompt continued."""
        return self._completion(request, INFERENCE)

    def chat(self, request: Request) -> Answer:
        """Say that a model has no chat template, once it is clear that the caller could use it at all."""
        model = self._checked(request, INFERENCE, schemas.model_of)
        _, entry = self.gate.admit(request, model, INFERENCE)
        entry.finish(Outcome.INVALID, reason_code="chat_template_missing")
        message = f"{model} has no chat template: it continues a text. Use /v1/completions with a prompt."
        raise Refusal(400, "chat_template_missing", message, param="messages")

    def complete(
        self, actor: Actor, *, model: str, prompt: str, max_tokens: int, temperature: float, request_id: str
    ) -> Completion:
        """Continue a prompt for a person on a page: decided, counted and recorded as any other request."""
        fields = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature}
        request = Request(
            "POST", "/v1/completions", body=json.dumps(fields).encode(), request_id=request_id, actor=actor
        )
        try:
            answer = self._completion(request, PAGE)
        except Refusal as refused:
            return Completion(refused.status, refused.message, tuple(_shown(reason) for reason in refused.reasons))
        except PortalError as error:
            return Completion(error.status, error.message)
        value = json.loads(answer.body) if isinstance(answer.body, bytes) else {}
        return _completion_of(value)

    def _completion(self, request: Request, channel: str) -> Answer:
        asked = self._checked(request, channel, schemas.ask)
        return self.gate.run(request, asked, channel)

    def _checked(self, request: Request, channel: str, check: Callable[[dict[str, Any]], T]) -> T:
        try:
            return check(schemas.read(request.body))
        except Refusal as refused:
            self.gate.invalid(request, refused, channel)
            raise

    def _offered(self, request: Request) -> list[Offer]:
        actor, offers = self.door.offered(request)
        if actor.token_error is not None:
            raise Refusal(401, actor.token_error, TOKEN_MESSAGES[actor.token_error])
        return offers


def _model_json(offer: Offer) -> dict[str, Any]:
    release = offer.release
    return {
        "id": offer.name, "object": "model", "created": int(release.published_at.timestamp()),
        "owned_by": offer.namespace, "license": f"{release.license_slug}/{release.license_number}",
        "revision": release.revision, "allowed": offer.decision.allowed,
    }  # fmt: skip


def _shown(reason: Any) -> Shown:
    return Shown(reason.code, reason.state, reason.message, reason.remedy_text, reason.url, reason.due_at)


def _completion_of(value: dict[str, Any]) -> Completion:
    choices, usage = value.get("choices"), value.get("usage")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    counts = usage if isinstance(usage, dict) else {}
    return Completion(
        200, text=str(first.get("text", "")), prompt_tokens=int(counts.get("prompt_tokens", 0)),
        completion_tokens=int(counts.get("completion_tokens", 0)),
    )  # fmt: skip
