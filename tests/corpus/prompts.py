"""Prompts as people write them, no two alike, and those of a campaign of false news."""

import inspect
import random
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

HERE = Path(__file__).parent
LAWS = HERE.parent / "bench" / "lookout_texts.toml"
LIBRARY = (textwrap, inspect, random)
LEVELS = (0.0, 0.05, 0.10, 0.20, 0.30, 0.50)


@cache
def _told() -> dict[str, Any]:
    return tomllib.loads((HERE / "prompts.toml").read_text(encoding="utf-8"))


@cache
def _sources() -> dict[str, list[str]]:
    """The lists that stand for words in braces."""
    functions = [one for module in LIBRARY for _, one in inspect.getmembers(module, inspect.isfunction)]
    code = [inspect.getsource(one)[:1_500] for one in functions if one.__module__ in {m.__name__ for m in LIBRARY}]
    law = list(tomllib.loads(LAWS.read_text(encoding="utf-8")).values())
    return {**_told()["words"], "code": code, "law": law}


def fill(template: str, chance: random.Random) -> str:
    """Choose the words in braces."""
    made = []
    for words, name, _, _ in Formatter().parse(template):
        made.append(words)
        if name is not None:
            made.append(str(chance.randrange(20, 5_000)) if name == "number" else chance.choice(_sources()[name]))
    return "".join(made)


def benign(count: int, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Yield so many prompts of people who mean no harm, each with its kind, no two alike."""
    chance, seen = random.Random(seed), set[str]()
    kinds = list(_told()["benign"].items())
    while len(seen) < count:
        kind, templates = chance.choice(kinds)
        prompt = fill(chance.choice(templates), chance)
        if prompt not in seen:
            seen.add(prompt)
            yield kind, prompt


def reworded(text: str, share: float, chance: random.Random) -> str:
    """Replace a share of the words of a text by words from elsewhere; of one without spaces, of its letters."""
    glue = " " if " " in text else ""
    words = text.split(" ") if glue else list(text)
    others = " ".join(_sources()["law"]).split(" ") if glue else list(_sources()["law"][7])
    return glue.join(chance.choice(others) if chance.random() < share else word for word in words)


def campaign(count: int, seed: int = 2) -> Iterator[tuple[str, str]]:
    """Yield so many prompts of a campaign, each with its language: every language, every share of words replaced."""
    chance = random.Random(seed)
    languages = list(_told()["campaign"].items())
    for number in range(count):
        language, templates = languages[number % len(languages)]
        level = LEVELS[number // len(languages) % len(LEVELS)]
        yield language, reworded(fill(chance.choice(templates), chance), level, chance)


def articles(count: int, seed: int = 3) -> Iterator[str]:
    """Yield so many news articles from one mold, of which one word in five or so varies."""
    chance = random.Random(seed)
    mold = " ".join(_told()["mold"])
    for _ in range(count):
        yield fill(mold, chance)
