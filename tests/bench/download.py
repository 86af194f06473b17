"""Weight bytes through the data plane, with its checks and records, against nginx that checks nothing."""

import os
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from portal.access import service as access
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.files import service as files
from portal.files.service import Store
from portal.tokens import service as tokens
from tests.bench.kit import kit
from tests.bench.stage import Stage, stage
from tests.conduct import acting
from tests.factories import Make

MODEL, NAME, MIB = "bench/big", "weights.safetensors", 1024
PATH = f"/{MODEL}/resolve/main/{NAME}"
ROUNDS, READERS, SECONDS = 5, 256, 6.0
WAYS = (("one", "whole", 1, False), ("ranges", "ranges", 8, False), ("pieces", "pieces", 8, False),
        ("discard", "ranges", 8, True))  # fmt: skip


def publish(made: Stage) -> tuple[Path, str]:
    """Publish a large file; return where its bytes lie, and an access token that may have it."""
    source, store = made.home / "source", Store(made.settings.folder("blobs"))
    source.mkdir()
    _write(source / NAME)
    engine = make_engine(made.settings.database_url)
    staged = files.stage(directory=source, store=store)
    with transaction(engine) as session:
        make = Make(session, utcnow())
        model, license_ = make.model(MODEL), make.license()
        commit = files.commit_files(session, model_id=model.id, staged=staged, message="Bench", by=SYSTEM, now=make.now)
        access.require_license(session, model_id=model.id, license_id=license_.id, now=make.now)
        catalog.release(
            session, model=model, revision=commit.revision, license_slug=license_.slug, license_number="2.0.0",
            by=SYSTEM, now=make.now,
        )  # fmt: skip
        entry = files.find_entry(session, commit_id=commit.id, path=NAME)
        assert entry is not None
        local = store.path(entry.blob_sha256)
    engine.dispose()
    (source / NAME).unlink()
    return local, issue(made)


def issue(made: Stage, name: str = "reader") -> str:
    """Return an access token of somebody new, who may have the file."""
    engine = make_engine(made.settings.database_url)
    with transaction(engine) as session:
        make = Make(session, utcnow())
        person = make.person(name)
        make.sign(person)
        _, token = tokens.issue(
            session, by=acting(person), owner_id=person.id, name="bench", scopes=["weights:read"], model_ids=[],
            days=30, pepper=made.settings.pepper, now=make.now,
        )  # fmt: skip
    engine.dispose()
    return token


def _write(path: Path) -> None:
    """Write a file in which every mebibyte is another, so that a wrong offset shows."""
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        file.writelines(number.to_bytes(8, "little") + block[8:] for number in range(MIB))


def _rounds(made: Stage, local: Path, token: str, folder: Path) -> dict[str, float]:
    """Fetch by turns from the data plane and from nginx, and return the medians' ratios."""
    peer, port, _ = kit.start_nginx(folder, made.engine_port, local.parent)
    edge = made.processes["edge"]
    targets = [("ours", made.port, PATH, edge), ("nginx", port, f"/static/{local.name}", peer)]
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    try:
        for number in range(ROUNDS + 1):
            for who, at, path, process in targets if number % 2 else targets[::-1]:
                for way, mode, count, discard in WAYS:
                    before = kit.cpu_seconds(kit.tree(process.pid))
                    result = kit.fetch(at, path, token, local=local, mode=mode, count=count, discard=discard)
                    if result["errors"] or result["wrong_bytes"]:
                        raise SystemExit(f"{way} from {who}: {result}")
                    # On loopback the kernel charges receiving to either side by chance: both ends are added.
                    used = kit.cpu_seconds(kit.tree(process.pid)) - before + result["gen_cpu_frac"] * result["secs"]
                    if number:  # the first round only warms up
                        each = result["gbps"], used / (result["bytes"] / 1e9)
                        found.setdefault((who, way), []).append(each)
    finally:
        kit.stop(peer)
    figures = {}
    for way, *_ in WAYS:
        speed, cost = ([statistics.median(r[i] for r in found[who, way]) for who in ("ours", "nginx")] for i in (0, 1))
        figures[f"nginx_download_ratio_{way}"] = speed[0] / speed[1]
        figures[f"nginx_download_cpu_ratio_{way}"] = cost[0] / cost[1]
        figures[f"download_GB_s_{way}"] = speed[0]
    return figures


def _slow(made: Stage, token: str) -> dict[str, float]:
    """Let many readers take a mebibyte a second each, and ask for a sign of life in between."""
    edge = kit.tree(made.processes["edge"].pid)
    memory, lines = kit.pss_mb(edge), []
    for number in range(READERS):
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        line.connect(("127.0.0.1", made.port))
        start = number * (MIB << 20) // READERS
        head = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nRange: bytes={start}-\r\n\r\n"
        line.sendall(head.encode())
        line.setblocking(False)
        lines.append(line)
    served: set[int] = set()
    waits: list[float] = []
    over = threading.Event()
    asker = threading.Thread(target=_probe, args=(made.port, waits, over))
    asker.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for number, line in enumerate(lines):
            try:
                if line.recv(1 << 17):
                    served.add(number)
            except BlockingIOError:
                pass
        time.sleep(0.1)
    memory = kit.pss_mb(edge) - memory
    over.set()
    asker.join()
    for line in lines:
        line.close()
    waits.sort()
    return {
        "slow_readers_served": len(served) / READERS, "slow_probe_p99_ms": waits[int(len(waits) * 0.99)],
        "slow_reader_KB": memory * 1024 / READERS,
    }  # fmt: skip


def _probe(port: int, waits: list[float], over: threading.Event) -> None:
    while not over.is_set():
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if not line.recv(64).startswith(b"HTTP/1.1 200"):
                raise SystemExit("no sign of life while others read slowly")
        waits.append((time.perf_counter() - began) * 1000)
        time.sleep(0.05)


def measure() -> dict[str, float]:
    """Return speed and cost of downloads as ratios, and how slow readers fare."""
    with stage() as made:
        local, token = publish(made)
        made.start("edge")
        figures: dict[str, Any] = {}
        if kit.find_nginx():
            folder = made.home / "nginx"
            folder.mkdir()
            figures = _rounds(made, local, token, folder)
        else:
            print("  (nginx is not installed: apt-get install nginx-light; its ratios are left out)", file=sys.stderr)
        os.sched_setaffinity(0, {int(kit.LOAD_CORE)})
        return figures | _slow(made, token)
