"""Versions taken from the folder, drafted, published and arriving, and who has to know, on both databases."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.models import Profile
from portal.accounts.rules import Standing
from portal.adapters.texts import ClauseEntry
from portal.audit.models import AuditEvent
from portal.clauses import service as clauses
from portal.clauses.models import ClauseChange
from portal.clauses.rules import Relation
from portal.core.actor import SYSTEM
from portal.core.errors import Conflict, Invalid, NotFound, PortalError
from portal.drafting import service as drafting
from portal.licensing import service
from portal.licensing.models import License, LicenseVersion, SignatureSetItem
from portal.licensing.rules import LicenseKind, Materiality, VersionAction, VersionState
from portal.notices.models import Notice
from portal.publishing import service as publishing
from tests import conduct, licensed
from tests.licensed import SLUG

DAY = timedelta(days=1)


def events(session: Session, name: str) -> list[AuditEvent]:
    query = sa.select(AuditEvent).where(AuditEvent.name == name, AuditEvent.subject == SLUG)
    return list(session.scalars(query.order_by(AuditEvent.id)))


def sync(session: Session, now: datetime, number: str = "1.0.0", **changed: Any) -> bool:
    version = licensed.dated(number, now, **changed)
    return drafting.sync_version(session, document=licensed.shipped(), version=version, by=SYSTEM, now=now)


def draft(session: Session, now: datetime, number: str = "1.2.0", *, widen: bool = True) -> LicenseVersion:
    """A complete draft that follows on 1.1.0 and widens A.1, or only corrects A.1's neighbor."""
    row = drafting.draft(session, slug=SLUG, number=number, by=SYSTEM, now=now)
    key = "restriction.unlawful_use" if widen else "preamble.purpose"
    for text in row.renditions:
        words = clauses.text_of(session, sha256=text.text_sha256).replace(f"{{#{key}}}\n\n", f"{{#{key}}}\n\nX. ")
        drafting.save_text(session, slug=SLUG, number=number, language=text.language, text=words, by=SYSTEM, now=now)
    relation = Relation.WIDENED if widen else Relation.REWORDED
    drafting.save_description(
        session, slug=SLUG, number=number, summary=dict.fromkeys(("en", "fr", "es", "zh"), "New."),
        changes={key: (relation, "It changes.")}, by=SYSTEM, now=now,
    )  # fmt: skip
    return row


def publish(session: Session, now: datetime, number: str = "1.2.0", **changed: Any) -> LicenseVersion:
    given: dict[str, Any] = {
        "materiality": Materiality.MATERIAL, "effective_at": now, "required_by": now + 30 * DAY, "by": SYSTEM,
        "now": now, "base_url": "https://portal.example",
    }  # fmt: skip
    return publishing.publish(session, slug=SLUG, number=number, **{**given, **changed})


def code(caught: pytest.ExceptionInfo[Any]) -> str:
    error: PortalError = caught.value
    return error.code


def test_texts_of_the_folder_are_drafted_once_and_published_as_declared(session: Session, now: datetime) -> None:
    assert sync(session, now)
    assert not sync(session, now)
    assert service.has_draft(session, slug=SLUG)
    row = licensed.publish(session, now, "1.0.0")
    assert row.state is VersionState.IN_FORCE
    assert not service.has_draft(session, slug=SLUG)
    later = licensed.publish(session, now, "1.1.0")
    session.refresh(row)
    assert (row.state, later.state) == (VersionState.SUPERSEDED, VersionState.IN_FORCE)
    assert service.in_force(session, slug=SLUG, now=now)[1] is later
    assert service.in_force(session, slug=SLUG, now=now - 50 * DAY)[1] is row
    assert [v.number for v in service.all_versions(session) if v.license.slug == SLUG] == ["1.0.0", "1.1.0"]
    assert [e.data["number"] for e in events(session, "license:version:published")] == ["1.0.0", "1.1.0"]
    facts = service.versions_for(session, license_ids=[row.license_id])[row.license_id]
    assert [(f.number, f.ordinal) for f in facts] == [("1.0.0", 1), ("1.1.0", 2)]


def test_what_changed_is_told_in_every_language(session: Session, now: datetime) -> None:
    new = licensed.publish(session, now)
    old = service.find_version(session, slug=SLUG, number="1.0.0")
    for language in ("", "en", "fr", "es", "zh"):
        told = {d.key: d for d in service.difference(session, old=old, new=new, language=language)}
        assert told["restriction.false_information_to_harm"].relation is Relation.WIDENED
        assert told["duty.mark_changes"].explanation.startswith("The duty is unchanged")
        assert sum(d.relation is not Relation.SAME for d in told.values()) == 2
    query = sa.select(sa.func.count()).select_from(ClauseChange)
    assert session.scalar(query) == 8
    with pytest.raises(NotFound):
        service.difference(session, old=old, new=new, language="xx")


def test_recorded_bytes_never_change(session: Session, now: datetime) -> None:
    licensed.publish(session, now, "1.0.0")
    texts = dict(licensed.dated("1.0.0", now).texts)
    for changed in (
        {**texts, "fr": texts["fr"] + b"\n"},
        {language: body for language, body in texts.items() if language != "fr"},
        {**texts, "pt": texts["es"]},
    ):
        with pytest.raises(Conflict) as caught:
            sync(session, now, texts=changed)
        assert code(caught) == "text_recorded"
        assert f"{SLUG}/1.0.0." in caught.value.message


def test_versions_come_one_after_the_other(session: Session, now: datetime) -> None:
    with pytest.raises(Conflict) as caught:
        sync(session, now, "1.1.0")
    assert code(caught) == "predecessor_wrong"
    sync(session, now)
    with pytest.raises(Conflict) as caught:
        sync(session, now, "1.1.0")
    assert code(caught) == "draft_exists"
    with pytest.raises(Conflict) as caught:
        service.in_force(session, slug=SLUG, now=now)
    assert code(caught) == "version_missing"


def test_title_and_kind_of_a_recorded_license_stay(session: Session, now: datetime) -> None:
    sync(session, now)
    document = replace(licensed.shipped(), title="Another")
    with pytest.raises(Conflict) as caught:
        drafting.sync_version(session, document=document, version=document.versions[0], by=SYSTEM, now=now)
    assert code(caught) == "license_changed"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"materiality": "huge"}, "materiality"),
        ({"changes": {"no.such": ("same", "")}}, "changes.no.such"),
        ({"changes": {"preamble.purpose": ("nix", "")}}, "changes.preamble.purpose"),
        ({"clauses": (ClauseEntry("preamble.purpose", "P.1", "other", None),)}, "clauses"),
        ({"clauses": (ClauseEntry("preamble.purpose", "P.1", "poem", None),)}, "preamble.purpose"),
        ({"clauses": (ClauseEntry("preamble.purpose", "P.1", "restriction", "luck"),)}, "preamble.purpose"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    session: Session, now: datetime, changed: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        sync(session, now, **changed)
    assert caught.value.field == field


def test_a_kind_of_license_that_nobody_knows_is_refused(session: Session, now: datetime) -> None:
    document = replace(licensed.shipped(), kind="poem")
    with pytest.raises(Invalid):
        drafting.sync_version(session, document=document, version=document.versions[0], by=SYSTEM, now=now)


def test_only_published_versions_are_there_for_readers(session: Session, now: datetime) -> None:
    sync(session, now)
    with pytest.raises(NotFound):
        service.find_version(session, slug=SLUG, number="1.0.0")
    assert service.find_version(session, slug=SLUG, number="1.0.0", drafts=True).state is VersionState.DRAFT
    assert {row.slug: versions for row, versions in service.licenses(session)}[SLUG] == []
    for slug, number in ((SLUG, "9.9"), ("none", "1.0.0")):
        with pytest.raises(NotFound):
            service.find_version(session, slug=slug, number=number, drafts=True)
    with pytest.raises(NotFound):
        service.find_license(session, slug="none")
    license_ = service.find_license(session, slug=SLUG)
    assert service.versions_for(session, license_ids=[license_.id]) == {}
    assert service.signatures_for(session, user_id=1, license_ids=[]) == {}


def test_a_draft_starts_with_the_words_of_the_newest_version(session: Session, now: datetime) -> None:
    newest = licensed.publish(session, now)
    row = drafting.draft(session, slug=SLUG, number="1.2.0", by=SYSTEM, now=now)
    assert drafting.draft(session, slug=SLUG, number="1.2.0", by=SYSTEM, now=now) is row
    for drafted, text in zip(row.renditions, newest.renditions, strict=True):
        title, _, rest = clauses.text_of(session, sha256=drafted.text_sha256).partition("\n")
        before, _, same = clauses.text_of(session, sha256=text.text_sha256).partition("\n")
        assert (drafted.language, title, rest) == (text.language, before.replace("1.1.0", "1.2.0"), same)
        assert "1.2.0" in title
    assert row.predecessor_id == newest.id
    assert [e.data["number"] for e in events(session, "license:version:created")] == ["1.0.0", "1.1.0", "1.2.0"]
    with pytest.raises(Conflict) as caught:
        drafting.draft(session, slug=SLUG, number="1.3.0", by=SYSTEM, now=now)
    assert code(caught) == "draft_exists"
    with pytest.raises(Conflict) as caught:
        drafting.find_draft(session, slug=SLUG, number="1.1.0")
    assert code(caught) == "version_published"


def test_a_license_without_a_published_version_has_nothing_to_start_from(session: Session, now: datetime) -> None:
    session.add(License(slug="empty", title="Empty", spdx="LicenseRef-empty", kind=LicenseKind.CONDUCT))
    session.flush()
    with pytest.raises(Conflict) as caught:
        drafting.draft(session, slug="empty", number="1.0.0", by=SYSTEM, now=now)
    assert code(caught) == "version_missing"


def test_saving_the_same_words_records_nothing(session: Session, now: datetime) -> None:
    licensed.publish(session, now)
    row = drafting.draft(session, slug=SLUG, number="1.2.0", by=SYSTEM, now=now)
    text = service.rendition(row, "fr")
    words = clauses.text_of(session, sha256=text.text_sha256)
    before = text.text_sha256
    saved = drafting.save_text(
        session, slug=SLUG, number="1.2.0", language="fr", text=words.replace("\n", "\r\n"), by=SYSTEM, now=now
    )
    assert saved.text_sha256 == before
    assert not events(session, "license:version:changed")


def test_a_draft_is_published_once_and_then_stays(session: Session, now: datetime) -> None:
    licensed.publish(session, now)
    draft(session, now)
    row = publish(session, now)
    assert (row.state, row.materiality, row.effective_at) == (VersionState.IN_FORCE, Materiality.MATERIAL, now)
    with pytest.raises(Conflict):
        publish(session, now)
    with pytest.raises(Conflict):
        drafting.save_text(session, slug=SLUG, number="1.2.0", language="en", text="x", by=SYSTEM, now=now)
    for language in ("en", "fr", "es", "zh"):
        old = service.find_version(session, slug=SLUG, number="1.1.0")
        told = {d.key: d for d in service.difference(session, old=old, new=row, language=language)}
        assert told["restriction.unlawful_use"].explanation == "It changes."
        oldest = service.find_version(session, slug=SLUG, number="1.0.0")
        whole = {d.key: d.relation for d in service.difference(session, old=oldest, new=row, language=language)}
        assert whole["restriction.unlawful_use"] is whole["restriction.false_information_to_harm"] is Relation.WIDENED


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"materiality": Materiality.CLARIFYING}, "materiality_low"),
        ({"materiality": "nix"}, "license_file"),
        ({"effective_at": "before"}, "effective_early"),
        ({"required_by": "past"}, "required_early"),
    ],
)
def test_what_cannot_be_published_stays_a_draft(
    session: Session, now: datetime, changed: dict[str, Any], error: str
) -> None:
    licensed.publish(session, now)
    row = draft(session, now)
    instants = {"past": now - timedelta(hours=1), "before": now - 300 * DAY}
    given = {name: instants.get(str(value), value) for name, value in changed.items()}
    with pytest.raises(PortalError) as caught, session.begin_nested():
        publish(session, now, **given)
    session.refresh(row)
    assert code(caught) == error
    assert row.state is VersionState.DRAFT


def test_an_incomplete_draft_is_refused(session: Session, now: datetime) -> None:
    licensed.publish(session, now)
    row = draft(session, now)
    row.summary = {**row.summary, "zh": ""}
    with pytest.raises(Invalid) as caught:
        publish(session, now)
    assert caught.value.field == "summary-zh"
    row.summary = dict.fromkeys(("en", "fr", "es", "zh"), "New.")
    words = clauses.text_of(session, sha256=service.rendition(row, "en").text_sha256)
    more = words.replace("{#duty.authority}\n\n", "{#duty.authority}\n\nAlso: ")
    drafting.save_text(session, slug=SLUG, number="1.2.0", language="en", text=more, by=SYSTEM, now=now)
    with pytest.raises(Invalid) as caught:
        publish(session, now)
    assert caught.value.field == "explanation-duty.authority"
    renumbered = words.replace("### A.13 ", "### A.14 ")
    drafting.save_text(session, slug=SLUG, number="1.2.0", language="en", text=renumbered, by=SYSTEM, now=now)
    with pytest.raises(Invalid) as caught:
        publish(session, now)
    assert code(caught) == "translation_differs"


def test_a_translation_that_lags_behind_is_refused(session: Session, now: datetime) -> None:
    licensed.publish(session, now)
    row = draft(session, now)
    before = service.find_version(session, slug=SLUG, number="1.1.0")
    words = clauses.text_of(session, sha256=service.rendition(before, "fr").text_sha256)
    for text, error in ((words, "title_number"), (words.replace("1.1.0", "1.2.0"), "translation_behind")):
        drafting.save_text(session, slug=SLUG, number="1.2.0", language="fr", text=text, by=SYSTEM, now=now)
        with pytest.raises(Invalid) as caught:
            publish(session, now)
        assert code(caught) == error
    assert row.state is VersionState.DRAFT


def test_a_corrected_translation_alone_is_editorial_and_tells_nobody(session: Session, now: datetime) -> None:
    version = licensed.publish(session, now)
    ann = conduct.person(session, "ann", now)
    licensed.sign(session, licensed.browsing(ann), version, now)
    row = drafting.draft(session, slug=SLUG, number="1.1.1", by=SYSTEM, now=now)
    words = clauses.text_of(session, sha256=service.rendition(row, "fr").text_sha256)
    better = words.replace("{#preamble.purpose}\n\n", "{#preamble.purpose}\n\nOui. ")
    drafting.save_text(session, slug=SLUG, number="1.1.1", language="fr", text=better, by=SYSTEM, now=now)
    summary = dict.fromkeys(("en", "fr", "es", "zh"), "A typo.")
    drafting.save_description(session, slug=SLUG, number="1.1.1", summary=summary, changes={}, by=SYSTEM, now=now)
    assert drafting.floor(session, version=row) is Materiality.EDITORIAL
    publish(session, now, "1.1.1", materiality=Materiality.EDITORIAL)
    told = {d.key: d for d in service.difference(session, old=version, new=row, language="fr")}
    assert told["preamble.purpose"].explanation == drafting.TRANSLATION
    assert not session.scalars(sa.select(Notice).where(Notice.recipient_id == ann.id)).all()


def test_whoever_signed_before_is_told_once_in_their_language(session: Session, now: datetime) -> None:
    old = licensed.publish(session, now, "1.0.0")
    people = {name: conduct.person(session, name, now) for name in ("ann", "bea", "cyd", "dee", "eve")}
    for name in ("ann", "bea", "cyd", "dee"):
        licensed.sign(session, licensed.browsing(people[name]), old, now)
    version = licensed.publish(session, now, "1.1.0")
    licensed.sign(session, licensed.browsing(people["bea"]), version, now)
    people["ann"].profile.locale = "fr"
    people["cyd"].standing, people["cyd"].standing_ref = Standing.CLOSED, "san_x"
    session.flush()
    session.execute(sa.delete(Profile).where(Profile.user_id == people["dee"].id))
    session.expire_all()
    row = draft(session, now, widen=False)
    row.summary = {**row.summary, "fr": "Nouveau."}
    assert [user.id for user in service.affected(session, version=version)] == [people["ann"].id, people["dee"].id]
    publish(session, now, materiality=Materiality.CLARIFYING)
    notices = session.scalars(sa.select(Notice).where(Notice.subject_ref == f"license_version:{SLUG}/1.2.0")).all()
    assert [(n.recipient_id, n.address) for n in notices] == [
        (people["ann"].id, "ann@conduct.example"), (people["bea"].id, "bea@conduct.example"),
    ]  # fmt: skip
    assert "Nouveau." in (notices[0].body or "")
    assert "New." in (notices[1].body or "")
    assert "https://portal.example/licenses/bloom-rail/1.2.0\n" in (notices[0].body or "")


def test_a_scheduled_version_arrives_by_the_clock(session: Session, now: datetime) -> None:
    current = licensed.publish(session, now)
    draft(session, now)
    row = publish(session, now, effective_at=now + DAY)
    assert (row.state, current.state) == (VersionState.SCHEDULED, VersionState.IN_FORCE)
    assert service.arrive(session, now=now) == 0
    assert service.in_force(session, slug=SLUG, now=now + DAY)[1] is row
    assert service.arrive(session, now=now + DAY) == 1
    assert service.arrive(session, now=now + DAY) == 0
    assert (row.state, current.state) == (VersionState.IN_FORCE, VersionState.SUPERSEDED)
    assert [e.data["number"] for e in events(session, "license:version:arrived")] == ["1.2.0"]


def test_publishing_first_lets_arrive_what_is_due(session: Session, now: datetime) -> None:
    licensed.publish(session, now)
    draft(session, now)
    first = publish(session, now, effective_at=now + DAY)
    later = now + 2 * DAY
    drafting.draft(session, slug=SLUG, number="1.3.0", by=SYSTEM, now=later)
    summary = dict.fromkeys(("en", "fr", "es", "zh"), "Same words.")
    drafting.save_description(session, slug=SLUG, number="1.3.0", summary=summary, changes={}, by=SYSTEM, now=later)
    second = publish(session, later, "1.3.0", materiality=Materiality.MATERIAL_IMMEDIATE)
    assert (first.state, second.state) == (VersionState.SUPERSEDED, VersionState.IN_FORCE)
    assert second.required_by == second.effective_at == later


def test_a_move_that_somebody_else_made_first_is_refused(session: Session, now: datetime) -> None:
    row = licensed.publish(session, now)
    table = LicenseVersion.__table__
    session.execute(sa.update(table).where(table.c.id == row.id).values(state="retired"))  # type: ignore[arg-type]
    with pytest.raises(Conflict) as caught:
        service.move(session, version=row, action=VersionAction.SUPERSEDE)
    assert code(caught) == "changed_meanwhile"
    assert row.state is VersionState.RETIRED


def test_a_set_of_signatures_has_one_name(session: Session, now: datetime) -> None:
    ann = conduct.person(session, "ann", now)
    one, two = conduct.sign(session, ann, now), conduct.sign(session, ann, now, "2.0.0")
    name = service.ensure_set(session, signature_ids=[two.id, one.id, two.id])
    assert service.ensure_set(session, signature_ids=(one.id, two.id)) == name
    assert service.ensure_set(session, signature_ids=[one.id]) != name
    query = sa.select(SignatureSetItem.signature_id).where(SignatureSetItem.sha256 == name)
    assert sorted(session.scalars(query)) == sorted([one.id, two.id])
    with pytest.raises(Invalid):
        service.ensure_set(session, signature_ids=[])


def test_signatures_are_found_by_person_and_license(session: Session, now: datetime) -> None:
    ann, bob = (conduct.person(session, name, now) for name in ("ann", "bob"))
    own, _other = conduct.sign(session, ann, now), conduct.sign(session, bob, now)
    license_id = own.version.license_id
    found = service.signatures_for(session, user_id=ann.id, license_ids=[license_id, 10**6])
    assert [(f.id, f.ordinal) for f in found[license_id]] == [(own.id, 0)]
