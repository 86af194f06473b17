"""A loop on which tests of the data plane call handlers, and go on once something has come about."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class Looping:
    """A loop of one's own; it turns only while a test waits for something."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()

    def do(self, work: Callable[..., T], *args: Any, **kept: Any) -> T:
        """Do something on the loop."""

        async def run() -> T:
            return work(*args, **kept)

        return self.loop.run_until_complete(run())

    def until(self, what: Callable[[], T], seconds: float = 60) -> T:
        """Turn until something holds, and return what it is."""

        async def run() -> T:
            deadline = time.monotonic() + seconds
            while not (found := what()):
                if time.monotonic() > deadline:
                    raise AssertionError(f"not within {seconds} s")
                await asyncio.sleep(0.002)
            return found

        return self.loop.run_until_complete(run())

    def turn(self, seconds: float = 0.0) -> None:
        """Turn for a while."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        """End the loop."""
        self.turn(0.01)
        self.loop.close()
