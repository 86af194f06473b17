"""A portal that really runs: the supervised processes on a free port, driven from outside."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
# Tests ask more often than people do.
MANY = {f"PORTAL_{kind}_PER_MINUTE": "100000" for kind in ("ENTRIES", "PAGES", "CALLS")}


def wait_until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s")


def free_port() -> int:
    """Return a port that nobody listens on, below those from which the system takes the callers' own."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class RunningPortal:
    """A started portal.

    Args:
        home: its PORTAL_HOME.
        port: where it listens.
    """

    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PORTAL_", "HF_"))}
        return {**kept, "PORTAL_HOME": str(self.home), "PORTAL_PORT": str(self.port), **MANY, **self.extra}

    def cli(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """Run a `portal` command over this portal's home and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "portal.cli", *args],
            env=self.environ, cwd=ROOT, input=input, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"portal {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def serve(self) -> None:
        """Start the processes and wait until every part is ready."""
        log = (self.home / "serve.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "portal.cli", "serve"],
            env=self.environ, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.wait_ready()

    def wait_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"portal serve ended:\n{self.log()[-4000:]}")
            try:
                if httpx.get(f"{self.base_url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not ready in {seconds} s:\n{self.log()[-4000:]}")

    def log(self) -> str:
        return (self.home / "serve.log").read_text(errors="replace")

    def stop(self) -> float:
        """Stop as Ctrl-C does and return the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        return time.monotonic() - began

    @contextmanager
    def engine_away(self) -> Iterator[None]:
        """Kill the engine, and have nobody start it anew for a while."""
        import psutil

        assert self.process is not None
        keeper = psutil.Process(self.process.pid)
        (engine,) = [child for child in keeper.children() if "gated_inference.engine" in " ".join(child.cmdline())]
        keeper.suspend()
        try:
            engine.kill()
            yield
        finally:
            keeper.resume()
        wait_until(lambda: httpx.get(f"{self.base_url}/readyz", timeout=5).status_code == 200)

    def mails_to(self, address: str) -> list[str]:
        """Return the texts of the mails to an address, oldest first."""
        found = []
        for path in sorted((self.home / "mail").glob("*.eml"), key=lambda p: p.stat().st_mtime_ns):
            import email
            import email.policy

            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            if address in str(message["To"]):
                found.append(message.get_content())
        return found

    def link_mailed_to(self, address: str, containing: str, seconds: float = 15) -> str:
        """Wait for a mail to an address that holds a link with a certain part, and return the link."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for text in reversed(self.mails_to(address)):
                for link in re.findall(r"https?://\S+", text):
                    if containing in link:
                        return link
            time.sleep(0.1)
        raise AssertionError(f"no mail to {address} with {containing}")

    @classmethod
    @contextmanager
    def start(cls, home: Path, **extra: str) -> Iterator["RunningPortal"]:
        running = cls(home=home, port=free_port(), extra=extra)
        running.cli("init", "--demo")
        running.serve()
        try:
            yield running
        finally:
            if running.process is not None and running.process.poll() is None:
                running.stop()
