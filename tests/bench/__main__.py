"""Measures the portal on this machine and prints the figures; asserts nothing about time.

    python -m tests.bench [NAME…]      all parts, or only some of them

Writes ``bench.json``: ``{"commit", "machine", "date", "figures": {name: number}}``. Trust ratios: each is taken
against something measured in the same run.
"""

import json
import platform
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from portal.core.clock import stamp, utcnow

PARTS = (
    "gate", "lookout", "detection", "sign_in", "flood", "sign", "compare", "log", "preview", "engine", "download",
    "hub", "plane", "kill9", "stops", "pages", "campaign",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent.parent


def machine() -> str:
    """Name the processor, the cores and the Python of this machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{name}, {len(models) or '?'} cores, Python {platform.python_version()}"


def commit() -> str:
    """Return the commit that was measured, marked when files differ from it."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")


def main(names: list[str]) -> None:
    """Run the parts one after the other and print each figure as it comes."""
    figures: dict[str, float] = {}
    print(f"{machine()}\n\n{'figure':<28}{'value':>14}  bar", flush=True)
    for name in names or PARTS:
        began = time.monotonic()
        part = import_module(f"tests.bench.{name}")
        measured, bars = part.measure(), getattr(part, "BARS", {})
        figures |= measured
        for figure, value in measured.items():
            print(f"{figure:<28}{value:>14,.4f}  {bars.get(figure, '')}", flush=True)
        print(f"  ({name}: {time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    report = {"commit": commit(), "machine": machine(), "date": stamp(utcnow()), "figures": figures}
    (ROOT / "bench.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
