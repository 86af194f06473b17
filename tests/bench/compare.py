"""How long it takes to compare two real-size texts clause by clause, against difflib set to the same task."""

import random
import time
from difflib import SequenceMatcher
from statistics import median

from portal.clauses import rules
from portal.clauses.rules import Part
from portal.core.words import WORD
from tests.corpus.writing import edited, written

CLAUSES = 100
SIZE = 60_000
ROUNDS = 5


def measure() -> dict[str, float]:
    """Return the milliseconds for one language, and the ratio to difflib, which tries every pair of clauses."""
    before = written(random.Random(1), clauses=CLAUSES, size=SIZE)
    old, new = before.text(), edited(random.Random(2), before).sketch.text()
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        parts = rules.keyed(old), rules.keyed(new)
        rules.side_by_side(rules.compare(*parts))
        rules.suggest(*parts)
        took.append(time.perf_counter() - start)
    start = time.perf_counter()
    plainly(rules.keyed(old), rules.keyed(new))
    return {"compare_ms": median(took) * 1000, "compare_difflib_ratio": median(took) / (time.perf_counter() - start)}


def plainly(old: list[Part], new: list[Part]) -> None:
    """Compare each clause with itself and each that came with each that went, word by word, as difflib does it."""
    before, after = ({part.key: WORD.findall(part.body) for part in side} for side in (old, new))
    for key in before.keys() & after.keys():
        SequenceMatcher(None, before[key], after[key], autojunk=False).get_opcodes()
    for came in after.keys() - before.keys():
        for went in before.keys() - after.keys():
            SequenceMatcher(None, before[went], after[came], autojunk=False).ratio()


if __name__ == "__main__":
    print(measure())
