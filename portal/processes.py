"""Starting each process, and all of them together."""

import os
import sys
from pathlib import Path

import click
import httpx

from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.core.errors import Conflict
from portal.edge.plane import PortInUse, bind
from portal.migrations import is_current
from portal.supervisor import Process, Supervisor

ROOT = Path(__file__).resolve().parent.parent
DEMO_ADMIN = "admin@portal.example"
THREADS = 64
PATIENCE = 33.0  # a little more than the data plane leaves running answers


def web_command(settings: Settings) -> list[str]:
    """The WSGI server on ``app:app``, on a Unix socket that only the data plane reaches."""
    return [
        sys.executable, "-m", "gunicorn", "app:app", "--chdir", str(ROOT),
        "--bind", f"unix:{_folder_of(settings.web_socket)}", "--umask", "0o077",
        # The data plane has limits of its own, and these must not be narrower.
        "--limit-request-line", "0", "--limit-request-field_size", "0", "--limit-request-fields", "128",
        "--worker-class", "gthread", "--workers", "1", "--threads", str(THREADS), "--timeout", "60",
        "--graceful-timeout", "2", "--log-level", "warning", "--no-control-socket",
        "--worker-tmp-dir", str(settings.folder("run")),
        "--forwarder-headers", "",  # nobody moves addresses by SCRIPT_NAME
    ]  # fmt: skip


def edge_command() -> list[str]:
    """The data plane."""
    return [sys.executable, "-m", "portal.main_edge"]


def _folder_of(socket: Path) -> Path:
    """Make the folder of a Unix socket, for this user alone, and return the socket."""
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if socket.parent.stat().st_uid != os.getuid():
        raise Conflict("socket_folder", f"{socket.parent} belongs to somebody else; set PORTAL_HOME to a shorter path.")
    return socket


def engine_command(settings: Settings, model: str, ranks: str) -> list[str]:
    """The engine on a published model, read from the portal's own blobs and shared by some processes."""
    from portal.setup import engine_directory  # noqa: PLC0415

    name, directory = engine_directory(settings, model)
    return [
        sys.executable, "-m", "gated_inference.engine.server", "--model", str(directory), "--name", name,
        "--uds", str(_folder_of(settings.engine_socket)), "--ranks", ranks, "--parent-pid", str(os.getpid()),
    ]  # fmt: skip


def become_web(settings: Settings) -> None:
    """Replace this process by the WSGI server."""
    _check_schema(settings)
    _check_doors(settings)
    os.execv(sys.executable, web_command(settings))  # noqa: S606


def become_edge(settings: Settings) -> None:
    """Replace this process by the data plane."""
    _check_schema(settings)
    os.chdir(ROOT)
    os.execv(sys.executable, edge_command())  # noqa: S606


def become_engine(settings: Settings, model: str, ranks: str) -> None:
    """Replace this process by the engine."""
    command = engine_command(settings, model, ranks)
    os.chdir(ROOT)
    os.execv(sys.executable, [*command[:-2]])  # noqa: S606


def serve(settings: Settings, *, staff_link: bool) -> None:
    """Run edge, web, work and, unless servers are configured, the engine; say when all are ready."""
    _check_schema(settings)
    _check_doors(settings)
    try:
        bind(settings.host, settings.port).close()
    except PortInUse as error:
        click.echo(f"portal: {error}", err=True)
        sys.exit(1)
    portal = [sys.executable, "-m", "portal.cli"]
    processes = [
        Process("edge", edge_command(), patience=PATIENCE),
        # A page may wait a little where a stream may not.
        Process("web", web_command(settings), nice=10), Process("work", [*portal, "work"], nice=10),
    ]  # fmt: skip
    if settings.engines == "embedded":
        processes.append(Process("engine", engine_command(settings, "", "auto")))
    announce = _Announce(settings, _staff_link(settings) if staff_link else "")
    click.echo("Starting: " + ", ".join(p.name for p in processes))
    Supervisor(processes, lambda line: click.echo(f"portal: {line}", err=True)).run(announce.turn)
    click.echo("Stopped.")


def _check_schema(settings: Settings) -> None:
    engine = make_engine(settings.database_url)
    try:
        if not is_current(engine):
            raise Conflict("schema_old", "The database is empty or older than this program: run `portal init`.")
    finally:
        engine.dispose()


def _check_doors(settings: Settings) -> None:
    """Open the seal, or make it at first start, and all that vouches for it: a wrong setting stops with one line."""
    from portal.adapters import authority, seal_key, witnesses  # noqa: PLC0415

    authority.open_authority(settings)
    witnesses.open_witnesses(settings)
    seal_key.open_seal(settings, now=utcnow())


def _staff_link(settings: Settings) -> str:
    from portal.accounts.rules import Role  # noqa: PLC0415
    from portal.core.actor import SYSTEM  # noqa: PLC0415
    from portal.identity import service  # noqa: PLC0415

    engine = make_engine(settings.database_url)
    with transaction(engine) as session:
        _user, secret = service.invite_staff(
            session, email=DEMO_ADMIN, name="Demo administrator", role=Role.ADMIN, pepper=settings.pepper, by=SYSTEM,
            now=utcnow(),
        )  # fmt: skip
    engine.dispose()
    return f"{settings.base_url}/invite/{secret}"


class _Announce:
    """Says once that every part is ready, and what to try."""

    def __init__(self, settings: Settings, link: str) -> None:
        self.settings = settings
        self.link = link
        self.done = False

    def turn(self) -> None:
        """Ask the running portal whether it is ready, until it is."""
        if self.done:
            return
        try:
            self.done = httpx.get(f"http://{self.settings.host}:{self.settings.port}/readyz", timeout=1).is_success
        except httpx.HTTPError:
            return
        if self.done:
            self._say()

    def _say(self) -> None:
        base = self.settings.base_url
        click.echo(f"\nReady: {base}\n")
        if self.link:
            click.echo(f"Staff sign-in, once, within 24 hours: {self.link}\n")
        click.echo("Try next:")
        click.echo(f"  1. Sign up at {base}/signup; the mail with your link lies in {self.settings.home / 'mail'}")
        click.echo(f"  2. Sign the license at {base}/licenses/ and make an access token at {base}/settings/tokens")
        click.echo(f"  3. HF_ENDPOINT={base} HF_TOKEN=lmp_… .venv/bin/hf download demo/bloom-tiny")
        click.echo("\nCtrl-C stops everything.")
