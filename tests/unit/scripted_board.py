"""One board that does what a script says, with its flash, its firmware, its line, and a clock that nobody waits for.

It stands in for the outside world in tests of the retry policy and of the job. Everything that can be seen from outside
(flash erased and written, identity read, rows durable) is kept in one journal in the order in which it happened.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from station import selftest
from station.errors import LinkSilent
from station.model import BootInto, FlashChip, Identity, Programmer, StopCause, chip_id_from_mac
from station.ports import Line, Stop

MAC, OTHER_MAC = "5c:cf:7f:dd:c1:42", "5c:cf:7f:00:00:07"
JEDEC_ID = 0x1440EF
MIB = 1 << 20
PROGRAMMER = Programmer(place="hub:1", node="/dev/scripted", sysfs_path="", generation="1", hub_path="1")

Act = BaseException | Callable[[], Any] | None
"""What happens when a step is taken: nothing, an exception, or something else; what it returns may be the answer."""


def for_ever(act: Act) -> Iterator[Act]:
    """Every time."""
    return itertools.repeat(act)


def at(number: int, act: Act) -> Iterator[Act]:
    """The `number`-th time only, counted from 1."""
    return itertools.chain([None] * (number - 1), [act])


@dataclass(slots=True)
class Clock:
    """A monotonic clock that moves only when somebody waits."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


class InstantStop(Stop):
    """A stop whose waits take no time, with the deadline that the slot's tick would set."""

    def __init__(self, clock: Clock, deadline_s: float = 600.0) -> None:
        super().__init__()
        self._clock, self._deadline_s = clock, clock.now_s + deadline_s

    def wait(self, timeout_s: float) -> None:
        """Let the time pass, and the deadline come."""
        assert 0 <= timeout_s < 60, timeout_s
        self._clock.now_s += timeout_s
        if self._clock.now_s >= self._deadline_s:
            self.request(StopCause.DEADLINE)
        self.check()


def identity_of(mac: str) -> Identity:
    """The identity of a board as CONNECT reads it."""
    return Identity(mac=mac, chip_id=chip_id_from_mac(mac), otp_words=(0, 1, 2, 3))


@dataclass(slots=True)
class ScriptedBoard:
    """The board in its programmer: opener, flasher and REPL maker at once."""

    clock: Clock = field(default_factory=Clock)
    mac: str = MAC
    run_mac: str = ""
    """Who answers in run mode; empty: the same board."""
    jedec_id: int = JEDEC_ID
    claimed_bytes: int | None = MIB
    real_bytes: int = MIB
    flash: bytearray = field(default_factory=bytearray)
    protected: Literal["no", "until lifted", "for good"] = "no"
    stuck: dict[int, int] = field(default_factory=dict)
    """Byte position -> mask of the bits that can still be 1."""
    lines: bool = True
    """Whether DTR and RTS reach the board."""
    powered_by_port: bool = False
    """Without lines: whether closing the port cuts the power, as a pty of the bench does."""
    present: bool = True
    runs: Literal["rom", "stub", "firmware"] = "rom"
    stored: int | None = None
    version: str = "1.27.0"
    script: dict[str, Iterator[Act]] = field(default_factory=dict)
    checks: dict[str, bytes | BaseException] = field(default_factory=dict)
    """By the name of a check: what is answered instead of what a healthy board says."""
    journal: list[str] = field(default_factory=list)
    watch: Callable[[str], None] = lambda _event: None

    def __post_init__(self) -> None:
        if not self.flash:
            self.flash = bytearray(b"\x5a" * self.real_bytes)

    # -- what a test says and sees ---------------------------------------------------------------------------------

    def on(self, step: str, acts: Iterable[Act]) -> ScriptedBoard:
        """Say what happens the next times this step is taken."""
        self.script[step] = iter(acts)
        return self

    def note(self, event: str) -> None:
        """Something that can be seen from outside happens now."""
        self.journal.append(event)
        self.watch(event)

    def count(self, event: str) -> int:
        """How often it happened."""
        return self.journal.count(event)

    def step(self, name: str) -> Any:
        """Take one step of the script."""
        act = next(self.script.get(name, iter(())), None)
        if isinstance(act, BaseException):
            raise act
        return act() if act is not None else None

    # -- LineOpener, Flasher, ReplMaker ----------------------------------------------------------------------------

    def open(self, programmer: Programmer, baud: int, stop: Stop) -> ScriptedLine:
        """Open the one line."""
        stop.check()
        self.note("open")
        self.step("open")
        line = ScriptedLine(self, stop, baud)
        stop.attach(line)
        return line

    def make_repl(self, line: Line, stop: Stop) -> ScriptedRepl:
        """Talk to the firmware."""
        return ScriptedRepl(self)

    # -- flash -----------------------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """What a reader of the bus gets: addresses wrap at the real size."""
        copies = -(-(offset + length) // self.real_bytes)
        return (bytes(self.flash) * copies)[offset : offset + length]

    def program(self, offset: int, data: bytes) -> None:
        """NOR flash: bits go from 1 to 0 only, stuck ones are 0 already, and addresses wrap."""
        while data:
            place = offset % self.real_bytes
            part = data[: self.real_bytes - place]
            old = int.from_bytes(self.flash[place : place + len(part)], "big")
            self.flash[place : place + len(part)] = (old & int.from_bytes(part, "big")).to_bytes(len(part), "big")
            data, offset = data[len(part) :], offset + len(part)
        for place, mask in self.stuck.items():
            self.flash[place] &= mask


class ScriptedFlasher:
    """Makes loaders for one board."""

    version = "scripted"

    def __init__(self, board: ScriptedBoard) -> None:
        self._board = board

    def loader(self, line: Line) -> ScriptedLoader:
        """Return a conversation."""
        assert isinstance(line, ScriptedLine)
        return ScriptedLoader(self._board, line)


class ScriptedLine:
    """The open line."""

    node = PROGRAMMER.node

    def __init__(self, board: ScriptedBoard, stop: Stop, baud: int) -> None:
        self._board, self._stop, self.baud = board, stop, baud
        self._open = True
        self._poked = False
        self.transcript = b"what the board said"

    @property
    def has_reset_lines(self) -> bool:
        """Whether they reach the board."""
        return self._board.lines

    def use(self) -> None:
        """Every use of the line: a closed or a stopped one is useless."""
        assert self._open, "a closed line was used"
        self._stop.check()

    def set_baud(self, baud: int) -> None:
        """Change our side."""
        self.use()
        self.baud = baud

    def read_some(self, timeout_s: float) -> bytes:
        """A firmware that was just powered prints its banner, one that runs echoes; a loader says nothing."""
        self.use()
        if self._board.step("sign of life"):
            return b">>> "
        if self._board.runs == "firmware" and (self._board.powered_by_port or self._poked):
            return b"MicroPython"
        self._stop.wait(timeout_s)
        return b""

    def send(self, data: bytes) -> None:
        """Somebody may echo it."""
        self.use()
        self._poked = True

    def discard_input(self) -> None:
        """Nothing waits."""
        self.use()

    def reset_board(self, into: BootInto) -> bool:
        """Reset by the lines, where there are any."""
        self.use()
        if not self._board.lines:
            return False
        self._board.note(f"reset into {into}")
        self._board.runs = "firmware" if into is BootInto.FIRMWARE else "rom"
        return True

    def stop(self, cause: StopCause) -> None:
        """The next use raises."""

    def close(self) -> None:
        """Release the port."""
        assert self._open, "a line was closed twice"
        self._open = False
        self._board.note("close")
        if self._board.powered_by_port and self._board.runs != "firmware":
            self._board.runs = "firmware"


class ScriptedLoader:
    """The conversation with ROM loader and stub."""

    def __init__(self, board: ScriptedBoard, line: ScriptedLine) -> None:
        self._board, self._line = board, line

    def _step(self, name: str) -> Any:
        self._line.use()
        answer = self._board.step(name)
        self._line.use()
        if not self._board.present:
            raise LinkSilent(f"nothing in the socket at {name}")
        return answer

    def connect(self, attempts: int) -> None:
        """Reset into the ROM loader."""
        self._step("connect")
        self._board.note(f"connect at {self._line.baud}")
        self._board.runs = "rom"

    def read_identity(self) -> Identity:
        """Who it is."""
        answer = self._step("identity")
        self._board.note(f"identity at {self._board.clock.now_s - 1000:.2f} s")
        return answer or identity_of(self._board.mac)

    def start_stub(self) -> None:
        """Into the stub."""
        self._step("stub")
        self._board.note("stub")
        self._board.runs = "stub"

    def set_baud(self, baud: int) -> None:
        """Both sides."""
        self._step("baud")
        self._line.set_baud(baud)

    def read_flash_chip(self) -> FlashChip:
        """The id, and what size it claims."""
        self._step("chip")
        return FlashChip(jedec_id=self._board.jedec_id, size_bytes=self._board.claimed_bytes)

    def erase_chip(self) -> None:
        """All ones, but what is stuck or protected."""
        self._step("erase")
        self._board.note(f"erase at {self._line.baud}")
        if self._board.protected == "no":
            self._board.flash[:] = b"\xff" * self._board.real_bytes
            self._board.program(0, b"\xff")  # stuck bits show in an erased flash too

    def write(self, offset: int, data: bytes, on_progress: Callable[[int], None]) -> None:
        """In two halves, so that there is a middle."""
        self._step("write")
        self._board.note(f"write at {self._line.baud}")
        half = len(data) // 2
        self._put(offset, data[:half])
        on_progress(half)
        self._step("half")
        self._put(offset + half, data[half:])
        on_progress(len(data))
        self._step("written")

    def _put(self, offset: int, data: bytes) -> None:
        if self._board.protected == "no":
            self._board.program(offset, data)

    def md5(self, offset: int, length: int) -> str:
        """Computed by the chip."""
        answer = self._step("md5")
        return answer or hashlib.md5(self._board.read(offset, length), usedforsecurity=False).hexdigest()

    def clear_write_protection(self) -> None:
        """Lift it, where it can be lifted."""
        self._step("unprotect")
        self._board.note("unprotect")
        if self._board.protected == "until lifted":
            self._board.protected = "no"

    def answers_as(self) -> Literal["stub", "rom"] | None:
        """Who is there after a break."""
        self._line.use()
        runs = self._board.runs if self._board.present else None
        return None if runs == "firmware" else runs

    def probe_presence(self) -> bool | None:
        """Whether the ROM prints its message."""
        self._line.use()
        if not self._board.lines:
            return None
        answer = self._board.step("presence")
        return self._board.present if answer is None else bool(answer)


class ScriptedRepl:
    """The firmware's REPL."""

    def __init__(self, board: ScriptedBoard) -> None:
        self._board = board

    def await_prompt(self, timeout_s: float) -> str:
        """Here it is, unless the script says otherwise."""
        self._board.step("prompt")
        self._board.note("prompt")
        return "MicroPython"

    def run(self, code: str, timeout_s: float) -> bytes:
        """Answer a check as a healthy board does, or as the test wants."""
        self._board.step("run")
        name, value = self._healthy(code)
        answer = self._board.checks.get(name, json.dumps(value).encode())
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _healthy(self, code: str) -> tuple[str, object]:
        board = self._board
        mac = bytes.fromhex((board.run_mac or board.mac).replace(":", ""))
        answers: dict[str, tuple[str, object]] = {
            selftest.IDENTITY_CODE: ("identity", [mac.hex(), (mac[:2:-1] + b"\0").hex()]),
            selftest.FLASH_CODE: ("flash", [board.jedec_id, board.claimed_bytes]),
            selftest.FIRMWARE_CODE: ("firmware", [f"v{board.version} on 2025-12-09", "2.2.0", "ESP module (1M)"]),
            selftest.FIRMWARE_INTACT_CODE: ("firmware_intact", True),
            selftest.CPU_FREQUENCY_CODE: ("cpu_frequency", 80_000_000),
            selftest.FREE_RAM_CODE: ("free_ram", 36_000),
            selftest.WIFI_START_CODE: ("wifi_start", True),
            selftest.FILESYSTEM_READ_CODE: ("filesystem_read", self._hash()),
        }
        if code in answers:
            return answers[code]
        board.stored = int(code.partition("sha256(b'")[2][:16], 16)
        return "filesystem_write", self._hash()

    def _hash(self) -> str | None:
        stored = self._board.stored
        return None if stored is None else hashlib.sha256(selftest.file_content(stored)).hexdigest()

    def soft_reset(self, timeout_s: float) -> None:
        """Done."""

    def leave(self) -> None:
        """Back to the friendly REPL."""
        self._board.note("leave")
