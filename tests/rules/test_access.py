"""The one decision: who may do what with a model, and everything that stands in the way."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portal.access.rules import (
    GRACE,
    Action,
    Decision,
    Facts,
    Follows,
    Grace,
    Pass,
    Reason,
    RequirementFact,
    decide,
    quota_reason,
    required_version,
)
from portal.accounts.rules import Standing
from portal.catalog.rules import ModelState
from portal.licensing.rules import Materiality, SignatureFact, Sufficiency, VersionFact
from portal.usage.rules import Limits, Used

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
BASE = "https://portal.example"
OLD = VersionFact(1, "1.0.0", 1, Materiality.MATERIAL, NOW - 100 * DAY, NOW - 100 * DAY)
NEW = VersionFact(2, "2.0.0", 2, Materiality.MATERIAL, NOW - 10 * DAY, NOW + 20 * DAY)
SIGNED_OLD = SignatureFact(11, "sig_old", 1, 1)
SIGNED_NEW = SignatureFact(12, "sig_new", 2, 2)


def requirement(*signatures: SignatureFact, **changed: Any) -> RequirementFact:
    kept = RequirementFact(
        slug="rail", title="RAIL", follows=Follows.LICENSE, grace=Grace.STANDARD, pinned="2.0.0", versions=(OLD, NEW),
        signatures=signatures,
    )  # fmt: skip
    return replace(kept, **changed)


def facts(*requirements: RequirementFact, **changed: Any) -> Facts:
    known = Facts(base_url=BASE, model_name="lab/model", signed_in=True, verified=True, requirements=requirements)
    return replace(known, **changed)


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


GOOD = facts(requirement(SIGNED_NEW))


@pytest.mark.parametrize("action", Action)
def test_a_verified_person_who_signed_may_do_everything(action: Action) -> None:
    decision = decide(GOOD, action, NOW)
    assert decision.allowed
    assert decision.status == 200
    assert decision.reasons == decision.blocking == decision.warnings == ()
    assert [(r.license_number, r.signature_ref) for r in decision.relied_on] == [("2.0.0", "sig_new")]
    assert ("signature_sufficient", "You signed RAIL 2.0.0.") in decision.met
    assert decision.as_of == NOW


def test_anybody_may_read_a_card() -> None:
    assert decide(Facts(base_url=BASE, model_name="lab/model"), Action.READ, NOW).allowed
    stranger = facts(requirement(), signed_in=False, verified=False)
    assert codes(decide(stranger, Action.READ, NOW)) == []


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.READ])
def test_a_stranger_is_told_to_sign_in_and_what_else_is_missing(action: Action) -> None:
    decision = decide(facts(requirement(), signed_in=False, verified=False), action, NOW)
    assert codes(decision) == ["not_signed_in", "signature_missing"]
    assert decision.status == 401


def test_hidden_and_missing_models_look_alike_and_say_nothing_else() -> None:
    missing = decide(facts(requirement(), model_name=None, signed_in=False), Action.INFER, NOW)
    hidden = decide(
        facts(requirement(), model_state=ModelState.DRAFT, signed_in=False, token_error="access_token_revoked"),
        Action.INFER, NOW,
    )  # fmt: skip
    assert missing == hidden
    assert codes(missing) == ["model_not_found"]
    assert missing.status == 404


@pytest.mark.parametrize("code", ["access_token_invalid", "access_token_expired", "access_token_revoked"])
def test_an_unusable_access_token_says_only_that(code: str) -> None:
    decision = decide(facts(requirement(), token_error=code, signed_in=False), Action.DOWNLOAD, NOW)
    assert codes(decision) == [code]
    assert decision.status == 401
    assert decision.reasons[0].url == f"{BASE}/settings/tokens"


def test_an_unproved_address_stands_in_the_way() -> None:
    decision = decide(replace(GOOD, verified=False), Action.INFER, NOW)
    assert codes(decision) == ["address_unverified"]
    assert decision.status == 403


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.READ])
def test_a_suspension_holds_until_its_end_to_the_instant(action: Action) -> None:
    end = NOW + DAY
    suspended = replace(GOOD, standing=Standing.SUSPENDED, standing_until=end, standing_ref="san_x")
    decision = decide(suspended, action, NOW)
    assert codes(decision) == ["standing_suspended"]
    assert decision.status == 403
    assert decision.reasons[0].url == f"{BASE}/appeal/san_x"
    assert decision.reasons[0].due_at == end
    assert decision.until == end
    assert not decide(suspended, action, end - timedelta(microseconds=1)).allowed
    over = decide(suspended, action, end)
    assert over.allowed
    assert over.until is None or over.until > end


def test_a_suspended_person_may_read() -> None:
    suspended = replace(GOOD, standing=Standing.SUSPENDED, standing_until=NOW + DAY, standing_ref="san_x")
    assert decide(suspended, Action.READ, NOW).allowed


def test_a_sanction_knows_no_finish() -> None:
    suspended = replace(
        GOOD, standing=Standing.SUSPENDED, standing_until=NOW + DAY, standing_ref="san_x", already_running=True,
        holds_copy=True,
    )  # fmt: skip
    assert not decide(suspended, Action.INFER, NOW).allowed
    assert not decide(suspended, Action.DOWNLOAD, NOW).allowed


def test_a_closed_account_may_nothing() -> None:
    decision = decide(replace(GOOD, standing=Standing.CLOSED), Action.INFER, NOW)
    assert codes(decision) == ["standing_closed"]


@pytest.mark.parametrize("action", Action)
def test_a_withdrawn_model_stays_readable_and_nothing_else(action: Action) -> None:
    decision = decide(replace(GOOD, model_state=ModelState.WITHDRAWN), action, NOW)
    assert decision.allowed is (action is Action.READ)
    if action is not Action.READ:
        assert codes(decision) == ["model_withdrawn"]
        assert decision.status == 410


@pytest.mark.parametrize("action", Action)
def test_a_model_without_weights_can_be_read_and_asked_for(action: Action) -> None:
    decision = decide(replace(GOOD, has_release=False), action, NOW)
    if action in {Action.DOWNLOAD, Action.INFER}:
        assert codes(decision) == ["model_without_weights"]
        assert decision.status == 404
    else:
        assert decision.allowed


@pytest.mark.parametrize(("action", "scope"), [(Action.DOWNLOAD, "weights:read"), (Action.INFER, "inference")])
def test_an_access_token_needs_the_scope_of_the_action(action: Action, scope: str) -> None:
    other = replace(GOOD, token_used=True, token_scopes=frozenset({"usage:read"}))
    decision = decide(other, action, NOW)
    assert codes(decision) == ["scope_missing"]
    assert scope in decision.reasons[0].message
    assert decision.status == 403
    assert decide(replace(other, token_scopes=frozenset({scope})), action, NOW).allowed


def test_an_access_token_bound_to_other_models_opens_nothing() -> None:
    bound = replace(GOOD, token_used=True, token_scopes=frozenset({"inference"}), token_wrong_model=True)
    decision = decide(bound, Action.INFER, NOW)
    assert codes(decision) == ["access_token_wrong_model"]
    assert decision.status == 403
    assert codes(decide(replace(bound, token_scopes=frozenset()), Action.INFER, NOW)) == [
        "scope_missing", "access_token_wrong_model",
    ]  # fmt: skip


@pytest.mark.parametrize("action", [Action.READ, Action.ASK, Action.RENEW])
def test_scopes_bound_only_what_they_name(action: Action) -> None:
    assert decide(replace(GOOD, token_used=True, token_wrong_model=True), action, NOW).allowed


REACHED = {"2.0.0": NOW - 30 * DAY}
STATES: dict[Sufficiency, dict[str, Any]] = {
    Sufficiency.SUFFICIENT: {"signatures": (SIGNED_NEW,)},
    Sufficiency.DUE: {"signatures": (SIGNED_OLD,), "reached": REACHED},
    Sufficiency.LAPSED: {
        "signatures": (SIGNED_OLD,), "reached": REACHED, "versions": (OLD, replace(NEW, required_by=NOW - DAY)),
    },
    Sufficiency.DECLINED: {"declined": frozenset({2})},
    Sufficiency.MISSING: {},
}  # fmt: skip


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("grace", Grace)
@pytest.mark.parametrize("state", Sufficiency)
def test_the_table_of_grace_decides(state: Sufficiency, grace: Grace, action: Action, running: bool) -> None:
    decision = decide(facts(requirement(grace=grace, **STATES[state]), already_running=running), action, NOW)
    how = GRACE[state, grace][action]
    assert decision.allowed is (how in {Pass.ALLOW, Pass.WARN} or (how is Pass.FINISH and running))
    wanted = [] if how is Pass.ALLOW else [f"signature_{state.value}"]
    assert codes(decision) == wanted
    if wanted:
        assert decision.status == (200 if decision.allowed else 403)
        assert decision.reasons[0].url == f"{BASE}/licenses/rail/2.0.0/sign"
        assert decision.reasons[0].state == ("due" if decision.allowed else "unmet")
    relied = state not in {Sufficiency.MISSING, Sufficiency.DECLINED} and decision.allowed
    assert len(decision.relied_on) == int(relied)


def test_grace_is_as_agreed() -> None:
    rows = {
        (Sufficiency.DUE, Grace.STANDARD): "warn warn finish warn refuse",
        (Sufficiency.DUE, Grace.STRICT): "warn refuse refuse warn refuse",
        (Sufficiency.DECLINED, Grace.STANDARD): "allow refuse refuse refuse refuse",
        (Sufficiency.DECLINED, Grace.STRICT): "allow refuse refuse refuse refuse",
        (Sufficiency.LAPSED, Grace.STANDARD): "warn refuse refuse finish refuse",
        (Sufficiency.LAPSED, Grace.STRICT): "warn refuse refuse finish refuse",
        (Sufficiency.MISSING, Grace.STANDARD): "allow refuse refuse refuse refuse",
        (Sufficiency.MISSING, Grace.STRICT): "allow refuse refuse refuse refuse",
        (Sufficiency.SUFFICIENT, Grace.STANDARD): "allow allow allow allow allow",
        (Sufficiency.SUFFICIENT, Grace.STRICT): "allow allow allow allow allow",
    }
    order = [Action.READ, Action.ASK, Action.DOWNLOAD, Action.INFER, Action.RENEW]
    assert {key: " ".join(GRACE[key][action].value for action in order) for key in GRACE} == rows


def test_a_copy_may_be_fetched_again_under_its_old_terms() -> None:
    due = facts(requirement(grace=Grace.STANDARD, **STATES[Sufficiency.DUE]))
    assert not decide(due, Action.DOWNLOAD, NOW).allowed
    decision = decide(replace(due, holds_copy=True), Action.DOWNLOAD, NOW)
    assert decision.allowed
    assert [r.signature_ref for r in decision.relied_on] == ["sig_old"]
    assert [r.license_number for r in decision.relied_on] == ["1.0.0"]
    lapsed = facts(requirement(**STATES[Sufficiency.LAPSED]), holds_copy=True)
    assert not decide(lapsed, Action.DOWNLOAD, NOW).allowed
    assert not decide(lapsed, Action.INFER, NOW).allowed


def test_a_due_signature_says_by_when_if_that_is_known() -> None:
    reached = decide(facts(requirement(**STATES[Sufficiency.DUE])), Action.INFER, NOW)
    assert "by 2026-11-22" in reached.reasons[0].message
    assert reached.reasons[0].due_at == NEW.required_by
    assert reached.until == NEW.required_by
    unreached = decide(facts(requirement(SIGNED_OLD)), Action.INFER, NOW)
    assert unreached.reasons[0].due_at is None
    assert " by " not in unreached.reasons[0].message


def test_all_requirements_count() -> None:
    two = facts(requirement(SIGNED_NEW), requirement(slug="other", title="Other"))
    decision = decide(two, Action.INFER, NOW)
    assert codes(decision) == ["signature_missing"]
    assert "Other" in decision.reasons[0].message


def test_a_requirement_follows_the_pin_or_the_license() -> None:
    assert required_version(requirement(follows=Follows.RELEASE, pinned="1.0.0"), NOW) == OLD
    assert required_version(requirement(follows=Follows.LICENSE, pinned="1.0.0"), NOW) == NEW
    assert required_version(requirement(follows=Follows.LICENSE), NOW - 20 * DAY) == OLD
    pinned = facts(requirement(SIGNED_OLD, follows=Follows.RELEASE, pinned="1.0.0"))
    assert decide(pinned, Action.DOWNLOAD, NOW).allowed


@pytest.mark.parametrize("action", [Action.DOWNLOAD, Action.INFER, Action.RENEW])
def test_a_gap_in_the_texts_opens_nothing(action: Action) -> None:
    unknown_pin = facts(requirement(follows=Follows.RELEASE, pinned="9.9.9"))
    assert codes(decide(unknown_pin, action, NOW)) == ["signature_missing"]
    scheduled = facts(requirement(versions=(replace(NEW, effective_at=NOW + DAY),)))
    decision = decide(scheduled, action, NOW)
    assert codes(decision) == ["signature_missing"]
    assert decision.until == NOW + DAY
    nothing = decide(facts(requirement(versions=())), action, NOW)
    assert codes(nothing) == ["signature_missing"]
    assert "no version of it is published" in nothing.reasons[0].message
    assert decide(facts(requirement(versions=())), Action.READ, NOW).allowed


def test_a_signature_of_a_version_that_is_not_published_has_no_number() -> None:
    signed = SignatureFact(13, "sig_odd", 99, 2)
    decision = decide(facts(requirement(signed)), Action.INFER, NOW)
    assert decision.allowed
    assert decision.relied_on[0].license_number == ""


@pytest.mark.parametrize(
    ("used", "code"),
    [
        (Used(10, 0), "quota_calls"), (Used(9, 99), None), (Used(0, 100), "quota_text_tokens"),
        (Used(0, 101), "quota_text_tokens"), (Used(11, 500), "quota_calls"),
    ],
)  # fmt: skip
def test_limits_stand_in_the_way_of_inference_alone(used: Used, code: str | None) -> None:
    spent = replace(GOOD, limits=Limits(10, 100), used=used)
    decision = decide(spent, Action.INFER, NOW)
    assert codes(decision) == ([code] if code else [])
    assert decide(spent, Action.DOWNLOAD, NOW).allowed
    assert decide(replace(spent, already_running=True), Action.INFER, NOW).allowed
    if code:
        assert decision.status == 429
        assert decision.reasons[0].retry_after == 12 * 3600 + 1
        assert decision.until == NOW + timedelta(seconds=12 * 3600 + 1)


def test_a_used_up_limit_counts_only_when_nothing_else_blocks() -> None:
    spent = facts(requirement(), limits=Limits(1, 1), used=Used(5, 5))
    decision = decide(spent, Action.INFER, NOW)
    assert codes(decision) == ["signature_missing", "quota_calls"]
    assert decision.status == 403


def test_a_limit_is_named_with_its_size() -> None:
    assert "2,000 requests" in quota_reason("quota_calls", Limits(), BASE, NOW).message
    assert "500,000 text tokens" in quota_reason("quota_text_tokens", Limits(), BASE, NOW).message


def test_reasons_come_in_the_order_of_the_stages() -> None:
    everything = facts(
        requirement(), verified=False, model_state=ModelState.WITHDRAWN, token_used=True, limits=Limits(0, 0),
        used=Used(1, 1),
    )  # fmt: skip
    decision = decide(everything, Action.INFER, NOW)
    assert [reason.stage for reason in decision.reasons] == [1, 2, 3, 4, 6]


def test_only_instants_ahead_count_as_the_next_change() -> None:
    decision = decide(GOOD, Action.INFER, NOW)
    assert decision.until is None
    soon = facts(requirement(SIGNED_NEW, versions=(OLD, NEW, VersionFact(
        3, "3.0.0", 3, Materiality.MATERIAL, NOW + 5 * DAY, NOW + 9 * DAY
    ))))  # fmt: skip
    assert decide(soon, Action.INFER, NOW).until == NOW + 5 * DAY


def test_a_reason_knows_how_a_checklist_marks_it() -> None:
    assert Reason("x", 1, True, "").state == "unmet"
    assert Reason("x", 1, False, "").state == "due"
