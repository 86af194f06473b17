"""From hits to cases and interim decisions, and from a case to a better text, on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts.rules import Role
from portal.alarms import rules
from portal.alarms import service as alarms
from portal.cases import service as cases
from portal.cases.rules import LinkKind, Severity
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, Invalid
from portal.detection import service as detection
from portal.detection.rules import RuleOutcome
from portal.detection.service import HitFact
from portal.licensing.models import LicenseVersion, VersionComment
from portal.moderation import service as moderation
from portal.sanctions import service as sanctions
from portal.suggestions import service as suggestions
from tests import conduct, licensed
from tests.factories import BASE, Make


def hit(make: Make, number: int, user_id: int | None, applied: str, **changed: Any) -> HitFact:
    given = {
        "id": number, "rule": "letters", "version": 2, "title": "Letters", "outcome": RuleOutcome(applied),
        "applied": RuleOutcome(applied), "weight": 2, "license": conduct.SLUG, "clauses": ("restriction.spam",),
        "reason": "Too many of one kind.", "user_id": user_id, "usage_record_id": number, "request_id": f"req_{number}",
        "model_name": "lab/one", "at": make.now,
    }  # fmt: skip
    return HitFact(**{**given, **changed})


@pytest.fixture
def given_hits(monkeypatch: pytest.MonkeyPatch) -> list[HitFact]:
    """Stands in for what the detection rules found."""
    waiting: list[HitFact] = []
    monkeypatch.setattr(alarms.detection, "hits_without_case", lambda _session, *, limit: waiting[:limit])
    monkeypatch.setattr(alarms.detection, "mark_in_case", lambda *_, **__: None)
    return waiting


def test_hits_of_a_person_a_rule_and_a_day_are_one_case_with_what_was_known(
    session: Session, make: Make, given_hits: list[HitFact]
) -> None:
    ann, bob = make.person("ann"), make.person("bob")
    signature = make.sign(ann)
    given_hits += [hit(make, n, ann.id, "flag") for n in range(3)] + [hit(make, 9, bob.id, "flag")]
    given_hits += [hit(make, 10, None, "flag")]
    assert not alarms.take_hits(session, base_url=BASE, now=make.now)
    [case] = cases.about(session, user_id=ann.id)
    [(_, values)] = cases.evidence_of(session, case=case)
    assert (values["rule"], values["version"], values["signature"]) == ("letters", 2, signature.public_id)
    assert [one["request"] for one in values["hits"]] == ["req_0", "req_1", "req_2"]
    assert cases.refs(session, case=case, kind=LinkKind.RECORD) == ["req_0", "req_1", "req_2"]
    assert len(cases.about(session, user_id=bob.id)) == 1
    assert moderation.decisions_about(session, user_id=ann.id) == []


@pytest.mark.threat("TM-01")
@pytest.mark.parametrize("applied", [outcome for outcome in RuleOutcome if outcome in rules.HELD])
def test_an_outcome_from_throttling_up_is_an_interim_decision(
    session: Session, make: Make, given_hits: list[HitFact], applied: RuleOutcome
) -> None:
    make.release(make.model("lab/one"))
    ann = make.person("ann")
    make.sign(ann)
    given_hits += [hit(make, n, ann.id, applied.value) for n in range(2)]
    for _ in range(2):
        alarms.take_hits(session, base_url=BASE, now=make.now)
    [decision] = moderation.decisions_about(session, user_id=ann.id)
    assert decision.lapses_at is not None
    assert [row.kind for row in decision.sanctions] == [rules.KINDS[applied]]
    assert "matched 2 uses" in decision.statement.facts
    assert sanctions.of_person(session, user_id=ann.id)[0].ends_at == decision.lapses_at
    token, _ = make.token(ann)
    actor = Actor(user_id=ann.id, public_id=ann.public_id, access_token_id=token.id, scopes=frozenset({"inference"}))
    found = access.check(session, actor=actor, model="lab/one", action=Action.INFER, now=make.now, base_url=BASE)
    assert [reason.url.startswith(f"{BASE}/appeal/san_") for reason in found.reasons] == [True]


def test_refusing_one_request_and_less_orders_nothing(session: Session, make: Make, given_hits: list[HitFact]) -> None:
    ann = make.person("ann")
    make.sign(ann)
    given_hits += [hit(make, n, ann.id, o.value) for n, o in enumerate(RuleOutcome) if o not in rules.HELD]
    alarms.take_hits(session, base_url=BASE, now=make.now)
    assert moderation.decisions_about(session, user_id=ann.id) == []
    assert len(cases.about(session, user_id=ann.id)) == 1


@pytest.mark.threat("TM-03")
def test_what_a_rule_finds_about_several_people_is_one_case_about_all_and_acts_on_none(
    session: Session, make: Make, given_hits: list[HitFact]
) -> None:
    people = [make.person() for _ in range(40)]
    for person in people:
        make.sign(person)
    shared = {"of_many": True, "rule_ref": "rul_letters"}
    for number, person in enumerate(people * 7):
        given_hits.append(hit(make, number, person.id, "throttle" if number % 2 else "flag", **shared))
    while given_hits:
        alarms.take_hits(session, base_url=BASE, now=make.now)
        del given_hits[:200]
    [case] = [one for one in cases.queue(session) if one.subject_ref == "rul_letters"]
    assert case.user_id is None
    assert case.reach == 40
    assert case.severity == Severity.HIGH
    assert set(cases.refs(session, case=case, kind=LinkKind.SUBJECT)) == {person.public_id for person in people}
    assert cases.refs(session, case=case, kind=LinkKind.CLAUSE) == ["restriction.spam"]
    assert all(cases.about(session, user_id=person.id) == [] for person in people)
    assert all(moderation.decisions_about(session, user_id=person.id) == [] for person in people)


def test_a_rule_is_about_several_people_if_it_asks_what_others_do() -> None:
    assert detection.of_many("near_accounts_24h >= 5 and chars > 3")
    assert not detection.of_many("near_24h >= 20")
    assert not detection.of_many("gone_by_now >= 20")


def test_a_case_leads_to_a_limitation_in_the_draft_of_a_card(session: Session, make: Make) -> None:
    model, ann = make.model("lab/one"), make.person("ann")
    mo = conduct.acting(make.person("mo", Role.MODERATOR), Role.MODERATOR)
    case = moderation.open_on(session, user=ann, by=mo, now=make.now)
    cases.link(session, case=case, links=[(LinkKind.CLAUSE, "restriction.spam")])
    target = f"card:{model.public_id}"
    assert target in dict(suggestions.targets(session))
    given: dict[str, Any] = {"by": mo, "case_ref": case.public_id, "words": "It writes letters.", "now": make.now}
    suggestions.suggest(session, target=target, **given)
    draft = catalog.draft_of(session, model=model)
    assert draft is not None
    kind = "cases about `restriction.spam`, found by staff"
    assert f"- It writes letters. *(Added after {kind}.)*" in catalog.card_text(session, revision=draft)
    published = catalog.publish_card(session, model=model, shown_sha256=draft.text_sha256, by=SYSTEM, now=make.now)
    assert kind in catalog.card_text(session, revision=published)
    assert ann.public_id not in catalog.card_text(session, revision=published)
    with pytest.raises(Invalid):
        suggestions.suggest(session, target="poem:x", **given)
    cases.release(session, ref=case.public_id, by=mo, now=make.now)
    with pytest.raises(Conflict) as caught:
        suggestions.suggest(session, target=target, **given)
    assert caught.value.code == "lease_lost"


def test_a_case_leads_to_a_remark_on_the_clause_for_whoever_drafts(
    session: Session, make: Make, editors: dict[str, Actor]
) -> None:
    mo = conduct.acting(make.person("mo", Role.MODERATOR), Role.MODERATOR)
    case = moderation.open_on(session, user=make.person("ann"), by=mo, now=make.now)
    given: dict[str, Any] = {"by": mo, "case_ref": case.public_id, "words": "Letters, too.", "now": make.now}
    target = f"clause:{licensed.SLUG}:restriction.malware"
    assert target in dict(suggestions.targets(session))
    with pytest.raises(Conflict) as caught:
        suggestions.suggest(session, target=target, **given)
    assert caught.value.code == "draft_missing"
    draft_next(session, make, editors["ed"])
    suggestions.suggest(session, target=target, **given)
    row = session.scalars(sa.select(VersionComment).order_by(VersionComment.id.desc())).first()
    assert row is not None
    assert (row.clause_key, row.by) == ("restriction.malware", mo.public_id)
    assert "found by staff" in row.words
    assert session.get_one(LicenseVersion, row.version_id).number == "1.2.0"


def draft_next(session: Session, make: Make, editor: Actor) -> None:
    from portal.drafting import service as drafting

    drafting.draft(session, slug=licensed.SLUG, number="1.2.0", by=editor, now=make.now)
