"""Which code runs: the commit of the checkout that it was started from."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COMMIT = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")


def commit(root: Path = ROOT) -> str | None:
    """Return the commit that is checked out in a folder; None if it is no checkout, as in an installed portal."""
    try:
        folder = root / ".git"
        if folder.is_file():  # a further working tree of a repository that lies elsewhere
            folder = (root / folder.read_text("ascii").removeprefix("gitdir:").strip()).resolve()
        head = (folder / "HEAD").read_text("ascii").strip()
        found = _resolve(folder, head.removeprefix("ref:").strip()) if head.startswith("ref:") else head
    except (OSError, ValueError):
        return None
    return found if COMMIT.fullmatch(found) else None


def _resolve(folder: Path, name: str) -> str:
    shared = folder / "commondir"
    common = (folder / shared.read_text("ascii").strip()).resolve() if shared.is_file() else folder
    for place in (folder / name, common / name):
        if place.is_file():
            return place.read_text("ascii").strip()
    packed = (common / "packed-refs").read_text("ascii").splitlines()
    return next((line.split(" ")[0] for line in packed if line.endswith(f" {name}")), "")
