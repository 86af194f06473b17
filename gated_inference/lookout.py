"""What is measured of a request on its way to an engine and of the answer, and what detection rules say to that."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from gated_inference.journal import Entry
from gated_inference.meter import Meter
from gated_inference.schemas import Ask, Refusal
from portal.access.edge import Admission
from portal.banks import service as banks
from portal.banks.rules import plain
from portal.banks.service import Found, Scanner
from portal.contents import service as contents
from portal.core.clock import utcnow
from portal.core.networks import network_of
from portal.detection import service as detection
from portal.detection.rules import REFUSING, RuleSet, Spent, Use
from portal.detection.rules import Found as Hit
from portal.edge.fresh import Found as Fact
from portal.edge.fresh import Fresh
from portal.edge.handover import Handover
from portal.edge.routes import Answer, Headers, Request
from portal.features import service as features
from portal.features.rules import Networks, Pace, Vector, inline_text

ROUTE = "completions"
WINDOW, OVERLAP = 256, 64
CODE = "detection_rule"
EYES = "banks and rules"
log = logging.getLogger("portal.lookout")


@dataclass(frozen=True, slots=True)
class Eyes:
    """Banks and rules as they are now, and which models keep texts; swapped as a whole."""

    banks: int
    scanner: Scanner
    rules: RuleSet
    reads_output: bool
    keeps: frozenset[int] = frozenset()


class Held(Refusal):
    """A request, or an answer, that a detection rule does not let pass.

    The answer is a problem document (RFC 9457) that clients of this protocol can read as well: it names the clause,
    a reference for whoever asks about it, and where to contest it.
    """

    def __init__(
        self, hit: Hit, *, model: str, license_number: str, ref: str, base_url: str, cut: bool = False
    ) -> None:  # fmt: skip
        clause = min(hit.rule.clauses)
        self.clause = f"{base_url}/licenses/{license_number}#{clause}"
        self.ref, self.appeal = ref, f"{base_url}/contact?about={ref}#refused"
        done, cost = ("Cut off", "What was written before counts.") if cut else ("Not answered", "It cost nothing.")
        message = (
            f"{done}: a detection rule found what the license forbids under {clause} ({self.clause}). "
            f"{hit.rule.reason} If this is wrong, {self.appeal} says to whom to write; the reference is {ref}. {cost}"
        )
        super().__init__(403, CODE, " ".join(message.split()), model=model, param="prompt")
        self.key = clause

    @property
    def body(self) -> dict[str, Any]:
        """What the answer says."""
        problem = {
            "type": "about:blank", "title": "Refused by a detection rule", "status": self.status,
            "detail": self.message, "clause": self.key, "clause_url": self.clause, "case": self.ref,
            "appeal": self.appeal,
        }  # fmt: skip
        return {**problem, **super().body}

    def answer(self, headers: Headers) -> Answer:
        """Return the answer, as a problem document."""
        made = super().answer(headers)
        fields = [("Content-Type", "application/problem+json"), *made.headers[1:]]
        return Answer(made.status, fields, made.body)


class Stopped(Exception):
    """An answer that may not go on; `refused` says why."""

    def __init__(self, refused: Held) -> None:
        super().__init__(refused.message)
        self.refused = refused


class Lookout:
    """Measures each request that was admitted, and asks the rules; cheap, and never waits.

    Args:
        fresh: reads banks and rules anew, beside the loop, once anything has changed; until then those of before hold.
        eyes: banks and rules at the start, see `open_eyes`.
        handover: takes texts to where they are looked at as a whole.
        key: of the digests by which equal prompts are counted.
        base_url: the address that people see.
    """

    def __init__(
        self, fresh: Fresh[Any], eyes: Eyes, *, key: bytes, base_url: str, handover: Handover | None = None
    ) -> None:  # fmt: skip
        self.fresh, self.key, self.base_url, self.handover = fresh, key, base_url, handover
        self.pace, self.networks, self.spent = Pace(), Networks(), Spent()
        self._eyes, self._loading = eyes, False

    @property
    def eyes(self) -> Eyes:
        """Banks and rules as last read."""
        if not self._loading and self.fresh.peek(EYES) is None:
            self._loading, before = True, self._eyes
            self.fresh.ask(EYES, lambda session: Fact(open_eyes(session, before)), self._take, self._failed)
        return self._eyes

    def look(self, request: Request, ask: Ask, admission: Admission, entry: Entry) -> Held | None:
        """Measure a request and note it in its entry; returns what refuses it, if a rule does."""
        eyes, at = self.eyes, utcnow()
        text = prompt_text(ask.fields["prompt"])
        seen = inline_text(text)
        clear = plain(seen)
        vector = features.counts(eyes.scanner, eyes.scanner.scan(seen, clear=clear))
        vector["chars"] = len(text)
        second, person, token = at.timestamp(), admission.actor.user_id, admission.actor.access_token_id
        digest = features.digest_of(clear, self.key)
        if person is not None:
            vector |= self.pace.see(person, ask.reserve, digest, second)
        network = network_of(request.address) if token is not None else ""
        if network and token is not None:
            vector |= self.networks.begin(token, network, second)
        entry.visit = Visit(self, text, token, network)
        said = entry.said
        said["features"], said["digest"], said["license"] = vector, digest, admission.license_number.partition("/")[0]
        said["model_id"], said["route"] = admission.model_id, ROUTE
        bits = eyes.rules.run(vector)
        return self._judge(eyes.rules, bits, admission, entry, at) if bits else None

    def meter(self, ask: Ask, admission: Admission, entry: Entry) -> Meter:
        """Return what counts an answer, and reads it where a rule asks about what engines write."""
        eyes = self._eyes
        if not (eyes.reads_output or admission.model_id in eyes.keeps):
            return Meter(ask.prompt_estimate)

        def judge(found: Found) -> None:
            vector: Vector = entry.said["features"]
            vector |= features.counts(eyes.scanner, found, "output_")
            held = self._judge(eyes.rules, eyes.rules.run_output(vector), admission, entry, utcnow(), cut=True)
            if held is not None:
                raise Stopped(held)

        reader = Reader(ask.prompt_estimate, eyes.scanner, judge)
        if isinstance(entry.visit, Visit):
            entry.visit.reader = reader
        return reader

    def _judge(
        self, rules: RuleSet, bits: int, admission: Admission, entry: Entry, at: datetime, *, cut: bool = False
    ) -> Held | None:
        use = Use(
            admission.actor.user_id, admission.model_id, entry.said["license"], ROUTE, at,
        )  # fmt: skip
        done: dict[str, str] = entry.said.setdefault("hits", {})
        held: Held | None = None
        for hit in rules.found(bits, use, acted=self.spent.since(at)):
            if str(hit.rule.id) in done:
                continue
            done[str(hit.rule.id)] = hit.applied.value
            self.spent.note(hit, at)
            if held is None and hit.applied in REFUSING:
                held = Held(
                    hit, model=admission.model_name, license_number=admission.license_number, ref=entry.said["id"],
                    base_url=self.base_url, cut=cut,
                )  # fmt: skip
        return held

    def _take(self, eyes: Eyes) -> None:
        self._loading, self._eyes = False, eyes

    def _failed(self, error: BaseException) -> None:
        self._loading = False
        log.error("reading banks and rules", exc_info=error)


class Visit:
    """A request that was measured, until it is over; then its text goes to where it is looked at as a whole."""

    __slots__ = ("_lookout", "_network", "_text", "_token", "reader")

    def __init__(self, lookout: Lookout, text: str, token: int | None, network: str) -> None:
        self._lookout, self._text, self._token, self._network = lookout, text, token, network
        self.reader: Reader | None = None

    def over(self, request_id: str) -> None:
        """It has ended, in whatever way."""
        lookout = self._lookout
        if self._network and self._token is not None:
            lookout.networks.end(self._token, self._network)
        if lookout.handover is not None:
            output = "" if self.reader is None else self.reader.text
            lookout.handover.give({"id": request_id, "prompt": self._text, "output": output})


class Reader(Meter):
    """Counts an answer, and looks at its text in windows that overlap, each choice by itself."""

    __slots__ = ("_found", "_judge", "_parts", "_scanner", "_texts")
    reads = True

    def __init__(self, prompt_estimate: int, scanner: Scanner, judge: Callable[[Found], None]) -> None:
        super().__init__(prompt_estimate)
        self._scanner, self._judge, self._found = scanner, judge, Found()
        self._texts: dict[int, tuple[str, str]] = {}
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """What the engine has written, as it came."""
        return "".join(self._parts)

    def see(self, value: dict[str, Any]) -> None:
        """Count a whole answer or one event of a stream; raises `Stopped` before it would be passed on."""
        super().see(value)
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            text, index = (choice.get("text"), choice.get("index")) if isinstance(choice, dict) else (None, None)
            if isinstance(text, str) and text:
                self._parts.append(text)
                before, new = self._texts.get(index if isinstance(index, int) else 0, ("", ""))
                self._texts[index if isinstance(index, int) else 0] = self._windows(before, new + text)

    def end(self) -> None:
        """Look at what has not filled a window."""
        for before, new in self._texts.values():
            if new:
                self._look(before + new)

    def _windows(self, before: str, new: str) -> tuple[str, str]:
        """Look at each window that is full, and return what the next one begins with, and what is new in it."""
        while len(before) + len(new) >= WINDOW:
            window = (before + new)[:WINDOW]
            new = new[WINDOW - len(before) :]
            before = window[-OVERLAP:]
            self._look(window)
        return before, new

    def _look(self, text: str) -> None:
        known = len(self._found.phrases) + len(self._found.patterns)
        self._scanner.scan(text, self._found)
        if len(self._found.phrases) + len(self._found.patterns) > known:
            self._judge(self._found)


def prompt_text(prompt: Any) -> str:
    """Return the words of a prompt; one of token numbers has none that can be read here."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(part for part in prompt if isinstance(part, str)) if isinstance(prompt, list) else ""


def open_eyes(session: Session, before: Eyes | None = None) -> Eyes:
    """Return banks and rules as they are now; what has not changed since `before` is not made anew."""
    version, rules_version = banks.version(session), detection.rule_set_version(session)
    scanner = before.scanner if before is not None and before.banks == version else Scanner(banks.load(session))
    if before is not None and before.rules.version == rules_version:
        rules = before.rules
    else:
        rules = detection.rule_set(session, now=utcnow())
        for run in (rules.run, rules.run_output):  # compiled here, beside the loop
            run({})
    return Eyes(version, scanner, rules, any(rule.stage == 1 for rule in rules.rules), contents.keeping(session))
