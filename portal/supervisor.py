"""Keeps the portal's processes running: restart with back-off, stop in order, one log."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

STABLE_AFTER = 30.0
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
STOP_WITHIN = 3.0
TURN = 0.25
PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Ask Linux to end a child whose supervisor was killed; elsewhere there is no such request."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Process:
    """One supervised process.

    Args:
        name: how the log calls it.
        command: what to run.
        patience: how long it may take to end when it is told to by SIGTERM, before any of the others is.
        nice: how much less than others it presses for the processor.
    """

    name: str
    command: Sequence[str]
    patience: float = 0.0
    nice: int = 0
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay: float = FIRST_DELAY
    due: float = field(default=0.0)

    def start(self, now: float) -> None:
        """Start the process in its own process group, so that Ctrl-C reaches the supervisor alone."""
        self.child = subprocess.Popen(  # noqa: S603
            self.command,
            start_new_session=True,
            preexec_fn=self._begin,  # noqa: PLW1509
            stdin=subprocess.DEVNULL,
        )
        self.started = now

    def _begin(self) -> None:
        _die_with_parent()
        os.nice(self.nice)

    @property
    def is_running(self) -> bool:
        """Say whether it has been started and has not ended."""
        return self.child is not None and self.child.poll() is None

    def tell(self, number: int) -> None:
        """Send it a signal."""
        if self.child is not None and self.is_running:
            self.child.send_signal(number)

    def tend(self, now: float, say: Callable[[str], None]) -> None:
        """Start the process if it is due, and note when it has ended."""
        if self.child is None:
            if now >= self.due:
                self.start(now)
            return
        code = self.child.poll()
        if code is None:
            return
        if now - self.started > STABLE_AFTER:
            self.delay = FIRST_DELAY
        say(f"{self.name} ended ({_how(code)}); starting it again in {self.delay:g} s")
        self.child, self.due = None, now + self.delay
        self.delay = min(self.delay * 2, LONGEST_DELAY)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Supervisor:
    """Runs processes until told to stop.

    Args:
        processes: in the order in which they start. At SIGTERM those with patience stop first, while the others still
            serve them; at SIGINT all at once.
        say: writes a line to the log.
    """

    def __init__(self, processes: Sequence[Process], say: Callable[[str], None]) -> None:
        self.processes = processes
        self.say = say
        self.told = 0  # the signal that said to stop; SIGINT, or a second one, means at once

    def run(self, on_turn: Callable[[], None]) -> None:
        """Keep the processes running until SIGINT or SIGTERM; calls `on_turn` about four times a second."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            while not self.told:
                for process in self.processes:
                    process.tend(time.monotonic(), self.say)
                on_turn()
                time.sleep(TURN)
        finally:
            self.stop()

    def _on_signal(self, number: int, _frame: object) -> None:
        self.told = signal.SIGINT if self.told else number

    def stop(self) -> None:
        """Ask every process to end, and end those that do not in time."""
        patient = [process for process in self.processes if process.patience]
        if self.told != signal.SIGINT:
            self._stop_patient(patient)
        for process in self.processes:
            process.tell(signal.SIGINT if process.patience else signal.SIGTERM)
        self._wait()

    def _stop_patient(self, processes: Sequence[Process]) -> None:
        """Let some end what they are at, until their time is over or somebody presses Ctrl-C."""
        began = time.monotonic()
        longest = max((process.patience for process in processes), default=0)
        for process in processes:
            process.tell(signal.SIGTERM)
        while any(p.is_running for p in processes) and time.monotonic() - began < longest:
            if self.told == signal.SIGINT:
                return
            time.sleep(0.05)

    def _wait(self) -> None:
        deadline = time.monotonic() + STOP_WITHIN
        for process in self.processes:
            if process.child is None:
                continue
            try:
                process.child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.say(f"{process.name} did not stop in time; ending it")
                _kill_group(process.child)
                process.child.wait(1)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        child.kill()
