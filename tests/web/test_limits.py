"""How many requests are taken of one caller, and how each channel says that it is enough."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.tokens import service as tokens
from tests import conduct
from tests.factories import Make
from tests.site import Client, make_app, text_of


@pytest.fixture
def limited(tmp_path: Path) -> Any:
    """Builds an app that takes few requests, in which a minute never passes."""
    app = make_app(tmp_path, PORTAL_ENTRIES_PER_MINUTE="3", PORTAL_PAGES_PER_MINUTE="20", PORTAL_CALLS_PER_MINUTE="5")
    yield app
    app.engine.dispose()


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass for the window."""
    import time

    from limits.storage import memory

    at = time.time()

    class Clock:
        """A clock that stands."""

        time = staticmethod(lambda: at)

        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

    monkeypatch.setattr(memory, "time", Clock())


def until_refused(ask: Callable[[], Any], most: int = 100) -> tuple[int, Any]:
    """Ask until it is too much; return how often it was taken, and the answer that says so."""
    for taken in range(most):
        answer = ask()
        if answer.status_code == 429:
            return taken, answer
    raise AssertionError("never refused")


@pytest.mark.usefixtures("still")
@pytest.mark.threat("TM-28")
def test_attempts_to_get_in_are_counted_by_neighborhood_whoever_is_meant(limited: Any) -> None:
    clients = [Client(limited) for _ in range(2)]
    names = iter(range(100))

    def attempt() -> Any:
        n = next(names)
        return clients[n % 2].submit("/login", email=f"p{n}@limits.example", password="wrong words all over")

    taken, answer = until_refused(attempt)
    assert taken == 3
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert "too many requests" in text_of(answer)
    # Others, elsewhere, are not held up; nor is reading.
    elsewhere = {"REMOTE_ADDR": "198.51.100.7"}
    page = clients[0].http.get("/login", environ_overrides=elsewhere)
    assert page.status_code == 200
    assert clients[0].get("/login").status_code == 200
    near = clients[0].post("/reset", environ_overrides={"REMOTE_ADDR": "127.0.0.77"})
    assert near.status_code == 429


@pytest.mark.usefixtures("still")
def test_pages_are_counted_by_person_and_calls_by_access_token(limited: Any) -> None:
    with transaction(limited.engine) as session:
        make = Make(session, utcnow())
        ann, bob = make.person("ann"), make.person("bob")
        secrets = [
            tokens.issue(
                session, by=conduct.acting(ann), owner_id=ann.id, name=f"t{n}", scopes=["inference"], model_ids=[],
                days=30, pepper=limited.settings.pepper, now=utcnow() - timedelta(days=1),
            )[1]
            for n in range(2)
        ]  # fmt: skip
        make.release(make.model("lab/model"))
    browsers = [Client(limited).sign_in(ann), Client(limited).sign_in(ann)]
    turn = iter(range(1000))
    taken, answer = until_refused(lambda: browsers[next(turn) % 2].get("/settings/"))
    assert taken == 20
    assert "too many requests" in text_of(answer)
    assert Client(limited).sign_in(bob).get("/settings/").status_code == 200

    def call(secret: str, path: str = "/api/whoami-v2") -> Any:
        return limited.test_client().get(path, headers={"Authorization": f"Bearer {secret}"})

    taken, answer = until_refused(lambda: call(secrets[0]))
    assert taken == 5
    # What Hub clients read of it: whole seconds, and the field that they wait by.
    wait = answer.headers["Retry-After"]
    assert answer.headers["RateLimit"] == f'"resolvers";r=0;t={wait}'
    assert call(secrets[1]).status_code == 200
    # Clients give up at once where a model is described, so that is never refused for being asked.
    assert {call(secrets[0], "/api/models/lab/model").status_code for _ in range(10)} == {200}
    problem = call(secrets[0], "/api/usage")
    assert (problem.status_code, problem.get_json()["code"]) == (429, "requests_too_many")
    assert problem.headers["RateLimit"] == f'"requests_too_many";r=0;t={problem.headers["Retry-After"]}'
