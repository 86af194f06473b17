"""The docs are whole, fresh and speak of this program."""

import csv
import re
from pathlib import Path

import click
import pytest

from portal.accounts.rules import Permission
from portal.audit.rules import EVENTS
from portal.cli import main
from portal.core.config import NAMES
from portal.reference import pages
from tests.audit.__main__ import PARTS, RULES
from tests.check import ROOT, template_faults

DOCS = sorted((ROOT / "docs").rglob("*.md"))
WORDS = {path: path.read_text(encoding="utf-8") for path in DOCS}
ALL = "\n".join(WORDS.values())


def commands(group: click.Group, prefix: str = "portal") -> list[str]:
    found = []
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        found += commands(command, full) if isinstance(command, click.Group) else [full]
    return found


def test_generated_pages_are_fresh() -> None:
    stale = [path.name for path, text in pages(main).items() if not path.exists() or path.read_text("utf-8") != text]
    assert stale == [], "run `portal docs`"


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained(name: str) -> None:
    assert re.search(rf"\| `PORTAL_{name.upper()}` \| \S", ALL)


def test_every_command_event_and_permission_is_listed() -> None:
    for command in commands(main):
        assert f"`{command}" in ALL, command
    for event in EVENTS:
        assert f"`{event}`" in ALL
    for permission in Permission:
        assert f"`{permission.value}`" in ALL


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_between_docs_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", WORDS[path]):
        assert (path.parent / link).exists(), link


def test_every_threat_case_has_a_line_and_a_test() -> None:
    marks = re.compile(r'threat\("(TM-\d\d)"\)')
    held = {case for path in (ROOT / "tests").rglob("test_*.py") for case in marks.findall(path.read_text("utf-8"))}
    lines = re.findall(r"^\| (TM-\d\d) \|", WORDS[ROOT / "docs" / "threats.md"], re.MULTILINE)
    assert lines == [f"TM-{number:02}" for number in range(1, 37)]
    assert held == set(lines)


def _exists(reference: str) -> bool:
    """Say whether a test, a whole file of tests, or a part of `make audit` is there."""
    part, _, rule = reference.removeprefix("make audit: ").partition(": ")
    if reference.startswith("make audit: "):
        return part in PARTS and (part != "code" or f"id: {rule}\n" in RULES.read_text(encoding="utf-8"))
    path, _, name = reference.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
    return f"def {name}(" in text if name else bool(re.search("^def test_", text, re.MULTILINE))


def test_the_standard_is_answered_row_by_row() -> None:
    with (ROOT / "docs" / "asvs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ids = [row["requirement"] for row in rows]
    assert len(ids) == len(set(ids)) == 253, "levels 1 and 2 of version 5.0, each once"
    assert ids == sorted(ids, key=lambda each: [int(part) for part in each.split(".")])
    assert sum(row["level"] == "1" for row in rows) == 70
    for row in rows:
        assert row["about"], row
        assert row["by"], row
        if row["answer"] == "held":
            assert all(_exists(reference) for reference in row["by"].split(" · ")), row
        else:
            assert row["answer"] in {"not applicable", "waived"}, row
    waived = [row for row in rows if row["answer"] == "waived"]
    assert len(waived) <= 5


def test_templates_keep_to_the_house() -> None:
    assert template_faults() == []


def test_help_names_what_is_missing_from_a_bad_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.check.TEMPLATES", tmp_path)
    (tmp_path / "bad.html").write_text('{% extends "x" %}\n<p style="color: red" onclick="x()">{{ y|safe }}</p>\n<img>')
    faults = template_faults()
    assert len(faults) == 5, faults
