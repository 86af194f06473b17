"""Checks of `make check` that need no test run: the docs are fresh and templates keep to the house.

python -m tests.check
"""

import re
import subprocess
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, TemplateSyntaxError

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "portal" / "templates"
FORBIDDEN = (
    (re.compile(r"\sstyle\s*="), "an inline style; use the style sheet"),
    (re.compile(r"<script(?![^>]*\bsrc=)"), "an inline script"),
    (re.compile(r"\son[a-z]+\s*="), "an inline handler"),
    (re.compile(r"\|\s*safe\b"), "the filter `safe`; only the Markdown door makes safe text"),
    (re.compile(r"<img(?![^>]*\balt=)"), "an image without alt"),
)


def python_files(*roots: str) -> list[Path]:
    """Return the Python files below some folders, relative to the root, in order."""
    return sorted(
        p.relative_to(ROOT) for root in roots for p in (ROOT / root).rglob("*.py") if "__pycache__" not in p.parts
    )


def template_faults() -> list[str]:
    """Return what is wrong with templates, one line each."""
    # It only parses; nothing is rendered here.
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    faults = []
    for path in sorted(TEMPLATES.rglob("*.html")):
        name = path.relative_to(TEMPLATES).as_posix()
        text = path.read_text(encoding="utf-8")
        try:
            environment.parse(text)
        except TemplateSyntaxError as error:
            faults.append(f"{name}:{error.lineno}: {error.message}")
        page = "{% extends" in text
        if page and "{% block title %}" not in text:
            faults.append(f"{name}: the page has no title")
        for number, line in enumerate(text.splitlines(), 1):
            faults += [f"{name}:{number}: {why}" for pattern, why in FORBIDDEN if pattern.search(line)]
            if "\t" in line or line != line.rstrip():
                faults.append(f"{name}:{number}: tabs or trailing spaces")
    return faults


def stale_docs() -> list[str]:
    """Return the generated pages that differ from what `portal docs` would write."""
    done = subprocess.run(
        [sys.executable, "-m", "portal.cli", "docs", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [] if done.returncode == 0 else (done.stderr or done.stdout).splitlines()


def main() -> None:
    """Print every fault and exit with 1 if there is one."""
    faults = template_faults() + stale_docs()
    print("\n".join(faults) or "templates and docs: in order")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
