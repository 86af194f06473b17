"""Model cards read by the Hub's own classes."""

import json
from pathlib import Path

import pytest

from portal.adapters import hub
from portal.core.errors import Invalid
from tests.running import ROOT

CARDS = sorted((ROOT / "model_cards").glob("*/*.md"))


@pytest.mark.parametrize("path", CARDS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_card_of_the_repository_is_valid_and_says_what_readers_look_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    hub.check_card(text)
    card = hub.read_card(text)
    assert {"License", "Task", "Library", "Languages"} <= dict(card.facts).keys()
    assert card.body.lstrip().startswith("# ")
    assert "---\n" not in card.body[:50]
    json.dumps(card.metadata)


def test_a_card_without_metadata_is_all_body() -> None:
    hub.check_card("# A model\n")
    assert hub.read_card("# A model\n") == hub.Card("# A model\n", {}, [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("---\na: [1\nb: 2\n---\nx", "line 3: expected"),
        ("\n\n---\nlicense: other\nb: : 2\n---\nx", "line 5: mapping values are not allowed"),
        ("---\nlicense: other\n", "no later line of --- ends it"),
        ("---\n- one\n---\n", "should be a dict"),
        ("---\nlanguage: no\n---\n", "language must be a list of texts, and False is none"),
        ("---\nlicense: 1.0\n---\n", "license must be one text, not 1.0"),
        ("---\ntags: [{a: b}]\n---\n", "tags must be a list of texts"),
        ("---\nmodel-index: 3\n---\n", "Invalid `model_index`"),
        ("---\n1: 2\n---\n", "keywords must be strings"),
        ("---\na: \0\n---\n", "unacceptable character"),
        ("---\na: " + "[" * 500 + "\n---\n", "recursion"),
        ("---\na: " + "[" * 50 + "]" * 50 + "\n---\n", "nested too deeply"),
        ("---\na: &x [*x]\n---\n", "nested too deeply"),
        (
            "---\na: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d]\n---\n",
            "more than 20,000 values",
        ),
    ],
)
def test_a_broken_card_is_refused_with_what_is_wrong_and_still_readable(text: str, complaint: str) -> None:
    with pytest.raises(Invalid, match="The metadata of the card") as caught:
        hub.check_card(text)
    assert complaint in caught.value.message
    assert caught.value.field == "text"
    assert "Body" in hub.read_card(f"{text}\nBody\n").body


def test_metadata_can_be_carried_by_json_whatever_yaml_made_of_it() -> None:
    card = hub.read_card("---\nday: 2026-01-02\nodd: .nan\nbig: .inf\nsome: !!set {a}\n1.5: x\n---\n")
    assert card.metadata == {} or json.dumps(card.metadata, allow_nan=False)
    card = hub.read_card("---\nday: 2026-01-02\nodd: .nan\nfine: 1.5\nsome: !!set {a}\nraw: !!binary aGk=\n---\n")
    assert card.metadata == {"day": "2026-01-02", "odd": "nan", "fine": 1.5, "some": ["a"], "raw": "b'hi'"}


def test_long_lists_are_shown_short() -> None:
    facts = dict(hub.read_card("---\nlanguage: [a, b, c, d, e, f, g, h, i, j]\nlicense: mit\n---\n").facts)
    assert facts == {"License": "mit", "Languages": "10: a, b, c, d, e, f, g, h and 2 more"}


def test_an_index_of_results_is_put_into_metadata_of_which_all_else_stays() -> None:
    text = "---\nlicense: mit # why\nmodel-index:\n- name: a\n  results: []\n\ntags: [x]\n---\n"
    text += "\n# A model\n\nmodel-index: no\n"
    index = [{"name": "b", "results": [{"dataset": {"name": "d", "type": "d"}, "task": {"type": "t"},
                                        "metrics": [{"type": "acc", "value": 0.5}]}]}]  # fmt: skip
    newer = hub.with_index(text, index)
    assert newer.startswith("---\nlicense: mit # why\ntags: [x]\nmodel-index:\n- name: b\n")
    assert newer.endswith("---\n\n# A model\n\nmodel-index: no\n")
    assert newer.count("model-index:") == 2
    assert hub.with_index(newer, index) == newer
    hub.check_card(newer)
    assert hub.read_card(newer).metadata["tags"] == ["x"]
    bare = hub.with_index("# Bare\n", index)
    assert hub.read_card(bare).body.strip() == "# Bare"
