"""The Hub protocol without the bytes: who one is, models, revisions, files and changes."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts.models import User
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.catalog.rules import ModelState, RepoKind, named
from portal.core.clock import utcnow
from portal.core.errors import PortalError, Unauthenticated
from portal.downloads import service
from portal.downloads.rules import (
    HubError,
    after,
    client_name,
    database_away,
    model_missing,
    page,
    refusal,
    translated,
    wants,
    whole,
)  # fmt: skip
from portal.downloads.service import Snapshot
from portal.files import service as files
from portal.files.models import Commit
from portal.files.rules import Entry, RefKind
from portal.listings import service as listings
from portal.listings.rules import About, Wanted, chosen, hub_time, model_info, tree_item
from portal.tokens.models import AccessToken
from portal.tokens.rules import Scope
from portal.web.app import actor, app_service, db, json_body, settings
from portal.web.behind import raw_path
from portal.web.guard import token

bp = Blueprint("downloads_api", __name__)
KIND = f"/api/<any({', '.join(RepoKind)}):kind>"
REPO = f"{KIND}/<namespace>/<name>"
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


def in_hub_words(blueprint: Blueprint) -> None:
    """Let the errors of some addresses be answered in the words that Hub clients explain."""
    blueprint.register_error_handler(PortalError, refuse)
    blueprint.register_error_handler(OperationalError, lambda _: refuse(database_away()))


def refuse(error: PortalError) -> ResponseReturnValue:
    """Answer an error in the headers and the words that Hub clients explain."""
    said = translated(error, anonymous="Authorization" not in request.headers)
    answer = jsonify(error=said.message)
    answer.status_code = said.status
    answer.headers.extend(said.headers)
    return answer


in_hub_words(bp)


def _visible(kind: str, namespace: str, name: str) -> GatedModel:
    return service.visible(
        db(), actor=actor(), name=named(kind, namespace, name), now=utcnow(), base_url=settings().base_url
    )


def _at_revision(kind: str, namespace: str, name: str) -> tuple[Snapshot, str]:
    """Return the snapshot that the rest of the address names, and the path after it."""
    revision, path = after(raw_path(), REVISION_AT)
    shot = service.snapshot(
        db(), actor=actor(), name=named(kind, namespace, name), revision=revision, now=utcnow(),
        base_url=settings().base_url,
    )  # fmt: skip
    return shot, path


def _metadata(text: str) -> dict[str, Any]:
    return dict(app_service("read_card")(text).metadata)


def _linked(rows: Sequence[Any], following: int | str | None) -> Response:
    """Answer one page of a list with an absolute link to the next one."""
    answer = jsonify(list(rows))
    if following is not None:
        query = [(k, v) for k, v in request.args.items(multi=True) if k != "cursor"] + [("cursor", str(following))]
        answer.headers["Link"] = f'<{settings().base_url}{raw_path()}?{urlencode(query)}>; rel="next"'
    return answer


def _limit(default: int, most: int) -> int:
    return max(whole(request.args.get("limit"), "limit", default, most), 1)


def _cursor() -> int:
    return whole(request.args.get("cursor"), "cursor", 0, 10**8)


def _several(name: str) -> list[str]:
    """Read a field that may come several times, or with several values."""
    return [part for value in request.args.getlist(name) for part in value.split(",") if part]


@bp.get(KIND)
@token()
def repos(kind: str) -> ResponseReturnValue:
    """List models, or datasets, by namespace, words in the name, tags and dates, a page at a time."""
    asked = request.args
    gated = asked.get("gated")
    wanted = Wanted(
        author=asked.get("author", ""), words=tuple(asked.get("search", "").split()),
        tags=frozenset(_several("filter") + _several("pipeline_tag")), gated=wants(gated) if gated else None,
        sort=asked.get("sort", ""), oldest_first=asked.get("direction") == "1",
    )  # fmt: skip
    found = listings.search(
        db(), actor=actor(), kind=RepoKind(kind), wanted=wanted, metadata=_metadata, now=utcnow(),
        base_url=settings().base_url,
    )  # fmt: skip
    rows, following = page(found, _cursor(), _limit(MODELS_MOST, MODELS_MOST))
    if wants(asked.get("full")):
        rows = [row if row.revision is None else _with_files(row) for row in rows]
    return _linked([chosen(model_info(row), _several("expand")) for row in rows], following)


def _with_files(row: About) -> About:
    model = catalog.find_any_model(db(), full_name=named(row.kind, *row.hub_id.split("/")))
    return listings.about(db(), models=[model], metadata=_metadata, contents=True)[0]


@bp.get("/api/settings/repositories")
@bp.get("/api/organizations/<namespace>/settings/repositories")
@token()
def own_repos(namespace: str = "") -> ResponseReturnValue:
    """List the models and datasets that the caller may upload to, with the room that their newest commits take."""
    rows = service.writable(db(), actor=actor(), namespace=namespace, now=utcnow())
    total = sum(size for _, _, size in rows) or 1
    return jsonify([
        {
            "id": model.hub_id, "type": model.kind.value.removesuffix("s"), "storage": size,
            "storagePercent": round(100 * size / total, 2), "updatedAt": hub_time(changed_at),
            "visibility": "private" if model.state is ModelState.DRAFT else "public",
        }
        for model, changed_at, size in rows
    ])  # fmt: skip


@bp.get(REPO)
@token(unlimited=True)
def repo(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Describe a model at its newest commit; one without weights has a card and no commit."""
    found = _visible(kind, namespace, name)
    return jsonify(_described(found, service.newest(db(), actor=actor(), model=found, now=utcnow())))


@bp.get(f"{REPO}/revision/<path:rest>")
@token(unlimited=True)
def revision(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Describe a model at a revision."""
    del rest  # read from the raw address, where a slash within a revision is told from one after it
    shot, _ = _at_revision(kind, namespace, name)
    return jsonify(_described(shot.model, {shot.model.id: shot.commit}))


def _described(model: GatedModel, commits: dict[int, Commit]) -> dict[str, Any]:
    fields = _several("expand")
    contents = not fields or not {"siblings", "safetensors"}.isdisjoint(fields)
    [about] = listings.about(db(), models=[model], metadata=_metadata, commits=commits, contents=contents)
    return chosen(model_info(about, blobs=wants(request.args.get("blobs"))), fields)


@bp.get(f"{REPO}/tree/<path:rest>")
@token()
def tree(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """List a folder of a revision, a page at a time; the next page goes on behind the last path of this one."""
    del rest
    shot, path = _at_revision(kind, namespace, name)
    expand = wants(request.args.get("expand"))
    most = EXPANDED_MOST if expand else TREE_MOST
    rows, following = service.folder(
        db(), commit=shot.commit, path=path, limit=_limit(most, most), after=request.args.get("cursor", ""),
        recursive=wants(request.args.get("recursive")),
    )  # fmt: skip
    return _linked(_items(shot.commit, rows, expand=expand), following)


def _items(commit: Commit, entries: Sequence[Entry], *, expand: bool) -> list[dict[str, Any]]:
    items = [tree_item(entry) for entry in entries]
    if expand:
        changes = service.last_changes(db(), commit=commit, entries=entries)
        for item in items:
            last = changes[item["path"]]
            item["lastCommit"] = {"id": last.revision, "title": last.title, "date": hub_time(last.created_at)}
    return items


@bp.post(f"{REPO}/paths-info/<path:rest>")
@token(writes=False)
def paths_info(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """Describe some files and folders; those that are not there are left out."""
    del rest
    shot, _ = _at_revision(kind, namespace, name)
    if request.is_json:
        body = json_body()
        asked: dict[str, Any] = body if isinstance(body, dict) else {}
    else:
        asked = {"paths": request.form.getlist("paths"), "expand": request.form.get("expand")}
    paths = [asked.get("paths")] if isinstance(asked.get("paths"), str) else asked.get("paths")
    if not isinstance(paths, list) or len(paths) > PATHS_MOST or not all(isinstance(path, str) for path in paths):
        raise HubError(400, "", f"paths is a list of at most {PATHS_MOST} texts.", code="paths")
    found = files.picked(db(), commit_id=shot.commit.id, paths=[path.strip("/") for path in paths])
    return jsonify(_items(shot.commit, found, expand=wants(str(asked.get("expand", "")))))


@bp.get(f"{REPO}/refs")
@token()
def refs(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """List branches and tags."""
    found = _visible(kind, namespace, name)
    lists: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
    for ref, commit in service.refs(db(), actor=actor(), model=found, now=utcnow()):
        kind, folder = ("tags", "tags") if ref.kind is RefKind.TAG else ("branches", "heads")
        lists[kind].append({"name": ref.name, "ref": f"refs/{folder}/{ref.name}", "targetCommit": commit.revision})
    return jsonify(lists)


@bp.get(f"{REPO}/commits/<path:rest>")
@token()
def commits(kind: str, namespace: str, name: str, rest: str) -> ResponseReturnValue:
    """List a revision and those before it, newest first, a page at a time."""
    del rest
    shot, _ = _at_revision(kind, namespace, name)
    start, limit = _cursor(), _limit(50, COMMITS_MOST)
    found = files.history(db(), commit=shot.commit, skip=start, limit=limit + 1)
    return _linked([_commit(row) for row in found[:limit]], start + limit if len(found) > limit else None)


def _commit(row: Commit) -> dict[str, Any]:
    body = row.message.partition("\n")[2].strip()
    return {
        "id": row.revision, "title": row.title, "message": body, "date": hub_time(row.created_at),
        "authors": [{"user": row.author}],
    }  # fmt: skip


@bp.get(f"{REPO}/auth-check")
@token()
def auth_check(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Say whether the caller may download a model."""
    full_name = service.known(db(), name=named(kind, namespace, name))
    decision = access.check(
        db(), actor=actor(), model=full_name, action=Action.DOWNLOAD, now=utcnow(), base_url=settings().base_url
    )
    if not decision.allowed:
        raise refusal(decision, model=full_name, anonymous=not actor().is_signed_in)
    return jsonify(allowed=True)


@bp.get(f"{REPO}/auth-check/write")
@token()
def auth_check_write(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Say whether the caller may upload files of a model."""
    full_name = _visible(kind, namespace, name).full_name
    if not actor().is_signed_in:
        raise HubError(401, "", f"Send an access token that may write to {full_name}.", code="not_signed_in")
    if not service.sees_drafts(db(), actor=actor(), now=utcnow()):
        message = f"To write to {full_name} takes a role on the staff and an access token with {Scope.WEIGHTS_WRITE}."
        raise HubError(403, "", message, code="scope_missing")
    return jsonify(allowed=True)


@bp.get(f"{REPO}/discussions")
@token()
def discussions(kind: str, namespace: str, name: str) -> ResponseReturnValue:
    """Say that models have no discussions here; clients then look no further."""
    message = f"There are no discussions about {named(kind, namespace, name)} here."
    raise HubError(404, "", message, code="no_discussions")


@bp.get("/api/whoami-v2")
@token()
def whoami() -> ResponseReturnValue:
    """Say whose access token this is."""
    if not actor().is_signed_in or actor().access_token_id is None:
        raise Unauthenticated("not_signed_in", "Invalid username or password.")
    user = db().get_one(User, actor().id)
    key = db().get_one(AccessToken, actor().access_token_id)
    shown = {
        "displayName": client_name(key.name, key.public_id), "createdAt": hub_time(key.created_at),
        "role": "write" if Scope.WEIGHTS_WRITE in actor().scopes else "read",
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


@bp.get("/api/spaces/<path:rest>")
@token()
def spaces(rest: str) -> ResponseReturnValue:
    """Say that there are no such programs here, as of any repository that is not there."""
    del rest
    raise model_missing(anonymous=not actor().is_signed_in)


@bp.route("/<namespace>/<name>.git/<path:rest>", methods=["GET", "POST"])
@bp.route("/datasets/<namespace>/<name>.git/<path:rest>", methods=["GET", "POST"], defaults={"kind": RepoKind.DATASET})
@token(writes=False)
def git(namespace: str, name: str, rest: str, kind: str = RepoKind.MODEL) -> ResponseReturnValue:
    """Say to git that its protocol is not spoken here."""
    del rest
    what = f"{'--repo-type dataset ' if kind == RepoKind.DATASET else ''}{namespace}/{name}"
    message = f"git is not spoken here. Use: HF_ENDPOINT={settings().base_url} hf download {what}"
    raise HubError(404, "", message, code="no_git")
