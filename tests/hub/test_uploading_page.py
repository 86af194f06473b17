"""The page about uploading works when it is pasted."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from portal.catalog import service as catalog
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from tests.hub.conftest import Hub
from tests.hub.staff import CARD, safetensors, write
from tests.running import ROOT

PAGE = (ROOT / "docs" / "uploading.md").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent


def block(name: str) -> str:
    """The commands behind a mark of the page."""
    return re.findall(r"```\w*\n(.*?)```", PAGE.partition(f"<!-- {name} -->")[2], re.DOTALL)[0]


@pytest.fixture
def desk(hub: Hub, tmp_path: Path) -> Path:
    """A folder to work in, with the weights, beside the programs of the project."""
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(PROGRAMS)
    write(tmp_path / "rivers", config__json="{}", README__md=CARD, model__safetensors=safetensors(50))
    return tmp_path


def paste(hub: Hub, desk: Path, commands: str) -> str:
    commands = commands.replace("http://127.0.0.1:8000", hub.url)
    path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
    environ = {
        **hub.portal.environ, "HOME": str(desk), "HF_HOME": str(desk / "hf"), "PATH": path, "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1", "COLUMNS": "200",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-ec", commands], cwd=desk, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_about_uploading_leads_to_a_release(hub: Hub, desk: Path) -> None:
    paste(hub, desk, block("token"))
    start, *_ = block("upload").partition("\nhf ")
    listed = paste(hub, desk, block("upload"))
    assert "lab/rivers" in listed
    (desk / "program.py").write_text(block("python"))
    python = shlex.quote(str(shutil.which("python", path=str(PROGRAMS))))
    paste(hub, desk, f"{start}\n{python} program.py")
    settings = Settings.from_env({k: v for k, v in hub.portal.environ.items() if k.startswith("PORTAL_")})
    engine = make_engine(settings.database_url)
    with transaction(engine) as session:  # what its third step has done in the console
        model = catalog.find_any_model(session, full_name="lab/rivers")
        draft = catalog.save_draft(session, model=model, text=CARD, note="README.md", by=SYSTEM, now=utcnow())
        catalog.publish_card(session, model=model, shown_sha256=draft.text_sha256, by=SYSTEM, now=utcnow())
    engine.dispose()
    assert "lab/rivers@" in paste(hub, desk, block("release"))
    rows = httpx.get(f"{hub.url}/api/models/lab/rivers/tree/main?recursive=true").json()
    files = {row["path"] for row in rows if row["type"] == "file"}
    assert files == {"config.json", "README.md", "model.safetensors", "notes.txt", "old/config.json"}
    tags = httpx.get(f"{hub.url}/api/models/lab/rivers/refs").json()["tags"]
    assert [tag["name"] for tag in tags] == ["v1"]
