"""The tty adapter against real ptys: what it does to the line, and what each thing that befalls a line becomes.

Permission and busy ports are real refusals by the kernel (root gives up its rights for the moment of the open); only
the errors that need a USB device are played by overriding the two methods made for that.
"""

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from station.adapters import line as line_module
from station.adapters.line import ANSWER_LIMIT_BYTES, TRANSCRIPT_BYTES, SerialLine, TtyOpener
from station.errors import AdapterHung, LineStopped, LinkCorrupt, PortBusy, PortDenied, PortGone, PortMissing
from station.model import BootInto, Programmer, StopCause
from station.ports import Line, LineOpener, Stop

NOBODY = 65534
TIOCGEXCL = 0x80045440
TCGETS2 = 0x802C542A
HOLD = (
    "import fcntl, os, sys\n"
    "fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)\n"
    "fcntl.flock(fd, fcntl.LOCK_EX)\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


class Pty:
    """A pty whose master the test plays; the slave is kept open by nobody but the line under test."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        self.node = os.ttyname(slave)
        os.close(slave)

    def unplug(self) -> None:
        """Close the other end."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def say(self, data: bytes) -> None:
        """Speak as the board."""
        os.write(self.master, data)

    def say_to(self, line: SerialLine, data: bytes) -> None:
        """Speak as the board, and return when the line has all of it: a pty delivers a little later."""
        expected = line.in_waiting + len(data)
        self.say(data)
        deadline = time.monotonic() + 10
        while line.in_waiting < expected and time.monotonic() < deadline:
            time.sleep(0.001)

    def hear(self, count: int) -> bytes:
        """Read what the line sent."""
        heard = b""
        while len(heard) < count:
            heard += os.read(self.master, count - len(heard))
        return heard


class LinedUp(SerialLine):
    """A pty that has modem lines: every setting of both is noted."""

    settings: list[tuple[bool, bool]]

    def _open_port(self) -> int:
        self.settings = []
        return super()._open_port()

    def _apply_lines(self, *, dtr: bool, rts: bool) -> None:
        self.settings.append((dtr, rts))


@pytest.fixture
def pty() -> Iterator[Pty]:
    """Give a pty whose other end is the test's."""
    made = Pty()
    yield made
    made.unplug()


@pytest.fixture
def line(pty: Pty) -> Iterator[SerialLine]:
    """Give a line over that pty."""
    opened = SerialLine(pty.node, baud=115200)
    yield opened
    opened.close()


@contextlib.contextmanager
def later(deed: Callable[[], None], delay_s: float = 0.05) -> Iterator[None]:
    """Do something from another thread while the block runs."""
    timer = threading.Timer(delay_s, deed)
    timer.start()
    yield
    timer.join()


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's rights, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def legacy(line: SerialLine) -> Any:
    """The line by pyserial's old names, which esptool uses and the type stubs do not know."""
    return line


def programmer(node: str, sysfs_path: str = "") -> Programmer:
    """One plug of a programmer at this node."""
    return Programmer(place="here", node=node, sysfs_path=sysfs_path, generation="1")


USES: dict[str, Callable[[SerialLine], object]] = {
    "read": lambda line: line.read(1),
    "read nothing": lambda line: line.read(0),
    "read_some": lambda line: line.read_some(1.0),
    "write": lambda line: line.write(b"x"),
    "send": lambda line: line.send(b"x"),
    "in_waiting": lambda line: line.in_waiting,
    "discard_input": lambda line: line.discard_input(),
    "reset_output_buffer": lambda line: line.reset_output_buffer(),
    "set_baud": lambda line: line.set_baud(9600),
    "reset_board": lambda line: line.reset_board(BootInto.LOADER),
    "hold_boot_pin": lambda line: line.hold_boot_pin(low=True),
}


# --- reading and writing -------------------------------------------------------------------------------------------


def test_line_fits_the_ports(pty: Pty) -> None:
    """The adapters are what the Protocols ask for, and the node keeps the name it was given."""
    opener: LineOpener = TtyOpener()
    line: Line = opener.open(programmer(pty.node), 115200, Stop())
    assert line.node == pty.node
    line.close()


def test_read_some_gives_what_has_arrived(pty: Pty, line: SerialLine) -> None:
    """What the board said comes in one piece; silence is an empty answer and no error."""
    pty.say_to(line, b"\x00\xffhello\x03\x11\x13\r\n")
    assert line.read_some(5.0) == b"\x00\xffhello\x03\x11\x13\r\n"
    assert line.read_some(0.0) == b""
    assert line.read_some(0.02) == b""


def test_read_of_nothing_returns_at_once(pty: Pty, line: SerialLine) -> None:
    """Reading 0 bytes without a time limit, as esptool does, neither waits nor takes anything."""
    line.timeout = None
    assert line.read(0) == b""
    pty.say_to(line, b"x")
    assert line.read(0) == b""
    assert line.read(1) == b"x"


def test_read_waits_for_all_of_it(pty: Pty, line: SerialLine) -> None:
    """read(n) gathers n bytes over several arrivals, and gives fewer when its time is over."""
    pty.say(b"abc")
    with later(lambda: pty.say(b"def")):
        assert line.read(6) == b"abcdef"
    line.timeout = 0.02
    pty.say_to(line, b"gh")
    assert line.read(6) == b"gh"


def test_send_writes_all(pty: Pty, line: SerialLine) -> None:
    """More than the kernel takes at once arrives whole and unchanged."""
    data = bytes(range(256)) * 200
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(pty.hear(len(data))))
    reader.start()
    line.send(data)
    reader.join(10)
    assert heard == [data]
    assert line.sent_bytes == len(data)


def test_in_waiting_counts(pty: Pty, line: SerialLine) -> None:
    """How much has arrived can be asked before reading, as esptool does."""
    assert legacy(line).inWaiting() == 0
    pty.say_to(line, b"abc")
    assert line.in_waiting == 3


def test_raw_8n1_at_any_rate(pty: Pty, line: SerialLine) -> None:
    """The tty is raw, without echo, and takes the boot log's rate, which has no name in termios."""
    iflag, oflag, cflag, lflag = termios.tcgetattr(pty.master)[:4]
    assert not oflag & termios.OPOST
    assert not lflag & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert not iflag & (termios.ICRNL | termios.IXON | termios.ISTRIP)
    assert cflag & termios.CSIZE == termios.CS8
    for baud in (74880, 460800, 115200):
        line.set_baud(baud)
        assert struct.unpack_from("<I", fcntl.ioctl(pty.master, TCGETS2, bytes(44)), 40) == (baud,)


# --- what befalls a line -------------------------------------------------------------------------------------------


def test_unplug_ends_a_read(pty: Pty, line: SerialLine) -> None:
    """A reader that waits learns of the unplug as PortGone, at once."""
    with later(pty.unplug), pytest.raises(PortGone):
        line.read_some(60.0)


@pytest.mark.parametrize("use", sorted(USES.keys() - {"read nothing", "reset_board", "hold_boot_pin"}))
def test_every_use_after_unplug_is_port_gone(pty: Pty, line: SerialLine, use: str) -> None:
    """The zoo of exceptions of a vanished device is one exception, whatever was called."""
    pty.unplug()
    with pytest.raises(PortGone):
        USES[use](line)


@pytest.mark.parametrize("use", USES)
def test_every_use_after_stop_is_stopped(line: SerialLine, use: str) -> None:
    """Once the line was taken away nothing goes any more, and the first cause stays."""
    line.stop(StopCause.DEADLINE)
    line.stop(StopCause.SHUTDOWN)
    for _ in range(2):
        with pytest.raises(LineStopped) as stopped:
            USES[use](line)
        assert stopped.value.cause is StopCause.DEADLINE


@pytest.mark.parametrize("wait", ["read", "read_some", "pause"])
def test_stop_ends_a_wait(line: SerialLine, wait: str) -> None:
    """A wait of minutes ends as soon as another thread stops the line, as LineStopped and not as a timeout."""
    line.timeout = 60.0
    waits: dict[str, Callable[[], object]] = {
        "read": lambda: line.read(1),
        "read_some": lambda: line.read_some(60.0),
        "pause": lambda: line.pause(60.0),
    }
    began = time.monotonic()
    with later(lambda: line.stop(StopCause.UNPLUGGED)), pytest.raises(LineStopped) as stopped:
        waits[wait]()
    assert stopped.value.cause is StopCause.UNPLUGGED
    assert time.monotonic() - began < 30


def test_stop_ends_a_write_that_nobody_takes(line: SerialLine) -> None:
    """A write into a full line is left as soon as the line is stopped."""
    line.write_timeout = 60.0
    with later(lambda: line.stop(StopCause.SHUTDOWN)), pytest.raises(LineStopped):
        line.send(bytes(1 << 20))


def test_stop_is_not_an_exception_that_a_library_catches(line: SerialLine) -> None:
    """`except Exception`, wherever it stands in between, does not catch it."""
    line.stop(StopCause.UNPLUGGED)
    with pytest.raises(LineStopped), contextlib.suppress(Exception):
        line.read(1)


def test_a_write_that_nobody_takes_is_a_hung_adapter(line: SerialLine) -> None:
    """An adapter that takes no more bytes is named as such when the time limit is over."""
    line.write_timeout = 0.05
    with pytest.raises(AdapterHung, match=r"takes no bytes for 0\.05 s"):
        line.send(bytes(1 << 20))


def test_a_rate_that_takes_seconds_is_a_hung_adapter(line: SerialLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ch341 driver reports no error when the adapter ignores a new rate; only the time it took tells."""
    monkeypatch.setattr(line_module, "HUNG_CONTROL_S", 0.0)
    with pytest.raises(AdapterHung, match="did not take the rate"):
        line.set_baud(9600)


def test_closing_never_raises_and_leaves_nothing(pty: Pty) -> None:
    """close() may be called twice, after an unplug and after a stop; no descriptor stays behind."""
    before = descriptors()
    for befall in (lambda _: None, lambda _: pty.unplug(), lambda line: line.stop(StopCause.UNPLUGGED)):
        fresh = pty if pty.master >= 0 else Pty()
        line = SerialLine(fresh.node, baud=115200)
        befall(line)
        line.close()
        line.close()
        line.stop(StopCause.SHUTDOWN)
        if fresh is not pty:
            fresh.unplug()
    assert descriptors() == before - 1  # the master, closed by the unplug


def test_a_closed_line_is_gone(line: SerialLine) -> None:
    """Using a line that was closed is refused in our own words."""
    line.close()
    with pytest.raises(PortGone, match="closed"):
        line.read(1)


def test_stop_and_close_may_meet(pty: Pty) -> None:
    """Stopping a line from one thread while its user closes it does nothing to anybody else's descriptors."""
    for _ in range(50):
        line = SerialLine(pty.node, baud=115200)
        stopper = threading.Thread(target=line.stop, args=(StopCause.UNPLUGGED,))
        stopper.start()
        line.close()
        stopper.join()
        os.close(os.dup(pty.master))


# --- opening -------------------------------------------------------------------------------------------------------


def test_a_missing_node_is_said(tmp_path: Path) -> None:
    """No such device: named, with nothing left open."""
    before = descriptors()
    with pytest.raises(PortMissing, match=r"there is no .*ttyUSB77"):
        SerialLine(str(tmp_path / "ttyUSB77"), baud=115200)
    assert descriptors() == before


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_tty_is_said(tmp_path: Path, kind: str) -> None:
    """A path that is no serial port is refused in words and left as it was."""
    path = tmp_path / "thing"
    if kind == "file":
        path.write_bytes(b"content")
    else:
        path.mkdir()
    before = descriptors()
    with pytest.raises(PortMissing, match="is not a serial port"):
        SerialLine(str(path), baud=115200)
    assert descriptors() == before
    assert kind == "directory" or path.read_bytes() == b"content"


def test_no_permission_is_said(pty: Pty) -> None:
    """The kernel's own refusal of a user who may not open the port is PortDenied."""
    Path(pty.node).chmod(0)
    with as_nobody(), pytest.raises(PortDenied, match="Permission denied"):
        SerialLine(pty.node, baud=115200)


def test_a_busy_port_names_its_holder(pty: Pty, tmp_path: Path) -> None:
    """Another program's lock is respected and the message says who, also when we were given a symlink."""
    link = tmp_path / "A1"
    link.symlink_to(pty.node)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, pty.node], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        name = Path(f"/proc/{holder.pid}/comm").read_text(encoding="ascii").strip()
        for node in (pty.node, str(link)):
            with pytest.raises(PortBusy) as busy:
                SerialLine(node, baud=115200)
            assert busy.value.holder == f"{name} ({holder.pid})"
        holder.communicate()
    SerialLine(pty.node, baud=115200).close()


def test_an_open_line_is_ours_alone(pty: Pty, line: SerialLine) -> None:
    """Nobody else can open it, by lock or at all (root excepted); closing gives it free, on a pty too."""
    Path(pty.node).chmod(0o666)
    with pytest.raises(PortBusy, match=rf"held by .* \({os.getpid()}\)"):
        SerialLine(pty.node, baud=115200)
    with as_nobody(), pytest.raises(OSError, match="busy"):
        os.open(pty.node, os.O_RDWR | os.O_NOCTTY)
    keeper = os.open(pty.node, os.O_RDWR | os.O_NOCTTY) if os.geteuid() == 0 else -1
    line.close()
    if keeper >= 0:
        assert struct.unpack("i", fcntl.ioctl(keeper, TIOCGEXCL, bytes(4))) == (0,)
        os.close(keeper)
    with as_nobody():
        SerialLine(pty.node, baud=115200).close()


@pytest.mark.parametrize(
    ("number", "becomes"),
    [
        (errno.EIO, AdapterHung),
        (errno.ETIMEDOUT, AdapterHung),
        (errno.EPROTO, AdapterHung),
        (errno.ENODEV, PortGone),
        (errno.ENXIO, PortGone),
        (errno.EBUSY, PortBusy),
        (errno.EMFILE, OSError),
    ],
)
@pytest.mark.parametrize("where", ["_open_port", "_apply_lines"])
def test_what_the_kernel_says_at_open(pty: Pty, where: str, number: int, becomes: type[Exception]) -> None:
    """Each errno of a sick adapter is one exception; one that is the station's own doing stays what it is."""

    def fail(_line: SerialLine, **_lines: bool) -> int:
        raise OSError(number, os.strerror(number))

    sick = type("Sick", (SerialLine,), {where: fail})
    before = descriptors()
    with pytest.raises(becomes):
        sick(pty.node, baud=115200)
    assert descriptors() == before


def test_a_bench_may_refuse_the_open_in_our_words(pty: Pty) -> None:
    """An override of `_apply_lines` or `_open_port` may raise our own errors; they pass unchanged."""

    class Hung(SerialLine):
        def _apply_lines(self, **_: bool) -> None:
            raise AdapterHung("no answer to control requests")

    before = descriptors()
    with pytest.raises(AdapterHung, match="no answer to control requests"):
        Hung(pty.node, baud=115200)
    assert descriptors() == before


# --- the modem lines -----------------------------------------------------------------------------------------------


def test_lines_are_released_together_at_open(pty: Pty) -> None:
    """The kernel asserts both lines at open; the first thing we do is to release both at once, never one by one."""
    line = LinedUp(pty.node, baud=115200)
    assert line.settings == [(False, False)]
    assert line.has_reset_lines
    line.close()


def test_reset_into_the_loader(pty: Pty) -> None:
    """EN falls with GPIO0 high, rises with GPIO0 low, then GPIO0 is released: asserted means low."""
    line = LinedUp(pty.node, baud=115200, en_low_s=0.001, settle_s=0.001)
    line.settings.clear()
    assert line.reset_board(BootInto.LOADER) is True
    assert line.settings == [(True, True), (False, True), (True, False), (False, False)]
    line.close()


def test_reset_into_the_firmware(pty: Pty) -> None:
    """EN is pulsed and GPIO0 never touched."""
    line = LinedUp(pty.node, baud=115200, en_low_s=0.001)
    line.settings.clear()
    assert line.reset_board(BootInto.FIRMWARE) is True
    assert line.settings == [(False, True), (False, False)]
    line.close()


def test_stop_ends_a_reset(pty: Pty) -> None:
    """An unplug does not wait for the pulse to end."""
    line = LinedUp(pty.node, baud=115200, en_low_s=60.0)
    with later(lambda: line.stop(StopCause.UNPLUGGED)), pytest.raises(LineStopped):
        line.reset_board(BootInto.LOADER)
    line.close()


def test_pyserials_own_properties_take_the_same_way(pty: Pty) -> None:
    """Setting dtr or rts, as a library might, is one setting of both lines through the one method."""
    line = LinedUp(pty.node, baud=115200)
    line.settings.clear()
    line.dtr = True
    legacy(line).setRTS(True)
    assert line.settings == [(True, False), (True, True)]
    line.close()


def test_a_pty_has_no_reset_lines(line: SerialLine) -> None:
    """A port whose lines cannot be set says so, and a reset is not pretended."""
    assert line.has_reset_lines is False
    assert line.reset_board(BootInto.LOADER) is False
    assert line.reset_board(BootInto.FIRMWARE) is False
    assert line.hold_boot_pin(low=True) is False


def test_lines_that_may_not_be_touched_are_not(pty: Pty) -> None:
    """Where a reset is not allowed nothing is set, neither at open nor for a reset nor to hold GPIO0."""
    line = LinedUp(pty.node, baud=115200, may_reset=False)
    assert line.has_reset_lines is False
    assert line.reset_board(BootInto.LOADER) is False
    assert line.hold_boot_pin(low=True) is False
    line.close()
    assert line.settings == []


def test_the_boot_pin_is_held_without_a_reset(pty: Pty) -> None:
    """GPIO0 goes low and high by DTR, both lines set at once, and EN (RTS) is never touched."""
    line = LinedUp(pty.node, baud=115200)
    line.settings.clear()
    assert line.hold_boot_pin(low=True) is True
    assert line.hold_boot_pin(low=False) is True
    assert line.settings == [(True, False), (False, False)]
    line.close()


def test_a_reset_lets_go_of_the_boot_pin(pty: Pty) -> None:
    """Whatever was held before, a reset into the firmware does not find GPIO0 low when EN rises."""
    line = LinedUp(pty.node, baud=115200, en_low_s=0.001)
    line.hold_boot_pin(low=True)
    line.settings.clear()
    assert line.reset_board(BootInto.FIRMWARE) is True
    assert line.settings == [(False, True), (False, False)]
    line.close()


@pytest.mark.parametrize(("number", "becomes"), [(errno.ETIMEDOUT, AdapterHung), (errno.EIO, AdapterHung)])
def test_lines_that_hang_are_a_hung_adapter(pty: Pty, number: int, becomes: type[Exception]) -> None:
    """A control request that is never answered comes back as TimeoutError after 1 s: the adapter hangs."""

    class Hangs(LinedUp):
        def _apply_lines(self, *, dtr: bool, rts: bool) -> None:
            super()._apply_lines(dtr=dtr, rts=rts)
            if rts:
                raise OSError(number, os.strerror(number))

    line = Hangs(pty.node, baud=115200)
    with pytest.raises(becomes):
        line.reset_board(BootInto.LOADER)
    pty.unplug()
    with pytest.raises(PortGone):
        line.reset_board(BootInto.LOADER)
    line.close()


# --- what was said -------------------------------------------------------------------------------------------------


def test_nothing_from_the_board_is_lost(pty: Pty, line: SerialLine) -> None:
    """What was discarded, by us or by esptool, is in the transcript and in the count."""
    pty.say_to(line, b"first ")
    assert line.read_some(5.0) == b"first "
    mark = line.mark()
    pty.say_to(line, b"second ")
    line.discard_input()
    pty.say_to(line, b"third")
    legacy(line).flushInput()
    assert line.read_some(0.0) == b""
    assert line.transcript == b"first second third"
    assert line.received_bytes == 18
    assert line.received_since(mark) == b"second third"


def test_answer_and_request_are_those_of_the_last_write(pty: Pty, line: SerialLine) -> None:
    """A failed request is judged by what came after it, not by the good answers before."""
    line.send(b"one")
    pty.say_to(line, b"answer one")
    line.read_some(5.0)
    line.send(b"two")
    assert (line.request, line.answer) == (b"two", b"")
    pty.say_to(line, b"answer two")
    line.read_some(5.0)
    assert (line.request, line.answer) == (b"two", b"answer two")
    assert line.answer_before == b"answer one"


def test_transcript_is_capped_at_the_end(pty: Pty, line: SerialLine) -> None:
    """Of a board that talks without end the last 64 KiB are kept, and all of it is counted."""
    said = b"".join(b"%07d\n" % number for number in range(3 * TRANSCRIPT_BYTES // 8))

    def talk() -> None:
        for at in range(0, len(said), 512):
            pty.say(said[at : at + 512])

    talker = threading.Thread(target=talk)
    talker.start()
    while line.received_bytes < len(said):
        line.read_some(5.0)
    talker.join()
    assert line.transcript == said[-TRANSCRIPT_BYTES:]
    assert len(line._transcript) <= 2 * TRANSCRIPT_BYTES


def test_an_answer_without_end_is_no_answer(pty: Pty, line: SerialLine) -> None:
    """A packet that never ends, which esptool would collect for ever, is broken off after 64 KiB."""
    talking = True

    def talk() -> None:
        while talking:
            with contextlib.suppress(BlockingIOError):
                pty.say(b"x" * 512)

    os.set_blocking(pty.master, False)
    talker = threading.Thread(target=talk)
    line.send(b"?")
    talker.start()
    with pytest.raises(LinkCorrupt, match=f"more than {ANSWER_LIMIT_BYTES} bytes"):
        line.read(ANSWER_LIMIT_BYTES + 1)
    line.discard_input()  # of a flood only so much is kept; it does not go on for ever either
    talking = False
    talker.join()


# --- the opener ----------------------------------------------------------------------------------------------------


def test_stop_reaches_the_line_that_was_opened(pty: Pty) -> None:
    """A visit that is ended from outside ends in its line, whether that happens before, while or after it reads."""
    stop = Stop()
    line = TtyOpener().open(programmer(pty.node), 115200, stop)
    with later(lambda: stop.request(StopCause.UNPLUGGED)), pytest.raises(LineStopped):
        line.read_some(60.0)
    line.close()
    with pytest.raises(LineStopped):
        TtyOpener().open(programmer(pty.node), 115200, stop)


def test_a_node_that_was_given_to_another_device_is_refused() -> None:
    """After a quick re-plug the same ttyUSB number may be another slot's programmer: sysfs decides, not the name."""
    if not Path("/sys/dev/char/5:2").exists():
        pytest.skip("this machine has no sysfs entry for /dev/ptmx, the only tty a test may borrow")
    before = descriptors()
    with pytest.raises(PortGone, match="belongs to another device"):
        TtyOpener().open(programmer("/dev/ptmx", "/sys/devices/virtual/tty/tty9"), 115200, Stop())
    assert descriptors() == before
    TtyOpener().open(programmer("/dev/ptmx", "/sys/devices/virtual/tty/ptmx"), 115200, Stop()).close()


@pytest.mark.parametrize("may_reset", [True, False])
def test_each_open_says_whether_it_may_reset(monkeypatch: pytest.MonkeyPatch, pty: Pty, *, may_reset: bool) -> None:
    """One opener gives lines that reset and lines that never touch DTR and RTS, as it is asked."""
    monkeypatch.setattr(line_module, "SerialLine", LinedUp)
    line = TtyOpener(en_low_s=0.001).open(programmer(pty.node), 115200, Stop(), may_reset=may_reset)
    assert line.has_reset_lines is may_reset
    assert line.reset_board(BootInto.FIRMWARE) is may_reset
    line.close()
