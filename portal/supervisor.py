"""Keeps the portal's processes running: restart with back-off, stop in order, one log."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

STABLE_AFTER = 30.0
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
STOP_WITHIN = 3.0
PR_SET_PDEATHSIG = 1


class PortInUse(Exception):
    """Another program listens where the portal should."""


def check_port(host: str, port: int) -> None:
    """Raise `PortInUse` when the portal could not listen."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"{host}:{port} cannot be used ({error.strerror}): "
                "stop the program that listens there, or set PORTAL_PORT"
            ) from None


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
    """

    name: str
    command: Sequence[str]
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay: float = FIRST_DELAY
    due: float = field(default=0.0)

    def start(self, now: float) -> None:
        """Start the process in its own process group, so that Ctrl-C reaches the supervisor alone."""
        self.child = subprocess.Popen(  # noqa: S603
            self.command,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
            stdin=subprocess.DEVNULL,
        )
        self.started = now

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
        processes: in the order in which they start; they stop in the same order, so that the ones that
            answer people stop before the ones that serve them.
        say: writes a line to the log.
    """

    def __init__(self, processes: Sequence[Process], say: Callable[[str], None]) -> None:
        self.processes = processes
        self.say = say
        self.stopping = False

    def run(self, on_turn: Callable[[], None]) -> None:
        """Keep the processes running until SIGINT or SIGTERM; calls `on_turn` about four times a second."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            while not self.stopping:
                for process in self.processes:
                    process.tend(time.monotonic(), self.say)
                on_turn()
                time.sleep(0.25)
        finally:
            self.stop()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def stop(self) -> None:
        """Ask every process to end, and end those that do not within three seconds."""
        for process in self.processes:
            if process.child is not None and process.child.poll() is None:
                process.child.terminate()
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
