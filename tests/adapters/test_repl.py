"""The raw REPL against scripted lines, against a model of MicroPython's REPL loop, and against hostile bytes."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.adapters.repl import (
    BOOT_MAX_BYTES,
    OUTPUT_MAX_BYTES,
    PROMPT,
    TRACEBACK_MAX_CHARACTERS,
    BootScan,
    RawRepl,
    Run,
    printable,
)
from station.errors import (
    BoardRestartedInTest,
    BootLooping,
    CheckRaised,
    FilesystemCorrupt,
    LineStopped,
    NothingBoots,
    ReplError,
    ReplGarbage,
    ReplSilent,
)
from station.model import BootInto, StopCause
from station.ports import Repl, ReplMaker, Stop

BANNER = (
    b'MicroPython v1.27.0 on 2025-12-09; ESP module (1M) with ESP8266\r\nType "help()" for more information.\r\n>>> '
)
ROM_LOG = (
    b"\r\n ets Jan  8 2013,rst cause:2, boot mode:(3,7)\r\n\r\n"
    b"load 0x40100000, len 31088, room 16 \r\ntail 0\r\nchksum 0xe4\r\ncsum 0xe4\r\n"
)
ROM_LOG_GARBLED = bytes((byte * 37 + 91) % 256 | 0x80 * (byte & 1) for byte in ROM_LOG)
CORRUPT = b"The filesystem starting at sector 153 with size 98 sectors looks corrupt.\r\nYou may want to\r\n"
CORRUPT_FAT = b"The FAT filesystem starting at sector 153 with size 98 sectors appears to be corrupted\r\n"
WINDOW = 128
Chunk = Callable[[], int]


class Clock:
    """Time that passes only while somebody waits."""

    now = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now


class Quiet:
    """A board that never says anything, and remembers what it was sent; the base of all the others."""

    def __init__(self) -> None:
        self.received = b""

    def start(self) -> list[tuple[float, bytes]]:
        """What it says by itself, and when."""
        return []

    def take(self, data: bytes) -> bytes:
        """What it answers to what it is sent."""
        self.received += data
        return b""

    def was_heard(self, data: bytes) -> None:
        """What of its words the host has read by now."""


class Says(Quiet):
    """A board that says given things at given times and answers nothing."""

    def __init__(self, *says: tuple[float, bytes]) -> None:
        super().__init__()
        self.says = list(says)

    def start(self) -> list[tuple[float, bytes]]:
        """The given things."""
        return self.says


class Interpreter(Quiet):
    """MicroPython's event-driven REPL loop (pyexec.c), executing with CPython; `raw_paste` is None before 1.14."""

    def __init__(
        self, *, raw_paste: bool | None = True, before: bytes = ROM_LOG, boot_s: float = 0.0, boot_py: bytes = b""
    ):
        super().__init__()
        self.raw_paste, self.before, self.boot_s, self.boot_py = raw_paste, before, boot_s, boot_py
        self.mode = "boot"
        self.line = bytearray()
        self.waiting = b""
        self.credit = self.unacknowledged = 0
        self.interrupted = False

    def start(self) -> list[tuple[float, bytes]]:
        """The ROM's message, and later the banner."""
        return [(0.0, self.before), (self.boot_s, BANNER)]

    def boot_done(self) -> bytes:
        """The REPL is up and takes what has waited in the UART."""
        self.mode = "friendly"
        waiting, self.waiting = self.waiting, b""
        return self.take(waiting)

    def take(self, data: bytes) -> bytes:
        """One character after the other, as the REPL's task does."""
        self.received += data
        assert len(data) <= 256, "more than the UART's ring buffer holds"
        if self.mode == "paste":
            assert len(data.rstrip(b"\x04")) <= self.credit, "sent beyond the window"
        out = b""
        for position, byte in enumerate(data):
            if self.mode == "boot":
                self.waiting += data[position:]
                self.interrupted = self.interrupted or b"\x03" in data
                break
            out += getattr(self, f"_{self.mode}")(byte)
        return out

    def _friendly(self, byte: int) -> bytes:
        if byte == 0x01:
            self.mode = "raw"
            return b"\r\n" + self._raw(byte)
        return b"\r\n>>> " if byte in b"\r\x02\x03" else bytes([byte])

    def _raw(self, byte: int) -> bytes:
        if byte == 0x01:
            asked, self.line = bytes(self.line), bytearray()
            if asked == b"\x05A" and self.raw_paste is not None:
                if not self.raw_paste:
                    return b"R\x00>"
                self.mode, self.credit, self.unacknowledged = "paste", 0, 0
                return b"R\x01" + WINDOW.to_bytes(2, "little") + b"\x01"
            return PROMPT
        if byte == 0x02:
            self.mode = "friendly"
            return b"\r\n" + BANNER
        if byte == 0x03:
            self.line.clear()
        elif byte == 0x04:
            code, self.line = bytes(self.line), bytearray()
            return b"OK" + (self.execute(code) + b">" if code else b"\r\nMPY: soft reboot\r\n" + self.boot_py + PROMPT)
        else:
            self.line.append(byte)
        return b""

    def _paste(self, byte: int) -> bytes:
        if byte == 0x04:
            self.mode = "raw"
            code, self.line = bytes(self.line), bytearray()
            return b"\x04" + self.execute(code) + b">"
        self.line.append(byte)
        self.credit -= 1
        self.unacknowledged += 1
        if self.line.endswith(b"?!"):  # the model's syntax error: the compiler stops reading at once
            self.mode = "abandoned"
            return b"\x04"
        if self.unacknowledged < WINDOW:
            return b""
        self.unacknowledged = 0
        return b"\x01"

    def was_heard(self, data: bytes) -> None:
        """Room for a window is what the host may count on once it has read so: at first twice, with the window."""
        if self.mode == "paste":
            self.credit += WINDOW * data.count(b"\x01")

    def _abandoned(self, byte: int) -> bytes:
        if byte != 0x04:
            return b""
        self.mode, self.line = "raw", bytearray()
        return b'\x04Traceback (most recent call last):\r\n  File "<stdin>", line 2\r\nSyntaxError: invalid syntax\r\n\x04>'

    def execute(self, code: bytes) -> bytes:
        """Output, end, error, end."""
        printed, error = io.StringIO(), ""
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(code, "<stdin>", "exec"), {})  # noqa: S102 - our own code, in a test
            except Exception as caught:  # noqa: BLE001 - whatever the code raises is what a board would print
                error = 'Traceback (most recent call last):\n  File "<stdin>", line 2, in <module>\n'
                error += f"{type(caught).__name__}: {caught}\n"
        text = printed.getvalue() + "\x04" + error + "\x04"
        return text.replace("\n", "\r\n").encode("utf-8", "surrogateescape")


class ScriptedLine:
    """An in-memory `ports.Line`: a board at its other end, any chunking, and a clock that waiting moves."""

    def __init__(self, board: Quiet, clock: Clock, chunk: Chunk = lambda: 4096):
        self.board, self.clock, self.chunk = board, clock, chunk
        self.events = sorted(board.start(), key=lambda event: event[0])
        self.pending = b""
        self.read_bytes = 0
        self.stopped: StopCause | None = None

    node = "/dev/scripted"
    has_reset_lines = False

    @property
    def transcript(self) -> bytes:
        """Not kept."""
        return b""

    def set_baud(self, baud: int) -> None:
        """Must not be used."""
        raise AssertionError(f"the REPL does not change the rate (to {baud})")

    def _happen(self, until: float) -> None:
        while not self.pending and self.events and self.events[0][0] <= until:
            at, data = self.events.pop(0)
            self.clock.now = max(self.clock.now, at)
            self.pending += data
            if data == BANNER and isinstance(self.board, Interpreter):
                self.pending += self.board.boot_done()

    def read_some(self, timeout_s: float) -> bytes:
        """A piece of what is there by then."""
        if self.stopped is not None:
            raise LineStopped(self.stopped)
        self._happen(self.clock.now + timeout_s)
        if not self.pending:
            self.clock.now += timeout_s
            return b""
        size = self.chunk()
        data, self.pending = self.pending[:size], self.pending[size:]
        self.read_bytes += len(data)
        self.board.was_heard(data)
        return data

    def send(self, data: bytes) -> None:
        """To the board, which answers at once."""
        self._happen(self.clock.now)
        self.pending += self.board.take(data)

    def discard_input(self) -> None:
        """Drop what is there."""
        self.pending = b""

    def reset_board(self, into: BootInto) -> bool:
        """Must not be used."""
        raise AssertionError(f"the REPL does not touch the reset lines (into {into})")

    def hold_boot_pin(self, *, low: bool) -> bool:
        """Must not be used."""
        raise AssertionError(f"the REPL does not touch the boot pin (low: {low})")

    def stop(self, cause: StopCause) -> None:
        """From now on every read raises."""
        self.stopped = cause

    def close(self) -> None:
        """Must not be used."""
        raise AssertionError("the REPL does not own the line")


def repl_on(board: Quiet, chunk: Chunk = lambda: 4096) -> tuple[RawRepl, ScriptedLine, Clock]:
    """A REPL conversation with `board`."""
    clock = Clock()
    line = ScriptedLine(board, clock, chunk)
    return RawRepl(line, Stop(), clock), line, clock


def at_prompt(board: Interpreter, chunk: Chunk = lambda: 4096) -> tuple[RawRepl, ScriptedLine, Clock]:
    """A REPL conversation that has got as far as the prompt."""
    repl, line, clock = repl_on(board, chunk)
    repl.await_prompt(40)
    return repl, line, clock


def chunks_from(sizes: Iterable[int]) -> Chunk:
    """Reads of the given sizes over and over."""
    wanted = list(sizes) or [1]
    state = {"next": 0}

    def size() -> int:
        state["next"] += 1
        return wanted[state["next"] % len(wanted)]

    return size


def test_raw_repl_is_the_repl_of_the_ports():
    """RawRepl's class makes conversations as ReplMaker says, and sends nothing by itself."""
    maker: ReplMaker = RawRepl
    board = Quiet()
    repl: Repl = maker(ScriptedLine(board, Clock()), Stop())
    assert board.received == b""
    repl.leave()
    assert board.received == b"\r\x02"


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
def test_a_booting_board_gets_to_the_prompt_and_its_banner_is_returned(size):
    """After a boot message a board reaches the raw REPL whatever the chunking, and its banner is what it said."""
    repl, _, clock = repl_on(Interpreter(), lambda: size)
    assert repl.await_prompt(40) == "MicroPython v1.27.0 on 2025-12-09; ESP module (1M) with ESP8266"
    assert clock.now < 2
    assert repl.run("print(6*7)", 5) == b"42\r\n"


def means_nothing(garbage: bytes) -> bool:
    """Whether these bytes are garbage indeed (hypothesis likes to try the very words that the code looks for)."""
    return not any(word in garbage for word in (b"ets Jan", b"MicroPython", b"corrupt", b"raw REPL"))


@given(
    garbage=st.binary(max_size=300).filter(means_nothing),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    raw_paste=st.sampled_from([True, False, None]),
)
@settings(max_examples=60, deadline=None)
def test_boot_garbage_and_chunking_change_nothing(garbage, sizes, raw_paste):
    """Whatever bytes precede the banner and however bytes are cut, prompt and answer are the same."""
    board = Interpreter(before=garbage + b"\x04>OK\x04\x04>", raw_paste=raw_paste)
    repl, _, _ = at_prompt(board, chunks_from(sizes))
    assert repl.run("print('a')\nprint('b', end='')", 5) == b"a\r\nb"


def test_a_slow_first_boot_is_waited_for_and_never_interrupted():
    """A board that makes its filesystem for 29 s gets no Ctrl-C meanwhile, and reaches the prompt when it is done."""
    board = Interpreter(boot_s=29.0)
    repl, _, clock = repl_on(board)
    repl.await_prompt(40)
    assert clock.now >= 29
    assert not board.interrupted
    assert repl.run("print(1)", 5) == b"1\r\n"


class MainLoop(Interpreter):
    """A board whose main.py runs for ever without a word until Ctrl-C stops it."""

    def start(self) -> list[tuple[float, bytes]]:
        """No banner."""
        return [(0.0, ROM_LOG_GARBLED)]

    def take(self, data: bytes) -> bytes:
        """Nothing is heard but Ctrl-C."""
        if self.mode == "boot" and b"\x03" in data:
            self.mode, self.received = "friendly", self.received + data
            return b"Traceback (most recent call last):\r\nKeyboardInterrupt:\r\n" + BANNER + super().take(data[-1:])
        return super().take(data)


def test_a_board_that_hides_its_repl_is_interrupted_in_the_end():
    """A main.py that never ends is stopped by Ctrl-C once any making of a filesystem must be over."""
    board = MainLoop()
    repl, _, clock = repl_on(board)
    assert repl.await_prompt(40).startswith("MicroPython v1.27.0")
    assert 29 < clock.now < 40


class HalfTyped(Interpreter):
    """A board whose prompt waits for the rest of something: no empty line ends it, only Ctrl-C."""

    def __init__(self, waits: bytes):
        super().__init__()
        self.waits, self.mode = waits, "friendly"

    def start(self) -> list[tuple[float, bytes]]:
        """It runs for long already."""
        return []

    def _friendly(self, byte: int) -> bytes:
        if self.waits and byte != 0x03:
            return self.waits if byte == 0x0D else b""
        self.waits = b""
        return super()._friendly(byte)


@pytest.mark.parametrize("waits", [b"\r\n... ", b"\r\n=== "])
@pytest.mark.parametrize("size", [1, 4096])
def test_a_prompt_that_waits_for_the_rest_of_a_line_is_interrupted_at_once(waits, size):
    """A statement that somebody left half-typed, and paste mode, are left by Ctrl-C as soon as they show."""
    repl, _, clock = repl_on(HalfTyped(waits), lambda: size)
    repl.await_prompt(40)
    assert clock.now < 4
    assert repl.run("print(1)", 5) == b"1\r\n"


@pytest.mark.parametrize("words", [CORRUPT, CORRUPT_FAT])
@pytest.mark.parametrize("size", [1, 4096])
def test_a_corrupt_filesystem_is_told_at_once(words, size):
    """Both wordings of the endless corrupt message end the wait when they are first read."""
    repl, _, clock = repl_on(Says((0.0, ROM_LOG), (1.0, words), (4.0, words)), lambda: size)
    with pytest.raises(FilesystemCorrupt):
        repl.await_prompt(40)
    assert clock.now < 2


@pytest.mark.parametrize("start", [ROM_LOG, BANNER, ROM_LOG + BANNER, ROM_LOG_GARBLED])
@pytest.mark.parametrize("size", [1, 33, 4096])
def test_a_board_that_starts_again_and_again_is_looping(start, size):
    """Four starts without a usable prompt are a boot loop, by ROM message, by banner or by bursts of garbage."""
    repl, _, clock = repl_on(Says(*((at * 2.0, start) for at in range(9))), lambda: size)
    with pytest.raises(BootLooping):
        repl.await_prompt(40)
    assert clock.now < 10


class Busy(Quiet):
    """A board on which a program runs and says nothing; when Ctrl-C came first."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.interrupted_at: float | None = None

    def take(self, data: bytes) -> bytes:
        """Only Ctrl-C counts."""
        if b"\x03" in data and self.interrupted_at is None:
            self.interrupted_at = self.clock.now
        return b""


@pytest.mark.parametrize(("programs", "timeout_s", "at_s"), [(False, 40, 30.0), (True, 40, 3.0), (True, 2, 1.5)])
def test_a_program_is_interrupted_soon_but_boot_py_gets_its_time(programs, timeout_s, at_s):
    """Where a program lies on the board Ctrl-C comes after 3 s, and not from the first byte; elsewhere late."""
    clock = Clock()
    board = Busy(clock)
    repl = RawRepl(ScriptedLine(board, clock), Stop(), clock)
    with pytest.raises(NothingBoots):
        repl.await_prompt(timeout_s, programs=programs)
    assert board.interrupted_at is not None
    assert at_s <= board.interrupted_at <= at_s + 2.0


def test_three_starts_are_not_yet_a_loop_if_a_prompt_comes():
    """A board that glitches twice at power-up and then comes up is taken as it is."""
    repl, _, _ = repl_on(Interpreter(before=ROM_LOG * 3))
    assert repl.await_prompt(40).startswith("MicroPython")


@pytest.mark.parametrize(("starts", "error"), [(1, ReplSilent), (2, ReplSilent), (3, BootLooping)])
def test_three_starts_and_no_prompt_until_the_deadline_are_a_loop(starts, error):
    """A slow boot loop is named as such at the deadline; a start left over from before the reset makes no loop."""
    repl, _, _ = repl_on(Says(*((at * 15.0, ROM_LOG + BANNER[:-4]) for at in range(starts))))
    with pytest.raises(error):
        repl.await_prompt(40)


@pytest.mark.parametrize("said", [b"", ROM_LOG, ROM_LOG_GARBLED, b"\x00\xff"])
def test_without_a_word_of_a_firmware_nothing_boots(said):
    """Silence, or the ROM's message alone in clear or at the wrong rate, is no firmware."""
    repl, _, clock = repl_on(Says((0.1, said)))
    with pytest.raises(NothingBoots):
        repl.await_prompt(40)
    assert clock.now == pytest.approx(40)


@pytest.mark.parametrize("said", [BANNER, BANNER[:-4], b"hello from another firmware\r\n"])
def test_a_firmware_without_a_prompt_is_a_silent_repl(said):
    """A firmware that speaks but never answers Ctrl-A has no REPL."""
    repl, _, _ = repl_on(Says((0.0, ROM_LOG + said)))
    with pytest.raises(ReplSilent):
        repl.await_prompt(40)


class Endless(Quiet):
    """A board that talks without end, at once or from its first prompt on."""

    def __init__(self, pattern: bytes, *, prompt: bool) -> None:
        super().__init__()
        self.pattern, self.prompt, self.flowing = pattern, prompt, not prompt

    def start(self) -> list[tuple[float, bytes]]:
        """A banner, or already the flood."""
        return [(0.0, ROM_LOG + (BANNER if self.prompt else self.pattern * 1000))]

    def take(self, data: bytes) -> bytes:
        """One prompt, then the flood."""
        if self.prompt and not self.flowing and b"\x01" in data:
            self.flowing = True
            return PROMPT
        return b""


class EndlessLine(ScriptedLine):
    """Always another chunk, as a UART at full rate for ever."""

    def read_some(self, timeout_s: float) -> bytes:
        """A piece of the flood once it flows."""
        data = super().read_some(0)
        if not data and isinstance(self.board, Endless) and self.board.flowing:
            data = self.board.pattern * 100
            self.read_bytes += len(data)
            self.clock.now += 0.001
        elif not data:
            self.clock.now += timeout_s
        return data


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("pattern", [b"\x00", b"\x1b[2J<script>", bytes(range(256)), PROMPT, b"PASS\r\n", b"\x04>"])
def test_endless_output_is_garbage_and_is_ended_early(prompt, pattern):
    """A board that never stops talking is garbage after at most 256 KiB, whatever it says."""
    clock = Clock()
    line = EndlessLine(Endless(pattern, prompt=prompt), clock)
    with pytest.raises(ReplGarbage):
        RawRepl(line, Stop(), clock).await_prompt(40)
    assert line.read_bytes <= BOOT_MAX_BYTES + 100 * len(pattern) + 2048


class Answers(Interpreter):
    """A board with a true prompt and false answers."""

    def __init__(self, answer: bytes, *, true_at_first: int = 0) -> None:
        super().__init__(raw_paste=None)
        self.answer, self.true_left = answer, true_at_first

    def execute(self, code: bytes) -> bytes:
        """The truth a few times, then the one answer."""
        self.true_left -= 1
        return super().execute(code) if self.true_left >= 0 else self.answer


NONSENSE = [
    b"PASS\r\n\x04\x04",
    b'{"result": "PASS"}\r\n\x04\x04',
    b"\x00\x1b[31m\xff\xfe\x04\x04",
    b"\x04PASS\r\n\x04",
    b"=cmd()\r\n",
]


@pytest.mark.parametrize("answer", NONSENSE)
def test_a_prompt_with_false_answers_is_garbage(answer):
    """A prompt is believed only when it runs a line; PASS without the nonce is nothing."""
    repl, _, clock = repl_on(Answers(answer))
    with pytest.raises(ReplGarbage):
        repl.await_prompt(40)
    assert clock.now < 30


def test_a_prompt_that_runs_nothing_is_garbage():
    """A prompt that comes as often as asked but never runs a line is no REPL to believe."""
    repl, _, clock = repl_on(Answers(b""))
    with pytest.raises(ReplGarbage):
        repl.await_prompt(40)
    assert clock.now == pytest.approx(40)


class LateLine(ScriptedLine):
    """A line on which everything that a board answers arrives late: what a very busy machine makes of it."""

    late_s = 0.0

    def send(self, data: bytes) -> None:
        """To the board; its answer comes late, in order."""
        self._happen(self.clock.now)
        self.events.append((self.clock.now + self.late_s, self.board.take(data)))


def late_repl(late_s: float) -> tuple[RawRepl, Clock]:
    """A REPL conversation with a good board over a slow machine."""
    clock = Clock()
    line = LateLine(Interpreter(), clock)
    line.late_s = late_s
    return RawRepl(line, Stop(), clock), clock


def test_a_patient_deadline_waits_longer_for_each_answer():
    """Where the deadline is long because the machine is slow, a late answer is an answer."""
    repl, _ = late_repl(12)
    assert "MicroPython v" in repl.await_prompt(100)


def test_late_answers_are_not_counted_as_nonsense():
    """Answers to earlier questions that come too late do not end the wait: it goes on to the deadline."""
    repl, clock = late_repl(6)
    with pytest.raises(ReplGarbage):
        repl.await_prompt(40)
    assert clock.now == pytest.approx(40)


@pytest.mark.parametrize("answer", NONSENSE)
def test_a_run_with_a_false_answer_is_garbage(answer):
    """An answer that does not carry this run's nonce is garbage, even when it says PASS."""
    repl, _, _ = at_prompt(Answers(answer, true_at_first=1))
    with pytest.raises(ReplGarbage):
        repl.run("print('PASS')", 5)


def test_an_echo_of_the_code_is_not_an_answer():
    """The code as it is sent does not contain the marks, so a line that echoes everything proves nothing."""
    board = Interpreter(raw_paste=False)
    repl, _, _ = at_prompt(board)
    board.execute = lambda code: code + b"\x04\x04"  # type: ignore[method-assign]
    with pytest.raises(ReplGarbage):
        repl.run("print(1)", 5)


def test_an_old_answer_does_not_pass_for_a_new_one():
    """What an earlier run printed, marks included, is not accepted for a later run."""
    old = Interpreter().execute(Run("print(1)", raw_paste=False).begin().rstrip(b"\x04"))
    assert old.count(b"\x04") == 2
    repl, _, _ = at_prompt(Answers(old, true_at_first=1))
    with pytest.raises(ReplGarbage):
        repl.run("print(1)", 5)


@pytest.mark.parametrize("raw_paste", [True, False, None])
@pytest.mark.parametrize("size", [1, 3, 4096])
def test_long_code_arrives_whole_in_every_mode(raw_paste, size):
    """Code longer than the UART's buffer arrives unharmed by raw paste, and in paced chunks where there is none."""
    repl, _, _ = at_prompt(Interpreter(raw_paste=raw_paste), lambda: size)
    code = "".join(f"x{number} = {number}\n" for number in range(300)) + "print(sum([x0, x1, x299]))"
    assert repl.run(code, 5) == b"300\r\n"
    assert repl.run("print('again')", 5) == b"again\r\n"


def test_raw_paste_is_not_asked_for_again_once_refused():
    """A board that does not know raw paste is asked once, not before every run."""
    board = Interpreter(raw_paste=None)
    repl, _, _ = at_prompt(board)
    repl.run("print(1)", 5)
    repl.run("print(2)", 5)
    assert board.received.count(b"\x05A\x01") == 1


@pytest.mark.parametrize("length", [0, 1, OUTPUT_MAX_BYTES])
def test_output_is_returned_exactly(length):
    """What the code printed comes back byte for byte, up to the cap."""
    repl, _, _ = at_prompt(Interpreter(), lambda: 1024)
    assert repl.run(f"print('x'*{length}, end='')", 5) == b"x" * length


@pytest.mark.parametrize("length", [OUTPUT_MAX_BYTES + 1, 10 * OUTPUT_MAX_BYTES])
def test_output_beyond_the_cap_is_garbage(length):
    """More output than 64 KiB is garbage."""
    repl, line, _ = at_prompt(Interpreter(), lambda: 4096)
    before = line.read_bytes
    with pytest.raises(ReplGarbage):
        repl.run(f"print('x'*{length}, end='')", 5)
    assert line.read_bytes - before < OUTPUT_MAX_BYTES + 3 * 4096


def test_output_with_ends_and_prompts_in_it_is_never_taken_for_a_whole_answer():
    """Output that holds the protocol's own bytes is refused rather than cut."""
    repl, _, _ = at_prompt(Interpreter())
    with pytest.raises(ReplGarbage):
        repl.run("print('half' + chr(4) + chr(4) + '>' + 'whole')", 5)


@pytest.mark.parametrize("raw_paste", [True, False, None])
def test_an_exception_on_the_board_is_told_with_its_traceback(raw_paste):
    """Code that raises gives CheckRaised with the board's traceback, after output or before any, and the REPL goes on."""
    repl, _, _ = at_prompt(Interpreter(raw_paste=raw_paste))
    with pytest.raises(CheckRaised, match="ValueError: no such thing") as caught:
        repl.run("print('partial')\nraise ValueError('no such thing')", 5)
    assert caught.value.traceback.startswith("Traceback (most recent call last):\n")
    assert repl.run("print('alive')", 5) == b"alive\r\n"


@pytest.mark.parametrize("length", [10, 1000])
def test_code_that_does_not_compile_is_told_as_an_exception(length):
    """A board that stops reading in the middle of a paste is heard, and says why."""
    repl, _, _ = at_prompt(Interpreter())
    with pytest.raises(CheckRaised, match="SyntaxError"):
        repl.run("x = 1 ?!\n" + "y = 1\n" * length, 5)
    assert repl.run("print('alive')", 5) == b"alive\r\n"


def test_a_traceback_is_capped_and_escaped():
    """A hostile traceback keeps its end, at most 4096 characters, and nothing in it moves a cursor or forges a line."""
    repl, _, _ = at_prompt(Interpreter())
    with pytest.raises(CheckRaised) as caught:
        repl.run("raise ValueError('x'*9000 + chr(27) + '[2J' + chr(0) + chr(13) + chr(0x202e) + 'last')", 5)
    text = caught.value.traceback
    assert len(text) <= TRACEBACK_MAX_CHARACTERS
    assert text.endswith("\\x1b[2J\\x00\\r\\u202elast\n")
    assert text.replace("\n", "").isprintable()


class Dies(Interpreter):
    """A board that says something of its own in the middle of every run, and then no more."""

    def __init__(self, last_words: bytes) -> None:
        super().__init__()
        self.last_words = last_words

    def _paste(self, byte: int) -> bytes:
        if byte == 0x04:
            self.mode = "boot"
            return b"\x04" + self.last_words
        return super()._paste(byte)


@pytest.mark.parametrize(
    "words", [ROM_LOG, ROM_LOG_GARBLED + BANNER, b"Fatal exception (28):\r\nepc1=0x4000e25d", BANNER]
)
@pytest.mark.parametrize("size", [1, 4096])
def test_a_restart_in_the_middle_of_a_run_is_noticed(words, size):
    """Boot messages or a crash in the middle of a run end it as a restart."""
    repl, _, clock = at_prompt(Dies(words), lambda: size)
    began = clock.now
    with pytest.raises(BoardRestartedInTest):
        repl.run("print(1)", 20)
    assert clock.now < began + 5


def test_garbage_that_looks_like_an_end_is_a_restart_not_a_crashed_check():
    """A ROM message at its own rate may hold the bytes that end an answer; the check is not blamed for it."""
    run = Run("import network", raw_paste=False)
    first, second = ROM_LOG_GARBLED[:20].replace(b"\x04", b"\x05"), ROM_LOG_GARBLED.replace(b"\x04", b"\x05")
    run.feed(b"OK" + run._opening + b"\r\n" + first + b"\x04" + second + b"\x04>")
    assert run.done
    with pytest.raises(BoardRestartedInTest):
        run.result()


def test_a_board_that_falls_silent_in_a_run_is_silent_not_garbage():
    """Silence until the deadline is told as silence, whether before or after the code was taken."""
    repl, _, clock = at_prompt(Dies(b""))
    began = clock.now
    with pytest.raises(ReplSilent):
        repl.run("print(1)", 20)
    assert clock.now == pytest.approx(began + 20)
    with pytest.raises(ReplSilent):
        repl.run("print(2)", 20)


def test_a_run_that_was_taken_and_never_ends_is_silent():
    """A board that takes the code, says something and then hangs is told as silence: it has not answered yet."""
    repl, _, _ = at_prompt(Dies(b"half an answer"))
    with pytest.raises(ReplSilent):
        repl.run("print(1)", 20)


def test_a_run_ends_with_the_prompt_and_not_before():
    """The prompt belongs to the answer, so that it cannot be taken for part of the next one."""
    run = Run("print(1)", raw_paste=False)
    board = Interpreter()
    run.feed(b"OK" + board.execute(run.begin().rstrip(b"\x04")))
    assert not run.done
    run.feed(b">")
    assert run.done
    assert run.result() == b"1\r\n"


def test_a_window_of_nothing_is_garbage_at_once():
    """A board that offers raw paste with no room for a single byte is not waited for."""
    run = Run("print(1)", raw_paste=True)
    run.begin()
    with pytest.raises(ReplGarbage):
        run.feed(b"R\x01\x00\x00\x01")


def test_nonsense_until_the_deadline_of_a_run_is_garbage():
    """A board that answers the question for raw paste with nonsense is garbage at the deadline."""
    board = Interpreter()
    repl, _, _ = at_prompt(board)
    board._raw = lambda byte: b"?#" if byte == 0x01 else b""  # type: ignore[method-assign]
    with pytest.raises(ReplGarbage):
        repl.run("print(1)", 5)


def test_a_soft_reset_ends_at_the_prompt_and_nowhere_before():
    """A boot.py that prints prompts of its own does not end the wait for the real one."""
    board = Interpreter(boot_py=b">\r\n>>> raw REPL; CTRL-B\r\n>")
    repl, _, _ = at_prompt(board, lambda: 1)
    board.received = b""
    repl.soft_reset(10)
    assert board.received.endswith(b"\x04")
    assert repl.run("print('after')", 5) == b"after\r\n"


def test_a_soft_reset_that_went_unheard_is_asked_for_again():
    """A board that missed the request is asked once more after a silence, and then comes back to the prompt."""

    class HardOfHearing(Interpreter):
        asked = 0

        def take(self, data: bytes) -> bytes:
            self.asked += b"\x03\x04" in data
            return b"" if b"\x03\x04" in data and self.asked == 1 else super().take(data)

    interpreter = HardOfHearing()
    repl, _, _ = at_prompt(interpreter)
    repl.soft_reset(60)
    assert interpreter.asked == 2


def test_a_soft_reset_that_goes_wrong_is_told():
    """A soft reset that becomes a restart, or never comes back, is no success."""
    board = Interpreter(boot_py=ROM_LOG)
    repl, _, _ = at_prompt(board)
    with pytest.raises(BoardRestartedInTest):
        repl.soft_reset(10)
    repl, _, _ = at_prompt(Interpreter())
    repl._line.board.mode = "boot"  # type: ignore[attr-defined]
    with pytest.raises(ReplSilent):
        repl.soft_reset(10)


def test_leaving_brings_the_board_back_to_its_friendly_prompt():
    """After leave() the board is in the REPL a user expects."""
    board = Interpreter()
    repl, _, _ = at_prompt(board)
    repl.leave()
    assert board.mode == "friendly"


@pytest.mark.parametrize("code", ["print('é')", "print(1)\x04", "x\ty"])
def test_code_that_the_line_would_not_carry_is_refused_before_it_is_sent(code):
    """Control characters and non-ASCII text in code are a mistake of ours, told before anything is sent."""
    board = Interpreter()
    repl, _, _ = at_prompt(board)
    board.received = b""
    with pytest.raises(ValueError, match="printable ASCII"):
        repl.run(code, 5)
    assert board.received == b""


def test_a_stopped_visit_ends_the_conversation_even_while_bytes_flow():
    """LineStopped comes out of every wait as soon as the visit is ended."""
    clock = Clock()
    stop = Stop()
    line = EndlessLine(Endless(b"x", prompt=False), clock)
    stop.request(StopCause.UNPLUGGED)
    with pytest.raises(LineStopped):
        RawRepl(line, stop, clock).await_prompt(40)
    assert line.read_bytes == 0
    repl, _, _ = at_prompt(Interpreter())
    repl._stop.request(StopCause.DEADLINE)
    with pytest.raises(LineStopped):
        repl.run("print(1)", 5)


@given(
    st.lists(st.binary(max_size=60), max_size=40), st.booleans(), st.sampled_from([b"", b"R\x01\x80\x00\x01", b"OK"])
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_of_a_board_break_a_run_or_pass_for_an_answer(chunks, raw_paste, start):
    """Whatever a board sends, a run ends in a ReplError or goes on; without the nonce it never has a result."""
    run = Run("print(1)", raw_paste=raw_paste)
    run.begin()
    with contextlib.suppress(ReplError):
        for chunk in (start, *chunks):
            run.feed(chunk)
    assert isinstance(run.unanswered(), ReplError)
    if run.done:
        with pytest.raises(ReplError):
            run.result()


@given(st.lists(st.binary(max_size=60) | st.just(b""), max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_bytes_of_a_board_break_the_wait_for_its_prompt(chunks):
    """Whatever a starting board sends, the scan gives a ReplError or goes on, and can always say what it means."""
    scan = BootScan()
    with contextlib.suppress(ReplError):
        for chunk in chunks:
            scan.feed(chunk)
            scan.pause()
    assert isinstance(scan.failure(), ReplError)
    assert len(scan.banner) <= 200


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_starts_are_counted_the_same_however_bytes_are_cut(sizes):
    """Each start is counted once, whatever the chunk borders."""
    said, scan = (ROM_LOG + BANNER) * 3, BootScan()
    size, position = chunks_from(sizes), 0
    while position < len(said):
        step = size()
        scan.feed(said[position : position + step])
        position += step
    assert scan.boots == 3


@given(st.binary(max_size=300), st.integers(1, 50))
def test_printable_text_is_printable_and_capped(data, limit):
    """Board bytes made printable hold nothing but printable characters and line feeds, within the cap."""
    text = printable(data, limit)
    assert len(text) <= limit
    assert text.replace("\n", "").isprintable()


def test_the_result_of_a_run_is_what_stands_between_the_marks():
    """JSON printed by the code is decodable as it stands; what the board says around it is not in it."""
    repl, _, _ = at_prompt(Interpreter())
    assert json.loads(repl.run("import json\nprint(json.dumps({'a': [1, 2]}))", 5)) == {"a": [1, 2]}
