"""Cards taken in from elsewhere, as a reader's browser shows them: readable, and asking nobody else for anything."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser.pages import Visitor, faults_of
from tests.running import ROOT, RunningPortal, wait_until

CARDS = sorted((ROOT / "tests/corpus/cards").glob("*.md"))


class Listener(ThreadingHTTPServer):
    """A web server that only remembers what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        asked = self.asked = []  # type: ignore[var-annotated]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_cards_from_the_wild_ask_no_other_server_for_anything(
    chromium: Any, portal: RunningPortal, listener: Listener, tmp_path: Path
) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 900})
    visitor, faults = Visitor(context.new_page(), portal), []
    elsewhere: list[str] = []
    visitor.page.on("request", lambda request: elsewhere.append(request.url))
    for path in CARDS:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes().replace(b"TRACKER", listener.place.encode()))
        name = f"wild/{path.stem}"
        portal.cli("cards", "import", str(copy), name, "--publish")
        faults += faults_of(visitor.open(f"/{name}"), f"wild-{path.stem}", 360)
        faults += faults_of(visitor.open(f"/{name}/card/1"), f"wild-card-{path.stem}", 360)
    assert faults == []
    assert [url for url in elsewhere if not url.startswith(f"{portal.base_url}/")] == []
    visitor.open("/wild/pictures")
    for words in ("The logo of the lab", "A plot of the loss", "A button", "Light and dark", "Styled words stay."):
        assert words in visitor.words()
    picture = visitor.page.get_by_role("link", name="A plot of the loss")
    assert picture.get_attribute("href") == f"http://{listener.place}/loss.png"
    assert listener.asked == []
    picture.click()  # only a reader who follows a link asks the other server
    wait_until(lambda: listener.asked[:1] == ["/loss.png"])
    context.close()
