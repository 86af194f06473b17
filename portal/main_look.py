"""The part of background work that looks at texts, composed: from memory to what was measured, and on to the rules."""

import logging
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.adapters.judge import Said, read_judges
from portal.adapters.language import language_of
from portal.adapters.month_keys import MonthKeys
from portal.backtests import service as backtests
from portal.banks import service as banks
from portal.banks.service import Scanner
from portal.clauses import service as clauses
from portal.contents import service as contents
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import transaction
from portal.detection import service as detection
from portal.detection.rules import RuleOutcome, RuleSet, Use
from portal.edge.handover import Taker
from portal.features import service as features
from portal.features.models import FeatureVector
from portal.features.rules import Vector
from portal.features.service import Tools
from portal.licensing import service as licensing
from portal.nearness import service as nearness
from portal.usage.models import UsageRecord

BATCH = 50
JUDGED = 5  # a judge may take two seconds over each
HELD_S = 900.0  # a text whose record has not come by then belongs to one that was never written
log = logging.getLogger("portal.look")


def _report(what: str) -> None:
    """Log where something went wrong, and as what; never its message, which may quote the text that is looked at."""
    kind, _, trace = sys.exc_info()
    last = traceback.extract_tb(trace)[-1] if trace is not None else None
    place = f"{Path(last.filename).name}:{last.lineno}" if last is not None else "?"
    log.error("%s: %s at %s", what, kind.__name__ if kind is not None else "?", place)


class Looking:
    """Looks at texts that the data plane hands over, each once its record is there.

    Args:
        settings: where texts come in, and under which secret they are compared.
        engine: the database.
    """

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.settings, self.engine = settings, engine
        self.taker: Taker | None = None
        self.texts: dict[str, tuple[float, Mapping[str, str]]] = {}
        self.seed = int.from_bytes(features.purpose_key(settings.pepper, "nearness")[:8], "big") >> 1
        self.keys = MonthKeys(settings.home / "keys" / "months", settings.pepper)
        self.judges = read_judges(Path(settings.judges)) if settings.judges else {}
        self._banks = -1
        self._tools: Tools | None = None
        self._rules: RuleSet | None = None

    def listen(self) -> None:
        """Take texts from now on."""
        self.taker = Taker(self.settings.text_socket)

    def note(self, session: Session, use: UsageRecord, line: Mapping[str, Any]) -> None:
        """Keep what a line of the journal says was measured of a use."""
        features.record(session, use=use, line=line)

    def run(self) -> bool:
        """Look at texts whose records are there, and give up those that never came; says whether more may wait."""
        for text in self.taker.take(10 * BATCH) if self.taker is not None else ():
            self.texts[str(text["id"])] = (time.monotonic(), text)
        try:
            done = self._look(list(self.texts)[: 10 * BATCH])
        except Exception:  # noqa: BLE001 - whatever it is, each is tried by itself
            _report("looking at texts; each is looked at by itself now")
            done = self._look_singly(list(self.texts)[:BATCH])
        for name in done:
            self.texts.pop(name, None)
        limit = time.monotonic() - HELD_S
        for name in [name for name, (came, _) in self.texts.items() if came < limit]:
            del self.texts[name]
        return len(done) >= BATCH

    def forget(self) -> bool:
        """Delete what was measured longer ago than it may be kept."""
        with transaction(self.engine) as session:
            features.forget(session, now=utcnow())
        with transaction(self.engine) as session:
            return nearness.forget(session, now=utcnow()) > 0

    def close(self) -> None:
        """Take no more texts."""
        if self.taker is not None:
            self.taker.close()

    def _look(self, names: list[str]) -> list[str]:
        now = utcnow()
        with transaction(self.engine, write=False) as session:
            batch = JUDGED if self.judges else BATCH
            there = features.waiting(session, request_ids=names) if names else {}
            self._to_the_back(names, there)
            found = dict(list(there.items())[:batch])
            wanted, policies = list(found), {name: self._policies(session, row) for name, row in found.items()}
            if not wanted and not self._gone(session, now):
                return []
        judged = {name: self._ask(self.texts[name][1], policies[name]) for name in wanted}
        with transaction(self.engine) as session:
            tools = self._ready(session)
            for name, row in features.waiting(session, request_ids=wanted).items():
                whole = features.look(
                    session, row=row, text=self.texts[name][1], now=now, tools=replace(tools, judged=judged[name])
                )
                self._judge(session, row, whole)
                self._keep(session, row, name, now)
            for row in self._gone(session, now):
                self._judge(session, row, features.lose(session, row=row, now=now))
        return wanted

    def _to_the_back(self, names: list[str], there: Mapping[str, FeatureVector]) -> None:
        """Let texts whose records are not there yet, or never will be, not hold up those that came after them."""
        for name in names:
            if name not in there and name in self.texts:
                self.texts[name] = self.texts.pop(name)

    def _gone(self, session: Session, now: datetime) -> list[FeatureVector]:
        """Return records whose texts should have come by now; one that is in hand only waits for its turn."""
        late = features.overdue(session, now=now, limit=BATCH)
        return [row for name, row in late.items() if name not in self.texts]

    def _policies(self, session: Session, row: FeatureVector) -> dict[str, str]:
        """Return the clauses that a judge is asked about, in the words that the person signed."""
        signature = licensing.promised(session, user_id=row.user_id) if self.judges and row.user_id else None
        if signature is None:
            return {}
        parts = clauses.parts_of(session, sha256=signature.rendition_sha256)
        return {part.key: f"{part.title}\n\n{part.body}" for part in parts if part.key in self.judges}

    def _ask(self, text: Mapping[str, str], policies: Mapping[str, str]) -> dict[str, int]:
        """Ask judges, outside any transaction; one that is silent is left out; nonsense counts as a breach."""
        whole = f"{text.get('prompt', '')}\n\n{text.get('output', '')}".strip()
        said = {clause: self.judges[clause].ask(text=whole, clause=words) for clause, words in policies.items()}
        return {clause: int(one.flags) for clause, one in said.items() if one is not Said.SILENT}

    def _keep(self, session: Session, row: FeatureVector, name: str, now: datetime) -> None:
        """Keep a text where its model does so and its person agreed; by default nobody's is."""
        text = self.texts[name][1]
        contents.keep(
            session, request_id=name, user_id=row.user_id, model_id=row.model_id, prompt=text.get("prompt", ""),
            answer=text.get("output", ""), now=now, keys=self.keys,
        )  # fmt: skip

    def _look_singly(self, names: Iterable[str]) -> list[str]:
        """Look at texts one by one; one at which nobody can look counts as one that never came."""
        done = []
        for name in names:
            try:
                done += self._look([name])
            except Exception:  # noqa: BLE001 - whatever it is, the others are looked at
                _report(f"looking at the text of {name}")
                done.append(name)
        return done

    def _judge(self, session: Session, row: FeatureVector, vector: Vector) -> None:
        if self._rules is None:
            return
        use = Use(row.user_id, row.model_id, row.license, row.route, row.at)
        applied = {int(rule): RuleOutcome(outcome) for rule, outcome in row.applied.items()}
        detection.record_hits(
            session, ruleset=self._rules, usage_record_id=row.usage_record_id, vector=vector, use=use, applied=applied,
            base_url=self.settings.base_url,
        )  # fmt: skip

    def _ready(self, session: Session) -> Tools:
        """Return what looking needs, with the banks and rules of now."""
        version = banks.version(session)
        if self._tools is None or version != self._banks:
            self._tools, self._banks = Tools(Scanner(banks.load(session)), self.seed, language_of), version
        if self._rules is None or self._rules.version != detection.rule_set_version(session):
            self._rules = detection.rule_set(session, now=utcnow())
        return self._tools

    def brake(self) -> bool:
        """Take detection rules out of force that act on too many people."""
        with transaction(self.engine) as session:
            detection.watch_reach(session, now=utcnow(), base_url=self.settings.base_url)
        return False

    def backtest(self) -> bool:
        """Try a rule on the next stretch of past use; only what was counted is written, as for a preview."""
        with transaction(self.engine, write=False) as session:
            part = backtests.look(session, now=utcnow())
        if part is None:
            return False
        with transaction(self.engine) as session:
            backtests.keep(session, part=part, now=utcnow())
        return True
