"""A running portal for Hub clients: pages and background work, without the engine, which no client here asks."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.running import ROOT, RunningPortal, free_port


@contextmanager
def running(home: Path) -> Iterator[RunningPortal]:
    """Start a portal with its demo content and stop it at the end."""
    home.mkdir(parents=True, exist_ok=True)
    portal = RunningPortal(home=home, port=free_port())
    portal.cli("init", "--demo")
    with (home / "serve.log").open("ab") as log:
        processes = [_process(portal, name, log) for name in ("edge", "web", "work")]
    try:
        _wait(portal)
        yield portal
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def _process(portal: RunningPortal, name: str, log: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "portal.cli", name]
    return subprocess.Popen(command, env=portal.environ, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)


def _wait(portal: RunningPortal) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            parts = httpx.get(f"{portal.base_url}/readyz", timeout=2).json()["parts"]
            if (parts["web"], parts["work"]) == ("ok", "ok"):
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(portal.log()[-4000:])
