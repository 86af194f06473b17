"""Spans of files, sent by the kernel at its own speed, with the exact number of bytes that arrived."""

import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from portal.edge.routes import FileBody
from portal.edge.threads import Threads

QUANTUM = 2 << 20  # about 1 ms of the loop
MANY, ALL, LEAST = 16, 4 << 20, 16 << 10  # what all together, and each at least, are sent at once if they are more
AHEAD = 16 << 20
PROBE = [bytearray(1)]
NO_LINGER = struct.pack("ii", 1, 0)
FIRST_LOOK_S, LONGEST_LOOK_S = 0.02, 1.0


def unconfirmed(sock: Any) -> int:
    """Return how many bytes of a connection the other side has not confirmed; right after its end, too."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0])
    except OSError:
        return 0


def reset(transport: asyncio.WriteTransport) -> None:
    """End a connection at once: what the kernel still holds, up to some MB, is not sent any more (RFC 9293, 3.5.3)."""
    with suppress(OSError):  # it has ended already
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()


class FileSender:
    """Sends one span over a client's connection, and tells its end once it is known.

    Args:
        transport: the client's connection.
        threads: where files are read that are not in memory, since waiting for a disk would stop everybody.
        done: told whether all was handed to the kernel; if not, the connection must be cut, because only that says
            that the promised length is not coming.
    """

    active = 0

    def __init__(self, transport: asyncio.WriteTransport, threads: Threads, done: Callable[[bool], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport, self.threads, self.done = transport, threads, done
        # A transport's own descriptor takes no second writer; a copy is the same connection under another number.
        self.sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self.fd, self.head, self.offset, self.left, self.handed = -1, b"", 0, 0, 0
        self.sending = self.told = self.lost = self._writing = self._in_thread = False
        self._wait = FIRST_LOOK_S

    def open(self, path: Path) -> int:
        """Open a file to send; where that fails nothing stays open."""
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.sock.close()
            raise

    def send(self, head: bytes, body: FileBody, fd: int) -> None:
        """Begin; `fd` is closed at the end."""
        self.body, self.fd, self.head = body, fd, head
        self.offset, self.left = body.start, body.length
        self.sending = True
        FileSender.active += 1
        self._cork(1)  # else each piece ends in a short segment
        self._when_empty(0.001)

    def confirmed(self) -> None:
        """Note, when the client sends its next request, that it has all; it may have sent that one in advance."""
        if not self.sending and not self.told and unconfirmed(self.sock) == 0:
            self._tell(self.handed)

    def close(self) -> None:
        """The connection has ended."""
        if self.lost or (self.told and not self.sending):
            return
        self.lost = True
        if not self._in_thread:
            self._let_go()

    def _let_go(self) -> None:
        self._stop_sending()
        self._close_file()
        self._tell(max(0, self.handed - unconfirmed(self.sock)))

    def _close_file(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _tell(self, arrived: int) -> None:
        if not self.told:
            self.told = True
            self.sock.close()  # or it would keep the connection open
            self.body.finished(arrived)

    def _when_empty(self, wait: float) -> None:
        """Begin once what the transport still holds has left; else they would get mixed up."""
        if self.lost:
            return
        if self.transport.get_write_buffer_size():
            self.loop.call_later(wait, self._when_empty, min(wait * 2, 0.05))
        else:
            self._pump()

    def _pump(self) -> None:
        if self.lost or not self.sending or self._in_thread:
            return
        try:
            if self.head:
                self.head = self.head[self.sock.send(self.head, socket.MSG_MORE | socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            self._wait_for_room()
            return
        except OSError:
            self._end(whole=False)
            return
        if self.head:
            self._wait_for_room()
        elif not self.left:
            self._end(whole=True)
        elif self._in_memory():
            self._sent(self._send_piece())
        else:
            self._send_beside()

    def _in_memory(self) -> bool:
        """Say whether sending the next piece needs no disk, by its last byte."""
        try:
            return os.preadv(self.fd, PROBE, self.offset + self._piece() - 1, os.RWF_NOWAIT) == 1
        except OSError:  # it would block, or this file system cannot say
            return False

    def _send_piece(self) -> int:
        """Return how much was sent; 0 when there is no room, -1 when it cannot go on."""
        try:
            # 0 bytes is not "try later": the file is shorter than promised.
            return os.sendfile(self.sock.fileno(), self.fd, self.offset, self._piece()) or -1
        except BlockingIOError:
            return 0
        except OSError:
            return -1

    def _send_beside(self) -> None:
        self._stop_writing()
        self._in_thread = True
        self.threads.run(self._fetch_and_send, self._back, lambda _error: self._back(-1))

    def _fetch_and_send(self) -> int:
        os.posix_fadvise(self.fd, self.offset, min(self.left, AHEAD), os.POSIX_FADV_WILLNEED)
        return self._send_piece()

    def _back(self, sent: int) -> None:
        self._in_thread = False
        if self.lost:
            self.handed += max(0, sent)
            self._let_go()
        else:
            self._sent(sent)

    def _sent(self, sent: int) -> None:
        if sent < 0:
            self._end(whole=False)
            return
        self.offset, self.left, self.handed = self.offset + sent, self.left - sent, self.handed + sent
        if self.left:
            self._wait_for_room()
        else:
            self._end(whole=True)

    def _wait_for_room(self) -> None:
        if not self._writing:
            self.loop.add_writer(self.sock.fileno(), self._pump)
            self._writing = True

    def _stop_sending(self) -> None:
        self._stop_writing()
        if self.sending:
            self.sending = False
            FileSender.active -= 1

    def _piece(self) -> int:
        return min(self.left, QUANTUM if FileSender.active <= MANY else max(LEAST, ALL // FileSender.active))

    def _stop_writing(self) -> None:
        if self._writing:
            self.loop.remove_writer(self.sock.fileno())
            self._writing = False

    def _end(self, *, whole: bool) -> None:
        self._stop_sending()
        self._cork(0)
        self._close_file()
        if whole and not self.told:
            self.loop.call_later(self._wait, self._await_confirmation)
        self.done(whole)

    def _await_confirmation(self) -> None:
        if self.told or self.lost:
            return
        if unconfirmed(self.sock) == 0:
            self._tell(self.handed)
            return
        self.loop.call_later(self._wait, self._await_confirmation)
        self._wait = min(self._wait * 2, LONGEST_LOOK_S)

    def _cork(self, on: int) -> None:
        with suppress(OSError):  # the connection has ended, or is no TCP connection
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)
