"""A portal to measure: its own processes on one core, a small engine and whoever asks on the other."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.migrations import upgrade
from portal.processes import web_command
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.rules import HIGHEST_LIMIT
from tests.bench.kit import kit
from tests.conduct import acting
from tests.factories import Make
from tests.running import MANY, ROOT, free_port

MODELS = ("bench/mock-0", "bench/mock-5")
PATH = "/v1/completions"
PORTAL = [sys.executable, "-m"]


@dataclass
class Stage:
    """A portal in a folder of its own, over an engine that costs next to nothing."""

    home: Path
    durability: str = "process"
    port: int = field(default_factory=free_port)
    engine_port: int = field(default_factory=free_port)
    token: str = ""
    processes: dict[str, Any] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PORTAL_HOME": str(self.home), "PORTAL_PORT": str(self.port), "PORTAL_DURABILITY": self.durability,
            "PORTAL_ENGINES": str(self.home / "engines.toml"), **MANY,
        }  # fmt: skip

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.environ)

    def prepare(self) -> None:
        """Make a database with two released models and a member who may use them, and start the engine."""
        self.home.mkdir(parents=True, exist_ok=True)
        servers = [f'[[servers]]\nmodel = "{m}"\nurl = "http://127.0.0.1:{self.engine_port}"\n' for m in MODELS]
        (self.home / "engines.toml").write_text("\n".join(servers))
        engine = make_engine(self.settings.database_url)
        upgrade(engine)
        with transaction(engine) as session:
            make = Make(session, utcnow())
            for name in MODELS:
                make.release(make.model(name))
            person = make.person("bench")
            make.sign(person)
            usage.set_quota(
                session, user_id=person.id, calls=HIGHEST_LIMIT, text_tokens=HIGHEST_LIMIT, by=acting(person),
                now=make.now,
            )  # fmt: skip
            _, self.token = tokens.issue(
                session, by=acting(person), owner_id=person.id, name="bench", scopes=["inference"], model_ids=[],
                days=30, pepper=self.settings.pepper, now=make.now,
            )  # fmt: skip
        engine.dispose()
        kit.build()
        self.processes["mock engine"] = kit.spawn([kit.BUILD / "mock_engine", self.engine_port], kit.LOAD_CORE)

    def start(self, *names: str) -> None:
        """Start processes of the portal, all on the one core, and wait until it answers."""
        commands = {
            "web": web_command(self.settings), "work": [*PORTAL, "portal.cli", "work"],
            "edge": [*PORTAL, "portal.main_edge"],
        }  # fmt: skip
        for name in names:
            command = commands[name] if name == "edge" else ["nice", "-n", "10", *commands[name]]
            log = self.home / f"{name}.log"
            self.processes[name] = kit.spawn(command, kit.TARGET_CORE, self.environ, log, cwd=ROOT)
        body = kit.body_file(self.home, MODELS[0], stream=False)
        error = kit.wait_ready(self.port, PATH, self.token, body, timeout=60)
        if error:
            raise SystemExit(f"the portal does not answer: {error}\n{(self.home / 'edge.log').read_text()[-2000:]}")

    def load(self, connections: int, seconds: float, *, paced: bool = False, stream: bool = False) -> dict[str, Any]:
        """Ask for completions, as many at once, and return what came of it."""
        body = kit.body_file(self.home, MODELS[paced], stream=stream)
        return kit.load(self.port, PATH, self.token, connections=connections, seconds=seconds, body=body)

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            kit.stop(process)


@contextmanager
def stage(**kept: Any) -> Iterator[Stage]:
    """Set a portal up, without any process of its own yet, and take everything down again."""
    with tempfile.TemporaryDirectory(prefix="portal-bench-") as folder:
        made = Stage(Path(folder) / "home", **kept)
        try:
            made.prepare()
            yield made
        finally:
            made.stop()
