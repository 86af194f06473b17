"""The monthly report on moderation, what it keeps back, and how second looks at license versions went."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from portal.audit.rules import Event
from portal.licensing.rules import ReviewFinding

SMALL_CELL = 5
SCHEMA = "transparency/1"
KEPT_BACK = f"under {SMALL_CELL}"
TOO_FEW = "too few"


@dataclass(frozen=True)
class MonthPublished(Event, name="transparency:report:published"):
    """The report of a month was published; `sha256` names its exact bytes."""

    sha256: str


@dataclass(frozen=True)
class Counted:
    """A sanction under one of the clauses that its decision cites."""

    clause: str
    sanction: str
    origin: str
    automated: str


@dataclass(frozen=True)
class Answered:
    """An appeal that was answered: when it was filed, due and answered, and how."""

    filed_at: datetime
    due_at: datetime
    decided_at: datetime
    outcome: str


@dataclass(frozen=True)
class Happened:
    """What happened in a month.

    Args:
        first_actions: of each case that somebody began to look into, how long it had waited.
        appeals_filed: how many appeals were filed.
        answered: the appeals that were answered.
        reports, reports_answered, reports_borne_out: reports from outside.
        leaked: access tokens that were ended because they were found in public, by who told.
    """

    sanctions: Sequence[Counted] = ()
    first_actions: Sequence[timedelta] = ()
    appeals_filed: int = 0
    answered: Sequence[Answered] = ()
    reports: int = 0
    reports_answered: int = 0
    reports_borne_out: int = 0
    leaked: Sequence[tuple[str, int]] = ()


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


def shown(count: int) -> int | None:
    """Return a figure that may be published: one from 1 to 4 is kept back, because it could point at a person."""
    return count if count == 0 or count >= SMALL_CELL else None


def quantile(waits: Sequence[timedelta], percent: int) -> int | None:
    """Return in whole minutes what so many of a hundred waited at most (nearest rank), unless they are too few."""
    if len(waits) < SMALL_CELL:
        return None
    return round(sorted(waits)[max(ceil(len(waits) * percent / 100), 1) - 1].total_seconds() / 60)


def compose(month: str, happened: Happened) -> dict[str, Any]:
    """Return the report of a month, small cells kept back (None).

    It holds no sums over its rows: beside one figure that is kept back, a sum would tell it.
    """
    waits = [a.decided_at - a.filed_at for a in happened.answered]
    outcomes = Counter(a.outcome for a in happened.answered)
    overturned, answered = shown(outcomes["overturned"]), shown(len(waits))
    return {
        "schema": SCHEMA, "month": month,
        "sanctions": [
            {
                "clause": c.clause, "sanction": c.sanction, "origin": c.origin, "automated": c.automated,
                "count": shown(count),
            }
            for c, count in sorted(Counter(happened.sanctions).items(), key=lambda item: _key(item[0]))
        ],
        "first_action": {
            "cases": shown(len(happened.first_actions)), "median_minutes": quantile(happened.first_actions, 50),
            "p95_minutes": quantile(happened.first_actions, 95),
        },
        "appeals": {
            "filed": shown(happened.appeals_filed), "answered": answered, "overturned": overturned,
            "varied": shown(outcomes["varied"]), "late": shown(sum(a.decided_at > a.due_at for a in happened.answered)),
            "median_minutes": quantile(waits, 50), "p95_minutes": quantile(waits, 95),
            "overturned_percent": round(100 * overturned / answered) if answered and overturned is not None else None,
        },
        "reports": {
            "received": shown(happened.reports), "answered": shown(happened.reports_answered),
            "borne_out": shown(happened.reports_borne_out),
        },
        "leaked_access_tokens": {source: shown(count) for source, count in sorted(happened.leaked)},
    }  # fmt: skip


def _key(c: Counted) -> tuple[str, ...]:
    return (c.clause, c.sanction, c.origin, c.automated)


FIGURES = {
    ("first_action", "cases"): "Cases that somebody began to look into",
    ("first_action", "median_minutes"): "Minutes until then, median",
    ("first_action", "p95_minutes"): "Minutes until then, 95 of 100 at most",
    ("appeals", "filed"): "Appeals filed",
    ("appeals", "answered"): "Appeals answered",
    ("appeals", "overturned"): "Decisions overturned on appeal",
    ("appeals", "varied"): "Decisions changed in part on appeal",
    ("appeals", "overturned_percent"): "Overturned, of 100 answered appeals",
    ("appeals", "late"): "Appeals answered after their day",
    ("appeals", "median_minutes"): "Minutes until the answer, median",
    ("appeals", "p95_minutes"): "Minutes until the answer, 95 of 100 at most",
    ("reports", "received"): "Reports of misuse received",
    ("reports", "answered"): "Reports of misuse answered",
    ("reports", "borne_out"): "Reports of misuse that were borne out",
    ("leaked_access_tokens", "public"): "Access tokens ended because somebody found them in public",
    ("leaked_access_tokens", "github"): "Access tokens ended because secret scanning found them",
}


def figures(report: dict[str, Any]) -> list[tuple[str, int | str]]:
    """Return the figures of a report that stand beside the table of sanctions, each with its words."""
    return [
        (words, cell(report[part][name], TOO_FEW if name.endswith(("minutes", "percent")) else KEPT_BACK))
        for (part, name), words in FIGURES.items()
    ]


def cell(value: int | None, instead: str = KEPT_BACK) -> int | str:
    """Return a figure as people read it, or what stands there instead."""
    return instead if value is None else value


def rows(report: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Return a report as rows for a spreadsheet."""
    blank = {"clause": "", "sanction": "", "origin": "", "automated": ""}
    for row in report["sanctions"]:
        named = {name: row[name] for name in blank}
        yield {"month": report["month"], "figure": "Sanctions", **named, "value": cell(row["count"])}
    for words, value in figures(report):
        yield {"month": report["month"], "figure": words, **blank, "value": value}


def month_of(at: datetime) -> str:
    """Return the month of an instant, UTC, such as 2026-11."""
    return f"{at.astimezone(UTC):%Y-%m}"


def bounds(month: str) -> tuple[datetime, datetime]:
    """Return the first instant of a month and the first one after it."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    return start, (start + timedelta(days=32)).replace(day=1)


def following(month: str) -> str:
    """Return the month after a month."""
    return month_of(bounds(month)[1])
