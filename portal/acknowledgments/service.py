"""Campaigns that ask for a word back: planning one, what it tells each person, and keeping that they read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.audit import service as audit
from portal.campaigns import rules
from portal.campaigns import service as campaigns
from portal.campaigns.models import Acknowledgment, Campaign, CampaignPurpose, Target
from portal.campaigns.rules import ENDED, Acknowledged, CampaignChanged, CampaignKind, CampaignState
from portal.catalog import service as catalog
from portal.catalog.models import CardRevision, GatedModel, Release
from portal.catalog.rules import CardState
from portal.core.actor import Actor
from portal.core.errors import Conflict, Invalid, NotFound
from portal.core.ids import public_id
from portal.deliveries.models import Delivery
from portal.items.rules import compare, touched
from portal.proofs.rules import canonical, digest


@dataclass(frozen=True)
class Told:
    """What a campaign tells somebody.

    Args:
        before, after: of a limitation: the card that the person last met, where there is one, and the card that counts.
        old, new: their words.
        sha256: digest of all of it.
    """

    before: CardRevision | None
    after: CardRevision | None
    old: str
    new: str
    sha256: str


def plan(
    session: Session,
    *,
    kind: CampaignKind,
    model: str,
    revision: str,
    words: str,
    answer_by: datetime,
    by: Actor,
    now: datetime,
) -> Campaign:
    """Plan to tell those whom it concerns of a changed limitation of a model, or of a correction of a release.

    Args:
        model: its name; a limitation is what its published card says.
        revision: of a correction: the commit that is corrected; the newest release if empty.
        words: what changed, and what to do about it.

    Raises:
        Invalid: the words, the day, the model or the commit cannot be.
        Conflict: people are asked about this card already.
    """
    kept = rules.check_words(words)
    rules.check_answer_by(answer_by, now)
    found = catalog.called(session, full_name=model)
    if found is None:
        raise Invalid("model_not_found", "Choose a model or dataset.", field="model")
    campaign = Campaign(
        public_id=public_id("cmp"), kind=kind, words=kept, answer_by=answer_by, planned_by=by.public_id, planned_at=now
    )
    if kind is CampaignKind.LIMITATION:
        campaign.card = _card(session, found)
    elif kind is CampaignKind.CORRECTION:
        campaign.release = _release(session, found, revision)
    else:
        raise Invalid("campaign_kind", "Choose what it is about.", field="kind")
    session.add(campaign)
    session.flush()
    event = CampaignChanged(campaign.public_id, campaigns.about(campaign), campaign.state.value)
    audit.record(session, event, by=by, now=now)
    return campaign


def plan_change(
    session: Session, *, card: CardRevision, before: CardRevision, by: Actor, now: datetime
) -> Campaign | None:
    """Plan, as a draft that somebody of the staff starts, to tell of what a new card says otherwise about safety.

    It is told to those whose declared use the change touches, and to those who declared none.

    Args:
        card: the card that was just published.
        before: the one that it follows on.
    """
    said = compare(catalog.items_of(session, revision=before), catalog.items_of(session, revision=card))
    grave = [change for change in said if change.is_grave]
    if not grave:
        return None
    campaign = plan(
        session, kind=CampaignKind.LIMITATION, model=card.model.full_name, revision="", words=rules.change_words(grave),
        answer_by=now + rules.ANSWER, by=by, now=now,
    )  # fmt: skip
    for key in sorted(touched(grave) or ()):
        session.add(CampaignPurpose(campaign_id=campaign.id, stable_key=key))
    session.flush()
    return campaign


def _card(session: Session, model: GatedModel) -> CardRevision:
    card = catalog.current_card(session, model=model)
    if card is None:
        raise Invalid("card_missing", f"{model.full_name} has no published card.", field="model")
    asked = sa.select(Campaign.id).where(Campaign.card_revision_id == card.id, Campaign.state.not_in(ENDED))
    if session.scalar(asked.limit(1)) is not None:
        message = f"People are asked about card {card.number} of {model.full_name} already."
        raise Conflict("campaign_open", message)
    return card


def _release(session: Session, model: GatedModel, revision: str) -> Release:
    releases = catalog.releases_of(session, model_id=model.id)
    found = next((one for one in releases if revision in {"", one.revision}), None)
    if found is None:
        message = f"{model.full_name} has no release of that commit. Give all 40 letters and digits, or leave it empty."
        raise Invalid("release_not_found", message, field="revision")
    return found


def find(session: Session, *, by: Actor, ref: str) -> Campaign:
    """Find a campaign that tells a person something, or raise `NotFound`."""
    query = sa.select(Campaign).join(Target, Target.campaign_id == Campaign.id)
    mine = sa.and_(Target.user_id == by.id, Campaign.kind != CampaignKind.RE_SIGN)
    found = session.scalar(query.where(Campaign.public_id == ref, mine))
    if found is None:
        raise NotFound("campaign_not_found", "Nothing of that name asks you to read anything.")
    return found


def own(session: Session, *, by: Actor) -> Sequence[tuple[Campaign, Acknowledgment | None]]:
    """Return what a person is asked to read, newest first, with their word where they gave it."""
    query = (
        sa.select(Campaign, Acknowledgment)
        .join(Target, Target.campaign_id == Campaign.id)
        .outerjoin(
            Acknowledgment, sa.and_(Acknowledgment.campaign_id == Campaign.id, Acknowledgment.user_id == by.id)
        )
        .where(
            Target.user_id == by.id, Campaign.kind != CampaignKind.RE_SIGN, Campaign.state != CampaignState.CANCELLED
        )
        .order_by(Campaign.id.desc())
    )  # fmt: skip
    return [(campaign, word) for campaign, word in session.execute(query)]


def word_of(session: Session, *, campaign: Campaign, by: Actor) -> Acknowledgment | None:
    """Return a person's word that they read what a campaign tells them, once they gave it."""
    return session.get(Acknowledgment, (campaign.id, by.id))


def told(session: Session, *, campaign: Campaign, by: Actor) -> Told:
    """Return what a campaign tells a person; of a limitation, how its card differs from the one that they last met."""
    after = campaign.card
    before = _met(session, after, by.id) if after is not None else None
    said = {
        "campaign": campaign.public_id, "about": campaigns.subject_of(campaign), "words": campaign.words,
        "release": campaign.release.revision if campaign.release else "",
        "before": before.text_sha256 if before else "", "after": after.text_sha256 if after else "",
    }  # fmt: skip
    return Told(
        before, after, catalog.card_text(session, revision=before) if before else "",
        catalog.card_text(session, revision=after) if after else "", digest(canonical(said)),
    )  # fmt: skip


def _met(session: Session, card: CardRevision, user_id: int) -> CardRevision | None:
    """Return the older card with which a person last received a copy, or else the one before."""
    older = (
        sa.select(CardRevision)
        .where(CardRevision.model_id == card.model_id, CardRevision.language == card.language)
        .where(CardRevision.number < card.number, CardRevision.state != CardState.DRAFT)
    )
    met = older.join(Delivery, Delivery.card_revision_id == CardRevision.id).where(Delivery.user_id == user_id)
    last = session.scalar(met.order_by(Delivery.id.desc()).limit(1))
    return last or session.scalar(older.order_by(CardRevision.number.desc()).limit(1))


def acknowledge(session: Session, *, by: Actor, ref: str, shown_sha256: str, now: datetime) -> Acknowledgment:
    """Keep a person's word that they read exactly what they were shown; saying it again changes nothing.

    Raises:
        Conflict: the campaign was called off, or what it tells changed since the page was opened.
    """
    campaign = find(session, by=by, ref=ref)
    if (known := word_of(session, campaign=campaign, by=by)) is not None:
        return known
    if campaign.state in {CampaignState.PLANNED, CampaignState.CANCELLED}:
        raise Conflict("campaign_ended", "This was called off, and nobody is asked any more.")
    if told(session, campaign=campaign, by=by).sha256 != shown_sha256:
        raise Conflict("shown_changed", "What you were shown changed meanwhile. Open the page again.")
    word = Acknowledgment(campaign_id=campaign.id, user_id=by.id, shown_sha256=shown_sha256, at=now)
    session.add(word)
    session.flush()
    audit.record(session, Acknowledged(campaign.public_id, shown_sha256), by=by, now=now)
    return word
