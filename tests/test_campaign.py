"""A campaign of false news against a running portal, among people who mean no harm; `make bench` has it whole."""

from collections.abc import Iterator

import pytest

from tests.campaigning import CLAUSE, Field
from tests.corpus.prompts import articles, benign, campaign
from tests.running import RunningPortal, wait_until


@pytest.fixture
def on(portal: RunningPortal) -> Iterator[Field]:
    made = Field(portal)
    yield made
    made.close()


@pytest.mark.threat("TM-01")
@pytest.mark.threat("TM-02")
@pytest.mark.threat("TM-03")
def test_a_campaign_ends_in_cases_with_the_clause_and_honest_people_in_none(on: Field) -> None:
    honest, farm = on.people("calm", 2), on.people("mill", 6)
    assert set(on.ask(honest, [prompt for _, prompt in benign(40)])) == {200}
    on.ask(farm, [prompt for _, prompt in campaign(24)])
    on.ask(farm, articles(48))
    wait_until(lambda: on.first_case_at(farm, together=False), 60)
    wait_until(lambda: on.looked([*honest, *farm], 40 + 24 + 48), 60)
    found = on.cases_about(farm)
    assert any(CLAUSE in clauses for _, people, clauses in found if not people)
    [(people, clauses)] = [(people, clauses) for _, people, clauses in found if people]
    assert len(people) > 1
    assert set(people) <= {account.ref for account in farm}
    assert clauses == [CLAUSE]
    assert on.cases_about(honest) == []
