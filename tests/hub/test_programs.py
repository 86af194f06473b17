"""curl, wget, aria2c and what the Rust client sends: with the commands that pages show, on good and bad days."""

import hashlib
import os
import re
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import httpx
import pytest

from portal import setup
from portal.core.config import Settings
from portal.files.service import Store
from tests import member
from tests.hub import conformance
from tests.hub.conftest import LARGE, LARGE_BYTES, Hub
from tests.hub.generations import Wire
from tests.member import Browser
from tests.running import ROOT

FILE = "weights.safetensors"
PROGRAMS = ("curl", "wget", "aria2c")
MISSING = [name for name in PROGRAMS if not any((Path(p) / name).exists() for p in os.environ["PATH"].split(":"))]


@dataclass
class Shop:
    """Where a file is, how programs are told to fetch it, and its digest."""

    hub: Hub
    commands: dict[str, str]
    digest: str

    def run(self, program: str, folder: Path, *, url: str = "", token: str = "signed") -> int:
        """Run a command as the page shows it, in a folder, and return how it ended."""
        command = self.commands[program].replace(self.hub.url, url or self.hub.url)
        if program == "aria2c":
            command += " --console-log-level=warn --summary-interval=0 --max-tries=3 --retry-wait=0"
        elif program == "wget":
            command += " --tries=3 --waitretry=0"
        environ = {**os.environ, "HF_TOKEN": self.hub.tokens.get(token, token), "HOME": str(folder)}
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=folder, env=environ, timeout=120, check=False, capture_output=True
        )
        return done.returncode

    def whole(self, folder: Path) -> bool:
        """Say whether the file came whole."""
        path = folder / FILE
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.digest


@pytest.fixture(scope="module")
def shop(hub: Hub) -> Shop:
    """The commands of the page of a large file."""
    assert not MISSING, f"install {' '.join(MISSING)}: python -m tests.native fetchers"
    with Browser(hub.url) as browser:
        browser.sign_in("signed@example.org")
        page = browser.open(f"/{LARGE}/blob/main/{FILE}")
    shown = [unescape(code) for code in re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)]
    commands = {name: next(code for code in shown if code.startswith(f"{name} ")) for name in PROGRAMS}
    commands["sha256sum"] = next(code for code in shown if "sha256sum" in code)
    body = (hub.portal.home / "large" / FILE).read_bytes()
    return Shop(hub, commands, hashlib.sha256(body).hexdigest())


def fetched(shop: Shop, program: str, folder: Path) -> str:
    """a whole file, every byte, with the command of its page"""
    return "yes" if shop.run(program, folder) == 0 and shop.whole(folder) else "no"


def resumed(shop: Shop, program: str, folder: Path) -> str:
    """goes on after the line was cut, with the same command"""
    wire = Wire(shop.hub.portal.port, FILE, 24 << 20)
    wire.path = f"{FILE}".encode()
    try:
        runs = 1 if shop.run(program, folder, url=wire.url) == 0 else 2
        if runs == 2:
            shop.run(program, folder, url=wire.url)
    finally:
        wire.close()
    begun = [int(asked.removeprefix("bytes=").split("-")[0]) for asked in wire.asked if asked]
    assert wire.broken
    assert max(begun) > 0, wire.asked
    if not shop.whole(folder):
        return "no"
    return "yes, by itself" if runs == 1 else "yes, run again"


def refused(shop: Shop, program: str, folder: Path) -> str:
    """without a signature it fails and leaves no bytes of the file"""
    code = shop.run(program, folder, token="unsigned")
    left = folder / FILE
    assert not left.exists() or left.stat().st_size == 0
    return f"yes, exit code {code}" if code else "no"


def checked(shop: Shop, program: str, folder: Path) -> str:
    """compares the digest"""
    (folder / FILE).write_bytes(b"other bytes")
    done = subprocess.run(["/bin/sh", "-c", shop.commands["sha256sum"]], cwd=folder, check=False, capture_output=True)
    assert done.returncode == 1
    return "yes" if "--checksum" in shop.commands[program] else "with sha256sum"


ACTIONS: tuple[Callable[[Shop, str, Path], str], ...] = (fetched, resumed, refused, checked)


def rust(shop: Shop) -> dict[str, str]:
    """What the Rust client puts on the wire: a probe of one byte, then ranges of ten million, side by side."""
    path = f"{shop.hub.url}/{LARGE}/resolve/main/{FILE}"
    key = {"Authorization": f"Bearer {shop.hub.tokens['signed']}"}
    with httpx.Client(headers=key, timeout=60) as http:
        probe = http.get(path, headers={"Range": "bytes=0-0"})
        assert (probe.status_code, len(probe.content)) == (206, 1)
        size = int(probe.headers["Content-Range"].rpartition("/")[2])
        assert (size, len(probe.headers["X-Repo-Commit"])) == (LARGE_BYTES, 40)
        assert probe.headers["ETag"].strip('"') == shop.digest

        def part(start: int) -> bytes:
            span = f"bytes={start}-{min(start + 10_000_000, size) - 1}"
            answer = http.get(path, headers={"Range": span})
            assert answer.status_code == 206
            return answer.content

        with ThreadPoolExecutor(4) as pool:
            body = b"".join(pool.map(part, range(0, size, 10_000_000)))
        late = http.get(path, headers={"Range": f"bytes={size - 5}-"}).content
    unsigned = {"Authorization": f"Bearer {shop.hub.tokens['unsigned']}", "Range": "bytes=0-0"}
    assert httpx.get(path, headers=unsigned).status_code == 403
    assert late == body[-5:]
    right = hashlib.sha256(body).hexdigest() == shop.digest
    return {
        fetched.__doc__ or "": "yes" if right else "no", resumed.__doc__ or "": "yes", checked.__doc__ or "": "–",
        refused.__doc__ or "": "yes, 403 at the probe",
    }  # fmt: skip


def test_each_program_does_what_the_table_says(shop: Shop, tmp_path: Path) -> None:
    columns: dict[str, dict[str, str]] = {name: {} for name in PROGRAMS}
    for action in ACTIONS:
        for program in PROGRAMS:
            folder = tmp_path / f"{action.__name__} {program}"
            folder.mkdir()
            columns[program][action.__doc__ or ""] = action(shop, program, folder)
    columns["hf-hub (Rust)"] = rust(shop)
    conformance.check("programs", conformance.table(list(columns), columns, "what the program does"))


@contextmanager
def published(hub: Hub, name: str, body: bytes) -> Iterator[tuple[str, Path, Callable[[], None]]]:
    """A model with one file: its address, where its bytes lie, and how to publish it again."""
    settings = Settings.from_env({k: v for k, v in hub.portal.environ.items() if k.startswith("PORTAL_")})
    folder = hub.portal.home / name.replace("/", " ")
    folder.mkdir()
    (folder / FILE).write_bytes(body)

    def again() -> None:
        setup.publish_model(
            settings, directory=folder, name=name, license_slug="bloom-rail", message="", allow_pickle=False,
            progress=lambda _: None,
        )  # fmt: skip

    from portal.catalog import service as catalog
    from portal.core.actor import SYSTEM
    from portal.core.clock import utcnow
    from portal.core.db import make_engine, transaction

    engine = make_engine(settings.database_url)
    with transaction(engine) as session:
        catalog.sync_card(session, full_name=name, text="---\nlicense: other\n---\n\n# M\n", by=SYSTEM, now=utcnow())
    engine.dispose()
    again()
    store = Store(settings.folder("blobs"))
    yield f"{hub.url}/{name}/resolve/main/{FILE}", store.path(hashlib.sha256(body).hexdigest()), again


def test_damaged_bytes_are_refused_by_programs_that_check_and_then_by_the_portal(
    hub: Hub, shop: Shop, tmp_path: Path
) -> None:
    body = os.urandom(3_000_000)
    key = {"Authorization": f"Bearer {hub.tokens['signed']}"}
    with published(hub, "lab/damaged", body) as (url, stored, again):
        stored.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        command = [
            "aria2c", f"--header=Authorization: Bearer {hub.tokens['signed']}", "-q",
            f"--checksum=sha-256={hashlib.sha256(body).hexdigest()}", "-o", "out", url,
        ]  # fmt: skip
        assert subprocess.run(command, cwd=tmp_path, check=False, timeout=60).returncode == 32
        with pytest.raises(AssertionError, match="corrupt"):
            hub.portal.cli("storage", "verify", "--rate", "0")
        for method in ("GET", "HEAD"):
            answer = httpx.request(method, url, headers=key)
            assert answer.status_code == 503
            assert "bytes of weights.safetensors are missing here" in answer.headers["X-Error-Message"]
        again()
        assert httpx.get(url, headers=key).content == body
    assert "hold" in hub.portal.cli("storage", "verify", "--rate", "0")


AWAY = ("access_token", "facts_version")  # who calls, and whether what is remembered of them still holds


@contextmanager
def database_away(hub: Hub) -> Iterator[None]:
    """The database of the running portal answers nothing meanwhile about who calls."""
    database = sqlite3.connect(hub.portal.home / "portal.db", timeout=20, isolation_level=None)
    for table in AWAY:
        database.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        for table in AWAY:
            database.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
        database.close()


def test_a_transfer_is_cut_when_the_database_goes_away_and_goes_on_when_it_is_back(hub: Hub, shop: Shop) -> None:
    token = member.signed_member(hub.portal, "patient@example.org", model=LARGE)
    path, got = f"/{LARGE}/resolve/main/{FILE}", bytearray()
    key = {"Authorization": f"Bearer {token}"}
    with socket.create_connection(("127.0.0.1", hub.portal.port), timeout=30) as line:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        line.sendall(head.encode())
        while b"\r\n\r\n" not in got:
            got += line.recv(4096)
        del got[: got.index(b"\r\n\r\n") + 4]
        with database_away(hub):
            for address in (path, f"/api/models/{LARGE}", f"/api/models/{LARGE}/tree/main"):
                answer = httpx.get(hub.url + address, headers=key, timeout=30)
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
                assert "does not answer just now" in answer.headers["X-Error-Message"]
                assert answer.json()["error"] == answer.headers["X-Error-Message"]
            slow = threading.Event()
            while True:  # slowly, so that it lasts longer than the portal goes on without its records
                try:
                    data = line.recv(65536)
                except ConnectionResetError:
                    break
                if not data:
                    break
                got += data
                slow.wait(0.04)
            assert len(got) < LARGE_BYTES, "cut, since nobody can say any more whether the person may have it"
    rest = httpx.get(hub.url + path, headers={**key, "Range": f"bytes={len(got)}-"}, timeout=60)
    assert rest.status_code == 206
    assert hashlib.sha256(bytes(got) + rest.content).hexdigest() == shop.digest


def test_the_programs_of_these_tests_are_installed_with_the_others() -> None:
    from tests import native

    assert native.PARTS["fetchers"][1]()
    assert "tests.native fetchers" in (ROOT / "Makefile").read_text(encoding="utf-8")
