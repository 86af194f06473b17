"""The bytes of a model: sent exactly, written down before they leave, and cut when they must be."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from portal.access.edge import LOOK_S
from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.core.db import transaction
from portal.deliveries import service as deliveries
from portal.downloads import service
from portal.downloads.edge import is_address
from portal.edge.routes import FileBody, Request
from portal.files import service as files
from portal.tokens import service as tokens
from portal.usage import service as usage
from tests import conduct
from tests.edge.exchange import FakeExchange
from tests.edge.ground import CONTENTS, World, body_of, catalog_release


def test_a_signed_person_gets_exactly_the_bytes_and_it_is_written_down_before_and_after(world: World) -> None:
    person, token = world.member()
    answer = world.ask("main/model.safetensors", token)
    assert world.kinds == ["delivery_started", "use_opened"]
    assert body_of(answer) == CONTENTS["model.safetensors"]
    assert world.kinds == ["delivery_started", "use_opened", "delivery_finished", "use_finished"]
    world.replay()
    with transaction(world.engine, write=False) as session:
        [delivery] = deliveries.own(session, user_id=person.id)
        assert (delivery.path, delivery.complete, delivery.bytes_sent) == ("model.safetensors", True, 10240)
        [terms] = deliveries.terms_of(session, sha256=delivery.file_sha256, user_id=person.id)
        assert [signature.user_id for signature in terms.signatures] == [person.id]
        [use] = usage.own(session, user_id=person.id)
        assert (use.outcome.value, use.bytes_sent, use.channel, use.action) == ("finished", 10240, "hub", "download")
        assert use.access_token_id is not None


def test_ranges_together_make_one_delivery_and_what_comes_after_is_another(world: World) -> None:
    person, token = world.member()
    whole = CONTENTS["model.safetensors"]
    first = world.ask("main/model.safetensors", token, range="bytes=0-99")
    assert (first.status, dict(first.headers)["Content-Range"]) == (206, "bytes 0-99/10240")
    rest = world.ask("main/model.safetensors", token, range="bytes=100-")
    assert body_of(first) + body_of(rest) == whole
    assert body_of(world.ask("main/model.safetensors", token, range="bytes=-1")) == whole[-1:]
    world.replay()
    with transaction(world.engine, write=False) as session:
        release = catalog_release(session, "lab/one")
        assert deliveries.copies(session, user_ids=[person.id], release_ids=[release.id])
        assert [row.complete for row in deliveries.own(session, user_id=person.id)] == [False, True]


@pytest.mark.parametrize("header", ["bytes=10240-", "bytes=9-3", "bytes=0-1,5-6", "bytes=-0"])
def test_a_range_that_cannot_be_met_is_a_416_that_names_the_size(world: World, header: str) -> None:
    _, token = world.member()
    answer = world.ask("main/model.safetensors", token, range=header)
    assert (answer.status, dict(answer.headers)["Content-Range"]) == (416, "bytes */10240")
    assert world.ask("main/model.safetensors", token, method="HEAD", range=header).status == 200
    assert world.journal == [], "nothing was sent"


def test_if_range_gives_the_whole_file_when_the_bytes_are_others(world: World) -> None:
    _, token = world.member()
    etag = dict(world.ask("main/model.safetensors", token, method="HEAD").headers)["ETag"]
    assert world.ask("main/model.safetensors", token, range="bytes=5-", if_range=etag).status == 206
    assert world.ask("main/model.safetensors", token, range="bytes=5-", if_range='"other"').status == 200


def test_an_empty_file_is_delivered_whole(world: World) -> None:
    person, token = world.member()
    answer = world.ask("main/empty.txt", token)
    assert (answer.status, body_of(answer)) == (200, b"")
    assert world.ask("main/empty.txt", token, range="bytes=0-").status == 416
    assert world.kinds == ["delivery_started", "use_opened", "delivery_finished", "use_finished"]
    world.replay()
    with transaction(world.engine, write=False) as session:
        [delivery] = deliveries.own(session, user_id=person.id)
        assert (delivery.complete, delivery.size) == (True, 0)


@pytest.mark.threat("TM-14")
@pytest.mark.parametrize("how", ["suspended", "revoked"])
def test_a_running_download_is_cut_once_its_person_may_no_longer_have_it(world: World, how: str) -> None:
    person, token = world.member()
    answer = world.ask("main/model.safetensors", token)
    assert isinstance(answer.body, FileBody)
    exchange = world.exchange
    world.looping.turn(1.2)
    assert not exchange.aborted
    with world.make() as make:
        if how == "suspended":
            user = make.session.get_one(User, person.id)
            user.standing, user.standing_ref = Standing.SUSPENDED, "san_1"
            user.standing_until = make.now + timedelta(days=1)
        else:
            [key] = tokens.of_person(make.session, user_id=person.id)
            tokens.revoke(make.session, by=conduct.acting(person), ref=key.public_id, now=make.now)
    world.looping.until(lambda: exchange.aborted)
    assert LOOK_S <= 0.5, "else it would not be cut within two seconds"
    answer.body.finished(100)
    answer.body.finished(10240)
    assert world.kinds[2:] == ["delivery_finished", "use_finished"], "the end is told once"
    assert (world.journal[-1]["outcome"], world.journal[-1]["bytes_sent"]) == ("cut", 100)
    assert world.ask("main/model.safetensors", token, range="bytes=100-").status in {401, 403}


def test_a_client_that_leaves_early_is_recorded_with_what_it_got(world: World) -> None:
    person, token = world.member()
    answer = world.ask("main/model.safetensors", token)
    assert isinstance(answer.body, FileBody)
    world.seconds += 2.5
    answer.body.finished(77)
    assert (world.journal[-1]["outcome"], world.journal[-1]["ms"]) == ("canceled", 2500)
    world.replay()
    with transaction(world.engine, write=False) as session:
        [delivery] = deliveries.own(session, user_id=person.id)
        assert (delivery.complete, delivery.bytes_sent) == (False, 77)


@pytest.mark.parametrize("signed", ["2.0.0", None])
@pytest.mark.parametrize("how", ["broken", "unsure"])
def test_what_cannot_be_written_down_is_not_answered(world: World, signed: str | None, how: str) -> None:
    _, token = world.member(signed=signed)
    setattr(world, how, True)
    answer = world.ask("main/model.safetensors", token)
    assert answer.status == (403 if how == "unsure" and signed is None else 503)
    assert isinstance(answer.body, bytes)


def test_an_end_that_cannot_be_written_down_hurts_nobody(world: World) -> None:
    _, token = world.member()
    answer = world.ask("main/model.safetensors", token)
    assert isinstance(answer.body, FileBody)
    world.broken = True
    answer.body.finished(10240)
    assert world.kinds == ["delivery_started", "use_opened"]


def test_a_database_that_is_away_is_a_503_and_a_bug_a_500(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = world.member()
    for error, status in ((OperationalError("x", {}, Exception("locked")), 503), (ValueError("secret"), 500)):

        def breaks(*_args: object, error: Exception = error, **_kept: object) -> None:
            raise error

        monkeypatch.setattr(service, "locate", breaks)
        answer = world.ask("main/config.json", token)
        assert answer.status == status
        assert "secret" not in str(answer)


def test_a_caller_who_left_while_it_was_decided_gets_nothing_and_has_no_copy(world: World) -> None:
    _, token = world.member()
    request = Request("GET", "/lab/one/resolve/main/config.json", headers={"authorization": f"Bearer {token}"})
    exchange = FakeExchange(request)
    world.looping.do(world.downloads.resolve, exchange)
    exchange.leave()
    world.looping.turn(0.3)
    assert not exchange.answer
    assert world.journal == []


def test_the_second_request_needs_no_thread(world: World) -> None:
    _, token = world.member()
    world.ask("main/config.json", token)
    world.threads.close()
    for _ in range(3):
        assert world.ask("main/config.json", token).status == 200


def test_no_model_lies_below_the_addresses_of_the_portal_itself() -> None:
    assert is_address("/lab/one/resolve/main/a/b.txt")
    assert is_address("/lab/one/resolve/")
    for path in (
        "/api/models/resolve/one/revision/main",
        "/staff/licenses/resolve/1.0.0",
        "/lab/one/tree/main",
        "/lab",
    ):
        assert not is_address(path), path


def test_bytes_that_are_gone_are_never_promised(world: World) -> None:
    _, token = world.member()
    release = world.release("lab/lost", **{"extra.txt": b"only here"})
    with transaction(world.engine, write=False) as session:
        commit = files.find_commit(session, model_id=release.model_id, revision=release.revision)
        entry = files.find_entry(session, commit_id=commit.id, path="extra.txt")
        assert entry is not None
    world.store.path(entry.blob_sha256).write_bytes(b"short")
    for method in ("HEAD", "GET"):
        answer = world.ask("/lab/lost/resolve/main/extra.txt", token, method=method)
        assert answer.status == 503
        assert world.journal == []
