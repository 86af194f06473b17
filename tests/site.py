"""The control plane in one process, and a client that behaves like a browser."""

import re
import shutil
import tempfile
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

from portal.accounts.models import User
from portal.core.actor import Level
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.main import create_app
from portal.migrations import upgrade
from tests.running import MANY


@cache
def migrated() -> Path:
    """Return an empty SQLite database with the newest schema, made once: migrating takes longer than most tests."""
    path = Path(tempfile.mkdtemp(prefix="portal-tests-")) / "portal.db"
    engine = make_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


def make_app(home: Path, **environ: str) -> Any:
    """Build the app over a fresh SQLite database in `home`, with what production demands of staff."""
    settings = Settings.from_env({"PORTAL_HOME": str(home), "PORTAL_STAFF_FACTORS": "required", **MANY, **environ})
    shutil.copyfile(migrated(), home / "portal.db")
    app = create_app(settings)
    app.testing = True
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


class Client:
    """Browses as one person, or as nobody."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.http = app.test_client()

    def get(self, path: str, **kept: Any) -> Any:
        return self.http.get(path, **kept)

    def post(self, path: str, **kept: Any) -> Any:
        return self.http.post(path, **kept)

    def sign_in(self, user: User) -> "Client":
        """Sign in as a person without going through the page."""
        from portal.logins import service

        with transaction(self.app.engine) as session:
            reference = service.open_session(
                session, user_id=user.id, means="passkey", level=Level.TWO, user_agent="tests",
                pepper=self.app.settings.pepper, now=utcnow(),
            )  # fmt: skip
        self.http.set_cookie("portal", reference)
        return self

    def submit(self, path: str, *, to: str = "", **fields: Any) -> Any:
        """Open a page, fill its (last) form as a browser would, with `fields` on top, and send it."""
        page = self.get(path).get_data(as_text=True)
        data = {}
        for tag in re.findall(r"<input[^>]*>", page):
            given = dict(re.findall(r'(\w+)="([^"]*)"', tag))
            if given.get("type") == "hidden" and "name" in given:
                data[given["name"]] = unescape(given.get("value", ""))
        return self.post(to or path, data={**data, **fields})


def text_of(answer: Any) -> str:
    """Return the words of a page, without markup."""
    words = re.sub(r"<(style|script)[^>]*>.*?</\1>", " ", answer.get_data(as_text=True), flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", words)))
