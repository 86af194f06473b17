"""Rows for spreadsheets: CSV whose cells are shown and never computed."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def cell(value: Any) -> Any:
    """Return a value that a spreadsheet takes for text or a number, never for a formula: others choose such words."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def lines(rows: Iterable[Mapping[str, Any]], names: Iterable[str] = ()) -> Iterator[str]:
    """Write rows as lines of CSV, headed by their names.

    Args:
        rows: all with the same names.
        names: heads a sheet without rows.
    """
    head = list(names)
    if head:
        yield _line(head)
    for row in rows:
        if not head:
            head = list(row)
            yield _line(head)
        yield _line([cell(row[name]) for name in head])


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
