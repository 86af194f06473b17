"""Gathering the facts that the one decision needs, and asking it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access.models import Requirement
from portal.access.rules import Action, Decision, Facts, Follows, Grace, RequirementFact, decide
from portal.accounts.models import Profile, User
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel, Release
from portal.catalog.rules import ModelState, RepoKind
from portal.core.actor import Actor
from portal.core.errors import Refused
from portal.deliveries import service as deliveries
from portal.entitlements import service as entitlements
from portal.entitlements.rules import AskFact, RequestState
from portal.licensing import service as licensing
from portal.licensing.models import License
from portal.licensing.rules import VersionFact
from portal.notices import service as notices
from portal.tokens.models import AccessTokenModel
from portal.usage import service as usage
from portal.usage.rules import Limits, Used


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


def facts_for(
    session: Session, *, actor: Actor, subjects: Sequence[Subject], action: Action, base_url: str
) -> list[Facts]:
    """Load, in a few bulk queries, what `decide` needs for one actor and many models; the only loader there is."""
    model_ids = [s.model.id for s in subjects if s.model is not None]
    requirements = _requirements(session, model_ids, action)
    license_ids = sorted({license_.id for _, license_ in requirements})
    versions = licensing.versions_for(session, license_ids=license_ids)
    person = _person(session, actor, base_url)
    signatures = (
        licensing.signatures_for(session, user_id=actor.user_id, license_ids=license_ids) if actor.user_id else {}
    )
    declined = (
        licensing.declined_by(session, user_id=actor.user_id, license_ids=license_ids) if actor.user_id else frozenset()
    )
    reached = _reached(session, actor, [_ref(each, v) for _, each in requirements for v in versions.get(each.id, ())])
    bound = _bound_models(session, actor)
    asking = entitlements.facts_for(session, user_id=actor.user_id, model_ids=model_ids)
    facts = []
    for subject in subjects:
        if subject.model is None:
            facts.append(replace(person, model_name=None))
            continue
        own, asked = [], asking.get(subject.model.id, AskFact())
        strict = asked.state is RequestState.RESET  # who was reset signs what changed before asking anew
        for requirement, license_ in requirements:
            if requirement.model_id == subject.model.id:
                known = tuple(versions.get(license_.id, ()))
                own.append(
                    RequirementFact(
                        slug=license_.slug, title=license_.title, follows=requirement.follows,
                        grace=Grace.STRICT if strict else requirement.grace,
                        pinned=subject.release.license_number if subject.release else "", versions=known,
                        signatures=tuple(signatures.get(license_.id, ())), declined=declined,
                        reached={v.number: reached[ref] for v in known if (ref := _ref(license_, v)) in reached},
                    )
                )  # fmt: skip
        facts.append(
            replace(
                person, model_name=subject.model.full_name, model_state=subject.model.state,
                is_dataset=subject.model.kind is RepoKind.DATASET, has_release=subject.release is not None,
                requirements=tuple(own), asking=asked,
                token_wrong_model=bool(bound) and subject.model.id not in bound,
                holds_copy=_holds_copy(session, actor, subject, action),
            )
        )  # fmt: skip
    return facts


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
        limits = limits or usage.limits_for(session, user_id=actor.user_id)
        facts = replace(facts, limits=limits, used=used)
    return decide(replace(facts, already_running=already_running), action, now)


def require(session: Session, *, actor: Actor, model: str, action: Action, now: datetime, base_url: str) -> Decision:
    """Return the decision if it is yes; raise `Refused` with all reasons if it is no."""
    decision = check(session, actor=actor, model=model, action=action, now=now, base_url=base_url)
    refuse(decision)
    return decision


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
) -> list[tuple[GatedModel, Release | None, Decision]]:
    """Return every visible model, or dataset, with its newest release and the decision for this actor."""
    shown = sa.select(GatedModel).where(GatedModel.state != ModelState.DRAFT, GatedModel.kind.in_(kinds))
    models = session.scalars(shown.order_by(GatedModel.namespace, GatedModel.name)).all()
    newest = sa.select(sa.func.max(Release.id)).group_by(Release.model_id)
    releases = {r.model_id: r for r in session.scalars(sa.select(Release).where(Release.id.in_(newest)))}
    subjects = [Subject(m, releases.get(m.id)) for m in models]
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


def _requirements(session: Session, model_ids: list[int], action: Action) -> list[tuple[Requirement, License]]:
    # Reading, asking and renewing show or need what inference needs: the text in force.
    wanted = action if action in {Action.DOWNLOAD, Action.INFER} else Action.INFER
    rows = session.execute(
        sa.select(Requirement, License)
        .join(License, License.id == Requirement.license_id)
        .where(Requirement.model_id.in_(model_ids), Requirement.action == wanted, Requirement.valid_to.is_(None))
    )
    return [(requirement, license_) for requirement, license_ in rows]


def _person(session: Session, actor: Actor, base_url: str) -> Facts:
    facts = Facts(
        base_url=base_url, model_name=None, token_error=actor.token_error,
        token_used=actor.access_token_id is not None, token_scopes=actor.scopes,
    )  # fmt: skip
    if actor.user_id is None:
        return facts
    user, profile = session.execute(
        sa.select(User, Profile).outerjoin(Profile, Profile.user_id == User.id).where(User.id == actor.user_id)
    ).one()
    return replace(
        facts, signed_in=True, verified=profile is not None and profile.verified_at is not None, standing=user.standing,
        standing_until=user.standing_until, standing_ref=user.standing_ref,
    )  # fmt: skip


def _bound_models(session: Session, actor: Actor) -> set[int]:
    if actor.access_token_id is None:
        return set()
    query = sa.select(AccessTokenModel.model_id).where(AccessTokenModel.access_token_id == actor.access_token_id)
    return set(session.scalars(query))


def _ref(license_: License, version: VersionFact) -> str:
    return f"license_version:{license_.slug}/{version.number}"


def _reached(session: Session, actor: Actor, refs: list[str]) -> dict[str, datetime]:
    if actor.user_id is None or not refs:
        return {}
    return notices.reached_at(session, user_id=actor.user_id, subject_refs=sorted(set(refs)))


def _holds_copy(session: Session, actor: Actor, subject: Subject, action: Action) -> bool:
    if actor.user_id is None or subject.release is None or action is not Action.DOWNLOAD:
        return False
    return deliveries.holds_copy(session, user_id=actor.user_id, release_id=subject.release.id)
