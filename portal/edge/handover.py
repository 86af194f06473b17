"""Texts on their way from the data plane to those who look at them as a whole: in memory only, never on a disk.

What is lost on the way, as nobody listens or too much is waiting, is lost; its record says that nobody looked.
"""

import asyncio
import logging
import os
import selectors
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

FRAME = struct.Struct("<I")
PAUSE_S, AGAIN_S = 0.05, 1.0
WAITING_MAX = 32 << 20
CHUNK = 1 << 18
Text = dict[str, Any]
log = logging.getLogger("portal.handover")


class Handover:
    """The giving end, on the loop: many texts in one write, and none of them waits for anybody.

    Args:
        path: the socket of the taking end.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._waiting: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._dials = False
        self.lost = 0

    def give(self, text: Text) -> None:
        """Hand over a text, in the next moments."""
        data = orjson.dumps(text)
        if self._size + len(data) > WAITING_MAX:
            self.lost += 1
            return
        self._waiting += (FRAME.pack(len(data)), data)
        self._size += len(data)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE_S, self._flush)

    def close(self) -> None:
        """Let go of the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        self._timer = None
        transport = self._transport
        if transport is None or transport.is_closing():
            if not self._dials:
                self._dials = True
                self._task = asyncio.ensure_future(self._dial())
            return
        if transport.get_write_buffer_size() > WAITING_MAX:
            self.lost += len(self._waiting) // 2
        else:
            transport.writelines(self._waiting)
        self._waiting, self._size = [], 0

    async def _dial(self) -> None:
        try:
            self._transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, self._path)
        except OSError:
            self.lost += len(self._waiting) // 2
            self._waiting, self._size = [], 0
            await asyncio.sleep(AGAIN_S)
        finally:
            self._dials = False
        if self._waiting:
            self._flush()


class Taker:
    """The taking end, in a thread of its own; what is not fetched in time makes room for what comes later.

    Args:
        path: where it listens.
    """

    def __init__(self, path: Path) -> None:
        self._texts: deque[tuple[int, Text]] = deque()
        self._size = 0
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._path = path
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        path.chmod(0o600)
        self._server.listen(8)
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, name="texts", daemon=True)
        self._thread.start()

    def take(self, most: int) -> list[Text]:
        """Return texts that have come, oldest first."""
        with self._lock:
            taken = [self._texts.popleft() for _ in range(min(most, len(self._texts)))]
            self._size -= sum(size for size, _ in taken)
        return [text for _, text in taken]

    def close(self) -> None:
        """Listen no more."""
        os.close(self._wake)
        self._thread.join()
        os.close(self._stop)
        self._server.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        with selectors.DefaultSelector() as chooser:
            chooser.register(self._stop, selectors.EVENT_READ)
            chooser.register(self._server, selectors.EVENT_READ)
            while True:
                for key, _ in chooser.select():
                    if key.fd == self._stop:
                        for other in list(chooser.get_map().values()):
                            if isinstance(other.fileobj, socket.socket) and other.fileobj is not self._server:
                                other.fileobj.close()
                        return
                    if key.fileobj is self._server:
                        client, _ = self._server.accept()
                        chooser.register(client, selectors.EVENT_READ, bytearray())
                    elif isinstance(key.fileobj, socket.socket) and not self._read(key.fileobj, key.data):
                        chooser.unregister(key.fileobj)
                        key.fileobj.close()

    def _read(self, client: socket.socket, waiting: bytearray) -> bool:
        """Read what came; returns False when the other side is gone or writes nonsense."""
        data = b""
        with suppress(OSError):
            data = client.recv(CHUNK)
        if not data:
            return False
        waiting += data
        at = 0
        while len(waiting) - at >= FRAME.size:
            (size,) = FRAME.unpack_from(waiting, at)
            end = at + FRAME.size + size
            if size > WAITING_MAX:
                log.warning("a text of %d bytes was handed over", size)
                return False
            if len(waiting) < end:
                break
            self._keep(size, orjson.loads(bytes(waiting[at + FRAME.size : end])))
            at = end
        del waiting[:at]
        return True

    def _keep(self, size: int, text: Text) -> None:
        with self._lock:
            self._texts.append((size, text))
            self._size += size
            while self._size > WAITING_MAX:
                lost, _ = self._texts.popleft()
                self._size -= lost
