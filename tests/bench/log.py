"""What the log costs with many entries: giving an event its place, its root, and both kinds of proof."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from portal.adapters.signing_key import open_key
from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from portal.proofs import service
from portal.proofs.models import Leaf

SIZES = {"": 100_000, "_1e6": 1_000_000}
TIMES = 200


def measure() -> dict[str, float]:
    """Return microseconds for a log of 100,000 entries and, with names that end in 1e6, for one of a million."""
    load_tables()
    return {f"log_{name}{end}_us": value for end, size in SIZES.items() for name, value in _measure(size).items()}


def _measure(size: int) -> dict[str, float]:
    """Return microseconds: an entry numbered with commit while the log grows, the root, and one proof of each kind."""
    with TemporaryDirectory() as home:
        engine = make_engine(f"sqlite:///{Path(home) / 'portal.db'}")
        upgrade(engine)
        key, rng = open_key(Path(home)), random.Random(1)
        for start in range(0, size, 100_000):
            with transaction(engine) as session:
                rows = [
                    {"event_ref": f"evt_{n}", "commitment": rng.randbytes(32)} for n in range(start, start + 100_000)
                ]
                session.execute(sa.insert(Leaf), rows)
        began, more = time.perf_counter(), True
        while more:
            with transaction(engine) as session:
                more = service.number_pending(session)
        append = (time.perf_counter() - began) / size
        with transaction(engine) as session:
            head = service.advance(session, key=key, origin="portal.example", kept=None, now=utcnow()).note or b""

        def timed(act: Callable[[Any, int], object]) -> float:
            taken = []
            with transaction(engine, write=False) as session:
                for _ in range(TIMES):
                    place = rng.randrange(size)
                    start = time.perf_counter()
                    act(session, place)
                    taken.append(time.perf_counter() - start)
            return median(taken)

        found = {
            "append": append,
            "root": timed(lambda session, _: service.root(session, at=size)),
            "proof": timed(lambda s, n: service.proof_of(s, event_ref=f"evt_{n}", size=size, note=head)),
            "consistency": timed(lambda session, old: service.consistency(session, old=old + 1, new=size)),
        }
        engine.dispose()
    return {name: value * 1e6 for name, value in found.items()}


if __name__ == "__main__":
    print(measure())
