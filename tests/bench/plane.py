"""The data plane beside its peers in one run: a bare nginx, which checks and writes nothing, and LiteLLM.

The product runs on one core with all its checks and its journal, its background process beside it; a small engine and
the load run on the other core. What is compared is the CPU time of a whole process tree for one finished answer.
"""

import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan, nan
from typing import Any

from tests.bench.kit import kit
from tests.bench.stage import MODELS, PATH, Stage, stage

#         phase: connections, seconds, 5 ms between events, streaming
PHASES = {
    "plain@1": (1, 1.5, False, False),
    "plain@32": (32, 3.0, False, False),
    "stream@500": (500, 5.0, True, True),
}
ROUNDS = 3
LITELLM_TIMES = 2.5  # it is slow enough to need longer phases
BARS = {
    "litellm_cpu_ratio": "≤ 0.0033", "nginx_cpu_ratio": "≤ 2.5", "nginx_stream_event_ratio": "≤ 1.3",
    "litellm_stream_event_ratio": "≤ 0.0125",
    "nginx_first_event_p50_ratio": "≤ 2", "nginx_first_event_p99_ratio": "≤ 5",
    "nginx_p50_one_client_ratio": "≤ 1.3", "nginx_p99_ratio": "≤ 3", "power_loss_cpu_ratio": "≤ 1.7",
    "busy_kept": "≥ 0.75", "busy_gap_p99_ms": "≤ 10", "edge_memory_mb": "≤ 60", "litellm_memory_ratio": "≤ 0.167",
}  # fmt: skip
Results = dict[str, dict[str, list[dict[str, Any]]]]


def measured(on: Stage, pid: int, port: int, token: str, scale: float = 1.0) -> dict[str, dict[str, Any]]:
    """Return all phases against one target."""
    warm = kit.body_file(on.home, MODELS[0], stream=False)
    kit.load(port, PATH, token, connections=8, seconds=1.0, body=warm)
    found = {}
    for phase, (connections, seconds, paced, stream) in PHASES.items():
        kit.wait_idle(pid)
        before = kit.cpu_seconds(kit.tree(pid))
        body = kit.body_file(on.home, MODELS[paced], stream=stream)
        result = kit.load(port, PATH, token, connections=connections, seconds=seconds * scale, body=body)
        used = (kit.cpu_seconds(kit.tree(pid)) - before) * 1e6
        if result["errors"]:
            raise SystemExit(f"{phase}: {result}")
        # A peer may be too slow to end a single one of 500 streams in time; what it costs is counted all the same.
        result |= {"cpu_us": used / max(1, result["n"])} | (
            {"cpu_us_event": used / result["events"]} if result["events"] else {}
        )
        found[phase] = result | {"memory_mb": kit.pss_mb(kit.tree(pid))}
    return found


@contextmanager
def peer(on: Stage, name: str) -> Iterator[tuple[int, int, str]]:
    """Start a peer in front of the same engine."""
    if name == "nginx":
        process, port, token = kit.start_nginx(on.home, on.engine_port)
    else:
        process, port, token = kit.start_litellm(on.home, on.engine_port, PATH, MODELS)
    try:
        yield process.pid, port, token
    finally:
        kit.stop(process)


def rounds(on: Stage) -> Results:
    """Return what came of alternating rounds: the product and its peers, then in the other order."""
    peers = []
    for name, found, how in (
        ("nginx", kit.find_nginx(), "apt-get install nginx-light"), ("litellm", kit.find_litellm(), "make litellm"),
    ):  # fmt: skip
        if found:
            peers.append(name)
        else:
            print(f"  ({name} is not there: {how}; its ratios are left out)", file=sys.stderr)
    results: Results = {}
    for number in range(ROUNDS):
        names = ["portal", *peers]
        for name in names if number % 2 == 0 else reversed(names):
            if name == "portal":
                found = measured(on, on.processes["edge"].pid, on.port, on.token)
            else:
                with peer(on, name) as (pid, port, token):
                    found = measured(on, pid, port, token, LITELLM_TIMES if name == "litellm" else 1.0)
            for phase, result in found.items():
                results.setdefault(name, {}).setdefault(phase, []).append(result)
    return results


def ratios(results: Results) -> dict[str, float]:
    """Return the ratios of medians."""

    def median(name: str, phase: str, field: str) -> float:
        return statistics.median([result[field] for result in results[name][phase] if field in result] or [nan])

    figures = {
        "edge_cpu_us": median("portal", "plain@32", "cpu_us"),
        "edge_cpu_us_event": median("portal", "stream@500", "cpu_us_event"),
        "edge_memory_mb": median("portal", "stream@500", "memory_mb"),
    }
    compared = {
        "nginx_cpu_ratio": ("plain@32", "cpu_us"), "nginx_stream_event_ratio": ("stream@500", "cpu_us_event"),
        "nginx_first_event_p50_ratio": ("stream@500", "ttfe_p50_ms"), "nginx_p99_ratio": ("plain@32", "p99_ms"),
        "nginx_first_event_p99_ratio": ("stream@500", "ttfe_p99_ms"),
        "nginx_p50_one_client_ratio": ("plain@1", "p50_ms"), "litellm_cpu_ratio": ("plain@32", "cpu_us"),
        "litellm_stream_event_ratio": ("stream@500", "cpu_us_event"),
        "litellm_memory_ratio": ("stream@500", "memory_mb"),
    }  # fmt: skip
    for figure, (phase, field) in compared.items():
        name = figure.split("_", 1)[0]
        if name in results:
            figures[figure] = median("portal", phase, field) / median(name, phase, field)
    return {figure: value for figure, value in figures.items() if not isnan(value)}


def busy(on: Stage) -> dict[str, float]:
    """Return what is kept, and how long streams are silent, while two clients keep the control plane at work."""

    def pair() -> tuple[float, float]:
        return on.load(1, 2.0)["rps"], on.load(32, 2.0, paced=True, stream=True)["gap_p99_ms"]

    idle = pair()
    page = {"connections": 2, "seconds": 6.0, "body": "-"}
    pages = threading.Thread(target=kit.load, args=(on.port, f"/{MODELS[0]}", on.token), kwargs=page)
    pages.start()
    time.sleep(0.5)
    loaded = pair()
    pages.join()
    return {"busy_kept": loaded[0] / idle[0], "busy_gap_p99_ms": loaded[1]}


def measure() -> dict[str, float]:
    """Return the ratios, and what they are made of."""
    with stage() as on:
        on.start("web", "work", "edge")
        results = rounds(on)
        figures = ratios(results) | busy(on)
    with stage(durability="power-loss") as on:
        on.start("work", "edge")
        durable = [measured(on, on.processes["edge"].pid, on.port, on.token)["plain@32"]["cpu_us"] for _ in range(2)]
        figures["power_loss_cpu_ratio"] = statistics.median(durable) / figures["edge_cpu_us"]
    return figures
