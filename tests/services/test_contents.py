"""Keeping texts: off by default, redacted and encrypted first, found by words, deleted for good in their time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.accounts.rules import Role
from portal.adapters.month_keys import MonthKeys
from portal.audit.models import AuditEvent
from portal.cases import service as cases
from portal.cases.models import Case
from portal.cases.rules import CaseState, LinkKind
from portal.contents import rules, service
from portal.contents.models import Content, ContentTerm
from portal.core.actor import SYSTEM, Actor
from portal.core.errors import Conflict, Invalid, NotFound, Refused
from portal.reveals import rules as reveal_rules
from portal.reveals import service as reveals
from portal.reveals.models import Reveal
from tests import conduct
from tests.factories import Make

CANARY = "Periwinkle7QuartzHarbour"
PROMPT = f"{CANARY} schreibt an ann@mail.example: 他们在散布假新闻"
ANSWER = "Élections, lmp_" + "0aB" * 16
WHY = "To see what was asked of the model."


@dataclass
class Desk:
    """A person who uses a model, and where their texts come in."""

    session: Session
    make: Make
    now: datetime
    keys: MonthKeys

    def __post_init__(self) -> None:
        self.user, self.model = self.make.person("ann"), self.make.model("lab/kept")

    def keep(self, ref: str = "req_1", **changed: Any) -> Content | None:
        """Hand in a text as the data plane does."""
        kept: dict[str, Any] = {
            "user_id": self.user.id, "model_id": self.model.id, "prompt": PROMPT, "answer": ANSWER, "now": self.now,
            "keys": self.keys,
        }  # fmt: skip
        return service.keep(self.session, request_id=ref, **kept | changed)

    def kept(self, ref: str = "req_1", **changed: Any) -> Content:
        """Keep a text of a person who agreed."""
        self.allow()
        row = self.keep(ref, **changed)
        assert row is not None
        return row

    def allow(self) -> None:
        service.set_days(self.session, model=self.model, days=7, by=SYSTEM, now=self.now)
        service.agree(self.session, by=conduct.acting(self.user), model=self.model, now=self.now)


@pytest.fixture
def d(session: Session, make: Make, now: datetime, tmp_path: Path) -> Desk:
    return Desk(session, make, now, MonthKeys(tmp_path / "keys" / "months", b"p" * 32))


def dumped(session: Session) -> str:
    """Everything that the database holds, as text."""
    found = []
    for table in sa.inspect(session.connection()).get_table_names():
        rows = session.execute(sa.text(f'SELECT * FROM "{table}"')).all()
        found.append(repr([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in rows]))
    return "\n".join(found)


@pytest.mark.threat("TM-19")
def test_nothing_is_kept_by_default(d: Desk) -> None:
    assert d.keep() is None
    service.agree(d.session, by=conduct.acting(d.user), model=d.model, now=d.now)
    assert d.keep() is None  # the d.model keeps none
    service.disagree(d.session, by=conduct.acting(d.user), model=d.model, now=d.now)
    service.set_days(d.session, model=d.model, days=30, by=SYSTEM, now=d.now)
    assert d.keep() is None  # the person did not agree
    assert d.keep(user_id=None) is d.keep(model_id=None) is None
    assert CANARY not in dumped(d.session)


@pytest.mark.threat("TM-19")
def test_what_is_kept_is_redacted_and_no_word_of_it_stands_in_the_database(d: Desk) -> None:
    row = d.kept()
    assert (row.basis, row.delete_after) == (rules.Basis.CONSENT, d.now + timedelta(days=7))
    assert service.read(row, keys=d.keys) == (PROMPT.replace("ann@mail.example", "[mail]"), "Élections, [secret]")
    assert d.keep() is row
    text = dumped(d.session)
    for word in (CANARY, CANARY.casefold(), "schreibt", "假新闻", "ann@mail.example"):
        assert word not in text
        assert word.encode().hex() not in text


def test_a_license_that_says_so_lets_a_model_keep_texts(d: Desk) -> None:
    from portal.clauses.models import Clause, ClauseText

    service.set_days(d.session, model=d.model, days=7, by=SYSTEM, now=d.now)
    signature = d.make.sign(d.user)
    assert d.keep() is None
    query = sa.select(Clause.id).join(ClauseText).where(ClauseText.text_sha256 == signature.rendition_sha256)
    d.session.execute(
        sa.update(Clause).where(Clause.id == d.session.scalar(query.limit(1))).values(stable_key=rules.CLAUSE)
    )
    row = d.keep()
    assert row is not None
    assert row.basis is rules.Basis.LICENSE


def test_a_text_that_cannot_be_redacted_is_dropped_and_not_logged(d: Desk, monkeypatch: Any, caplog: Any) -> None:
    d.allow()

    def broken(text: str) -> str:
        raise RuntimeError(text)

    monkeypatch.setattr(rules, "redacted", broken)
    with caplog.at_level("DEBUG"):
        assert d.keep() is None
    assert d.session.scalars(sa.select(Content)).all() == []
    assert "RuntimeError" in caplog.text
    assert CANARY not in caplog.text


def test_texts_are_found_by_words_of_any_script_and_only_in_what_is_asked(d: Desk) -> None:
    d.allow()
    one = d.keep()
    other = d.keep("req_2", prompt="天气很好", answer="nice weather", now=d.now + timedelta(hours=1))
    assert one is not None
    assert other is not None
    both = [one.id, other.id]

    def found(words: str, among: list[int] = both) -> list[str]:
        rows = service.search(d.session, words=words, among=among, keys=d.keys)
        return [row.request_id for row in rows]

    assert found("新闻") == found("elections") == found("SCHREIBT 散布") == ["req_1"]
    assert found("天气") == ["req_2"]
    assert found("新闻 weather") == found("旧闻") == found("新闻", [other.id]) == []
    with pytest.raises(Invalid):
        found("新")


def test_rows_cannot_be_swapped_or_changed(d: Desk, tmp_path: Path) -> None:
    d.allow()
    one, other = d.keep(), d.keep("req_2")
    assert one is not None
    assert other is not None
    sealed, wrapped = one.sealed, one.wrapped_key
    one.sealed, one.wrapped_key = other.sealed, other.wrapped_key
    assert service.read(one, keys=d.keys) is None
    one.sealed, one.wrapped_key = sealed[:-1] + bytes([sealed[-1] ^ 1]), wrapped
    assert service.read(one, keys=d.keys) is None
    one.sealed = sealed
    assert service.read(one, keys=d.keys) is not None
    assert service.read(one, keys=MonthKeys(tmp_path / "keys" / "months", b"q" * 32)) is None
    one.sealed = b""
    assert service.read(one, keys=d.keys) is None


def test_a_text_goes_when_its_time_is_over_with_its_terms_and_then_the_key_of_its_month(
    d: Desk, tmp_path: Path
) -> None:
    row = d.kept()
    copy = (row.month, row.request_id, row.wrapped_key, row.sealed)
    kept = Content(**{name: getattr(row, name) for name in ("month", "request_id", "wrapped_key", "sealed")})
    early = d.now + timedelta(days=7) - timedelta(microseconds=1)
    assert service.forget(d.session, by=SYSTEM, now=early) == 0
    assert service.forget(d.session, by=SYSTEM, now=d.now + timedelta(days=7)) == 1
    assert d.session.scalar(sa.select(sa.func.count()).select_from(Content)) == 0
    assert d.session.scalar(sa.select(sa.func.count()).select_from(ContentTerm)) == 0
    event = d.session.scalars(sa.select(AuditEvent).where(AuditEvent.name == rules.TextsDeleted.name)).one()
    assert event.data == {"deleted": 1, "left": 0}
    assert service.forget_keys(d.session, keys=d.keys, by=SYSTEM, now=d.now) == []  # the month is not over
    assert d.keys.open(*copy) is not None
    assert service.read(kept, keys=d.keys) is not None
    later = d.now + timedelta(days=40)
    assert service.forget_keys(d.session, keys=d.keys, by=SYSTEM, now=later) == [rules.month_of(d.now)]
    assert d.keys.open(*copy) is None  # a copy of the database holds nothing that can be read
    assert list((tmp_path / "keys" / "months").iterdir()) == []


def test_a_month_in_which_something_is_kept_keeps_its_key(d: Desk) -> None:
    d.allow()
    d.keep()
    assert service.hold(d.session, request_ids=["req_1", "req_none"], case_ref="cas_1") == 1
    later = d.now + timedelta(days=400)
    assert service.forget(d.session, by=SYSTEM, now=later) == 0
    assert service.forget_keys(d.session, keys=d.keys, by=SYSTEM, now=later) == []
    assert service.disagree(d.session, by=conduct.acting(d.user), model=d.model, now=d.now) == 0
    assert service.release(d.session, case_ref="cas_1", now=later) == 1
    assert service.forget(d.session, by=SYSTEM, now=later) == 0
    assert service.forget(d.session, by=SYSTEM, now=later + rules.AFTER_CASE) == 1


def test_whoever_takes_back_what_they_agreed_to_is_forgotten_at_once(d: Desk) -> None:
    d.allow()
    other = d.make.person("bob")
    service.agree(d.session, by=conduct.acting(other), model=d.model, now=d.now)
    d.keep()
    d.keep("req_2", user_id=other.id)
    assert service.kept_of(d.session, user_id=d.user.id) == 1
    assert [(m.id, days, c is not None) for m, days, c in service.choices_of(d.session, user_id=d.user.id)] == [
        (d.model.id, 7, True)
    ]
    assert service.disagree(d.session, by=conduct.acting(d.user), model=d.model, now=d.now) == 1
    assert service.disagree(d.session, by=conduct.acting(d.user), model=d.model, now=d.now) == 0
    assert service.kept_of(d.session, user_id=d.user.id) == 0
    assert service.kept_of(d.session, user_id=other.id) == 1
    assert service.erase(d.session, user=other) == 1
    assert d.keep("req_3") is None


def test_keys_of_months_are_private_files_and_made_once(tmp_path: Path) -> None:
    keys, again = (MonthKeys(tmp_path / "months", b"p" * 32) for _ in range(2))
    wrapped, sealed = keys.seal("2026-11", "req_1", b"words")
    assert again.open("2026-11", "req_1", wrapped, sealed) == b"words"
    assert (again.months(), keys.numbers("2026-12", ["x"])) == (["2026-11"], set())
    [path] = (tmp_path / "months").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 60
    keys.forget("2026-11")
    keys.forget("2026-11")
    assert keys.months() == []
    path.write_bytes(b"x" * 60)
    with pytest.raises(OSError):
        keys.seal("2026-11", "req_1", b"words")


@pytest.fixture
def case(d: Desk) -> Case:
    return cases.open_case(
        d.session, subject_ref=d.user.public_id, origin="staff", clause_refs=[], severity=2, evidence={"n": 1},
        dedupe_key="k", now=d.now, by=SYSTEM,
    )  # fmt: skip


@pytest.fixture
def mo(make: Make) -> Actor:
    return conduct.acting(make.person("mo", Role.MODERATOR), Role.MODERATOR)


def reveal(session: Session, case: Case, by: Actor, now: datetime, *refs: str, reason: str = WHY) -> Reveal:
    return reveals.reveal(session, case_ref=case.public_id, request_ids=refs, reason=reason, by=by, now=now)


@pytest.mark.threat("TM-34")
def test_a_text_is_read_within_a_case_that_one_holds_and_on_record_first(d: Desk, case: Case, mo: Actor) -> None:
    d.allow()
    d.keep()
    with pytest.raises(Conflict):
        reveal(d.session, case, mo, d.now, "req_1")
    cases.claim(d.session, ref=case.public_id, by=mo, now=d.now)
    row = reveal(d.session, case, mo, d.now, "req_1")
    event = d.session.scalars(sa.select(AuditEvent).where(AuditEvent.name == reveal_rules.TextsRevealed.name)).one()
    assert (event.subject, event.actor, event.data["case"]) == (row.public_id, mo.public_id, case.public_id)
    _, _, found = reveals.opened(d.session, ref=row.public_id, keys=d.keys, by=mo, now=d.now)
    assert [one.request_id for one in found] == ["req_1"]
    assert found[0].words is not None
    assert CANARY in found[0].words[0]
    assert reveals.of_person(d.session, user_id=d.user.id) == 1
    co = conduct.acting(d.make.person("co", Role.MODERATOR), Role.MODERATOR)
    for by, ref in ((co, row.public_id), (mo, "rev_none")):
        with pytest.raises(NotFound):
            reveals.opened(d.session, ref=ref, keys=d.keys, by=by, now=d.now)
    with pytest.raises(Conflict):
        reveals.opened(d.session, ref=row.public_id, keys=d.keys, by=mo, now=d.now + timedelta(minutes=15))
    cases.release(d.session, ref=case.public_id, by=mo, now=d.now)
    with pytest.raises(Conflict):
        reveals.opened(d.session, ref=row.public_id, keys=d.keys, by=mo, now=d.now)


@pytest.mark.threat("TM-34")
def test_only_texts_of_the_case_can_be_read_and_only_so_many(d: Desk, case: Case, mo: Actor) -> None:
    d.allow()
    other = d.make.person("bob")
    service.agree(d.session, by=conduct.acting(other), model=d.model, now=d.now)
    for n in range(51):
        d.keep(f"req_{n}", prompt="x", answer="y")
    d.keep("req_bob", user_id=other.id, prompt="新闻", answer="y")
    cases.claim(d.session, ref=case.public_id, by=mo, now=d.now)
    with pytest.raises(NotFound):
        reveal(d.session, case, mo, d.now, "req_bob")
    for reason in ("", "because"):
        with pytest.raises(Invalid):
            reveal(d.session, case, mo, d.now, "req_1", reason=reason)
    with pytest.raises(Invalid):
        reveal(d.session, case, mo, d.now)
    with pytest.raises(Refused):
        reveal(d.session, case, mo, d.now, *[f"req_{n}" for n in range(51)])
    assert d.session.scalars(sa.select(Reveal)).all() == []
    reveal(d.session, case, mo, d.now, *[f"req_{n}" for n in range(50)])
    with pytest.raises(Refused):
        reveal(d.session, case, mo, d.now, "req_50")
    cases.link(d.session, case=case, links=[(LinkKind.RECORD, "req_bob")])
    found = reveals.search(d.session, case_ref=case.public_id, words="新闻", keys=d.keys, by=mo, now=d.now)
    assert [row.request_id for row in found] == ["req_bob"]
    event = d.session.scalars(sa.select(AuditEvent).where(AuditEvent.name == reveal_rules.TextsSearched.name)).one()
    assert event.data == {"found": 1}


@pytest.mark.invariant("INV-19")
def test_what_a_case_rests_on_stays_until_it_is_closed_and_nothing_holds_it(d: Desk, case: Case) -> None:
    row, later = d.kept(), d.now + timedelta(days=60)
    d.keep("req_2")

    def held() -> str | None:
        d.session.refresh(row)
        return row.held_for

    cases.link(d.session, case=case, links=[(LinkKind.RECORD, "req_1")])
    assert held() == case.public_id  # at once, so that nobody takes back their consent faster
    for _ in range(2):
        reveals.hold_evidence(d.session, now=d.now)
    assert service.forget(d.session, by=SYSTEM, now=later) == 1
    cases.set_hold(d.session, case=case, because="appeal", by=SYSTEM, now=d.now)
    case.state = CaseState.CLOSED
    reveals.hold_evidence(d.session, now=later)
    assert held() == case.public_id
    cases.release_hold(d.session, case=case, because="appeal", by=SYSTEM, now=later)
    reveals.hold_evidence(d.session, now=later)
    assert (held(), row.delete_after) == (None, later + rules.AFTER_CASE)
    cases.set_hold(d.session, case=case, because="court", by=SYSTEM, now=later)
    reveals.hold_evidence(d.session, now=later)
    assert held() == case.public_id
