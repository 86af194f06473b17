"""A lifecycle is its table: from a state, by an action, to a state."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from portal.core.errors import Conflict

S = TypeVar("S", bound=StrEnum)
A = TypeVar("A", bound=StrEnum)


class Machine(Generic[S, A]):
    """The moves that one kind of record may make.

    Args:
        name: what moves, in domain words, for messages.
        start: the state of a new record.
        table: ``{(state, action): state}``; what is absent is refused.
    """

    def __init__(self, name: str, start: S, table: Mapping[tuple[S, A], S]) -> None:
        self.name = name
        self.start = start
        self.table = dict(table)

    def next(self, state: S, action: A) -> S:
        """Return the state after an action, or raise `Conflict` when the table has no such move."""
        try:
            return self.table[state, action]
        except KeyError:
            raise Conflict("move_refused", f"A {self.name} that is {state} cannot {action}.") from None

    def can(self, state: S, action: A) -> bool:
        """Say whether the table has the move."""
        return (state, action) in self.table
