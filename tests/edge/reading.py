"""Reading a journal the way the background process does, and keeping what it says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from portal.edge.journal import JournalReader, Run, frame


class Taken:
    """Collects what a reader hands on, as a database would: each id once."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.reports: list[str] = []

    def __call__(self, records: Sequence[dict[str, Any]]) -> None:
        self.lines += records

    @property
    def ids(self) -> list[Any]:
        return [line["id"] for line in self.lines]


class Reader(JournalReader):
    """Reads, hands on and lets go, as the background process does."""

    def __init__(self, folder: Path, taken: Taken) -> None:
        super().__init__(folder, report=taken.reports.append)
        self.ended: list[Run] = []

    def turn(self, take: Callable[[Sequence[dict[str, Any]]], None], limit: int = 500) -> int:
        batch = self.read(limit)
        take(batch.records)
        self.done(batch)
        self.ended += batch.ended_runs
        return len(batch.records) + batch.more


def reader(folder: Path, taken: Taken) -> Reader:
    return Reader(folder, taken)


def segment(tmp_path: Path, *frames: bytes) -> Path:
    path = tmp_path / "20260101T000000.000000-abc-000001.log"
    head = frame({"kind": "run", "id": "abc", "started_at": "2026-01-01T00:00:00+00:00"})
    path.write_bytes(head + b"".join(frames))
    return path
