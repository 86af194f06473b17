"""Looks for the native parts that Python packages cannot bring, and installs them where it may.

    python -m tests.native pango|chromium|fetchers

Exit code 0 also when a part is missing and cannot be installed here: one line says what will not work until then.
"""

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

FONTS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".fonts", Path("/Library/Fonts"))


def cjk() -> bool:
    """Say whether a font for Chinese is there; without one, receipts of a Chinese text would show boxes."""
    return any(folder.exists() and any(folder.rglob("*CJK*")) for folder in FONTS)


PARTS = {
    "pango": (
        ["libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0", "fonts-noto-core", "fonts-noto-cjk"],
        lambda: bool(ctypes.util.find_library("pango-1.0") and ctypes.util.find_library("pangoft2-1.0") and cjk()),
        "PDF documents",
    ),
    "fetchers": (
        ["curl", "wget", "aria2"],
        lambda: all(map(shutil.which, ("curl", "wget", "aria2c"))),
        "tests of downloads with curl, wget and aria2c",
    ),
    "chromium": (
        ["chromium"],
        lambda: bool(shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")),
        "browser tests",
    ),
}


def main(name: str) -> None:
    packages, present, purpose = PARTS[name]
    if present():
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {name} with apt-get…", flush=True)
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ("apt-get update -qq", line + " -qq"):
            subprocess.run(command.split(), env=environ, check=False, stdout=subprocess.DEVNULL)
    if not present():
        print(f"{name} is missing: {purpose} will not work until you run\n  sudo {line}")


if __name__ == "__main__":
    main(sys.argv[1])
