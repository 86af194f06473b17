"""Makes rows through the services, so that tests say only what matters to them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.accounts.models import User
from portal.accounts.rules import Role
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release
from portal.core.actor import SYSTEM
from portal.files import service as files
from portal.files.models import Commit
from portal.files.rules import git_oid, is_lfs, pointer
from portal.files.service import Staged
from portal.licensing.models import License, Signature
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from tests import conduct

PEPPER = b"p" * 32
BASE = "https://portal.example"
CARD = "---\nlicense: other\nlanguage: [en]\npipeline_tag: text-generation\n---\n\n# A model\n\nIt writes.\n"
FILES = {"config.json": b'{"model_type": "bloom"}', "model.safetensors": b"weights " * 100, "README.md": CARD.encode()}


@dataclass
class Make:
    """Makes people, models and what binds them, in one database session at one instant."""

    session: Session
    now: datetime
    numbers: Any = field(default_factory=lambda: count(1))

    def person(self, name: str = "", *roles: Role, domain: str = "conduct.example") -> User:
        """A person with a verified address."""
        made = name or f"person{next(self.numbers)}"
        return conduct.person(self.session, made, self.now, *roles, domain=domain)

    def license(self) -> License:
        """The small license of `conduct`, both versions published."""
        version = conduct.license_versions(self.session, self.now)["2.0.0"]
        return self.session.get_one(License, version.license_id)

    def sign(self, user: User, number: str = "2.0.0") -> Signature:
        """Bind a person to a version of the small license."""
        return conduct.sign(self.session, user, self.now, number)

    def model(self, full_name: str = "") -> GatedModel:
        """A published model with a card and no weights."""
        name = full_name or f"lab/model{next(self.numbers)}"
        catalog.sync_card(self.session, full_name=name, text=CARD, by=SYSTEM, now=self.now)
        return catalog.find_model(self.session, full_name=name)

    def commit(self, model: GatedModel, contents: dict[str, bytes] | None = None, message: str = "Publish") -> Commit:
        """A commit of files whose bytes are only named, not stored."""
        staged = [staged_of(path, body) for path, body in (contents or FILES).items()]
        return files.commit_files(
            self.session, model_id=model.id, staged=staged, message=message, by=SYSTEM, now=self.now
        )

    def release(self, model: GatedModel | None = None, number: str = "2.0.0", **kept: Any) -> Release:
        """A release of a model under the small license, which is required for both actions."""
        model = model or self.model()
        commit = self.commit(model, **kept)
        license_ = self.license()
        access.require_license(self.session, model_id=model.id, license_id=license_.id, now=self.now)
        return catalog.release(
            self.session, model=model, revision=commit.revision, license_slug=license_.slug, license_number=number,
            by=SYSTEM, now=self.now,
        )  # fmt: skip

    def token(self, user: User, *scopes: str, models: tuple[GatedModel, ...] = ()) -> tuple[AccessToken, str]:
        """An access token of a person, with its secret."""
        return tokens.issue(
            self.session, by=conduct.acting(user), owner_id=user.id, name=f"token {next(self.numbers)}",
            scopes=scopes or ("weights:read", "inference"), model_ids=[m.id for m in models], days=30, pepper=PEPPER,
            now=self.now,
        )  # fmt: skip

    def noise(self) -> None:
        """Other people's rows, so that a query that forgets its condition is found out."""
        stranger = self.person(f"noise{next(self.numbers)}", domain="noise.example")
        self.sign(stranger, "1.0.0")
        earlier = Make(self.session, self.now - timedelta(days=1), self.numbers)
        earlier.release(earlier.model("noise/model"))
        self.token(stranger)
        self.session.flush()
        assert self.session.scalar(sa.select(sa.func.count()).select_from(User))


def staged_of(path: str, body: bytes) -> Staged:
    """A file as if its bytes were in the store."""
    digest = sha256(body).hexdigest()
    large = is_lfs(path, len(body))
    return Staged(path, digest, len(body), git_oid(pointer(digest, len(body)) if large else body), large)
