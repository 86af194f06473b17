"""Who gets which file of a model, under which name, and what everybody else is told."""

import json
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa

from portal.access.models import Requirement
from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.catalog import service as catalog
from portal.catalog.rules import ModelState
from portal.core.actor import SYSTEM
from portal.core.db import transaction
from portal.deliveries import service as deliveries
from portal.edge.routes import FileBody
from portal.files import service as files
from portal.licensing.models import Signature
from portal.tokens import service as tokens
from portal.usage import service as usage
from tests import conduct
from tests.edge.ground import CONTENTS, World, body_of, catalog_release, own_world, said
from tests.factories import BASE, CARD, Make


@pytest.mark.parametrize("path", CONTENTS)
def test_head_says_the_same_as_get_with_the_true_length(world: World, path: str) -> None:
    from urllib.parse import quote

    _, token = world.member()
    head = world.ask(f"main/{quote(path)}", token, method="HEAD")
    assert world.journal == [], "nothing was sent"
    get = world.ask(f"main/{quote(path)}", token)
    assert world.kinds == ["delivery_started", "use_opened"]
    assert head.headers == get.headers
    assert isinstance(head.body, FileBody)
    headers = dict(head.headers)
    assert head.body.length == len(CONTENTS[path])
    assert len(headers["X-Repo-Commit"]) == 40
    assert headers["ETag"].strip('"').isalnum()
    assert body_of(get) == CONTENTS[path]


def test_every_way_to_name_a_revision_leads_to_the_same_bytes(world: World) -> None:
    _, token = world.member()
    full = dict(world.ask("main/config.json", token, method="HEAD").headers)["X-Repo-Commit"]
    for revision in ("main", "rel%2F1.0", full, full[:7]):
        answer = world.ask(f"{revision}/config.json", token)
        assert dict(answer.headers)["X-Repo-Commit"] == full
        assert body_of(answer) == CONTENTS["config.json"]


def test_without_a_token_the_model_is_gated_and_the_signing_page_named(world: World) -> None:
    status, code, message = said(world.ask("main/config.json"))
    assert (status, code) == (401, "GatedRepo")
    assert f"{BASE}/licenses/conduct-license/2.0.0/sign" in str(message)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_without_a_signature_the_model_is_gated_in_header_warning_and_body(world: World, method: str) -> None:
    person, token = world.member(signed=None)
    answer = world.ask("main/config.json", token, method=method)
    where = f"{BASE}/licenses/conduct-license/2.0.0/sign"
    assert said(answer)[:2] == (403, "GatedRepo")
    headers = dict(answer.headers)
    assert where in headers["X-Error-Message"]
    assert where in headers["X-HF-Warning"]
    assert isinstance(answer.body, bytes)
    assert where in json.loads(answer.body)["error"]
    [line] = world.journal
    assert (line["kind"], line["outcome"], line["reason_code"]) == ("use_finished", "refused", "signature_missing")
    assert line["user_id"] == person.id
    world.replay()


@pytest.mark.parametrize("header", ["Bearer lmp_nonsense", "Basic eDp5", "Bearer", ""])
def test_a_bad_token_gets_the_exact_words_even_for_what_is_open_or_missing(world: World, header: str) -> None:
    for path in ("main/config.json", "main/README.md", "main/none", "v9/x", "/lab/none/resolve/main/x"):
        answer = world.ask(path, authorization=header)
        assert said(answer) == (401, None, "Invalid credentials in Authorization header")


@pytest.mark.threat("TM-14")
def test_a_revoked_token_is_refused_from_the_next_request_on(world: World) -> None:
    person, token = world.member()
    assert world.ask("main/config.json", token).status == 200
    with world.make() as make:
        [key] = tokens.of_person(make.session, user_id=person.id)
        tokens.revoke(make.session, by=conduct.acting(person), ref=key.public_id, now=make.now)
    assert said(world.ask("main/config.json", token)) == (401, None, "Invalid credentials in Authorization header")


@pytest.mark.threat("TM-16")
def test_an_address_alone_opens_nothing_and_names_no_secret(world: World) -> None:
    """There are no signed links: the access token of each request leads to bytes, and nothing in its address."""
    _, token = world.member()
    full = dict(world.ask("main/config.json", token, method="HEAD").headers)["X-Repo-Commit"]
    for name in ("token", "access_token", "authorization", "signature", "X-Amz-Signature", "Expires", "user"):
        assert world.ask(f"main/config.json?{name}={token}").status == 401
        assert world.ask(f"{full}/config.json?{name}={token}&Expires=4102444800").status == 401
    for path in (
        "main/%2e%2e/config.json", "main/..%2fconfig.json", "main/%252e%252e/config.json", "main/config%252ejson",
        "main/ｃonfig.json", "main/config.json%00", "main/./config.json", "Main/config.json",
    ):  # fmt: skip
        assert world.ask(path, token).status in {400, 404}, path
        assert world.ask(path).status in {400, 401, 404}, path
    answer = world.ask("main/config.json", token)
    assert answer.status == 200
    assert all(token not in value for _, value in answer.headers)
    assert all(token not in json.dumps(line, default=str) for line in world.journal)


def test_a_missing_model_is_not_told_from_a_hidden_one(world: World) -> None:
    _, token = world.member()
    with world.make() as make:
        catalog.ensure_model(make.session, full_name="lab/draft", now=make.now)
    for number, name in enumerate(("lab/none", "lab/draft", "lab/no%00ne", "lab/%ED%A0%80"), start=1):
        assert said(world.ask(f"/{name}/resolve/main/x")) == (401, "RepoNotFound", "Invalid username or password.")
        assert len(world.journal) == number
        assert said(world.ask(f"/{name}/resolve/main/x", token)) == (404, "RepoNotFound", "Repository not found")
        assert len(world.journal) == number, "what is not there is no use"
    assert {(line["outcome"], line["user_id"]) for line in world.journal} == {("refused", None)}
    world.replay()


def test_missing_revisions_and_files_are_told_apart(world: World) -> None:
    _, token = world.member()
    for revision in ("v9", "0" * 40, "ma%00in"):
        status, code, message = said(world.ask(f"{revision}/config.json", token))
        assert (status, code) == (404, "RevisionNotFound")
        assert str(message).startswith("Invalid rev id: ")
    for path in ("none.json", "sub%20dir", "%00", "model.safetensors/x"):
        answer = world.ask(f"main/{path}", token)
        assert said(answer) == (404, "EntryNotFound", "Entry not found")
        assert len(dict(answer.headers)["X-Repo-Commit"]) == 40
    assert said(world.ask("main", token)) == (404, "EntryNotFound", "Entry not found")
    assert world.ask("main/none.json", token, method="HEAD").status == 404
    assert world.journal == [], "what is not there is no use"


def test_who_uploads_is_sent_small_files_of_every_commit_to_copy_them_and_no_weights(world: World) -> None:
    world.release("lab/two")
    folder = world.store.root.parent / "later"
    for path, body in {"new.json": b"{}", "model.safetensors": b"later weights"}.items():
        folder.mkdir(exist_ok=True)
        (folder / path).write_bytes(body)
    staged = files.stage(directory=folder, store=world.store)
    with world.make() as make:
        model = catalog.find_model(make.session, full_name="lab/one")
        commit = files.commit_files(
            make.session, model_id=model.id, staged=staged, message="Not released", by=SYSTEM, now=make.now
        ).revision
        people = {"ed": make.person("ed", Role.CARD_EDITOR), "ann": make.person("ann")}
        keys = {name: make.token(user, "weights:write")[1] for name, user in people.items()}
        other = catalog.find_model(make.session, full_name="lab/two")
        keys["bound"] = make.token(people["ed"], "weights:write", models=(other,))[1]
        keys["reader"] = make.token(people["ed"], "weights:read")[1]
    answer = world.ask(f"{commit}/new.json", keys["ed"])
    assert (answer.status, body_of(answer)) == (200, b"{}")
    assert body_of(world.ask("rel%2F1.0/config.json", keys["ed"])) == CONTENTS["config.json"]
    assert "delivery_started" not in world.kinds, "it is no copy under terms"
    assert world.ask("/lab/two/resolve/main/config.json", keys["bound"]).status == 200
    for name in ("ann", "bound", "reader"):
        assert world.ask(f"{commit}/new.json", keys[name]).status in {403, 404}
    for path in (f"{commit}/model.safetensors", "rel%2F1.0/model.safetensors", f"{commit}/none.json", "v9/config.json"):
        assert world.ask(path, keys["ed"]).status in {403, 404}
    world.store.path(sha256(b"{}").hexdigest()).unlink()
    assert world.ask(f"{commit}/new.json", keys["ed"]).status == 503
    world.replay()


def test_a_model_without_weights_and_a_withdrawn_one_say_so(world: World) -> None:
    _, token = world.member()
    with world.make() as make:
        make.model("lab/card")
    assert said(world.ask("/lab/card/resolve/main/config.json", token))[:2] == (404, "RevisionNotFound")
    assert world.journal == []
    world.release("lab/gone")
    with world.make() as make:
        catalog.find_model(make.session, full_name="lab/gone").state = ModelState.WITHDRAWN
    for key in (token, None):
        answer = world.ask("/lab/gone/resolve/main/config.json", key)
        assert said(answer) == (403, None, "Access to this resource is disabled.")
    assert [line["outcome"] for line in world.journal] == ["refused", "refused"]
    assert world.ask("/lab/gone/resolve/main/README.md").status == 200


def test_a_token_must_have_the_scope_and_the_model(world: World) -> None:
    _, elsewhere = world.member(scope="inference")
    status, code, message = said(world.ask("main/config.json", elsewhere))
    assert (status, code) == (403, "GatedRepo")
    assert "weights:read" in str(message)
    with world.make() as make:
        make.model("lab/bound")
    _, bound = world.member(model="lab/bound")
    assert "bound to other models" in str(said(world.ask("main/config.json", bound))[2])


def test_the_card_is_open_and_no_copy_under_terms_unless_the_reader_may_have_one(world: World) -> None:
    _, unsigned = world.member(signed=None)
    for token in (None, unsigned):
        answer = world.ask("main/README.md", token)
        assert body_of(answer) == CARD.encode()
    assert world.kinds == ["use_opened", "use_finished"] * 2
    assert {line["action"] for line in world.journal} == {"read"}
    _, signed = world.member()
    body_of(world.ask("main/README.md", signed))
    assert world.kinds.count("delivery_started") == 1
    world.replay()


def test_who_holds_a_copy_may_finish_while_a_signature_is_due_and_is_warned(tmp_path: Path) -> None:
    world = own_world(tmp_path)
    person, token = world.member(signed="1.0.0")
    _, other = world.member(signed="1.0.0")
    with world.make() as make:
        signed = make.session.scalars(sa.select(Signature.id).where(Signature.user_id == person.id)).one()
        version = conduct.license_versions(make.session, make.now)["2.0.0"]
        conduct.redate(make.session, version, make.now + timedelta(days=30))
        give_copy(make, person, signed)
    answer = world.ask("main/model.safetensors", token)
    assert answer.status == 200
    warning = dict(answer.headers)["X-HF-Warning"]
    assert warning.startswith("license; Sign Conduct License 2.0.0")
    assert warning.endswith("/licenses/conduct-license/2.0.0/sign")
    assert said(world.ask("main/model.safetensors", other))[:2] == (403, "GatedRepo")
    world.close()
    world.engine.dispose()


def give_copy(make: Make, person: User, signed: int) -> None:
    """Hand the large file of the model to a person."""
    release = catalog_release(make.session, "lab/one")
    commit = files.find_commit(make.session, model_id=release.model_id, revision=release.revision)
    entry = files.find_entry(make.session, commit_id=commit.id, path="model.safetensors")
    assert entry is not None
    at = make.now.isoformat()
    deliveries.record_started(
        make.session,
        record={
            "id": "req_before", "user_id": person.id, "access_token_id": None, "release_id": release.id,
            "path": entry.path, "file_sha256": entry.blob_sha256, "size": entry.size, "range_start": 0,
            "signature_ids": [signed], "card_revision_id": release.card_revision_id, "at": at,
        },
    )  # fmt: skip
    deliveries.record_finished(make.session, record={"id": "req_before", "bytes_sent": entry.size, "at": at})


def test_a_model_that_asks_for_no_license_is_sent_and_recorded_without_terms(world: World) -> None:
    person, token = world.member(signed=None)
    release = world.release("lab/free")
    with world.make() as make:
        ended = sa.update(Requirement).where(Requirement.model_id == release.model_id)
        make.session.execute(ended.values(valid_to=make.now))
    answer = world.ask("/lab/free/resolve/main/config.json", token)
    assert body_of(answer) == CONTENTS["config.json"]
    world.replay()
    with transaction(world.engine, write=False) as session:
        [use] = usage.own(session, user_id=person.id)
        assert (use.bytes_sent, use.signature_set) == (len(CONTENTS["config.json"]), None)
        assert not deliveries.own(session, user_id=person.id)


def test_an_older_release_is_decided_by_its_own_commit(world: World) -> None:
    first = world.release("lab/twice")
    second = world.release("lab/twice", "Second", **{"config.json": b"{}"})
    _, token = world.member()
    for release, body in ((first, CONTENTS["config.json"]), (second, b"{}")):
        answer = world.ask(f"/lab/twice/resolve/{release.revision}/config.json", token)
        assert body_of(answer) == body
    started = [line for line in world.journal if line["kind"] == "delivery_started"]
    assert [line["release_id"] for line in started] == [first.id, second.id]
