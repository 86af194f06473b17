"""The gate behind the real server: official clients, clients that leave, and a process that is killed."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest
import sqlalchemy as sa

from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.processes import edge_command
from portal.tokens import service as tokens
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome
from tests.conduct import acting
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
        self.process = subprocess.Popen(edge_command(), env=environ, cwd=ROOT, start_new_session=True)
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
        with suppress(ProcessLookupError):
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
        self.wait_until(lambda: [line["outcome"] for line in self.desk.lines()][-1:] == [outcome])

    def wait_until(self, what: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 60
        while not what():
            assert time.monotonic() < deadline, self.desk.lines()
            time.sleep(0.02)


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
        assert fake.left.wait(60), behave
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
    # What runs is written down some times a second; until then nobody was told anything of it.
    served.wait_until(lambda: {line["id"] for line in served.desk.lines("use_opened")} - set(answered))
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


def test_what_staff_decide_holds_from_the_next_request(served: Served) -> None:
    url = f"{served.settings.base_url}/v1/completions"
    with httpx.Client(timeout=30) as client:
        for number in range(12):
            caller = served.desk.member()

            def end(session: Any, caller: Any = caller, number: int = number) -> None:
                if number % 2:
                    tokens.revoke(session, by=acting(caller.user), ref=caller.token.public_id, now=utcnow())
                    return
                user = session.get_one(User, caller.user.id)
                user.standing, user.standing_until = Standing.SUSPENDED, utcnow() + timedelta(days=1)
                user.standing_ref = "dec_1"

            for _ in range(3):
                assert client.post(url, json=GOOD, headers=caller.headers).status_code == 200
            served.desk.write(end)
            assert client.post(url, json=GOOD, headers=caller.headers).status_code == (401 if number % 2 else 403)


def test_killing_the_server_again_and_again_under_load_loses_nothing(served: Served) -> None:
    url, answered, rows = f"{served.settings.base_url}/v1/completions", set(), {}

    def ask(stream: bool) -> None:
        with suppress(httpx.HTTPError), httpx.Client(timeout=10) as client:
            while True:
                answer = client.post(url, json={**GOOD, "stream": stream}, headers=served.desk.caller.headers)
                assert answer.status_code == 200
                answered.add(answer.headers["x-request-id"])

    for round_ in range(2):
        before = len(answered)
        askers = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(8)]
        for asker in askers:
            asker.start()
        deadline = time.monotonic() + 20
        while len(answered) < before + 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        served.kill()
        for asker in askers:
            asker.join()
        assert len(answered) >= before + 30, f"round {round_}"
        replay(served.desk)
        rows = served.desk.write(
            lambda s: {row.request_id: row.outcome for row in s.scalars(sa.select(UsageRecord))}
        )  # fmt: skip
        assert answered <= rows.keys(), "a record of an answer is missing"
        assert {rows[request_id] for request_id in answered} == {Outcome.FINISHED}
        served.start()
