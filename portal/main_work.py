"""Background work, composed: the list of jobs, each a short transaction, none of which stops the others."""

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from portal.adapters import pades, pdf
from portal.adapters.mail import MailFailed, make_mailer
from portal.adapters.signing_key import open_key
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.core.errors import PortalError
from portal.deliveries import service as deliveries
from portal.edge.health import beat
from portal.edge.journal import Batch, JournalReader, Record, Run
from portal.licensing import service as licensing
from portal.moderation import service as moderation
from portal.notices import service as notices
from portal.proofs import service as proofs
from portal.proofs.rules import digest, origin_of
from portal.receipts import service as receipts
from portal.tokens import service as tokens
from portal.usage import service as usage
from portal.usage.rules import Line

PAUSE = 0.05
BATCH = 500
POISON = (KeyError, TypeError, ValueError, PortalError, sa.exc.IntegrityError, sa.exc.DataError)
ERROR_PAUSE = 5.0
PARENT_CHECK = 2.0


@dataclass
class Job:
    """Something done again and again.

    Args:
        name: how the log calls it.
        run: does it once and says whether more is waiting.
        every: seconds between two runs when nothing waits.
    """

    name: str
    run: Callable[[], bool]
    every: float
    due: float = 0.0


class Work:
    """The jobs of one portal.

    Args:
        settings: where everything lies.
        engine: the database.
    """

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.settings = settings
        self.engine = engine
        self.reader = JournalReader(settings.folder("journal"))
        self.written: dict[str, int] = {}
        self.mailer = make_mailer(settings)
        self.receipts = settings.folder("receipts")
        self.sealer = pades.open_sealer(settings, now=utcnow())
        self.log_key = open_key(settings.home)
        self.alive: Path = settings.folder("run") / "work.alive"
        self.jobs = [
            Job("sign of life", self.touch, 2),
            Job("journal", self.replay, PAUSE),
            Job("mail", self.mail, 0.5),
            Job("receipts", self.receipt, 0.5),
            Job("clock", self.clock, 5),
            Job("log", self.log, 1),
        ]

    def touch(self) -> bool:
        """Leave the sign of life that `/readyz` looks for."""
        beat(self.alive)
        return False

    def replay(self) -> bool:
        """Bring records of the journal into the database, then let go of what is replayed."""
        batch = self.reader.read(BATCH)
        if batch.records or batch.ended_runs:
            try:
                self._enter(batch.records, batch.ended_runs)
            except POISON:
                self._enter_singly(batch)
        self.reader.done(batch)
        return batch.more

    def _enter(self, records: Sequence[Record], ended_runs: Sequence[Run] = ()) -> None:
        used: dict[int, str] = {}
        with transaction(self.engine) as session:
            for record in records:
                kind = record["kind"]
                if kind == "delivery_started":
                    deliveries.record_started(session, record=record)
                elif kind == "delivery_finished":
                    deliveries.record_finished(session, record=record)
                elif kind == Line.RUNNING:
                    self.written |= record["written"]
                else:
                    usage.record(session, record=record)
                    if kind == Line.FINISHED:
                        self.written.pop(record["id"], None)
                    if record["access_token_id"] is not None:
                        used[record["access_token_id"]] = record["at"]
            for run in ended_runs:
                usage.mark_crashed(session, run=run, now=utcnow(), written=self.written)
            for token_id, at in used.items():
                tokens.touch_used(session, token_id=token_id, at=datetime.fromisoformat(at))

    def _enter_singly(self, batch: Batch) -> None:
        """Enter what can be entered, and keep the rest aside: one bad record must not hold up all others."""
        for record in batch.records:
            try:
                self._enter([record])
            except POISON as error:
                self.reader.set_aside(record, error)
        self._enter([], batch.ended_runs)

    def mail(self) -> bool:
        """Send mail that is due; sending happens outside the transactions."""
        with transaction(self.engine) as session:
            claimed = notices.claim_due(session, now=utcnow())
        for outgoing in claimed:
            try:
                self.mailer.send(outgoing.address, outgoing.subject, outgoing.body, outgoing.message_id)
            except MailFailed as error:
                with transaction(self.engine) as session:
                    notices.mark_failed(
                        session, notice_id=outgoing.notice_id, error=str(error), now=utcnow(), permanent=error.permanent
                    )
            else:
                with transaction(self.engine) as session:
                    notices.mark_sent(session, notice_id=outgoing.notice_id, now=utcnow())
        return bool(claimed)

    def receipt(self) -> bool:
        """Make receipts of signatures; they are drawn and sealed outside the transactions, and each only once."""
        with transaction(self.engine, write=False) as session:
            orders = receipts.pending(session, limit=5, timestamps=self.sealer.asks)
        for order in orders:
            drawn = pdf.receipt(order.evidence, seal=self.sealer.seal, base_url=self.settings.base_url, **order.values)
            make = self.sealer.make if order.number == 1 else self.sealer.with_timestamp
            sealed = make(drawn, now=utcnow())
            if sealed is None:
                continue  # the timestamp authority is still away, and the receipt without its word is there already
            name = digest(sealed.body)
            draft = self.receipts / f".{name}"
            draft.write_bytes(sealed.body)
            draft.replace(self.receipts / f"{name}.pdf")
            waits = sealed.timestamp is None and self.sealer.authority is not None
            with transaction(self.engine) as session:
                receipts.store(
                    session, order=order, pdf_sha256=name, timestamped_at=sealed.timestamp, pending=waits, now=utcnow()
                )
        return bool(orders)

    def clock(self) -> bool:
        """Record what the clock has changed; who may do what never waits for this."""
        with transaction(self.engine) as session:
            licensing.arrive(session, now=utcnow())
            moderation.lapse(session, now=utcnow())
        return False

    def log(self) -> bool:
        """Give new events their places in the public log, sign what it has become, and keep that outside as well."""
        kept, now = self.log_key.kept(), utcnow()
        with transaction(self.engine, write=False) as session:
            if not proofs.is_due(session, kept=kept, now=now):
                return False
        with transaction(self.engine) as session:
            origin = origin_of(self.settings.base_url)
            step = proofs.advance(session, key=self.log_key, origin=origin, kept=kept, now=now)
        if step.note is not None and step.note != kept:
            self.log_key.keep(step.note)
        return step.more

    def turn(self, now: float) -> bool:
        """Run every job that is due and say whether any has more to do."""
        more = False
        for job in self.jobs:
            if now < job.due:
                continue
            try:
                again = job.run()
                job.due = now if again else now + job.every
                more = more or again
            except Exception:  # noqa: BLE001
                # One broken row or a database that is away must not end all work; the error is in the log.
                sys.stderr.write(
                    f"work: {job.name} failed, trying again in {ERROR_PAUSE:g} s\n{traceback.format_exc()}"
                )
                job.due = now + ERROR_PAUSE
        return more


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    engine = make_engine(settings.database_url)
    work = Work(settings, engine)
    try:
        while not stop.is_set():
            if not work.turn(time.monotonic()):
                stop.wait(PAUSE)
    finally:
        engine.dispose()
