"""The data plane of a portal, on a loop of its own in a thread; the control plane is whatever a test has."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvloop

from portal.core.config import Settings
from portal.edge.plane import bind
from portal.main_edge import Edge


@contextmanager
def data_plane(settings: Settings) -> Iterator[httpx.Client]:
    """Start the data plane over a portal's home, and give a client of it."""
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    loop = uvloop.new_event_loop()
    begun, end = threading.Event(), asyncio.Event()

    async def run() -> None:
        edge = Edge(settings)
        plane = await edge.start(sock)
        begun.set()
        await end.wait()
        await plane.stop(0)
        edge.close()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(run()), loop.close()))
    thread.start()
    assert begun.wait(20), "the data plane does not start"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client
    loop.call_soon_threadsafe(end.set)
    thread.join(20)


class Told:
    """An answer of the data plane, read as answers of the control plane are."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status_code, self.headers, self.data = answer.status_code, answer.headers, answer.content

    def get_data(self, *, as_text: bool = False) -> str | bytes:
        return self.data.decode() if as_text else self.data

    def get_json(self) -> Any:
        return json.loads(self.data)


def ask_either(site_client: Any, plane: httpx.Client, path: str, *, method: str = "GET", **kept: Any) -> Any:
    """Ask the plane that answers an address, as the one port of a portal does."""
    if "/resolve/" in path or path == "/readyz":
        return Told(plane.request(method, path, **kept))
    return site_client.http.open(path, method=method, **kept)
