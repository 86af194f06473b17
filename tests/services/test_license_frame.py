"""Words outside every clause of a license text: their changes are described, weighed and shown as well."""

from datetime import datetime

import pytest
from sqlalchemy.orm import Session

from portal.clauses import service as clauses
from portal.clauses.rules import Relation
from portal.core.actor import SYSTEM
from portal.core.errors import Invalid
from portal.drafting import service as drafting
from portal.drafting.rules import Lack
from portal.licensing import service
from portal.licensing.models import LicenseVersion
from portal.licensing.rules import Materiality
from portal.publishing import service as publishing
from tests import licensed
from tests.editing import DAY, code, write
from tests.licensed import SLUG


def publish(session: Session, now: datetime) -> LicenseVersion:
    return publishing.publish(
        session, slug=SLUG, number="1.2.0", materiality=Materiality.MATERIAL, effective_at=now,
        required_by=now + 30 * DAY, by=SYSTEM, now=now,
    )  # fmt: skip


@pytest.mark.invariant("INV-05")
@pytest.mark.parametrize(
    ("language", "old", "new", "error"),
    [
        ("en", "\n\n## Preamble", "\n\nNothing here binds anybody.\n\n## Preamble", "change_undescribed"),
        ("en", "## Attachment A. Use-Based Restrictions", "## Attachment A. Advice", "change_undescribed"),
        ("en", "version 1.2.0", "version 1.1.0", "title_number"),
        ("fr", "version 1.2.0", "version 9.9.9", "title_number"),
    ],
)
def test_words_outside_the_clauses_do_not_change_in_silence(  # noqa: PLR0917
    session: Session, now: datetime, language: str, old: str, new: str, error: str
) -> None:
    licensed.publish(session, now)
    row = write(session, SYSTEM, now)
    words = clauses.text_of(session, sha256=service.rendition(row, language).text_sha256)
    assert old in words
    drafting.save_text(
        session, slug=SLUG, number="1.2.0", language=language, text=words.replace(old, new, 1), by=SYSTEM, now=now
    )
    with pytest.raises(Invalid) as caught:
        publish(session, now)
    assert code(caught) == error
    if error == "change_undescribed":
        assert caught.value.field == "explanation-frame"
        assert drafting.floor(session, version=row) in {Materiality.CLARIFYING, Materiality.MATERIAL}


def test_words_outside_the_clauses_reach_signers_once_they_are_described(session: Session, now: datetime) -> None:
    version = licensed.publish(session, now)
    row = drafting.draft(session, slug=SLUG, number="1.2.0", by=SYSTEM, now=now)
    for text in row.renditions:
        body = clauses.text_of(session, sha256=text.text_sha256).replace("\n\n## ", "\n\nXyz.\n\n## ", 1)
        drafting.save_text(session, slug=SLUG, number="1.2.0", language=text.language, text=body, by=SYSTEM, now=now)
    assert drafting.translations(session, version=row, language="zh")[0].lack is Lack.NOTHING
    drafting.save_description(
        session, slug=SLUG, number="1.2.0", summary=dict.fromkeys(("en", "fr", "es", "zh"), "New."), by=SYSTEM,
        now=now, changes={"frame": (Relation.WIDENED, "A sentence more.")}, materiality=Materiality.MATERIAL,
    )  # fmt: skip
    assert drafting.floor(session, version=row) is Materiality.MATERIAL
    publish(session, now)
    for language in ("en", "zh"):
        told = service.difference(session, old=version, new=row, language=language)
        (found,) = [d for d in told if d.relation is not Relation.SAME]
        assert (found.key, found.relation, found.explanation) == ("frame", Relation.WIDENED, "A sentence more.")
        assert "Xyz." in (found.new.body if found.new else "")
