"""A member of staff with a Hub client, for tests of what may be uploaded."""

import base64
import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

from portal.accounts.rules import Role
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.tokens import service as tokens
from tests import conduct
from tests.factories import Make

MODEL = "/api/models/lab/m"
BYTES = Random(7).randbytes(3_000_000)
Operation = tuple[str, dict[str, Any]]


class Desk:
    """A member of staff with a Hub client, and a model to upload to."""

    def __init__(self, app: Any) -> None:
        self.app, self.http = app, app.test_client()
        with transaction(app.engine) as session:
            make = Make(session, utcnow())
            self.people = {
                "ed": make.person("ed", Role.CARD_EDITOR), "flo": make.person("flo", Role.CARD_EDITOR),
                "mo": make.person("mo", Role.MODERATOR), "ann": make.person("ann"),
            }  # fmt: skip
            self.keys = {name: self.token(session, user) for name, user in self.people.items()}
        assert self.post("/api/repos/create", {"organization": "lab", "name": "m"}).status_code == 200

    def token(self, session: Any, user: Any, **kept: Any) -> str:
        return tokens.issue(
            session, by=conduct.acting(user), owner_id=user.id, name="t", scopes=["weights:write"],
            days=3, pepper=self.app.settings.pepper, now=utcnow(), **{"model_ids": [], **kept},
        )[1]  # fmt: skip

    def key(self, who: str = "ed") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[who]}"} if who else {}

    def post(self, path: str, body: Any, who: str = "ed", method: str = "POST") -> Any:
        return self.http.open(path, method=method, json=body, headers=self.key(who))

    def batch(self, *bodies: bytes, who: str = "ed", **kept: Any) -> Any:
        objects = [{"oid": hashlib.sha256(b).hexdigest(), "size": len(b)} for b in bodies]
        body = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": objects, **kept}
        return self.post("/lab/m.git/info/lfs/objects/batch", body, who).json

    def href(self, body: bytes = BYTES, who: str = "ed") -> str:
        return str(self.batch(body, who=who)["objects"][0]["actions"]["upload"]["href"]).removeprefix(self.base)

    @property
    def base(self) -> str:
        return str(self.app.settings.base_url)

    def put(self, href: str, body: bytes, **headers: str) -> Any:
        return self.http.put(href, data=body, headers=headers)

    def commit(self, *operations: Operation, branch: str = "main", who: str = "ed", **header: Any) -> Any:
        lines = [("header", {"summary": "Change", **header}), *operations]
        return self.send(b"".join(json.dumps({"key": k, "value": v}).encode() + b"\n" for k, v in lines), branch, who)

    def send(self, body: bytes, branch: str = "main", who: str = "ed") -> Any:
        headers = {"Content-Type": "application/x-ndjson", **self.key(who)}
        return self.http.post(f"{MODEL}/commit/{branch}", data=body, headers=headers)

    def tree(self, branch: str = "main") -> dict[str, Any]:
        rows = self.http.get(f"{MODEL}/tree/{branch}?recursive=true", headers=self.key()).json
        return {row["path"]: row for row in rows if row["type"] == "file"}

    @property
    def drafts(self) -> list[Path]:
        return list((self.app.extensions["store"].root / "tmp").glob("*"))


def add(path: str, content: bytes = b"x") -> Operation:
    return "file", {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}


def large(path: str, body: bytes) -> Operation:
    return "lfsFile", {"path": path, "algo": "sha256", "oid": hashlib.sha256(body).hexdigest(), "size": len(body)}


def said(answer: Any) -> str:
    return f"{answer.status_code} {answer.headers.get('X-Error-Message', '')}"
