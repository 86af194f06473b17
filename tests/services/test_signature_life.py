"""A person signs, declines, withdraws and is voided through the services, on a real database, while versions come."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from portal.annulments import service as annulments
from portal.core.errors import PortalError
from portal.licensing import service as licensing
from portal.licensing.models import Annulment, Ceremony, Decline, Exhibit, LicenseVersion, Rendition, Signature
from portal.licensing.rules import (
    NOTICE_MINIMUM,
    WEIGHT,
    AnnulmentKind,
    CeremonyState,
    DeclineReason,
    ErrorReason,
    ExhibitKind,
    Materiality,
    Sufficiency,
    VersionAction,
    VersionState,
    in_force,
    satisfies,
)
from portal.notices import service as notices
from portal.signing import service as signing
from portal.signing.rules import Sitting
from tests import conduct, licensed
from tests.editing import BASE
from tests.small import KEY, LANGUAGES, SLUG, opened


class SignatureLife(RuleBasedStateMachine):
    """One person, two editors, and versions that come into force at once or later."""

    def __init__(self) -> None:
        super().__init__()
        self.desk, self.close = opened()
        self.ann = conduct.person(self.session, "ann", self.desk.now)
        self.form: tuple[LicenseVersion, str, Sitting] | None = None
        self.seen: dict[int, tuple[Any, ...]] = {}

    @property
    def session(self) -> Any:
        return self.desk.session

    def teardown(self) -> None:
        self.close()

    def attempt(self, act: Callable[[], Any]) -> bool:
        with self.session.begin_nested() as step:
            try:
                act()
            except PortalError:
                step.rollback()
                return False
        return True

    @rule(hours=st.sampled_from([1, 3, 24 * 10, 24 * 20, 24 * 40]))
    def time_passes(self, hours: int) -> None:
        self.desk.now += timedelta(hours=hours)
        licensing.arrive(self.session, now=self.desk.now)

    @rule(weight=st.sampled_from([Materiality.MATERIAL, Materiality.MATERIAL_IMMEDIATE]), days=st.integers(20, 40))
    def a_version_comes(self, weight: Materiality, days: int) -> None:
        if len(self.desk.versions()) > 3 or self.desk.versions()[-1].state is VersionState.SCHEDULED:
            return
        desk, version = self.desk, self.desk.draft()
        desk.edit(version, weight=weight, words=f"No {version.number}.")
        desk.vote(version)
        desk.do(VersionAction.SUBMIT, version)
        desk.do(VersionAction.APPROVE, version)
        desk.schedule(version, days=days)

    @rule()
    def news_reaches(self) -> None:
        ref = f"license_version:{SLUG}/{self.desk.versions()[-1].number}"
        notices.mark_shown(self.session, user_id=self.ann.id, subject_ref=ref, now=self.desk.now)

    @rule(language=st.sampled_from(LANGUAGES), which=st.integers(0, 5))
    def opens(self, language: str, which: int) -> None:
        public = [v for v in self.desk.versions() if v.effective_at]
        version, by = public[-1 - which % 2 if len(public) > 1 else -1], licensed.browsing(self.ann)

        def act() -> None:
            ceremony = signing.open_ceremony(
                self.session, by=by, version_id=version.id, language=language, now=self.desk.now
            )
            shown = licensing.rendition(version, language)
            filled = Sitting(ceremony.nonce, shown.text_sha256, frozenset({KEY}), True, "Ann")
            self.form = (version, ceremony.nonce, filled)

        self.attempt(act)

    @rule()
    def signs(self) -> None:
        if self.form is None:
            return
        version, nonce, filled = self.form
        by = licensed.browsing(self.ann)
        done = self.attempt(
            lambda: signing.sign(
                self.session, by=by, version_id=version.id, sitting=filled, context=licensed.CONTEXT, now=self.desk.now
            )
        )
        if done:
            opened_at = self.session.scalar(sa.select(Ceremony.opened_at).where(Ceremony.nonce == nonce))
            assert opened_at is not None

    @rule(reason=st.sampled_from(DeclineReason))
    def declines(self, reason: DeclineReason) -> None:
        if self.form is None:
            return
        version, nonce, _ = self.form
        by, before = licensed.browsing(self.ann), self.ask()
        done = self.attempt(
            lambda: annulments.decline(
                self.session, by=by, version_id=version.id, nonce=nonce, reason=reason, now=self.desk.now
            )
        )
        if done and before in {Sufficiency.SUFFICIENT, Sufficiency.DUE}:
            assert self.ask() is before, "declining early costs nothing"

    @rule(which=st.integers(0, 9))
    def withdraws(self, which: int) -> None:
        if rows := self.signatures():
            ref, by = rows[which % len(rows)].public_id, licensed.browsing(self.ann)
            self.attempt(lambda: annulments.withdraw(self.session, by=by, ref=ref, now=self.desk.now, base_url=BASE))

    @rule(which=st.integers(0, 9), one=st.sampled_from(["ed", "flo"]), two=st.sampled_from(["ed", "flo"]))
    def is_voided(self, which: int, one: str, two: str) -> None:
        rows = self.signatures()
        if not rows:
            return
        signature, desk = rows[which % len(rows)], self.desk
        given: dict[str, Any] = {"ref": signature.public_id, "now": desk.now}

        def act() -> None:
            made = annulments.propose_void(
                self.session, **given, reason=ErrorReason.TECHNICAL, by=desk.people[one]
            )  # fmt: skip
            annulments.void(
                self.session, **given, payload_sha256=made.payload_sha256, by=desk.people[two], base_url=BASE
            )  # fmt: skip

        if self.attempt(act):
            assert one != two

    def signatures(self) -> list[Signature]:
        query = sa.select(Signature).where(Signature.user_id == self.ann.id).order_by(Signature.id)
        return list(self.session.scalars(query).unique())

    def ask(self) -> Sufficiency:
        license_id = self.desk.versions()[0].license_id
        facts = licensing.versions_for(self.session, license_ids=[license_id])[license_id]
        required = in_force(facts, self.desk.now)
        assert required is not None
        found = licensing.signatures_for(self.session, user_id=self.ann.id, license_ids=[license_id])
        refused = licensing.declined_by(self.session, user_id=self.ann.id, license_ids=[license_id])
        refs = {f"license_version:{SLUG}/{f.number}": f.number for f in facts}
        told = notices.reached_at(self.session, user_id=self.ann.id, subject_refs=list(refs))
        news = {refs[ref]: at for ref, at in told.items()}
        answer = satisfies(found.get(license_id, []), facts, required, news, self.desk.now, refused)
        if answer.sufficiency is Sufficiency.LAPSED and required.materiality is Materiality.MATERIAL:
            at_once = [f for f in facts if f.materiality is Materiality.MATERIAL_IMMEDIATE]
            assert at_once or self.desk.now >= min(news.values()) + NOTICE_MINIMUM
        return answer.sufficiency

    @invariant()
    def a_sitting_ends_in_one_way_and_in_time(self) -> None:
        for ceremony in self.session.scalars(sa.select(Ceremony).where(Ceremony.user_id == self.ann.id)):
            signed = self.session.scalar(sa.select(Signature).where(Signature.ceremony_id == ceremony.id))
            declined = self.session.scalar(sa.select(Decline).where(Decline.ceremony_id == ceremony.id))
            assert (signed is not None, declined is not None) == (
                ceremony.state is CeremonyState.SIGNED, ceremony.state is CeremonyState.DECLINED,
            )  # fmt: skip
            ended_at = signed.signed_at if signed else declined.at if declined else None
            assert ended_at is None or ended_at < ceremony.expires_at

    @invariant()
    def a_signature_names_what_was_shown_and_never_changes(self) -> None:
        for row in self.signatures():
            self.session.refresh(row)
            text = self.session.get_one(Rendition, row.rendition_id)
            assert row.rendition_sha256 == text.text_sha256
            assert row.prevailing_sha256 == licensing.rendition(text.version).text_sha256
            query = sa.select(Exhibit.kind, Exhibit.sha256).where(Exhibit.ceremony_id == row.ceremony_id)
            shown = {tuple(each) for each in self.session.execute(query)}
            assert (ExhibitKind.RENDITION, row.rendition_sha256) in shown
            earlier = [s for s in self.signatures() if s.id < row.id and s.version_id != row.version_id]
            live = [s for s in earlier if not self.ended(s, row.signed_at)]
            assert not live or any(kind is ExhibitKind.DIFFERENCE for kind, _ in shown), "their own difference"
            kept = (row.public_id, row.rendition_sha256, row.prevailing_sha256, row.annex_commitment, row.signed_at)
            assert self.seen.setdefault(row.id, kept) == kept
        assert len(self.seen) == len(self.signatures())

    def ended(self, signature: Signature, at: Any) -> bool:
        found = self.session.scalar(sa.select(Annulment).where(Annulment.signature_id == signature.id))
        return found is not None and found.at <= at

    @invariant()
    def what_is_voided_was_voided_by_two_and_what_is_withdrawn_by_the_signer(self) -> None:
        for row in self.session.scalars(sa.select(Annulment)):
            assert (row.kind is AnnulmentKind.WITHDRAWN) == (row.by == self.ann.public_id)

    @invariant()
    def whether_it_suffices_follows_from_the_newest_binding_signature(self) -> None:
        license_id = self.desk.versions()[0].license_id
        facts = licensing.versions_for(self.session, license_ids=[license_id])[license_id]
        required = in_force(facts, self.desk.now)
        assert required is not None
        binding = [s for s in self.signatures() if not self.ended(s, self.desk.now)]
        ordinals = {f.id: f.ordinal for f in facts}
        newest = max((ordinals.get(s.version_id, 0) for s in binding), default=0)
        heavy = [f for f in facts if newest < f.ordinal <= required.ordinal
                 and WEIGHT[f.materiality] >= WEIGHT[Materiality.MATERIAL]]  # fmt: skip
        assert (self.ask() is Sufficiency.SUFFICIENT) == bool(newest and not heavy)
        if not newest:
            assert self.ask() in {Sufficiency.MISSING, Sufficiency.DECLINED}


SignatureLife.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
TestSignatureLife = pytest.mark.invariant("INV-01", "INV-02", "INV-06", "INV-14")(SignatureLife.TestCase)
