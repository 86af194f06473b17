"""The engine's HTTP: OpenAI-shaped completions of one model, as a plain ASGI application on a Unix socket or a port.

python -m gated_inference.engine.server --model DIR --name NAME --uds SOCKET
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from gated_inference.engine.batcher import Batcher, Failure, Full, Job, Piece
from gated_inference.engine.bodies import (
    Ask,
    Limits,
    Refusal,
    check,
    check_length,
    choice_of,
    parse,
    usage_of,
)
from gated_inference.engine.text import Vocabulary

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Inbox = asyncio.Queue[list[Piece] | Failure | None]

MAX_BODY = 1024 * 1024
# Longer texts are tokenized in a thread, so that streams keep moving meanwhile.
LONG_TEXT = 4096
BOS = 1
EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}


class Gone(Exception):
    """The caller hung up."""


class Engine:
    """One model's HTTP interface."""

    def __init__(self, batcher: Batcher, vocabulary: Vocabulary, limits: Limits) -> None:
        self.batcher, self.vocabulary, self.limits = batcher, vocabulary, limits
        self.started = int(time.time())
        model = f"/v1/models/{limits.name}"
        self.routes: dict[str, tuple[str, Callable[[Receive, Send], Awaitable[None]]]] = {
            "/health": ("GET", self.health),
            "/stats": ("GET", self.stats),
            "/v1/models": ("GET", self.models),
            model: ("GET", self.model),
            "/v1/completions": ("POST", self.completions),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        try:
            method, handler = self.routes.get(scope["path"], ("", None))
            if handler is None:
                raise Refusal("There is nothing at this address", status=404, code="not_found")
            if scope["method"] != method:
                raise Refusal(f"Only {method} is answered here", status=405, code="method_not_allowed")
            await handler(receive, send)
        except Refusal as refusal:
            await answer(send, refusal.body(), status=refusal.status, headers=refusal.headers)
        except Gone:
            pass

    async def health(self, _: Receive, send: Send) -> None:
        """Say whether the model works."""
        failed = self.batcher.failed
        body = {"status": "failed" if failed else "ok", "model": self.limits.name, **self.batcher.stats()}
        await answer(send, body, status=503 if failed else 200)

    async def stats(self, _: Receive, send: Send) -> None:
        """Count rows, steps and tokens."""
        await answer(send, self.batcher.stats())

    def described(self) -> dict[str, Any]:
        name, longest = self.limits.name, self.limits.max_context
        return {
            "id": name, "object": "model", "created": self.started, "owned_by": "engine", "max_model_len": longest
        }  # fmt: skip

    async def models(self, _: Receive, send: Send) -> None:
        """List the one model."""
        await answer(send, {"object": "list", "data": [self.described()]})

    async def model(self, _: Receive, send: Send) -> None:
        """Describe the one model."""
        await answer(send, self.described())

    async def completions(self, receive: Receive, send: Send) -> None:
        """Continue one or several prompts."""
        ask = check(parse(await read_body(receive)), self.limits)
        inbox: Inbox = asyncio.Queue()
        jobs = await self.jobs(ask, inbox)
        try:
            self.batcher.submit(jobs)
        except Full:
            refusal = Refusal("The engine is full; try again in a moment", status=429, code="queue_full")
            refusal.headers = {"retry-after": "1"}
            raise refusal from None
        watch = asyncio.create_task(hang_up(receive, inbox))
        prompt_tokens = sum(len(job.prompt) for job in jobs)
        try:
            if ask.stream:
                await self.stream(send, ask, inbox, prompt_tokens)
            else:
                await self.whole(send, ask, inbox, prompt_tokens)
        finally:
            watch.cancel()
            for job in jobs:
                job.cancelled = True

    async def jobs(self, ask: Ask, inbox: Inbox) -> list[Job]:
        """Return one job for each prompt. An empty text is read as `<s>`, the beginning of any text."""
        loop = asyncio.get_running_loop()

        def deliver(pieces: list[Piece] | Failure) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(inbox.put_nowait, pieces)

        jobs = []
        for place, prompt in enumerate(ask.prompts):
            ids: list[int] = prompt if isinstance(prompt, list) else await self.encoded(prompt) or [BOS]
            check_length(ids, ask, self.limits)
            jobs.append(
                Job(
                    prompt=ids, max_tokens=ask.max_tokens, deliver=deliver, sampling=ask.sampling, choices=ask.choices,
                    first=place * ask.choices, logprobs=ask.logprobs, stops=ask.stops, ignore_eos=ask.ignore_eos,
                )
            )  # fmt: skip
        return jobs

    async def encoded(self, prompt: str) -> list[int]:
        """Return the token ids of a text."""
        if len(prompt) < LONG_TEXT:
            return self.vocabulary.encode(prompt)
        return await asyncio.to_thread(self.vocabulary.encode, prompt)

    def frame(self) -> dict[str, Any]:
        """Return what an answer and all its chunks have in common."""
        return {
            "id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": int(time.time()),
            "model": self.limits.name,
        }  # fmt: skip

    async def whole(self, send: Send, ask: Ask, inbox: Inbox, prompt_tokens: int) -> None:
        """Answer when everything is there."""
        found: dict[int, list[Piece]] = {}
        async for pieces in arriving(inbox, len(ask.prompts) * ask.choices):
            for piece in pieces:
                found.setdefault(piece.choice, []).append(piece)
        choices = [
            Piece(
                choice=choice, text="".join(piece.text for piece in parts), sampled=sum(part.sampled for part in parts),
                entries=[entry for part in parts for entry in part.entries], finish=parts[-1].finish,
            )
            for choice, parts in sorted(found.items())
        ]  # fmt: skip
        body = self.frame() | {
            "choices": [choice_of(choice, ask) for choice in choices],
            "usage": usage_of(prompt_tokens, sum(choice.sampled for choice in choices)),
        }
        await answer(send, body)

    async def stream(self, send: Send, ask: Ask, inbox: Inbox, prompt_tokens: int) -> None:
        """Answer piece by piece, as events; the head waits for the first piece, so that refusals stay refusals."""
        frame = self.frame() | ({"usage": None} if ask.include_usage else {})
        begun, completion_tokens = False, 0
        try:
            async for pieces in arriving(inbox, len(ask.prompts) * ask.choices):
                if not begun:
                    await start(send, 200, EVENTS)
                    begun = True
                completion_tokens += sum(piece.sampled for piece in pieces)
                events = [event(frame | {"choices": [choice_of(piece, ask)]}) for piece in pieces]
                await send({"type": "http.response.body", "body": b"".join(events), "more_body": True})
        except Refusal as refusal:
            if not begun:
                raise
            await send({"type": "http.response.body", "body": event(refusal.body())})
            return
        last = event(frame | {"choices": [], "usage": usage_of(prompt_tokens, completion_tokens)})
        await send({"type": "http.response.body", "body": (last if ask.include_usage else b"") + b"data: [DONE]\n\n"})


async def arriving(inbox: Inbox, choices: int) -> AsyncIterator[list[Piece]]:
    """Yield what the batcher delivers, until every choice has ended.

    Raises:
        Refusal: the job waited too long, or the engine failed.
        Gone: the caller hung up.
    """
    while choices:
        item = await inbox.get()
        if item is None:
            raise Gone
        if isinstance(item, Failure):
            message = {"overloaded": "The engine is too busy; try again later"}.get(item.code, "The engine stopped")
            refusal = Refusal(message, status=503, code=item.code)
            refusal.headers = {"retry-after": "5"}
            raise refusal
        choices -= sum(piece.finish is not None for piece in item)
        yield item


async def hang_up(receive: Receive, inbox: Inbox) -> None:
    """Wait until the caller leaves, then say so where the answer is awaited."""
    while (await receive())["type"] != "http.disconnect":
        pass
    inbox.put_nowait(None)


async def read_body(receive: Receive) -> bytes:
    """Return a request's body, up to 1 MiB."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise Refusal("The body is larger than 1 MiB", status=413, code="body_too_large")
        if not message.get("more_body", False):
            return b"".join(parts)


def event(body: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


async def start(send: Send, status: int, headers: dict[str, str]) -> None:
    """Send the head of an answer."""
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def answer(send: Send, body: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> None:
    """Send a whole JSON answer."""
    data = json.dumps(body, separators=(",", ":")).encode()
    framing = {"content-type": "application/json", "content-length": str(len(data))}
    await start(send, status, framing | (headers or {}))
    await send({"type": "http.response.body", "body": data})


if __name__ == "__main__":
    from gated_inference.engine.serve import main

    main()
