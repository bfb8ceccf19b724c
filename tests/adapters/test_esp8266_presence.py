"""Who is there: what `connect` says where no loader answers and after how many attempts, and what a `peek` sees."""

import asyncio
import itertools
import random
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.adapters import loader_peek
from station.adapters.line import Mark
from station.adapters.link_evidence import PROBE
from station.adapters.loader_peek import peek_at
from station.bench import programmer as programmer_module
from station.bench.programmer import ProgrammerKind, RunningFirmware
from station.errors import FirmwareAnswers, LineStopped, LinkEcho, LinkSilent, LoaderMute, PortGone
from station.model import Answer, Peek, StopCause
from tests.adapters.esp8266_rig import (
    BANNER,
    IMAGE,
    JUMPERED,
    LINES,
    RUNNING,
    Bench,
    Emit,
    Firmware,
    chip_with,
    into_stub,
)

MAC = "5c:cf:7f:dd:c1:01"


class SlowFirmware(Firmware):
    """Answers everything half a second late."""

    def __init__(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()

        def emit_later(data: bytes) -> None:
            loop.call_later(0.5, emit, data)

        super().__init__(emit_later)


class RawRepl(Firmware):
    """A MicroPython that an earlier visit left in its raw REPL: only Ctrl-B brings a word out of it."""

    def __init__(self, emit: Emit) -> None:
        super().__init__(lambda _data: None)
        self._say = emit

    def receive(self, data: bytes) -> None:
        """Leave the raw REPL at a Ctrl-B."""
        if b"\x02" in data:
            self._say(BANNER + b">>> ")


class AtFirmware(Firmware):
    """What a factory-fresh ESP-01 runs: it echoes everything, and refuses what is no command."""

    def __init__(self, emit: Emit) -> None:
        super().__init__(lambda _data: None)
        self._say = emit
        emit(b"\r\nready\r\n")

    def receive(self, data: bytes) -> None:
        """Echo, and say ERROR to each line."""
        self._say(data + b"\r\nERROR\r\n" * data.count(b"\r\n"))


class Quiet(Firmware):
    """A program that says nothing, whatever it hears."""

    def __init__(self, emit: Emit) -> None:
        del emit
        super().__init__(lambda _data: None)


class Babbler(Firmware):
    """A firmware that answers every byte with nonsense."""

    def __init__(self, emit: Emit) -> None:
        super().__init__(lambda _data: None)
        self._say, self._dice = emit, random.Random(1)

    def receive(self, data: bytes) -> None:
        """Say something that is no text."""
        self._say(bytes(self._dice.randrange(0x80, 0xBF) for _ in data))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Give a bench without programmers."""
    with Bench() as made:
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a peek wait longer for an answer: this machine may be busy with other things."""
    monkeypatch.setattr(loader_peek, "ANSWER_S", 0.5)


def probes(written: list[tuple[int, bytes]]) -> int:
    """How many empty lines were sent at the firmware's rate."""
    return written.count((115200, PROBE))


# --- connect: nobody there -----------------------------------------------------------------------------------------


def test_a_silent_board_behind_reset_lines_costs_one_attempt(bench: Bench) -> None:
    """Not a byte after one reset with its SYNCs, and none after a reset at the boot message's rate: LinkSilent."""
    board, line, _ = bench.board("no_answer")
    with pytest.raises(LinkSilent) as silent:
        board.connect(50)
    assert type(silent.value) is LinkSilent
    assert (line.resets, line.syncs(), probes(line.written)) == (2, 5, 1)
    assert line.baudrate == 115200


def test_an_empty_programmer_without_lines_costs_one_attempt(bench: Bench) -> None:
    """Without reset lines it is the SYNCs and one empty line, and nothing is reset or repeated."""
    programmer, path = bench.plug(kind=JUMPERED, empty=True)
    line = bench.open(programmer, path)
    with pytest.raises(LinkSilent):
        bench.flasher.loader(line).connect(50)
    assert (line.resets, line.syncs(), probes(line.written)) == (0, 5, 1)


def test_a_stub_that_may_have_stayed_costs_three_syncs_more(bench: Bench) -> None:
    """Where a stub was left at another rate, a silent line is asked there as well before it is given up."""
    programmer, path = bench.plug(kind=JUMPERED)
    line = bench.open(programmer, path)
    board = bench.flasher.loader(line)
    into_stub(board, 460800)
    bench.on_loop(programmer.lift)
    line.written.clear()
    with pytest.raises(LinkSilent):
        board.connect(50)
    assert (line.syncs(115200), line.syncs(460800)) == (5, 3)
    assert line.baudrate == 115200


def test_a_board_that_speaks_gets_every_attempt(bench: Bench) -> None:
    """A board whose boot message is heard but whose loader says nothing is reset again until all attempts are made."""
    board, line, _ = bench.board()
    line.damage = lambda _data: b""
    with pytest.raises(LoaderMute):
        board.connect(3)
    assert (line.resets, line.syncs()) == (4, 15)


def test_a_large_capacitor_at_en_needs_the_long_reset(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where EN rises after GPIO0 was let go the board is heard to start, and the second, longer reset catches it."""
    monkeypatch.setattr(programmer_module, "EN_RISE_S", 0.3)
    board, line, _ = bench.board()
    board.connect(2)
    assert board.read_identity().mac == MAC
    assert line.resets == 2


# --- connect: somebody else there ----------------------------------------------------------------------------------

KINDS_OF_LINE = [
    pytest.param(RUNNING, False, 0, id="no lines"),
    pytest.param(RUNNING, True, 1, id="lines that reach nothing"),
    pytest.param(LINES, True, 4, id="lines"),
]


@pytest.mark.parametrize(("kind", "has_lines", "resets"), KINDS_OF_LINE)
def test_a_running_micropython_is_named(bench: Bench, kind: ProgrammerKind, resets: int, *, has_lines: bool) -> None:
    """A prompt is FirmwareAnswers of MicroPython; only where a reset was felt is the loader sought again."""
    board, line, _ = bench.board("run_mode", kind=kind, has_lines=has_lines, image=IMAGE)
    line.pause(0.1)
    with pytest.raises(FirmwareAnswers, match="MicroPython answers") as found:
        board.connect(4)
    assert found.value.micropython is True
    assert line.resets == resets
    assert line.baudrate == 115200


@pytest.mark.parametrize(("kind", "has_lines"), [case.values[:2] for case in KINDS_OF_LINE])
@pytest.mark.parametrize("firmware", [SlowFirmware, RawRepl])
def test_a_micropython_that_does_not_answer_at_once(
    bench: Bench, firmware: Callable[[Emit], RunningFirmware], kind: ProgrammerKind, *, has_lines: bool
) -> None:
    """Half a second of thinking, or a raw REPL that somebody left, is no silence."""
    bench.start_firmware = firmware
    board, _, _ = bench.board("run_mode", kind=kind, has_lines=has_lines, image=IMAGE)
    with pytest.raises(FirmwareAnswers) as found:
        board.connect(2)
    assert found.value.micropython is True


@pytest.mark.parametrize(("kind", "has_lines"), [case.values[:2] for case in KINDS_OF_LINE])
def test_the_firmware_of_a_factory_fresh_board(bench: Bench, kind: ProgrammerKind, *, has_lines: bool) -> None:
    """An AT firmware, which echoes all of our SYNC, is a firmware and no echo, and no MicroPython."""
    bench.start_firmware = AtFirmware
    board, _, _ = bench.board("run_mode", kind=kind, has_lines=has_lines, image=IMAGE)
    with pytest.raises(FirmwareAnswers) as found:
        board.connect(2)
    assert found.value.micropython is False


@pytest.mark.parametrize(("kind", "has_lines"), [case.values[:2] for case in KINDS_OF_LINE])
def test_an_echo_needs_no_second_look(bench: Bench, kind: ProgrammerKind, *, has_lines: bool) -> None:
    """TX and RX shorted are known after one attempt: no reset takes the short away."""
    board, line, _ = bench.board("echo", kind=kind, has_lines=has_lines)
    with pytest.raises(LinkEcho):
        board.connect(50)
    assert line.resets == (1 if has_lines else 0)
    assert line.syncs() == 5


# --- peek ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", [JUMPERED, LINES])
@pytest.mark.parametrize("knock", [True, False])
def test_a_peek_at_a_loader_tells_its_mac(bench: Bench, kind: ProgrammerKind, *, knock: bool) -> None:
    """A waiting ROM is seen with its MAC by one SYNC, without a reset, and can be connected to afterwards."""
    board, line, _ = bench.board(kind=kind)
    if kind is LINES:
        board.probe_presence()
    resets = line.resets
    for _ in range(2):
        assert board.peek(knock=knock) == Peek(answer=Answer.LOADER, mac=MAC)
    assert (line.resets, line.syncs(), probes(line.written)) == (resets, 2, 0)
    board.connect(1)
    assert board.read_identity().mac == MAC


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("legacy", [True, False])
def test_a_peek_finds_a_stub_that_stayed(bench: Bench, *, legacy: bool) -> None:
    """A stub left at another rate is found there, again and again, and our side comes back to 115200."""
    board, line, _ = bench.board(kind=JUMPERED)
    into_stub(board, 460800, legacy=legacy)
    for _ in range(3):
        assert board.peek(knock=False) == Peek(answer=Answer.LOADER, mac=MAC)
        assert line.baudrate == 115200
    with pytest.raises(RuntimeError, match="connect"):
        board.read_identity()
    board.connect(1)
    board.start_stub()
    assert len(board.md5(0, 16)) == 32


@pytest.mark.usefixtures("patient")
def test_a_rom_makes_a_left_stub_forgotten(bench: Bench) -> None:
    """Once a ROM answered there is no stub any more, and its rate is not tried again."""
    programmer, path = bench.plug(kind=JUMPERED)
    line = bench.open(programmer, path)
    board = bench.flasher.loader(line)
    into_stub(board, 460800)
    bench.on_loop(programmer.lift)
    bench.on_loop(lambda: programmer.seat(chip_with(number=2)))
    assert board.peek(knock=True) == Peek(answer=Answer.LOADER, mac="5c:cf:7f:dd:c1:02")
    bench.on_loop(programmer.lift)
    line.written.clear()
    assert board.peek(knock=True) == Peek(answer=Answer.NOTHING)
    assert (line.syncs(115200), line.syncs(460800), probes(line.written)) == (1, 0, 1)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("variant", ["zero", "blank", "ff", "multicast", "oui"])
def test_a_peek_at_a_board_without_a_mac(bench: Bench, variant: str) -> None:
    """A loader is seen, and no address is made up for it."""
    board, _, _ = bench.board(f"bad_mac@{variant}", kind=JUMPERED)
    assert board.peek(knock=True) == Peek(answer=Answer.LOADER, mac="")


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("firmware", [Firmware, RawRepl, AtFirmware])
def test_a_peek_at_a_running_firmware(bench: Bench, firmware: Callable[[Emit], RunningFirmware]) -> None:
    """A knock brings a word out of a firmware that waits, and it goes on running."""
    bench.start_firmware = firmware
    board, line, _ = bench.board(kind=RUNNING, image=IMAGE)
    line.pause(0.1)
    for _ in range(2):
        assert board.peek(knock=True) == Peek(answer=Answer.FIRMWARE)


def test_a_peek_without_a_knock_sends_no_line(bench: Bench) -> None:
    """A program that reads lines gets none unless a knock was asked for."""
    running: list[Firmware] = []

    def start(emit: Emit) -> Firmware:
        running.append(Firmware(emit))
        return running[0]

    bench.start_firmware = start
    board, line, _ = bench.board(kind=RUNNING, image=IMAGE)
    line.pause(0.1)
    board.peek(knock=False)
    assert probes(line.written) == 0
    line.pause(0.1)
    assert b"\r" not in running[0].heard


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("knock", [True, False])
def test_a_peek_into_an_echo(bench: Bench, *, knock: bool) -> None:
    """Our own bytes are called an echo."""
    board, _, _ = bench.board("echo", kind=JUMPERED)
    assert board.peek(knock=knock) == Peek(answer=Answer.ECHO)


@pytest.mark.usefixtures("patient")
def test_a_peek_into_nonsense(bench: Bench) -> None:
    """Bytes that are nobody's words are noise."""
    bench.start_firmware = Babbler
    board, line, _ = bench.board(kind=RUNNING, image=IMAGE)
    line.pause(0.1)
    assert board.peek(knock=True) == Peek(answer=Answer.NOISE)


def test_a_peek_at_nobody_sends_little(bench: Bench) -> None:
    """An empty socket and a silent program get one SYNC and one empty line, and no line is touched."""
    programmer, path = bench.plug(empty=True)
    line = bench.open(programmer, path)
    board = bench.flasher.loader(line)
    line.settings.clear()
    for _ in range(10):
        assert board.peek(knock=True) == Peek(answer=Answer.NOTHING)
    assert line.settings == []
    assert (line.syncs(), len(line.written)) == (10, 20)
    bench.start_firmware = Quiet
    silent, quiet, _ = bench.board(kind=RUNNING, image=IMAGE, number=2)
    quiet.pause(0.1)
    assert silent.peek(knock=True) == Peek(answer=Answer.NOTHING)


def test_what_was_waiting_is_no_answer(bench: Bench) -> None:
    """What a board said before the peek is discarded: it says nothing of who is there now."""
    programmer, path = bench.plug(kind=RUNNING, image=IMAGE)
    line = bench.open(programmer, path)
    board = bench.flasher.loader(line)
    bench.on_loop(programmer.lift)
    bench.on_loop(lambda: programmer.seat(chip_with(image=IMAGE)))
    line.pause(0.2)
    assert line.in_waiting
    bench.on_loop(programmer.lift)
    assert board.peek(knock=True) == Peek(answer=Answer.NOTHING)


@pytest.mark.usefixtures("patient")
def test_a_peek_sees_a_swap(bench: Bench) -> None:
    """Board out and another one in between two peeks is another MAC; out is nothing."""
    programmer, path = bench.plug(kind=JUMPERED)
    board = bench.flasher.loader(bench.open(programmer, path))
    assert board.peek(knock=True).mac == MAC
    bench.on_loop(programmer.lift)
    bench.on_loop(lambda: programmer.seat(chip_with(number=2)))
    assert board.peek(knock=True) == Peek(answer=Answer.LOADER, mac="5c:cf:7f:dd:c1:02")
    bench.on_loop(programmer.lift)
    assert board.peek(knock=True) == Peek(answer=Answer.NOTHING)


def test_a_peek_ends_with_its_line(bench: Bench) -> None:
    """Only what befalls the line leaves a peek as an exception: an unplug, and a stop."""
    programmer, path = bench.plug(empty=True)
    line = bench.open(programmer, path)
    board = bench.flasher.loader(line)
    bench.on_loop(programmer.unplug)
    with pytest.raises(PortGone):
        board.peek(knock=True)
    line.stop(StopCause.UNPLUGGED)
    with pytest.raises(LineStopped):
        board.peek(knock=True)


# --- the boot pin --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("low", [True, False])
def test_a_held_boot_pin_decides_where_a_seated_board_starts(bench: Bench, *, low: bool) -> None:
    """With GPIO0 held a board that is seated waits in its loader, without a reset; else it runs its firmware."""
    programmer, path = bench.plug(empty=True)
    line = bench.open(programmer, path)
    assert line.hold_boot_pin(low=True) is True
    assert line.hold_boot_pin(low=low) is True
    bench.on_loop(lambda: programmer.seat(chip_with(image=IMAGE)))
    line.pause(0.1)
    expected = Peek(answer=Answer.LOADER, mac=MAC) if low else Peek(answer=Answer.FIRMWARE)
    assert bench.flasher.loader(line).peek(knock=True) == expected
    assert line.resets == 0


# --- hostile answers -----------------------------------------------------------------------------------------------


class Replay:
    """The part of a line that a peek uses; each request is answered by the next script, in the pieces it is cut into."""

    baudrate = 115200

    def __init__(self, scripts: list[list[bytes]]) -> None:
        self._scripts = iter(scripts)
        self._pieces: Iterator[bytes] = iter(())
        self._received = self._sent = b""

    def discard_input(self) -> None:
        """Nothing is waiting."""

    def mark(self) -> Mark:
        """This moment."""
        return Mark(len(self._received), len(self._sent))

    def received_since(self, mark: Mark) -> bytes:
        """What came since then."""
        return self._received[mark.received_bytes :]

    def sent_since(self, mark: Mark) -> bytes:
        """What was sent since then."""
        return self._sent[mark.sent_bytes :]

    def send(self, data: bytes) -> None:
        """Take a request."""
        self._sent += data
        self._pieces = iter(next(self._scripts, []))

    def read_some(self, timeout_s: float) -> bytes:
        """The next piece."""
        piece = next(self._pieces, b"")
        if not piece:
            time.sleep(timeout_s)
        self._received += piece
        return piece


def peek_into(scripts: list[list[bytes]], *, knock: bool) -> Peek:
    """Peek at such a line."""
    line: Any = Replay(scripts)
    return peek_at(line, (115200,), knock=knock)[0]


def answer(op: int, value: int) -> bytes:
    """One answer of a loader, framed."""
    payload = struct.pack("<BBHIH", 1, op, 2, value, 0)
    return b"\xc0" + payload.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data at these places, as a line might."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places) if start < end]


CUTS = st.lists(st.integers(0, 1000), max_size=8)
GARBAGE = st.binary(max_size=40).map(lambda data: data.replace(b"\xc0", b""))
BITS = st.one_of(
    st.binary(max_size=30), st.sampled_from([b"\xc0", b"\xc0\x01\x08\x02\0", b"\xdb" * 12, b"\xc0\xdb\xdc"])
)


@given(garbage=GARBAGE, cuts=CUTS, number=st.integers(1, 0xFFFFFE))
def test_a_loader_is_understood_however_its_bytes_arrive(garbage: bytes, cuts: list[int], number: int) -> None:
    """Garbage before the answer, any cut, and any byte of the MAC that has to be escaped do not matter."""
    words = [(number & 0xFF) << 24, number >> 8, 0x8000, 0x5CC0DB]
    readings = [in_pieces(answer(0x0A, word), cuts) for word in words]
    greeting = in_pieces(garbage + answer(0x08, 0x20120707) * 8, cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader_peek, "ANSWER_S", 5.0)
        seen = peek_into([greeting, *readings, *readings], knock=True)
    mac = bytes((0x5C, 0xC0, 0xDB)) + number.to_bytes(3, "big")
    assert seen == Peek(answer=Answer.LOADER, mac=mac.hex(":"))


@given(scripts=st.lists(st.lists(BITS, max_size=5), max_size=10), knock=st.booleans())
def test_no_bytes_make_a_peek_raise(scripts: list[list[bytes]], *, knock: bool) -> None:
    """Whatever comes back, a peek says one of five words, and a MAC with none but a loader."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader_peek, "ANSWER_S", 0.0005)
        seen = peek_into(scripts, knock=knock)
    assert seen.answer in Answer
    assert not seen.mac or seen.answer is Answer.LOADER


def test_a_mac_that_reads_differently_is_none() -> None:
    """An answer carries no checksum: one MAC is believed only if it reads the same twice."""
    words = [0x42000000, 0xDDC1, 0x8000, 0x5CCF7F]
    right = [[answer(0x0A, word)] for word in words]
    wrong = [[answer(0x0A, word ^ 1)] for word in words]
    greeting = [answer(0x08, 0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader_peek, "ANSWER_S", 5.0)
        assert peek_into([greeting, *right, *right], knock=True).mac == "5c:cf:7f:dd:c1:42"
        assert peek_into([greeting, *right, *wrong], knock=True) == Peek(answer=Answer.LOADER)


def test_a_refusal_is_no_answer() -> None:
    """A loader that refuses to read a word is a loader without a MAC; one that refuses a SYNC is none."""
    refused = b"\xc0" + struct.pack("<BBHIH", 1, 0x0A, 2, 0, 0x0601) + b"\xc0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader_peek, "ANSWER_S", 0.01)
        assert peek_into([[answer(0x08, 0)], [refused]], knock=True) == Peek(answer=Answer.LOADER)
        assert peek_into([[refused]], knock=True) == Peek(answer=Answer.NOISE)
