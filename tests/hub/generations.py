"""Three generations of official Hub clients, each run as its own program with a home of its own."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from socket import SHUT_RDWR, create_connection, create_server, socket
from typing import Any

from tests.hub.environments import MID, OLD

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DOWNLOAD_TIMEOUT": "30", "HF_HUB_ETAG_TIMEOUT": "30", "TRANSFORMERS_VERBOSITY": "error",
    "NO_COLOR": "1", "COLUMNS": "400", "OMP_NUM_THREADS": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Generation:
    """A generation of clients.

    Args:
        name: how tests call it.
        python: its interpreter.
        tool: the module of its command line.
    """

    name: str
    python: str
    tool: str

    def environ(self, home: Path, endpoint: str, token: str | None) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PORTAL_", "HUGGING", "PYTHONPATH"))}
        made = {**kept, **QUIET, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HOME": str(home)}
        return {**made, "HF_TOKEN": token} if token else made

    def cli(
        self, home: Path, endpoint: str, *args: str, token: str | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the client's own command line."""
        return subprocess.run(
            [self.python, "-m", self.tool, *args], env=self.environ(home, endpoint, token) | environ,
            capture_output=True, text=True, timeout=600, check=False, cwd=home,
        )  # fmt: skip

    def run(self, home: Path, endpoint: str, code: str, token: str | None = None, **values: Any) -> Any:
        """Run a program in the client's environment; it finds `values`, and what it calls `result` comes back."""
        program = f"import json\nglobals().update(json.loads({json.dumps(values)!r}))\n{code}\n"
        program += "print('\\nRESULT ' + json.dumps(result))\n"
        done = subprocess.run(
            [self.python, "-W", "ignore", "-c", program], env=self.environ(home, endpoint, token), capture_output=True,
            text=True, timeout=600, check=False, cwd=home,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert lines, f"{self.name}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return json.loads(lines[-1].removeprefix("RESULT "))


GENERATIONS = (
    Generation("new", sys.executable, "huggingface_hub.cli.hf"),
    Generation("mid", str(MID.python), "huggingface_hub.commands.huggingface_cli"),
    Generation("old", str(OLD.python), "huggingface_hub.commands.huggingface_cli"),
)


class Wire:
    """A line to the portal that breaks once while a certain file is on it, and remembers what was asked.

    Args:
        port: where the portal listens.
        path: part of the address of the file.
        after: how many bytes of the answer get through the first time.
    """

    def __init__(self, port: int, path: str, after: int) -> None:
        self.target = ("127.0.0.1", port)
        self.path = path.encode()
        self.after = after
        self.asked: list[str] = []
        self.broken = False
        self.server = create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.getsockname()[1]}"

    def close(self) -> None:
        self.server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            portal = create_connection(self.target)
            state = {"left": -1}
            for source, sink, outward in ((client, portal, True), (portal, client, False)):
                threading.Thread(target=self._relay, args=(source, sink, outward, state), daemon=True).start()

    def _relay(self, source: socket, sink: socket, outward: bool, state: dict[str, int]) -> None:
        try:
            while data := source.recv(65536):
                if outward:
                    self._note(data, state)
                elif state["left"] >= 0:
                    data = data[: state["left"]]
                    state["left"] -= len(data)
                    if not data:
                        break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(SHUT_RDWR)
            end.close()

    def _note(self, data: bytes, state: dict[str, int]) -> None:
        head = data.decode("latin-1")
        if head.startswith("GET ") and self.path in data:
            ranges = [line for line in head.splitlines() if line.lower().startswith("range:")]
            self.asked.append(ranges[0].partition(":")[2].strip() if ranges else "")
            if not self.broken:
                self.broken, state["left"] = True, self.after
