"""Processes are started again with growing pauses, and stopped in time."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from portal import supervisor as supervisor_module
from portal.edge.plane import PortInUse, bind
from portal.supervisor import FIRST_DELAY, LONGEST_DELAY, STABLE_AFTER, Process, Supervisor
from tests.running import free_port, wait_until

STAYS = [sys.executable, "-c", "import time; time.sleep(60)"]
FAILS = [sys.executable, "-c", "raise SystemExit(3)"]
STUBBORN = (  # it has gone deaf once its file lies there
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(60)"
)


def ended(process: Process) -> None:
    assert process.child is not None
    process.child.wait(20)


def test_a_process_that_ends_is_started_again_after_a_pause_that_grows() -> None:
    said: list[str] = []
    process, now = Process("engine", FAILS), 100.0
    pauses = []
    for _ in range(9):
        process.tend(now, said.append)
        ended(process)
        process.tend(now, said.append)
        assert process.child is None
        pauses.append(process.due - now)
        process.tend(process.due - 0.01, said.append)
        assert process.child is None, "it waits"
        now = process.due
    assert pauses == [0.5, 1, 2, 4, 8, 16, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]
    assert said[0] == "engine ended (exit code 3); starting it again in 0.5 s"


def test_after_a_long_run_the_pause_is_short_again() -> None:
    process = Process("web", FAILS, delay=16)
    process.tend(0, print)
    ended(process)
    said: list[str] = []
    process.tend(STABLE_AFTER + 1, said.append)
    assert process.due == STABLE_AFTER + 1 + FIRST_DELAY


def test_a_killed_process_is_named_with_its_signal() -> None:
    said: list[str] = []
    process = Process("work", STAYS)
    process.tend(0, said.append)
    assert process.child is not None
    process.child.kill()
    ended(process)
    process.tend(1, said.append)
    assert said == ["work ended (signal SIGKILL); starting it again in 0.5 s"]


def test_all_stop_also_one_that_does_not_want_to(tmp_path: Path) -> None:
    said: list[str] = []
    deaf = tmp_path / "deaf"
    engine = Process("engine", [sys.executable, "-c", STUBBORN, str(deaf)])
    processes = [Process("web", STAYS), engine, Process("idle", STAYS, due=1e12)]
    supervisor = Supervisor(processes, said.append)
    for process in processes:
        process.tend(0, said.append)
    wait_until(deaf.exists)
    supervisor.stop()
    assert all(p.child is None or p.child.poll() is not None for p in processes)
    assert said == ["engine did not stop in time; ending it"]


def test_a_signal_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[Any, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    supervisor = Supervisor([Process("web", STAYS)], print)
    turns: list[int] = []

    def on_turn() -> None:
        turns.append(1)
        handlers[signal.SIGINT](signal.SIGINT, None)

    supervisor.run(on_turn)
    assert turns == [1]
    assert supervisor.processes[0].child is not None
    assert supervisor.processes[0].child.poll() is not None


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, None])
def test_who_has_patience_ends_first_unless_somebody_presses_again(second: int | None) -> None:
    ends = "signal.signal(signal.SIGINT, lambda *_: sys.exit(0))"
    first = "signal.signal(signal.SIGTERM, lambda *_: {})".format("sys.exit(0)" if second is None else "None")
    code = f"import signal, sys, time; {ends}; {first}; print('on', flush=True); time.sleep(60)"
    edge = Process("edge", [sys.executable, "-c", code], patience=60)
    web = Process("web", STAYS)
    supervisor = Supervisor([edge, web], print)
    supervisor.told = signal.SIGTERM
    for process in supervisor.processes:
        process.child = subprocess.Popen(process.command, stdout=subprocess.PIPE)
    assert edge.child is not None
    assert edge.child.stdout is not None
    assert edge.child.stdout.readline() == b"on\n"
    told: list[bool] = []
    wait = time.sleep

    def look(seconds: float) -> None:
        wait(seconds)
        if supervisor.told == signal.SIGTERM and edge.is_running:
            told.append(web.is_running)
        if second is not None and len(told) == 3:
            supervisor._on_signal(second, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor_module.time, "sleep", look)
        supervisor.stop()
    assert edge.child.returncode == 0
    assert not web.is_running
    assert all(told), "the others go on meanwhile"
    for process in supervisor.processes:
        process.child.stdout.close()  # type: ignore[union-attr]


def test_a_port_in_use_is_named_with_the_remedy() -> None:
    import socket

    port = free_port()
    bind("127.0.0.1", port).close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(PortInUse) as caught:
            bind("127.0.0.1", port)
    assert str(port) in str(caught.value)
    assert "PORTAL_PORT" in str(caught.value)
