"""The Hub protocol for staff: repositories, large files by signed addresses, commits, branches and tags."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from portal.accounts import service as accounts
from portal.accounts.rules import Permission
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.catalog.rules import named
from portal.core.clock import utcnow
from portal.core.errors import Full, Invalid, Refused
from portal.downloads.api import in_hub_words
from portal.downloads.rules import HubError, after, one_line
from portal.files import service as files
from portal.files.models import Commit, Upload
from portal.files.rules import Entry, RefKind
from portal.tokens.rules import Scope
from portal.uploads import rules, service
from portal.uploads.rules import Add, Delete, Plan, Ticket, bad
from portal.web.app import actor, app_service, brief, db, json_body, settings
from portal.web.behind import raw_path
from portal.web.guard import token

bp = Blueprint("uploads_api", __name__)
KIND = "<any(models, datasets):kind>"
REPOSITORY = f"/api/{KIND}/<namespace>/<name>"
LFS = "application/vnd.git-lfs+json"
REVISION_AT = 5  # /api/models/{ns}/{name}/commit/ come before the revision
MB = 1 << 20
writer = token(Scope.WEIGHTS_WRITE)
looker = token(Scope.WEIGHTS_WRITE, writes=False)
in_hub_words(bp)


def _receiver() -> service.Receiver:
    found: service.Receiver = app_service("receiver")
    return found


def _body() -> dict[str, Any]:
    body = json_body()
    if not isinstance(body, dict):
        raise bad("body", "Send a JSON object.")
    return body


def _staff() -> None:
    accounts.require_permission(db(), actor=actor(), permission=Permission.MODELS_UPLOAD, now=utcnow())


def _model(kind: str, namespace: str, name: str) -> GatedModel:
    _staff()
    return service.find(db(), actor=actor(), full_name=named(kind, namespace, name))


def _rest() -> str:
    """Return the name of a branch, tag or commit that ends the address, where a slash is part of it."""
    revision, path = after(raw_path(), REVISION_AT)
    return f"{revision}/{path}" if path else revision


def _no_pull_requests() -> None:
    if request.args.get("create_pr") not in {None, "", "0", "false"}:
        raise bad(
            "no_pull_requests", "There are no pull requests here. Commit to a branch; a release is a step of its own."
        )


def _warn(answer: Response, text: str) -> Response:
    answer.headers["X-HF-Warning"] = one_line(text)
    return answer


@bp.post("/api/repos/create")
@writer
def create() -> ResponseReturnValue:
    """Make room for the files of a model; one that is there already is named in the refusal, as clients expect."""
    _staff()
    body = _body()
    model, new = service.create(db(), full_name=rules.full_name(body), by=actor(), now=utcnow())
    answer = jsonify(url=f"{settings().base_url}/{model.full_name}", name=model.hub_id, id=model.public_id)
    if not new:
        answer = jsonify(
            url=f"{settings().base_url}/{model.full_name}",
            name=model.hub_id,
            error=f"{model.full_name} is here already.",
        )
        answer.status_code = 409
    if body.get("private") is not None or body.get("visibility") is not None:
        where = f"{settings().base_url}/staff/models"
        _warn(answer, f"visibility; private and public are no different here: nobody sees it before a release, {where}")
    return answer


@bp.delete("/api/repos/delete")
@writer
def delete() -> ResponseReturnValue:
    """Say that nothing published is deleted."""
    _staff()
    raise service.kept(service.find(db(), actor=actor(), full_name=rules.full_name(_body())))


@bp.post("/api/repos/move")
@writer
def move() -> ResponseReturnValue:
    """Give a model another name; the one before leads to it."""
    accounts.require_permission(db(), actor=actor(), permission=Permission.MODELS_PUBLISH, now=utcnow())
    body = _body()
    names = []
    for field in ("fromRepo", "toRepo"):
        if not isinstance(body.get(field), str) or body[field].count("/") != 1:
            raise bad(field, f"{field} is NAMESPACE/NAME.")
        names.append(rules.full_name({"name": body[field], "type": body.get("type")}))
    model = service.find(db(), actor=actor(), full_name=names[0])
    catalog.rename(db(), model=model, to=names[1], by=actor(), now=utcnow())
    return jsonify(url=f"{settings().base_url}/{names[1]}")


@bp.post("/api/validate-yaml")
@looker
def validate_yaml() -> ResponseReturnValue:
    """Say whether the metadata of a card can be read, before the card is uploaded."""
    content = rules.text_of(_body().get("content"), "content", catalog.CARD_MAX)
    try:
        app_service("check_card")(content)
    except Invalid as error:
        return jsonify(errors=[{"message": error.message}], warnings=[])
    return jsonify(errors=[], warnings=[])


@bp.post(f"{REPOSITORY}/preupload/<path:rest>")
@looker
def preupload(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Say of each file whether it comes within the commit or before it, and what of it is there already."""
    del rest
    model = _model(kind, namespace, name)
    _no_pull_requests()
    asked = rules.list_of(_body().get("files"), "files", rules.FILES_MOST)
    sizes = {rules.path_of(item.get("path")): rules.size_of(item.get("size")) for item in asked}
    rules.check_distinct(sizes)
    known = service.known_files(db(), model=model, revision=_rest(), paths=sizes)
    modes = [rules.mode(path, size, known.get(path)) for path, size in sizes.items()]
    answer = jsonify(files=modes)
    if any(mode["uploadMode"] == "lfs" for mode in modes) and rules.tries_xet(request.headers.get("User-Agent", "")):
        _warn(answer, f"xet; {rules.XET_HINT}")
    return answer


@bp.get(f"{REPOSITORY}/xet-write-token/<path:rest>")
@token()
def xet(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Say how to upload without Xet, which newer clients try by themselves."""
    del kind, namespace, name, rest
    raise HubError(404, "", rules.XET_HINT, code="no_xet", warning=rules.XET_HINT)


@bp.post("/<namespace>/<name>.git/info/lfs/objects/batch", defaults={"kind": "models"})
@bp.post("/datasets/<namespace>/<name>.git/info/lfs/objects/batch", defaults={"kind": "datasets"})
@writer
def batch(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Say of each large file whether it is stored already, or where to send it."""
    model = _model(kind, namespace, name)
    body = _body()
    if body.get("operation") != "upload" or body.get("hash_algo", "sha256") != "sha256":
        raise bad("operation", "Here files are uploaded, named by sha256. They are downloaded at their own address.")
    given = body.get("transfers") or ["basic"]
    transfers = [item for item in given if isinstance(item, str)] if isinstance(given, list) else ["basic"]
    objects = rules.list_of(body.get("objects"), "objects", rules.OBJECTS_MOST)
    wanted = {rules.digest_of(item.get("oid")): rules.size_of(item.get("size")) for item in objects}
    promised = service.promised(db(), now=utcnow())
    reach = service.within_reach(db(), actor=actor(), digests=wanted, now=utcnow())
    answers = []
    for digest, size in wanted.items():
        stored = digest in reach and _receiver().holds(digest, size) is not None
        answer, promised = _object(model, digest, size, transfers, promised, stored=stored)
        answers.append(answer)
    divided = any("chunk_size" in (a.get("actions", {}).get("upload", {}).get("header") or {}) for a in answers)
    shown = jsonify(transfer="multipart" if divided else "basic", objects=answers, hash_algo="sha256")
    shown.content_type = LFS
    return shown


def _object(
    model: GatedModel, digest: str, size: int, transfers: Sequence[str], promised: int, *, stored: bool
) -> tuple[dict[str, Any], int]:
    """Answer for one object of a batch, and return what is promised to uploads with it."""
    answer: dict[str, Any] = {"oid": digest, "size": size}
    if not stored:
        try:
            rules.check_file_size(size, settings().upload_file_gb)
            _receiver().store.require_room(size, promised)
        except (Full, HubError) as error:
            return answer | {"error": {"code": error.status, "message": error.message}}, promised
    part_size = 0 if stored else rules.divided(size, transfers)
    row = service.open_upload(
        db(), model=model, digest=digest, size=size, part_size=part_size, stored=stored, by=actor(), now=utcnow()
    )
    if stored:
        return answer, promised
    ticket = Ticket(row.public_id, 0, _expiry(), actor().public_id, digest, size)
    where = f"{settings().base_url}/api/uploads/{row.public_id}"
    return answer | {"actions": rules.actions(ticket, part_size, where, settings().secret_keys[0])}, promised + size


def _expiry() -> int:
    return int((utcnow() + rules.LIFE).timestamp())


def _opened(ref: str, part: int) -> Upload:
    """Find the upload of a signed address, in a transaction that is over before the first byte is read."""
    given = request.args.get("expires", ""), request.args.get("signature", "")
    if not (given[0].isascii() and given[0].isdigit() and len(given[0]) < 12) or len(given[1]) != 64:  # noqa: PLR2004
        raise bad("upload_signature", "This address is not complete.", status=403)
    with brief(write=False) as session:
        row, user = service.find_upload(session, ref=ref, now=utcnow())
    ticket = Ticket(row.public_id, part, int(given[0]), user.public_id, row.sha256, row.size)
    ticket.check(given[1], settings().secret_keys, utcnow().timestamp())
    if actor().is_signed_in and actor().user_id != row.user_id:
        raise Refused("upload_of_another", "This address was made for somebody else.")
    return row


def _stream(most: int) -> Any:
    """Return the body as it comes in, allowing for its size; more than is read here is never kept in memory."""
    request.max_content_length = most + 1  # one more, since reading on at the very limit counts as too much
    length = request.content_length
    if length is not None and length > most:
        raise bad("body_too_large", f"The body has more than {most:,} bytes.", status=413)
    return request.stream


@bp.put("/api/uploads/<ref>/<int:number>")
@token(streams=True)
def take(ref: str, number: int) -> ResponseReturnValue:
    """Take the bytes of a large file, or of one of its parts, at the signed address made for them."""
    row = _opened(ref, number)
    sizes = rules.part_sizes(row.size, row.part_size)
    if bool(row.part_size) is not bool(number) or number > len(sizes):
        raise bad("upload_part", "This upload has no such part.", status=404)
    length = sizes[number - 1] if number else row.size
    stream = _stream(max(length, 1))
    if number:
        pieces = rules.exactly(stream, length)
        tag = _receiver().parts(ref).write(pieces, start=row.part_size * (number - 1), length=length)
    else:
        _receiver().whole(stream, digest=row.sha256, size=row.size)
        with brief() as session:
            service.stored(session, ref=ref, now=utcnow())
        tag = row.sha256
    answer = Response(status=200)
    answer.headers["ETag"] = f'"{tag}"'
    return answer


@bp.post("/api/uploads/<ref>/parts")
@token(streams=True)
def join(ref: str) -> ResponseReturnValue:
    """Put the parts of a large file together, once all of them are here."""
    row = _opened(ref, 0)
    body = _body()
    tags = {}
    for item in rules.list_of(body.get("parts"), "parts", rules.PARTS_MOST):
        tags[rules.size_of(item.get("partNumber"))] = rules.text_of(item.get("etag"), "etag", 80).strip('"')
    numbers = range(1, len(rules.part_sizes(row.size, row.part_size)) + 1)
    if not row.part_size or body.get("oid") != row.sha256 or tags.keys() != set(numbers):
        raise bad("upload_part", "Name every part of this upload, and its oid.")
    if row.stored_at is None:  # otherwise the answer got lost, and is given again
        starts = {row.part_size * (number - 1): tags[number] for number in numbers}
        _receiver().parts(ref).join(digest=row.sha256, size=row.size, tags=starts)
        with brief() as session:
            service.stored(session, ref=ref, now=utcnow())
    return jsonify(oid=row.sha256, size=row.size)


@bp.post("/api/uploads/<ref>/verify")
@looker
def verify(ref: str) -> ResponseReturnValue:
    """Confirm to the sender of a large file that exactly its bytes are stored."""
    row, _user = service.find_upload(db(), ref=ref, now=utcnow())
    if row.user_id != actor().user_id:
        raise Refused("upload_of_another", "This upload is somebody else's.")
    body = _body()
    sent = row.stored_at is not None and _receiver().holds(row.sha256, row.size) is not None
    if not sent or (body.get("oid"), body.get("size")) != (row.sha256, row.size):
        raise bad("upload_missing", "These bytes are not stored.", status=404)
    return jsonify(oid=row.sha256, size=row.size)


@bp.post(f"{REPOSITORY}/commit/<path:rest>")
@token(Scope.WEIGHTS_WRITE, streams=True)
def commit(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Add a commit to a branch: its lines are read one by one, and then all of its changes are made or none."""
    del rest
    full_name, now = named(kind, namespace, name), utcnow()
    with brief(write=False) as session:
        accounts.require_permission(session, actor=actor(), permission=Permission.MODELS_UPLOAD, now=now)
        service.find(session, actor=actor(), full_name=full_name)
    _no_pull_requests()
    plan = _read_plan()
    counted = _parameters(plan.changes)
    with brief() as session:
        accounts.require_permission(session, actor=actor(), permission=Permission.MODELS_UPLOAD, now=utcnow())
        service.check_reach(session, actor=actor(), named=plan.named, now=utcnow())
        row = service.add_commit(
            session, model=service.find(session, actor=actor(), full_name=full_name), branch=_rest(),
            header=plan.header, make=lambda before: rules.changed(before, plan.changes), counted=counted, by=actor(),
            now=utcnow(),
        )  # fmt: skip
    return _committed(full_name, row)


def _committed(full_name: str, row: Commit) -> Response:
    base = settings().base_url
    answer = jsonify(success=True, commitOid=row.revision, commitUrl=f"{base}/{full_name}/commit/{row.revision}")
    return _warn(answer, f"release; {full_name} is served as before until this is released: {base}/staff/models")


def _parameters(changes: Sequence[Entry | Delete]) -> dict[str, dict[str, int]]:
    """Read the heads of safetensors files, each once however often it is named."""
    counted: dict[str, dict[str, int]] = {}
    for change in changes:
        if isinstance(change, Entry) and change.path.endswith(".safetensors") and change.sha256 not in counted:
            digest = str(change.sha256)
            counted[digest] = files.count_parameters(change.path, _receiver().store.path(digest))
    return counted


def _read_plan() -> Plan:
    """Read the lines of a commit; files that come with it are stored as they are read, and named by nothing yet."""
    most = settings().upload_commit_mb * MB
    plan: Plan | None = None
    for key, value in _lines(most):
        if plan is None:
            if key != "header":
                raise bad("header", "The first line of a commit is its header.")
            plan = Plan(rules.header_of(value))
            continue
        if len(plan.changes) >= rules.OPERATIONS_MOST:
            message = f"A commit has at most {rules.OPERATIONS_MOST:,} operations. Make several."
            raise bad("operations_most", message, status=413)
        operation = rules.operation_of(key, value)
        if isinstance(operation, Add) and operation.content is None:
            plan.named.setdefault(operation.digest, operation.path)
        plan.changes.append(_receiver().entry(operation) if isinstance(operation, Add) else operation)
    if plan is None:
        raise bad("header", "The commit is empty.")
    return plan


def _lines(most: int) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    for line in rules.lines_of(rules.chunks(_stream(most), most)):
        if line.strip():
            yield rules.parsed(line)


@bp.post(f"{REPOSITORY}/branch/<path:rest>")
@writer
def make_branch(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Begin a branch."""
    del rest
    model = _model(kind, namespace, name)
    start = rules.text_of(_body().get("startingPoint"), "startingPoint", 200) or service.MAIN
    service.make_ref(db(), model=model, kind=RefKind.BRANCH, name=_rest(), at=start, by=actor(), now=utcnow())
    return jsonify(success=True), 201


@bp.delete(f"{REPOSITORY}/branch/<path:rest>")
@writer
def drop_branch(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Remove a branch; its commits stay."""
    del rest
    model = _model(kind, namespace, name)
    service.drop_ref(db(), model=model, kind=RefKind.BRANCH, name=_rest(), by=actor(), now=utcnow())
    return jsonify(success=True)


@bp.post(f"{REPOSITORY}/tag/<path:rest>")
@writer
def make_tag(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Give a commit a lasting name."""
    del rest
    model = _model(kind, namespace, name)
    tag = rules.text_of(_body().get("tag"), "tag", 200)
    service.make_ref(db(), model=model, kind=RefKind.TAG, name=tag, at=_rest(), by=actor(), now=utcnow())
    return jsonify(success=True), 201


@bp.delete(f"{REPOSITORY}/tag/<path:rest>")
@writer
def drop_tag(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Remove a tag that no reader knows."""
    del rest
    model = _model(kind, namespace, name)
    service.drop_ref(db(), model=model, kind=RefKind.TAG, name=_rest(), by=actor(), now=utcnow())
    return jsonify(success=True)
