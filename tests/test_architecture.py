"""The house rules that no other tool can see."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

import portal
from portal.catalog.rules import RESERVED
from portal.core.machine import Machine
from portal.web.guard import Mark
from tests.check import ROOT, python_files

LINES = 400
ONE_FILE = Path("portal/static/verify.py")  # people run it by itself; docs/decisions says why it may be longer
FUNCTION_LINES = 60
DOORS = {
    "huggingface_hub": "hub", "weasyprint": "pdf", "smtplib": "mail", "argon2": "hashing", "nh3": "markup",
    "markdown": "markup", "pypdf": "pdf", "cryptography": "signing_key seal_key vault month_keys scanner_keys",
    "pyhanko": "pades authority", "pyhanko_certvalidator": "pades authority", "segno": "squares",
    "webauthn": "passkeys", "zxcvbn": "guessing", "limits": "rates",
    "authlib": "oidc authorization authorization_wire", "joserfc": "oidc statement_keys",
    "asn1crypto": "pades authority seal_key",
}  # fmt: skip
TRANSACTIONS = {
    "portal/web/app.py", "portal/main.py", "portal/main_work.py", "portal/commands.py", "portal/setup.py",
    "portal/upkeep.py", "portal/processes.py", "portal/core/db.py", "portal/main_edge.py", "portal/main_look.py",
    "portal/main_public.py",
}  # fmt: skip
FILES = {"rules", "models", "service", "forms", "views", "staff", "api", "edge"}
NOT_DOMAIN = {"core", "web", "adapters", "edge", "migrations"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def packages() -> list[str]:
    return [p.name for p in iter_modules(portal.__path__) if p.ispkg and p.name not in NOT_DOMAIN]


@pytest.mark.parametrize("path", python_files("portal", "gated_inference", "tests"), ids=str)
def test_files_and_functions_stay_small(path: Path) -> None:
    if "migrations/versions" in path.as_posix():
        return  # history, generated once
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.count("\n") <= LINES or path == ONE_FILE, "split the noun"
    if path.parts[0] == "tests":
        return
    for node in ast.walk(tree(ROOT / path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= FUNCTION_LINES, node.name


@pytest.mark.parametrize("path", python_files("portal", "gated_inference"), ids=str)
def test_public_names_say_what_they_are(path: Path) -> None:
    if (ROOT / path).read_text() == "" or "migrations/versions" in path.as_posix():
        return
    module = tree(ROOT / path)
    assert ast.get_docstring(module), "a module opens with one sentence in domain words"
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if any(ast.unparse(mark) == "overload" for mark in node.decorator_list):
                continue
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize("path", python_files("portal", "gated_inference"), ids=str)
def test_only_the_frame_commits_and_opens_transactions(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert ".commit(" not in text
    if path.name == "edge.py" or path.as_posix() == "portal/edge/fresh.py":
        assert not re.search(r"\btransaction\((?![^)]*write=False)", text), "the data plane never writes"
    elif "migrations" not in path.parts and path.as_posix() not in TRANSACTIONS:
        assert not re.search(r"\btransaction\(|\.begin\(\)", text), "use cases are given their session"


@pytest.mark.parametrize("path", python_files("portal", "gated_inference", "tests"), ids=str)
def test_each_outside_library_has_one_door(path: Path) -> None:
    if path.parts[0] == "tests":
        return
    for node in ast.walk(tree(ROOT / path)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for name in names:
            door = DOORS.get(name.split(".")[0])
            allowed = door is None or path.as_posix() in {f"portal/adapters/{one}.py" for one in door.split()}
            assert allowed or path.parts[0] == "gated_inference", f"{name} belongs to adapters/{door}"


def test_packages_hold_only_the_eight_files_and_are_not_empty() -> None:
    for package in packages():
        names = {p.stem for p in (ROOT / "portal" / package).glob("*.py")} - {"__init__"}
        assert names, package
        assert names <= FILES, f"{package}: {names - FILES}"
        assert (ROOT / "portal" / package / "__init__.py").read_text() == "", package


def machines() -> list[tuple[str, Machine[Any, Any]]]:
    found = []
    for package in packages():
        if (ROOT / "portal" / package / "rules.py").exists():
            rules = import_module(f"portal.{package}.rules")
            found += [(f"{package}.{n}", m) for n, m in vars(rules).items() if isinstance(m, Machine)]
    return sorted({id(m): (n, m) for n, m in found}.values())


@pytest.mark.parametrize(("name", "machine"), machines(), ids=[n for n, _ in machines()])
def test_every_state_of_a_lifecycle_can_be_reached(name: str, machine: Machine[Any, Any]) -> None:
    reached, new = {machine.start}, {machine.start}
    while new:
        new = {to for (state, _), to in machine.table.items() if state in reached} - reached
        reached |= new
    assert reached == set(type(machine.start)), name


def test_every_view_is_marked(app: Any) -> None:
    for rule in app.url_map.iter_rules():
        if rule.endpoint != "static":
            mark = getattr(app.view_functions[rule.endpoint], "portal_mark", None)
            assert isinstance(mark, Mark), rule.endpoint


def test_an_unmarked_view_is_refused(app: Any, client: Any) -> None:
    app.add_url_rule("/forgotten", "forgotten", lambda: "secret")
    answer = client.get("/forgotten")
    assert answer.status_code == 403
    assert "secret" not in answer.get_data(as_text=True)


def test_no_namespace_can_hide_a_page(app: Any) -> None:
    first = {rule.rule.split("/")[1] for rule in app.url_map.iter_rules()}
    pages = {segment for segment in first if segment and not segment.startswith("<")}
    assert pages <= RESERVED


@pytest.mark.threat("TM-33")
@pytest.mark.parametrize("path", python_files("portal", "gated_inference"), ids=str)
def test_nothing_that_is_sent_in_is_unpacked_or_run(path: Path) -> None:
    """Weights are bytes to the portal, and archives too: what is never opened cannot burst."""
    opening = {"pickle", "marshal", "shelve", "tarfile", "gzip", "bz2", "lzma", "zipfile", "zipimport"}
    found = set()
    for node in ast.walk(tree(ROOT / path)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        found |= {name.split(".")[0] for name in names} & opening
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in {"unpack_archive", "decompress", "decompressobj", "extractall"}, node.lineno
    # A bundle of proofs is written as an archive; the script that checks one is run by whoever got it.
    assert found <= {"portal/receipts/rules.py": {"zipfile"}, "portal/static/verify.py": {"zipfile"}}.get(
        path.as_posix(), set()
    )
