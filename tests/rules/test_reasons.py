"""Every reason of the one decision has a remedy, an entry in the docs, and an answer in each channel."""

import ast
import inspect
import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from portal.access import rules
from portal.access.rules import Action, Decision, Facts, Grace, Reason, decide
from portal.accounts.rules import Standing
from portal.catalog.rules import ModelState
from portal.core.errors import reason_json
from portal.downloads.rules import INVALID_CREDENTIALS, refusal
from portal.entitlements.rules import AskFact, Mode, RequestState
from portal.licensing.rules import Sufficiency
from portal.reference import FOLDER, REASONS
from portal.sanctions.rules import SanctionFact, SanctionKind
from portal.tokens.rules import UNUSABLE
from portal.usage.rules import Limits, Used
from tests.rules.test_access import BASE, GOOD, NEW, NOW, OLD, SIGNED_OLD, requirement

DAY = timedelta(days=1)
LIMITS = Limits(calls=10, text_tokens=10)
SUSPENDED = {"standing": Standing.SUSPENDED, "standing_until": NOW + DAY, "standing_ref": "san_x"}
REACHED = {"2.0.0": NOW - 90 * DAY}
PAST = replace(NEW, effective_at=NOW - 50 * DAY, required_by=NOW - 10 * DAY)
CASES: list[Facts] = [
    GOOD,
    Facts(base_url=BASE, model_name=None),
    replace(GOOD, signed_in=False, verified=False),
    replace(GOOD, verified=False),
    replace(GOOD, **SUSPENDED),  # type: ignore[arg-type]
    replace(GOOD, standing=Standing.CLOSED),
    replace(GOOD, model_state=ModelState.WITHDRAWN),
    replace(GOOD, has_release=False),
    replace(GOOD, is_dataset=True),
    *(replace(GOOD, token_error=code, token_used=True) for code in UNUSABLE),
    replace(GOOD, token_used=True, token_wrong_model=True),
    *(
        replace(GOOD, asking=AskFact(Mode.MANUAL, state, NOW, reason, later, until, returned))
        for state, reason, later, until, returned in (
            (None, "", None, None, False), (RequestState.SUBMITTED, "", None, None, False),
            (RequestState.REJECTED, "Vague.", NOW + DAY, None, False), (RequestState.REJECTED, "", None, None, False),
            (RequestState.RESET, "New version", None, None, False), (RequestState.APPROVED, "", None, NOW, False),
            (RequestState.APPROVED, "", None, None, True), (RequestState.APPROVED, "", None, NOW + DAY, False),
            (RequestState.APPROVED, "", None, NOW + 90 * DAY, False), (RequestState.WITHDRAWN, "", None, None, False),
        )
    ),
    *(
        replace(GOOD, sanctions=(SanctionFact("san_x", kind, NOW, NOW + DAY, action="infer"),), token_used=True)
        for kind in SanctionKind
    ),
    replace(GOOD, limits=LIMITS, used=Used(calls=10, text_tokens=0)),
    replace(GOOD, limits=LIMITS, used=Used(calls=0, text_tokens=10)),
    *(
        replace(GOOD, requirements=(replace(one, grace=grace, declined=declined),))
        for one, grace, declined in itertools.product(
            (
                requirement(), requirement(versions=()), requirement(SIGNED_OLD),
                requirement(SIGNED_OLD, versions=(OLD, PAST), reached=REACHED),
            ),
            Grace,
            (frozenset[int](), frozenset({2})),
        )
    ),
]  # fmt: skip
DECISIONS = [(facts, action, decide(facts, action, NOW)) for facts in CASES for action in Action]


def reasons() -> dict[str, list[tuple[Reason, Decision]]]:
    found: dict[str, list[tuple[Reason, Decision]]] = {}
    for _, _, decision in DECISIONS:
        for reason in decision.reasons:
            found.setdefault(reason.code, []).append((reason, decision))
    return found


def test_the_cases_reach_every_code_and_every_code_is_documented() -> None:
    assert set(reasons()) == set(REASONS)
    page = (FOLDER / "vocabulary.md").read_text(encoding="utf-8")
    assert all(f"| `{code}` |" in page for code in REASONS)


def test_no_code_is_written_that_the_docs_lack() -> None:
    written = set()
    for node in ast.walk(ast.parse(Path(inspect.getfile(rules)).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Reason" and isinstance(node.args[0], ast.Constant):
            written.add(str(node.args[0].value))
    assert len(written) > 5
    assert written <= set(REASONS)
    assert {f"signature_{s.value}" for s in Sufficiency} - {"signature_sufficient"} <= set(REASONS)


@pytest.mark.invariant("INV-30")
@pytest.mark.parametrize("code", REASONS)
def test_every_reason_says_what_helps_and_where(code: str) -> None:
    for reason, _ in reasons()[code]:
        assert reason.message.endswith(".")
        if code == "model_not_found":
            continue  # hidden and missing look alike, so nothing may help
        assert reason.remedy_text.endswith(".")
        assert reason.url.startswith(BASE)


@pytest.mark.invariant("INV-30")
@pytest.mark.parametrize("code", REASONS)
def test_every_reason_has_an_answer_in_each_channel(code: str) -> None:
    for reason, decision in reasons()[code]:
        assert reason_json(reason)["code"] == code
        if not reason.blocks:
            assert code in {
                "signature_due",
                "signature_lapsed",
                "signature_declined",
                "entitlement_ending",
                "use_throttled",
            }
            continue
        assert decision.status in {401, 403, 404, 410, 429}
        for anonymous in (True, False):
            said = refusal(decision, model="lab/model", anonymous=anonymous)
            assert said.status in {401, 403, 404, 429}
            if len(decision.blocking) == 1 and said.message != INVALID_CREDENTIALS:
                assert said.code == code
