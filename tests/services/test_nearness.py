"""Texts that are nearly the same: found, counted, never joined."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from portal.accounts.models import User
from portal.adapters import nearness as signatures
from portal.banks.rules import plain
from portal.nearness import service
from portal.nearness.models import NearBand, NearText
from portal.nearness.rules import ALIKE, bands, entities, expected, likeness, script_of, shingles
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome
from tests.factories import Make

SEED = 0x1234567890ABCDE
NUMBERS = count(1)
HOUR = timedelta(hours=1)
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "mp", "l")]
Note = Callable[..., NearText]


def text_of(chance: random.Random, length: int = 131) -> list[str]:
    return [chance.choice(WORDS) for _ in range(length)]


def edited(chance: random.Random, words: list[str], share: float) -> list[str]:
    return [chance.choice(WORDS) if chance.random() < share else word for word in words]


def found(one: list[str], other: list[str]) -> bool:
    first, second = (signatures.signature(shingles(" ".join(words)), seed=SEED) for words in (one, other))
    return bool(set(bands(first)) & set(bands(second))) and likeness(first, second) >= ALIKE


# Of 400 pairs, as the first measurement had it.
@pytest.mark.threat("TM-04")
@pytest.mark.parametrize(
    ("share", "measured"),
    [(0.02, 1.0), (0.05, 1.0), (0.10, 1.0), (0.15, 1.0), (0.20, 0.93), (0.25, 0.63), (0.30, 0.28), (0.50, 0.0)],
)  # fmt: skip
def test_recall_falls_with_the_words_replaced_as_it_was_measured(share: float, measured: float) -> None:
    chance = random.Random(11)
    pairs = [text_of(chance) for _ in range(400)]
    recall = sum(found(words, edited(chance, words, share)) for words in pairs) / 400
    assert recall == pytest.approx(measured, abs=0.05)


def test_unrelated_texts_are_hardly_ever_near() -> None:
    chance = random.Random(5)
    signed = [signatures.signature(shingles(" ".join(text_of(chance))), seed=SEED) for _ in range(150)]
    near = sum(likeness(a, b) >= ALIKE for at, a in enumerate(signed) for b in signed[:at])
    assert near <= 2
    assert expected(100_000) == 6


def test_a_signature_depends_on_the_secret_and_not_on_the_order_of_shingles() -> None:
    pieces = shingles("one two three four five six seven eight nine ten eleven twelve")
    assert signatures.signature(pieces, seed=1) != signatures.signature(pieces, seed=2)
    assert signatures.signature(pieces, seed=1) == signatures.signature(pieces[::-1], seed=1)
    assert len(signatures.signature(pieces, seed=1)) == 512


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_has_shingles_entities_and_a_script(text: str) -> None:
    form = plain(text)
    assert shingles(form) == sorted(set(shingles(form)))
    assert entities(form) == sorted(set(entities(form)))
    script_of(form)


def test_texts_without_spaces_are_compared_by_characters() -> None:
    one = "委员会上午开会讨论来年的预算并就大部分要点达成一致会议持续了三个小时"
    assert len(shingles(one)) > 20
    assert shingles("too short to tell") == []
    assert found([one], [one.replace("上午", "下午")])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("on 14.03 2,500 people at example.org/x", ["1403", "2500", "example.org/x"]),
        ("في ١٤٫٠٣ كان ٢٬٥٠٠ شخص example.org/x", ["1403", "2500", "example.org/x"]),
        ("only 7 and 12", []),
    ],
)  # fmt: skip
def test_numbers_and_addresses_stay_what_they_are_in_other_scripts(text: str, wanted: list[str]) -> None:
    assert entities(plain(text)) == wanted


@pytest.fixture
def note(session: Session, make: Make, now: datetime) -> Note:
    def keep(user: User, text: str, at: datetime = now, part: str = "prompt") -> NearText:
        record = UsageRecord(
            request_id=f"req_n{next(NUMBERS)}", user_id=user.id, model_name="lab/one", action="infer", channel="page",
            outcome=Outcome.FINISHED, day=at.date().isoformat(), started_at=at, finished_at=at,
        )  # fmt: skip
        session.add(record)
        session.flush()
        row = service.note(
            session, usage_record_id=record.id, user_id=user.id, part=part, text=plain(text), seed=SEED, at=at
        )
        assert row is not None
        return row

    return keep


def farm(chance: random.Random, texts: int) -> list[str]:
    """Articles from one template, of which one word in five varies."""
    template = text_of(chance)
    slots = set(chance.sample(range(len(template)), len(template) // 5))
    return [
        " ".join(chance.choice(WORDS) if at in slots else word for at, word in enumerate(template))
        for _ in range(texts)
    ]


@pytest.mark.threat("TM-01")
def test_the_articles_of_a_farm_find_their_siblings(session: Session, make: Make, note: Note) -> None:
    user, chance = make.person(), random.Random(3)
    for text in farm(chance, 60):
        last = note(user, text)
    near = service.neighbors(session, row=last)
    assert near.own >= 20
    assert (near.others, near.people) == (0, 0)
    stranger = note(make.person(), " ".join(text_of(chance)))
    assert service.neighbors(session, row=stranger) == service.Near(by_chance=expected(61))


@pytest.mark.threat("TM-03")
def test_a_farm_over_many_accounts_is_counted(session: Session, make: Make, note: Note) -> None:
    texts = farm(random.Random(4), 70)
    people = [make.person() for _ in range(10)]
    for number, text in enumerate(texts):
        last = note(people[number % 10], text)
    near = service.neighbors(session, row=last)
    assert near.own <= 6
    assert near.others >= 20
    assert near.people >= 5


def test_what_is_older_than_a_day_or_made_otherwise_is_not_counted(
    session: Session, make: Make, note: Note, now: datetime
) -> None:
    user, text = make.person(), " ".join(text_of(random.Random(8)))
    note(user, text, now - 25 * HOUR)
    other = note(user, text, now - HOUR)
    other.algorithm = "an older one"
    note(user, text, now - HOUR, part="output")
    assert service.neighbors(session, row=note(user, text)).own == 0
    assert service.neighbors(session, row=note(user, text)).own == 1


@pytest.mark.threat("TM-02")
def test_one_story_in_several_scripts_is_a_fan_whatever_its_languages_are(
    session: Session, make: Make, note: Note
) -> None:
    user = make.person()
    stories = [
        "On 14 March, 2500 voters at example.org were told a story",
        "Le 14 mars, 2500 électeurs sur example.org ont entendu",
        "في 14 مارس سمع 2500 ناخب على example.org قصة",
        "3月14日,example.org上的2500名选民听到了一个故事",
        "14 марта 2500 избирателей на example.org услышали",
        "Mweri wa 14 andũ 2500 example.org nĩmaiguire",
    ]
    fans = [service.fan_out(session, row=note(user, story)) for story in stories]
    assert fans == [1, 1, 2, 3, 4, 4]
    assert service.fan_out(session, row=note(make.person(), stories[0])) == 1


def test_signatures_go_after_two_days_with_their_bands(session: Session, make: Make, note: Note, now: datetime) -> None:
    user, text = make.person(), " ".join(text_of(random.Random(9)))
    note(user, text, now - timedelta(days=3))
    kept = note(user, text)
    assert service.forget(session, now=now) == 1
    assert session.scalars(sa.select(NearText.id)).all() == [kept.id]
    assert set(session.scalars(sa.select(NearBand.near_text_id))) == {kept.id}
