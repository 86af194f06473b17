"""The door to QR codes."""

from dataclasses import dataclass

import segno


@dataclass(frozen=True)
class SquareCode:
    """Words as a QR code: how many squares it is wide, and its dark ones as the path of a drawing."""

    width: int
    path: str


def square_code(words: str) -> SquareCode:
    """Draw words as a QR code."""
    made = segno.make(words, error="m", micro=False, encoding="utf-8")
    rows = [list(row) for row in made.matrix_iter(border=0)]
    dark = [f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, module in enumerate(row) if module]
    return SquareCode(len(rows), "".join(dark))
