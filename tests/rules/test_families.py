"""Families of models: sizes, memory, and what a card's metadata says of both."""

from typing import Any

import pytest

from portal.adapters import hub
from portal.families.rules import Place, memory, place_of
from tests.running import ROOT

SIZES = {
    "bloom": 176_247_271_424, "bloom-7b1": 7_069_016_064, "bloom-3b": 3_002_557_440, "bloom-1b7": 1_722_408_960,
    "bloom-1b1": 1_065_314_304, "bloom-560m": 559_214_592,
}  # fmt: skip


def test_memory_is_parameters_times_what_one_takes() -> None:
    found = memory(SIZES["bloom"])
    assert {precision: round(gib, 1) for precision, gib in found.items()} == {
        "fp32": 656.6, "bf16": 328.3, "int8": 164.1, "int4": 82.1,
    }  # fmt: skip
    assert memory(1 << 30)["bf16"] == 2


@pytest.mark.parametrize("name", SIZES)
def test_the_cards_of_the_family_say_its_sizes(name: str) -> None:
    text = (ROOT / f"model_cards/bigscience/{name}.md").read_text(encoding="utf-8")
    place = place_of(hub.read_card(text).metadata)
    assert place is not None
    assert (place.family, place.parameters, place.license) == ("BLOOM", SIZES[name], "bloom-rail")
    assert place.source
    assert f"{place.parameters:,}" in hub.read_card(text).body  # text and metadata agree


@pytest.mark.parametrize(
    ("parameters", "words"), [(176_247_271_424, "176 B"), (1_722_408_960, "1.72 B"), (559_214_592, "559 M")]
)
def test_sizes_are_said_as_people_say_them(parameters: int, words: str) -> None:
    assert Place("f", parameters, "", "").size == words


@pytest.mark.parametrize(
    "said",
    [
        None, [], "x", {}, {"family": "f"}, {"family": "f", "parameters": "7B"}, {"family": "f", "parameters": 0},
        {"family": "f", "parameters": True}, {"family": "f", "parameters": 10**15}, {"family": " ", "parameters": 1},
        {"family": "f" * 101, "parameters": 1}, {"family": 3, "parameters": 1}, {"family": "f", "parameters": -1},
    ],
)  # fmt: skip
def test_a_card_that_names_no_family_or_size_has_none(said: Any) -> None:
    assert place_of({"portal": said}) is None
