"""What a sign-in costs, and how much of it is the password's digest."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from portal.adapters.hashing import Hasher
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.identity import service
from portal.logins.rules import new_secret
from portal.migrations import upgrade

TIMES = 40
EMAIL, PASSWORD, PEPPER = "bench@portal.example", "four words are fine", b"p" * 32


class Timed(Hasher):
    """A hasher that remembers how long its checks took."""

    spent = 0.0

    def verify(self, digest: str, password: str) -> bool:
        began = time.perf_counter()
        try:
            return super().verify(digest, password)
        finally:
            self.spent += time.perf_counter() - began


def measure() -> dict[str, float]:
    """Sign somebody in again and again on SQLite, in the two transactions that the page uses."""
    totals, shares, hasher = [], [], Timed()
    with TemporaryDirectory() as folder:
        engine = make_engine(f"sqlite:///{Path(folder) / 'portal.db'}")
        upgrade(engine)
        with transaction(engine) as session:
            service.add_verified(
                session, email=EMAIL, password=PASSWORD, name="Bench", affiliation="Lab", country="NL", hasher=hasher,
                by=SYSTEM, now=utcnow(),
            )  # fmt: skip
        for _ in range(TIMES):
            hasher.spent, began = 0.0, time.perf_counter()
            with transaction(engine, write=False) as session:
                proof = service.prove(
                    session, email=EMAIL, password=PASSWORD, network="", hasher=hasher, pepper=PEPPER, now=utcnow()
                )
            with transaction(engine) as session:
                service.sign_in(
                    session, proof=proof, reference=new_secret(), user_agent="", pepper=PEPPER, now=utcnow()
                )
            totals.append(time.perf_counter() - began)
            shares.append(hasher.spent / totals[-1])
        engine.dispose()
    return {"sign_in_ms": median(totals) * 1000, "sign_in_hash_share": median(shares)}
