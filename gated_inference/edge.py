"""The addresses under ``/v1``: the protocol that clients of language models speak."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import unquote

from gated_inference import moderations, page, schemas
from gated_inference.answers import NO_STORE, RETRY_AFTER_S, answer, fail, guarded
from gated_inference.gate import Gate
from gated_inference.lookout import Lookout
from gated_inference.pool import Pool
from gated_inference.schemas import BODY_MAX, Refusal, json_answer
from portal.access.edge import Admission, Door, Offer
from portal.core.actor import Actor
from portal.edge.durable import Durable
from portal.edge.health import Figures
from portal.edge.routes import Answer, Exchange, Route, Routes
from portal.tokens.rules import UNUSABLE, Scope
from portal.usage.rules import Outcome

INFERENCE, PAGE = "inference", "page"
CODES = {408: "request_timeout", 413: "body_too_large"}
T = TypeVar("T")


class Inference:
    """Answers requests under ``/v1``, and completions for people on pages, all through the same gate."""

    def __init__(
        self, door: Door, pool: Pool, journal: Durable, lookout: Lookout, figures: Figures | None = None
    ) -> None:  # fmt: skip
        self.figures = figures or Figures()
        self.door = door
        self.gate = Gate(door, pool, journal, self.figures, lookout)
        self.routes = {
            "/v1/models": ("GET", self.models), "/v1/completions": ("POST", self.completions),
            "/v1/chat/completions": ("POST", self.chat), "/v1/moderations": ("POST", self.moderations),
        }  # fmt: skip

    def register(self, routes: Routes) -> None:
        """Answer everything under ``/v1``."""
        route = Route(self.handle, body_limit=BODY_MAX, refusal=plane_refusal, knows=True)
        for path, (methods, _) in self.routes.items():
            routes.add(methods, path, route)
        routes.add("POST", "/v1/completions", replace(route, handler=self.completion))
        routes.add_where("", "/v1/<path:rest>", is_address, route)

    def register_inside(self, routes: Routes) -> None:
        """Answer the control plane, for people on its pages."""
        outlook = page.outlook(self.door.counters, self.gate.pool.answers)
        for address, handler in ((page.ADDRESS, self.completions), (page.OUTLOOK, outlook)):
            routes.add("POST", address, Route(page.for_person(handler), body_limit=BODY_MAX))
        routes.add("POST", page.POOL, Route(page.pool(self.gate.pool.state)))

    def handle(self, exchange: Exchange) -> None:
        """Answer anything under ``/v1``."""
        request = exchange.request
        try:
            method, handler = self.routes.get(request.raw_path.rstrip("/"), ("", self.nothing))
            if request.raw_path.startswith("/v1/models/"):
                method, handler = "GET", self.model
            if method and request.method != method and not (method == "GET" and request.method == "HEAD"):
                refused = Refusal(405, "method_not_allowed", f"{request.raw_path} takes {method}.")
                answer(exchange, refused, ("Allow", method))
                return
            handler(exchange)
        except Exception as error:  # noqa: BLE001
            fail(exchange, error)

    def completion(self, exchange: Exchange) -> None:
        """Answer at the one address that is asked all the time; as `handle`."""
        try:
            asked = self._checked(exchange, INFERENCE, schemas.ask)
            if asked is not None:
                self.gate.run(exchange, asked, INFERENCE)
        except Exception as error:  # noqa: BLE001
            fail(exchange, error)

    def nothing(self, exchange: Exchange) -> None:
        """Say that there is nothing at an address."""
        request = exchange.request
        raise Refusal(404, "not_found", f"There is nothing at {request.method} {request.raw_path[:200]}.")

    def models(self, exchange: Exchange) -> None:
        """List the models that are offered."""
        self._offered(exchange, lambda offers: {"object": "list", "data": [_model_json(offer) for offer in offers]})

    def model(self, exchange: Exchange) -> None:
        """Describe one model."""
        name = unquote(exchange.request.raw_path.removeprefix("/v1/models/").rstrip("/"))

        def find(offers: list[Offer]) -> dict[str, Any]:
            for offer in offers:
                if offer.name == name:
                    return _model_json(offer)
            raise Refusal(404, "model_not_found", "There is no such model here.", param="model")

        self._offered(exchange, find)

    def completions(self, exchange: Exchange) -> None:
        """Have a prompt continued."""
        channel = INFERENCE if exchange.request.actor is None else PAGE
        asked = self._checked(exchange, channel, schemas.ask)
        if asked is not None:
            self.gate.run(exchange, asked, channel)

    def chat(self, exchange: Exchange) -> None:
        """Say that a model has no chat template, once it is clear that the caller could use it at all."""
        model = self._checked(exchange, INFERENCE, schemas.model_of)
        if model is None:
            return

        def admitted(_admission: Admission, entry: Any) -> None:
            entry.finish(Outcome.INVALID, reason_code="chat_template_missing")
            message = f"{model} has no chat template: it continues a text. Use /v1/completions with a prompt."
            raise Refusal(400, "chat_template_missing", message, param="messages")

        self.gate.admit(exchange, model, INFERENCE, admitted)

    def moderations(self, exchange: Exchange) -> None:
        """Say what the portal's banks find in texts, to anybody who may use inference at all."""
        lookout, door, request = self.gate.lookout, self.door, exchange.request

        def known(actor: Actor) -> None:
            if actor.user_id is None or actor.token_error is not None:
                code = actor.token_error or "not_signed_in"
                message = "Send an access token that can be used here: Authorization: Bearer lmp_…"
                raise Refusal(401, code, UNUSABLE.get(code, message))
            if Scope.INFERENCE not in actor.scopes:
                raise Refusal(403, "scope_missing", f"This access token lacks the scope {Scope.INFERENCE}.")
            texts, eyes = moderations.inputs(schemas.read(request.body)), lookout.eyes
            lookout.fresh.threads.run(
                lambda: moderations.results(eyes, texts, request.request_id),
                guarded(exchange, lambda said: exchange.send(json_answer(200, said, [NO_STORE]))),
                lambda error: fail(exchange, error),
            )

        door.who(request, then=guarded(exchange, known), failed=lambda error: fail(exchange, error))

    def _checked(self, exchange: Exchange, channel: str, check: Callable[[dict[str, Any]], T]) -> T | None:
        try:
            return check(schemas.read(exchange.request.body))
        except Refusal as refused:
            self.gate.invalid(exchange, refused, channel)
            return None

    def _offered(self, exchange: Exchange, say: Callable[[list[Offer]], dict[str, Any]]) -> None:
        def told(found: tuple[Actor, list[Offer]]) -> None:
            actor, offers = found
            if actor.token_error is not None:
                raise Refusal(401, actor.token_error, UNUSABLE[actor.token_error])
            exchange.send(json_answer(200, say(offers), [NO_STORE]))

        self.door.offered(
            exchange.request, then=guarded(exchange, told), failed=lambda error: fail(exchange, error)
        )  # fmt: skip


def is_address(path: str) -> bool:
    """Say whether a path is one of ours."""
    return path == "/v1" or path.startswith("/v1/")


def plane_refusal(status: int, why: str) -> Answer:
    """Return what the data plane itself refuses, in the shape that clients here read."""
    code = CODES.get(status, "bad_request" if status < 500 else "unavailable")  # noqa: PLR2004
    retry_after = RETRY_AFTER_S if status >= 500 else None  # noqa: PLR2004
    return Refusal(status, code, why, retry_after=retry_after).answer([NO_STORE])


def _model_json(offer: Offer) -> dict[str, Any]:
    release = offer.release
    return {
        "id": offer.name, "object": "model", "created": int(release.published_at.timestamp()),
        "owned_by": offer.namespace, "license": f"{release.license_slug}/{release.license_number}",
        "revision": release.revision, "allowed": offer.decision.allowed,
    }  # fmt: skip
