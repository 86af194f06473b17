"""The README's tour works when it is pasted, and its docs exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.member import Browser, add_member
from tests.running import ROOT, RunningPortal

README = (ROOT / "README.md").read_text(encoding="utf-8")
EMAIL = "you@example.org"


def blocks() -> list[str]:
    """The commands of the tour, as they stand in the README."""
    return re.findall(r"```\n(.*?)```", README.split("<!-- tour -->", 1)[1], re.DOTALL)[:2]


def paste(portal: RunningPortal, commands: str, home: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run commands in a shell in the project's folder, against a running portal."""
    commands = commands.replace("http://127.0.0.1:8000", portal.base_url).replace("/tmp/bloom-tiny", f"{home}/tiny")
    commands = commands.replace(".venv/bin/", f"{shlex.quote(str(Path(sys.executable).parent))}/")
    environ = {**portal.environ, "HF_HOME": str(home / "hf"), "HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(
        ["bash", "-c", commands], cwd=ROOT, env=environ, input=typed, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def token(portal: RunningPortal) -> str:
    """What the reader does in a browser first: sign, and make an access token."""
    add_member(portal, EMAIL, "You")
    with Browser(portal.base_url) as browser:
        browser.sign_in(EMAIL)
        browser.sign("/licenses/bloom-rail/1.1.0/sign", "You")
    scopes = ["--scope", "weights:read", "--scope", "inference"]
    return portal.cli("tokens", "issue", EMAIL, "--name", "tour", *scopes).strip()


def test_the_tour_of_a_researcher(portal: RunningPortal, token: str, tmp_path: Path) -> None:
    done = paste(portal, "set -e\n" + blocks()[0], tmp_path, typed=token + "\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tiny" / "model.safetensors.index.json").exists()
    assert "Everyone has the right to" not in done.stderr
    assert '"text_completion"' in done.stdout
    assert '"allowed": true' in done.stdout.replace('"allowed":true', '"allowed": true')
    assert token not in done.stdout + done.stderr


def test_the_tour_of_staff(portal: RunningPortal, token: str, tmp_path: Path) -> None:
    done = paste(portal, blocks()[1], tmp_path)
    assert done.stdout.startswith("allowed: infer demo/bloom-tiny")
    assert "refused: infer demo/bloom-tiny" in done.stdout
    assert "[unmet] standing_suspended" in done.stdout
    assert done.stdout.rstrip().endswith(f"{EMAIL} is active")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)h#][^)#]*)", README))))
def test_every_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
