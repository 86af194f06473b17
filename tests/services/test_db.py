"""Asking a database about many ids at once."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.core.db import FEW, among
from tests.factories import Make


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1, 40_000])
def test_few_ids_and_many_find_the_same_rows(session: Session, make: Make, count: int) -> None:
    people = [make.person().id for _ in range(3)]
    ids = [*people[:2], *range(10**6, 10**6 + count)][:count]
    query = sa.select(User.id).where(User.id.in_(people)).order_by(User.id)
    assert list(session.scalars(query.where(among(User.id, ids)))) == people[: min(count, 2)]
    assert list(session.scalars(query.where(~among(User.id, ids)))) == people[min(count, 2) :]


def test_many_ids_travel_as_one_value(session: Session) -> None:
    compiled = sa.select(User.id).where(among(User.id, range(FEW + 1))).compile(session.get_bind())
    assert len(compiled.params) == 1
