"""Looking ahead to a license version: who would have to sign, and what would stop on which day."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from portal.access import service as access
from portal.access.models import Requirement
from portal.access.rules import Action, Follows
from portal.accounts.models import Profile, User
from portal.core.actor import Actor
from portal.core.clock import stamp
from portal.core.db import among
from portal.core.errors import Conflict, NotFound
from portal.core.ids import public_id
from portal.licensing import service as licensing
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import Materiality, VersionFact, VersionState
from portal.notices import service as notices
from portal.previews import rules
from portal.previews.models import Preview, PreviewPerson, PreviewStop
from portal.previews.rules import ACTIONS, Ahead, Lot
from portal.proofs.rules import canonical, digest
from portal.publishing import rules as publishing_rules
from portal.publishing import service as publishing
from portal.publishing.rules import Plan, Previewed
from portal.signers import service as signers
from portal.tokens import service as tokens
from portal.tokens.models import AccessToken
from portal.tokens.rules import TokenState, unusable

CHUNK = 5_000
AHEAD = frozenset({VersionState.APPROVED, VersionState.SCHEDULED, VersionState.IN_FORCE})


@dataclass(frozen=True)
class Found:
    """What a preview found for the next people, to be kept; nobody is left where `people` is empty."""

    preview_id: int
    people: list[dict[str, Any]]
    stops: list[dict[str, Any]]


def ask(
    session: Session,
    *,
    version: LicenseVersion,
    effective_at: datetime,
    required_by: datetime,
    by: Actor,
    now: datetime,
) -> Preview:
    """Ask what a version with certain dates would do to whom; background work looks at everybody in turn.

    A version that has its dates already is looked at with those.

    Raises:
        Invalid: the dates cannot be.
        Conflict: the version is still being written, or over.
    """
    wanted = plan_of(session, version=version, effective_at=effective_at, required_by=required_by)
    if version.state is VersionState.APPROVED:
        publishing_rules.check_dates(wanted, now)
    preview = Preview(
        public_id=public_id("prv"), version_id=version.id, effective_at=wanted.effective_at,
        required_by=wanted.required_by, inputs_sha256=_inputs(session, version, wanted),
        people=signers.count_holders(session, license_id=version.license_id), asked_by=by.public_id, asked_at=now,
    )  # fmt: skip
    session.add(preview)
    session.flush()
    return preview


def plan_of(session: Session, *, version: LicenseVersion, effective_at: datetime, required_by: datetime) -> Plan:
    """Return with which dates a version would be published, or with which it is."""
    if version.state not in AHEAD:
        state = version.state.value.replace("_", " ")
        message = f"Version {version.number} is {state}; only one that is approved, scheduled or in force is looked at."
        raise Conflict("version_not_ahead", message)
    if version.effective_at is not None:
        effective_at, required_by = version.effective_at, version.required_by or version.effective_at
    return publishing.plan(session, version=version, effective_at=effective_at, required_by=required_by)


def find(session: Session, *, ref: str) -> Preview:
    """Find a preview by its public id."""
    found = session.scalar(sa.select(Preview).where(Preview.public_id == ref))
    if found is None:
        raise NotFound("preview_not_found", "There is no such preview.")
    return found


def newest(session: Session, *, version: LicenseVersion) -> Preview | None:
    """Return the newest preview of a version."""
    query = sa.select(Preview).where(Preview.version_id == version.id).order_by(Preview.id.desc()).limit(1)
    return session.scalar(query)


def progress(session: Session, *, preview: Preview) -> int:
    """Count the people whom a preview has looked at so far."""
    rows = sa.select(sa.func.count()).select_from(PreviewPerson).where(PreviewPerson.preview_id == preview.id)
    return session.scalar(rows) or 0


def previewed(session: Session, *, preview: Preview) -> Previewed:
    """Return what the date of a version rests on, with what is so now."""
    if preview.done_at is None:
        raise Conflict("preview_running", "The preview is not done yet. Wait until everybody has been looked at.")
    wanted = plan_of(
        session, version=preview.version, effective_at=preview.effective_at, required_by=preview.required_by
    )
    return Previewed(preview.asked_at, preview.inputs_sha256, _inputs(session, preview.version, wanted))


def look(session: Session) -> Found | None:
    """Look at the next people for the oldest preview that is not done; only reads, so that nobody has to wait.

    Where an earlier run stopped follows from what it kept, so one that was cut off is taken up again.
    """
    preview = session.scalar(sa.select(Preview).where(Preview.done_at.is_(None)).order_by(Preview.id).limit(1))
    if preview is None:
        return None
    last = session.scalar(sa.select(sa.func.max(PreviewPerson.user_id)).where(PreviewPerson.preview_id == preview.id))
    license_id = preview.version.license_id
    return examine(
        session, preview=preview,
        user_ids=signers.holders(session, license_id=license_id, after_id=last or 0, limit=CHUNK),
    )  # fmt: skip


def keep(session: Session, *, found: Found, now: datetime) -> Preview | None:
    """Keep what was found; once nobody is left, count it and return the preview, which is done."""
    if found.people:
        session.execute(sa.insert(PreviewPerson.__table__), found.people)  # type: ignore[arg-type]
        if found.stops:
            session.execute(sa.insert(PreviewStop.__table__), found.stops)  # type: ignore[arg-type]
        return None
    preview = session.get_one(Preview, found.preview_id)
    preview.result, preview.done_at = _result(session, preview), now
    session.flush()
    return preview


def examine(session: Session, *, preview: Preview, user_ids: Sequence[int]) -> Found:
    """Decide for some people and their access tokens, with the version and without it."""
    if not user_ids:
        return Found(preview.id, [], [])
    lost = without_address(session, user_ids=user_ids)
    held = {row.token_id: row for row in tokens.live_of(session, user_ids=user_ids, now=preview.asked_at)}
    programs = [Actor(user_id=row.user_id, access_token_id=row.token_id, scopes=row.scopes) for row in held.values()]
    view = _View(session, preview, [*map(_person, user_ids), *programs])
    people = [
        {"preview_id": preview.id, "user_id": user_id, "reachable": user_id not in lost,
         **view.outlook(_person(user_id), reachable=user_id not in lost)}
        for user_id in user_ids
    ]  # fmt: skip
    stops = []
    for actor in programs:
        token = held[actor.access_token_id or 0]
        errors = tuple(unusable(TokenState.LIVE, token.expires_at, at) for at in view.ahead.instants)
        stop = view.outlook(actor, reachable=actor.user_id not in lost, errors=errors)["stops_at"]
        if stop is not None:
            stops.append({"preview_id": preview.id, "access_token_id": token.token_id, "stops_at": stop})
    return Found(preview.id, people, stops)


def _person(user_id: int) -> Actor:
    return Actor(user_id=user_id)


class _View:
    """Everything that asks for a license, as some actors would meet it; those of one kind are decided about once."""

    def __init__(self, session: Session, preview: Preview, actors: Sequence[Actor]) -> None:
        version = preview.version
        weight = version.materiality or Materiality.MATERIAL
        dates = (preview.effective_at, preview.required_by)
        fact = VersionFact(version.id, version.number, version.ordinal, weight, *dates)
        self.ahead = Ahead(version.license.slug, preview.asked_at, fact)
        self._subjects = access.subjects_of(session, license_id=version.license_id)
        self._crowd = access.Crowd(session, actors=actors, subjects=self._subjects, actions=ACTIONS, base_url="")
        self._seen: dict[tuple[Hashable, ...], dict[str, Any]] = {}
        self._license_id = version.license_id

    def outlook(self, actor: Actor, *, reachable: bool, errors: tuple[str | None, ...] = ()) -> dict[str, Any]:
        """Return what the version means for an actor, and when something stops for them."""
        kind = (reachable, errors, self._crowd.kind(actor, self.ahead.instants))
        if kind not in self._seen:
            glances = [
                rules.glance(
                    self._crowd.facts(actor, subject, action), action, self.ahead, reachable=reachable, errors=errors
                )
                for action in ACTIONS
                for subject in self._subjects
            ]
            signatures = self._crowd.signatures(actor.id, self._license_id)
            self._seen[kind] = {
                "lot": rules.lot(glances, self.ahead, signatures),
                "stops_at": rules.stops_at(glances, self.ahead.instants),
            }
        return self._seen[kind]


def without_address(session: Session, *, user_ids: Sequence[int]) -> set[int]:
    """Return those of some people whom no mail can reach: no address is left of them, or the last mail came back."""
    query = sa.select(Profile.user_id, Profile.email).where(among(Profile.user_id, user_ids))
    came_back = notices.bounced(session, user_ids=user_ids)
    return set(user_ids) - {row.user_id for row in session.execute(query) if tuple(row) not in came_back}


def pins(session: Session, *, version: LicenseVersion) -> list[dict[str, str]]:
    """Return the releases whose downloads go on asking for an older text, until they are published anew."""
    pinned = sa.select(Requirement.model_id).where(
        Requirement.license_id == version.license_id, Requirement.action == Action.DOWNLOAD,
        Requirement.follows == Follows.RELEASE, Requirement.valid_to.is_(None),
    )  # fmt: skip
    models = set(session.scalars(pinned))
    return [
        {"model": subject.model.full_name, "number": subject.release.license_number}
        for subject in access.subjects_of(session, license_id=version.license_id)
        if subject.model is not None and subject.release is not None and subject.model.id in models
        and subject.release.license_slug == version.license.slug and subject.release.license_number != version.number
    ]  # fmt: skip


def _inputs(session: Session, version: LicenseVersion, wanted: Plan) -> str:
    """Return the digest of what a preview looks at: the version, its dates, the other versions, and who asks for it.

    What people do meanwhile is no part of it, or a busy portal could never set a date; that is why it ends in a day.
    """
    asking = sa.select(Requirement).where(Requirement.license_id == version.license_id, Requirement.valid_to.is_(None))
    others = licensing.versions_for(session, license_ids=[version.license_id]).get(version.license_id, [])
    rows: dict[str, Any] = {
        "version": [version.id, licensing.shown(session, version=version), wanted.materiality.value],
        "dates": [stamp(wanted.effective_at), stamp(wanted.required_by)],
        "others": [
            [v.id, v.materiality.value, stamp(v.effective_at), stamp(v.required_by)]
            for v in others if v.id != version.id
        ],
        "requirements": [
            [r.id, r.model_id, r.action.value, r.follows.value, r.grace.value]
            for r in session.scalars(asking.order_by(Requirement.id))
        ],
        "releases": [
            [s.model.id, s.model.state.value, s.release.id if s.release else 0]
            for s in access.subjects_of(session, license_id=version.license_id) if s.model is not None
        ],
    }  # fmt: skip
    return digest(canonical(rows))


def _result(session: Session, preview: Preview) -> dict[str, Any]:
    of = PreviewPerson.preview_id == preview.id
    lots = sa.select(PreviewPerson.lot, sa.func.count()).where(of).group_by(PreviewPerson.lot)
    lost = sa.select(sa.func.count()).select_from(PreviewPerson).where(of, ~PreviewPerson.reachable)

    def by_day(at: InstrumentedAttribute[Any], rows: sa.ColumnElement[bool]) -> list[list[Any]]:
        query = sa.select(at, sa.func.count()).where(rows, at.is_not(None)).group_by(at).order_by(at)
        return [[stamp(day), count] for day, count in session.execute(query)]

    return {
        "lots": {lot.value: 0 for lot in Lot} | {lot.value: count for lot, count in session.execute(lots)},
        "without_address": session.scalar(lost),
        "people": by_day(PreviewPerson.stops_at, of),
        "tokens": by_day(PreviewStop.stops_at, PreviewStop.preview_id == preview.id),
        "pins": pins(session, version=preview.version),
    }  # fmt: skip


@dataclass(frozen=True)
class Named:
    """Somebody in a preview, with what names them where they still have a name."""

    user_id: int
    ref: str
    name: str
    email: str
    lot: Lot
    reachable: bool
    stops_at: datetime | None


def people(
    session: Session,
    *,
    preview: Preview,
    lot: Lot | None = None,
    lost: bool = False,
    after_id: int = 0,
    limit: int | None = None,
) -> list[Named]:
    """Return people of a preview in the order of their ids, by lot, or only those without a working address."""
    p = PreviewPerson
    query = (
        sa.select(p.user_id, User.public_id, Profile.name, Profile.email, p.lot, p.reachable, p.stops_at)
        .join(User, User.id == p.user_id)
        .outerjoin(Profile, Profile.user_id == p.user_id)
        .where(p.preview_id == preview.id, p.user_id > after_id)
        .order_by(p.user_id)
        .limit(limit)
    )
    if lot is not None:
        query = query.where(p.lot == lot)
    if lost:
        query = query.where(~p.reachable)
    return [Named(row[0], row[1], row[2] or "", row[3] or "", *row[4:]) for row in session.execute(query)]


@dataclass(frozen=True)
class Stopped:
    """An access token that opens less from an instant on, with its owner."""

    token_id: int
    ref: str
    name: str
    last4: str
    owner: str
    stops_at: datetime


def stops(session: Session, *, preview: Preview, after_id: int = 0, limit: int | None = None) -> list[Stopped]:
    """Return the access tokens that open less from a day on, in the order of their ids."""
    query = (
        sa.select(AccessToken.id, AccessToken.public_id, AccessToken.name, AccessToken.last4, User.public_id,
                  PreviewStop.stops_at)
        .join(AccessToken, AccessToken.id == PreviewStop.access_token_id)
        .join(User, User.id == AccessToken.user_id)
        .where(PreviewStop.preview_id == preview.id, PreviewStop.access_token_id > after_id)
        .order_by(PreviewStop.access_token_id)
        .limit(limit)
    )  # fmt: skip
    return [Stopped(*row) for row in session.execute(query)]
