"""The journal as the loop uses it: written at once, and waited for beside the loop where a loss of power counts."""

import asyncio
import logging
from collections.abc import Callable

from portal.edge.journal import Journal, Record, framed
from portal.edge.threads import Threads

Failed = Callable[[BaseException], None]
Waits = tuple[Callable[[], None], Failed]
log = logging.getLogger("portal.journal")


class Durable:
    """Appends records, and says when they are safe.

    Args:
        journal: where they go.
        threads: where the disk is waited for; who waits meanwhile shares the next sync.
    """

    def __init__(self, journal: Journal, threads: Threads) -> None:
        self.journal, self.threads = journal, threads
        self._waiting: list[Waits] = []
        self._lines: list[bytes] = []
        self._after: list[Waits] = []
        self._position = 0
        self._syncing = False

    @property
    def problem(self) -> str:
        """What is wrong with it, if anything is."""
        return self.journal.problem

    def append(self, *records: Record) -> None:
        """Write records; they survive the process from here on.

        Raises:
            Unavailable: they could not be written, so the answer that they speak of must not be finished.
        """
        self._position = self.journal.write(*records)

    def put(self, body: bytes) -> None:
        """Write a record that is JSON already; as `append`."""
        self._position = self.journal.put(framed(body))

    def put_soon(self, body: bytes, then: Callable[[], None], failed: Failed) -> None:
        """Write a record that is JSON already, and call `then` once it is as durable as it is meant to be, or `failed`.

        What comes in one turn of the loop is written by one write at its end.
        """
        self._lines.append(framed(body))
        self._after.append((then, failed))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        lines, self._lines, after, self._after = self._lines, [], self._after, []
        try:
            self._position = self.journal.put(b"".join(lines))
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            for _, failed in after:
                _tell(failed, error)
            return
        if not self.journal.power_loss:
            _go_on(after)
            return
        self._waiting += after
        if not self._syncing:
            self._sync()

    def sure(self, then: Callable[[], None], failed: Failed) -> None:
        """Call `then` once all that was appended is as durable as it is meant to be, or `failed`."""
        if not self.journal.power_loss:
            then()
            return
        self._waiting.append((then, failed))
        if not self._syncing:
            self._sync()

    def _sync(self) -> None:
        waiting, self._waiting, position = self._waiting, [], self._position
        self._syncing = True

        def go_on() -> None:
            self._syncing = False
            if self._waiting:
                self._sync()

        def done(_nothing: None) -> None:
            _go_on(waiting)
            go_on()

        def broken(error: BaseException) -> None:
            for _, failed in waiting:
                _tell(failed, error)
            go_on()

        self.threads.run(lambda: self.journal.sync(position), done, broken)


def _go_on(waiting: list[Waits]) -> None:
    for then, failed in waiting:
        try:
            then()
        except Exception as error:  # noqa: BLE001 - the others go on, and this one is told
            _tell(failed, error)


def _tell(failed: Failed, error: BaseException) -> None:
    """Tell one who waits; what goes wrong there is not the others' concern."""
    try:
        failed(error)
    except Exception:
        log.exception("after a sync")
