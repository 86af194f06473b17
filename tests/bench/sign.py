"""How long signing takes, from opening the license to the recorded evidence, then its receipt and the seal."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from portal.adapters import pades, pdf, seal_key
from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from portal.receipts import service as receipts
from portal.signing import service
from tests import conduct, licensed

ROUNDS = 30
RECEIPTS = 5


def measure() -> dict[str, float]:
    """Return medians in milliseconds: a signature with its ceremony on SQLite, its receipt, the seal, its check."""
    load_tables()
    now = utcnow()
    signing, drawing, sealing, checking = [], [], [], []
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
            orders = receipts.pending(session, limit=RECEIPTS)
        seal = seal_key.load_seal(folder=Path(home), file="", passphrase="", name="Portal", now=now)
        for order in orders:
            start = time.perf_counter()
            drawn = pdf.receipt(order.evidence, seal=seal, base_url="https://portal.example", **order.values)
            done = time.perf_counter()
            sealed = pades.seal_pdf(drawn, seal=seal)
            drawing.append(done - start)
            sealing.append(time.perf_counter() - done)
            start = time.perf_counter()
            assert pades.verify(sealed, seal.trusted).holds
            checking.append(time.perf_counter() - start)
        engine.dispose()
    return {
        "sign_ms": median(signing) * 1000, "receipt_ms": median(drawing) * 1000, "seal_ms": median(sealing) * 1000,
        "seal_check_ms": median(checking) * 1000,
    }  # fmt: skip


if __name__ == "__main__":
    print(measure())
