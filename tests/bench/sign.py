"""How long a signature takes, from opening the license to the recorded evidence, and how long its receipt takes."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from portal.adapters import pdf
from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from portal.signing import service
from tests import conduct, licensed

ROUNDS = 30
RECEIPTS = 5


def measure() -> dict[str, float]:
    """Return medians in milliseconds: a ceremony with signature and commit on SQLite, and a receipt."""
    load_tables()
    now = utcnow()
    signing, drawing = [], []
    with TemporaryDirectory() as home:
        engine = make_engine(f"sqlite:///{Path(home) / 'portal.db'}")
        upgrade(engine)
        with transaction(engine) as session:
            version = licensed.publish(session, now)
            people = [licensed.browsing(conduct.person(session, f"p{n}", now)) for n in range(ROUNDS)]
        for by in people:
            start = time.perf_counter()
            with transaction(engine) as session:
                sitting = licensed.sitting(session, by, version, now)
            with transaction(engine) as session:
                service.sign(session, by=by, version_id=version.id, sitting=sitting, context=licensed.CONTEXT, now=now)
            signing.append(time.perf_counter() - start)
        with transaction(engine, write=False) as session:
            orders = service.pending_receipts(session, limit=RECEIPTS)
        for order in orders:
            start = time.perf_counter()
            pdf.receipt(order.evidence, base_url="https://portal.example", **order.values)
            drawing.append(time.perf_counter() - start)
        engine.dispose()
    return {"sign_ms": median(signing) * 1000, "receipt_ms": median(drawing) * 1000}


if __name__ == "__main__":
    print(measure())
