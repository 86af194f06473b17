"""People in every situation that a new license version can find them in, for tests of what it does to them."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action, Decision, Follows, Grace
from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.campaigns import service as campaigns
from portal.catalog import service as catalog
from portal.catalog.models import Release
from portal.core.actor import SYSTEM, Actor
from portal.core.ids import public_id
from portal.deliveries import service as deliveries
from portal.files import service as files
from portal.licensing import service as licensing
from portal.licensing.models import Annulment, Ceremony, Decline, LicenseVersion, Signature
from portal.licensing.rules import AnnulmentKind, CeremonyState
from portal.notices import service as notices
from portal.previews import service as previews
from portal.tokens import service as tokens
from tests import conduct
from tests.editing import BASE, DAY
from tests.factories import PEPPER, Make
from tests.licensed import SLUG

NUMBERS = ("1.0.0", "1.1.0")
ACTIONS = (Action.DOWNLOAD, Action.INFER)
MODELS = {
    "lab/standard": ("1.1.0", Follows.RELEASE, Grace.STANDARD), "lab/strict": ("1.1.0", Follows.LICENSE, Grace.STRICT),
    "lab/lenient": ("1.0.0", Follows.LICENSE, Grace.STANDARD),
}  # fmt: skip
SERIAL = count(1)


@dataclass(frozen=True)
class Program:
    """An access token: what it may do, for which model alone, and for how many days."""

    scopes: tuple[str, ...]
    model: str | None
    days: int


@dataclass(frozen=True)
class Situation:
    """How somebody stands when a version is looked ahead to.

    Args:
        signed: versions, oldest first; `withdrawn` ends the last.
        told: days ago at which news of 1.1.0 reached them.
        suspended: for how many days from now.
        bounces: their mail comes back.
        copies: models of which they hold a whole copy.
    """

    signed: tuple[str, ...] = ("1.1.0",)
    withdrawn: bool = False
    declined: bool = False
    verified: bool = True
    told: int | None = None
    suspended: int | None = None
    closed: bool = False
    bounces: bool = False
    copies: tuple[str, ...] = ()
    programs: tuple[Program, ...] = ()


PROGRAMS = st.builds(
    Program,
    scopes=st.sampled_from([("weights:read",), ("inference",), ("weights:read", "inference")]),
    model=st.sampled_from([None, None, *MODELS]), days=st.sampled_from([1, 25, 60, 300]),
)  # fmt: skip
SITUATIONS = st.builds(
    Situation,
    signed=st.sampled_from([("1.1.0",), ("1.0.0",), NUMBERS]),
    withdrawn=st.sampled_from([False, False, False, True]),
    declined=st.sampled_from([False, False, True]),
    verified=st.sampled_from([True, True, True, False]),
    told=st.sampled_from([None, 2, 9]),
    suspended=st.sampled_from([None, None, None, 10, 40, 400]),
    closed=st.sampled_from([False, False, False, False, True]),
    bounces=st.sampled_from([False, False, True]),
    copies=st.sampled_from([(), ("lab/lenient",), tuple(MODELS)]),
    programs=st.lists(PROGRAMS, max_size=2).map(tuple),
)


@dataclass
class Town:
    """People, models and access tokens in one database session.

    Args:
        secrets: public id of an access token → (its secret, its owner's id).
    """

    session: Session
    now: datetime
    people: dict[int, Situation] = field(default_factory=dict)
    secrets: dict[int, tuple[str, int]] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)

    def open(self) -> None:
        """Models that ask for the shipped license in three ways."""
        make, license_ = Make(self.session, self.now), licensing.find_license(self.session, slug=SLUG)
        for name, (number, follows, grace) in MODELS.items():
            model = make.model(name)
            commit = make.commit(model)
            rows = access.require_license(self.session, model_id=model.id, license_id=license_.id, now=self.now)
            for row in rows:
                row.grace = grace
                if row.action is Action.DOWNLOAD:
                    row.follows = follows
            self.releases[name] = catalog.release(
                self.session, model=model, revision=commit.revision, license_slug=SLUG, license_number=number,
                by=SYSTEM, now=self.now,
            )  # fmt: skip
        self.session.flush()

    def settle(self, situation: Situation) -> User:
        """Somebody in a situation."""
        user = conduct.person(self.session, f"one{next(SERIAL)}", self.now, domain="town.example")
        signatures = [self._sign(user, number) for number in situation.signed]
        if situation.withdrawn:
            self.session.add(
                Annulment(
                    signature_id=signatures[-1].id, kind=AnnulmentKind.WITHDRAWN, by=user.public_id,
                    reason_code="own_wish", at=self.now,
                )
            )  # fmt: skip
        if situation.declined:
            ceremony = self._ceremony(user, "1.1.0", CeremonyState.DECLINED)
            self.session.add(Decline(ceremony_id=ceremony.id, reason_code="unsaid", at=self.now - DAY))
        if situation.told is not None:
            at, ref = self.now - situation.told * DAY, f"license_version:{SLUG}/1.1.0"
            notices.mark_shown(self.session, user_id=user.id, subject_ref=ref, now=at)
        self._mail(user, bounces=situation.bounces)
        for name in situation.copies:
            self._copy(user, self.releases[name], signatures[0])
        for program in situation.programs:
            self._program(user, program)
        if not situation.verified:
            user.profile.verified_at = None
        if situation.closed:
            user.standing, user.standing_ref = Standing.CLOSED, "san_closed"
        elif situation.suspended is not None:
            user.standing, user.standing_ref = Standing.SUSPENDED, "san_x"
            user.standing_until = self.now + situation.suspended * DAY
        self.session.flush()
        self.people[user.id] = situation
        return user

    def _ceremony(self, user: User, number: str, state: CeremonyState) -> Ceremony:
        version = licensing.find_version(self.session, slug=SLUG, number=number)
        row = Ceremony(
            public_id=public_id("cer"), user_id=user.id, version_id=version.id,
            rendition_id=licensing.rendition(version).id, nonce=public_id("non"), state=state,
            opened_at=self.now - DAY, viewed_at=self.now - DAY,
            expires_at=self.now,
        )  # fmt: skip
        self.session.add(row)
        self.session.flush()
        return row

    def _sign(self, user: User, number: str) -> Signature:
        return sign(self.session, user, licensing.find_version(self.session, slug=SLUG, number=number), self.now - DAY)

    def _mail(self, user: User, *, bounces: bool) -> None:
        given: dict[str, Any] = {"recipient_id": user.id, "address": user.profile.email, "subject": "Hello"}
        notice = notices.queue(self.session, **given, kind="test", subject_ref="", body="Words.", now=self.now)
        if bounces:
            notices.mark_failed(self.session, notice_id=notice.id, error="550", now=self.now, permanent=True)
        else:
            notices.mark_sent(self.session, notice_id=notice.id, now=self.now)

    def _copy(self, user: User, release: Release, signature: Signature) -> None:
        commit = files.find_commit(self.session, model_id=release.model_id, revision=release.revision)
        for file in files.listed(self.session, commit_id=commit.id):
            at, ref = self.now.isoformat(), public_id("req")
            deliveries.record_started(
                self.session,
                record={
                    "id": ref, "user_id": user.id, "access_token_id": None, "release_id": release.id,
                    "path": file.path, "file_sha256": file.sha256, "size": file.size, "range_start": 0,
                    "signature_ids": [signature.id], "card_revision_id": release.card_revision_id, "at": at,
                },
            )  # fmt: skip
            deliveries.record_finished(self.session, record={"id": ref, "bytes_sent": file.size, "at": at})

    def _program(self, user: User, program: Program) -> None:
        models = [self.releases[program.model].model_id] if program.model else []
        token, secret = tokens.issue(
            self.session, by=conduct.acting(user), owner_id=user.id, name="program", scopes=program.scopes,
            model_ids=models, days=program.days, pepper=PEPPER, now=self.now,
        )  # fmt: skip
        self.secrets[token.id] = (secret, user.id)

    def tell(self, version: LicenseVersion, at: datetime) -> None:
        """Let news of a version reach everybody who has a working address."""
        ref = f"license_version:{SLUG}/{version.number}"
        for user_id, situation in self.people.items():
            if not situation.bounces:
                notices.mark_shown(self.session, user_id=user_id, subject_ref=ref, now=at)

    def actors(self, at: datetime) -> list[Actor]:
        """Every person, and every access token as it is at an instant."""
        users = self.session.scalars(sa.select(User).where(User.id.in_(self.people))).unique()
        programs = []
        for token_id, (secret, user_id) in self.secrets.items():
            actor = tokens.actor_of(self.session, authorization=f"Bearer {secret}", pepper=PEPPER, now=at)
            programs.append(
                actor if actor.access_token_id else replace(actor, user_id=user_id, access_token_id=token_id)
            )
        return [*map(conduct.acting, users), *programs]

    def answers(self, at: datetime) -> dict[tuple[str, int], dict[tuple[str, Action], Decision]]:
        """What every person and every access token is answered at an instant, asked one by one as channels ask."""
        callers = {
            ("person", actor.id) if actor.access_token_id is None else ("token", actor.access_token_id): actor
            for actor in self.actors(at)
        }  # fmt: skip
        return {
            caller: {
                (model, action): access.check(
                    self.session, actor=actor, model=model, action=action, now=at, base_url=BASE
                )
                for model in MODELS for action in ACTIONS
            }
            for caller, actor in callers.items()
        }  # fmt: skip


def sign(session: Session, user: User, version: LicenseVersion, at: datetime) -> Signature:
    """Bind somebody to a version, without the pages."""
    shown = licensing.rendition(version)
    ceremony = Ceremony(
        public_id=public_id("cer"), user_id=user.id, version_id=version.id, rendition_id=shown.id,
        nonce=public_id("non"), state=CeremonyState.SIGNED, opened_at=at, viewed_at=at,
        expires_at=at + timedelta(hours=2),
    )  # fmt: skip
    session.add(ceremony)
    session.flush()
    row = Signature(
        public_id=public_id("sig"), ceremony_id=ceremony.id, user_id=user.id, version_id=version.id,
        rendition_id=shown.id, rendition_sha256=shown.text_sha256, prevailing_sha256=shown.text_sha256,
        annex_commitment="0" * 64, signed_at=at,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def look_ahead(session: Session, now: datetime) -> None:
    """Do what the background work does for previews until nothing is left."""
    while (found := previews.look(session)) is not None:
        done = previews.keep(session, found=found, now=now)
        if done is not None:
            campaigns.take_preview(session, preview=done, now=now)
