"""The data plane, composed: who answers which address, and what they need from below and from outside."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvloop

from gated_inference.edge import Inference
from gated_inference.lookout import Lookout, open_eyes
from gated_inference.pool import make_pool
from gated_inference.servers import servers_of
from portal.access.edge import Door
from portal.adapters.signing_key import open_key
from portal.core.change import watch
from portal.core.clock import utcnow
from portal.core.config import SettingError, Settings
from portal.core.db import make_engine, transaction
from portal.core.errors import PortalError
from portal.downloads.edge import Downloads
from portal.edge.durable import Durable
from portal.edge.fresh import Fresh
from portal.edge.handover import Handover
from portal.edge.health import Health, answers, heartbeat
from portal.edge.journal import Journal, unread
from portal.edge.plane import Plane, PortInUse, bind
from portal.edge.routes import Routes
from portal.edge.threads import Threads
from portal.features import service as features
from portal.features.service import purpose_key
from portal.files.service import Store
from portal.migrations import is_current
from portal.proofs import service as proofs
from portal.usage import service as usage
from portal.usage.rules import Counters

PATIENT_S, QUICK_S = 30.0, 1.5  # how long running answers are given at SIGTERM, and at SIGINT
GARBAGE = 20_000, 50, 50  # objects before they are looked through: what is done for a request leaves no circles behind
log = logging.getLogger("portal.edge")


class Edge:
    """All that the data plane consists of.

    Args:
        settings: the portal's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = make_engine(settings.database_url)
        self.threads, self.routes, self.inside = Threads(), Routes(), Routes()
        counters = Counters()
        unplayed = list(unread(settings.folder("journal")))  # before the records, so that nothing falls in between
        with transaction(self.engine, write=False) as session:
            counters.load(usage.counters(session, now=utcnow(), unplayed=unplayed))
        self.watch = watch(self.engine)
        self.journal = Journal(settings.folder("journal"), durability=settings.durability)
        durable = Durable(self.journal, self.threads)
        fresh: Fresh[Any] = Fresh(self.engine, self.watch, self.threads)
        door = Door(fresh, settings, counters)
        self.pool = make_pool(settings)
        with transaction(self.engine, write=False) as session:
            lookout = Lookout(
                fresh, open_eyes(session), key=purpose_key(settings.pepper, "prompts"), base_url=settings.base_url,
                handover=Handover(settings.text_socket),
            )  # fmt: skip
            features.load_pace(session, lookout.pace, unplayed=unplayed, now=utcnow())
        inference = Inference(door, self.pool, durable, lookout)
        downloads = Downloads(door, Store(settings.folder("blobs")), durable)
        gauges = {
            "portal_journal_bytes": self.journal.size, "portal_in_flight": lambda: len(inference.gate.running),
            "portal_waiting": lambda: len(self.pool.waiting),
        }  # fmt: skip
        health = Health(self._parts(), inference.figures, gauges, threads=self.threads)
        for part in (inference, downloads, health):
            part.register(self.routes)
        inference.register_inside(self.inside)

    async def start(self, sock: socket.socket) -> Plane:
        """Answer on a port, and the portal's own processes on a Unix socket."""
        settings = self.settings
        plane = Plane(
            self.routes, web=settings.web_socket, proxies=settings.proxies, threads=self.threads,
            https=settings.is_secure,
        )  # fmt: skip
        self.pool.start()
        await plane.listen_inside(settings.edge_socket, self.inside)
        await plane.listen(sock)
        return plane

    def reread(self) -> None:
        """Take the servers that the settings name now; those that are gone finish what they work on."""
        try:
            self.pool.replace(servers_of(self.settings))
        except SettingError as error:
            log.warning("the servers stay as they are: %s", error)

    def close(self) -> None:
        """Close what is held open: engines, journal, database."""
        self.pool.close()
        self.journal.close()
        self.watch.close()
        self.engine.dispose()

    def _parts(self) -> dict[str, Callable[[], str]]:
        key = open_key(self.settings.home)

        def database() -> str:
            return "" if is_current(self.engine) else "the schema is older than this program; run `portal init`"

        def log() -> str:
            kept = key.kept()
            with transaction(self.engine, write=False) as session:
                return proofs.trouble(session, key=key, kept=kept)

        return {
            "web": answers(self.settings.web_socket), "database": database, "engine": self.pool.trouble,
            "work": heartbeat(self.settings.home / "run" / "work.alive", utcnow), "log": log,
            "journal": lambda: self.journal.problem,
        }  # fmt: skip


async def serve(settings: Settings, sock: socket.socket) -> None:
    """Answer until SIGTERM, which leaves running answers half a minute, or SIGINT, which leaves them a moment."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[float] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGTERM, asked.put_nowait, PATIENT_S)
    loop.add_signal_handler(signal.SIGINT, asked.put_nowait, QUICK_S)
    edge = Edge(settings)
    loop.add_signal_handler(signal.SIGHUP, edge.reread)
    plane = await edge.start(sock)
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look through it again and again
    gc.set_threshold(*GARBAGE)
    stopping = asyncio.ensure_future(plane.stop(await asked.get()))
    hurrying = asyncio.ensure_future(asked.get())
    await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    plane.hurry()
    hurrying.cancel()
    await stopping
    edge.close()


def main() -> None:
    """Run the data plane with the settings of the environment."""
    logging.basicConfig(level=logging.WARNING, format="edge: %(levelname)s %(name)s: %(message)s")
    os.umask(0o077)
    try:
        settings = Settings.from_env()
        uvloop.run(serve(settings, bind(settings.host, settings.port)))
    except (SettingError, PortalError, PortInUse) as error:
        sys.exit(f"portal edge: {error}")


if __name__ == "__main__":
    main()
