"""Clicking twice at the same moment, in threads and on both databases, in work that is committed."""

import threading
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from portal.core.db import transaction
from portal.core.errors import PortalError
from portal.licensing.models import Ceremony, Signature
from portal.licensing.rules import CeremonyState
from portal.signing import service
from portal.signing.rules import Sitting
from tests import conduct, licensed


def at_once(*attempts: Any) -> list[Any]:
    """Run attempts in threads that start together; returns results or errors."""
    barrier, results = threading.Barrier(len(attempts)), [None] * len(attempts)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = attempts[number]()
        except PortalError as error:
            results[number] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(attempts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.threat("TM-23")
def test_two_clicks_at_the_same_moment_sign_once(own: sa.Engine, now: datetime) -> None:
    with transaction(own) as session:
        version = licensed.publish(session, now)
        by = licensed.browsing(conduct.person(session, "ann", now))
        same = licensed.sitting(session, by, version, now)
        french = licensed.sitting(session, by, version, now, "fr")

    def click(sitting: Sitting) -> str:
        with transaction(own) as session:
            return service.sign(
                session, by=by, version_id=version.id, sitting=sitting, context=licensed.CONTEXT, now=now
            ).public_id

    results = at_once(*[lambda s=s: click(s) for s in (same, same, french, same)])
    signed = {r for r in results if isinstance(r, str)}
    assert len(signed) == 1
    assert {r.code for r in results if isinstance(r, PortalError)} <= {"already_signed"}
    with transaction(own, write=False) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Signature)) == 1
        states = session.scalars(sa.select(Ceremony.state).order_by(Ceremony.id)).all()
        assert sorted(states) == [CeremonyState.OPEN, CeremonyState.SIGNED]


def test_opening_twice_at_the_same_moment_opens_one_sitting(own: sa.Engine, now: datetime) -> None:
    with transaction(own) as session:
        version = licensed.publish(session, now)
        by = licensed.browsing(conduct.person(session, "ann", now))

    def look() -> str:
        with transaction(own) as session:
            return service.open_ceremony(session, by=by, version_id=version.id, now=now).nonce

    assert len(set(at_once(look, look, look))) == 1
