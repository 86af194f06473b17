"""Work that has to wait, such as asking the database, done beside the loop and brought back to it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
THREADS = 8


class Threads:
    """A few threads; what they return is handed to the loop that asked."""

    def __init__(self, count: int = THREADS, name: str = "edge") -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    def run(self, work: Callable[[], T], done: Callable[[T], None], failed: Callable[[BaseException], None]) -> None:
        """Do work in a thread, then call `done` with what it returned, or `failed` with what it raised, on the loop."""
        loop = asyncio.get_running_loop()

        def back(future: Future[T]) -> None:
            error = future.exception()
            try:
                if error is None:
                    loop.call_soon_threadsafe(done, future.result())
                else:
                    loop.call_soon_threadsafe(failed, error)
            except RuntimeError:
                pass  # the loop has ended meanwhile: nobody waits for this any more

        self._pool.submit(work).add_done_callback(back)

    def close(self) -> None:
        """Wait for what runs, and take no more."""
        self._pool.shutdown(cancel_futures=True)
