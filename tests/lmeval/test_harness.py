"""EleutherAI's harness against the portal's own completions, with an access token; its results in a card."""

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.lmeval.environment import LM_EVAL
from tests.member import signed_member
from tests.running import ROOT, RunningPortal

MODEL = "demo/bloom-tiny"
LANGUAGES = ("en", "es", "fr")
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not LM_EVAL.is_ready, reason="lm-eval is not installed: `make lm-eval` installs it (1 GB)"),
]


def write_tasks(folder: Path) -> None:
    """Write one task for each language, with its questions beside it."""
    asked = tomllib.loads((ROOT / "tests/lmeval/tasks/declaration.toml").read_text(encoding="utf-8"))
    for language, lines in asked.items():
        data = folder / f"declaration_{language}.jsonl"
        rows = (json.dumps({"prompt": prompt, "target": word}) for prompt, word in lines.items())
        data.write_text("\n".join(rows) + "\n", encoding="utf-8")
        task: dict[str, Any] = {
            "task": f"declaration_{language}", "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test",
            "output_type": "generate_until", "doc_to_text": "{{prompt}}", "doc_to_target": "{{target}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "temperature": 0, "do_sample": False},
            "filter_list": [
                {"name": "first_word", "filter": [
                    {"function": "regex", "regex_pattern": r"^\s*(\w+)"}, {"function": "take_first"},
                ]},
            ],
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": 1.0, "language": language},
        }  # fmt: skip
        (folder / f"declaration_{language}.yaml").write_text(json.dumps(task), encoding="utf-8")  # JSON is YAML


def run(portal: RunningPortal, token: str, folder: Path) -> Path:
    """Run the harness and return the file of its results."""
    served = f"model={MODEL},base_url={portal.base_url}/v1/completions,num_concurrent=2,max_retries=1"
    plain = "tokenizer_backend=None,tokenized_requests=False"  # words go over the wire, and the engine counts
    command = [
        str(LM_EVAL.root / "bin" / "lm-eval"), "run", "--model", "local-completions", "--model_args",
        f"{served},{plain}", "--tasks", ",".join(f"declaration_{one}" for one in LANGUAGES),
        "--include_path", str(folder), "--output_path", str(folder / "out"),
    ]  # fmt: skip
    environ = {
        **os.environ, "OPENAI_API_KEY": token, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"), "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    [found] = (folder / "out").rglob("results_*.json")
    return found


def test_the_harness_measures_through_the_gate_and_a_card_takes_its_results(
    portal: RunningPortal, tmp_path: Path
) -> None:
    write_tasks(tmp_path)
    token = signed_member(portal, "harness@example.org", "inference", model=MODEL)
    results = run(portal, token, tmp_path)
    said = portal.cli("cards", "add-results", str(results), MODEL)
    assert "draft, at /staff/cards/demo/bloom-tiny/preview" in said
    figures = json.loads(results.read_text())["results"]
    assert set(figures) == {f"declaration_{one}" for one in LANGUAGES}
    assert all(0 <= row["exact_match,first_word"] <= 1 for row in figures.values())
