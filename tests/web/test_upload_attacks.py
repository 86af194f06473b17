"""Uploads as somebody hostile sends them: digests of others, replayed addresses, names that harm, bodies that swell."""

import hashlib
import json
import tracemalloc
from math import prod
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from portal.core.db import transaction
from portal.uploads import rules, service
from tests.hub.staff import safetensors
from tests.web.uploading import BYTES, MODEL, Desk, add, large, said

DIGEST = hashlib.sha256(BYTES).hexdigest()
HEADER = b'{"key": "header", "value": {}}\n'


@pytest.fixture
def desk(app: Any) -> Desk:
    return Desk(app)


@pytest.fixture
def robot(desk: Desk) -> str:
    """Who has an access token for one model alone."""
    desk.post("/api/repos/create", {"organization": "lab", "name": "own"})
    with transaction(desk.app.engine) as session:
        own = service.catalog.find_any_model(session, full_name="lab/own")
        desk.keys["robot"] = desk.token(session, desk.people["ed"], model_ids=[own.id])
    return "robot"


def commit_to(desk: Desk, model: str, *operations: Any, who: str) -> Any:
    lines = [("header", {"summary": "x"}), *operations]
    body = b"".join(json.dumps({"key": k, "value": v}).encode() + b"\n" for k, v in lines)
    return desk.http.post(f"/api/models/{model}/commit/main", data=body, headers=desk.key(who))


def test_a_digest_is_no_key_to_the_bytes_of_another_model(desk: Desk, robot: str) -> None:
    desk.put(desk.href(), BYTES)
    assert desk.commit(large("w.safetensors", BYTES)).status_code == 200
    wanted = {"operation": "upload", "objects": [{"oid": DIGEST, "size": len(BYTES)}]}
    [told] = desk.post("/lab/own.git/info/lfs/objects/batch", wanted, robot).json["objects"]
    assert "actions" in told, "that others have stored it is not told"
    verify = told["actions"]["verify"]["href"].removeprefix(desk.base)
    assert desk.post(verify, {"oid": DIGEST, "size": len(BYTES)}, robot).status_code == 404
    taken = commit_to(desk, "lab/own", large("stolen.safetensors", BYTES), who=robot)
    none = commit_to(desk, "lab/own", large("stolen.safetensors", b"nowhere"), who=robot)
    assert said(taken) == said(none) == "400 The bytes of stolen.safetensors are not stored here. Send them first."
    assert desk.http.get("/api/models/lab/own/tree/main", headers=desk.key()).json == []
    assert desk.put(told["actions"]["upload"]["href"].removeprefix(desk.base), BYTES).status_code == 200
    assert desk.post(verify, {"oid": DIGEST, "size": len(BYTES)}, robot).status_code == 200
    assert commit_to(desk, "lab/own", large("mine.safetensors", BYTES), who=robot).status_code == 200
    again = desk.post("/lab/own.git/info/lfs/objects/batch", wanted, robot).json["objects"]
    assert "actions" not in again[0]


def test_what_is_there_already_is_told_of_the_model_alone_that_is_asked_about(desk: Desk, robot: str) -> None:
    desk.put(desk.href(), BYTES)
    desk.commit(large("w.safetensors", BYTES), add("secret.txt", b"secret"))
    files = {"files": [{"path": "w.safetensors", "size": len(BYTES)}, {"path": "secret.txt", "size": 6}]}
    told = desk.post("/api/models/lab/own/preupload/main", files, robot).json["files"]
    assert all("oid" not in file for file in told)
    assert desk.post(f"{MODEL}/preupload/main", files, robot).status_code == 403


def test_an_address_that_is_used_twice_does_no_harm(desk: Desk) -> None:
    href = desk.href()
    assert [desk.put(href, BYTES).status_code for _ in range(2)] == [200, 200]
    assert desk.http.post(href, data=BYTES).status_code == 405
    assert desk.put(href, b"y" + BYTES[1:]).status_code == 422
    assert desk.app.extensions["store"].path(DIGEST).read_bytes() == BYTES
    assert desk.drafts == []


def test_an_answer_that_got_lost_after_the_last_part_is_given_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PART", 1_000_000)
    upload = desk.batch(BYTES)["objects"][0]["actions"]["upload"]
    size = int(upload["header"].pop("chunk_size"))
    parts = [
        {"partNumber": int(n), "etag": desk.put(href.removeprefix(desk.base), BYTES[size * (int(n) - 1) :][:size])
         .headers["ETag"]} for n, href in upload["header"].items()
    ]  # fmt: skip
    join = upload["href"].removeprefix(desk.base)
    for shuffled in (parts[::-1], parts):
        assert desk.http.post(join, json={"oid": DIGEST, "parts": shuffled}).status_code == 200
    for wrong in ([*parts, {"partNumber": 4, "etag": "x"}], [{**parts[0], "partNumber": 0}, *parts[1:]], parts * 5000):
        assert desk.http.post(join, json={"oid": DIGEST, "parts": wrong}).status_code == 400


@pytest.mark.threat("TM-33")
@pytest.mark.parametrize(
    "path", [".git/hooks/post-checkout", "sub/.GIT/config", ".cache/huggingface/download/w.metadata", "a/.git"]
)
def test_no_file_lands_where_git_or_a_client_keeps_its_own(desk: Desk, path: str) -> None:
    for answer in (desk.commit(add(path)), desk.commit(large(path, BYTES)),
                   desk.post(f"{MODEL}/preupload/main", {"files": [{"path": path, "size": 1}]})):  # fmt: skip
        assert (answer.status_code, "git and Hub clients" in said(answer)) == (422, True)
    for harmless in (".gitattributes", ".gitignore", "my.git", "cache/x"):
        assert desk.commit(add(harmless)).status_code == 200


@pytest.mark.parametrize(
    "address", ["{}/commit/ma%00in", "{}/branch/a%00b", "/api/uploads/upl%00x/0?expires=1&signature="]
)
def test_a_nul_in_an_address_is_refused_everywhere(desk: Desk, address: str) -> None:
    address = address.format(MODEL)
    for method in ("POST", "PUT"):
        answer = desk.http.open(
            address + "0" * 64 * ("signature" in address), method=method, data=HEADER, headers=desk.key()
        )
        assert answer.status_code in {400, 405}


def head(value: Any) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(body).to_bytes(8, "little") + body


HEADS: dict[str, bytes] = {
    "deep": head(b"[" * 200_000), "deep shape": head(b'{"w": {"dtype": "F32", "shape": ' + b"[" * 200_000),
    "many sides": head({"w": {"dtype": "F32", "shape": [2**62] * 100_000}}),
    "huge side": head(b'{"w": {"dtype": "F32", "shape": [1' + b"0" * 4000 + b"]}}"),
    "negative": head({"w": {"dtype": "F32", "shape": [-5]}}), "nul type": head({"w": {"dtype": "F\0", "shape": [1]}}),
    "half a character": head(b'{"w": {"dtype": "\\ud800", "shape": [1]}}'),
    "list as type": head({"w": {"dtype": [], "shape": [1]}}), "no tensor": head({"w": 5}),
    "yes as side": head({"w": {"dtype": "F32", "shape": [True]}}),
    "long type": head({"w": {"dtype": "F" * 99, "shape": []}}),
    "sum": head({str(n): {"dtype": "F32", "shape": [2**47]} for n in range(4)}),
}  # fmt: skip


@pytest.mark.threat("TM-33")
@pytest.mark.parametrize("name", HEADS)
def test_heads_of_weights_that_mean_nothing_count_nothing(desk: Desk, name: str) -> None:
    answer = desk.commit(add("w.safetensors", HEADS[name]))
    assert answer.status_code == 200
    assert "safetensors" not in desk.http.get(MODEL, headers=desk.key()).json


def test_weights_that_are_named_many_times_are_read_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    body, read = safetensors(6), []
    count = service.files.count_parameters
    monkeypatch.setattr(service.files, "count_parameters", lambda *args: read.append(args) or count(*args))
    desk.put(desk.href(body), body)
    assert desk.commit(*(large(f"{n}.safetensors", body) for n in range(200))).status_code == 200
    assert len(read) == 1
    assert prod([6]) * 1 == desk.http.get(MODEL, headers=desk.key()).json["safetensors"]["total"]


@pytest.mark.threat("TM-33")
def test_the_size_of_a_commit_is_not_the_memory_that_it_takes(desk: Desk) -> None:
    """Files of four megabytes: each is let go of before the next one is read."""
    lines = [json.dumps({"key": k, "value": v}).encode() + b"\n" for k, v in
             (add(f"{n}.txt", bytes([n]) * (4 << 20)) for n in range(12))]  # fmt: skip
    body = HEADER + b"".join(lines)
    del lines
    tracemalloc.start()
    try:
        assert desk.send(body).status_code == 200
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(body) / 1.6
    assert len(desk.tree()) == 12


@pytest.mark.threat("TM-33")
@pytest.mark.parametrize("many", [b'{"key": "deletedFile", "value": {"path": "x"}}\n' * 30_000, b"\n" * 3_000_000])
def test_many_lines_are_refused_or_passed_over(desk: Desk, many: bytes) -> None:
    answer = desk.send(HEADER + many)
    assert answer.status_code == (413 if many.strip() else 200)


def test_a_database_that_is_away_is_told_in_the_words_of_the_hub(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    href, before = desk.href(), desk.tree()

    def away(*_args: Any, **_kept: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(service, "stored", away)
    monkeypatch.setattr(service, "add_commit", away)
    for answer in (desk.put(href, BYTES), desk.commit(add("x.txt"))):
        assert answer.status_code == 503
        assert "does not answer just now" in answer.headers["X-Error-Message"]
    monkeypatch.undo()
    assert (desk.tree(), desk.drafts) == (before, [])


@pytest.mark.threat("TM-16")
@pytest.mark.parametrize("address", ["/%5Cevil.example/x/commit/abc", "/%0d%0aSet-Cookie:a=b/x/commit/abc"])
def test_the_address_of_a_commit_leads_nowhere_else(desk: Desk, address: str) -> None:
    answer = desk.http.get(address)
    where = answer.headers.get("Location", "")
    assert answer.status_code in {303, 400, 404}
    assert not where.startswith(("//", "/\\", "http")), where
    assert "Set-Cookie" not in answer.headers or "a=b" not in answer.headers["Set-Cookie"]
