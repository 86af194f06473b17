"""Puts the pictures of all pages side by side, so that they can be looked at together.

    python -m tests.browser.sheets FOLDER

Reads ``NAME-WIDTH-SCHEME.png`` there and writes ``sheets/WIDTH-SCHEME-NUMBER.png``.
"""

import shutil
import sys
from itertools import count, islice
from pathlib import Path
from typing import Any

from tests.browser.conftest import ARGUMENTS
from tests.browser.pages import PICTURE_WIDTHS

SHOWN = {360: (280, 8), 768: (420, 5), 1440: (640, 3)}  # px of each picture, and how many in a line
LINES = 3
STYLE = """
body { margin: 0; display: grid; gap: 8px; background: #888; font: 14px sans-serif; }
figure { height: 900px; margin: 0; overflow: hidden; background: #fff; }
figcaption { padding: 2px 6px; }
img { display: block; width: 100%; }
"""


def write_sheets(page: Any, folder: Path, width: int, scheme: str) -> None:
    """Write the sheets of one width, in light or in dark."""
    size, columns = SHOWN[width]
    page.set_viewport_size({"width": columns * (size + 8), "height": 900})
    pictures = iter(sorted(folder.glob(f"*-{width}-{scheme}.png")))
    place, number = folder / "sheet.html", count(1)
    while some := list(islice(pictures, columns * LINES)):
        figures = [f"<figure><figcaption>{p.stem}</figcaption><img src={p.as_uri()}></figure>" for p in some]
        grid = f"body {{ grid-template-columns: repeat({columns}, {size}px) }}"
        place.write_text(f"<!DOCTYPE html><meta charset=utf-8><style>{STYLE}{grid}</style>{''.join(figures)}")
        page.goto(place.as_uri())
        page.screenshot(path=folder / "sheets" / f"{width}-{scheme}-{next(number)}.png", full_page=True)
    place.unlink(missing_ok=True)


def main(folder: Path) -> None:
    """Write the sheets of a folder."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page()
        for width in PICTURE_WIDTHS:
            for scheme in ("light", "dark"):
                write_sheets(page, folder.resolve(), width, scheme)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
