"""What a preview says is what happens: the clock is moved on, and everybody is asked one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action, Facts, decide
from portal.campaigns import service as campaigns
from portal.core.actor import Actor
from portal.drafting import service as drafting
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import Materiality
from portal.previews import service
from portal.previews.models import Preview, PreviewStop
from portal.previews.rules import Lot
from portal.publishing import service as publishing
from tests.editing import BASE, DAY, LANGUAGES, settled, steps
from tests.licensed import SLUG
from tests.population import MODELS, SITUATIONS, Program, Situation, Town, look_ahead

# Shrinking would take minutes: what fails is small enough to read as it is.
QUICK = settings(
    max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)


BOTH = ("weights:read", "inference")
EACH = [
    Situation(copies=tuple(MODELS), programs=(Program(BOTH, None, 300), Program(("inference",), "lab/strict", 25))),
    Situation(), Situation(bounces=True, programs=(Program(BOTH, None, 300),)), Situation(withdrawn=True),
    Situation(signed=("1.0.0",), told=9), Situation(signed=("1.0.0",)), Situation(suspended=40),
]  # fmt: skip


def approved(session: Session, editors: dict[str, Actor], now: datetime, weight: Materiality) -> LicenseVersion:
    """The next version, approved, of any weight."""
    if weight is not Materiality.EDITORIAL:
        return settled(session, editors, now, weight=weight)
    drafting.draft(session, slug=SLUG, number="1.2.0", by=editors["ed"], now=now)
    drafting.save_description(
        session, **steps(), summary=dict.fromkeys(LANGUAGES, "A comma."), changes={}, materiality=weight,
        by=editors["ed"], now=now,
    )  # fmt: skip
    publishing.submit(session, **steps(), by=editors["ed"], now=now)
    return publishing.approve(session, **steps(), by=editors["flo"], now=now)


def previewed(
    session: Session, version: LicenseVersion, by: Actor, now: datetime, days: tuple[int, int] = (20, 50)
) -> Preview:
    """A preview that is done."""
    effective, required = (now + day * DAY for day in days)
    preview = campaigns.ask(session, version=version, effective_at=effective, required_by=required, by=by, now=now)
    look_ahead(session, now)
    return preview


def first_stop(town: Town, caller: tuple[str, int], instants: tuple[datetime, ...], worlds: Any) -> datetime | None:
    """When somebody is first refused what they would have been allowed without the version."""
    without, there = worlds
    for at in instants:
        for asked, answer in without[at][caller].items():
            if answer.allowed and not there[at][caller][asked].allowed:
                return at
    return None


def check_lot(lot: Lot, caller: tuple[str, int], instants: tuple[datetime, ...], worlds: Any) -> None:
    """Hold what a preview says of somebody against what they were answered."""
    without, there = worlds
    page = f"/licenses/{SLUG}/1.2.0/sign"
    asked = [
        (at, key) for at in instants for key, answer in there[at][caller].items()
        if any(reason.url.endswith(page) and reason.code != "signature_missing" for reason in answer.reasons)
    ]  # fmt: skip
    behind = [any(r.stage == 4 for r in without[at][caller][key].blocking) for at, key in asked]
    if lot in {Lot.MUST_SIGN, Lot.BEHIND}:
        assert asked
        assert all(behind) == (lot is Lot.BEHIND)
        return
    assert not asked
    for at in instants:
        for key, answer in there[at][caller].items():
            as_it_was = without[at][caller][key]
            assert answer.allowed == as_it_was.allowed
            if lot is Lot.CARRIED_OVER:
                assert [r.code for r in answer.reasons] == [r.code for r in as_it_was.reasons]


def answers(facts: Facts, action: Action, instants: Sequence[datetime]) -> list[Any]:
    """What somebody is answered at some instants, but for what only names them and for dates of their own."""
    decisions = [decide(facts, action, at) for at in instants]
    return [[(r.code, r.blocks, r.remedy_text) for r in decision.reasons] for decision in decisions]


def check_kinds(town: Town, instants: Sequence[datetime]) -> None:
    """Those of one kind are answered alike for each model; their facts are the same loaded one by one or together."""
    session, actors = town.session, town.actors(town.now)
    subjects = [access.find_subject(session, full_name=name) for name in MODELS]
    crowd = access.Crowd(session, actors=actors, subjects=subjects, actions=list(Action), base_url=BASE)
    found: dict[Any, Any] = {}
    for actor in actors:
        facts = {(action, n): crowd.facts(actor, one, action) for action in Action for n, one in enumerate(subjects)}
        for action in Action:
            alone = access.facts_for(session, actor=actor, subjects=subjects, action=action, base_url=BASE)
            assert alone == [facts[action, n] for n in range(len(subjects))]
        said = {key: answers(fact, key[0], instants) for key, fact in facts.items()}
        assert found.setdefault(crowd.kind(actor, instants), said) == said


@pytest.mark.parametrize("weight", [Materiality.EDITORIAL, Materiality.MATERIAL, Materiality.MATERIAL_IMMEDIATE])
def test_a_preview_says_what_happens(
    session: Session, editors: dict[str, Actor], now: datetime, weight: Materiality
) -> None:
    version = approved(session, editors, now, weight)
    town = Town(session, now)
    town.open()

    @QUICK
    @example(situations=EACH, days=(20, 50))
    @given(
        situations=st.lists(SITUATIONS, min_size=1, max_size=4),
        days=st.sampled_from([(15, 15), (20, 50), (30, 31), (45, 100)]),
    )
    def holds(situations: list[Situation], days: tuple[int, int]) -> None:
        with aside(session):
            compare(town, version, editors["ed"], situations, days)

    holds()


@contextmanager
def aside(session: Session) -> Iterator[None]:
    """Do something and undo it."""
    nested = session.begin_nested()
    try:
        yield
    finally:
        nested.rollback()
        session.expire_all()


def compare(town: Town, version: LicenseVersion, by: Actor, situations: list[Situation], days: tuple[int, int]) -> None:
    """Look ahead, then set the date, move the clock on, and ask everybody one by one."""
    session, now, town.people, town.secrets = town.session, town.now, {}, {}
    for situation in situations:
        town.settle(situation)
    check_kinds(town, (now + days[0] * DAY, now + days[1] * DAY))
    preview = previewed(session, version, by, now, days)
    instants = tuple(sorted({preview.effective_at, preview.required_by}))
    without = {at: town.answers(at) for at in instants}
    campaigns.schedule(session, ref=preview.public_id, by=by, now=now, base_url=BASE)
    town.tell(version, now)
    worlds = (without, {at: town.answers(at) for at in instants})
    seen = {p.user_id: p for p in service.people(session, preview=preview, limit=10**6)}
    assert town.people.keys() - seen.keys() == {one for one, s in town.people.items() if s.closed}
    for user_id in town.people.keys() & seen.keys():
        caller = ("person", user_id)
        assert seen[user_id].stops_at == first_stop(town, caller, instants, worlds)
        assert seen[user_id].reachable is not town.people[user_id].bounces
        check_lot(seen[user_id].lot, caller, instants, worlds)
    stops = dict(session.execute(sa.select(PreviewStop.access_token_id, PreviewStop.stops_at)).all())
    for token_id, (_, user_id) in town.secrets.items():
        if user_id in seen:
            assert stops.get(token_id) == first_stop(town, ("token", token_id), instants, worlds)
    assert preview.result is not None
    assert sum(preview.result["lots"].values()) == preview.people
