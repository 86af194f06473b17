"""The line that an inference leaves before the last byte of its answer, and what is written of it until then."""

import time
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

import orjson

from portal.core.clock import written_now
from portal.edge.durable import Durable
from portal.edge.health import Figure, Figures
from portal.usage.rules import Counters, Limits, Outcome, Record, counts_as_call, use_finished

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Known:
    """What the lines of all uses under one admission say alike."""

    __slots__ = ("_rest", "fields")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        self._rest = b""

    def beside(self, line: Record) -> bytes:
        """Return a line as the journal holds it, with all that is known beside it, which is written out only once.

        A line that ends a use always has the same names, so what it does not say itself is always the same.
        """
        if not self._rest:
            rest = {name: value for name, value in self.fields.items() if name not in line}
            self._rest = b"," + orjson.dumps(rest)[1:] if rest else b"}"
        return orjson.dumps(line)[:-1] + self._rest


class Visit(Protocol):
    """What else has to be told that a request is over."""

    def over(self, request_id: str) -> None:
        """It has ended, in whatever way."""


class Entry:
    """What is written about one request: finished exactly once, whatever becomes of it.

    Args:
        known: what the line says of every request under the same admission.
        said: what it says of this one.
        silent: only counted, never written.
    """

    __slots__ = (
        "_began", "_reserved", "counters", "figures", "finished", "journal", "known", "said", "silent", "visit",
        "written",
    )  # fmt: skip

    def __init__(
        self, journal: Durable, counters: Counters, figures: Figures, known: Known, said: dict[str, Any],
        *, silent: bool = False,
    ) -> None:  # fmt: skip
        self.journal, self.counters, self.figures, self.silent = journal, counters, figures, silent
        self._began = time.monotonic()
        self.known, self.said = known, said
        said["started_at"] = written_now()
        self.finished = self.written = False
        self._reserved: int | None = None
        self.visit: Visit | None = None

    @property
    def opened(self) -> Record:
        """The line that says that it began."""
        return {**self.known.fields, **self.said, "at": self.said["started_at"]}

    @property
    def _day(self) -> str:
        day: str = self.said["started_at"][:10]
        return day

    def reserve(self, text_tokens: int, limits: Limits) -> str | None:
        """Set text tokens and one call aside, or return the reason code of the limit in the way."""
        code = self.counters.reserve(self.known.fields["user_id"], text_tokens, limits, self._day)
        if code is None:
            self._reserved = self.said["reserved"] = text_tokens
        return code

    def give_back(self) -> None:
        """Forget about a request that was not even begun."""
        self._ends()
        self._settle(0, counts=False)

    def finish(self, outcome: Outcome, **more: Any) -> None:
        """Write how it ended, as `end` says, before this returns.

        Raises:
            Unavailable: it could not be written, so the answer must not be finished.
        """
        line = self.end(outcome, **more)
        if line is not None:
            self.journal.put(line)

    def end(
        self, outcome: Outcome, *, reason_code: str = "", prompt_tokens: int = 0, completion_tokens: int = 0,
        **more: Any,
    ) -> bytes | None:  # fmt: skip
        """Settle what was set aside, and return the line that is to be written; the first end counts."""
        if self.finished:
            return None
        self._ends()
        counts = counts_as_call(outcome, completion_tokens)
        if not counts:
            prompt_tokens = completion_tokens = 0
        self._settle(prompt_tokens + completion_tokens, counts=counts)
        said = self.said
        self.figures.ended(_requests(said["channel"], outcome), prompt_tokens, completion_tokens)
        if self.silent:
            return None
        said.setdefault("reserved", 0)
        line = use_finished(
            NOTHING, said, at=written_now(), outcome=outcome, reason_code=reason_code, prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens, ms=int((time.monotonic() - self._began) * 1000), **more,
        )  # fmt: skip
        return self.known.beside(line)

    def _ends(self) -> None:
        self.finished = True
        if self.visit is not None:
            self.visit.over(self.said["id"])

    def _settle(self, used: int, *, counts: bool) -> None:
        if self._reserved is not None:
            person = self.known.fields["user_id"]
            self.counters.settle(person, self._day, self._reserved, used, counts_as_call=counts)
            self._reserved = None


@cache
def _requests(channel: str, outcome: Outcome) -> Figure:
    return Figures.named("portal_requests_total", channel=channel, outcome=str(outcome))
