"""Every invariant that the docs claim has a test that carries its id, and ends are ends in every lifecycle."""

import re
from typing import Any

import pytest

from portal.core.machine import Machine
from tests.check import ROOT
from tests.test_architecture import machines

LINE = re.compile(r"^\| (INV-\d\d) \|", re.MULTILINE)
MARK = re.compile(r"mark\.invariant\(([^)]*)\)")
# States that nothing leads out of; a state may only become one, or stop being one, by changing this list as well.
ENDS = {
    "standing": set(), "case": set(), "request of a terminal": {"denied", "consumed", "expired"},
    "case decision": {"overturned"},
    "appeal": {"decided"}, "license version": {"retired"}, "ceremony": {"signed", "declined"},
    "model": {"withdrawn"}, "card revision": {"superseded"}, "campaign": {"finished", "cancelled"},
    "access request": {"withdrawn", "reset"}, "detection rule": {"retired"}, "report": {"answered"},
    "program": {"ended"}, "permission of a program": {"ended"},
}  # fmt: skip


def test_every_invariant_that_the_docs_claim_has_a_test() -> None:
    claimed = LINE.findall((ROOT / "docs" / "invariants.md").read_text(encoding="utf-8"))
    assert len(claimed) == len(set(claimed)) > 0
    tested = {
        ref
        for path in (ROOT / "tests").rglob("*.py")
        for marks in MARK.findall(path.read_text(encoding="utf-8"))
        for ref in re.findall(r"INV-\d\d", marks)
    }
    assert set(claimed) - tested == set(), "claimed, and no test carries the id"
    assert tested - set(claimed) == set(), "tested; docs/invariants.md lacks the line"


@pytest.mark.invariant("INV-21")
@pytest.mark.parametrize(("name", "machine"), machines(), ids=[name for name, _ in machines()])
def test_no_record_leaves_a_state_that_is_an_end(name: str, machine: Machine[Any, Any]) -> None:
    left = {state for state, _ in machine.table}
    assert {state.value for state in type(machine.start) if state not in left} == ENDS[machine.name], name
