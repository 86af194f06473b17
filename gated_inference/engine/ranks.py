"""The processes that share one model: the first starts the others, and all of them end together.

`torchrun --nproc-per-node N -m gated_inference.engine.server …` starts them as well; it then watches over them itself.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
from torch import distributed

from gated_inference.engine.model import config_of, is_tiny

# A file through which the ranks of one machine find each other, without a port that somebody else could take.
MEET = "ENGINE_MEET"
# Reading in a large model takes one rank longer than another.
LOADING = timedelta(hours=1)
# For so many seconds after a rank was lost, callers are told and the reason is looked for.
GRACE = 2.0


def rank() -> int:
    """Return this process's number among those that share the model."""
    return int(os.environ.get("RANK", "0"))


def begun() -> bool:
    """Say whether somebody else started all ranks, as `torchrun` does."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def led() -> bool:
    """Say whether the first rank started the others."""
    return MEET in os.environ


def parting(error: Exception) -> str | None:
    """Say what an error of the talk between ranks means, or nothing if it is of another kind."""
    text = str(error)
    if not (isinstance(error, distributed.DistError) or any(word in text for word in ("gloo", "monitoredBarrier"))):
        return None
    late = any(word in text for word in ("imed out", "imeout", "monitoredBarrier"))
    return "another rank does not answer" if late else "another rank is gone"


def said(error: Exception) -> str:
    """Say what went wrong, in one line."""
    return parting(error) or f"{type(error).__name__}: {error}"


def count(wanted: str, folder: Path) -> int:
    """Return how many processes share the model: as many as asked for, or with `auto` as many as there are GPUs.

    Raises:
        ValueError: the model cannot be shared so.
    """
    if begun():
        ranks = int(os.environ["WORLD_SIZE"])
    elif wanted == "auto":
        ranks = torch.cuda.device_count()
        if ranks <= 1 or is_tiny(config_of(folder)):
            return 1
        heads = int(config_of(folder).n_head)
        return max(number for number in range(1, ranks + 1) if heads % number == 0)
    else:
        ranks = int(wanted)
    if ranks == 1:
        return 1
    heads = int(config_of(folder).n_head)
    if heads % ranks:
        raise ValueError(f"The model's {heads} attention heads cannot be shared equally by {ranks} ranks")
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", ranks)), torch.cuda.device_count()
    if 0 < gpus < here:
        raise ValueError(f"{here} ranks need as many GPUs, and {gpus} can be seen; hide them all to use the CPU")
    return ranks


def meet() -> distributed.ProcessGroup:
    """Wait for the other ranks: over NCCL when each has its GPU, else over gloo. Return the group for plain talk."""
    place = f"file://{os.environ[MEET]}" if led() else "env://"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else None
    if device is not None:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "gloo" if device is None else "nccl", init_method=place, rank=rank(), world_size=int(os.environ["WORLD_SIZE"]),
        device_id=device, timeout=LOADING,
    )  # fmt: skip
    group: distributed.ProcessGroup = distributed.new_group(backend="gloo", timeout=LOADING)
    return group


def assemble(group: distributed.ProcessGroup, stuck: float) -> None:
    """Wait until every rank has read in its part; from then on one that is silent for so many seconds is stuck.

    Only after this does no rank need the place where they met. Connecting is not enough: each rank is connected when
    it has seen what the others left there, and the first one is done before the last one has looked.
    """
    distributed.monitored_barrier(group, timeout=LOADING)
    for each in (None, group):
        distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=stuck), each)  # noqa: SLF001  documented there


@dataclass
class Team:
    """The other ranks, as the first one that started them sees them.

    Args:
        lost: which of them ended before its time, and how.
    """

    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    folder: str = ""
    lost: str | None = None
    serving: bool = False
    closing: bool = False

    def start(self, command: list[str], ranks: int) -> None:
        """Start the other ranks, and become the first; they end when the pipe to their input does."""
        self.folder = tempfile.mkdtemp(prefix="engine-")
        os.environ |= {MEET: f"{self.folder}/meet", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(ranks)}
        # Nothing that the ranks say to each other needs to leave this machine.
        loopback = "lo" if sys.platform == "linux" else "lo0"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
        for number in range(1, ranks):
            own = {"RANK": str(number), "LOCAL_RANK": str(number)}
            child = subprocess.Popen(command, env=os.environ | own, stdin=subprocess.PIPE)  # noqa: S603  our own program
            self.children.append(child)
            threading.Thread(target=self.tend, args=(number, child), daemon=True).start()

    def tend(self, number: int, child: subprocess.Popen[bytes]) -> None:
        """Wait for a rank's end; the others are of no use without it."""
        code = child.wait()
        if self.closing or self.lost:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.lost = f"rank {number} ended ({how}), stopping"
        if self.serving:
            time.sleep(GRACE)  # meanwhile callers are told
        else:
            print(f"engine: {self.lost}", file=sys.stderr, flush=True)
        self.close()
        os._exit(1)  # the thread that owns the model may hang for ever, waiting for the lost rank

    def ready(self) -> None:
        """Note that all ranks work: nobody needs the place where they met, and callers may come."""
        self.serving = True
        self.forget()

    def forget(self) -> None:
        """Remove the file through which the ranks met."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """End the other ranks."""
        self.closing = True
        for child in self.children:
            if child.stdin is not None:
                child.stdin.close()
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and any(child.poll() is None for child in self.children):
            time.sleep(0.01)
        for child in self.children:
            child.kill()
        self.forget()


def end_with_the_first() -> None:
    """End this rank as soon as the first one ends, whatever the reason: its pipe to our input closes then."""

    def listen() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        os._exit(0)

    if led():
        threading.Thread(target=listen, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):  # sent to all; the first one decides when to stop
        signal.signal(number, signal.SIG_IGN)


def give_up(error: Exception) -> NoReturn:
    """End this rank because of an error, and with it all others, also a first one that has got stuck."""
    if led() and parting(error):
        time.sleep(2 * GRACE)  # a first rank that works says which one it lost, and ends this one meanwhile
    print(f"engine: rank {rank()}: {said(error)}", file=sys.stderr, flush=True)
    if led() and parting(error):
        os.kill(os.getppid(), signal.SIGKILL)
    os._exit(1)
