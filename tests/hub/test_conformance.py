"""Each generation of Hub clients does what the table in the docs says, and nothing else."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portal import setup
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.files import service as files
from tests.hub import conformance
from tests.hub.conftest import Hub
from tests.hub.generations import GENERATIONS, Generation
from tests.running import ROOT

DEMO, ODD, BEFORE, TEXTS = "demo/bloom-tiny", "lab/odd", "lab/before", "lab/texts"
SOURCE = ROOT / "gated_inference" / "demo" / "model"
NAME = "sub dir/a+b #1%é.txt"
CONTENTS = {NAME: b"odd", "empty.safetensors": b"", "config.json": b"{}", "deep/er/x.bin": b"x" * 2000}
HEAD = ["huggingface_hub 2.4, transformers 5", "0.36, transformers 4.57", "0.24.7"]


@dataclass
class Shelf:
    """What the running portal offers beside its demo model."""

    hub: Hub
    values: dict[str, Any]


def sums(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def publish(settings: Settings, home: Path, name: str, contents: dict[str, bytes]) -> dict[str, str]:
    folder = home / name.replace("/", " ")
    for path, body in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    card = "---\nlicense: other\nlanguage: [en]\n---\n\n# A card\n"
    engine = make_engine(settings.database_url)
    with transaction(engine) as session:
        catalog.sync_card(session, full_name=name, text=card, by=SYSTEM, now=utcnow())
    engine.dispose()
    setup.publish_model(
        settings, directory=folder, name=name, license_slug="bloom-rail", message="Publish", allow_pickle=True,
        progress=lambda _: None,
    )  # fmt: skip
    return sums(folder)


@pytest.fixture(scope="module")
def shelf(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The running portal with a dataset, a model with odd names and one with another name than before."""
    home = tmp_path_factory.mktemp("shelf")
    settings = Settings.from_env({k: v for k, v in hub.portal.environ.items() if k.startswith("PORTAL_")})
    odd = publish(settings, home, BEFORE, CONTENTS)
    odd = publish(settings, home, ODD, CONTENTS)
    texts = publish(settings, home, f"datasets/{TEXTS}", {"data/train.jsonl": b'{"text": "a"}\n' * 50})
    engine = make_engine(settings.database_url)
    with transaction(engine) as session:
        model = catalog.find_model(session, full_name=BEFORE)
        catalog.rename(session, model=model, to="lab/after", by=SYSTEM, now=utcnow())
        tagged = catalog.find_model(session, full_name=ODD)
        commit = files.find_commit(session, model_id=tagged.id, revision="main")
        files.tag(session, model_id=tagged.id, name="rel/1.0", commit=commit)
    engine.dispose()
    index = json.loads((SOURCE / "model.safetensors.index.json").read_text())
    return Shelf(hub, {
        "demo": DEMO, "odd": ODD, "before": BEFORE, "texts": TEXTS, "name": NAME, "demo_sums": sums(SOURCE),
        "odd_sums": odd, "texts_sums": texts, "weights": min(index["weight_map"].values()),
        "parameters": 3_456_384, "unsigned_token": hub.tokens["unsigned"],
    })  # fmt: skip


@pytest.fixture(scope="module")
def done(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What came of every action, by generation; each has a home of its own, and each action a cache of its own."""

    def run(generation: Generation) -> dict[str, str]:
        found: dict[str, str] = generation.run(
            tmp_path_factory.mktemp(f"all {generation.name}"), shelf.hub.url, conformance.PROGRAM,
            token=shelf.hub.tokens["signed"], with_transformers=generation.name != "old", **shelf.values,
        )  # fmt: skip
        return found

    return {generation.name: run(generation) for generation in GENERATIONS}


def test_each_client_does_what_the_table_says(done: dict[str, dict[str, str]]) -> None:
    conformance.check("python clients", conformance.table(HEAD, done, "what the client does"))
