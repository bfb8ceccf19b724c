"""One board that does what a script says: its pins, its flash, what runs on it, and a clock that nobody waits for.

It stands in for the outside world in tests of the retry policy and of the job; `scripted_talk` is how one talks to it.
Everything that can be seen from outside (flash erased and written, identity read, rows durable) is kept in one journal in
the order in which it happened. GPIO0 is sampled at a hardware reset and latched: a start by software leaves the latch.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from station.model import Identity, Programmer, StopCause, chip_id_from_mac
from station.ports import Stop
from tests.unit.file_board import FileSystem
from tests.unit.small_image import LENGTH_OFFSET

MAC, OTHER_MAC = "5c:cf:7f:dd:c1:42", "5c:cf:7f:00:00:07"
JEDEC_ID = 0x1440EF
MIB = 1 << 20
PROGRAMMER = Programmer(place="hub:1", node="/dev/scripted", sysfs_path="", generation="1", hub_path="1")
BOOT_MESSAGE = b" ets Jan  8 2013,rst cause:2, boot mode:(%d,7)\r\n"
BANNER = b"MicroPython v1.27.0 on 2025-12-09; ESP module (1M) with ESP8266\r\n>>> "
STUBS = ("stub", "legacy stub")

Act = BaseException | Callable[[], Any] | None
"""What happens when a step is taken: nothing, an exception, or something else; what it returns may be the answer."""
Gpio0Pin = Literal["lines", "low", "free"]
Runs = Literal["nothing", "rom", "stub", "legacy stub", "firmware"]


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
    """The board in its programmer."""

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
    """Whether RTS reaches EN."""
    modem_lines: bool | None = None
    """Whether the port has modem lines at all, wherever they lead; None: as `lines`."""
    gpio0: Gpio0Pin | None = None
    """Who decides at a hardware reset; None: the lines where they reach the board, else a jumper to GND."""
    held_low: bool = False
    """Whether the line holds GPIO0 at GND without a reset."""
    latch_low: bool = False
    """What GPIO0 was at the last hardware reset."""
    present: bool = True
    runs: Runs = "nothing"
    synced: bool = False
    """Whether its ROM has heard a SYNC since the last reset; before that it understands nothing."""
    talks: bool = True
    """Whether its firmware answers at once; one that makes its filesystem is silent for a while."""
    resets: int = 0
    """How often it was reset by the lines or by its power."""
    said: bytes = b""
    """What it said and nobody has read."""
    interrupted: list[bool] = field(default_factory=list)
    """For every prompt, whether programs were interrupted from the start."""
    mounted: bool = True
    """Whether the running firmware sees the filesystem that is in flash."""
    stored: int | None = None
    version: str = "1.27.0"
    machine: str = ""
    """What its firmware calls itself; empty: what the image in its flash says."""
    access_point: bool = True
    """Whether its own access point is on: that of a fresh firmware is, and the switch survives every reset."""
    files: FileSystem = field(default_factory=FileSystem)
    """What the running firmware sees of its filesystem, as far as the recipe's files are concerned."""
    script: dict[str, Iterator[Act]] = field(default_factory=dict)
    checks: dict[str, bytes | BaseException | Callable[[], Any]] = field(default_factory=dict)
    """By the name of a check: what is answered instead of what a healthy board says."""
    journal: list[str] = field(default_factory=list)
    watch: Callable[[str], None] = lambda _event: None

    def __post_init__(self) -> None:
        if not self.flash:
            self.flash = bytearray(b"\x5a" * self.real_bytes)
        if self.gpio0 is None:
            self.gpio0 = "lines" if self.lines else "low"
        if self.modem_lines is None:
            self.modem_lines = self.lines
        self.reset(line_low=False)
        self.said = b""

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

    def plug_in(self, gpio0: Gpio0Pin | None = None, *, lines: bool | None = None) -> ScriptedBoard:
        """Take it out and plug it in again, here or elsewhere, with GPIO0 as the hand has put it."""
        if lines is not None:
            self.lines = self.modem_lines = lines
        self.gpio0, self.present = gpio0 or self.gpio0, True
        self.journal.clear()
        self.note("power")
        self.reset(line_low=self.held_low)
        self.said = b""
        return self

    # -- what runs -------------------------------------------------------------------------------------------------

    def reset(self, *, line_low: bool) -> None:
        """A hardware reset: GPIO0 is sampled, and what it says is started."""
        self.latch_low = self.gpio0 == "low" or (self.gpio0 == "lines" and line_low)
        self.synced, self.resets = False, self.resets + 1
        if self.latch_low:
            self.runs = "rom"
        else:
            self.start_firmware()
        self.said = BOOT_MESSAGE % (1 if self.latch_low else 3)

    def start_firmware(self) -> None:
        """What is in flash runs, if that can run at all; the latch stays."""
        self.runs = "firmware" if self.flash[0] == 0xE9 else "nothing"
        self.mounted = True
        self.files.restart(self.flash)
        self.said = BANNER if self.prompts else b""

    @property
    def prompts(self) -> bool:
        """Whether a MicroPython runs on it."""
        return self.present and self.runs == "firmware" and b"MicroPython v" in self.flash[:4096]

    @property
    def intact(self) -> bool:
        """What esp.check_fw() says: the image in flash is as long as it says, and its MD5 is the one behind it."""
        length = int.from_bytes(self.flash[LENGTH_OFFSET : LENGTH_OFFSET + 4], "little")
        digest = hashlib.md5(self.flash[4:length], usedforsecurity=False).digest()
        return digest == self.flash[length : length + len(digest)]

    @property
    def calls_itself(self) -> str:
        """os.uname().machine."""
        return self.machine or bytes(self.flash[0x100:0x140]).partition(b"\0")[0].decode("ascii", "replace")

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
