"""What a client may send for staff, and what is refused: over the Hub protocol, without a network between."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.rules import Role
from portal.audit.models import AuditEvent
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.files.models import Upload
from portal.files.rules import git_oid
from portal.storage.models import Blob
from portal.tokens import service as tokens
from portal.uploads import rules, service
from tests import conduct
from tests.hub.staff import safetensors
from tests.site import make_app
from tests.web.uploading import BYTES, MODEL, Desk, add, large, said

HEADER = b'{"key": "header", "value": {}}\n'


@pytest.fixture
def desk(app: Any) -> Desk:
    return Desk(app)


def test_a_large_file_is_sent_once_and_named_by_its_digest(desk: Desk) -> None:
    digest = hashlib.sha256(BYTES).hexdigest()
    answer = desk.put(desk.href(), BYTES)
    assert (answer.status_code, answer.headers["ETag"]) == (200, f'"{digest}"')
    assert desk.app.extensions["store"].path(digest).read_bytes() == BYTES
    [again] = desk.batch(BYTES)["objects"]
    assert "actions" not in again
    assert desk.commit(large("w.safetensors", BYTES)).status_code == 200
    known = desk.post(f"{MODEL}/preupload/main", {"files": [{"path": "w.safetensors", "size": len(BYTES)}]}).json
    assert known["files"] == [{"path": "w.safetensors", "uploadMode": "lfs", "shouldIgnore": False, "oid": digest}]
    assert desk.drafts == []


def test_a_file_in_parts_is_put_together_and_checked_as_a_whole(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PART", 1_000_000)
    answer = desk.batch(BYTES)
    assert answer["transfer"] == "multipart"
    upload = answer["objects"][0]["actions"]["upload"]
    size = int(upload["header"].pop("chunk_size"))
    assert len(upload["header"]) == ceil(len(BYTES) / size) == 3
    parts = {int(n): (href.removeprefix(desk.base), BYTES[size * (int(n) - 1) : size * int(n)]) for n, href in
             upload["header"].items()}  # fmt: skip
    done = {"oid": hashlib.sha256(BYTES).hexdigest()}
    join = upload["href"].removeprefix(desk.base)
    tags = {n: desk.put(href, body).headers["ETag"] for n, (href, body) in parts.items() if n != 2}
    assert "is missing" in said(desk.http.post(join, json={**done, "parts": listed({**tags, 2: "x"})}))
    tags[2] = desk.put(parts[2][0], parts[2][1][::-1]).headers["ETag"]
    assert said(desk.http.post(join, json={**done, "parts": listed(tags)})).startswith("422 ")
    assert said(desk.http.post(join, json={**done, "parts": listed(tags)[:2]})).startswith("400 ")
    tags[2] = desk.put(*parts[2]).headers["ETag"]
    assert desk.http.post(join, json={**done, "parts": listed(tags)}).status_code == 200
    assert desk.app.extensions["store"].path(done["oid"]).read_bytes() == BYTES
    assert desk.drafts == []
    for number in (0, 4):
        href = parts[1][0].replace("/1?", f"/{number}?")
        assert desk.put(href, b"").status_code in {403, 404}
    assert desk.put(parts[1][0], parts[1][1] + b"x").status_code == 413
    assert said(desk.put(parts[1][0], b"x")).startswith("400 1,000,000 bytes were announced, and 1 came")


def listed(tags: dict[int, str]) -> list[dict[str, Any]]:
    return [{"partNumber": number, "etag": tag} for number, tag in tags.items()]


def test_bytes_that_are_not_what_was_announced_are_not_kept(desk: Desk) -> None:
    href = desk.href()
    other = b"y" + BYTES[1:]
    for body, status in ((other, 422), (BYTES[:-1], 400), (BYTES + b"x", 413), (b"", 400)):
        assert desk.put(href, body).status_code == status, len(body)
        assert desk.drafts == []
        assert not desk.app.extensions["store"].path(hashlib.sha256(body).hexdigest()).exists()
    digest = hashlib.sha256(BYTES).hexdigest()
    assert said(desk.commit(large("w.safetensors", BYTES))).startswith("400 The bytes of w.safetensors are not stored")
    assert not desk.app.extensions["store"].path(digest).exists()
    assert desk.put(href, BYTES).status_code == 200


def test_an_address_is_for_one_person_one_file_and_a_while(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = desk.href(), desk.href(BYTES[:1000], who="flo")
    seal = mine.partition("signature=")[2]
    expires = mine.partition("expires=")[2].partition("&")[0]
    wrong = [
        mine.replace(seal, "0" * 64), mine.replace(seal, "é" * 64), mine.replace(seal, ""), mine.partition("?")[0],
        mine.replace(expires, str(int(expires) + 9)), mine.replace(expires, "²"), mine.replace(expires, "9" * 30),
        other.partition("?")[0] + "?" + mine.partition("?")[2], mine.replace("/0?", "/1?"),
    ]  # fmt: skip
    for href in wrong:
        assert said(desk.put(href, BYTES)).startswith("403 "), href
    assert said(desk.put(mine, BYTES, **desk.key("flo"))) == "403 This address was made for somebody else."
    with transaction(desk.app.engine) as session:
        session.execute(sa.update(Upload).values(expires_at=utcnow() - timedelta(seconds=1)))
    assert said(desk.put(mine, BYTES)).startswith("404 ")
    monkeypatch.setattr(rules, "LIFE", timedelta(seconds=-1))
    assert "has expired" in said(desk.put(desk.href(), BYTES))


@pytest.mark.parametrize("ended", ["role", "token"])
def test_an_address_ends_with_the_role_and_with_the_access_token(desk: Desk, ended: str) -> None:
    href = desk.href()
    with transaction(desk.app.engine) as session:
        by = conduct.acting(desk.people["ed"])
        if ended == "role":
            service.accounts.end_role(session, user_id=desk.people["ed"].id, role=Role.CARD_EDITOR, by=by, now=utcnow())
        else:
            [own] = tokens.of_person(session, user_id=desk.people["ed"].id)
            tokens.revoke(session, by=by, ref=own.public_id, now=utcnow())
    status = 403 if ended == "role" else 401
    assert desk.put(href, BYTES).status_code == desk.commit(add("x.txt")).status_code == status
    assert desk.drafts == []


def test_a_commit_is_all_or_nothing(desk: Desk) -> None:
    assert desk.commit(add("a.txt", b"a"), add("sub/b.txt", b"b")).status_code == 200
    before = desk.tree()
    for operations in (
        [add("c.txt"), ("deletedFile", {"path": "none.txt"})],
        [add("c.txt"), ("deletedFolder", {"path": "none/"})],
        [add("c.txt"), large("w.safetensors", b"not here")],
        [add("c.txt"), add("A.txt")],
        [add("c.txt"), add("sub")],
        [add("c.txt"), add("a.txt/x")],
        [add("c.txt"), add("SUB/x")],
        [add("c.txt"), ("unknown", {"path": "x"})],
    ):
        answer = desk.commit(*operations)
        assert answer.status_code in {400, 404}, operations
        assert answer.headers["X-Error-Message"]
        assert desk.tree() == before
    done = desk.commit(("deletedFolder", {"path": "sub/"}), add("a.txt", b"new"), add("sub", b"file"))
    assert done.status_code == 200
    assert {path: row["oid"] for path, row in desk.tree().items()} == {
        "a.txt": git_oid(b"new"),
        "sub": git_oid(b"file"),
    }


@pytest.mark.parametrize(
    "path",
    ["../up", "/etc/passwd", "a//b", "a/./b", "nul\0", "back\\slash", "", "x" * 600, f"{'é' * 200}/x", "a/", "\ud800",
     "tab\tname", 7, None, "a/../../b"],
)  # fmt: skip
def test_paths_that_could_harm_a_disk_are_refused(desk: Desk, path: Any) -> None:
    content = {"content": "", "encoding": "base64"}
    answers = [
        desk.commit(("file", {"path": path, **content})), desk.commit(("deletedFile", {"path": path})),
        desk.post(f"{MODEL}/preupload/main", {"files": [{"path": path, "size": 1}]}),
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} <= {400, 404, 422}
    assert desk.tree() == {}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\n\n", b"no json\n", b'{"key": "file", "value": {}}\n', b'{"key": "header", "value": 1}\n',
        b"[" * 100_000, b"\xff\xfe", json.dumps({"key": "header", "value": {"summary": "x" * 501}}).encode(),
        b'{"key": "header", "value": {"summary": 5}}\n', b'{"key": "header", "value": {"summary": "a\\u0000b"}}\n',
        b'{"key": "header", "value": {"summary": "\\ud800"}}\n',
        b'{"key": "header", "value": {"parentCommit": "zz"}}\n',
        HEADER + b'{"key": "file", "value": {"path": "x", "content": "%", "encoding": "base64"}}',
        HEADER + b'{"key": "file", "value": {"path": "x", "content": "eA=="}}',
        HEADER + b'{"key": "lfsFile", "value": {"path": "x", "algo": "md5", "oid": "0"}}',
        HEADER + b'{"key": "lfsFile", "value": {"path": "x", "oid": "zz"}}',
        HEADER + b'{"key": "lfsFile", "value": {"path": "x", "oid": "' + b"0" * 64 + b'", "size": -1}}',
    ],
)  # fmt: skip
def test_bodies_that_are_no_commit_are_refused_with_a_reason(desk: Desk, body: bytes) -> None:
    answer = desk.send(body)
    assert answer.status_code == 400
    assert answer.headers["X-Error-Message"]
    assert desk.tree() == {}


def test_too_much_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = make_app(tmp_path, PORTAL_UPLOAD_COMMIT_MB="1", PORTAL_UPLOAD_FILE_GB="1")
    desk = Desk(small)
    assert said(desk.commit(add("big.txt", b"x" * 2_000_000))).startswith("413 The body has more than 1,048,576")
    monkeypatch.setattr(rules, "LINE_MOST", 100)
    assert said(desk.commit(add("big.txt", b"x" * 200))).startswith("413 A line")
    monkeypatch.undo()
    monkeypatch.setattr(rules, "OPERATIONS_MOST", 2)
    assert said(desk.commit(*(add(f"{n}.txt") for n in range(3)))).startswith("413 A commit has at most 2")
    too_big = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 2 << 30}]}
    [answer] = desk.post("/lab/m.git/info/lfs/objects/batch", too_big).json["objects"]
    assert answer["error"]["code"] == 413
    assert desk.tree() == {}
    small.engine.dispose()


def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    app = make_app(tmp_path, PORTAL_UPLOAD_FILE_GB="100000")
    desk = Desk(app)
    huge = {"operation": "upload", "objects": [{"oid": f"{n:064}", "size": 90_000 << 30} for n in range(2)]}
    answers = desk.post("/lab/m.git/info/lfs/objects/batch", huge).json["objects"]
    assert [answer["error"]["code"] for answer in answers] == [507, 507]
    assert "do not fit" in answers[0]["error"]["message"]
    app.engine.dispose()


def test_the_same_commit_sent_twice_is_made_once_and_a_stale_one_never(desk: Desk) -> None:
    first = desk.commit(add("a.txt", b"a")).json["commitOid"]
    done = [desk.commit(add("b.txt", b"b"), parentCommit=first) for _ in range(2)]
    assert done[0].json["commitOid"] == done[1].json["commitOid"] != first
    for who in ("ed", "flo"):
        assert said(desk.commit(add("c.txt", b"c"), parentCommit=first, who=who)).startswith(
            "412 main has moved on to "
        )
    assert said(desk.commit(add("b.txt", b"b"), parentCommit=first, who="flo")).startswith("412 ")
    assert desk.commit(add("c.txt", b"c"), parentCommit=done[0].json["commitOid"][:12]).status_code == 200


def test_staff_alone_write_and_are_told_what_is_missing(desk: Desk) -> None:
    for who, words in (("mo", "models:commit:upload"), ("ann", "models:commit:upload"), ("", "Send an access token")):
        status = 401 if not who else 403
        answers = [
            desk.post("/api/repos/create", {"name": "lab/x"}, who), desk.commit(add("x.txt"), who=who),
            desk.post(f"{MODEL}/preupload/main", {"files": []}, who), desk.post(f"{MODEL}/branch/b", {}, who),
            desk.post("/lab/m.git/info/lfs/objects/batch", {}, who), desk.post(f"{MODEL}/tag/main", {"tag": "t"}, who),
            desk.post("/api/repos/move", {}, who), desk.post("/api/repos/delete", {"name": "lab/m"}, who, "DELETE"),
        ]  # fmt: skip
        for answer in answers:
            assert answer.status_code == status
            assert (
                words.split(":")[0] in answer.headers["X-Error-Message"] or words in answer.headers["X-Error-Message"]
            )


def test_an_access_token_bound_to_other_models_writes_to_no_others(desk: Desk) -> None:
    desk.post("/api/repos/create", {"organization": "lab", "name": "other"})
    with transaction(desk.app.engine) as session:
        other = service.catalog.find_any_model(session, full_name="lab/other")
        desk.keys["bound"] = desk.token(session, desk.people["ed"], model_ids=[other.id])
    assert said(desk.commit(add("x.txt"), who="bound")).startswith("403 This access token is bound to other models")
    assert desk.post("/api/repos/create", {"name": "lab/new"}, "bound").status_code == 403
    assert desk.post("/api/models/lab/other/branch/b", {}, "bound").status_code == 201


def test_repositories_are_made_named_and_kept(desk: Desk) -> None:
    answer = desk.post("/api/repos/create", {"organization": "lab", "name": "m", "private": True})
    assert (answer.status_code, answer.json["url"]) == (409, f"{desk.base}/lab/m")
    assert answer.headers["X-HF-Warning"].startswith("visibility; ")
    for body in (
        {"name": "m"},
        {"name": "lab/a b"},
        {"name": "api/x"},
        {"name": 5},
        {"name": "lab/x", "type": "space"},
        [],
    ):
        assert desk.post("/api/repos/create", body).status_code in {400, 422}
    assert desk.post("/api/repos/create", {"name": "lab/d", "type": "dataset"}).json["url"].endswith("/datasets/lab/d")
    move = {"fromRepo": "lab/m", "toRepo": "lab/renamed", "type": "model"}
    assert desk.post("/api/repos/move", move).status_code == 200
    assert desk.post("/api/repos/move", {**move, "toRepo": 5}).status_code == 400
    assert said(desk.post("/api/repos/delete", {"name": "lab/renamed"}, method="DELETE")).startswith(
        "403 Nothing published"
    )
    assert desk.http.get("/api/models/lab/renamed/refs", headers=desk.key()).json["branches"][0]["name"] == "main"


def test_a_dataset_is_uploaded_like_a_model(desk: Desk) -> None:
    desk.post("/api/repos/create", {"name": "lab/d", "type": "dataset"})
    body = b"text," * 3_000_000
    answer = desk.post(
        "/datasets/lab/d.git/info/lfs/objects/batch",
        {"operation": "upload", "objects": [{"oid": hashlib.sha256(body).hexdigest(), "size": len(body)}]},
    ).json  # fmt: skip
    href = answer["objects"][0]["actions"]["upload"]["href"].removeprefix(desk.base)
    assert desk.put(href, body).status_code == 200
    lines = [("header", {"summary": "Data"}), large("d.csv", body)]
    sent = b"".join(json.dumps({"key": k, "value": v}).encode() + b"\n" for k, v in lines)
    done = desk.http.post("/api/datasets/lab/d/commit/main", data=sent, headers=desk.key())
    assert done.status_code == 200
    rows = desk.http.get("/api/datasets/lab/d/tree/main", headers=desk.key()).json
    assert [(row["path"], row["size"]) for row in rows] == [("d.csv", len(body))]


@pytest.mark.parametrize(
    ("name", "status"),
    [("dev", 201), ("a%2Fb", 201), ("main", 409), ("..", 400), ("a..b", 400), ("x.lock", 400), ("deadbeef", 400),
     ("HEAD", 400), ("sp ace", 400), ("x" * 300, 400), ("-x", 400)],
)  # fmt: skip
def test_branches_are_named_so_that_git_can(desk: Desk, name: str, status: int) -> None:
    assert desk.post(f"{MODEL}/branch/{name}", {}).status_code == status
    if status == 201:
        assert desk.post(f"{MODEL}/branch/{name}", {"startingPoint": "main"}).status_code == 409
        assert desk.commit(add("x.txt"), branch=name).status_code == 200
        assert desk.post(f"{MODEL}/branch/{name}", {}, method="DELETE").status_code == 200


def test_tags_never_move_and_main_stays(desk: Desk) -> None:
    assert desk.post(f"{MODEL}/tag/main", {"tag": "v1", "message": "One"}).status_code == 201
    assert desk.post(f"{MODEL}/tag/main", {"tag": "v1"}).status_code == 409
    assert desk.post(f"{MODEL}/tag/none", {"tag": "v2"}).status_code == 404
    assert desk.post(f"{MODEL}/tag/main", {}).status_code == 400
    assert said(desk.commit(add("x.txt"), branch="v1")).startswith("400 v1 is a tag")
    assert desk.commit(add("x.txt"), branch="none").headers["X-Error-Code"] == "RevisionNotFound"
    assert said(desk.post(f"{MODEL}/branch/main", {}, method="DELETE")).startswith("403 main is what")
    assert desk.post(f"{MODEL}/branch/v1", {}, method="DELETE").status_code == 404
    assert desk.post(f"{MODEL}/tag/v1", {}, method="DELETE").status_code == 200
    names = {row.name for row in events(desk)}
    assert names >= {"model:repository:created", "model:ref:changed"}


def events(desk: Desk) -> Iterator[AuditEvent]:
    with transaction(desk.app.engine, write=False) as session:
        yield from session.scalars(sa.select(AuditEvent)).all()


@pytest.mark.parametrize(
    "body",
    [{}, {"operation": "download", "objects": []}, {"operation": "upload", "objects": [{"oid": "x", "size": 1}]},
     {"operation": "upload", "objects": [{"oid": "0" * 64, "size": True}]}, {"operation": "upload", "objects": 5},
     {"operation": "upload", "hash_algo": "md5", "objects": []}, [],
     {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1 << 70}]}],
)  # fmt: skip
def test_batches_that_mean_nothing_are_refused(desk: Desk, body: Any) -> None:
    assert desk.post("/lab/m.git/info/lfs/objects/batch", body).status_code == 400


def test_a_batch_without_parts_comes_whole(desk: Desk) -> None:
    for kept in ({"transfers": ["basic"]}, {"transfers": 5}, {"transfers": None}):
        answer = desk.batch(BYTES, **kept)
        assert answer["transfer"] == "basic"
        assert "header" not in answer["objects"][0]["actions"]["upload"]


def test_verifying_says_whether_exactly_these_bytes_are_stored(desk: Desk) -> None:
    actions = desk.batch(BYTES)["objects"][0]["actions"]
    verify = actions["verify"]["href"].removeprefix(desk.base)
    right = {"oid": hashlib.sha256(BYTES).hexdigest(), "size": len(BYTES)}
    assert desk.post(verify, right).status_code == 404
    desk.put(actions["upload"]["href"].removeprefix(desk.base), BYTES)
    assert desk.post(verify, right).status_code == 200
    assert desk.post(verify, {**right, "size": 1}).status_code == 404
    assert desk.post(verify, right, "flo").status_code == 403
    assert desk.post(verify.replace("upl_", "upl_x"), right).status_code == 404


def test_parameters_are_counted_when_weights_are_committed(desk: Desk) -> None:
    body = safetensors(1234)
    desk.put(desk.href(body), body)
    desk.commit(large("model.safetensors", body), add("junk.safetensors", b"no head here"), add("empty.bin", b""))
    info = desk.http.get(MODEL, headers=desk.key()).json
    assert info["safetensors"] == {"parameters": {"F32": 1234}, "total": 1234}
    with transaction(desk.app.engine, write=False) as session:
        counted = {row.size: row.parameters for row in session.scalars(sa.select(Blob).where(Blob.size.in_([12, 0])))}
    assert counted == {12: {}, 0: {}}
    files = desk.tree()
    assert files["empty.bin"]["oid"] == git_oid(b"")
    assert "lfs" in files["junk.safetensors"]


def test_clients_that_try_xet_or_pull_requests_are_told(desk: Desk) -> None:
    answer = desk.http.get(f"{MODEL}/xet-write-token/main", headers=desk.key())
    assert answer.status_code == 404
    assert "HF_HUB_DISABLE_XET=1" in answer.headers["X-Error-Message"]
    files = {"files": [{"path": "w.safetensors", "size": 5}]}
    for agent, warned in (("unknown/None; hf_hub/2.4.0; x", True), ("hf_hub/0.36.0", False), ("curl", False)):
        headers = {**desk.key(), "User-Agent": agent}
        answer = desk.http.post(f"{MODEL}/preupload/main", json=files, headers=headers)
        assert ("X-HF-Warning" in answer.headers) is warned
    for path in (f"{MODEL}/preupload/main?create_pr=1", f"{MODEL}/commit/main?create_pr=1"):
        assert said(desk.post(path, files)).startswith("400 There are no pull requests")


def test_the_metadata_of_a_card_is_checked_before_it_is_sent(desk: Desk) -> None:
    good = {"content": "---\nlicense: other\n---\n", "repoType": "model"}
    assert desk.post("/api/validate-yaml", good).json == {"errors": [], "warnings": []}
    [wrong] = desk.post("/api/validate-yaml", {"content": "---\na: [1\n---\n"}).json["errors"]
    assert "metadata of the card" in wrong["message"]
    assert desk.post("/api/validate-yaml", {"content": 5}).status_code == 400
