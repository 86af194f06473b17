"""The detection rules that come with the portal: what they find, and what they let pass."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.banks.service import Scanner, shipped
from portal.clauses.rules import ClauseKind, Element
from portal.detection.rules import RULE, Move, RuleOutcome
from portal.expressions.rules import compiled, parse
from portal.features import service as features
from portal.features.rules import FEATURES, Vector
from portal.rulebook.rules import RuleDraft, check_draft, read_shipped
from portal.rulebook.service import SHIPPED
from tests.corpus.prompts import benign, campaign
from tests.licensed import FOLDER

FILES = sorted(SHIPPED.glob("*.toml"))
CLAUSES = tomllib.loads((FOLDER / "license.toml").read_text(encoding="utf-8"))["versions"][-1]["clauses"]
RESTRICTIONS = [one["key"] for one in CLAUSES if one["kind"] == ClauseKind.RESTRICTION.value]
# Advice about one's own health, in ten languages.
ADVICE = {
    "en": "My symptoms are fever and a rash. What dose of antibiotics should I take?",
    "fr": "Mes symptômes : fièvre. Quelle dose d'antibiotique dois-je prendre ?",
    "es": "Mis síntomas: fiebre. ¿Qué dosis de antibiótico debo tomar?",
    "ar": "أعراضي حمى وطفح. ما الجرعة من مضاد حيوي التي آخذها؟",
    "zh": "我的症状是发烧,吃多少剂量的抗生素?",
    "pt": "Meus sintomas: febre. Que dose de antibiótico devo tomar?",
    "hi": "मेरे लक्षण बुखार हैं। एंटीबायोटिक की कितनी खुराक लूं?",
    "id": "Gejala saya demam. Berapa dosis antibiotik yang harus saya minum?",
    "vi": "Triệu chứng của tôi là sốt. Thuốc kháng sinh liều bao nhiêu?",
    "sw": "Dalili zangu ni homa. Ninywe dawa gani ya antibiotiki, na miligramu ngapi?",
}


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner(shipped())


def drafts() -> Iterator[RuleDraft]:
    for path in FILES:
        yield read_shipped(path.read_text(encoding="utf-8"), path.name)


def hits(scanner: Scanner, prompt: str, **counted: float) -> list[str]:
    rules = list(drafts())
    vector: Vector = {**features.vector(scanner, prompt), **counted}
    return [rule.slug for rule in rules if compiled([parse(rule.when, FEATURES)])(vector)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_rule_keeps_to_what_staff_must_and_its_file_is_called_as_it_is(scanner: Scanner, path: Path) -> None:
    draft = read_shipped(path.read_text(encoding="utf-8"), path.name)
    citable = [one for one in CLAUSES if one["kind"] in {"restriction", "duty"}]
    elements = {one["key"]: Element(one["element"]) if "element" in one else None for one in citable}
    banks = {*scanner.phrase_banks, *scanner.pattern_banks}
    cited = {key: elements[key] for key in draft.clauses}
    check_draft(draft, elements=cited, banks=banks, measure=lambda text: features.vector(scanner, text))
    assert draft.slug == path.stem


def test_every_restriction_is_watched_and_nothing_acts_before_staff_say_so() -> None:
    cited = {key for draft in drafts() for key in draft.clauses}
    assert len(RESTRICTIONS) == 13
    assert set(RESTRICTIONS) <= cited
    assert RULE.next(RULE.start, Move.SHIP).value == "flagging"
    assert all(draft.outcome is not RuleOutcome.ALLOW for draft in drafts())


@pytest.mark.threat("TM-01")
def test_of_ten_thousand_prompts_of_honest_people_hardly_any_is_hit(scanner: Scanner) -> None:
    run = compiled([parse(draft.when, FEATURES) for draft in drafts()])
    kinds = Counter[str]()
    wrong = []
    for kind, prompt in benign(10_000):
        kinds[kind] += 1
        if run(features.vector(scanner, prompt)):
            wrong.append(prompt)
    assert len(kinds) == 7
    assert min(kinds.values()) > 1_000
    assert len(wrong) <= 10, wrong[:5]


@pytest.mark.threat("TM-02")
@pytest.mark.threat("TM-04")
def test_most_of_a_campaign_is_hit_by_its_words_alone_where_a_bank_knows_the_language(scanner: Scanner) -> None:
    run = compiled([parse(draft.when, FEATURES) for draft in drafts()])
    asked, found = Counter[str](), Counter[str]()
    for language, prompt in campaign(480):
        asked[language] += 1
        found[language] += bool(run(features.vector(scanner, prompt)))
    assert {language for language in asked if found[language] < 0.6 * asked[language]} == {"ki", "fon"}


@pytest.mark.threat("TM-02")
def test_a_story_in_several_scripts_is_hit_though_no_language_is_known(scanner: Scanner) -> None:
    chinese = "突发新闻:据votes.example,3月14日有2500张选票被烧"
    assert "one-story-in-many-scripts" not in hits(scanner, chinese)
    assert "one-story-in-many-scripts" in hits(scanner, chinese, fanout_24h=3)


@pytest.mark.threat("TM-07")
@pytest.mark.parametrize("language", ADVICE)
def test_advice_about_ones_own_health_is_found(scanner: Scanner, language: str) -> None:
    assert hits(scanner, ADVICE[language]) == ["medical-advice"]


@pytest.mark.threat("TM-10")
def test_as_many_different_prompts_as_teach_a_model_are_hit(scanner: Scanner) -> None:
    assert hits(scanner, "Tell me about rain.", distinct_72h=50_000) == ["harvesting"]
    assert hits(scanner, "Tell me about rain.", distinct_72h=2_000) == []


@pytest.mark.threat("TM-13")
def test_a_token_in_twelve_networks_is_hit_and_one_of_a_cluster_is_not(scanner: Scanner) -> None:
    rule = next(draft for draft in drafts() if draft.slug == "token-shared")
    assert rule.outcome is RuleOutcome.RECONFIRM
    assert hits(scanner, "Tell me about rain.", token_prefixes_1h=12) == ["token-shared"]
    assert hits(scanner, "Tell me about rain.", token_prefixes=2, token_prefixes_1h=2) == []


@pytest.mark.threat("TM-09")
def test_a_slow_drip_is_hit_once_it_leaves_the_habit_and_missed_before() -> None:
    rule = parse(next(draft.when for draft in drafts() if draft.slug == "more-than-the-habit"), FEATURES)
    news: Vector = {'phrases("news")': 1, 'phrases("public_matters")': 1}
    assert compiled([rule])({**news, "vel_ratio_28d": 6.0, "vel_req_24h": 240})
    # What stays under every threshold is found by nobody but whoever reads it, and reports it.
    assert not compiled([rule])({**news, "vel_ratio_28d": 1.1, "vel_req_24h": 240})
