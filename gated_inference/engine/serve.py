"""Runs the engine as a process: loads, listens, stops within two seconds, and never outlives its parent."""

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from gated_inference.engine import ranks, tensor_parallel
from gated_inference.engine.batcher import PREFILL, REST, Batcher, Failure, Job, Piece
from gated_inference.engine.bodies import Limits
from gated_inference.engine.model import load
from gated_inference.engine.sampling import Sampling
from gated_inference.engine.server import Engine
from gated_inference.engine.text import Vocabulary

MAX_RANKS = 64
SHORTEST_PATIENCE = 2 * REST


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m gated_inference.engine.server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with a BLOOM model")
    parser.add_argument("--name", required=True, help="name under which callers ask for it")
    parser.add_argument("--uds", type=Path, help="Unix socket to listen on")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="TCP port to listen on, without --uds")
    parser.add_argument("--parent-pid", type=int, help="end when this process does")
    parser.add_argument("--slots", type=int, default=8, help="answers written at once")
    parser.add_argument("--queue", type=int, default=32, help="prompts that may wait")
    parser.add_argument("--max-wait", type=float, default=60.0, help="seconds that a prompt may wait")
    parser.add_argument("--max-context", type=int, default=2048, help="tokens of prompt and answer together")
    parser.add_argument("--threads", type=int, help="cores to use; by default one for tiny models, else all")
    parser.add_argument("--ranks", default="1", help="processes that share the model; auto: one for each GPU")
    parser.add_argument("--stuck-after", type=float, default=60.0, help="seconds that one rank waits for another")
    args = parser.parse_args(arguments)
    if (args.uds is None) == (args.port is None):
        parser.error("one of --uds and --port is needed")
    if args.slots < 1 or args.queue < 0 or args.max_context < 2:  # noqa: PLR2004  one token each way
        parser.error("--slots must be at least 1, --queue 0, --max-context 2")
    if not args.stuck_after >= SHORTEST_PATIENCE:
        parser.error(f"--stuck-after must be at least {SHORTEST_PATIENCE:g}")
    if args.ranks != "auto" and not (
        args.ranks.isascii() and args.ranks.isdigit() and 0 < int(args.ranks) <= MAX_RANKS
    ):
        parser.error(f"--ranks must be auto, or a number from 1 to {MAX_RANKS}")
    return args


def listen(args: argparse.Namespace) -> socket.socket:
    """Return the listening socket; a Unix socket is open to its owner only."""
    if args.uds is None:
        return socket.create_server((args.host, args.port), backlog=256)
    args.uds.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(args.uds))
    finally:
        os.umask(before)
    listener.listen(256)
    return listener


def build(args: argparse.Namespace, count: int) -> Engine:
    """Load the model, with the other ranks if there are any, and put the batcher and the interface around it."""
    lead = None
    if count > 1:
        model, channel = shared(args, count)
        lead = tensor_parallel.Lead(model, channel)
    else:
        model = load(args.model, threads=args.threads)
    vocabulary = Vocabulary(args.model)
    batcher = Batcher(model, vocabulary, slots=args.slots, queue=args.queue, max_wait=args.max_wait, lead=lead)
    batcher.start()
    limits = Limits(args.name, args.max_context, int(model.config.vocab_size), args.slots)
    return Engine(batcher, vocabulary, limits)


def longest_plan(slots: int) -> int:
    """Return how many numbers one step may concern: tokens of a piece of a prompt, rows, or caches put together."""
    return max(PREFILL, slots + 1)


def shared(args: argparse.Namespace, count: int) -> tuple[Any, tensor_parallel.Channel]:
    """Meet the other ranks, read in this one's part of the model, and return it with the way to talk about it."""
    group = ranks.meet()
    model = load(args.model, threads=args.threads, ranks=count)
    ranks.assemble(group, args.stuck_after)
    return model, tensor_parallel.Channel(group, longest_plan(args.slots), args.stuck_after)


def follow(args: argparse.Namespace, count: int) -> None:
    """Be one of the other ranks, until the first one ends."""
    ranks.end_with_the_first()
    try:
        tensor_parallel.follow(*shared(args, count))
    except Exception as error:  # noqa: BLE001  whatever it is, the first rank has to see this one end
        ranks.give_up(error)


async def warm(engine: Engine) -> None:
    """Write one answer, so that the first caller does not wait for what torch sets up on first use."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def deliver(pieces: list[Piece] | Failure) -> None:
        if isinstance(pieces, Failure) or any(piece.finish for piece in pieces):
            loop.call_soon_threadsafe(done.set)

    job = Job([1], 4, deliver, Sampling(temperature=1.0, top_p=0.9, seed=0), ignore_eos=True)
    engine.batcher.submit([job])
    await done.wait()


def orphaned(parent: int) -> bool:
    """Say whether a process is gone, also when nobody has buried it yet."""
    if os.getppid() == parent:
        return False
    try:
        os.kill(parent, 0)
        state = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except ProcessLookupError:
        return True
    except OSError:  # another user's process, or a system without /proc
        return False
    return state.split()[0] == "Z"


async def trouble(engine: Engine, team: ranks.Team) -> str | None:
    """Return why the engine cannot go on, if so; a lost rank explains the errors that it causes."""
    if engine.batcher.failed is None:
        return team.lost
    for _ in range(10):
        if team.lost or not team.children:
            break
        await asyncio.sleep(0.1)
    return team.lost or engine.batcher.failed


async def watch(server: uvicorn.Server, engine: Engine, parent: int | None, team: ranks.Team) -> None:
    """End the server when its parent ended or the model failed; when it ends, end the answers that still run."""
    while not server.should_exit:
        if parent is not None and orphaned(parent):
            print(f"engine: process {parent} is gone, stopping", file=sys.stderr)
            server.should_exit = True
        elif reason := await trouble(engine, team):
            print(f"engine: {reason}", file=sys.stderr, flush=True)
            server.should_exit = True
        await asyncio.sleep(0.1)
    engine.batcher.close(0)


async def run(engine: Engine, listener: socket.socket, parent: int | None, team: ranks.Team) -> None:
    """Serve until told to stop."""
    config = uvicorn.Config(
        engine, lifespan="off", log_level="warning", access_log=False, server_header=False, ws="none",
        timeout_graceful_shutdown=1, timeout_keep_alive=75,
    )  # fmt: skip
    server = uvicorn.Server(config)
    await warm(engine)
    team.ready()
    watching = asyncio.create_task(watch(server, engine, parent, team))
    print("engine: ready", flush=True)
    await server.serve(sockets=[listener])
    await watching


def stop_quietly(*_: Any) -> None:
    """Take a signal that the server has already acted on; it raises each one again when it is done."""


def main(arguments: list[str] | None = None) -> None:
    """Load the model and serve it; or be one of the ranks that the first one leads."""
    given = sys.argv[1:] if arguments is None else arguments
    args, team = parse(given), ranks.Team()
    if ranks.begun() and args.parent_pid is None:
        args.parent_pid = os.getppid()  # whoever started the ranks is the only one who knows all of them
    try:
        count = ranks.count(args.ranks, args.model)
        if count > 1 and ranks.rank() > 0:
            follow(args, count)
        if count > 1 and not ranks.begun():
            team.start([sys.executable, "-m", "gated_inference.engine.server", *given], count)
        engine = build(args, count)
        listener = listen(args)
    except (OSError, ValueError, RuntimeError) as error:
        if team.children and ranks.parting(error):
            time.sleep(ranks.GRACE)  # who watches the lost rank says so, and ends this process
        team.close()
        sys.exit(f"engine: {ranks.parting(error) or error}")
    # Until here a signal ends the process at once; from here on the server acts on it.
    signal.signal(signal.SIGTERM, stop_quietly)
    signal.signal(signal.SIGINT, stop_quietly)
    asyncio.run(run(engine, listener, args.parent_pid, team))
    failed = engine.batcher.failed or team.lost
    engine.batcher.close()
    if args.uds is not None:
        args.uds.unlink(missing_ok=True)
    team.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failed else 0)  # taking torch apart would cost a second, and nothing is left to save


if __name__ == "__main__":
    main()
