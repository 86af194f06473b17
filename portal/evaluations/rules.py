"""Results of evaluations: what a card's metadata says was measured, how, and with which interval.

They are read from ``model-index`` and from the newer list of results of the Hub, and written from what EleutherAI's
harness prints. What a plot shows is decided here as well; drawing it is for an adapter.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portal.core.errors import Invalid

HARNESS_URL = "https://github.com/EleutherAI/lm-evaluation-harness"
# Two-sided 95 % of a normal distribution.
WIDTH = 1.96
RESULTS_MAX = 2_000
PLOTS_MAX, ROWS_MAX, TITLE_MAX = 6, 40, 40
# What the harness counts besides, and nobody measures a model by.
COUNTS = frozenset({"sample_len"})
BIAS = re.compile(r"bias|stereo|crows|\bbbq|toxi|wino(gender|mt)|\baxg|honest", re.IGNORECASE)
LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,8})?")
LOWER = re.compile(r"perplexity|loss|wer\b|cer\b|error", re.IGNORECASE)


@dataclass(frozen=True)
class Result:
    """One figure of one evaluation.

    Args:
        dataset, revision: what it was measured on, and which state of it.
        value: a number, or what stands there instead.
        stderr: its standard error, where one is given.
        harness: what measured it, and where that is said.
        is_bias: whether it measures bias or stereotypes, and no ability.
        lower_is_better: whether less is better; None where the card does not say.
    """

    dataset: str
    metric: str
    value: float | str
    revision: str = ""
    split: str = ""
    language: str = ""
    stderr: float | None = None
    samples: int | None = None
    harness: str = ""
    url: str = ""
    is_bias: bool = False
    lower_is_better: bool | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the true figure lies in 95 of 100 cases, taken as normal."""
        if self.stderr is None or not isinstance(self.value, float):
            return None
        return self.value - WIDTH * self.stderr, self.value + WIDTH * self.stderr


@dataclass(frozen=True)
class Row:
    """One point of a plot."""

    label: str
    value: float
    interval: tuple[float, float] | None
    is_bias: bool


@dataclass(frozen=True)
class Plot:
    """The figures of one metric, to be drawn beside each other."""

    metric: str
    rows: tuple[Row, ...]
    lower_is_better: bool | None

    @property
    def title(self) -> str:
        """What it shows, for its readers."""
        better = {True: ", less is better", False: ", more is better", None: ""}[self.lower_is_better]
        return f"{self.metric}{better}"

    @property
    def alt(self) -> str:
        """The same in words, for whoever does not see it."""
        low, high = min(self.rows, key=lambda row: row.value), max(self.rows, key=lambda row: row.value)
        return (
            f"{len(self.rows)} figures of {self.metric}, from {low.value:.4g} ({low.label}) to {high.value:.4g} "
            f"({high.label}). The table holds all of them."
        )


def results(metadata: Mapping[str, Any]) -> list[Result]:
    """Return the results that a card's metadata states; what cannot be read is left out."""
    found = [*_model_index(metadata.get("model-index")), *_hub_list(metadata.get("eval_results"))]
    return sorted(found[:RESULTS_MAX], key=lambda one: (one.is_bias, one.language, one.dataset, one.metric))


def _model_index(index: Any) -> Iterator[Result]:
    for model in _tables(index):
        for entry in _tables(model.get("results")):
            dataset, source = _table(entry.get("dataset")), _table(entry.get("source"))
            name = _word(dataset.get("name")) or _word(dataset.get("type"))
            for metric in _tables(entry.get("metrics")):
                args = {**_table(dataset.get("args")), **_table(metric.get("args"))}
                label = _word(metric.get("name")) or _word(metric.get("type"))
                lower = args.get("lower_is_better")
                yield Result(
                    name, label, _value(metric.get("value")), _word(dataset.get("revision")),
                    _word(dataset.get("split")),
                    _language(args.get("language"), dataset.get("args"), dataset.get("config")),
                    _number(args.get("stderr")), _count(args.get("samples")), _word(source.get("name")), _link(source),
                    bool(args.get("measures") == "bias" or BIAS.search(f"{name} {label}")),
                    lower if isinstance(lower, bool) else True if LOWER.search(label) else None,
                )  # fmt: skip


def _hub_list(entries: Any) -> Iterator[Result]:
    for entry in _tables(entries):
        dataset, source = _table(entry.get("dataset")), _table(entry.get("source"))
        name, task = _word(dataset.get("id")), _word(dataset.get("task_id"))
        yield Result(
            name, task or "value", _value(entry.get("value")), _word(dataset.get("revision")),
            harness=_word(source.get("name")), url=_link(source), is_bias=bool(BIAS.search(f"{name} {task}")),
        )  # fmt: skip


def _tables(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str:
    return " ".join(str(value).split())[:200] if isinstance(value, str | int | float) else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else None


def _value(value: Any) -> float | str:
    number = _number(value)
    return _word(value) if number is None else number


def _language(*places: Any) -> str:
    return next((one for one in places if isinstance(one, str) and LANGUAGE.fullmatch(one)), "")


def _link(source: Mapping[str, Any]) -> str:
    url = _word(source.get("url"))
    return url if url.startswith(("https://", "http://")) else ""


def plots(found: Sequence[Result]) -> list[Plot]:
    """Return what is worth drawing: of each metric with two figures or more, those that are numbers."""
    by_metric: dict[str, list[Result]] = {}
    for one in found:
        if isinstance(one.value, float):
            by_metric.setdefault(one.metric, []).append(one)
    drawn = [
        Plot(metric, tuple(_row(one) for one in rows[:ROWS_MAX]), rows[0].lower_is_better)
        for metric, rows in by_metric.items()
        if len(rows) > 1
    ]
    return drawn[:PLOTS_MAX]


def _row(one: Result) -> Row:
    named = f"{one.dataset} ({one.language})" if one.language else one.dataset
    label = named if len(named) <= TITLE_MAX else f"{named[: TITLE_MAX - 1]}…"
    return Row(label, float(one.value), one.interval, one.is_bias)


def from_harness(said: Any) -> list[dict[str, Any]]:
    """Return what EleutherAI's harness wrote (``results_….json`` of lm-eval) as entries of ``model-index``.

    Raises:
        Invalid: these are no results of the harness, or there are none among them.
    """
    if not isinstance(said, dict) or not isinstance(said.get("results"), dict):
        raise Invalid("results_file", "These are no results of lm-eval: there is no table `results`.", field="file")
    entries = [entry for task, row in said["results"].items() if (entry := _entry(str(task), _table(row), said))]
    if not entries:
        raise Invalid("results_none", "There is no figure among these results.", field="file")
    return entries


def _entry(task: str, row: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any] | None:
    config = _table(_table(said.get("configs")).get(task))
    about = _table(config.get("metadata"))
    better = _table(_table(said.get("higher_is_better")).get(task))
    samples = _count(_table(_table(said.get("n-samples")).get(task)).get("effective"))
    metrics = []
    for key, value in row.items():
        name, _, way = str(key).partition(",")
        if name in COUNTS or name.endswith("_stderr") or _number(value) is None:
            continue
        args: dict[str, Any] = {"stderr": _number(row.get(f"{name}_stderr,{way}")), "samples": samples}
        args |= {key: about.get(key) for key in ("language", "measures") if isinstance(about.get(key), str)}
        args |= {"filter": way if way not in {"", "none"} else None, "shots": _count(config.get("num_fewshot"))}
        args |= {"lower_is_better": not better[name] if isinstance(better.get(name), bool) else None}
        kept = {key: value for key, value in args.items() if value is not None}
        metrics.append({"type": name, "name": name, "value": _number(value), "args": kept})
    if not metrics:
        return None
    dataset = {"type": _word(config.get("dataset_path")) or task, "name": task}
    dataset |= {"split": _word(config.get("test_split"))} if config.get("test_split") else {}
    revision = _word(_table(config.get("dataset_kwargs")).get("revision")) or _word(about.get("revision"))
    dataset |= {"revision": revision} if revision else {}
    version = _word(said.get("lm_eval_version"))
    source = {"name": f"lm-eval {version}".strip(), "url": HARNESS_URL}
    return {"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics, "source": source}


def merged(index: Any, entries: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return ``model-index`` with entries added; those of the same dataset and source are replaced."""
    fresh = {_identity(entry) for entry in entries}
    models = [dict(one) for one in _tables(index)] or [{"name": name, "results": []}]
    kept = [entry for entry in _tables(models[0].get("results")) if _identity(entry) not in fresh]
    models[0]["results"] = [*kept, *entries]
    return models


def _identity(entry: Mapping[str, Any]) -> tuple[str, str]:
    return _word(_table(entry.get("dataset")).get("name")), _word(_table(entry.get("source")).get("name"))
