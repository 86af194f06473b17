"""Ten thousand bad sign-ins from a thousand addresses: what they cost everybody else, and what they tell.

A whole portal runs; a proxy that it trusts says from where each request comes. Whoever attacks keeps 32 requests under
way from a process of its own; meanwhile somebody reads pages and somebody else signs in, elsewhere. Enumeration is the
difference of medians between addresses with and without an account, one request at a time, without a flood.
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from portal.adapters.hashing import Hasher
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.identity import service
from tests.running import RunningPortal

ATTEMPTS, ADDRESSES, AT_ONCE, PEOPLE, READS, ASKED = 10_000, 1_000, 32, 60, 200, 40
PASSWORD, WRONG = "four words are fine here", "wrong words all over again"
BARS = {
    "flood_pages_p95_ratio": "< 2", "flood_sign_ins_per_s": ">= 20", "enumeration_login_ms": "< 5",
    "enumeration_reset_ms": "< 5", "enumeration_signup_ms": "< 5",
}  # fmt: skip
Seen = list[tuple[int, float]]


@dataclass(frozen=True)
class Visitor:
    """Somebody at a browser, who may come from anywhere: a proxy says from where."""

    port: int
    cookie: str = ""
    value: str = ""

    @classmethod
    def arrive(cls, port: int) -> "Visitor":
        """Open the page with the form, and take its value along."""
        link = HTTPConnection("127.0.0.1", port, timeout=60)
        link.request("GET", "/login", headers={"X-Forwarded-For": "198.51.100.1"})
        answer = link.getresponse()
        page = answer.read().decode()
        cookies = [value.partition(";")[0] for name, value in answer.getheaders() if name.lower() == "set-cookie"]
        return cls(port, "; ".join(cookies), unescape(re.findall(r'name="csrf_token" value="([^"]*)"', page)[0]))

    def send(self, path: str, network: int, **fields: str) -> tuple[int, float]:
        """Send a form from some network; return the status and the seconds that it took."""
        return self._ask("POST", path, network, urlencode({"csrf_token": self.value, **fields}))

    def read(self, path: str) -> tuple[int, float]:
        """Read a page."""
        return self._ask("GET", path, 0, "")

    def _ask(self, method: str, path: str, network: int, body: str) -> tuple[int, float]:
        link = HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"X-Forwarded-For": f"20.{network // 256}.{network % 256}.9", "Cookie": self.cookie}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        began = time.perf_counter()
        link.request(method, path, body or None, headers)
        answer = link.getresponse()
        answer.read()
        link.close()
        return answer.status, time.perf_counter() - began


def attack(visitor: Visitor, attempts: int, addresses: int) -> Seen:
    """Try passwords from everywhere, half of them of people who have an account."""

    def attempt(number: int) -> tuple[int, float]:
        email = f"known{number % PEOPLE}@flood.example" if number % 2 else f"nobody{number}@flood.example"
        return visitor.send("/login", 1 + number % addresses, email=email, password=WRONG)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(attempt, range(attempts)))


def meanwhile(visitor: Visitor, ended: Callable[[], bool], reads: int) -> list[float]:
    """Read pages at a reader's pace, at least so many, until something has ended."""
    took = []
    while len(took) < reads or not ended():
        status, seconds = visitor.read("/licenses/bloom-rail/1.1.0")
        assert status == 200
        took.append(seconds)
        time.sleep(0.05)
    return took


def p95(values: list[float]) -> float:
    """Return the value below which 95 of 100 lie."""
    return quantiles(values, n=20)[-1]


def people(settings: Settings) -> None:
    """Open accounts whose passwords are known here alone."""
    engine, hasher = make_engine(settings.database_url), Hasher()
    with transaction(engine) as session:
        for number in range(PEOPLE):
            service.add_verified(
                session, email=f"known{number}@flood.example", password=PASSWORD, name=f"Known {number}",
                affiliation="Lab", country="NL", hasher=hasher, by=SYSTEM, now=utcnow(),
            )  # fmt: skip
    engine.dispose()


def enumeration(visitor: Visitor) -> dict[str, float]:
    """Return how much longer or shorter an answer takes where there is an account, in milliseconds of the medians."""
    about = {"password": PASSWORD, "name": "New", "affiliation": "Lab", "country": "NL"}
    forms: dict[str, dict[str, str]] = {"login": {"password": WRONG}, "reset": {}, "signup": about}
    found = {}
    for at, (form, fields) in enumerate(forms.items()):
        took: dict[str, list[float]] = {"known": [], "nobody": []}
        for number in range(ASKED):
            for turn, kind in enumerate(took if number % 2 else reversed(took)):
                email = f"{kind}{number if kind == 'known' else f'{form}{number}'}@flood.example"
                network = 5_000 + 1_000 * at + 2 * number + turn
                took[kind].append(visitor.send(f"/{form}", network, email=email, **fields)[1])
        found[f"enumeration_{form}_ms"] = abs(median(took["known"]) - median(took["nobody"])) * 1000
    return found


def flood(port: int, attempts: int, addresses: int, reads: int) -> dict[str, float]:
    """Return what a flood does to those who read and those who sign in, and what becomes of the attempts."""
    visitor = Visitor.arrive(port)
    calm = meanwhile(visitor, lambda: True, reads)
    with ProcessPoolExecutor(1) as other:
        began = time.monotonic()
        work: Future[Seen] = other.submit(attack, visitor, attempts, addresses)
        busy = meanwhile(visitor, work.done, reads)
        took, seen = time.monotonic() - began, work.result()
    counted = Counter(status for status, _ in seen)
    checked = [seconds for status, seconds in seen if status == 422]
    strange = set(counted) - {422, 429, 503}
    if strange:
        raise SystemExit(f"a flood was answered with {strange}")
    return {
        "flood_sign_ins_per_s": len(checked) / took, "flood_checked_share": len(checked) / len(seen),
        "flood_turned_away_share": counted[503] / len(seen), "flood_delayed_share": counted[429] / len(seen),
        "flood_check_p95_ms": p95(checked) * 1000, "flood_pages_p95_ms": p95(busy) * 1000,
        "flood_pages_calm_p95_ms": p95(calm) * 1000, "flood_pages_p95_ratio": p95(busy) / p95(calm),
    }  # fmt: skip


def measure() -> dict[str, float]:
    """Run a portal, ask it what it gives away, and flood it."""
    with TemporaryDirectory() as folder:
        limits = {"PORTAL_TRUSTED_PROXIES": "127.0.0.1", "PORTAL_ENTRIES_PER_MINUTE": "30"}
        with RunningPortal.start(Path(folder), **limits) as portal:
            people(Settings.from_env(portal.environ))
            found = enumeration(Visitor.arrive(portal.port))
            return found | flood(portal.port, ATTEMPTS, ADDRESSES, READS)
