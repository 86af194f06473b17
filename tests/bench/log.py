"""What the log costs with many entries: giving an event its place, and proving that it has one."""

import random
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from portal.adapters.signing_key import open_key
from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from portal.proofs import service
from portal.proofs.models import Leaf

ENTRIES = 100_000
PROOFS = 200


def measure() -> dict[str, float]:
    """Return microseconds: an entry numbered, with commit, while the log grows to 100,000, and one proof from it."""
    load_tables()
    with TemporaryDirectory() as home:
        engine = make_engine(f"sqlite:///{Path(home) / 'portal.db'}")
        upgrade(engine)
        key, rng = open_key(Path(home)), random.Random(1)
        with transaction(engine) as session:
            rows = [{"event_ref": f"evt_{n}", "commitment": rng.randbytes(32)} for n in range(ENTRIES)]
            session.execute(sa.insert(Leaf), rows)
        start, more = time.perf_counter(), True
        while more:
            with transaction(engine) as session:
                more = service.number_pending(session)
        append = (time.perf_counter() - start) / ENTRIES
        with transaction(engine) as session:
            service.advance(session, key=key, origin="portal.example", kept=None, now=utcnow())
        proving = []
        for _ in range(PROOFS):
            ref = f"evt_{rng.randrange(ENTRIES)}"
            start = time.perf_counter()
            with transaction(engine, write=False) as session:
                service.proof_of(session, event_ref=ref)
            proving.append(time.perf_counter() - start)
        engine.dispose()
    return {"log_append_us": append * 1e6, "log_proof_us": median(proving) * 1e6}


if __name__ == "__main__":
    print(measure())
