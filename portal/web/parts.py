"""Long lists are shown in parts, which an address names: `q` looks for words, `page` goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from flask import request

A_PAGE, PAGES_MAX = 48, 10_000
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """The part of a list that the visitor asked for.

    Args:
        words: what is looked for.
        page: which part, from 1.
    """

    words: str
    page: int

    @property
    def span(self) -> tuple[int, int]:
        """Where to begin, and how many to ask for: one more than is shown says whether it goes on."""
        return (self.page - 1) * A_PAGE, A_PAGE + 1

    def shown(self, rows: Sequence[T]) -> tuple[Sequence[T], "Pages"]:
        """Return what is shown of what was found, and how to go on from it."""
        earlier = self._address(self.page - 1) if self.page > 1 else ""
        return rows[:A_PAGE], Pages(self.words, earlier, self._address(self.page + 1) if len(rows) > A_PAGE else "")

    def _address(self, page: int) -> str:
        asked = {"q": self.words, "page": page} if self.words else {"page": page}
        return f"{request.path}?{urlencode(asked)}"


@dataclass(frozen=True)
class Pages:
    """How to go on from a part of a list.

    Args:
        words: what was looked for.
        earlier, later: addresses of the parts beside it; empty where there is none.
    """

    words: str
    earlier: str
    later: str

    @property
    def some(self) -> bool:
        """Whether this is not all there is, so that looking for something helps."""
        return bool(self.words or self.earlier or self.later)


def asked_part() -> Part:
    """Return the part of a list that the address names; what makes no sense names the first."""
    page = request.args.get("page", 1, type=int)
    return Part(request.args.get("q", "").strip()[:200], min(max(page, 1), PAGES_MAX))
