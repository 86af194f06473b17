"""Answers worked out from the database, kept for only as long as nothing that they rest on has changed."""

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.core.change import Watch, facts_version
from portal.core.db import transaction
from portal.core.errors import Unavailable
from portal.edge.threads import Threads

KEPT_MAX = 50_000
PASSING_MAX = 1_024
WAITING_MAX = 1_024
V = TypeVar("V")
log = logging.getLogger("portal.fresh")


@dataclass(frozen=True, slots=True)
class Found(Generic[V]):
    """An answer.

    Args:
        until: the second since 1970 at which time alone may change it.
        passing: it is about somebody unknown; such answers have a small place of their own.
    """

    value: V
    until: float = float("inf")
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Kept(Generic[V]):
    """An answer that was worked out, and for how long it may be used; `Fresh.holds` says whether that is now."""

    value: V
    until: float
    generation: int


@dataclass(frozen=True, slots=True)
class _Waits(Generic[V]):
    wanted: int | None
    then: Callable[[V], None]
    failed: Callable[[BaseException], None]


class Fresh(Generic[V]):
    """A cache that is never older than the database.

    An answer is used while the facts' version stands where it stood when the answer was worked out, and until its
    own time is over. A question that comes while the same one is being worked out waits for that answer, unless the
    facts changed in between: then it is worked out again.

    Args:
        engine: the database, which is only read.
        watch: knows the version now.
        threads: where answers are worked out.
    """

    def __init__(
        self, engine: sa.Engine, watch: Watch, threads: Threads, clock: Callable[[], float] = time.time
    ) -> None:
        self.engine, self.watch, self.threads, self.clock = engine, watch, threads, clock
        self.loads = 0
        self._kept: dict[Hashable, Kept[V]] = {}
        self._passing: dict[Hashable, Kept[V]] = {}
        self._waiting: dict[Hashable, list[_Waits[V]]] = {}

    def peek(self, key: Hashable) -> V | None:
        """Return an answer that holds now, if there is one."""
        kept = self.kept(key)
        return kept.value if kept is not None else None

    def kept(self, key: Hashable) -> Kept[V] | None:
        """Return what is kept of an answer that holds now."""
        kept = self._kept.get(key) or self._passing.get(key)
        return kept if kept is not None and self.holds(kept) else None

    def holds(self, kept: Kept[V]) -> bool:
        """Say whether an answer that was kept holds now."""
        now = self.watch.current()
        return now is not None and kept.generation >= now and self.clock() < kept.until

    def ask(
        self,
        key: Hashable,
        load: Callable[[Session], Found[V]],
        then: Callable[[V], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Hand `then` an answer that holds now: at once if it is known, else once a thread has worked it out."""
        now = self.watch.current()
        value = self._peek(key, now)
        if value is not None:
            then(value)
            return
        waits = _Waits(now, then, failed)
        waiting = self._waiting.get(key)
        if now is not None and waiting is not None:
            waiting.append(waits)
            return
        if self.loads >= WAITING_MAX:
            failed(Unavailable("busy", "The portal has too much to do just now. Try again in a moment."))
            return
        others: list[_Waits[V]] = []
        if now is not None:
            self._waiting[key] = others
        self._load(key, load, waits, others)

    def _peek(self, key: Hashable, now: int | None) -> V | None:
        kept = self._kept.get(key) or self._passing.get(key)
        return kept.value if kept is not None and self._holds(kept, now) else None

    def _holds(self, kept: Kept[V], now: int | None) -> bool:
        return now is not None and kept.generation >= now and self.clock() < kept.until

    def _load(
        self, key: Hashable, load: Callable[[Session], Found[V]], first: _Waits[V], others: list[_Waits[V]]
    ) -> None:
        def work() -> tuple[int, Found[V]]:
            with transaction(self.engine, write=False) as session:
                generation = facts_version(session)
                return generation, load(session)

        def over() -> None:
            self.loads -= 1
            if self._waiting.get(key) is others:
                del self._waiting[key]

        def done(answer: tuple[int, Found[V]]) -> None:
            over()
            generation, found = answer
            self._keep(key, found, generation)
            for one in (first, *others):
                if one is first or generation >= (one.wanted or 0):
                    _tell(one.then, found.value)
                else:
                    self.ask(key, load, one.then, one.failed)

        def failed(error: BaseException) -> None:
            over()
            for one in (first, *others):
                _tell(one.failed, error)

        self.loads += 1
        self.threads.run(work, done, failed)

    def _keep(self, key: Hashable, found: Found[V], generation: int) -> None:
        place, most = (self._passing, PASSING_MAX) if found.passing else (self._kept, KEPT_MAX)
        self._kept.pop(key, None)
        self._passing.pop(key, None)
        if found.until <= self.clock():
            return
        while len(place) >= most:
            del place[next(iter(place))]
        place[key] = Kept(found.value, found.until, generation)


def _tell(callback: Callable[..., None], said: object) -> None:
    """Call somebody who waits; what goes wrong there is not the others' concern."""
    try:
        callback(said)
    except Exception:
        log.exception("handling an answer")
