"""The Hub protocol without the bytes: who one is, models, revisions, files and changes."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts.models import User
from portal.core.clock import utcnow
from portal.core.errors import PortalError, Unauthenticated
from portal.downloads import service
from portal.downloads.rules import (
    About,
    HubError,
    after,
    chosen,
    client_name,
    hub_time,
    model_info,
    page,
    refusal,
    translated,
    tree_item,
    wants,
    whole,
)  # fmt: skip
from portal.downloads.service import Snapshot
from portal.files import service as files
from portal.files.models import Commit
from portal.files.rules import Entry, RefKind
from portal.tokens.models import AccessToken
from portal.web.app import actor, app_service, db, json_body, settings
from portal.web.behind import raw_path
from portal.web.guard import token

bp = Blueprint("downloads_api", __name__)
MODEL = "/api/models/<namespace>/<name>"
REVISION_AT = 5  # /api/models/{ns}/{name}/tree/ come before the revision
MODELS_MOST = 1000
TREE_MOST = 1000
EXPANDED_MOST = 100
COMMITS_MOST = 1000
PATHS_MOST = 1000


def install(app: Flask) -> None:
    """Let clients whose endpoint ends in a slash through: double slashes in an address count as one, unredirected."""
    inner = app.wsgi_app

    def merged(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "//" in environ.get("PATH_INFO", ""):
            environ["PATH_INFO"] = re.sub("/{2,}", "/", environ["PATH_INFO"])
        return inner(environ, start_response)

    app.wsgi_app = merged  # type: ignore[method-assign]


@bp.errorhandler(PortalError)
def refuse(error: PortalError) -> ResponseReturnValue:
    """Answer an error in the headers and the words that Hub clients explain."""
    said = translated(error, anonymous="Authorization" not in request.headers)
    answer = jsonify(error=said.message)
    answer.status_code = said.status
    answer.headers.extend(said.headers)
    return answer


def _snapshot(namespace: str, name: str, revision: str) -> Snapshot:
    return service.snapshot(
        db(), actor=actor(), name=f"{namespace}/{name}", revision=revision, now=utcnow(), base_url=settings().base_url
    )


def _at_revision(namespace: str, name: str) -> tuple[Snapshot, str]:
    """Return the snapshot that the rest of the address names, and the path after it."""
    revision, path = after(raw_path(), REVISION_AT)
    return _snapshot(namespace, name, revision), path


def _metadata(text: str) -> dict[str, Any]:
    return dict(app_service("read_card")(text).metadata)


def _linked(rows: Sequence[Any], following: int | None) -> Response:
    """Answer one page of a list with an absolute link to the next one."""
    answer = jsonify(list(rows))
    if following is not None:
        query = [(k, v) for k, v in request.args.items(multi=True) if k != "cursor"] + [("cursor", str(following))]
        answer.headers["Link"] = f'<{settings().base_url}{raw_path()}?{urlencode(query)}>; rel="next"'
    return answer


def _bounds(default: int, most: int) -> tuple[int, int]:
    start = whole(request.args.get("cursor"), "cursor", 0, 10**8)
    return start, whole(request.args.get("limit"), "limit", default, most)


@bp.get("/api/models")
@token()
def models() -> ResponseReturnValue:
    """List models by namespace, words in the name and tags, a page at a time."""
    found = service.search(
        db(), actor=actor(), now=utcnow(), base_url=settings().base_url, author=request.args.get("author", ""),
        words=request.args.get("search", ""),
    )  # fmt: skip
    full = wants(request.args.get("full"))
    rows = service.about(db(), models=found, metadata=_metadata)
    infos = [model_info(row, siblings=full) for row in _sorted(rows)]
    tags = {tag for value in request.args.getlist("filter") for tag in value.split(",") if tag}
    kept = [chosen(info, _expand()) for info in infos if tags <= set(info["tags"])]
    return _linked(*page(kept, *_bounds(MODELS_MOST, MODELS_MOST)))


def _sorted(rows: list[About]) -> list[About]:
    """Order models as asked: by a date, newest first, or by name."""
    keys = {"lastModified": lambda r: r.changed_at or r.created_at, "createdAt": lambda r: r.created_at}
    key = keys.get(request.args.get("sort", ""))
    return sorted(rows, key=key, reverse=True) if key else rows


def _expand() -> list[str]:
    return [name for value in request.args.getlist("expand") for name in value.split(",") if name]


@bp.get(MODEL)
@token()
def model(namespace: str, name: str) -> ResponseReturnValue:
    """Describe a model at its newest commit; one without weights has a card and no commit."""
    found = service.visible(db(), actor=actor(), name=f"{namespace}/{name}", now=utcnow(), base_url=settings().base_url)
    return jsonify(_described(service.about(db(), models=[found], metadata=_metadata)[0]))


@bp.get(f"{MODEL}/revision/<path:rest>")
@token()
def revision(namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Describe a model at a revision."""
    del rest  # read from the raw address, where a slash within a revision is told from one after it
    shot, _ = _at_revision(namespace, name)
    commits = {shot.model.id: shot.commit}
    return jsonify(_described(service.about(db(), models=[shot.model], metadata=_metadata, commits=commits)[0]))


def _described(about: About) -> dict[str, Any]:
    info = model_info(about, blobs=wants(request.args.get("blobs")))
    counted = service.parameters(app_service("store"), about.files)
    if counted:
        info["safetensors"] = {"parameters": counted, "total": sum(counted.values())}
    return chosen(info, _expand())


@bp.get(f"{MODEL}/tree/<path:rest>")
@token()
def tree(namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """List a folder of a revision, a page at a time."""
    del rest
    shot, path = _at_revision(namespace, name)
    expand = wants(request.args.get("expand"))
    found = service.folder(db(), commit=shot.commit, path=path, recursive=wants(request.args.get("recursive")))
    most = EXPANDED_MOST if expand else TREE_MOST
    rows, following = page(found, *_bounds(most, most))
    return _linked(_items(shot.commit, rows, expand=expand), following)


def _items(commit: Commit, entries: Sequence[Entry], *, expand: bool) -> list[dict[str, Any]]:
    items = [tree_item(entry) for entry in entries]
    if expand:
        changes = service.last_changes(db(), commit=commit, entries=entries)
        for item in items:
            last = changes.get(item["path"], commit)
            item["lastCommit"] = {"id": last.revision, "title": last.title, "date": hub_time(last.created_at)}
    return items


@bp.post(f"{MODEL}/paths-info/<path:rest>")
@token(writes=False)
def paths_info(namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Describe some files and folders; those that are not there are left out."""
    del rest
    shot, _ = _at_revision(namespace, name)
    if request.is_json:
        body = json_body()
        asked: dict[str, Any] = body if isinstance(body, dict) else {}
    else:
        asked = {"paths": request.form.getlist("paths"), "expand": request.form.get("expand")}
    paths = [asked.get("paths")] if isinstance(asked.get("paths"), str) else asked.get("paths")
    if not isinstance(paths, list) or len(paths) > PATHS_MOST or not all(isinstance(path, str) for path in paths):
        raise HubError(400, "", f"paths is a list of at most {PATHS_MOST} texts.", code="paths")
    found = service.pick(db(), commit=shot.commit, paths=paths)
    return jsonify(_items(shot.commit, found, expand=wants(str(asked.get("expand", "")))))


@bp.get(f"{MODEL}/refs")
@token()
def refs(namespace: str, name: str) -> ResponseReturnValue:
    """List branches and tags."""
    found = service.visible(db(), actor=actor(), name=f"{namespace}/{name}", now=utcnow(), base_url=settings().base_url)
    lists: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
    for ref, commit in files.refs(db(), model_id=found.id):
        kind, folder = ("tags", "tags") if ref.kind is RefKind.TAG else ("branches", "heads")
        lists[kind].append({"name": ref.name, "ref": f"refs/{folder}/{ref.name}", "targetCommit": commit.revision})
    return jsonify(lists)


@bp.get(f"{MODEL}/commits/<path:rest>")
@token()
def commits(namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """List a revision and those before it, newest first, a page at a time."""
    del rest
    shot, _ = _at_revision(namespace, name)
    start, limit = _bounds(50, COMMITS_MOST)
    found = files.history(db(), commit=shot.commit, skip=start, limit=max(limit, 1) + 1)
    rows, following = page(found, 0, limit)
    return _linked([_commit(row) for row in rows], start + len(rows) if following else None)


def _commit(row: Commit) -> dict[str, Any]:
    body = row.message.partition("\n")[2].strip()
    return {
        "id": row.revision, "title": row.title, "message": body, "date": hub_time(row.created_at),
        "authors": [{"user": row.author}],
    }  # fmt: skip


@bp.get(f"{MODEL}/auth-check")
@token()
def auth_check(namespace: str, name: str) -> ResponseReturnValue:
    """Say whether the caller may download a model."""
    full_name = f"{namespace}/{name}"
    decision = access.check(
        db(), actor=actor(), model=full_name, action=Action.DOWNLOAD, now=utcnow(), base_url=settings().base_url
    )
    if not decision.allowed:
        raise refusal(decision, model=full_name, anonymous=not actor().is_signed_in)
    return jsonify(allowed=True)


@bp.get(f"{MODEL}/discussions")
@token()
def discussions(namespace: str, name: str) -> ResponseReturnValue:
    """Say that models have no discussions here; clients then look no further."""
    raise HubError(404, "", f"There are no discussions about {namespace}/{name} here.", code="no_discussions")


@bp.get("/api/whoami-v2")
@token()
def whoami() -> ResponseReturnValue:
    """Say whose access token this is."""
    if not actor().is_signed_in or actor().access_token_id is None:
        raise Unauthenticated("not_signed_in", "Invalid username or password.")
    user = db().get_one(User, actor().id)
    key = db().get_one(AccessToken, actor().access_token_id)
    shown = {
        "displayName": client_name(key.name, key.public_id), "role": "read", "createdAt": hub_time(key.created_at),
    }  # fmt: skip
    return jsonify(
        type="user", id=user.public_id, name=user.profile.name or user.public_id, fullname=user.profile.name,
        email=user.profile.email, emailVerified=user.profile.verified_at is not None, isPro=False, orgs=[],
        auth={"type": "access_token", "accessToken": shown},
    )  # fmt: skip


@bp.get("/api/agent-harnesses")
@token()
def agent_harnesses() -> ResponseReturnValue:
    """Tell clients that no program needs special treatment here; they ask once a day."""
    return jsonify(standardEnvVars=[], harnesses={})


@bp.route("/<namespace>/<name>.git/<path:rest>", methods=["GET", "POST"])
@token(writes=False)
def git(namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Say to git that its protocol is not spoken here."""
    del rest
    message = f"git is not spoken here. Use: HF_ENDPOINT={settings().base_url} hf download {namespace}/{name}"
    raise HubError(404, "", message, code="no_git")
