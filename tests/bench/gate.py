"""How long the decision takes: alone on facts, at the door from memory, and with the facts loaded from SQLite."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from portal.access.edge import Admission, Door
from portal.access.rules import Action, Facts, Follows, Grace, RequirementFact, decide
from portal.core.change import watch
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.edge.fresh import Fresh
from portal.edge.routes import Request
from portal.edge.threads import Threads
from portal.licensing.rules import Materiality, SignatureFact, VersionFact
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from portal.usage.rules import Counters, Limits, Used
from tests.factories import Make

ROUNDS = 5


def _us(work: Callable[[], object], times: int) -> float:
    """The least of a few rounds, in microseconds a call: what disturbs a round only makes it longer."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            work()
        best = min(best, time.perf_counter() - began)
    return best / times * 1e6


def realistic_facts() -> Facts:
    """A member with an access token, who signed the second of three versions of the one license that is asked for."""
    now = utcnow()
    versions = tuple(
        VersionFact(
            n, f"1.{n}.0", n, Materiality.MATERIAL, now - timedelta(days=300 - n), now - timedelta(days=200 - n)
        )
        for n in range(3)
    )
    requirement = RequirementFact(
        slug="bloom-rail", title="BLOOM RAIL", follows=Follows.LICENSE, grace=Grace.STANDARD, pinned="1.2.0",
        versions=versions, signatures=(SignatureFact(5, "sig_x", 2, 2),),
    )  # fmt: skip
    return Facts(
        base_url="https://portal.example", model_name="lab/bloom", signed_in=True, verified=True, token_used=True,
        token_scopes=frozenset({"inference"}), requirements=(requirement,), limits=Limits(), used=Used(10, 900),
    )  # fmt: skip


def _door(home: Path) -> tuple[Door, Threads, Request]:
    settings = Settings.from_env({"PORTAL_HOME": str(home)})
    engine = make_engine(settings.database_url)
    upgrade(engine)
    with transaction(engine) as session:
        make = Make(session, utcnow())
        make.noise()
        make.release(make.model("lab/tiny"))
        user = make.person()
        make.sign(user)
        from portal.tokens import service as tokens
        from tests.conduct import acting

        _, secret = tokens.issue(
            session, by=acting(user), owner_id=user.id, name="bench", scopes=["inference"], model_ids=[], days=30,
            pepper=settings.pepper, now=utcnow(),
        )  # fmt: skip
    threads = Threads(1)
    door = Door(Fresh(engine, watch(engine), threads), settings, Counters())
    return door, threads, Request("POST", "/", headers={"authorization": f"Bearer {secret}"})


def _taken(_said: object) -> None:
    pass


def _loaded(door: Door, request: Request, admission: Admission) -> None:
    with transaction(door.fresh.engine, write=False) as session:
        door._decide(session, door.identify(session, request), admission.key)


def measure() -> dict[str, float]:
    """Return `decide_us`; `admit_us` from memory, if nothing changed; `admit_load_us` from the database."""
    facts, now = realistic_facts(), utcnow()
    assert decide(facts, Action.INFER, now).allowed
    load_tables()
    with tempfile.TemporaryDirectory() as home:
        door, threads, request = _door(Path(home))
        asked: dict[str, Any] = {"model": "lab/tiny", "action": Action.INFER}

        async def admit() -> Admission:
            known = asyncio.get_running_loop().create_future()
            door.admit(request, **asked, then=known.set_result, failed=known.set_exception)
            return await known

        admission = asyncio.run(admit())
        assert admission.decision.allowed
        figures = {
            "decide_us": _us(lambda: decide(facts, Action.INFER, now), 2_000),
            "admit_us": _us(lambda: door.admit(request, **asked, then=_taken, failed=_taken), 2_000),
            "admit_load_us": _us(lambda: _loaded(door, request, admission), 50),
        }
        door.fresh.watch.close()
        threads.close()
        door.fresh.engine.dispose()
    return figures
