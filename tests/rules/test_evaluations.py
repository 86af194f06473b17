"""Results of evaluations, read from metadata and from what a harness wrote."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.errors import Invalid
from portal.evaluations.rules import Result, from_harness, merged, plots, results

INDEX: Any = [
    {
        "name": "wild",
        "results": [
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": "boolq", "type": "boolq", "split": "test", "revision": "abc"},
                "metrics": [
                    {"type": "acc", "value": 0.5, "args": {"stderr": 0.1, "samples": 9, "lower_is_better": False}},
                    {"type": "f1", "name": "F1", "value": "n/a"},
                ],
                "source": {"name": "lab", "url": "https://lab.example/x"},
            },
            {
                "dataset": {"name": "crows_pairs_fr", "type": "crows", "config": "fr"},
                "metrics": [{"type": "acc", "value": 1}],
                "source": {"name": "lab", "url": "javascript:alert(1)"},
            },
        ],
    }
]  # fmt: skip
HARNESS: Any = {
    "results": {
        "declaration_fr": {"alias": "declaration_fr", "exact_match,first": 0.5, "exact_match_stderr,first": 0.25,
                           "sample_len,": 6},
        "empty": {"alias": "empty", "acc,none": "N/A"},
    },
    "configs": {
        "declaration_fr": {
            "dataset_path": "json", "test_split": "test", "num_fewshot": 0,
            "metadata": {"version": 1.0, "language": "fr", "measures": "bias"},
        }
    },
    "higher_is_better": {"declaration_fr": {"exact_match": True}}, "n-samples": {"declaration_fr": {"effective": 6}},
    "lm_eval_version": "0.4.13",
}  # fmt: skip


def test_results_are_read_with_all_that_is_said_of_them() -> None:
    first, second, third = results({"model-index": INDEX})
    assert first == Result("boolq", "F1", "n/a", "abc", "test", harness="lab", url="https://lab.example/x")
    assert second == Result(
        "boolq", "acc", 0.5, "abc", "test", stderr=0.1, samples=9, harness="lab", url="https://lab.example/x",
        lower_is_better=False,
    )  # fmt: skip
    assert second.interval == pytest.approx((0.304, 0.696))
    assert (third.is_bias, third.language, third.url, third.value) == (True, "fr", "", 1.0)  # bias stands last
    assert third.interval is None


def test_the_newer_list_of_the_hub_is_read_as_well() -> None:
    entry = {
        "dataset": {"id": "cais/hle", "task_id": "default", "revision": "abc"}, "value": 20.9,
        "source": {"name": "board", "url": "https://b.example"},
    }  # fmt: skip
    assert results({"eval_results": [entry]}) == [
        Result("cais/hle", "default", 20.9, "abc", harness="board", url="https://b.example")
    ]


def test_figures_of_one_metric_are_drawn_beside_each_other() -> None:
    index = [
        {
            "dataset": {"name": f"set{n} " + "x" * 80},
            "metrics": [{"type": "acc", "value": n / 10}, {"type": f"m{n}", "value": 1}],
        }
        for n in range(50)
    ]
    [plot] = plots(results({"model-index": [{"results": index}]}))
    assert (plot.metric, len(plot.rows), plot.title) == ("acc", 40, "acc")
    assert all(len(row.label) == 40 for row in plot.rows)
    assert plot.alt.startswith("40 figures of acc, from 0 (set0 ")
    lower = [{"dataset": {"name": str(n)}, "metrics": [{"type": "perplexity", "value": n}]} for n in (1, 2)]
    assert plots(results({"model-index": [{"results": lower}]}))[0].title == "perplexity, less is better"


def test_what_the_harness_wrote_becomes_entries_of_a_card() -> None:
    [entry] = from_harness(HARNESS)
    assert entry["dataset"] == {"type": "json", "name": "declaration_fr", "split": "test"}
    assert entry["metrics"] == [
        {
            "type": "exact_match", "name": "exact_match", "value": 0.5,
            "args": {
                "stderr": 0.25, "samples": 6, "language": "fr", "measures": "bias", "filter": "first", "shots": 0,
                "lower_is_better": False,
            },
        }
    ]  # fmt: skip
    [read] = results({"model-index": merged(None, [entry], "wild")})
    assert (read.dataset, read.value, read.language, read.is_bias) == ("declaration_fr", 0.5, "fr", True)
    assert (read.harness, read.samples, read.stderr) == ("lm-eval 0.4.13", 6, 0.25)


def test_results_measured_again_replace_those_before() -> None:
    [entry] = from_harness(HARNESS)
    other = {**entry, "source": {"name": "lm-eval 0.4.12"}}
    twice = merged(merged(INDEX, [entry, other], "x"), [entry], "x")
    assert [row["dataset"]["name"] for row in twice[0]["results"]] == [
        "boolq", "crows_pairs_fr", "declaration_fr", "declaration_fr",
    ]  # fmt: skip
    assert twice[0]["name"] == "wild"


@pytest.mark.parametrize(
    "said", [None, [], {}, {"results": []}, {"results": {}}, {"results": {"a": {"acc,none": "x"}}}]
)
def test_what_holds_no_results_is_refused(said: Any) -> None:
    with pytest.raises(Invalid) as caught:
        from_harness(said)
    assert caught.value.field == "file"


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["results", "metrics", "dataset", "value", "args", "name", "type", "source"]), inner
        )
    ),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None)
@given(odd, odd)
def test_any_metadata_is_read(index: Any, listed: Any) -> None:
    found = results({"model-index": [{"results": index}, listed], "eval_results": listed})
    for plot in plots(found):
        assert plot.alt
