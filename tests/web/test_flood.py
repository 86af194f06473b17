"""A flood of bad sign-ins, small: it is turned away in good order, and nobody else notices."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from portal.adapters.hashing import IN_ALL, Hasher
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.identity import service
from tests.site import Client, make_app

PASSWORD, WRONG = "four words are fine here", "wrong words all over again"
EMAIL = "known@flood.example"
NETWORKS, EACH, AT_ONCE = 40, 3, 32


class Counted(Hasher):
    """Counts how many checks run at the same time; the first ones wait until enough others stand behind them."""

    def __init__(self) -> None:
        super().__init__(at_once=2)
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.crowd = threading.Event()

    def hold(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.crowd.wait(30)

    def let_go(self) -> None:
        with self.lock:
            self.now -= 1


@pytest.fixture
def flooded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    app = make_app(tmp_path, PORTAL_ENTRIES_PER_MINUTE="30")
    hasher = Counted()
    with transaction(app.engine) as session:
        service.add_verified(
            session, email=EMAIL, password=PASSWORD, name="Known", affiliation="Lab", country="NL", hasher=hasher,
            by=SYSTEM, now=utcnow(),
        )  # fmt: skip
    check = hasher._argon2.verify

    class Slow:
        """The library, which takes as long as the test wants."""

        def __getattr__(self, name: str) -> Any:
            return getattr(library, name)

        def verify(self, digest: str, password: bytes) -> bool:
            hasher.hold()
            try:
                return bool(check(digest, password))
            finally:
                hasher.let_go()

    library = hasher._argon2
    monkeypatch.setattr(hasher, "_argon2", Slow())
    app.extensions["hasher"] = hasher
    yield app
    app.engine.dispose()


@pytest.mark.threat("TM-28")
def test_a_flood_is_turned_away_and_others_read_and_sign_in(flooded: Any) -> None:
    hasher: Counted = flooded.extensions["hasher"]
    visitors = [Client(flooded) for _ in range(AT_ONCE)]
    seen: list[int] = []

    def attempt(number: int) -> None:
        email = EMAIL if number % 2 else f"nobody{number}@flood.example"
        client, value = visitors[number % AT_ONCE], values[number % AT_ONCE]
        answer = client.post(
            "/login", data={"csrf_token": value, "email": email, "password": WRONG},
            environ_overrides={"REMOTE_ADDR": f"20.0.{number % NETWORKS}.9"},
        )  # fmt: skip
        seen.append(answer.status_code)
        if len(seen) == AT_ONCE - IN_ALL:  # nobody else can come in: whoever waits is all who may
            others.append(Client(flooded).get("/licenses/").status_code)
            hasher.crowd.set()

    from tests.web.test_access_generated import value_of

    values = [value_of(client) for client in visitors]
    others: list[int] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(attempt, range(NETWORKS * EACH)))
    assert others == [200], "pages are read while the queue is full"
    counted = Counter(seen)
    assert set(counted) <= {422, 503}
    assert counted[503] >= AT_ONCE - IN_ALL, "who finds the queue full is told at once, and keeps no thread"
    assert counted[422] >= IN_ALL
    assert hasher.most <= 2, "never more digests at once than there are cores for"
    owner = Client(flooded)
    good = owner.submit("/login", email=EMAIL, password=PASSWORD)
    assert (good.status_code, owner.get("/settings/").status_code) == (303, 200), "no flood locks the owner out"
