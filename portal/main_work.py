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
from portal.adapters.authority import open_authority
from portal.adapters.mail import MailFailed, make_mailer
from portal.adapters.mail_reports import Reports
from portal.adapters.outside import OutsideError
from portal.adapters.signing_key import holds, open_key
from portal.adapters.witnesses import SeenElse, Witness, WitnessError, open_witnesses
from portal.alarms import service as alarms
from portal.campaigns import service as campaigns
from portal.cases import service as cases
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import make_engine, transaction
from portal.core.errors import PortalError
from portal.deliveries import service as deliveries
from portal.edge.health import beat
from portal.edge.journal import Batch, JournalReader, Record, Run
from portal.files import service as files
from portal.interims import service as interims
from portal.licensing import service as licensing
from portal.main_look import Looking
from portal.main_public import Public
from portal.migrations.tables import load_tables
from portal.notices import service as notices
from portal.notices.rules import Rung
from portal.previews import service as previews
from portal.proofs import service as proofs
from portal.proofs.rules import digest, origin_of
from portal.receipts import service as receipts
from portal.reminders import service as reminders
from portal.reviews import service as reviews
from portal.rulebook import service as rulebook
from portal.sanctions import service as sanctions
from portal.storage.service import Store
from portal.tokens import service as tokens
from portal.uploads import service as uploads
from portal.uploads.service import Receiver
from portal.usage import service as usage
from portal.usage.rules import Line, day_of
from portal.witnesses import service as witnesses
from portal.witnesses.rules import read_word

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
        load_tables()  # a row may refer to a table that no job asks
        self.settings = settings
        self.engine = engine
        self.reader = JournalReader(settings.folder("journal"))
        self.written: dict[str, int] = {}
        self.mailer = make_mailer(settings)
        self.reports = Reports(settings.mail_reports)
        self.receipts = settings.folder("receipts")
        self.sealer = pades.open_sealer(settings, now=utcnow())
        self.log_key = open_key(settings.home)
        self.witnesses = open_witnesses(settings)
        # Not the one that seals ask: a checkpoint that waits must not keep receipts waiting, nor the other way round.
        self.clockmaker = open_authority(settings)
        self.receiver = Receiver(Store(settings.folder("blobs")))
        self.looking = Looking(settings, engine)
        self.alive: Path = settings.folder("run") / "work.alive"
        public = Public(settings, engine)
        self.jobs = [
            Job("sign of life", self.touch, 2),
            Job("journal", self.replay, PAUSE),
            Job("mail", self.mail, 0.5),
            Job("mail reports", self.report, 5),
            Job("receipts", self.receipt, 0.5),
            Job("leaks", public.leaks, 0.5),
            Job("reports", public.reports, 2),
            Job("month", public.month, 60),
            Job("retention", public.retention, 60),
            Job("texts", self.looking.run, 0.2),
            Job("old measures", self.looking.forget, 600),
            Job("hits", self.hits, 1),
            Job("clock", self.clock, 5),
            Job("preview", self.preview, 1),
            Job("brake", self.looking.brake, 5),
            Job("backtest", self.looking.backtest, 1),
            Job("reminders", self.remind, 5),
            Job("log", self.log, 1),
            Job("witnesses", self.witness, 1),
            Job("day", self.day, 60),
            Job("uploads", self.sweep, 60),
            Job("unused files", self.collect, 3600),
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
                    self.looking.note(session, usage.record(session, record=record), record)
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

    def report(self) -> bool:
        """Record what mail servers report of messages: delivered, or come back."""
        waiting = self.reports.waiting(limit=100)
        for path in waiting:
            report = self.reports.read(path)
            if report is not None:
                rung = Rung.DELIVERED if report.delivered else Rung.BOUNCED
                with transaction(self.engine) as session:
                    notices.record_report(session, ref=report.ref, rung=rung, now=utcnow())
            self.reports.done(path)
        return bool(waiting)

    def receipt(self) -> bool:
        """Make receipts of signatures; they are drawn and sealed outside the transactions, and each only once."""
        with transaction(self.engine, write=False) as session:
            orders = receipts.pending(session, limit=5, timestamps=self.sealer.asks)
            daily = witnesses.in_short(session) if orders else None
        for order in orders:
            drawn = pdf.receipt(
                order.evidence, seal=self.sealer.seal, base_url=self.settings.base_url, daily=daily, **order.values
            )
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

    def hits(self) -> bool:
        """Make cases of the hits of detection rules, and do what a rule may do until a person has looked."""
        with transaction(self.engine) as session:
            return alarms.take_hits(session, base_url=self.settings.base_url, now=utcnow())

    def clock(self) -> bool:
        """Record what the clock has changed; who may do what never waits for this."""
        with transaction(self.engine) as session:
            licensing.arrive(session, now=utcnow())
            sanctions.lapse(session, now=utcnow())
            interims.lapse(session, base_url=self.settings.base_url, now=utcnow())
            cases.close_settled(session, now=utcnow())
            reviews.remind(session, now=utcnow(), base_url=self.settings.base_url)
            rulebook.remind(session, now=utcnow(), base_url=self.settings.base_url)
        return False

    def preview(self) -> bool:
        """Look at the next people for a preview; only what was found is written, so that nobody waits for a turn."""
        with transaction(self.engine, write=False) as session:
            found = previews.look(session)
        if found is None:
            return False
        with transaction(self.engine) as session:
            done = previews.keep(session, found=found, now=utcnow())
            if done is not None:
                campaigns.take_preview(session, preview=done, now=utcnow())
        return True

    def remind(self) -> bool:
        """Leave the next messages of campaigns."""
        with transaction(self.engine) as session:
            return reminders.remind(session, now=utcnow(), base_url=self.settings.base_url)

    def sweep(self) -> bool:
        """Let go of uploads that nobody finished, with what came of them."""
        now = utcnow()
        with transaction(self.engine) as session:
            over = uploads.sweep(session, now=now)
        for ref in over:
            self.receiver.parts(ref).forget()
        self.receiver.sweep(now.timestamp())
        return False

    def collect(self) -> bool:
        """Clear away stored files that nothing names, two days after they were last needed."""
        with transaction(self.engine, write=False) as session:
            files.collect(session, store=Store(self.settings.folder("blobs")), now=utcnow())
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

    def witness(self) -> bool:
        """Ask witnesses to vouch for the newest checkpoint; they are asked outside the transactions, each by itself."""
        for witness in self.witnesses:
            if witness.server.ready():
                try:
                    self._ask(witness)
                except (OutsideError, WitnessError, PortalError) as error:
                    witness.server.failed()
                    sys.stderr.write(
                        f"work: witness {witness.name}: {str(error)[:300]}; next try in {witness.server.pause:g} s\n"
                    )
                else:
                    witness.server.answered()
        return False

    def _ask(self, witness: Witness, seen: int | None = None) -> None:
        with transaction(self.engine, write=False) as session:
            order = witnesses.order(session, witness=witness.name, seen=seen)
        if order is None:
            return
        try:
            answer = witness.ask(order.body)
        except SeenElse as other:
            if seen is not None:
                raise
            self._ask(witness, seen=other.size)
            return
        word = read_word(answer, note=order.note, witness=witness, holds=holds, now=utcnow())
        with transaction(self.engine) as session:
            witnesses.store(session, witness=witness.name, size=order.size, word=word)

    def day(self) -> bool:
        """Seal the usage records of days that are over, and let a checkpoint stand for today."""
        now = utcnow()
        if not self.reader.read(1).records:
            with transaction(self.engine) as session:
                usage.seal_days(session, now=now)
        with transaction(self.engine) as session:
            made = witnesses.note_day(session, day=day_of(now), now=now)
            if made is not None and self.settings.log_mail:
                note = witnesses.note_of_day(session, row=made)
                subject, words = witnesses.letter(made, note=note, base_url=self.settings.base_url)
                notices.queue(
                    session, recipient_id=None, address=self.settings.log_mail, kind="daily_checkpoint",
                    subject_ref=f"daily_checkpoint:{made.day}", subject=subject, body=words, now=now,
                )  # fmt: skip
        return self._confirm_days()

    def _confirm_days(self) -> bool:
        """Have the authority confirm the time of checkpoints that stand for a day."""
        if self.clockmaker is None or not self.clockmaker.server.ready():
            return False
        with transaction(self.engine, write=False) as session:
            waiting = witnesses.untimed(session, limit=1)
        for daily in waiting:
            try:
                stamped = self.clockmaker.stamp(daily.note, now=utcnow())
            except Exception as error:  # noqa: BLE001 # whatever an outsider sends, the next try is due later
                self.clockmaker.server.failed()
                sys.stderr.write(f"work: timestamp of {daily.day}: {type(error).__name__}: {str(error)[:200]}\n")
                return False
            self.clockmaker.server.answered()
            with transaction(self.engine) as session:
                witnesses.store_time(session, day=daily.day, token=stamped.token)
        return bool(waiting)

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
        work.looking.listen()
        while not stop.is_set():
            if not work.turn(time.monotonic()):
                stop.wait(PAUSE)
    finally:
        work.looking.close()
        engine.dispose()
