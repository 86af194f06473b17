"""A campaign of false news by a dozen accounts, among ten thousand requests of people who mean no harm.

A real portal: data plane, control plane, background work, rules as they are shipped; one of them a moderator lets act.
Only the engine is a stand-in, which costs next to nothing. Accounts write in eight languages, and reword what they ask
for by up to half; one account makes articles from one mold.
"""

import os
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from statistics import quantiles

from portal.core.clock import utcnow
from tests.bench.kit import kit
from tests.campaigning import CLAUSE, MODEL, MOLD, Field
from tests.corpus.prompts import articles, benign, campaign
from tests.running import RunningPortal, free_port, wait_until

BENIGN, PEOPLE, ACCOUNTS, ASKED, ARTICLES = 10_000, 20, 12, 960, 300
PACE = 30  # honest requests a second
BARS = {
    "campaign_case_s": "≤ 60", "campaign_together_s": "≤ 60", "campaign_throttled_s": "≤ 60",
    "benign_cases_per_cent": "≤ 0.1", "look_lag_p95_s": "≤ 5", "look_lag_p99_s": "≤ 30", "campaign_lost": "0",
    "campaign_innocent_together": "0",
}  # fmt: skip


def measure() -> dict[str, float]:
    """Return seconds until cases and a throttle, and the share of honest requests that opened a case, in per cent."""
    kit.build()
    count = int(os.environ.get("BENCH_BENIGN", BENIGN))
    with tempfile.TemporaryDirectory(prefix="portal-campaign-") as folder:
        home, port = Path(folder) / "home", free_port()
        home.mkdir()
        engines = home / "engines.toml"
        engines.write_text(f'[[servers]]\nmodel = "{MODEL}"\nurl = "http://127.0.0.1:{port}"\n')
        engine = kit.spawn([kit.BUILD / "mock_engine", port], kit.LOAD_CORE)
        try:
            with RunningPortal.start(home, PORTAL_ENGINES=str(engines)) as portal:
                on = Field(portal)
                try:
                    return _play(on, count)
                finally:
                    on.close()
        finally:
            kit.stop(engine)


def _play(on: Field, count: int) -> dict[str, float]:
    honest, farm = on.people("honest", PEOPLE), on.people("farm", ACCOUNTS)
    loner = on.people("loner", 1)
    on.enforce(MOLD)
    answers: list[int] = []
    began = time.monotonic()
    crowd = threading.Thread(
        target=lambda: answers.extend(on.ask(honest, [p for _, p in benign(count)], a_second=PACE))
    )
    crowd.start()
    start = utcnow()
    on.ask(farm, [prompt for _, prompt in campaign(ASKED)], a_second=PACE)
    molded = utcnow()
    on.ask(loner, articles(ARTICLES), a_second=PACE)
    first = wait_until(lambda: on.first_case_at(farm, together=False), 120)
    shared = wait_until(lambda: on.first_case_at(farm, together=True), 120)
    throttled = wait_until(lambda: on.throttled_at(loner), 120)
    crowd.join()
    asked_s = time.monotonic() - began
    wait_until(lambda: on.looked(honest, count), 600)
    cited = {key for _, _, clauses in on.cases_about([*farm, *loner]) for key in clauses}
    assert CLAUSE in cited
    assert set(answers) == {200}
    wrong, lags = on.cases_about(honest), quantiles(on.lags(), n=100)
    together = next(people for about, people, _ in on.cases_about(farm) if people)

    innocent = {account.ref for account in honest} & set(together)

    def after(moment: datetime, since: datetime = start) -> float:
        return (moment - since).total_seconds()

    return {
        "campaign_case_s": after(first), "campaign_together_s": after(shared),
        "campaign_accounts_together": len(together), "campaign_innocent_together": len(innocent),
        "campaign_throttled_s": after(throttled, molded),
        "campaign_hit_share": on.hits_of(farm) / ASKED,
        "benign_requests": count, "benign_requests_s": count / asked_s,
        "benign_hits_per_cent": 100 * on.hits_of(honest) / count, "benign_cases_per_cent": 100 * len(wrong) / count,
        "look_lag_p95_s": lags[94], "look_lag_p99_s": lags[98],
        "campaign_lost": on.lost([*honest, *farm, *loner]),
    }  # fmt: skip
