"""The host's side of a virtual programmer: a pty pair that behaves like the tty of a USB serial adapter.

Promises to say what the clients write and when the last one closes, without ever polling; to drop what the board says
while nobody has the port open, as the kernel does; and that closing it gives a reader what pulling the adapter gives.
It must never block the loop.
"""

import asyncio
import ctypes
import fcntl
import os
import select
import struct
import tty

from station.bench.port import PortEvents

TCGETS2 = 0x802C542A
"""The ioctl that also tells bauds without a name, such as 74880 (asm-generic/ioctls.h)."""
TERMIOS2_BYTES = 44
TERMIOS2_SPEED_OFFSET = 40
CHUNK_BYTES = 1024
"""A client's write is taken in pieces of this size, so that a change of baud is seen near where it happened."""
CHUNKS_IN_A_ROW = 64
"""So many at a time; a client that never stops writing must not keep the loop from the other boards."""
MAX_WAITING_BYTES = 1 << 20
"""What a client that does not read may leave lying; more is lost, as in the kernel's buffer."""
IN_OPEN, IN_CLOSE = 0x20, 0x18
"""Of inotify(7); closing is IN_CLOSE_WRITE or IN_CLOSE_NOWRITE."""
INOTIFY_EVENT = struct.Struct("iIII")


class PtyPort:
    """An open pty pair. Make it, and call everything, on the loop's thread. It has no modem lines to tell of."""

    def __init__(self, loop: asyncio.AbstractEventLoop, events: PortEvents) -> None:
        self._loop = loop
        self._take = events.take
        self._closed = events.closed
        self._waiting = bytearray()
        self._reading = True
        self._hung_up = False
        self._master, slave = os.openpty()
        self.path = os.ttyname(slave)
        # Raw from the start: else the board's first words would be echoed back to it.
        tty.setraw(slave)
        os.close(slave)
        self._clients = _Clients(self.path)
        os.set_blocking(self._master, False)
        # Edge-triggered, because a pty without a client is "hung up" for as long as it lasts: the loop's own
        # level-triggered poll would spin. The poll of the poll is level-triggered and quiet.
        self._edges = select.epoll()
        self._edges.register(self._master, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        self._edges.poll(0)
        loop.add_reader(self._edges.fileno(), self._on_edge)

    @property
    def baud(self) -> int:
        """The baud a client has set."""
        termios2 = fcntl.ioctl(self._master, TCGETS2, bytes(TERMIOS2_BYTES))
        speed: int = struct.unpack_from("<I", termios2, TERMIOS2_SPEED_OFFSET)[0]
        return speed

    @property
    def has_client(self) -> bool:
        """Whether anybody has the port open."""
        poll = select.poll()
        poll.register(self._master, 0)
        return not any(events & select.POLLHUP for _, events in poll.poll(0))

    def write(self, data: bytes) -> int:
        """Give this to the client; returns how many bytes were lost because nobody reads."""
        if not self.has_client:
            self._waiting.clear()
            return len(data)
        room = MAX_WAITING_BYTES - len(self._waiting)
        self._waiting += data[:room]
        self._flush()
        return max(0, len(data) - room)

    def resume(self) -> None:
        """Read on."""
        self._reading = True
        self._read()

    def close(self) -> None:
        """Pull the adapter: a client that reads gets readiness without data, one that writes EIO."""
        self._loop.remove_reader(self._edges.fileno())
        self._edges.close()
        self._clients.close()
        os.close(self._master)
        self._master = -1

    def _on_edge(self) -> None:
        hung_up = any(events & select.EPOLLHUP for _, events in self._edges.poll(0))
        self._hung_up |= self._clients.have_left(hung_up=hung_up)
        self._read()
        if self._master >= 0:
            self._flush()

    def _read(self) -> None:
        """Take what the clients wrote; then, when the last one has closed, say so."""
        for _ in range(CHUNKS_IN_A_ROW):
            if not self._reading or self._master < 0:
                return
            try:
                data = os.read(self._master, CHUNK_BYTES)
            except OSError:  # nothing left (EAGAIN), or nothing left and nobody there (EIO)
                break
            self._reading = self._take(data)
        else:
            self._loop.call_soon(self._read)
            return
        if self._hung_up:
            self._hung_up = False
            self._closed()

    def _flush(self) -> None:
        """Give the client as much as it takes; the next edge brings the rest."""
        while self._waiting:
            try:
                written = os.write(self._master, self._waiting)
            except BlockingIOError:
                return
            del self._waiting[:written]


class _Clients:
    """Whether the last client has closed a tty: a poll alone never shows one that opens it again at once.

    The kernel queues inotify's event of a close before the tty itself hangs up. Where there is no inotify to be had (128
    instances per user by default) the poll has to do.
    """

    def __init__(self, path: str) -> None:
        libc = ctypes.CDLL(None)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._count = 0
        if self._inotify >= 0:
            libc.inotify_add_watch(self._inotify, os.fsencode(path), IN_OPEN | IN_CLOSE)

    def have_left(self, *, hung_up: bool) -> bool:
        """Whether there was, since the last call, a moment without a client after one had been there."""
        if self._inotify < 0:
            return hung_up
        left = False
        try:
            events = os.read(self._inotify, 1 << 16)
        except BlockingIOError:
            return False
        for _, mask, _, _ in INOTIFY_EVENT.iter_unpack(events):
            if mask & IN_OPEN:
                self._count += 1
            elif mask & IN_CLOSE:
                self._count -= 1
                left |= self._count == 0
        return left

    def close(self) -> None:
        """Watch no more."""
        if self._inotify >= 0:
            os.close(self._inotify)
