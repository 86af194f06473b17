"""What is measured of one use of a model, so that detection rules can speak of it."""

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

Value = bool | float | int | str | frozenset[str]
Vector = dict[str, Value]
HEAD, TAIL = 1_000, 500
KEYS, SAME_KEYS = 200_000, 500_000
HABIT_DAYS = 3


class Kind(StrEnum):
    """What sort of value a feature has."""

    NUMBER = "number"
    FLAG = "flag"
    TEXT = "text"
    SET = "set"


class Phase(StrEnum):
    """When a feature is known: before an engine is asked, while it answers, or soon afterwards."""

    INLINE = "inline"
    OUTPUT = "output"
    ASYNC = "async"


class Look(StrEnum):
    """How far looking at a whole text has come; `LOST` is one that never reached those who look."""

    PENDING = "pending"
    DONE = "done"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that is measured.

    Args:
        name: as detection rules write it.
        says: what it means, in a sentence for those who write rules.
        default: its value where it was not measured; also says its type.
        may_refuse: a rule that refuses, or cuts an answer off, may rest on it.
        takes_bank: it is called with the name of a bank, ``phrases("news")``.
        takes_clause: it is called with the key of a clause, ``judge("restriction.malware")``.
        of_others: it counts what other people do, so that whatever a rule finds by it is about several.
    """

    name: str
    kind: Kind
    phase: Phase
    says: str
    default: Value = 0
    may_refuse: bool = False
    takes_bank: bool = False
    takes_clause: bool = False
    of_others: bool = False

    def key(self, argument: str | None = None) -> str:
        """Return under which key a vector holds it: the call as a rule writes it."""
        return self.name if argument is None else f'{self.name}("{argument}")'


def _inline(name: str, says: str, *, takes_bank: bool = False) -> Feature:
    return Feature(name, Kind.NUMBER, Phase.INLINE, says, may_refuse=True, takes_bank=takes_bank)


def _output(name: str, says: str) -> Feature:
    return Feature(name, Kind.NUMBER, Phase.OUTPUT, says, may_refuse=True, takes_bank=True)


def _later(name: str, says: str, *, takes_clause: bool = False, of_others: bool = False) -> Feature:
    return Feature(name, Kind.NUMBER, Phase.ASYNC, says, takes_clause=takes_clause, of_others=of_others)


_ALL = (
    _inline("phrases", "phrases of a bank in the prompt", takes_bank=True),
    _inline("patterns", "patterns of a bank that the prompt matches", takes_bank=True),
    _inline("intent_bulk", "ways in which the prompt asks for many texts at once"),
    _inline("intent_persona", "ways in which it asks to write as several, or as somebody else"),
    _inline("intent_advice", "ways in which it asks for professional advice about one's own case"),
    _inline("inject", "ways in which it addresses whoever checks it, or fakes the turns of a dialog"),
    _inline("disguised", "phrases found only once look-alike, base64, rot13 or digits for letters were undone"),
    _inline("chars", "characters of the prompt"),
    _inline("vel_req_1m", "requests of the person in a minute, this one included"),
    _inline("vel_req_1h", "requests of the person in an hour"),
    _inline("vel_req_24h", "requests of the person in a day"),
    _inline("vel_tokens_24h", "text tokens that the person asked for in a day"),
    _inline("vel_ratio_28d", "requests of the person today, by their own daily mean over 28 days"),
    _inline("token_prefixes", "networks from which the access token is in use at this moment"),
    _inline("token_prefixes_1h", "networks from which the access token was used in an hour"),
    _inline("dup_exact_1h", "prompts in an hour, by anybody, that are equal once normalized; this one not included"),
    _output("output_phrases", "phrases of a bank in what the engine has written"),
    _output("output_patterns", "patterns of a bank that what the engine has written matches"),
    _later("near_24h", "other texts of a day, of the same person, that are nearly the same"),
    _later("near_accounts_24h", "other people with texts of a day that are nearly the same", of_others=True),
    _later("near_others_24h", "texts of a day, of other people, that are nearly the same", of_others=True),
    _later("near_expected_24h", "texts that would be nearly the same by chance, by the number of texts of the day"),
    _later("fanout_24h", "scripts in which the person wrote about the same numbers, names and addresses in a day"),
    _later("distinct_72h", "different prompts of the person in three days"),
    _later("secrets", "keys and passwords in the text"),
    _later("personal_data", "card numbers, accounts, addresses and numbers of people in the text"),
    Feature("lang", Kind.TEXT, Phase.ASYNC, "a hint at the language, or nothing; no rule may need it", default=""),
    Feature("scripts", Kind.SET, Phase.ASYNC, "the scripts that the text is written in", default=frozenset()),
    Feature("scanned", Kind.FLAG, Phase.ASYNC, "the whole text was looked at", default=False),
    _later("judge", "what an outside judge says of a clause: 1 it breaks it, 0 not", takes_clause=True),
)
FEATURES: dict[str, Feature] = {feature.name: feature for feature in _ALL}


def value(vector: Mapping[str, Value], name: str, argument: str | None = None) -> Value:
    """Return a feature of a vector, or what stands for it where it was not measured."""
    feature = FEATURES[name]
    return vector.get(feature.key(argument), feature.default)


class Window:
    """Counts by key over a span of time that moves on, in slots; cheap, bounded, and forgetful beyond its span.

    Args:
        slots: into how many parts the span is divided.
        seconds: how long each of them is.
        keys: how many keys it holds at most; beyond that the oldest slots are forgotten early.
    """

    __slots__ = ("_keys", "_now", "_parts", "_seconds", "_slots", "_totals")

    def __init__(self, slots: int, seconds: float, keys: int = KEYS) -> None:
        self._slots, self._seconds, self._keys = slots, seconds, keys
        self._totals: dict[Hashable, int] = {}
        self._parts: deque[tuple[int, dict[Hashable, int]]] = deque()
        self._now = -1

    def add(self, key: Hashable, count: int, at: float) -> int:
        """Count at a moment, and return the total of the span that ends there."""
        slot = int(at // self._seconds)
        if slot != self._now or not self._parts:
            self._turn(slot)
        totals, part = self._totals, self._parts[-1][1]
        total = totals[key] = totals.get(key, 0) + count
        part[key] = part.get(key, 0) + count
        if len(totals) > self._keys and len(self._parts) > 1:
            self._forget()
        return total

    def total(self, key: Hashable, at: float) -> int:
        """Return the total of the span that ends at a moment."""
        slot = int(at // self._seconds)
        if slot > self._now:
            self._turn(slot)
        return self._totals.get(key, 0)

    def newest(self, key: Hashable) -> int:
        """Return what the newest slot counted."""
        return self._parts[-1][1].get(key, 0) if self._parts else 0

    def _turn(self, slot: int) -> None:
        if slot <= self._now and self._parts:
            return  # the clock went back: what is counted now counts with the newest slot
        self._now = slot
        while self._parts and self._parts[0][0] <= slot - self._slots:
            self._forget()
        self._parts.append((slot, {}))

    def _forget(self) -> None:
        for key, count in self._parts.popleft()[1].items():
            left = self._totals[key] - count
            if left > 0:
                self._totals[key] = left
            else:
                del self._totals[key]


class Pace:
    """How much each person asks for, and how often the same is asked, at this moment and by their own habit."""

    def __init__(self) -> None:
        self._minute, self._hour = Window(60, 1), Window(60, 60)
        self._day, self._tokens = Window(96, 900), Window(96, 900)
        self._days, self._active = Window(29, 86_400), Window(29, 86_400)
        self._same = Window(60, 60, SAME_KEYS)

    def load_uses(self, uses: Iterable[tuple[int, float, int]]) -> None:
        """Take uses of the last day as they are recorded: person, second, text tokens; oldest first."""
        for person, at, tokens in uses:
            for window in (self._minute, self._hour, self._day):
                window.add(person, 1, at)
            self._tokens.add(person, tokens, at)

    def load_days(self, days: Iterable[tuple[int, float, int]]) -> None:
        """Take days as they are recorded: person, a second of the day, requests; oldest first."""
        for person, at, requests in days:
            self._days.add(person, requests, at)
            self._active.add(person, 1, at)

    def load_texts(self, texts: Iterable[tuple[str, float]]) -> None:
        """Take digests of prompts of the last hour, oldest first."""
        for digest, at in texts:
            self._same.add(digest, 1, at)

    def see(self, person: int, tokens: int, digest: str, at: float) -> Vector:
        """Count a request, and say how it stands to the others."""
        today = self._days.add(person, 1, at)
        so_far = self._days.newest(person)
        if so_far == 1:
            self._active.add(person, 1, at)
        active = self._active.total(person, at) - 1
        before = today - so_far
        vector: Vector = {
            "vel_req_1m": self._minute.add(person, 1, at), "vel_req_1h": self._hour.add(person, 1, at),
            "vel_req_24h": self._day.add(person, 1, at), "vel_tokens_24h": self._tokens.add(person, tokens, at),
        }  # fmt: skip
        if active >= HABIT_DAYS:  # before that nobody has a habit to be measured by
            vector["vel_ratio_28d"] = round(so_far * active / before, 2)
        if (same := self._same.add(digest, 1, at) - 1) > 0:
            vector["dup_exact_1h"] = same
        return vector


class Networks:
    """From which networks each access token is in use, now and within an hour."""

    def __init__(self) -> None:
        self._now: dict[int, dict[str, int]] = {}
        self._hour = Window(60, 60)
        self._seen = Window(60, 60)

    def begin(self, token: int, network: str, at: float) -> Vector:
        """A request begins."""
        now = self._now.setdefault(token, {})
        now[network] = now.get(network, 0) + 1
        if self._seen.add((token, network), 1, at) == 1:
            self._hour.add(token, 1, at)
        return {"token_prefixes": len(now), "token_prefixes_1h": max(self._hour.total(token, at), len(now))}

    def end(self, token: int, network: str) -> None:
        """It is over."""
        now = self._now.get(token, {})
        now[network] = now.get(network, 0) - 1
        if now[network] <= 0:
            del now[network]
            if not now:
                self._now.pop(token, None)


def inline_text(text: str) -> str:
    """Return the part of a prompt that is looked at before an engine is asked: its beginning and its end."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} \n {text[-TAIL:]}"
