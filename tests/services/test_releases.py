"""Putting uploaded commits before readers, on both databases."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.access import service as access
from portal.access.rules import Action
from portal.accounts.rules import Role
from portal.audit.models import AuditEvent
from portal.catalog import service as catalog
from portal.catalog.models import GatedModel
from portal.core.actor import ANONYMOUS, SYSTEM
from portal.core.errors import Conflict, Invalid, NotFound
from portal.downloads import service as downloads
from portal.files import service as files
from portal.files.models import Commit
from portal.releases import service
from tests import conduct
from tests.factories import BASE, FILES, Make, staged_of

PICKLES = {"pytorch_model.bin": b"p", "more.pt": b"m", "config.json": b"{}"}


def release(session: Session, model: GatedModel, commit: Commit, now: datetime, *pickles: str) -> Any:
    return service.release(
        session, model=model, commit=commit, license_slug=conduct.SLUG, allowed_pickles=pickles, by=SYSTEM, now=now
    )


def test_readers_get_the_newest_release_of_a_branch_and_nothing_else(
    make: Make, session: Session, now: datetime
) -> None:
    make.license()
    model = make.model("lab/steps")
    first = make.commit(model, {**FILES, "step": b"1"})
    assert downloads.locate(session, name="lab/steps", revision="main", path="README.md").revision is None
    release(session, model, first, now)
    second = make.commit(model, {**FILES, "step": b"2"})
    reader = conduct.acting(make.person("reader"))
    asked = {"name": "lab/steps", "actor": reader, "now": now, "base_url": BASE}
    for revision in ("main", first.revision, first.revision[:8]):
        assert downloads.snapshot(session, revision=revision, **asked).commit.id == first.id
    for revision in (second.revision, second.revision[:8]):
        with pytest.raises(NotFound):
            downloads.snapshot(session, revision=revision, **asked)
        assert downloads.locate(session, name="lab/steps", revision=revision, path="README.md").entry is None
    files.tag(session, model_id=model.id, name="v2", commit=second)
    known = downloads.refs(session, actor=reader, model=model, now=now)
    assert [(ref.name, commit.id) for ref, commit in known] == [("main", first.id)]
    with pytest.raises(NotFound):
        downloads.snapshot(session, revision="v2", **asked)
    editor = conduct.acting(make.person("sees", Role.CARD_EDITOR), Role.CARD_EDITOR)
    known = downloads.refs(session, actor=editor, model=model, now=now)
    assert [(ref.name, commit.id) for ref, commit in known] == [("main", second.id), ("v2", second.id)]
    release(session, model, second, now)
    assert downloads.snapshot(session, revision="main", **asked).commit.id == second.id
    assert downloads.snapshot(session, revision=first.revision, **asked).commit.id == first.id


def test_a_model_made_for_an_upload_is_hidden_until_its_first_release(
    make: Make, session: Session, now: datetime
) -> None:
    make.license()
    model = catalog.ensure_model(session, full_name="lab/hidden", now=now)
    commit = make.commit(model)

    def code() -> list[str]:
        decision = access.check(
            session, actor=ANONYMOUS, model="lab/hidden", action=Action.READ, now=now, base_url=BASE
        )
        return [reason.code for reason in decision.reasons]

    assert code() == ["model_not_found"]
    with pytest.raises(Conflict, match="no published card"):
        release(session, model, commit, now)
    draft = catalog.save_draft(session, model=model, text="# A card", note="n", by=SYSTEM, now=now)
    catalog.publish_card(session, model=model, shown_sha256=draft.text_sha256, by=SYSTEM, now=now)
    row = release(session, model, commit, now)
    assert (row.revision, row.license_slug, row.license_number) == (commit.revision, conduct.SLUG, "2.0.0")
    assert code() == []
    assert release(session, model, commit, now).id == row.id


def test_weights_that_only_come_as_pickles_are_let_in_one_by_one(make: Make, session: Session, now: datetime) -> None:
    make.license()
    model = make.model()
    commit = make.commit(model, PICKLES)
    for allowed in ((), ("more.pt",), ("pytorch_model.bin",), ("other.bin",)):
        with pytest.raises(Invalid, match="can run code"):
            release(session, model, commit, now, *allowed)
    row = release(session, model, commit, now, "more.pt", "pytorch_model.bin")
    [event] = session.scalars(sa.select(AuditEvent).where(AuditEvent.name == "model:pickle:allowed"))
    assert (event.subject, event.data["revision"], event.data["count"]) == (model.public_id, row.revision, 2)
    weights = replace(staged_of("model.safetensors", b"s"), parameters={"F32": 1})
    staged = [weights, *(staged_of(path, body) for path, body in PICKLES.items())]
    safe = files.commit_files(session, model_id=model.id, staged=staged, message="Safe", by=SYSTEM, now=now)
    release(session, model, safe, now)


def test_a_commit_without_files_is_not_released(make: Make, session: Session, now: datetime) -> None:
    make.license()
    model = make.model()
    empty = files.commit_files(session, model_id=model.id, staged=[], message="Initial commit", by=SYSTEM, now=now)
    with pytest.raises(Invalid, match="no files"):
        release(session, model, empty, now)


def test_the_desk_shows_what_waits_and_what_it_would_change(make: Make, session: Session, now: datetime) -> None:
    make.license()
    model = make.model("lab/desk")
    first = make.commit(model, {"keep": b"k", "change": b"1", "go": b"g"})
    assert service.changes(session, model=model, commit=first).added == ("change", "go", "keep")
    release(session, model, first, now)
    second = make.commit(model, {"keep": b"k", "change": b"2", "come": b"c", "bad.safetensors": b"no head"})
    found = service.changes(session, model=model, commit=second)
    assert (found.added, found.changed, found.removed) == (("bad.safetensors", "come"), ("change",), ("go",))
    assert service.unreadable(session, commit=second) == ["bad.safetensors"]
    rows = service.desk(session, model=model)
    assert [(row.commit.id, row.names, row.release is not None) for row in rows] == [
        (second.id, ("main",), False), (first.id, (), True),
    ]  # fmt: skip
    offered = {row.model.full_name: row for row in service.waiting(session)}
    assert offered["lab/desk"].waits
    assert not offered["noise/model"].waits
    release(session, model, second, now)
    assert not {row.model.full_name: row for row in service.waiting(session)}["lab/desk"].waits
    assert (conduct.SLUG, f"{make.license().title} 2.0.0") in service.licenses_in_force(session, now=now)
