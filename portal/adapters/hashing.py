"""Passwords as argon2id digests: 19 MiB, two passes, one lane; at most one at a time for each core."""

import os
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from portal.adapters.guessing import Guesser
from portal.core.errors import Unavailable

MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
WAIT_SECONDS = 5.0
IN_ALL = 10  # at work and waiting: each holds a connection to the database, of which a process has 15


def cores() -> int:
    """Return how many cores this process may use for digests."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, IN_ALL)


class Hasher:
    """Makes and checks password digests, never more at once than there are cores, and few that wait.

    Args:
        at_once: digests computed at the same time; by default one for each core.
        wait: seconds that a call waits for its turn before it gives up.
        guesser: judges new passwords.
    """

    def __init__(self, at_once: int | None = None, wait: float = WAIT_SECONDS, guesser: Guesser | None = None) -> None:
        self.weakness = (guesser or Guesser()).weakness
        self._argon2 = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID)
        self._turns = BoundedSemaphore(at_once or cores())
        self._wait = wait
        self._queue = BoundedSemaphore(IN_ALL)
        self._nobody = self._argon2.hash(secrets.token_bytes(16))

    def hash(self, password: str) -> str:
        """Return the digest of a password, salted anew."""
        with self._turn():
            return self._argon2.hash(_bytes(password))

    def verify(self, digest: str, password: str) -> bool:
        """Say whether a password belongs to a digest."""
        with self._turn():
            try:
                return self._argon2.verify(digest, _bytes(password))
            except (VerificationError, InvalidHashError):
                return False

    def verify_nobody(self, password: str) -> bool:
        """Take the time of a check for an account that does not exist; the answer is always no."""
        self.verify(self._nobody, password)
        return False

    def needs_rehash(self, digest: str) -> bool:
        """Say whether a digest was made with other costs than today's."""
        try:
            return self._argon2.check_needs_rehash(digest)
        except InvalidHashError:
            return True

    @contextmanager
    def _turn(self) -> Iterator[None]:
        busy = Unavailable("sign_in_busy", "Too many people sign in at this moment. Try again in a few seconds.")
        if not self._queue.acquire(blocking=False):
            raise busy  # at once: whoever waits keeps a thread from pages
        try:
            if not self._turns.acquire(timeout=self._wait):
                raise busy
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._queue.release()


def _bytes(password: str) -> bytes:
    """Write a password the one way in which keyboards that compose letters differently agree."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
