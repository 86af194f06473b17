"""A person who signed 1.0.0 meets 1.2.0 in Chinese: what changed since their own signature comes first."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from portal.accounts.models import Profile
from portal.clauses.models import Text
from portal.core.clock import utcnow
from portal.core.db import make_engine, transaction
from portal.core.ids import public_id
from portal.licensing.models import Ceremony, Exhibit, LicenseVersion, Signature
from portal.licensing.rules import CeremonyState, ExhibitKind
from tests.browser.desk import LICENSE, look_again, publish_next_version, staff
from tests.browser.pages import Visitor, faults_everywhere
from tests.running import RunningPortal


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A portal of its own, since a version that is published here is there for good."""
    with RunningPortal.start(tmp_path_factory.mktemp("chinese")) as running:
        yield running


def sign_long_ago(portal: RunningPortal, email: str) -> None:
    """Give a person the signature of 1.0.0 in Chinese that they would have from before 1.1.0 was out."""
    engine = make_engine(f"sqlite:///{portal.home / 'portal.db'}")
    with transaction(engine) as session:
        user_id = session.scalars(sa.select(Profile.user_id).where(Profile.email == email)).one()
        version = session.scalars(sa.select(LicenseVersion).where(LicenseVersion.number == "1.0.0")).unique().one()
        texts = {text.language: text for text in version.renditions}
        then = utcnow() - timedelta(days=2)
        ceremony = Ceremony(
            public_id=public_id("cer"), user_id=user_id, version_id=version.id, rendition_id=texts["zh"].id,
            nonce=public_id("non"), state=CeremonyState.SIGNED, opened_at=then, viewed_at=then,
            expires_at=then + timedelta(hours=2),
        )  # fmt: skip
        session.add(ceremony)
        session.flush()
        session.add(
            Signature(
                public_id=public_id("sig"), ceremony_id=ceremony.id, user_id=user_id, version_id=version.id,
                rendition_id=texts["zh"].id, rendition_sha256=texts["zh"].text_sha256,
                prevailing_sha256=texts["en"].text_sha256, annex_commitment="0" * 64, signed_at=then,
            )
        )  # fmt: skip
    engine.dispose()


def exhibit(portal: RunningPortal, signature: str) -> Any:
    """The difference that was shown before a signature, as it is kept."""
    engine = make_engine(f"sqlite:///{portal.home / 'portal.db'}")
    with transaction(engine, write=False) as session:
        query = (
            sa.select(Text.body)
            .join(Exhibit, Exhibit.sha256 == Text.sha256)
            .join(Signature, Signature.ceremony_id == Exhibit.ceremony_id)
            .where(Signature.public_id == signature, Exhibit.kind == ExhibitKind.DIFFERENCE)
        )
        found = session.scalars(query).one()
    engine.dispose()
    return found.decode()


def test_who_signed_1_0_0_meets_1_2_0_in_chinese(visitor: Callable[[], Visitor], portal: RunningPortal) -> None:
    faults: list[str] = []

    def look(person: Visitor, name: str) -> None:
        faults.extend(faults_everywhere(person, name))

    li, wu = visitor().sign_up("li@story.example", "李明"), visitor().sign_up("wu@story.example", "吴芳")
    li.sign_in()
    sign_long_ago(portal, li.email)
    wu.sign_in()
    wu.open(f"/licenses/{LICENSE}/1.1.0/sign?lang=zh").sign_here("吴芳")
    editors = [staff(visitor, portal, f"{name}@story.example", "license_editor") for name in ("ed", "flo", "gus")]
    publish_next_version(editors[0], editors[1], "1.2.0", look)
    li.open(f"/licenses/{LICENSE}/1.2.0/sign?lang=zh")
    changes = li.page.locator("#changes")
    assert "What changed since you signed 1.0.0" in changes.inner_text()
    assert changes.locator("[lang=zh] ins").count() > 0
    shown = changes.inner_text()
    assert "Malware is described more closely in 1.2.0." in shown, "the step from 1.1.0"
    assert "now covers false information spread recklessly" in shown, "the step from 1.0.0"
    assert changes.locator("xpath=following::section[@id='text']").count() == 1, "the whole text comes after it"
    look(li, "sign-again-zh")
    wu.open(f"/licenses/{LICENSE}/1.2.0/sign?lang=zh")
    other = wu.page.locator("#changes").inner_text()
    assert "What changed since you signed 1.1.0" in other
    assert "Malware is described more closely in 1.2.0." in other
    assert "now covers false information spread recklessly" not in other, "they signed that already"
    signature = li.sign_here("李明")
    kept = exhibit(portal, signature)
    for key in ("restriction.malware", "restriction.false_information_to_harm"):
        assert f'"key":"{key}"' in kept
    assert "Chinese" in li.open(f"/settings/signatures/{signature}").words()
    assert set(li.gate("demo/bloom-tiny").values()) == {"met"}
    look(li.open(f"/licenses/{LICENSE}/1.2.0/decline"), "decline")
    look(li.open(f"/settings/signatures/{signature}/withdraw"), "withdraw")
    look(editors[0].open(f"/staff/signatures/{signature}"), "desk-void")
    look(li.open(f"/licenses/{LICENSE}/1.2.0"), "version-looked-at-soon")
    look_again(editors[2], "1.2.0", look)
    look(li.open(f"/licenses/{LICENSE}/1.2.0"), "version-looked-at")
    assert faults == []
