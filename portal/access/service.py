"""Gathering the facts that the one decision needs, and asking it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access.models import Requirement
from portal.access.rules import Action, Decision, Facts, Follows, Grace, RequirementFact, decide
from portal.accounts.models import Profile, User
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release, named_like
from portal.catalog.rules import ModelState, RepoKind
from portal.core.actor import Actor
from portal.core.db import among
from portal.core.errors import Refused
from portal.deliveries import service as deliveries
from portal.entitlements import service as entitlements
from portal.entitlements.rules import AskFact
from portal.licensing import service as licensing
from portal.licensing.models import License
from portal.licensing.rules import SignatureFact, VersionFact, binds_at
from portal.notices import service as notices
from portal.sanctions import service as sanctions
from portal.sanctions.rules import concerning
from portal.signing import service as signing
from portal.tokens import service as tokens
from portal.tokens.models import AccessTokenModel
from portal.usage import service as usage
from portal.usage.rules import Limits, Used

FEW = 500  # models that are asked for by their ids


@dataclass(frozen=True)
class Subject:
    """A model as somebody asked for it, with the release that the question is about."""

    model: GatedModel | None
    release: Release | None


def find_subject(session: Session, *, full_name: str, revision: str | None = None) -> Subject:
    """Find a model by name, and the release of a commit, or its newest one."""
    model = catalog.called(session, full_name=full_name)
    if model is None:
        return Subject(None, None)
    query = sa.select(Release).where(Release.model_id == model.id).order_by(Release.id.desc()).limit(1)
    if revision is not None:
        query = query.where(Release.revision == revision)
    return Subject(model, session.scalar(query))


def subjects_of(session: Session, *, license_id: int) -> list[Subject]:
    """Return the models that ask for a license, each with its newest release, which is what people meet."""
    asking = sa.select(Requirement.model_id).where(Requirement.license_id == license_id, Requirement.valid_to.is_(None))
    shown = sa.select(GatedModel).where(GatedModel.id.in_(asking), GatedModel.state != ModelState.DRAFT)
    models = session.scalars(shown.order_by(GatedModel.namespace, GatedModel.name)).all()
    return _newest(session, models)


def _newest(session: Session, models: Sequence[GatedModel]) -> list[Subject]:
    newest = sa.select(sa.func.max(Release.id)).group_by(Release.model_id)
    if len(models) <= FEW:
        newest = newest.where(Release.model_id.in_([model.id for model in models]))
    releases = {r.model_id: r for r in session.scalars(sa.select(Release).where(Release.id.in_(newest)))}
    return [Subject(m, releases.get(m.id)) for m in models]


def facts_for(
    session: Session, *, actor: Actor, subjects: Sequence[Subject], action: Action, base_url: str
) -> list[Facts]:
    """Load, in a few bulk queries, what `decide` needs for one actor and many models."""
    crowd = Crowd(session, actors=[actor], subjects=subjects, actions=[action], base_url=base_url)
    return [crowd.facts(actor, subject, action) for subject in subjects]


class Crowd:
    """What `decide` needs for many actors and many models, loaded in a few bulk queries; the only loader there is.

    Args:
        actors, subjects, actions: everybody and everything that will be asked about.
    """

    def __init__(
        self,
        session: Session,
        *,
        actors: Sequence[Actor],
        subjects: Sequence[Subject],
        actions: Sequence[Action],
        base_url: str,
    ) -> None:
        self._base_url = base_url
        ids = sorted({actor.user_id for actor in actors if actor.user_id is not None})
        model_ids = [s.model.id for s in subjects if s.model is not None]
        self._required = {action: _requirements(session, model_ids, action) for action in actions}
        licenses = {license_.id: license_ for rows in self._required.values() for _, license_ in rows}
        versions = licensing.versions_for(session, license_ids=sorted(licenses))
        self._known = {
            each.id: tuple((v, _ref(each, v)) for v in versions.get(each.id, ())) for each in licenses.values()
        }
        self._people = _people(session, ids, base_url)
        self._signed = licensing.signatures_of(session, user_ids=ids, license_ids=sorted(licenses)) if ids else {}
        self._again = signing.ordered_again(session, user_ids=ids, license_ids=sorted(licenses)) if ids else {}
        self._declined = licensing.declined_of(session, user_ids=ids, license_ids=sorted(licenses)) if ids else {}
        refs = [ref for known in self._known.values() for _, ref in known]
        self._told = notices.reached_of(session, user_ids=ids, subject_refs=refs) if ids else {}
        shown = [a.access_token_id for a in actors if a.access_token_id is not None]
        self._bound = _bound_models(session, shown)
        self._sanctions = sanctions.of_people(session, user_ids=ids)
        self._tokens = tokens.refs(session, token_ids=shown) if self._sanctions else {}
        self._copies = _copies(session, ids, subjects) if Action.DOWNLOAD in actions else {}
        self._asking = entitlements.facts_of(session, user_ids=ids, model_ids=model_ids)

    def facts(self, actor: Actor, subject: Subject, action: Action) -> Facts:
        """Return what `decide` needs for one actor, one model and one action."""
        person = self._people[actor.user_id] if actor.user_id is not None else None
        person = replace(
            person or Facts(base_url=self._base_url, model_name=None), token_error=actor.token_error,
            token_used=actor.access_token_id is not None, token_scopes=actor.scopes,
        )  # fmt: skip
        if subject.model is None:
            return replace(person, model_name=None)
        bound = self._bound.get(actor.access_token_id or 0)
        return replace(
            person, model_name=subject.model.full_name, model_state=subject.model.state,
            is_dataset=subject.model.kind is RepoKind.DATASET, has_release=subject.release is not None,
            requirements=self._requirements(actor.user_id or 0, subject, action),
            asking=self._asked(actor.user_id or 0, subject.model.id),
            sanctions=concerning(
                self._sanctions.get(actor.user_id or 0, ()), model_ref=subject.model.public_id,
                token_ref=self._tokens.get(actor.access_token_id or 0),
            ),
            token_wrong_model=bound is not None and subject.model.id not in bound,
            holds_copy=action is Action.DOWNLOAD
            and subject.release is not None
            and subject.release.id in self._copies.get(actor.user_id or 0, ()),
        )  # fmt: skip

    def _requirements(self, user_id: int, subject: Subject, action: Action) -> tuple[RequirementFact, ...]:
        if subject.model is None:
            return ()
        pinned = subject.release.license_number if subject.release else ""
        return tuple(
            RequirementFact(
                slug=license_.slug, title=license_.title, follows=requirement.follows,
                grace=requirement.grace, pinned=pinned,
                versions=tuple(version for version, _ in self._known[license_.id]),
                signatures=self._counted(user_id, subject.model.id, license_.id),
                declined=self._declined.get(user_id, frozenset()), reached=self._reached(user_id, license_.id),
            )
            for requirement, license_ in self._required[action]
            if requirement.model_id == subject.model.id
        )  # fmt: skip

    def _asked(self, user_id: int, model_id: int) -> AskFact:
        return self._asking.get(user_id, self._asking[0]).get(model_id, AskFact())

    def _counted(self, user_id: int, model_id: int, license_id: int) -> tuple[SignatureFact, ...]:
        """Return those signatures that count for a model: where one is to be given again, those given since."""
        since, signed = self._again.get(user_id, {}).get((model_id, license_id)), self.signatures(user_id, license_id)
        return signed if since is None else tuple(s for s in signed if s.signed_at is not None and s.signed_at > since)

    def signatures(self, user_id: int, license_id: int) -> tuple[SignatureFact, ...]:
        """Return a person's signatures of a license that something asks for."""
        return tuple(self._signed.get(user_id, {}).get(license_id, ()))

    def _reached(self, user_id: int, license_id: int) -> dict[str, datetime]:
        """Return when news of versions reached a person; whoever is bound by a version needs no news of it."""
        told, signed = self._told.get(user_id), self._signed.get(user_id, {}).get(license_id, ())
        if not told:
            return {}
        newest = max((s.ordinal for s in signed if s.ended_at is None), default=-1)
        return {v.number: told[ref] for v, ref in self._known[license_id] if v.ordinal > newest and ref in told}

    def _bound_by(self, user_id: int, license_id: int, instants: Sequence[datetime]) -> tuple[Hashable, ...]:
        reached = self._reached(user_id, license_id)
        when = ((v.number, binds_at(v, reached[v.number])) for v, _ in self._known[license_id] if v.number in reached)
        return tuple((number, *(at is not None and at <= instant for instant in instants)) for number, at in when)

    def kind(self, actor: Actor, instants: Sequence[datetime]) -> tuple[Hashable, ...]:
        """Return all that an actor's answers at some instants depend on: those of one kind are answered alike there.

        What only names somebody is left out, and so is when exactly they heard of a version: it counts whether that
        version binds them by each instant.
        """
        user_id = actor.user_id or 0
        person = self._people.get(user_id)
        bound = self._bound.get(actor.access_token_id or 0)
        return (
            person and (person.verified, person.standing, person.standing_until),
            actor.access_token_id is not None, actor.scopes, actor.token_error, bound,
            tuple(
                (license_id, tuple((s.version_id, s.ended_at) for s in signed))
                for license_id, signed in self._signed.get(user_id, {}).items()
            ),
            tuple(self._bound_by(user_id, license_id, instants) for license_id in self._known),
            self._declined.get(user_id), self._copies.get(user_id), user_id if user_id in self._again else None,
            self._sanctions.get(user_id), self._tokens.get(actor.access_token_id or 0),
            tuple(self._asking.get(user_id, self._asking[0]).items()),
        )  # fmt: skip


def check(
    session: Session,
    *,
    actor: Actor,
    model: str,
    action: Action,
    now: datetime,
    base_url: str,
    revision: str | None = None,
    used: Used | None = None,
    already_running: bool = False,
) -> Decision:
    """Decide for one actor and one model, named as a client names it.

    Args:
        revision: 40 hex digits of the commit in question; the newest release if None.
        used: today's use, where a counter keeps it; read from the records otherwise.
        already_running: the question is about work that was admitted before.
    """
    subject = find_subject(session, full_name=model, revision=revision)
    return check_subject(
        session, actor=actor, subject=subject, action=action, now=now, base_url=base_url, used=used,
        already_running=already_running,
    )  # fmt: skip


def check_subject(
    session: Session,
    *,
    actor: Actor,
    subject: Subject,
    action: Action,
    now: datetime,
    base_url: str,
    used: Used | None = None,
    limits: Limits | None = None,
    already_running: bool = False,
) -> Decision:
    """Decide for one actor and a model that is found already; `limits` and `used` are read where they are not given."""
    facts = facts_for(session, actor=actor, subjects=[subject], action=action, base_url=base_url)[0]
    if action is Action.INFER and actor.user_id is not None:
        used = used or usage.used_today(session, user_id=actor.user_id, now=now)
        limits = limits or usage.limits_for(session, user_id=actor.user_id, now=now)
        facts = replace(facts, limits=limits, used=used)
    return decide(replace(facts, already_running=already_running), action, now)


def refuse(decision: Decision) -> None:
    """Raise `Refused` for a decision that says no."""
    if decision.allowed:
        return
    first = decision.blocking[0]
    raise Refused(
        first.code, first.message, reasons=decision.reasons, status=decision.status, url=first.url or None,
        retry_after=first.retry_after,
    )  # fmt: skip


def models_with_decisions(
    session: Session,
    *,
    actor: Actor,
    action: Action,
    now: datetime,
    base_url: str,
    kinds: Sequence[RepoKind] = (RepoKind.MODEL,),
    words: str = "",
    released: bool = False,
    part: tuple[int, int] | None = None,
) -> list[tuple[GatedModel, Release | None, Decision]]:
    """Return visible models, or datasets, with the newest release and the decision for this actor.

    Args:
        words: only those whose name holds these.
        released: only those with a release.
        part: where to begin and how many, those with a release first; otherwise all by their names.
    """
    has_release = sa.exists().where(Release.model_id == GatedModel.id)
    shown = sa.select(GatedModel).where(GatedModel.state != ModelState.DRAFT, GatedModel.kind.in_(kinds))
    if words:
        shown = shown.where(named_like(words))
    if released:
        shown = shown.where(has_release)
    by_name = (GatedModel.namespace, GatedModel.name)
    query = shown.order_by(*by_name)
    if part is not None:
        query = shown.order_by(has_release.desc(), *by_name).offset(part[0]).limit(part[1])
    models = session.scalars(query).all()
    subjects = _newest(session, models)
    facts = facts_for(session, actor=actor, subjects=subjects, action=action, base_url=base_url)
    return [
        (model, subject.release, decide(fact, action, now))
        for model, subject, fact in zip(models, subjects, facts, strict=True)
    ]


def require_license(session: Session, *, model_id: int, license_id: int, now: datetime) -> list[Requirement]:
    """Make a license required for downloads (as the release pins it) and for inference (as it is in force)."""
    rows = []
    for action, follows in ((Action.DOWNLOAD, Follows.RELEASE), (Action.INFER, Follows.LICENSE)):
        row = session.scalar(
            sa.select(Requirement).where(
                Requirement.model_id == model_id, Requirement.license_id == license_id,
                Requirement.action == action, Requirement.valid_to.is_(None),
            )
        )  # fmt: skip
        if row is None:
            row = Requirement(
                model_id=model_id, license_id=license_id, action=action, follows=follows, grace=Grace.STANDARD,
                valid_from=now,
            )  # fmt: skip
            session.add(row)
        rows.append(row)
    session.flush()
    return rows


def follow_license(session: Session, *, model_id: int, license_id: int, now: datetime) -> bool:
    """Let downloads of a model ask for the version in force, and no more for what its release pins; say if they did.

    The row that said otherwise ends and another begins, so that what was asked for at any past instant stays known.
    """
    row = session.scalar(
        sa.select(Requirement).where(
            Requirement.model_id == model_id, Requirement.license_id == license_id, Requirement.valid_to.is_(None),
            Requirement.action == Action.DOWNLOAD, Requirement.follows == Follows.RELEASE,
        )
    )  # fmt: skip
    if row is None:
        return False
    row.valid_to = now
    session.flush()
    session.add(
        Requirement(
            model_id=model_id, license_id=license_id, action=Action.DOWNLOAD, follows=Follows.LICENSE, grace=row.grace,
            valid_from=now,
        )
    )  # fmt: skip
    session.flush()
    return True


def _requirements(session: Session, model_ids: list[int], action: Action) -> list[tuple[Requirement, License]]:
    # Reading, asking and renewing show or need what inference needs: the text in force.
    wanted = action if action in {Action.DOWNLOAD, Action.INFER} else Action.INFER
    rows = session.execute(
        sa.select(Requirement, License)
        .join(License, License.id == Requirement.license_id)
        .where(Requirement.model_id.in_(model_ids), Requirement.action == wanted, Requirement.valid_to.is_(None))
    )
    return [(requirement, license_) for requirement, license_ in rows]


def _people(session: Session, user_ids: list[int], base_url: str) -> dict[int, Facts]:
    if not user_ids:
        return {}
    query = (
        sa.select(User.id, User.standing, User.standing_until, User.standing_ref, Profile.verified_at)
        .outerjoin(Profile, Profile.user_id == User.id)
        .where(among(User.id, user_ids))
    )
    return {
        user_id: Facts(
            base_url=base_url, model_name=None, signed_in=True, verified=verified_at is not None, standing=standing,
            standing_until=until, standing_ref=ref,
        )
        for user_id, standing, until, ref, verified_at in session.execute(query)
    }  # fmt: skip


def _bound_models(session: Session, token_ids: list[int]) -> dict[int, frozenset[int]]:
    """Return the models that access tokens are bound to; one that is good for all is left out."""
    found: dict[int, set[int]] = {}
    if token_ids:
        query = sa.select(AccessTokenModel.access_token_id, AccessTokenModel.model_id)
        for token_id, model_id in session.execute(query.where(among(AccessTokenModel.access_token_id, token_ids))):
            found.setdefault(token_id, set()).add(model_id)
    return {token_id: frozenset(models) for token_id, models in found.items()}


def _ref(license_: License, version: VersionFact) -> str:
    return f"license_version:{license_.slug}/{version.number}"


def _copies(session: Session, user_ids: list[int], subjects: Sequence[Subject]) -> dict[int, frozenset[int]]:
    """Return of which releases people hold a whole copy; that counts for downloads alone."""
    releases = [s.release.id for s in subjects if s.release is not None]
    if not user_ids or not releases:
        return {}
    return deliveries.copies(session, user_ids=user_ids, release_ids=releases)
