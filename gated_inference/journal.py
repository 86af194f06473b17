"""The lines that an inference leaves: one before an engine is asked, one before the last byte of the answer."""

import time
from datetime import datetime

from portal.core.clock import utcnow
from portal.edge.health import Figures
from portal.edge.journal import Journal
from portal.usage.rules import Counters, Limits, Outcome, Record, counts_as_call, day_of, use_finished


class Entry:
    """What is written about one request: opened at most once, finished exactly once, whatever becomes of it."""

    def __init__(self, journal: Journal, counters: Counters, figures: Figures, opened: Record) -> None:
        self.journal, self.counters, self.figures, self.opened = journal, counters, figures, opened
        self.finished = False
        self.silent = False
        self._began = time.monotonic()
        self._day = day_of(datetime.fromisoformat(opened["started_at"]))
        self._reserved: int | None = None
        self._open = False

    def reserve(self, text_tokens: int, limits: Limits) -> str | None:
        """Set text tokens and one call aside, or return the reason code of the limit in the way."""
        at = datetime.fromisoformat(self.opened["started_at"])
        code = self.counters.reserve(self.opened["user_id"], text_tokens, limits, at)
        if code is None:
            self._reserved = self.opened["reserved"] = text_tokens
        return code

    def open(self) -> None:
        """Write that an engine is about to be asked."""
        try:
            self.journal.append(self.opened)
        except BaseException:
            self.finished = True
            self._settle(0, counts=False)
            raise
        self.figures.add("portal_in_flight")
        self._open = True

    def finish(
        self, outcome: Outcome, *, reason_code: str = "", prompt_tokens: int = 0, completion_tokens: int = 0
    ) -> None:
        """Write how it ended and settle what was set aside; the first end counts.

        Raises:
            Unavailable: it could not be written, so the answer must not be finished.
        """
        if self.finished:
            return
        self.finished = True
        counts = counts_as_call(outcome, completion_tokens)
        if not counts:
            prompt_tokens = completion_tokens = 0
        self._settle(prompt_tokens + completion_tokens, counts=counts)
        if self._open:
            self.figures.add("portal_in_flight", -1)
        self.figures.add("portal_requests_total", channel=self.opened["channel"], outcome=outcome.value)
        self.figures.add("portal_text_tokens_total", prompt_tokens, kind="prompt")
        self.figures.add("portal_text_tokens_total", completion_tokens, kind="completion")
        if self.silent:
            return
        ms = int((time.monotonic() - self._began) * 1000)
        line = use_finished(
            self.opened, at=utcnow(), outcome=outcome, reason_code=reason_code, prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens, ms=ms,
        )  # fmt: skip
        self.journal.append(line)

    def _settle(self, used: int, *, counts: bool) -> None:
        if self._reserved is not None:
            person = self.opened["user_id"]
            self.counters.settle(person, self._day, self._reserved, used, counts_as_call=counts)
            self._reserved = None
