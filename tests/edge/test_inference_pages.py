"""Completions for people on pages: the same gate, asked over a Unix socket."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gated_inference.engines import FAILURES
from gated_inference.page import Inside, Outlook
from portal.core.errors import Unavailable
from portal.edge.plane import Plane
from portal.edge.routes import Routes
from portal.usage.rules import Used
from tests.edge.desk import MODEL, Desk


class Page:
    """Asks the desk as a page does: over a Unix socket, from a thread."""

    def __init__(self, desk: Desk, inside: Inside) -> None:
        self.desk, self.inside = desk, inside

    def do(self, work: Callable[[], Any]) -> Any:
        done: list[Any] = []
        threading.Thread(target=lambda: done.append(work())).start()
        return self.desk.looping.until(lambda: done)[0]

    def __call__(self, **changed: Any) -> Any:
        known = {"model": MODEL, "prompt": "Once", "max_tokens": 8, "temperature": 0.7, "request_id": "req_page"}
        return self.do(lambda: self.inside.complete(self.desk.actor(), **{**known, **changed}))

    def outlook(self) -> Any:
        return self.do(lambda: self.inside.outlook(self.desk.actor(), model=MODEL, request_id="req_page"))


@pytest.fixture
def page(desk: Desk, tmp_path: Path) -> Iterator[Page]:
    """A page that asks the desk."""
    routes = Routes()
    desk.inference.register_inside(routes)
    plane = desk.looping.do(lambda: Plane(Routes()))
    desk.looping.loop.run_until_complete(plane.listen_inside(tmp_path / "edge.sock", routes))
    yield Page(desk, Inside(tmp_path / "edge.sock"))
    desk.looping.loop.run_until_complete(plane.stop(0))


def test_the_page_goes_through_the_same_gate(desk: Desk, page: Page, tmp_path: Path) -> None:
    assert (tmp_path / "edge.sock").stat().st_mode & 0o777 == 0o600
    done = page()
    assert (done.status, done.error, done.text) == (200, "", "once upon a time")
    assert (done.prompt_tokens, done.completion_tokens) == (7, 4)
    line = desk.only()
    assert (line["channel"], line["id"], line["access_token_id"]) == ("page", "req_page", None)
    assert line["user_id"] == desk.caller.user.id
    refused = page(model="lab/absent")
    assert (refused.status, refused.reasons[0].code, refused.reasons[0].state) == (404, "model_not_found", "unmet")
    assert refused.error
    assert refused.reasons[0].url == refused.reasons[0].remedy_url
    desk.fake.stop()
    assert page().status == 503


def test_a_page_is_told_how_the_engines_do(page: Page, tmp_path: Path) -> None:
    page()
    pool = page.do(page.inside.engines)
    (server,) = pool.servers
    assert (server.title, server.models, server.running, server.healthy) == ("embedded", (MODEL,), 0, True)
    assert pool.waiting == {}
    assert Inside(tmp_path / "nobody.sock").engines() is None


def test_a_page_is_told_when_nothing_can_be_recorded(desk: Desk, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_records: Any) -> None:
        raise Unavailable("journal_unwritable", "full")

    monkeypatch.setattr(desk.written, "put", full)
    assert (page().status, page().error) == (503, "full")


def test_a_page_is_told_when_the_data_plane_is_away(desk: Desk, tmp_path: Path) -> None:
    done = Inside(tmp_path / "nobody.sock").complete(
        desk.actor(), model=MODEL, prompt="x", max_tokens=1, temperature=0.0, request_id="req_1"
    )
    assert done.status == 503
    assert "does not answer" in done.error
    assert Inside(tmp_path / "nobody.sock").outlook(desk.actor(), model=MODEL, request_id="req_1") is None


def test_a_page_is_told_what_was_used_and_whether_an_engine_answers(desk: Desk, page: Page) -> None:
    assert page.outlook() == Outlook(Used(0, 0), answers=True)
    page()
    assert page.outlook().used == Used(1, 11)
    desk.inference.gate.pool.engines[0].failures = FAILURES
    assert not page.outlook().answers
