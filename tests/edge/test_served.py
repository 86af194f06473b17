"""The gate behind the real server: official clients, clients that leave, and a process that is killed."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from portal.core.config import Settings
from portal.processes import web_command
from portal.usage.rules import Outcome
from tests.edge.desk import MODEL, Desk, replay
from tests.fakes import FakeEngine
from tests.running import ROOT, free_port

GOOD = {"model": MODEL, "prompt": "Once", "max_tokens": 8}


@dataclass
class Served:
    """A started server over a desk's database, with an engine of its own."""

    desk: Desk
    settings: Settings
    fake: FakeEngine
    process: Any = None

    def start(self) -> None:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("PORTAL_")}
        environ = {**kept, "PORTAL_HOME": str(self.desk.home), "PORTAL_PORT": str(self.settings.port)}
        self.process = subprocess.Popen(web_command(self.settings), env=environ, cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.settings.base_url}/healthz", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError("the server does not start")

    def kill(self) -> None:
        """Kill the server and its worker at once, as nothing can prepare for."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.settings.base_url}/v1", api_key=self.desk.caller.secret, max_retries=0)

    def raw(self, body: bytes) -> socket.socket:
        """Send a request over a bare connection and leave it open."""
        made = socket.create_connection(("127.0.0.1", self.settings.port), 10)
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.desk.caller.secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.sendall(head.encode() + body)
        return made

    def wait_for(self, outcome: str) -> None:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if [line["outcome"] for line in self.desk.lines()][-1:] == [outcome]:
                return
            time.sleep(0.02)
        raise AssertionError(self.desk.lines())


@pytest.fixture
def served(desk: Desk) -> Iterator[Served]:
    settings = Settings.from_env({"PORTAL_HOME": str(desk.home), "PORTAL_PORT": str(free_port())})
    settings.engine_socket.parent.mkdir(parents=True, exist_ok=True)
    made = Served(desk, settings, FakeEngine(settings.engine_socket, (MODEL,)).start())
    made.start()
    yield made
    made.kill()
    made.fake.stop()


def test_the_whole_way_behind_the_real_server(served: Served) -> None:
    client, fake = served.client, served.fake
    assert [model.id for model in client.models.list()] == [MODEL, "noise/model"]
    assert client.models.retrieve(MODEL).id == MODEL
    done = client.completions.create(model=MODEL, prompt="Once", max_tokens=8)
    assert (done.choices[0].text, done.usage.total_tokens) == ("once upon a time", 11)
    stream = client.completions.create(model=MODEL, prompt="Once", stream=True, stream_options={"include_usage": True})
    *parts, counts = list(stream)
    assert "".join(part.choices[0].text for part in parts) == "once upon a time"
    assert counts.usage.completion_tokens == 4
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model=MODEL, prompt="Once", max_tokens=-1)
    assert bad.value.param == "max_tokens"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="lab/absent", prompt="Once")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="lmp_wrong").completions.create(model=MODEL, prompt="Once")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])

    # A client that closes its connection stops the engine, streamed or not, also while nothing comes.
    for behave, body in (("stall", b', "stream": true'), ("silent", b""), ("silent", b', "stream": true')):
        fake.behave = behave
        fake.left.clear()
        connection = served.raw(b'{"model": "lab/tiny", "prompt": "x"' + body + b"}")
        while len(fake.calls) == 0 or fake.calls[-1]["prompt"] != "x":
            time.sleep(0.01)
        fake.calls.clear()
        time.sleep(0.1)
        connection.close()
        assert fake.left.wait(3), behave
        served.wait_for("canceled")

    fake.behave = "die"
    with pytest.raises(openai.APIError, match="went away"):
        list(client.completions.create(model=MODEL, prompt="Once", stream=True))


def test_killing_the_server_loses_no_answered_request(served: Served) -> None:
    answered = [httpx.post(
        f"{served.settings.base_url}/v1/completions", json=GOOD, headers=served.desk.caller.headers
    ).headers["x-request-id"] for _ in range(5)]  # fmt: skip
    served.fake.behave = "stall"
    connection = served.raw(b'{"model": "lab/tiny", "prompt": "x", "stream": true}')
    assert b"200 OK" in connection.recv(1000)
    served.kill()
    rows = {row.request_id: row.outcome for row in replay(served.desk)}
    assert [rows.pop(request_id) for request_id in answered] == [Outcome.FINISHED] * 5
    assert list(rows.values()) == [Outcome.CRASHED]
    assert list((served.desk.home / "journal").iterdir()) == []
    connection.close()
    served.fake.behave = "answer"
    served.start()
    done = served.client.completions.create(model=MODEL, prompt="Once", max_tokens=8)
    assert done.choices[0].text == "once upon a time"
