"""Texts kept by digest, their clauses, and what editors say about changes, on both databases."""

from hashlib import sha256

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.clauses import service
from portal.clauses.models import Clause, ClauseChange, ClauseText
from portal.clauses.rules import ClauseKind, Element, Relation, Sign
from portal.core.errors import Conflict, Invalid, NotFound

FAMILY = "mail-license"
ONE = "# T\n\n### 1 Model {#definition.model}\n\nIt.\n\n### A.1 Spam {#restriction.spam}\n\nNo spam.\n"
TWO = ONE.replace("No spam.", "No spam at all.")
THREE = TWO.replace("A.1", "A.2").replace("at all", "ever").replace(
    "### 1 Model {#definition.model}\n\nIt.\n\n", "### A.1 Late {#restriction.late}\n\nNot late.\n\n"
)  # fmt: skip


def keep(session: Session, text: str) -> str:
    digest = service.store_text(session, body=text.encode())
    service.keep_clauses(session, family=FAMILY, sha256=digest, kinds={})
    return digest


def test_a_text_is_named_by_its_digest_and_kept_once(session: Session) -> None:
    digest = service.store_text(session, body=ONE.encode())
    assert digest == sha256(ONE.encode()).hexdigest()
    assert service.store_text(session, body=ONE.encode()) == digest
    assert service.text_of(session, sha256=digest) == ONE
    with pytest.raises(NotFound):
        service.text_of(session, sha256="0" * 64)


def test_clauses_keep_their_row_through_all_texts(session: Session) -> None:
    first, second = keep(session, ONE), keep(session, TWO)
    keep(session, ONE)
    rows = session.scalars(sa.select(Clause).where(Clause.family == FAMILY).order_by(Clause.id)).all()
    assert [(c.stable_key, c.kind, c.element) for c in rows] == [
        ("definition.model", ClauseKind.DEFINITION, None),
        ("restriction.spam", ClauseKind.RESTRICTION, Element.CONDUCT),
        ("frame", ClauseKind.OTHER, None),
    ]
    spans = session.scalars(
        sa.select(ClauseText).where(ClauseText.text_sha256 == first).order_by(ClauseText.ordinal)
    ).all()
    assert [ONE[s.start : s.end].splitlines()[0] for s in spans] == [
        "### 1 Model {#definition.model}", "### A.1 Spam {#restriction.spam}",
    ]  # fmt: skip
    provisions = service.provisions(session, sha256=second)
    assert [(p.clause_id, p.part.body) for p in provisions] == [(rows[0].id, "It."), (rows[1].id, "No spam at all.")]
    assert service.kinds_of(session, family=FAMILY)["restriction.spam"] is ClauseKind.RESTRICTION


def test_a_clause_that_does_something_else_needs_another_key(session: Session) -> None:
    digest = keep(session, ONE)
    intent = {"restriction.spam": (ClauseKind.RESTRICTION, Element.INTENT)}
    with pytest.raises(Invalid) as caught:
        service.keep_clauses(session, family=FAMILY, sha256=digest, kinds=intent)
    assert caught.value.code == "clause_kind"
    service.keep_clauses(session, family="another", sha256=digest, kinds=intent)


def test_what_editors_say_about_a_change_is_told(session: Session) -> None:
    first, second = keep(session, ONE), keep(session, TWO)
    said = {"restriction.spam": (Relation.WIDENED, " Now all of it. "), "definition.model": (Relation.SAME, "")}
    for _ in range(2):
        service.describe(session, family=FAMILY, from_sha256=first, to_sha256=second, changes=said)
    told = {d.key: (d.relation, d.explanation) for d in service.delta(session, from_sha256=first, to_sha256=second)}
    assert told == {
        "frame": (Relation.SAME, ""),
        "definition.model": (Relation.SAME, ""),
        "restriction.spam": (Relation.WIDENED, "Now all of it."),
    }
    assert (
        session.scalar(sa.select(sa.func.count()).select_from(ClauseChange).where(ClauseChange.to_sha256 == second))
        == 1
    )


def test_what_the_words_do_not_bear_out_is_refused(session: Session) -> None:
    first, second = keep(session, ONE), keep(session, TWO)
    for relation in (Relation.SAME, Relation.ADDED):
        with pytest.raises(Invalid):
            service.describe(
                session, family=FAMILY, from_sha256=first, to_sha256=second,
                changes={"restriction.spam": (relation, "x")},
            )  # fmt: skip


def test_what_nobody_described_stays_as_the_words_are(session: Session) -> None:
    first, second, third = keep(session, ONE), keep(session, TWO), keep(session, THREE)
    service.describe(session, family=FAMILY, from_sha256=first, to_sha256=second, changes={})
    assert service.described(session, from_sha256=first, to_sha256=second) == {}
    service.describe(session, family=FAMILY, from_sha256=second, to_sha256=third, changes={}, otherwise="Corrected.")
    assert service.described(session, from_sha256=second, to_sha256=third) == {
        "frame": (Relation.REWORDED, "Corrected."),
        "restriction.late": (Relation.ADDED, "Corrected."),
        "restriction.spam": (Relation.REWORDED, "Corrected."),
        "definition.model": (Relation.REMOVED, "Corrected."),
    }


def test_a_moved_clause_needs_no_words_of_an_editor(session: Session) -> None:
    first, second = keep(session, ONE), keep(session, ONE.replace("A.1 Spam", "A.7 Spam"))
    service.describe(session, family=FAMILY, from_sha256=first, to_sha256=second, changes={})
    assert service.described(session, from_sha256=first, to_sha256=second) == {
        "restriction.spam": (Relation.MOVED, "Renumbered from A.1 to A.7, same words.")
    }


def test_a_translation_that_changed_alone_says_so(session: Session) -> None:
    first, second = keep(session, ONE), keep(session, TWO)
    same = {"restriction.spam": (Relation.SAME, "")}
    service.describe(session, family=FAMILY, from_sha256=first, to_sha256=second, changes=same, otherwise="Typo.")
    told = service.described(session, from_sha256=first, to_sha256=second)
    assert told == {"restriction.spam": (Relation.REWORDED, "Typo.")}


def test_over_several_texts_each_step_is_told_in_order(session: Session) -> None:
    first, second, third = keep(session, ONE), keep(session, TWO), keep(session, THREE)
    for a, b, words in ((first, second, "First."), (second, third, "Then.")):
        service.describe(
            session, family=FAMILY, from_sha256=a, to_sha256=b, otherwise="Else.",
            changes={"restriction.spam": (Relation.WIDENED if a == first else Relation.REWORDED, words)},
        )  # fmt: skip
    told = {d.key: d for d in service.delta(session, from_sha256=first, to_sha256=third, through=[second])}
    assert (told["restriction.spam"].relation, told["restriction.spam"].explanation) == (
        Relation.WIDENED,
        "First. Then.",
    )
    apart = {d.key: d for d in service.delta(session, from_sha256=first, to_sha256=third)}
    assert (apart["restriction.spam"].relation, apart["restriction.spam"].explanation) == (Relation.REWORDED, "")


def test_a_clause_that_changed_back_is_the_same(session: Session) -> None:
    first, second = keep(session, ONE), keep(session, TWO)
    service.describe(session, family=FAMILY, from_sha256=first, to_sha256=second, changes={}, otherwise="There.")
    service.describe(session, family=FAMILY, from_sha256=second, to_sha256=first, changes={}, otherwise="And back.")
    told = service.delta(session, from_sha256=first, to_sha256=first, through=[second])
    assert all(d.relation is Relation.SAME and not d.explanation for d in told)


def test_what_was_said_is_carried_over_as_far_as_it_fits(session: Session) -> None:
    first, second, third = keep(session, ONE), keep(session, TWO), keep(session, THREE)
    service.describe(
        session, family=FAMILY, from_sha256=first, to_sha256=second,
        changes={"restriction.spam": (Relation.WIDENED, "More.")},
    )  # fmt: skip
    service.carry_over(session, family=FAMILY, from_sha256=first, old_sha256=second, new_sha256=third)
    assert service.described(session, from_sha256=first, to_sha256=third) == {
        "restriction.spam": (Relation.WIDENED, "More.")
    }
    back = keep(session, ONE + "\n")
    service.carry_over(session, family=FAMILY, from_sha256=first, old_sha256=second, new_sha256=back)
    assert service.described(session, from_sha256=first, to_sha256=back) == {}


@pytest.mark.parametrize(
    ("translation", "where"),
    [
        (ONE.replace("A.1", "A.9"), "restriction.spam"),
        (ONE.replace("restriction.spam", "restriction.mail"), "restriction.spam"),
        (ONE + "\n### A.2 Late {#restriction.late}\n\nx\n", "an extra clause"),
        (ONE[: ONE.index("### A.1")], "restriction.spam"),
    ],
)
def test_a_translation_follows_clause_by_clause(session: Session, translation: str, where: str) -> None:
    first, second = keep(session, ONE), keep(session, translation)
    with pytest.raises(Invalid) as caught:
        service.check_translation(session, prevailing=first, translation=second, language="fr")
    assert where in caught.value.message
    service.check_translation(session, prevailing=first, translation=keep(session, TWO), language="fr")


def test_texts_never_change(session: Session) -> None:
    digest = keep(session, ONE)
    span = session.scalars(sa.select(ClauseText).where(ClauseText.text_sha256 == digest)).first()
    assert span is not None
    span.label = "9.9"
    with pytest.raises(Conflict):
        session.flush()


def test_what_was_removed_and_added_again_is_told_as_what_it_became(session: Session) -> None:
    spam = ONE[ONE.index("### A.1") :]
    texts = (ONE, ONE.replace(spam, ""), ONE.replace("A.1 Spam", "A.2 Spam"), ONE.replace("A.1 Spam", "A.3 Spam"))
    first, gone, again, last = (keep(session, text) for text in texts)
    for a, b in ((first, gone), (gone, again), (again, last)):
        service.describe(session, family=FAMILY, from_sha256=a, to_sha256=b, changes={}, otherwise="Said.")
    told = {d.key: d for d in service.delta(session, from_sha256=first, to_sha256=last, through=[gone, again])}
    assert (told["restriction.spam"].relation, told["restriction.spam"].explanation) == (
        Relation.MOVED,
        "Renumbered from A.1 to A.3, same words.",
    )
    back = service.delta(session, from_sha256=first, to_sha256=keep(session, ONE), through=[gone])
    assert all((d.relation, d.explanation) == (Relation.SAME, "") for d in back)
    alone = {d.key: d for d in service.delta(session, from_sha256=first, to_sha256=again)}
    assert alone["restriction.spam"].relation is Relation.MOVED


def test_what_the_words_suggest_is_told_and_nothing_is_recorded(session: Session) -> None:
    long = ONE.replace("No spam.", "You may not send messages in bulk to people who did not ask for them.")
    first = keep(session, long)
    second = keep(session, long.replace("restriction.spam", "restriction.bulk"))
    before = session.scalar(sa.select(sa.func.count()).select_from(ClauseChange))
    (found,) = service.suggestions(session, from_sha256=first, to_sha256=second)
    assert (found.sign, found.old[0].key, found.new[0].key, found.similarity) == (
        Sign.RENAMED, "restriction.spam", "restriction.bulk", 1.0,
    )  # fmt: skip
    assert service.suggestions(session, from_sha256=first, to_sha256=first) == []
    assert session.scalar(sa.select(sa.func.count()).select_from(ClauseChange)) == before
    with pytest.raises(NotFound):
        service.suggestions(session, from_sha256=first, to_sha256="0" * 64)
