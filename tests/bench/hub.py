"""How fast a page of ten thousand files is listed, in how much memory, and whether 64 clients get right bytes."""

import asyncio
import resource
import tempfile
import time
from pathlib import Path
from random import Random

import httpx
import psutil

from portal import setup
from portal.access import service as access
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.files import service as files
from portal.licensing import service as licensing
from tests import member
from tests.factories import staged_of
from tests.hub.serving import running
from tests.running import RunningPortal

FILES, ROUNDS = 10_000, 5
CLIENTS, WORKERS = 64, 8
SIZE, PIECE = 32 << 20, 1 << 20
MANY, LARGE = "bench/many", "bench/large"


def _publish(portal: RunningPortal, folder: Path) -> None:
    """Publish a model of one large file, and one of ten thousand files whose bytes nobody will ask for."""
    settings = Settings.from_env({k: v for k, v in portal.environ.items() if k.startswith("PORTAL_")})
    engine = make_engine(settings.database_url)
    with transaction(engine) as session:
        for name in (MANY, LARGE):
            catalog.sync_card(session, full_name=name, text="# Bench\n", by=SYSTEM, now=utcnow())
        license_, version = licensing.in_force(session, slug="bloom-rail", now=utcnow())
        many = catalog.find_model(session, full_name=MANY)
        names = [f"{number % 100:02}/part-{number:05}.json" for number in range(FILES)]
        staged = [staged_of(name, name.encode()) for name in names]
        commit = files.commit_files(session, model_id=many.id, staged=staged, message="Bench", by=SYSTEM, now=utcnow())
        access.require_license(session, model_id=many.id, license_id=license_.id, now=utcnow())
        catalog.release(
            session, model=many, revision=commit.revision, license_slug="bloom-rail", license_number=version.number,
            by=SYSTEM, now=utcnow(),
        )  # fmt: skip
    engine.dispose()
    setup.publish_model(
        settings, directory=folder, name=LARGE, license_slug="bloom-rail", message="Bench", allow_pickle=True,
        progress=lambda _: None,
    )  # fmt: skip


def _memory(port: int) -> float:
    """Return the MB that the processes behind a port hold."""
    held = {c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr[1] == port and c.status == "LISTEN"}
    return sum(psutil.Process(pid).memory_info().rss for pid in held if pid) / 1e6


def _listing(portal: RunningPortal) -> dict[str, float]:
    """List all files again and again, page by page."""
    times, held = [], []
    with httpx.Client(timeout=60) as http:
        for _ in range(ROUNDS):
            url, seen = f"{portal.base_url}/api/models/{MANY}/tree/main?recursive=true", 0
            while url:
                began = time.perf_counter()
                answer = http.get(url)
                times.append((time.perf_counter() - began) * 1000)
                seen += sum(row["type"] == "file" for row in answer.json())
                url = answer.links.get("next", {}).get("url", "")
            if seen != FILES:
                raise RuntimeError(f"{seen} of {FILES} files were listed")
            held.append(_memory(portal.port))
    times.sort()
    return {
        "listing_page_p50_ms": times[len(times) // 2], "listing_page_max_ms": times[-1],
        "listing_memory_growth_MB": held[-1] - held[0],
    }  # fmt: skip


async def _worker(port: int, token: str, pieces: "asyncio.Queue[int]", body: bytes) -> int:
    """Fetch pieces over one connection each, as clients do, until none is left, and compare each with what is right."""
    done = 0
    while not pieces.empty():
        start = pieces.get_nowait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /{LARGE}/resolve/main/weights.safetensors HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\nRange: bytes={start}-{start + PIECE - 1}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        got = await reader.readexactly(PIECE)
        writer.close()
        if b" 206 " not in head.split(b"\r\n")[0] or got != body[start : start + PIECE]:
            raise RuntimeError(f"wrong bytes from {start}: {head[:60]!r}")
        done += len(got)
    return done


async def _swarm(port: int, token: str, body: bytes) -> int:
    async def client() -> int:
        pieces: asyncio.Queue[int] = asyncio.Queue()
        for start in range(0, SIZE, PIECE):
            pieces.put_nowait(start)
        got = sum(await asyncio.gather(*(_worker(port, token, pieces, body) for _ in range(WORKERS))))
        if got != SIZE:
            raise RuntimeError(f"a client got {got} bytes of {SIZE}")
        return got

    return sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))


def measure() -> dict[str, float]:
    """Return ms a page, MB that memory grew by, and MB a second to 64 clients of 8 connections, all bytes compared."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with tempfile.TemporaryDirectory(prefix="portal-bench-") as folder, running(Path(folder) / "home") as portal:
        large = Path(folder) / "large"
        large.mkdir()
        body = Random(1).randbytes(SIZE)
        (large / "weights.safetensors").write_bytes(body)
        _publish(portal, large)
        token = member.signed_member(portal, "bench@example.org", model=LARGE)
        figures = _listing(portal)
        began = time.perf_counter()
        sent = asyncio.run(_swarm(portal.port, token, body))
        took = time.perf_counter() - began
    return {**figures, "swarm_64x8_s": took, "swarm_64x8_MB_s": sent / 1e6 / took}
