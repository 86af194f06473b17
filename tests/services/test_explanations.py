"""What a change means, in the words of each language in which a license is read."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.clauses import service as clauses
from portal.clauses.rules import Relation
from portal.core.actor import SYSTEM
from portal.drafting import service as drafting
from portal.licensing import service as licensing
from tests import licensed
from tests.licensed import SLUG


def test_what_a_change_means_is_said_in_the_language_of_who_reads_it(session: Session, now: datetime) -> None:
    old, key = licensed.publish(session, now), "restriction.unlawful_use"
    row = drafting.draft(session, slug=SLUG, number="1.2.0", by=SYSTEM, now=now)
    for text in row.renditions:
        words = clauses.text_of(session, sha256=text.text_sha256).replace(f"{{#{key}}}\n\n", f"{{#{key}}}\n\nX. ")
        drafting.save_text(session, slug=SLUG, number="1.2.0", language=text.language, text=words, by=SYSTEM, now=now)
    given: dict[str, Any] = {
        "slug": SLUG, "number": "1.2.0", "summary": dict.fromkeys(("en", "fr", "es", "zh"), "New."), "by": SYSTEM,
        "changes": {key: (Relation.WIDENED, "It reaches further.")}, "now": now,
    }  # fmt: skip

    def told() -> dict[str, str]:
        return {
            language: next(d.explanation for d in found if d.key == key)
            for language in ("en", "fr", "es", "zh")
            for found in [licensing.difference(session, old=old, new=row, language=language)]
        }

    own = {"fr": {key: " Elle va plus loin. "}, "zh": {key: " "}}
    drafting.save_description(session, translated=own, **given)
    said = {"en": "It reaches further.", "fr": "Elle va plus loin.", "es": "It reaches further."}
    assert told() == said | {"zh": "It reaches further."}
    assert drafting.explanations(session, version=row) == {"fr": {key: "Elle va plus loin."}, "es": {}, "zh": {}}
    drafting.describe(session, version=row, changes=None)  # as when it is submitted
    assert told() == said | {"zh": "It reaches further."}
    drafting.save_description(session, **given)
    assert told()["fr"] == "It reaches further."
