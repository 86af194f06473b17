"""A site with the files of a released model, asked by programs and by people."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portal.accounts.models import User
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.files import service as files
from portal.licensing.models import License
from portal.tokens import service as tokens
from tests import conduct
from tests.factories import CARD, Make
from tests.site import Client

CONTENTS = {
    "README.md": CARD.encode(), "config.json": b'{"model_type": "<b>bloom</b>"}', "a/b/c d.txt": b"deep",
    "binary.dat": b"\xff\x00\xfe", "model.safetensors": b"w" * 300_000,
}  # fmt: skip


class Site:
    """An app with a released model, asked by programs and by people."""

    def __init__(self, app: Any, client: Client, home: Path) -> None:
        self.app = app
        self.client = client
        self.home = home
        self.first = self.publish("lab/one", "First\n\nThe body of the message.")
        with self.make() as make:
            commit = files.find_commit(make.session, model_id=self.first.model_id, revision="main")
            files.tag(make.session, model_id=self.first.model_id, name="rel/1.0", commit=commit)

    @contextmanager
    def make(self) -> Iterator[Make]:
        with transaction(self.app.engine) as session:
            yield Make(session, utcnow())

    def publish(self, name: str, message: str, **changed: bytes) -> Any:
        folder = self.home / "source" / name / message.split(maxsplit=1)[0]
        for path, body in {**CONTENTS, **changed}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)
        staged = files.stage(directory=folder, store=self.app.extensions["store"])
        from portal.access import service as access

        with self.make() as make:
            model = make.model(name)
            commit = files.commit_files(
                make.session, model_id=model.id, staged=staged, message=message, by=SYSTEM, now=make.now
            )
            license_: License = make.license()
            access.require_license(make.session, model_id=model.id, license_id=license_.id, now=make.now)
            return catalog.release(
                make.session, model=model, revision=commit.revision, license_slug=license_.slug,
                license_number="2.0.0", by=SYSTEM, now=make.now,
            )  # fmt: skip

    def person(self, name: str, *, signed: bool = True) -> tuple[User, dict[str, str]]:
        """A person, and the header by which their access token speaks for them."""
        with self.make() as make:
            person = make.person(name)
            if signed:
                make.sign(person)
            _, secret = tokens.issue(
                make.session, by=conduct.acting(person), owner_id=person.id, name="My laptop", scopes=["weights:read"],
                model_ids=[], days=30, pepper=self.app.settings.pepper, now=make.now,
            )  # fmt: skip
        return person, {"Authorization": f"Bearer {secret}"}

    def json(self, path: str, **headers: str) -> Any:
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return answer.get_json()

    def refused(self, path: str, **headers: str) -> tuple[int, str | None, str]:
        answer = self.client.get(path, headers=headers)
        assert answer.get_json()["error"]
        return answer.status_code, answer.headers.get("X-Error-Code"), answer.headers["X-Error-Message"]
