"""A terminal in which somebody signs in with the official client."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hub.generations import GENERATIONS

NEW = GENERATIONS[0]


@dataclass
class Terminal:
    """A terminal in which ``hf auth login`` runs."""

    process: subprocess.Popen[str]
    url: str = ""
    code: str = ""

    def read_code(self) -> None:
        """Read on until the client says where to go and which code to enter."""
        assert self.process.stdout is not None
        seen = ""
        while not self.code:
            line = self.process.stdout.readline()
            assert line, f"{seen}\n{self.process.stderr.read() if self.process.stderr else ''}"
            seen += line
            self.url = self.url or "".join(re.findall(r"https?://\S+", line)[:1])
            self.code = "".join(re.findall(r"enter the code: (\S+)", line))

    def end(self) -> tuple[int, str]:
        """Wait until the client ends and return its exit status and what it said."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out + err


@contextmanager
def logging_in(home: Path, endpoint: str, *, waits: bool = True, **environ: str) -> Iterator[Terminal]:
    """Run ``hf auth login``, and read on until it shows its code."""
    home.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [NEW.python, "-m", NEW.tool, "auth", "login"], env={**NEW.environ(home, endpoint, None), **environ}, cwd=home,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    terminal = Terminal(process)
    try:
        if waits:
            terminal.read_code()
        yield terminal
    finally:
        process.kill()
        process.communicate()
