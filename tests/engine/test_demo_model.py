"""The committed model: its files, its figures, and that it still says what was written down when it was trained."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from gated_inference.demo import train
from gated_inference.engine.batcher import TRANSFORMERS
from gated_inference.engine.model import load
from gated_inference.engine.sampling import Sampling
from gated_inference.engine.text import Vocabulary
from tests.engine.conftest import DEMO, FOLDER, ROOT
from tests.engine.test_batcher import Start

TRAINING: dict[str, Any] = json.loads((DEMO / "training.json").read_text())
GREEDY = TRAINING["figures"]["greedy"]


def card() -> str:
    return (ROOT / "model_cards" / "demo" / "bloom-tiny.md").read_text()


def test_the_files_are_those_of_a_small_bloom_in_two_shards() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    shards = sorted(name for name in names if name.endswith(".safetensors"))
    assert len(shards) >= 2
    assert names - set(shards) == {
        "config.json", "generation_config.json", "model.safetensors.index.json", "special_tokens_map.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000
    index = json.loads((FOLDER / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(shards)
    assert "lm_head.weight" not in index["weight_map"]  # tied, as other servers of BLOOM need it
    for shard in shards:
        with safe_open(FOLDER / shard, "pt") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118  no mapping


def test_official_classes_load_it(demo: Any, vocabulary: Vocabulary) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert [tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id] == [
        0,
        1,
        2,
        3,
    ]
    assert json.loads((FOLDER / "tokenizer_config.json").read_text())["tokenizer_class"] == "BloomTokenizerFast"
    for text in ("Everyone has the right to", "人人生而自由", "ẹ̀tọ́ ọmọnìyàn", "  a\n\nb "):
        assert tokenizer(text)["input_ids"] == vocabulary.encode(text)
        assert tokenizer.decode(vocabulary.encode(text)) == text
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    assert model.num_parameters() == TRAINING["figures"]["parameters"] == 3_456_384
    assert (type(model).__name__, type(model)) == ("BloomForCausalLM", type(demo))
    config = model.config
    assert (config.vocab_size, config.hidden_size, config.n_layer, config.n_head) == (4096, 192, 6, 8)


def test_greedy_samples_are_those_that_were_written_down(demo: Any, vocabulary: Vocabulary, runner: Start) -> None:
    asks = [
        {"prompt": vocabulary.encode(each["prompt"]), "max_tokens": 48, "sampling": Sampling(temperature=0.0)}
        for each in GREEDY
    ]
    for each, out in zip(GREEDY, runner(demo).run(*asks), strict=True):
        ended = each["continuation"].removesuffix("</s>")
        assert out.text() == ended.rstrip("\ufffd"), each["prompt"]
    assert len({each["continuation"] for each in GREEDY}) == len(GREEDY)


def test_a_batch_gives_what_serial_generation_gives(demo: Any, vocabulary: Vocabulary, runner: Start) -> None:
    prompts = [vocabulary.encode(each["prompt"]) for each in GREEDY]
    references = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = demo.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False)
        references.append(out[0, len(prompt) :].tolist())
    everything = [token for reference in references for token in reference]
    assert len(set(everything)) > len(everything) / 3  # it does not say one thing to everybody
    asks = [
        {"prompt": prompt, "max_tokens": 32, "sampling": Sampling(temperature=0.0), "logprobs": 0} for prompt in prompts
    ]
    for reference, out in zip(references, runner(demo, slots=6).run(*asks), strict=True):
        assert [entry.token for entry in out.entries()] == [vocabulary.name(token) for token in reference]


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh-Hans", "sw", "hi"])
def test_it_recites_in_several_languages(language: str) -> None:
    figures = TRAINING["figures"]["languages"][language]
    assert figures["trained"]["perplexity"] < 5
    assert figures["trained"]["perplexity"] < figures["held_out"]["perplexity"]


def test_english_samples_are_readable_words() -> None:
    known = set((ROOT / "licenses" / "bloom-rail" / "1.0.0.en.md").read_text().lower().split())
    words = [word.strip(".,;:") for each in GREEDY[:3] for word in each["continuation"].lower().split()]
    assert sum(word in known for word in words) > len(words) / 3


def test_the_card_names_the_languages_it_was_trained_on() -> None:
    block = card().split("---")[1]
    listed = block.split("language:\n")[1].split("language_bcp47:")[0]
    languages = {line.removeprefix("- ").strip() for line in listed.strip().splitlines()}
    assert languages == {language.split("-")[0] for language in train.LANGUAGES}
    assert set(TRAINING["figures"]["languages"]) == set(train.LANGUAGES)


def test_card_and_data_card_state_the_measured_figures() -> None:
    figures = TRAINING["figures"]["all"]
    for text in (card(), (DEMO / "DATA_CARD.md").read_text()):
        for group in ("trained", "held_out"):
            assert f"{figures[group]['perplexity']:.2f}" in text
        assert GREEDY[0]["continuation"].strip()[:60] in text.replace("\n", " ")
    assert TRAINING["source"]["sha256"] in (DEMO / "DATA_CARD.md").read_text()


def test_the_engine_and_the_dependencies_pin_the_same_release() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"transformers=={TRANSFORMERS}" in dependencies


def test_other_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="gpt2"):
        load(tmp_path)


def test_the_declaration_is_read_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (
        "<html><head><title>English</title></head><body><header><h2>Preamble</h2><p>Whereas a &amp; b,</p>"
        "</header><article data-number='7'><h2>Article\n 7</h2><ol><li><p>One.</p></li><li><p>Two.</p></li></ol>"
        "</article></body></html>"
    )
    (tmp_path / "eng.html").write_text(page)
    monkeypatch.setattr(train, "LANGUAGES", {"en": "eng"})
    assert train.read(tmp_path) == [
        train.Section("en", 0, "Preamble", "Whereas a & b,"),
        train.Section("en", 7, "Article 7", "One.\nTwo."),
    ]
