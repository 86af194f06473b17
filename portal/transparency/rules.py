"""What is published about moderation and about versions put in force at once, and which figures are kept back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from portal.licensing.rules import ReviewFinding
from portal.moderation.rules import AppealOutcome

SMALL_CELL = 5


@dataclass(frozen=True)
class Figures:
    """What is published about moderation; a figure that could point at a person is None.

    Args:
        months: months with sanctions, oldest first.
        by_clause: clause key → one figure per month.
        filed, overturned: appeals.
        median_hours: median time to answer an appeal.
        late: appeals that were or are unanswered after their due date.
    """

    months: tuple[str, ...]
    by_clause: tuple[tuple[str, tuple[int | None, ...]], ...]
    filed: int | None
    overturned: int | None
    median_hours: float | None
    late: int | None


@dataclass(frozen=True)
class SecondLooks:
    """How second looks at versions that came into force at once went; they point at no person, so all are published.

    Args:
        ordered: how many versions came into force at once.
        on_time, late: looks that were taken before their day, and after it.
        open, overdue: those not taken yet, before their day and after it.
        stands, replace: what those that were taken found.
    """

    ordered: int
    on_time: int
    late: int
    open: int
    overdue: int
    stands: int
    replace: int


def second_looks(rows: Sequence[tuple[datetime, datetime | None, ReviewFinding | None]], now: datetime) -> SecondLooks:
    """Count second looks.

    Args:
        rows: (due, taken, finding) of each.
        now: the present instant.
    """
    taken = [at <= due for due, at, _ in rows if at is not None]
    overdue = sum(at is None and now >= due for due, at, _ in rows)
    found = [finding for *_, finding in rows]
    return SecondLooks(
        len(rows), sum(taken), len(taken) - sum(taken), len(rows) - len(taken) - overdue, overdue,
        found.count(ReviewFinding.STANDS), found.count(ReviewFinding.REPLACE),
    )  # fmt: skip


def suppressed(count: int) -> int | None:
    """Return a figure that may be published: one from 1 to 4 is kept back."""
    return count if count == 0 or count >= SMALL_CELL else None


def figures(
    sanctions: Sequence[tuple[str, datetime]],
    appeals: Sequence[tuple[datetime, datetime, datetime | None, AppealOutcome | None]],
    now: datetime,
) -> Figures:
    """Count sanctions by clause and month, and appeals, and keep back every cell under five.

    Args:
        sanctions: (clause key, when) for each clause that each sanction cites.
        appeals: (filed, due, answered, outcome) of each appeal.
        now: the present instant.
    """
    months = tuple(sorted({f"{at.astimezone(UTC):%Y-%m}" for _, at in sanctions}))
    cells = [(key, f"{at.astimezone(UTC):%Y-%m}") for key, at in sanctions]
    by_clause = tuple(
        (key, tuple(suppressed(cells.count((key, month))) for month in months))
        for key in sorted({key for key, _ in sanctions})
    )
    hours = [(answered - filed).total_seconds() / 3600 for filed, _, answered, _ in appeals if answered]
    return Figures(
        months, by_clause, suppressed(len(appeals)),
        suppressed(sum(outcome is AppealOutcome.OVERTURNED for *_, outcome in appeals)),
        round(median(hours), 1) if len(hours) >= SMALL_CELL else None,
        suppressed(sum((answered or now) > due for _, due, answered, _ in appeals)),
    )  # fmt: skip
