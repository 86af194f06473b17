"""Two older generations of Hub clients, each in an environment of its own: ``python -m tests.hub.environments``.

The newest generation is the project's own environment. Quick when everything is there already.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venvs"
STAMP = "portal-ready.json"


@dataclass(frozen=True)
class Environment:
    """A client generation.

    Args:
        name: name of its folder.
        packages: what pip installs with all that they need.
        alone: what pip installs without looking at what they need; the project's own packages serve for that.
        borrows: packages missing here are taken from the project's environment, which spares a second torch.
    """

    name: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    borrows: bool = False

    @property
    def root(self) -> Path:
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def wanted(self) -> dict[str, object]:
        """What a finished environment says of itself; it is made anew when this differs."""
        return {
            "packages": [*self.packages, *self.alone], "python": sys.version, "root": str(self.root),
            "borrows": _own_packages() if self.borrows else "",
        }  # fmt: skip

    @property
    def is_ready(self) -> bool:
        try:
            return bool(json.loads((self.root / STAMP).read_text()) == self.wanted)
        except (OSError, ValueError):
            return False


OLD = Environment("hub-old", ("huggingface_hub==0.24.7",))
MID = Environment(
    "hub-mid",
    ("huggingface_hub==0.36.0", "hf-xet>=1.1.3,<2", "requests>=2.32"),
    alone=("transformers==4.57.6", "tokenizers==0.22.2"),
    borrows=True,
)
ALL = (OLD, MID)


def _own_packages() -> str:
    return sysconfig.get_paths()["purelib"]


def make(environment: Environment) -> None:
    """Make an environment unless it is there."""
    if environment.is_ready:
        return
    print(f"Installing the Hub client of {environment.name} ({', '.join(environment.packages)})…", flush=True)
    shutil.rmtree(environment.root, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment.root)], check=True)
    _pip(environment, *environment.packages)
    if environment.alone:
        _pip(environment, "--no-deps", *environment.alone)
    if environment.borrows:
        # A line of a .pth file comes after the environment's own folder, so its own packages win.
        folder = subprocess.run(
            [str(environment.python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        (Path(folder) / "zz_borrowed.pth").write_text(f"{_own_packages()}\n", encoding="utf-8")
    (environment.root / STAMP).write_text(json.dumps(environment.wanted))


def _pip(environment: Environment, *args: str) -> None:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [str(environment.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *args]
    subprocess.run(command, check=True, env=kept)


def main() -> None:
    """Make every environment."""
    FOLDER.mkdir(exist_ok=True)
    for environment in ALL:
        make(environment)


if __name__ == "__main__":
    main()
