"""The line that an inference leaves before the last byte of its answer, and what is written of it until then."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from portal.core.clock import utcnow
from portal.edge.durable import Durable
from portal.edge.health import Figures
from portal.usage.rules import Counters, Limits, Outcome, Record, counts_as_call, day_of, use_finished

PROMPT, COMPLETION = (Figures.named("portal_text_tokens_total", kind=kind) for kind in ("prompt", "completion"))


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
        "_at", "_began", "_reserved", "counters", "figures", "finished", "journal", "known", "said", "silent", "visit",
        "written",
    )  # fmt: skip

    def __init__(
        self, journal: Durable, counters: Counters, figures: Figures, known: Mapping[str, Any], said: dict[str, Any],
        *, silent: bool = False,
    ) -> None:  # fmt: skip
        self.journal, self.counters, self.figures, self.silent = journal, counters, figures, silent
        self._at, self._began = utcnow(), time.monotonic()
        self.known, self.said = known, said
        said["started_at"] = self._at.isoformat()
        self.finished = self.written = False
        self._reserved: int | None = None
        self.visit: Visit | None = None

    @property
    def opened(self) -> Record:
        """The line that says that it began."""
        return {**self.known, **self.said, "at": self.said["started_at"]}

    def reserve(self, text_tokens: int, limits: Limits) -> str | None:
        """Set text tokens and one call aside, or return the reason code of the limit in the way."""
        code = self.counters.reserve(self.known["user_id"], text_tokens, limits, self._at)
        if code is None:
            self._reserved = self.said["reserved"] = text_tokens
        return code

    def give_back(self) -> None:
        """Forget about a request that was not even begun."""
        self._ends()
        self._settle(0, counts=False)

    def finish(
        self, outcome: Outcome, *, reason_code: str = "", prompt_tokens: int = 0, completion_tokens: int = 0,
        **more: Any,
    ) -> None:  # fmt: skip
        """Write how it ended and settle what was set aside; the first end counts.

        Raises:
            Unavailable: it could not be written, so the answer must not be finished.
        """
        if self.finished:
            return
        self._ends()
        counts = counts_as_call(outcome, completion_tokens)
        if not counts:
            prompt_tokens = completion_tokens = 0
        self._settle(prompt_tokens + completion_tokens, counts=counts)
        figures = self.figures
        figures.add(("portal_requests_total", (("channel", self.said["channel"]), ("outcome", str(outcome)))))
        if counts:
            figures.add(PROMPT, prompt_tokens)
            figures.add(COMPLETION, completion_tokens)
        if self.silent:
            return
        ms = int((time.monotonic() - self._began) * 1000)
        line = use_finished(
            self.known, self.said, at=utcnow(), outcome=outcome, reason_code=reason_code, prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens, ms=ms, **more,
        )  # fmt: skip
        self.journal.append(line)

    def _ends(self) -> None:
        self.finished = True
        if self.visit is not None:
            self.visit.over(self.said["id"])

    def _settle(self, used: int, *, counts: bool) -> None:
        if self._reserved is not None:
            person, day = self.known["user_id"], day_of(self._at)
            self.counters.settle(person, day, self._reserved, used, counts_as_call=counts)
            self._reserved = None
