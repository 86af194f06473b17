"""The ledger of delivered copies, on both databases."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.catalog.models import Release
from portal.deliveries import service
from portal.deliveries.models import Delivery, DeliveryPart
from portal.files import service as files
from tests.factories import FILES, Make

NAMES = iter(range(10**6))
DEFAULT: list[int] = []


def started(user: User, release: Release, now: datetime, file: Any, **changed: Any) -> dict[str, Any]:
    """The journal's line about a file that starts to leave."""
    return {
        "id": f"req_{next(NAMES)}", "user_id": user.id, "access_token_id": None, "release_id": release.id,
        "path": file.path, "file_sha256": file.sha256, "size": file.size, "range_start": 0, "signature_ids": DEFAULT,
        "card_revision_id": release.card_revision_id, "at": now.isoformat(), **changed,
    }  # fmt: skip


@pytest.fixture
def release(make: Make) -> Release:
    return make.release()


@pytest.fixture(autouse=True)
def default(make: Make) -> None:
    """A signature for lines that are not about signatures."""
    DEFAULT[:] = [make.sign(make.person()).id]


@pytest.fixture
def entries(session: Session, release: Release) -> dict[str, Any]:
    commit = files.find_commit(session, model_id=release.model_id, revision=release.revision)
    return {entry.path: entry for entry in files.listed(session, commit_id=commit.id)}


def send(session: Session, record: dict[str, Any], amount: int | None = None) -> Delivery:
    service.record_started(session, record=record)
    sent = record["size"] - record["range_start"] if amount is None else amount
    done = service.record_finished(session, record={"id": record["id"], "bytes_sent": sent, "at": record["at"]})
    assert done is not None
    return done


def test_a_started_line_makes_one_delivery(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    user = make.person()
    signature, token = make.sign(user), make.token(user)[0]
    record = started(
        user, release, now, entries["model.safetensors"], signature_ids=[signature.id], access_token_id=token.id
    )
    first = service.record_started(session, record=record)
    assert service.record_started(session, record=record) is first
    count = sa.select(sa.func.count()).select_from(DeliveryPart).where(DeliveryPart.request_id == record["id"])
    assert session.scalar(count) == 1
    session.expire(first)
    assert (first.opened_at, first.bytes_sent, first.complete, first.is_running) == (now, 0, False, True)
    assert (first.access_token_id, first.path) == (token.id, "model.safetensors")


def test_the_first_end_counts(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    record = started(make.person(), release, now, entries["model.safetensors"])
    service.record_started(session, record=record)
    end = {"id": record["id"], "bytes_sent": 7, "at": (now + timedelta(seconds=3)).isoformat()}
    for _ in range(2):
        delivery = service.record_finished(session, record=end)
        assert delivery is not None
        assert (delivery.bytes_sent, delivery.complete) == (7, False)
        assert delivery.parts[0].finished_at == now + timedelta(seconds=3)
        assert not delivery.is_running
    later = service.record_finished(session, record={**end, "bytes_sent": record["size"]})
    assert later is not None
    assert later.bytes_sent == 7
    assert service.record_finished(session, record={**end, "id": "req_unknown"}) is None


def test_a_delivery_is_complete_from_the_first_byte_to_the_last(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    file = entries["model.safetensors"]
    assert send(session, started(make.person(), release, now, file)).completed_at == now
    assert not send(session, started(make.person(), release, now, file), file.size - 1).complete
    assert not send(session, started(make.person(), release, now, file, range_start=1)).complete


def test_ranges_of_parallel_connections_join_into_one_delivery(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    user, file = make.person(), entries["model.safetensors"]
    ranges = [(0, 0, 1), (0, 0, 300), (300, 300, 200), (500, 500, 300)]  # a probe, and three connections
    records = [started(user, release, now, file, range_start=start) for _, start, _ in ranges]
    deliveries = {service.record_started(session, record=record).id for record in records}
    assert len(deliveries) == 1
    for record, (_, _, sent) in zip(records[::-1], ranges[::-1], strict=True):
        done = service.record_finished(session, record={**record, "bytes_sent": sent})
        assert done is not None
    session.expire_all()
    [delivery] = service.own(session, user_id=user.id)
    assert (delivery.complete, delivery.bytes_sent, len(delivery.parts)) == (True, 801, 4)
    assert not delivery.is_running
    again = send(session, started(user, release, now, file))
    assert (again.id != delivery.id, again.complete) == (True, True)


def test_a_resumed_download_is_the_same_delivery_for_a_week(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    user, file = make.person(), entries["model.safetensors"]
    first = send(session, started(user, release, now, file), 300)
    later = send(session, started(user, release, now + timedelta(days=6), file, range_start=300))
    assert (later, later.complete, later.completed_at) == (first, True, now + timedelta(days=6))
    half = send(session, started(user, release, now, file), 300)
    rest = send(session, started(user, release, now + timedelta(days=8), file, range_start=300))
    assert (rest is half, rest.complete, half.complete) == (False, False, False)


def test_other_people_tokens_terms_and_files_are_other_deliveries(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    user, file = make.person(), entries["model.safetensors"]
    old, new = make.sign(user, "1.0.0"), make.sign(user, "2.0.0")
    base = started(user, release, now, file, signature_ids=[old.id])
    others: list[dict[str, Any]] = [
        {}, {"user_id": make.person().id}, {"access_token_id": make.token(user)[0].id}, {"signature_ids": [new.id]},
        {"path": "copy.safetensors"}, {"release_id": make.release().id}, {"file_sha256": "1" * 64},
    ]  # fmt: skip
    made = [service.record_started(session, record={**base, **o, "id": f"req_o{n}"}) for n, o in enumerate(others)]
    assert len({delivery.id for delivery in made}) == len(others)


def test_a_person_holds_a_copy_once_every_large_file_arrived(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    user, other, file = make.person(), make.person(), entries["model.safetensors"]

    def held(person: User = user) -> bool:
        return bool(service.copies(session, user_ids=[person.id], release_ids=[release.id]))

    assert not held()
    send(session, started(user, release, now, entries["config.json"]))
    assert not held()
    send(session, started(user, release, now, file), 300)
    service.record_started(session, record=started(user, release, now, file, range_start=300))
    assert not held()
    send(session, started(other, release, now, file, range_start=300))
    assert not held()
    send(session, started(user, release, now, file, range_start=300))
    assert held()
    assert not held(other)
    make.commit(release.model, {**FILES, "model.safetensors": b"other"})
    newer = make.release(release.model, contents={**FILES, "model.safetensors": b"other"})
    assert not service.copies(session, user_ids=[user.id], release_ids=[newer.id])


def test_without_large_files_every_file_counts(session: Session, make: Make, now: datetime) -> None:
    release, user = make.release(contents={"a.txt": b"a", "b.txt": b"bb"}), make.person()
    commit = files.find_commit(session, model_id=release.model_id, revision=release.revision)
    first, second = files.listed(session, commit_id=commit.id)
    send(session, started(user, release, now, first))
    assert not service.copies(session, user_ids=[user.id], release_ids=[release.id])
    send(session, started(user, release, now, second))
    assert service.copies(session, user_ids=[user.id], release_ids=[release.id])


def test_the_terms_of_a_copy_are_those_of_its_delivery(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    user, file = make.person(), entries["model.safetensors"]
    old, new = make.sign(user, "1.0.0"), make.sign(user, "2.0.0")
    earlier = send(session, started(user, release, now, file, signature_ids=[old.id]))
    later = send(session, started(user, release, now, file, signature_ids=[new.id, old.id]))
    foreign = send(session, started(make.person(), release, now, file))
    found = service.terms_of(session, sha256=file.sha256, user_id=user.id)
    assert [terms.delivery for terms in found] == [earlier, later]
    assert [[s.id for s in terms.signatures] for terms in found] == [[old.id], [old.id, new.id]]
    assert [s.version.number for s in found[0].signatures] == ["1.0.0"]
    assert found[0].release is release
    assert found[0].card.id == release.card_revision_id
    assert service.terms_of(session, sha256="0" * 64, user_id=user.id) == []
    assert {t.person for t in found} == {user.public_id}
    every = service.terms_of(session, sha256=file.sha256)
    assert [t.delivery for t in every][-3:] == [earlier, later, foreign]
    assert len(service.terms_of(session, sha256=file.sha256, limit=1)) == 1


def test_the_ledger_is_exported_as_flat_rows_of_ids(
    session: Session, make: Make, now: datetime, entries: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCH", 1)
    release, user, file = make.release(), make.person(), entries["model.safetensors"]
    signature, token = make.sign(user), make.token(user)[0]
    for hours in (-1, 0, 1, 2, 24):
        at = now + timedelta(hours=hours)
        record = started(user, release, at, file, signature_ids=[signature.id], access_token_id=token.id)
        send(session, record, None if hours else 5)
    rows = list(service.export_rows(session, start=now, end=now + timedelta(hours=24)))
    assert [row["opened_at"] for row in rows] == [(now + timedelta(hours=h)).isoformat() for h in (0, 2)]
    # The first request was cut, and the next began anew: together they fetched one copy.
    shown = [(row["bytes_sent"], row["complete"], row["requests"]) for row in rows]
    assert shown == [(file.size + 5, True, 2), (file.size, True, 1)]
    first = rows[-1]
    assert (first["person"], first["access_token"], first["sha256"]) == (user.public_id, token.public_id, file.sha256)
    assert (first["licenses"], first["signatures"]) == ("conduct-license/2.0.0", signature.public_id)
    assert list(service.export_rows(session, start=now - timedelta(9), end=now - timedelta(8))) == []


def test_a_person_sees_own_copies_newest_first(
    session: Session, make: Make, now: datetime, release: Release, entries: dict[str, Any]
) -> None:
    user, other = make.person(), make.person()
    signature = make.sign(user)
    made = [
        send(session, started(user, release, now, entries[path], signature_ids=[signature.id]))
        for path in ("config.json", "model.safetensors")
    ]
    send(session, started(other, release, now, entries["config.json"]))
    assert list(service.own(session, user_id=user.id)) == made[::-1]
    assert list(service.own(session, user_id=user.id, limit=1)) == made[1:]
    terms = service.own_terms(session, user_id=user.id)
    assert [t.delivery for t in terms] == made[::-1]
    assert {s.public_id for t in terms for s in t.signatures} == {signature.public_id}
    assert service.own_terms(session, user_id=make.person().id) == []
