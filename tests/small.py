"""A license of two clauses in two languages, small enough to be moved through its life thousands of times."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from portal.accounts.rules import Role
from portal.adapters.texts import ClauseEntry, LicenseDocument, VersionDocument
from portal.clauses.rules import Relation
from portal.core.actor import SYSTEM, Actor
from portal.core.db import make_engine
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import Materiality, VersionAction, Vote
from portal.publishing import service as publishing
from tests import conduct
from tests.editing import BASE, looked
from tests.site import migrated

SLUG = "small"
LANGUAGES = ("en", "fr")
KEY = "restriction.harm"
START = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = ("ed", "flo", "gus", "hal", "ida")
ROLE = Role.LICENSE_EDITOR
TEXT = (
    "# Small, version {n}\n\n## Part\n\n### 1 Thing {{#definition.thing}}\n\nIt ({l}).\n\n"
    "### A.1 Harm {{#restriction.harm}}\n\nNo harm.\n"
)


def publish(session: Session, now: datetime) -> LicenseVersion:
    """Put the first version in force, long before an instant."""
    at = now - timedelta(days=100)
    version = VersionDocument(
        number="1.0", materiality="material", effective_at=at, required_by=at, predecessor=None, prevailing="en",
        texts={language: TEXT.format(n="1.0", l=language).encode() for language in LANGUAGES},
        summary=dict.fromkeys(LANGUAGES, "First."), changes={},
        clauses=(ClauseEntry("definition.thing", "1", "definition", None),
                 ClauseEntry(KEY, "A.1", "restriction", "conduct")),
    )  # fmt: skip
    document = LicenseDocument(SLUG, "Small License", "LicenseRef-small", "license", (version,), "material")
    drafting.sync_version(session, document=document, version=version, by=SYSTEM, now=now)
    return publishing.publish(
        session, slug=SLUG, number="1.0", materiality="material", effective_at=at, required_by=at, by=SYSTEM, now=now
    )


def edit(
    session: Session, number: str, *, by: Actor, now: datetime, words: str = "Not at all.",
    relation: Relation = Relation.WIDENED, weight: Materiality = Materiality.MATERIAL,
) -> None:  # fmt: skip
    """Change the restriction of a draft in each language, and say so."""
    given: dict[str, Any] = {"slug": SLUG, "number": number, "by": by, "now": now}
    for language in LANGUAGES:
        drafting.save_clause(session, **given, language=language, key=KEY, title="Harm", body=words)
    drafting.save_description(
        session, **given, summary=dict.fromkeys(LANGUAGES, "New."), changes={KEY: (relation, "It changes.")},
        materiality=weight,
    )  # fmt: skip


def vote(session: Session, version: LicenseVersion, *, by: Actor, now: datetime) -> None:
    """The licensor's body stands behind what a version says."""
    resolved = Vote("Committee", "a" * 64, 5, 1, 0, now - timedelta(days=1))
    licensing.resolve(session, version=version, vote=resolved, by=by, now=now)


@dataclass
class Desk:
    """A license and its editors on a database; what is done here is rolled back."""

    session: Session
    now: datetime = START

    def __post_init__(self) -> None:
        publish(self.session, self.now)
        made = [conduct.person(self.session, name, self.now, ROLE, domain="staff.example") for name in NAMES]
        self.people: dict[str, Actor] = {
            n: conduct.acting(user, ROLE) for n, user in zip(NAMES, made, strict=True)
        }  # fmt: skip

    def versions(self) -> list[LicenseVersion]:
        return [v for v in licensing.all_versions(self.session) if v.license.slug == SLUG]

    def given(self, version: LicenseVersion, name: str) -> dict[str, Any]:
        return {"slug": SLUG, "number": version.number, "by": self.people[name], "now": self.now}

    def draft(self, name: str = "ed") -> LicenseVersion:
        number = f"1.{len(self.versions())}"
        return drafting.draft(self.session, slug=SLUG, number=number, by=self.people[name], now=self.now)

    def edit(self, version: LicenseVersion, name: str = "ed", **said: Any) -> None:
        edit(self.session, version.number, by=self.people[name], now=self.now, **said)

    def vote(self, version: LicenseVersion, name: str = "gus") -> None:
        vote(self.session, version, by=self.people[name], now=self.now)

    def schedule(self, version: LicenseVersion, name: str = "gus", days: int = 20, more: int = 30) -> None:
        at = self.now + days * DAY
        publishing.schedule(
            self.session, **self.given(version, name), effective_at=at, required_by=at + more * DAY,
            previewed=looked(self.now), base_url=BASE,
        )  # fmt: skip

    def proposed(self, version: LicenseVersion, action: str) -> str:
        """The digest of what waits for a second person."""
        found = publishing.proposal(self.session, version=version, action=action, now=self.now)
        return found.payload_sha256 if found else ""

    def publish_now(self, version: LicenseVersion, name: str = "gus") -> None:
        digest = self.proposed(version, publishing.NOW)
        publishing.publish_now(self.session, **self.given(version, name), payload_sha256=digest, base_url=BASE)

    def do(self, action: VersionAction, version: LicenseVersion) -> None:
        """Take a step in the best way there is, so that only the version's state can be in the way."""
        if action is VersionAction.SUBMIT:
            publishing.submit(self.session, **self.given(version, "ed"))
        elif action is VersionAction.REQUEST_CHANGES:
            publishing.request_changes(self.session, **self.given(version, "flo"), words="Why?")
        elif action is VersionAction.APPROVE:
            publishing.approve(self.session, **self.given(version, "flo"))
        elif action is VersionAction.SCHEDULE:
            self.schedule(version)
        elif action is VersionAction.PUBLISH_NOW:
            publishing.propose_now(self.session, **self.given(version, "flo"), reason="Now.")
            self.publish_now(version)
        elif action is VersionAction.CANCEL:
            publishing.cancel(self.session, **self.given(version, "gus"), base_url=BASE)
        else:
            publishing.retire(self.session, **self.given(version, "gus"), still_asked=[])


def opened() -> tuple[Desk, Callable[[], None]]:
    """A desk on a database of its own kind, and what closes it."""
    stack = ExitStack()
    engine = make_engine(f"sqlite:///{migrated()}")
    stack.callback(engine.dispose)
    connection = stack.enter_context(engine.connect())
    outer = connection.begin()
    stack.callback(outer.rollback)
    session = Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")
    stack.enter_context(session)
    return Desk(session), stack.close
