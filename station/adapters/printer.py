"""The label printer: one connection for one label, over TCP (port 9100) or a device file.

Before a label is sent a printer at TCP is asked how it is (`~HS`); one that does not answer is believed to be well, one that
says paper out, head open or pause gets nothing. Every wait has a deadline. `PrinterTrouble.sent` says whether any byte of a
label may have reached the printer: only what certainly did not may be sent again. Source: Zebra, ZPL II Programming Guide
(~HS, "Host Status Return").
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
import struct
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from station.config import parse_printer
from station.errors import PrinterTrouble

CONNECT_S = 3.0
STATUS_S = 1.5
SEND_S = 15.0
"""So long a printer may take to take one label."""
GOODBYE_S = 0.3
_STRINGS = 3


class Printer(Protocol):
    """A printer that is there and well, for one label."""

    def send(self, label: bytes) -> None:
        """Hand one label over, whole; raises `PrinterTrouble`."""


@contextmanager
def open_printer(printer: str) -> Iterator[Printer]:
    """Reach the printer and ask whether it can print; raises `PrinterTrouble` with `sent` False when it cannot."""
    address = parse_printer(printer)
    if address is None:
        with _device(printer) as fd:
            yield _Link(fd)
        return
    try:
        connection = socket.create_connection(address, timeout=CONNECT_S)
    except OSError as error:
        raise PrinterTrouble(f"{printer} does not answer ({error.strerror or error})", sent=False) from None
    except UnicodeError:
        # A name that no name service could know, such as `printer..example`.
        raise PrinterTrouble(f"{printer} does not answer (that is no name of a host)", sent=False) from None
    with connection:
        connection.setblocking(False)
        link = _Link(connection.fileno(), connection)
        complaint = complaint_in(link.ask(b"~HS\r\n"))
        if complaint:
            raise PrinterTrouble(complaint, sent=False)
        yield link


def complaint_in(answer: bytes) -> str:
    """Return why a printer with this answer to `~HS` prints nothing now; empty when it does, or says nothing sensible."""
    strings = [part.partition(b"\x02")[2].split(b",") for part in answer.split(b"\x03") if b"\x02" in part]
    if len(strings) < 2 or len(strings[0]) < 6 or len(strings[1]) < 4:  # noqa: PLR2004 - the fields looked at below
        return ""
    first, second = strings[0], strings[1]
    said = {"paper out": first[1], "paused": first[2], "its memory is full": first[5]}
    said |= {"head open": second[2], "ribbon out": second[3]}
    return ", ".join(words for words, flag in said.items() if flag.strip() == b"1")


@contextmanager
def _device(path: str) -> Iterator[int]:
    """Open a device file for writing; raises `PrinterTrouble`, also for what is no device."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise PrinterTrouble(f"{path} cannot be opened ({error.strerror})", sent=False) from None
    try:
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            raise PrinterTrouble(f"{path} is no device", sent=False)
        if os.isatty(fd):
            with suppress(termios.error):
                tty.setraw(fd)
        yield fd
    finally:
        with suppress(OSError):
            os.close(fd)


class _Link:
    """An open descriptor that does not block."""

    def __init__(self, fd: int, connection: socket.socket | None = None) -> None:
        self._fd, self._connection = fd, connection

    def ask(self, question: bytes) -> bytes:
        """Send a question that prints nothing, and return what is answered in time."""
        self._write(question, time.monotonic() + STATUS_S, label=False)
        deadline, answer = time.monotonic() + STATUS_S, b""
        while answer.count(b"\x03") < _STRINGS and _ready(self._fd, select.POLLIN, deadline):
            said = self._read(deadline)
            if not said:
                raise PrinterTrouble("it hangs up when it is asked how it is (busy, or not ready)", sent=False)
            answer += said
        return answer

    def send(self, label: bytes) -> None:
        """Write all of it, wait until the printer has taken it, and hear whether it hangs up on us."""
        deadline = time.monotonic() + SEND_S
        self._write(label, deadline, label=True)
        # Linux' usblp takes a write as done while it is on its way, and drops it at close(): it is ready when that was taken.
        if not _ready(self._fd, select.POLLOUT, deadline):
            raise PrinterTrouble("it took only a part of the label (out of paper?)", sent=True)
        while self._untaken_bytes():
            if time.monotonic() >= deadline or _hung_up(self._fd):
                raise PrinterTrouble("it took only a part of the label", sent=True)
            time.sleep(0.02)
        if self._connection is not None:
            self._say_goodbye(self._connection)

    def _say_goodbye(self, connection: socket.socket) -> None:
        """Say that nothing more comes, and read what it still says, until it closes or falls silent.

        Closing with unread bytes would make the kernel take back what the printer did not read yet.
        """
        deadline = time.monotonic() + GOODBYE_S
        try:
            connection.shutdown(socket.SHUT_WR)
            while self._read(deadline):
                pass
        except (OSError, PrinterTrouble):
            raise PrinterTrouble("it hung up in the middle of the label", sent=True) from None

    def _write(self, data: bytes, deadline: float, *, label: bool) -> None:
        rest = memoryview(data)
        while rest:
            sent = label and len(rest) < len(data)
            if not _ready(self._fd, select.POLLOUT, deadline):
                raise PrinterTrouble("it takes no data (off line, out of paper?)", sent=sent)
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                # What was written before may have been a whole label, as far as anybody can tell from here.
                raise PrinterTrouble(f"the connection broke ({error.strerror})", sent=sent) from None

    def _read(self, deadline: float) -> bytes:
        if not _ready(self._fd, select.POLLIN, deadline):
            return b""
        try:
            return os.read(self._fd, 4096)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise PrinterTrouble(f"the connection broke ({error.strerror})", sent=False) from None

    def _untaken_bytes(self) -> int:
        """How many bytes the other end has not taken yet; 0 where nobody can say."""
        try:
            answer = fcntl.ioctl(self._fd, termios.TIOCOUTQ, struct.pack("i", 0))
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])


def _hung_up(fd: int) -> bool:
    """Whether the other end is gone."""
    poller = select.poll()
    poller.register(fd, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def _ready(fd: int, event: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(fd, event)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
