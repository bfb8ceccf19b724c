"""Every kind of programmer on the virtual bench, and what hands do; judged by the unmodified esptool and mpremote.

Here a client closes its port without any consequence, as with a real programmer: only hands, the lines and the boards
themselves restart a board.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from station.adapters.esp8266 import EsptoolFlasher
from station.adapters.repl import RawRepl
from station.bench.bench import BenchLine, BenchOpener, VirtualBench
from station.bench.chip import Chip, make_chip
from station.bench.faults import Fault, parse_fault
from station.bench.image import make_image
from station.bench.programmer import ProgrammerKind
from station.model import Answer, BootInto, format_mac
from station.ports import Stop
from station.properties import Gpio0, Reset

LIMIT_S = 90
MAC, OTHER_MAC = bytes.fromhex("5ccf7fddc142"), bytes.fromhex("600194010203")
IMAGE = make_image()
STICK = ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.HAND)
SOLDERED = ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW)
TESTER = ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.NEVER_LOW)
LINES = ProgrammerKind()
QUICKLY = ("--chip", "esp8266", "--connect-attempts", "1")


@contextmanager
def bench_of(**kinds: ProgrammerKind) -> Iterator[VirtualBench]:
    """A bench with these programmers, by slot label, as fast as possible."""
    with VirtualBench(slots=len(kinds), pace=0, seed=1, kinds=kinds) as bench:
        yield bench


def board(*faults: str, image: bytes = b"", mac: bytes = MAC) -> Chip:
    """A board with these faults and this in its flash."""
    return make_chip(mac=mac, faults=tuple(parse_fault(fault) for fault in faults), image=image)


def node(bench: VirtualBench, label: str = "A1") -> str:
    """The tty of the programmer in this slot."""
    return next(each.node for each in bench.attached() if each.place == bench.sockets[label].place)


def tool(*command: object) -> tuple[int, str]:
    """Run a tool of the environment; its exit code and everything it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        cwd="/",
    )
    return done.returncode, (done.stdout + done.stderr).replace("\r\n", "\n")


def loader_says(bench: VirtualBench, label: str = "A1") -> str:
    """The MAC that esptool reads out of the ROM loader in this slot; empty when no loader answers."""
    code, said = tool("esptool", "--port", node(bench, label), *QUICKLY, "--no-stub", "read-mac")
    assert code == 0 or "Failed to connect" in said, said
    return said.rpartition("MAC:")[2].split()[0] if code == 0 else ""


def firmware_says(bench: VirtualBench, code: str, label: str = "A1") -> str:
    """What mpremote prints when the running firmware executes `code`, without any reset before."""
    with opened(bench, label, may_reset=False) as line:  # mpremote waits for ever for a prompt that is not there yet
        repl = RawRepl(line, Stop())
        repl.await_prompt(LIMIT_S)
        repl.leave()
    status, said = tool("mpremote", "connect", node(bench, label), "resume", "exec", code)
    assert status == 0, said
    return said.strip()


def soft_start(bench: VirtualBench, tmp_path: Path, label: str = "A1") -> None:
    """Esptool with the legacy stub writes MicroPython and starts it by software."""
    file = tmp_path / "firmware.bin"
    file.write_bytes(IMAGE)
    options = (*QUICKLY, "--stub-version", "1", "--baud", "460800", "--after", "soft-reset")
    code, said = tool("esptool", "--port", node(bench, label), *options, "write-flash", "0", file)
    assert code == 0, said


@contextmanager
def opened(bench: VirtualBench, label: str = "A1", *, may_reset: bool = True) -> Iterator[BenchLine]:
    """The station's own line to the programmer in this slot."""
    programmer = next(each for each in bench.attached() if each.place == bench.sockets[label].place)
    line = BenchOpener(bench).open(programmer, 115200, Stop(), may_reset=may_reset)
    try:
        yield line
    finally:
        line.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for this, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_jumper_counts_only_when_the_board_gets_power() -> None:
    """Set in between it changes nothing: the loader stays, then the firmware, through closed ports and a software reset."""
    with bench_of(A1=STICK) as bench:
        chip = board(image=IMAGE)
        bench.plug("A1", chip)
        assert loader_says(bench) == format_mac(MAC)
        bench.set_jumper("A1", low=False)
        assert loader_says(bench) == format_mac(MAC)
        assert bench.unplug("A1") is chip
        bench.plug("A1", chip)
        assert firmware_says(bench, "print(6 * 7)") == "42"
        bench.set_jumper("A1", low=True)
        assert tool("mpremote", "connect", node(bench), "reset")[0] == 0
        assert firmware_says(bench, "import machine; print(machine.reset_cause())") == "4"
        assert bench.unplug("A1") is chip
        bench.plug("A1", chip)
        assert loader_says(bench) == format_mac(MAC)


def test_a_jumper_set_in_the_hand_is_seen_at_the_plug() -> None:
    """Where the programmer is makes no difference to its jumper."""
    with bench_of(A1=STICK) as bench:
        bench.set_jumper("A1", low=False)
        bench.plug("A1", board(image=IMAGE))
        assert firmware_says(bench, "print('up')") == "up"


def test_after_a_start_by_software_a_software_reset_is_back_in_the_loader(tmp_path: Path) -> None:
    """GPIO0 was at GND at the last power-up: esptool starts MicroPython, `machine.reset()` ends in the ROM loader."""
    with bench_of(A1=STICK) as bench:
        bench.plug("A1", board())
        soft_start(bench, tmp_path)
        assert firmware_says(bench, "import os; print(os.uname().sysname)") == "esp8266"
        assert tool("mpremote", "connect", node(bench), "reset")[0] == 0
        assert loader_says(bench) == format_mac(MAC)


def test_a_soft_reset_of_micropython_is_harmless_after_a_start_by_software(tmp_path: Path) -> None:
    """Unmounted, Ctrl-D, mounted again by _boot.py: the file that was closed is there, the station's own REPL reads it."""
    with bench_of(A1=STICK) as bench:
        bench.plug("A1", board())
        soft_start(bench, tmp_path)
        with opened(bench, may_reset=False) as line:
            repl = RawRepl(line, Stop())
            repl.await_prompt(LIMIT_S)
            repl.run("f = open('kept', 'w'); f.write('data'); f.close()", 10)
            repl.run("import os; os.umount('/')", 10)
            repl.soft_reset(LIMIT_S)
            assert repl.run("print(open('kept').read())", 10) == b"data\r\n"


def test_soft_reset_hangs_until_the_power_goes(tmp_path: Path) -> None:
    """With that fault nobody answers after `machine.reset()`, neither loader nor firmware; a new plug cures it."""
    with bench_of(A1=STICK) as bench:
        chip = board("soft_reset_hangs")
        bench.plug("A1", chip)
        soft_start(bench, tmp_path)
        assert tool("mpremote", "connect", node(bench), "reset")[0] == 0
        assert loader_says(bench) == ""
        with opened(bench) as line:
            line.send(b"\r\x03")
            assert line.read_some(0.3) == b""
        bench.unplug("A1")
        bench.plug("A1", chip)
        assert loader_says(bench) == format_mac(MAC)
        bench.unplug("A1")
        bench.set_jumper("A1", low=False)
        bench.plug("A1", chip)
        assert tool("mpremote", "connect", node(bench), "reset")[0] == 0
        assert firmware_says(bench, "print('restarted')") == "restarted", "the latch is high: nothing hangs"


def test_soft_reset_hangs_until_en_falls(tmp_path: Path) -> None:
    """A pulse of the reset line is as good as a loss of power."""
    with bench_of(A1=ProgrammerKind(reset=Reset.LINES, gpio0=Gpio0.ALWAYS_LOW)) as bench:
        bench.plug("A1", board("soft_reset_hangs"))
        soft_start(bench, tmp_path)
        assert tool("mpremote", "connect", node(bench), "reset")[0] == 0
        assert loader_says(bench) == ""
        with opened(bench) as line:
            assert line.reset_board(BootInto.FIRMWARE)
            assert line.read_some(5.0) != b"", "its boot message"
        assert loader_says(bench) == format_mac(MAC)


@pytest.mark.parametrize("stub", [("--stub-version", "1"), ("--no-stub",)])
def test_no_soft_start_leaves_the_loader_where_it_is(tmp_path: Path, stub: tuple[str, ...]) -> None:
    """The fault makes run-user-code do nothing, in the stub and in the ROM; without it both start the firmware."""
    file = tmp_path / "firmware.bin"
    file.write_bytes(IMAGE)
    stays = {}
    with bench_of(A1=STICK, A2=SOLDERED) as bench:
        for label, chip in (("A1", board("no_soft_start")), ("A2", board())):
            bench.plug(label, chip)
            options = (*QUICKLY, *stub, "--after", "soft-reset")
            code, said = tool("esptool", "--port", node(bench, label), *options, "write-flash", "0", file)
            assert code == 0, said
            stays[label] = loader_says(bench, label)
        assert stays == {"A1": format_mac(MAC), "A2": ""}
        assert firmware_says(bench, "print('up')", "A2") == "up"


@pytest.mark.parametrize("low", [True, False])
def test_a_board_seated_while_dtr_is_held_starts_its_loader(low: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """DTR asserted and RTS not is GPIO0 low for a board that gets power now; released it is the firmware."""
    with bench_of(A1=LINES) as bench:
        bench.plug("A1", None)
        with opened(bench) as line:
            loader = EsptoolFlasher().loader(line)
            assert line.hold_boot_pin(low=low)
            assert loader.peek(knock=True).answer is Answer.NOTHING
            bench.seat("A1", board(image=IMAGE))
            assert line.read_some(5.0) != b"", "its boot message"
            if low:
                seen = loader.peek(knock=True)
                assert (seen.answer, seen.mac) == (Answer.LOADER, format_mac(MAC))
            else:
                until(lambda: loader.peek(knock=True).answer is Answer.FIRMWARE)


def test_closing_the_port_lets_go_of_the_boot_pin() -> None:
    """A pin that was held by DTR is free for the next board once the port is closed; the kernel drops the lines."""
    with bench_of(A1=LINES) as bench:
        bench.plug("A1", None)
        with opened(bench) as line:
            assert line.hold_boot_pin(low=True)
        bench.seat("A1", board(image=IMAGE))
        assert firmware_says(bench, "print('up')") == "up"


def test_lines_that_do_not_reach_the_board_change_nothing() -> None:
    """To a stick without a reset line the station's resets and holds are nothing: its jumper decides."""
    with bench_of(A1=STICK) as bench:
        bench.set_jumper("A1", low=False)
        bench.plug("A1", None)
        with opened(bench) as line:
            assert line.hold_boot_pin(low=True)
            bench.seat("A1", board(image=IMAGE))
        assert firmware_says(bench, "mark = 'undisturbed'") == ""
        with opened(bench) as line:
            for into in BootInto:
                assert line.reset_board(into)
        assert firmware_says(bench, "print(mark)") == "undisturbed"


def test_a_board_keeps_its_flash_wherever_it_is_put(tmp_path: Path) -> None:
    """Flashed where GPIO0 is soldered low, it runs where GPIO0 is never low, and what it wrote there is in its flash."""
    with bench_of(A1=SOLDERED, A2=TESTER) as bench:
        chip = board()
        bench.plug("A1", chip)
        bench.plug("A2", None)
        with pytest.raises(RuntimeError, match="this board is in A1 already"):
            bench.seat("A2", chip)
        soft_start(bench, tmp_path)
        assert bench.lift("A1") is chip
        assert bench.lift("A1") is None
        bench.seat("A2", chip)
        assert firmware_says(bench, "with open('n', 'w') as f: print(f.write('note'))", "A2") == "4"
        with pytest.raises(RuntimeError, match="there is a board in A2 already"):
            bench.seat("A2", board(mac=OTHER_MAC))
        assert bench.lift("A2") is chip
        bench.seat("A1", chip)
        assert loader_says(bench) == format_mac(MAC)
        assert bench.unplug("A1") is chip
        with pytest.raises(RuntimeError, match="no programmer is plugged in at A1"):
            bench.seat("A1", chip)
        bench.seat("A2", chip)
        assert firmware_says(bench, "print(open('n').read())", "A2") == "note"


def test_a_board_lifted_in_mid_write_leaves_the_programmer_and_no_hint(tmp_path: Path) -> None:
    """`removed@N` in a fixture: the write breaks off, the tty stays, nobody is told; seated again it can be written."""
    file = tmp_path / "firmware.bin"
    file.write_bytes(IMAGE)
    with bench_of(A1=SOLDERED) as bench:
        hints: list[None] = []
        struck: list[tuple[str, Fault]] = []
        bench.plug("A1", None)
        bench.on_hint(lambda: hints.append(None))
        bench.on_hand_fault = lambda label, fault: struck.append((label, fault))
        tty, chip = node(bench), board("removed@40")
        bench.seat("A1", chip)
        command = ("esptool", "--port", tty, *QUICKLY, "write-flash", "0", file)
        code, said = tool(*command)
        assert code != 0, said
        assert struck == [("A1", Fault("removed", "40"))]
        assert (bench.chip("A1"), node(bench), hints) == (None, tty, [])
        bench.seat("A1", chip)
        code, said = tool(*command)
        assert (code, "Hash of data verified." in said) == (0, True), said
        assert chip.flash.read(0x1000, 4096) == IMAGE[0x1000:0x2000]


def test_a_programmer_pulled_in_mid_write_is_gone_and_the_station_hears_of_it(tmp_path: Path) -> None:
    """`unplug@N` still takes the tty away in a slot without lines."""
    file = tmp_path / "firmware.bin"
    file.write_bytes(IMAGE)
    with bench_of(A1=STICK) as bench:
        bench.plug("A1", board("unplug@40"))
        hints: list[None] = []
        bench.on_hint(lambda: hints.append(None))
        code, _ = tool("esptool", "--port", node(bench), *QUICKLY, "write-flash", "0", file)
        assert code != 0
        until(lambda: hints == [None])
        assert bench.attached() == ()
        assert bench.unplug("A1") is None


def test_a_plugged_programmer_cannot_be_plugged_again() -> None:
    """What no hand can do is an error of the test or the operator, not a second programmer."""
    with bench_of(A1=STICK) as bench:
        bench.plug("A1", None)
        with pytest.raises(RuntimeError, match="A1 is plugged in already"):
            bench.plug("A1", None)


def test_empty_programmers_cost_nothing() -> None:
    """32 of them, plugged in and left alone, wake nobody up: the bench's thread sleeps."""
    labels = dict.fromkeys(VirtualBench.places(32), LINES)
    with bench_of(**labels) as bench:
        for label in labels:
            bench.plug(label, None)
        time.sleep(0.2)
        before = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - before < 0.1
