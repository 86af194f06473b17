"""Admission from memory says what the database would say, whatever happened in between, and asks it rarely."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from portal.access import edge, service
from portal.access.edge import Admission, Door
from portal.access.rules import Action
from portal.accounts.models import User
from portal.accounts.rules import Standing
from portal.annulments import service as annulments
from portal.catalog.models import GatedModel
from portal.catalog.rules import ModelState
from portal.core.actor import Actor
from portal.core.change import watch
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import transaction
from portal.core.errors import Unavailable
from portal.core.ids import public_id
from portal.deliveries import service as deliveries
from portal.edge import fresh
from portal.edge.fresh import Found, Fresh
from portal.edge.routes import Request
from portal.edge.threads import Threads
from portal.licensing.models import Ceremony, Decline, Signature
from portal.licensing.rules import CeremonyState
from portal.notices import service as notices
from portal.tokens import service as tokens
from portal.usage.rules import Counters
from tests.conduct import acting, license_versions, redate
from tests.edge.desk import Desk
from tests.edge.looping import Looping
from tests.factories import BASE, PEPPER, Make

MODELS = ("lab/one", "lab/two", "lab/none")
SETTINGS = Settings(base_url=BASE, pepper=PEPPER)


@dataclass
class Places:
    """A door over a database of its own, at a time of its own, with people who change things."""

    engine: sa.Engine
    now: datetime = field(default_factory=utcnow)
    numbers: Any = field(default_factory=partial(count, 1))
    tokens: list[tuple[Any, Any, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.looping, self.threads = Looping(), Threads(2)
        self.watch = watch(self.engine)
        self.fresh: Fresh[Any] = Fresh(self.engine, self.watch, self.threads, lambda: self.now.timestamp())  # noqa: PLW0108
        self.door = Door(self.fresh, SETTINGS, Counters())
        with self.make() as make:
            make.license()
            for name in MODELS[:2]:
                make.release(make.model(name))
        for _ in range(3):
            self.person()

    @contextmanager
    def make(self) -> Iterator[Make]:
        with transaction(self.engine) as session:
            yield Make(session, self.now, self.numbers)

    def person(self) -> None:
        with self.make() as make:
            user = make.person()
            self.tokens.append((user, *make.token(user)))

    def known(self, secret: str, model: str, action: Action) -> Admission:
        return self.ask(Request("GET", "/", headers={"authorization": f"Bearer {secret}"}), model, action)

    def ask(self, call: Request, model: str, action: Action) -> Admission:
        said: list[Any] = []
        self.looping.do(
            self.door.admit, call, model=model, action=action, then=said.append, failed=said.append
        )  # fmt: skip
        self.looping.until(lambda: said)
        assert isinstance(said[0], Admission), said
        return said[0]

    def anew(self, secret: str, model: str, action: Action) -> Any:
        with transaction(self.engine, write=False) as session:
            actor = tokens.actor_of(session, authorization=f"Bearer {secret}", pepper=PEPPER, now=self.now)
            return service.check(session, actor=actor, model=model, action=action, now=self.now, base_url=BASE)

    def close(self) -> None:
        self.watch.close()
        self.threads.close()
        self.looping.close()


@pytest.fixture
def places(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    import shutil

    from portal.core.db import make_engine

    shutil.copy(template, tmp_path / "places.db")
    made = Places(make_engine(f"sqlite:///{tmp_path / 'places.db'}"))
    monkeypatch.setattr(edge, "utcnow", lambda: made.now)
    yield made
    made.close()
    made.engine.dispose()


def suspend(make: Make, user: Any, days: int) -> None:
    row = make.session.get_one(User, user.id)
    row.standing, row.standing_until = Standing.SUSPENDED, make.now + timedelta(days=days)
    row.standing_ref = "dec_1"


Happening = Callable[[Make, Any, Any, random.Random], object]


def annul(make: Make, user: Any, _token: Any, _dice: random.Random) -> None:
    query = sa.select(Signature).where(Signature.user_id == user.id).order_by(Signature.id.desc())
    if (signature := make.session.scalars(query).first()) is not None:
        annulments.withdraw(
            make.session, by=acting(user), ref=signature.public_id, now=make.now, base_url=BASE
        )  # fmt: skip


def reinstate(make: Make, user: Any, _token: Any, _dice: random.Random) -> None:
    row = make.session.get_one(User, user.id)
    row.standing, row.standing_until, row.standing_ref = Standing.ACTIVE, None, None


def withdraw(make: Make, _user: Any, _token: Any, dice: random.Random) -> None:
    query = sa.select(GatedModel).where(GatedModel.namespace == "lab", GatedModel.name == "one")
    make.session.scalars(query).one().state = dice.choice([ModelState.WITHDRAWN, ModelState.PUBLISHED])


def tell(make: Make, user: Any, _token: Any, dice: random.Random) -> None:
    ref = f"license_version:conduct-license/{dice.choice(['1.0.0', '2.0.0'])}"
    notices.mark_shown(make.session, user_id=user.id, subject_ref=ref, now=make.now)


def decline(make: Make, user: Any, _token: Any, dice: random.Random) -> None:
    signed = make.sign(make.person())  # another one's ceremony shows the same text
    shown = make.session.get_one(Ceremony, signed.ceremony_id)
    mine = Ceremony(
        public_id=public_id("cer"), user_id=user.id, version_id=shown.version_id, rendition_id=shown.rendition_id,
        nonce=public_id("non"), state=CeremonyState.DECLINED, opened_at=make.now, viewed_at=make.now,
        expires_at=make.now,
    )  # fmt: skip
    make.session.add(mine)
    make.session.flush()
    make.session.add(Decline(ceremony_id=mine.id, reason_code="other", at=make.now))


def move(make: Make, _user: Any, _token: Any, dice: random.Random) -> None:
    version = license_versions(make.session, make.now)["2.0.0"]
    redate(make.session, version, make.now + timedelta(days=dice.randrange(20, 60)))


HAPPENINGS: list[Happening] = [
    lambda make, user, _token, dice: make.sign(user, dice.choice(["1.0.0", "2.0.0"])),
    lambda make, user, _token, dice: suspend(make, user, dice.randrange(1, 4)),
    lambda make, user, token, _dice: tokens.revoke(
        make.session, by=acting(user), ref=token.public_id, now=make.now
    ),
    annul, reinstate, withdraw, tell, decline, move,
]  # fmt: skip


def change(places: Places, dice: random.Random) -> str:
    """Have something happen, as it may happen in a portal; return what."""
    number = dice.randrange(len(places.tokens))
    user, token, _ = places.tokens[number]
    chosen = dice.randrange(len(HAPPENINGS) + 4)
    if chosen < len(HAPPENINGS):
        with places.make() as make:
            HAPPENINGS[chosen](make, user, token, dice)
    elif chosen == len(HAPPENINGS):
        with places.make() as make:
            models = tuple(make.session.scalars(sa.select(GatedModel).where(GatedModel.namespace == "lab").limit(1)))
            scopes = dice.choice([(), ("weights:read",), ("inference",)])
            places.tokens[number] = (user, *make.token(user, *scopes, models=dice.choice([(), models])))
    else:
        places.now += timedelta(hours=dice.choice([0, 1, 13, 24 * 8, 24 * 40]), seconds=dice.randrange(100))
    return str(chosen)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_is_what_the_database_would_say(places: Places, seed: int) -> None:
    dice, history = random.Random(seed), []
    for _ in range(40):
        history.append(change(places, dice))
        for _ in range(3):
            _, _, secret = dice.choice(places.tokens)
            model, action = dice.choice(MODELS), dice.choice([Action.INFER, Action.DOWNLOAD, Action.READ])
            kept = replace(places.known(secret, model, action).decision, as_of=None)
            assert kept == replace(places.anew(secret, model, action), as_of=None), (history, model, action)


def loads(places: Places, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Count how often the database is asked."""
    found: list[Any] = []
    real = places.door._decide
    monkeypatch.setattr(places.door, "_decide", lambda *a, **k: (found.append(a), real(*a, **k))[1])
    return found


def test_the_database_is_asked_once_while_nothing_changes(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = loads(places, monkeypatch)
    user, _, secret = places.tokens[0]
    first = places.known(secret, "lab/one", Action.INFER)
    for _ in range(5):
        assert places.known(secret, "lab/one", Action.INFER) is first
        places.known("lmp_unheard_of", "lab/one", Action.INFER)
        places.known(secret, "lab/unheard_of", Action.INFER)
    assert len(asked) == 3
    with places.make() as make:  # use raises nothing
        tokens.touch_used(make.session, token_id=places.tokens[0][1].id, at=make.now)
    places.known(secret, "lab/one", Action.INFER)
    assert len(asked) == 3
    with places.make() as make:
        make.sign(user)
    assert places.known(secret, "lab/one", Action.INFER).decision.allowed
    assert len(asked) == 4


def test_what_is_unknown_is_kept_briefly_and_has_little_room(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = loads(places, monkeypatch)
    monkeypatch.setattr(fresh, "PASSING_MAX", 3)
    for number in range(10):
        places.known(f"lmp_{number}", "lab/one", Action.INFER)
    assert (len(places.fresh._passing), len(places.fresh._kept)) == (3, 0)
    places.now += timedelta(seconds=edge.STRANGER_S)
    before = len(asked)
    places.known("lmp_9", "lab/one", Action.INFER)
    assert len(asked) == before + 1


def test_no_secret_is_kept(places: Places) -> None:
    secret = places.tokens[0][2]
    places.known(secret, "lab/one", Action.INFER)
    assert secret not in repr(places.fresh._kept)
    assert places.fresh._kept


def test_many_who_ask_at_once_share_an_answer(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = loads(places, monkeypatch)
    call = Request("GET", "/", headers={"authorization": f"Bearer {places.tokens[0][2]}"})
    said: list[Any] = []

    def ask() -> None:
        for _ in range(30):
            places.door.admit(call, model="lab/one", action=Action.INFER, then=said.append, failed=said.append)

    places.looping.do(ask)
    places.looping.until(lambda: len(said) == 30)
    assert len(asked) == 1
    assert len({id(one) for one in said}) == 1


def test_who_comes_after_a_change_is_not_given_an_answer_from_before_it(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    user, _, secret = places.tokens[0]
    with places.make() as make:
        make.sign(user)
    call = Request("GET", "/", headers={"authorization": f"Bearer {secret}"})
    reading, go_on, real = threading.Event(), threading.Event(), places.door._decide

    def slowly(*args: Any, **kept: Any) -> Any:
        found = real(*args, **kept)
        reading.set()
        assert go_on.wait(10)
        return found

    monkeypatch.setattr(places.door, "_decide", slowly)
    early: list[Any] = []
    late: list[Any] = []

    def ask(said: list[Any]) -> None:
        places.door.admit(call, model="lab/one", action=Action.INFER, then=said.append, failed=said.append)

    places.looping.do(ask, early)
    places.looping.until(reading.is_set)
    with places.make() as make:
        suspend(make, user, 2)
    places.looping.do(ask, late)
    go_on.set()
    places.looping.until(lambda: early and late)
    assert early[0].decision.allowed
    assert late[0].decision.blocking[0].code == "standing_suspended"


def test_while_changes_cannot_be_seen_everything_is_asked_anew(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    asked = loads(places, monkeypatch)
    secret = places.tokens[0][2]
    monkeypatch.setattr(places.watch, "current", lambda: None)
    for _ in range(3):
        places.known(secret, "lab/one", Action.INFER)
    assert len(asked) == 3


def test_too_many_open_questions_are_refused(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "WAITING_MAX", 0)
    said: list[Any] = []
    places.looping.do(
        places.door.admit, Request("GET", "/"), model="lab/one", action=Action.INFER, then=said.append,
        failed=said.append,
    )  # fmt: skip
    assert isinstance(said[0], Unavailable)


def test_what_fails_is_told_to_everybody_who_waits_and_not_kept(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def broken(_session: Any) -> Any:
        raise RuntimeError("the database is away")

    said: list[Any] = []
    wrong: list[Any] = []

    def upset(error: BaseException) -> None:
        wrong.append(error)
        raise ValueError("a bug of who waits")

    def ask() -> None:
        places.fresh.ask("x", broken, said.append, upset)
        places.fresh.ask("x", broken, said.append, wrong.append)

    places.looping.do(ask)
    places.looping.until(lambda: len(wrong) == 2)
    places.looping.do(places.fresh.ask, "x", lambda _session: Found(5), said.append, wrong.append)
    places.looping.until(lambda: said)
    assert said == [5]
    assert places.fresh.loads == 0


def test_a_copy_that_became_whole_is_seen_though_deliveries_raise_nothing(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    user, _, secret = places.tokens[0]
    with places.make() as make:
        make.sign(user, "1.0.0")
    refused = places.known(secret, "lab/one", Action.DOWNLOAD).decision
    assert [reason.code for reason in refused.blocking] == ["signature_due"]
    whole = lambda _session, *, user_ids, release_ids: {id_: frozenset(release_ids) for id_ in user_ids}  # noqa: E731
    monkeypatch.setattr(deliveries, "copies", whole)
    assert places.known(secret, "lab/one", Action.DOWNLOAD).decision.allowed


def test_pages_call_for_a_person(places: Places) -> None:
    user = places.tokens[0][0]
    call = Request("POST", "/", actor=Actor(user_id=user.id, public_id=user.public_id))
    assert places.ask(call, "lab/one", Action.INFER).decision.blocking[0].code == "signature_missing"
    with places.make() as make:
        make.sign(user)
    assert places.ask(call, "lab/one", Action.INFER).decision.allowed


def test_running_work_is_asked_about_once_for_all_who_share_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.fake.behave = "stall"
    streams = [desk.stream(words=1) for _ in range(4)]
    asked: list[Any] = []
    real = desk.door._decide
    monkeypatch.setattr(desk.door, "_decide", lambda *a, **k: (asked.append(k), real(*a, **k))[1])
    desk.write(lambda session: Make(session, utcnow()).person())
    desk.looping.until(lambda: asked)
    desk.looping.turn(1.2)
    assert asked == [{"already_running": True}]
    desk.fake.go_on.set()
    assert [desk.rest(stream)[-1] for stream in streams] == ["[DONE]"] * 4
    desk.looping.until(lambda: not desk.door._running)
