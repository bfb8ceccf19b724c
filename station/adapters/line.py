"""One exclusively opened tty: the station's `Line`, and at the same time the port that esptool talks through.

Promises that every failure of the device leaves as one exception of ours (a vanished USB device alone shows up as
`SerialException`, `OSError` or `termios.error`, depending on the call), that `stop` ends whatever its user is doing at
once and for good, and that no byte from the board goes unrecorded: what is discarded was read first. The modem lines
are only ever set together, by one ioctl: two would reset a board behind a two-transistor circuit by the way. It must
never touch the lines where they reach no reset pin (`may_reset` False), and never interpret what a board says.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import serial

from station.adapters.line_errors import error_number, line_error
from station.errors import AdapterHung, LineStopped, LinkCorrupt, PortGone
from station.model import BootInto, Programmer, StopCause
from station.ports import Stop

TRANSCRIPT_BYTES = 64 * 1024
"""So much of what the board said last is kept."""
SENT_BYTES_KEPT = 4 * 1024
"""So much of what we said last is kept, to recognise an echo."""
ANSWER_LIMIT_BYTES = 64 * 1024
"""The loader's longest answer is below 100 bytes; whoever says more than this to one request is no loader."""
HUNG_CONTROL_S = 1.9
"""The ch341 driver gives up each control request after 1 s and sets a rate with two of them, without any error."""
_READ_BYTES = 4096
_HUNG_UP = select.POLLERR | select.POLLHUP | select.POLLNVAL


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a line's conversation, as counts of bytes received and sent."""

    received_bytes: int
    sent_bytes: int


class SerialLine(serial.Serial):
    """An open tty, raw 8N1, exclusive; implements `ports.Line` and the part of pyserial that esptool uses.

    Used from one thread; only `stop` may be called from another. With `may_reset` False the modem lines are never
    touched. `en_low_s` is how long a reset holds EN down, `settle_s` how long GPIO0 stays low after it.
    """

    def __init__(
        self,
        node: str,
        *,
        baud: int,
        may_reset: bool = True,
        en_low_s: float = 0.1,
        settle_s: float = 0.05,
    ) -> None:
        """Open `node` at `baud`; raises `PortBusy`, `PortDenied`, `PortMissing`, `PortGone`, `AdapterHung`."""
        self.en_low_s, self.settle_s = en_low_s, settle_s
        self.received_bytes = 0
        """How many bytes came from the board since the port was opened."""
        self.sent_bytes = 0
        """How many bytes were handed to the kernel since the port was opened."""
        self._transcript = bytearray()
        self._sent = bytearray()
        self._request = self._request_before = Mark(0, 0)
        self._node = node
        self.plug = node
        """Which attach of which device this is, as its opener knows it: the same node may be another device tomorrow."""
        self._has_reset_lines = may_reset
        self._stop_cause: StopCause | None = None
        self._stop_lock = threading.Lock()
        self._stop_fd: int | None = None
        self.fd: int | None = None
        self._is_ours = False
        self._readable, self._writable, self._stopped = select.poll(), select.poll(), select.poll()
        # 3 s and 10 s are esptool's own defaults; it sets both anew.
        super().__init__(port=None, baudrate=baud, timeout=3.0, write_timeout=10.0, exclusive=True)
        self.rts = False
        self.dtr = False
        self.port = node
        self.open()

    # --- opening and closing ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the port that was named; raises as the constructor does."""
        try:
            with self._translated():
                self.fd = self._open_port()
                self._stop_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._register(self.fd, self._stop_fd)
                self._reconfigure_port(force_update=True)  # takes the lock (flock) first, then sets raw 8N1
                fcntl.ioctl(self.fd, termios.TIOCEXCL)
                self._is_ours = True
                self._set_lines(dtr=False, rts=False)
                termios.tcflush(self.fd, termios.TCIFLUSH)
        except BaseException:
            self.close()
            raise
        self.is_open = True

    def _register(self, fd: int, stop_fd: int) -> None:
        self._readable.register(fd, select.POLLIN)
        self._writable.register(fd, select.POLLOUT)
        for poller in (self._readable, self._writable, self._stopped):
            poller.register(stop_fd, select.POLLIN)

    def _open_port(self) -> int:
        """Return a non-blocking descriptor of the tty; raises OSError or `LineError`. The bench overrides this."""
        return os.open(self._node, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def close(self) -> None:
        """Release the port; never raises, may block up to 31 s while output cannot drain, returns at once after an unplug."""
        fd, self.fd, self.is_open = self.fd, None, False
        with self._stop_lock:
            stop_fd, self._stop_fd = self._stop_fd, None
        if fd is not None:
            # A pty keeps the exclusive flag until its other end is closed too; the next one to open it needs it gone.
            # But only if it is ours: after an open that the lock refused it is that of whoever holds the port.
            with suppress(OSError, termios.error):
                if self._is_ours:
                    fcntl.ioctl(fd, termios.TIOCNXCL)
            with suppress(OSError):  # Linux releases the descriptor whatever it reports
                os.close(fd)
        if stop_fd is not None:
            os.close(stop_fd)

    # --- ports.Line ------------------------------------------------------------------------------------------------

    @property
    def node(self) -> str:
        """The device node that was opened."""
        return self._node

    @property
    def has_reset_lines(self) -> bool:
        """Whether DTR and RTS may and can be set on this port; says nothing about whether they reach the board."""
        return self._has_reset_lines

    def set_baud(self, baud: int) -> None:
        """Change the rate of our side; raises `PortGone`, `AdapterHung`, `LineStopped`."""
        self._check_stopped()
        self.baudrate = baud

    def read_some(self, timeout_s: float) -> bytes:
        """Return what has arrived, waiting at most `timeout_s` for the first byte; empty for silence.

        Raises `PortGone`, `LineStopped`.
        """
        return self._take(_READ_BYTES) if self._wait(self._readable, timeout_s) else b""

    def send(self, data: bytes) -> None:
        """Write all of `data`; raises `PortGone`, `LineStopped`, and `AdapterHung` when nothing is taken for long."""
        self.write(data)

    def discard_input(self) -> None:
        """Throw away what has arrived and was not read, after noting it in the transcript."""
        self.reset_input_buffer()

    def reset_board(self, into: BootInto, settle_s: float | None = None) -> bool:
        """Reset the board by the lines into loader or firmware; False when this port cannot.

        `settle_s` overrides for once how long GPIO0 is held after the reset: a board with a large capacitor at EN
        needs about 0.55. Raises `PortGone`, `AdapterHung`, `LineStopped`.
        """
        self._check_stopped()
        # The order of esptool's unix-tight reset. Asserted means low; with both asserted the two-transistor circuit
        # drives neither pin, so EN (RTS) falls and rises without GPIO0 (DTR) moving at the wrong moment.
        steps: tuple[tuple[bool, bool, float], ...] = ((False, True, self.en_low_s), (False, False, 0.0))
        if into is BootInto.LOADER:
            settle_s = self.settle_s if settle_s is None else settle_s
            steps = (
                (True, True, 0.0),
                (False, True, self.en_low_s),
                (True, False, settle_s),
                (False, False, 0.0),
            )
        for dtr, rts, hold_s in steps:
            if not self._set_lines(dtr=dtr, rts=rts):
                return False
            self.pause(hold_s)
        return True

    def hold_boot_pin(self, *, low: bool) -> bool:
        """Hold GPIO0 low by DTR, or release it, without a reset; False when this port cannot.

        A board that gets power meanwhile starts its loader. A reset releases the pin, and so does the kernel when the
        port is closed.
        Raises `PortGone`, `AdapterHung`, `LineStopped`.
        """
        self._check_stopped()
        return self._set_lines(dtr=low, rts=False)

    def stop(self, cause: StopCause) -> None:
        """Take the line away, from any thread, at once; the first cause stays."""
        with self._stop_lock:
            self._stop_cause = self._stop_cause or cause
            if self._stop_fd is not None:
                os.eventfd_write(self._stop_fd, 1)  # never read: it stays readable, so every later wait ends too

    # --- what was said ---------------------------------------------------------------------------------------------

    @property
    def transcript(self) -> bytes:
        """What the board said last, at most `TRANSCRIPT_BYTES`."""
        return bytes(self._transcript[-TRANSCRIPT_BYTES:])

    def mark(self) -> Mark:
        """Return this moment, for `received_since` and `sent_since`."""
        return Mark(self.received_bytes, self.sent_bytes)

    @property
    def answer(self) -> bytes:
        """What came since the last write, or its end when that is more than the transcript holds."""
        return self.received_since(self._request)

    @property
    def answer_before(self) -> bytes:
        """What came between the last write but one and the last."""
        since = self.received_since(self._request_before)
        return since[: len(since) - len(self.answer)]

    @property
    def request(self) -> bytes:
        """What the last write sent, or its last `SENT_BYTES_KEPT` bytes."""
        return self.sent_since(self._request)

    def received_since(self, mark: Mark) -> bytes:
        """Return what came since `mark`, or its end when that is more than the transcript holds."""
        return _tail(self._transcript, min(self.received_bytes - mark.received_bytes, TRANSCRIPT_BYTES))

    def sent_since(self, mark: Mark) -> bytes:
        """Return what was sent since `mark`, or its last `SENT_BYTES_KEPT` bytes."""
        return _tail(self._sent, min(self.sent_bytes - mark.sent_bytes, SENT_BYTES_KEPT))

    def pause(self, duration_s: float) -> None:
        """Wait; raises `LineStopped` as soon as the line is taken away."""
        self._check_stopped()
        self._stopped.poll(math.ceil(duration_s * 1000))
        self._check_stopped()

    # --- the pyserial that esptool uses ----------------------------------------------------------------------------

    def read(self, size: int = 1) -> bytes:
        """Return `size` bytes, fewer when `timeout` (s) passes first; `read(0)` returns at once.

        Raises `PortGone`, `LineStopped`, and `LinkCorrupt` when one request is answered without end.
        """
        self._check_stopped()
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        received = bytearray()
        while len(received) < size and self._wait(self._readable, _left(deadline)):
            received += self._take(size - len(received))
        if self.received_bytes - self._request.received_bytes > ANSWER_LIMIT_BYTES:
            raise LinkCorrupt(f"more than {ANSWER_LIMIT_BYTES} bytes in answer to one request")
        return bytes(received)

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # nothing but bytes is ever sent
        """Write all of `data` and return its length; raises as `send` does."""
        self._check_stopped()
        self._request_before, self._request = self._request, self.mark()
        rest = memoryview(data)
        while rest:
            if not self._wait(self._writable, self.write_timeout):
                raise AdapterHung(f"{self._node} takes no bytes for {self.write_timeout} s")
            with self._translated(), suppress(BlockingIOError):
                count = os.write(self._open_fd, rest)
                self._sent += rest[:count]
                self.sent_bytes += count
                rest = rest[count:]
        del self._sent[:-SENT_BYTES_KEPT]
        return len(data)

    @property
    def in_waiting(self) -> int:
        """How many bytes have arrived and were not read; raises `PortGone`, `LineStopped`."""
        self._check_stopped()
        with self._translated():
            answer = fcntl.ioctl(self._open_fd, termios.FIONREAD, struct.pack("I", 0))
        return int(struct.unpack("I", answer)[0])

    def reset_input_buffer(self) -> None:
        """Throw away what has arrived, after noting it: esptool does so before each attempt, and it is evidence."""
        for _ in range(TRANSCRIPT_BYTES // _READ_BYTES):
            if not self._wait(self._readable, 0) or not self._take(_READ_BYTES):
                return
        with self._translated():
            termios.tcflush(self._open_fd, termios.TCIFLUSH)

    def reset_output_buffer(self) -> None:
        """Throw away what was written and not yet sent."""
        self._check_stopped()
        with self._translated():
            termios.tcflush(self._open_fd, termios.TCOFLUSH)

    def _reconfigure_port(self, force_update: bool = False) -> None:  # noqa: FBT001, FBT002 - pyserial's signature
        """Bring rate and format to the tty; pyserial calls this whenever a property changes."""
        began = time.monotonic()
        with self._translated():
            super()._reconfigure_port(force_update)  # type: ignore[misc]  # not in the stubs
        if time.monotonic() - began > HUNG_CONTROL_S:
            raise AdapterHung(f"{self._node} did not take the rate within {HUNG_CONTROL_S} s")

    def _update_dtr_state(self) -> None:
        self._set_lines(dtr=self.dtr, rts=self.rts)

    _update_rts_state = _update_dtr_state

    # --- the modem lines -------------------------------------------------------------------------------------------

    def _apply_lines(self, *, dtr: bool, rts: bool) -> None:
        """Set both lines at once; raises OSError. Every change of a line comes through here; the bench overrides it."""
        bits = (termios.TIOCM_DTR if dtr else 0) | (termios.TIOCM_RTS if rts else 0)
        fcntl.ioctl(self._open_fd, termios.TIOCMSET, struct.pack("I", bits))

    def _set_lines(self, *, dtr: bool, rts: bool) -> bool:
        """Set both lines; False when this port has none that may be set."""
        if not self._has_reset_lines:
            return False
        with self._translated():
            try:
                self._apply_lines(dtr=dtr, rts=rts)
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    raise
                self._has_reset_lines = False  # a pty
        return self._has_reset_lines

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def _open_fd(self) -> int:
        if self.fd is None:
            raise PortGone(f"{self._node} is closed")
        return self.fd

    def _check_stopped(self) -> None:
        if self._stop_cause is not None:
            raise LineStopped(self._stop_cause)

    def _wait(self, poller: select.poll, timeout_s: float | None) -> bool:
        """Wait until `poller` says the tty is ready, or gone, as the next call will tell; False after `timeout_s`."""
        self._check_stopped()
        fd = self._open_fd
        events = poller.poll(None if timeout_s is None else math.ceil(max(timeout_s, 0) * 1000))
        self._check_stopped()
        return any(ready == fd for ready, _ in events)

    def _take(self, limit: int) -> bytes:
        """Read what is there, at most `limit` bytes, and note it."""
        with self._translated():
            try:
                received = os.read(self._open_fd, limit)
            except BlockingIOError:
                return b""
        if not received:
            raise PortGone(f"{self._node} is ready to read and gives nothing: unplugged")
        self.received_bytes += len(received)
        self._transcript += received
        if len(self._transcript) > 2 * TRANSCRIPT_BYTES:
            del self._transcript[:-TRANSCRIPT_BYTES]
        return received

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what kernel, pyserial and termios raise about the device into our errors; anything else passes."""
        try:
            yield
        except (OSError, termios.error, ValueError) as error:
            translated = line_error(self._node, error_number(error), hung_up=self._is_hung_up())
            if translated is None:
                raise
            raise translated from error

    def _is_hung_up(self) -> bool:
        """Whether the kernel has cut this descriptor off from its device, as it does on unplug."""
        if self.fd is None:
            return False
        poller = select.poll()
        poller.register(self.fd, 0)
        return any(event & _HUNG_UP for _, event in poller.poll(0))


class TtyOpener:
    """Opens programmers that are real ttys (a pty will do); implements `ports.LineOpener`."""

    def __init__(self, *, en_low_s: float = 0.1, settle_s: float = 0.05) -> None:
        """`en_low_s` and `settle_s` as in `SerialLine`."""
        self._en_low_s, self._settle_s = en_low_s, settle_s

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> SerialLine:
        """Open the programmer's tty and attach it to `stop`; `may_reset` says whether its modem lines reach the board.

        Raises `PortBusy`, `PortDenied`, `PortMissing`, `AdapterHung`, `LineStopped`, and `PortGone` also when the
        node belongs to another device by now: the lowest free `ttyUSB` number is given out again.
        """
        stop.check()
        try:
            line = SerialLine(
                programmer.node, baud=baud, may_reset=may_reset, en_low_s=self._en_low_s, settle_s=self._settle_s
            )
        except AdapterHung as hung:
            # Pulled while it was being opened: the same errno as from an adapter that hangs.
            if programmer.sysfs_path.startswith("/sys/") and not Path(programmer.sysfs_path).exists():
                raise PortGone(str(hung)) from None
            raise
        if not _belongs_to(line, programmer):
            line.close()
            raise PortGone(f"{programmer.node} belongs to another device now")
        line.plug = f"{programmer.node} {programmer.generation}"
        stop.attach(line)
        return line


def _belongs_to(line: SerialLine, programmer: Programmer) -> bool:
    """Whether the opened tty is the device of this plug, by sysfs; True where sysfs does not know it."""
    if line.fd is None or not programmer.sysfs_path.startswith("/sys/"):
        return True
    number = os.fstat(line.fd).st_rdev
    link = Path(f"/sys/dev/char/{os.major(number)}:{os.minor(number)}")
    return not link.exists() or link.resolve() == Path(programmer.sysfs_path).resolve()


def _tail(buffer: bytearray, count: int) -> bytes:
    return bytes(buffer[len(buffer) - count :]) if count > 0 else b""


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
