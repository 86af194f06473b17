"""Kills the data plane under load again and again: no answer that a client has whole may lack its record."""

import random
import threading
from typing import Any

import sqlalchemy as sa

from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.edge.journal import JournalReader
from portal.usage import service as usage
from portal.usage.models import UsageRecord
from portal.usage.rules import Line, Outcome
from tests.bench.kit import kit
from tests.bench.stage import Stage, stage

TIMES = 20
CLIENTS = 32
BARS = {"lost_records": "0"}


def entered(on: Stage, engine: sa.Engine) -> int:
    """Enter the journal as the background process does; return how many whole answers are on record."""
    reader = JournalReader(on.settings.folder("journal"))
    while True:
        batch = reader.read()
        with transaction(engine) as session:
            for record in batch.records:
                if record["kind"] != Line.RUNNING:
                    usage.record(session, record=record)
            for run in batch.ended_runs:
                usage.mark_crashed(session, run=run, now=utcnow())
        reader.done(batch)
        if not batch.records and not batch.more:
            break
    with transaction(engine, write=False) as session:
        query = sa.select(sa.func.count()).select_from(UsageRecord).where(UsageRecord.outcome == Outcome.FINISHED)
        return session.scalar(query) or 0


def killed(on: Stage, *, stream: bool) -> int:
    """Kill the data plane at some moment under load; return how many answers clients had whole."""
    process = on.processes["edge"]
    timer = threading.Timer(random.uniform(0.5, 2.0), process.kill)
    timer.start()
    result: dict[str, Any] = on.load(CLIENTS, 3.0, stream=stream)
    timer.join()
    process.wait()
    return int(result["n"])


def measure() -> dict[str, float]:
    """Return how many answers there were in all rounds, and how many of them have no record."""
    answers = lost = 0
    with stage() as on:
        engine = make_engine(on.settings.database_url)
        for number in range(TIMES):
            on.start("edge")
            kit.wait_idle(on.processes["edge"].pid)
            before = entered(on, engine)
            got = killed(on, stream=number % 2 == 1)
            answers += got
            lost += max(0, got - (entered(on, engine) - before))
        engine.dispose()
    return {"kill9_rounds": TIMES, "kill9_answers": answers, "lost_records": lost}
