"""Suggesting, from a case that one holds, what a model card or the draft of a license should say."""

from datetime import datetime

from sqlalchemy.orm import Session

from portal.audit import service as audit
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import LinkKind
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.clauses import service as clauses
from portal.clauses.rules import ClauseKind
from portal.core.actor import Actor
from portal.core.errors import Conflict, Invalid
from portal.licensing import service as licensing
from portal.suggestions import rules


def targets(session: Session) -> list[tuple[str, str]]:
    """Return what can be changed: each model's card, and each restriction of the newest text of each license."""
    found = [(f"card:{m.public_id}", f"Card of {m.full_name}") for m, _, _ in catalog.all_models(session)]
    for license_, _versions in licensing.licenses(session):
        newest = licensing.newest(session, license_id=license_.id)
        if newest is not None:
            for one in clauses.provisions(session, sha256=licensing.rendition(newest).text_sha256):
                if one.kind is ClauseKind.RESTRICTION:
                    title = f"{license_.title}: {one.part.label} {one.part.title}"
                    found.append((f"clause:{license_.slug}:{one.part.key}", title))
    return found


def kind_of(session: Session, *, case: Case) -> str:
    """Return the kind of a case in words that name nobody."""
    return rules.case_class(case.origin, cases.refs(session, case=case, kind=LinkKind.CLAUSE))


def suggest(session: Session, *, by: Actor, case_ref: str, target: str, words: str, now: datetime) -> str:
    """Put a limitation into the draft of a card, or a remark on a clause for whoever drafts the next version.

    Returns where it can be seen. Publishing either is for its own editors to do.

    Raises:
        Conflict: nobody drafts a version of that license now.
        Invalid: there is no such card or clause, or nothing is said.
    """
    case = cases.held(session, ref=case_ref, by=by, now=now)
    kept, kind = rules.check_words(words), kind_of(session, case=case)
    what, _, which = target.partition(":")
    if what == "card":
        page = _card(session, which, kept, kind, by, now)
    elif what == "clause":
        page = _clause(session, which, kept, kind, by, now)
    else:
        raise Invalid("target_wrong", "Choose a card or a clause.", field="target")
    cases.link(session, case=case, links=[(LinkKind.TEXT, target)])
    audit.record(session, rules.TextSuggested(case.public_id, target=target), by=by, now=now)
    return page


def _card(  # noqa: PLR0917 - a step of `suggest`
    session: Session, ref: str, words: str, kind: str, by: Actor, now: datetime
) -> str:
    model: GatedModel = catalog.find_by_ref(session, ref=ref)
    row = catalog.draft_of(session, model=model) or catalog.current_card(session, model=model)
    if row is None:
        raise Conflict("card_missing", f"{model.full_name} has no card yet.")
    text = rules.with_limitation(catalog.card_text(session, revision=row), words, kind)
    catalog.save_draft(session, model=model, text=text, note=f"Limitation after {kind}", by=by, now=now)
    return f"/staff/cards/{model.full_name}/edit"


def _clause(  # noqa: PLR0917 - a step of `suggest`
    session: Session, which: str, words: str, kind: str, by: Actor, now: datetime
) -> str:
    slug, _, key = which.partition(":")
    version = licensing.draft_of(session, slug=slug)
    if version is None:
        message = f"Nobody drafts a version of {slug} now. Ask a license editor to begin one, then suggest it again."
        raise Conflict("draft_missing", message)
    licensing.comment(session, version=version, words=rules.remark(key, words, kind), key=key, by=by, now=now)
    return f"/staff/licenses/{slug}/{version.number}"
