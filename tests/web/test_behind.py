"""What the control plane believes of a request: the data plane on its Unix socket, and nobody else."""

from typing import Any

from flask import request

from portal.web.app import request_id
from portal.web.guard import public

SAID = {"HTTP_X_FORWARDED_FOR": "203.0.113.9", "HTTP_X_REQUEST_ID": "req_from_the_plane"}


def seen(app: Any, **environ: str) -> tuple[str, str]:
    """Return the address and the id that a view sees."""
    found: list[tuple[str, str]] = []

    @public
    def look() -> str:
        found.append((request.remote_addr or "", request_id()))
        return "ok"

    app.add_url_rule("/look", "look", look)
    answer = app.test_client().get("/look", environ_overrides={**SAID, **environ})
    assert answer.headers["X-Request-Id"] == found[0][1]
    return found[0]


def test_the_data_plane_says_whose_request_it_is_and_its_id(app: Any) -> None:
    assert seen(app, REMOTE_ADDR="") == ("203.0.113.9", "req_from_the_plane")


def test_whoever_reaches_a_server_otherwise_says_nothing(app: Any) -> None:
    address, name = seen(app, REMOTE_ADDR="198.51.100.7")
    assert address == "198.51.100.7"
    assert name != "req_from_the_plane"
