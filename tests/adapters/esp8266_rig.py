"""What the tests of the loader conversation share: virtual boards behind the real line, and a firmware that is just enough."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Self

from station.adapters.esp8266 import Esp8266Loader, EsptoolFlasher
from station.adapters.esptool_library import library
from station.adapters.line import SerialLine
from station.bench.chip import Chip, make_chip
from station.bench.faults import parse_fault
from station.bench.image import make_image
from station.bench.programmer import ProgrammerKind, RunningFirmware, VirtualProgrammer
from station.properties import Gpio0, Reset

IMAGE = make_image()
SYNC = b"\xc0\x00\x08\x24\x00\x00\x00\x00\x00\x07\x07\x12\x20" + b"U" * 32 + b"\xc0"
BANNER = b"\r\nMicroPython v1.27.0 on 2025-12-09; ESP module (1M) with ESP8266\r\n"

LINES = ProgrammerKind()
"""Both lines reach the board."""
JUMPERED = ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.HAND, jumper_low=True)
"""No reset, and GPIO0 at GND: the board comes up in its loader."""
RUNNING = ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.HAND, jumper_low=False)
"""No reset and no jumper: the board comes up in its firmware."""

Emit = Callable[[bytes], None]


class Firmware:
    """Just enough of a MicroPython: a banner, an echo, and a prompt after every line."""

    baud = 115200

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.heard = bytearray()
        emit(BANNER + b">>> ")

    def receive(self, data: bytes) -> None:
        """Echo what a terminal may show, and prompt."""
        self.heard += data
        self._emit(bytes(byte for byte in data if byte in range(0x20, 0x7F)) + b"\r\n>>> " * data.count(b"\r"))

    def power_off(self) -> None:
        """Nothing to end."""


class BoardLine(SerialLine):
    """The line to a virtual board: its modem lines go to the programmer directly, and bytes may be damaged on the way."""

    def __init__(self, programmer: VirtualProgrammer, node: str, *, has_lines: bool) -> None:
        self._programmer, self._has_lines = programmer, has_lines
        self.damage: Callable[[bytes], bytes] = lambda data: data
        """What becomes of a write on its way to the board."""
        self.distort: Callable[[bytes], bytes] = lambda data: data
        """What becomes of bytes on their way to us; as many as there were."""
        self.written: list[tuple[int, bytes]] = []
        """Every write, with the rate of our side."""
        self.settings: list[tuple[bool, bool]] = []
        """Every setting of DTR and RTS."""
        super().__init__(node, baud=115200, en_low_s=0.001, settle_s=0.02)

    @property
    def resets(self) -> int:
        """How often EN fell."""
        return self.settings.count((False, True))

    def syncs(self, baud: int = 115200) -> int:
        """How often a SYNC was sent at this rate."""
        return self.written.count((baud, SYNC))

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # as SerialLine has it
        """Write what `damage` makes of it."""
        self.written.append((self.baudrate, bytes(data)))
        super().write(self.damage(data))
        return len(data)

    def _take(self, limit: int) -> bytes:
        return self.distort(super()._take(limit))

    def _apply_lines(self, *, dtr: bool, rts: bool) -> None:
        if not self._has_lines:
            super()._apply_lines(dtr=dtr, rts=rts)
        else:
            self.settings.append((dtr, rts))
            self._programmer.set_lines(dtr=dtr, rts=rts)


class Bench:
    """An event loop in a thread, and the programmers that were plugged in. Use it as a context manager."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._programmers: list[VirtualProgrammer] = []
        self._lines: list[BoardLine] = []
        self.flasher = EsptoolFlasher()
        self.start_firmware: Callable[[Emit], RunningFirmware] = Firmware
        """What runs on the boards that start from flash."""

    def on_loop(self, deed: Callable[[], Any]) -> Any:
        """Do something on the loop's thread."""

        async def do() -> Any:
            return deed()

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result(10)

    def plug(
        self, fault: str = "", *, number: int = 1, kind: ProgrammerKind = LINES, image: bytes = b"", empty: bool = False
    ) -> tuple[VirtualProgrammer, str]:
        """Plug in a board with this fault, or an empty programmer; returns the programmer and the tty's path."""
        programmer = VirtualProgrammer(
            chip=None if empty else chip_with(fault, number=number, image=image),
            boot_firmware=lambda _chip, emit, _on_reset: self.start_firmware(emit),
            kind=kind,
            pace=0,
            seed=number,
        )
        programmer.on_progress_fault = lambda struck: programmer.unplug() if struck.token == "unplug" else None
        self._programmers.append(programmer)
        path: str = self.on_loop(programmer.plug)
        return programmer, path

    def open(self, programmer: VirtualProgrammer, path: str, *, has_lines: bool | None = None) -> BoardLine:
        """Open the tty of a programmer; `has_lines` says whether DTR and RTS can be set, wherever they end."""
        wired = programmer.kind.reset is Reset.LINES
        line = BoardLine(programmer, path, has_lines=wired if has_lines is None else has_lines)
        self._lines.append(line)
        return line

    def board(
        self, fault: str = "", *, has_lines: bool | None = None, **options: Any
    ) -> tuple[Esp8266Loader, BoardLine, Chip]:
        """Plug in a board with this fault and open it."""
        programmer, path = self.plug(fault, **options)
        chip = programmer.chip
        assert chip is not None
        line = self.open(programmer, path, has_lines=has_lines)
        board = self.flasher.loader(line)
        if fault:
            # At pace 0 whoever answers does so at once: do not wait 6 s for those who never will.
            board._library = dataclasses.replace(library(), default_timeout_s=1.0, erase_write_timeout_s_per_mb=1.0)
        return board, line, chip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close, unplug and stop everything."""
        for line in self._lines:
            line.close()
        for programmer in self._programmers:
            self.on_loop(programmer.unplug)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def chip_with(fault: str = "", *, number: int = 1, image: bytes = b"") -> Chip:
    """A board with this fault; its MAC ends in `number`."""
    return make_chip(
        mac=bytes((0x5C, 0xCF, 0x7F, 0xDD, 0xC1, number)),
        faults=(parse_fault(fault),) if fault else (),
        seed=number,
        image=image,
    )


def into_stub(board: Esp8266Loader, baud: int = 460800, *, legacy: bool = False) -> None:
    """Bring a board to where it can be written."""
    board.connect(2)
    board.start_stub(legacy=legacy)
    board.set_baud(baud)


def nothing(_done: int) -> None:
    """Want no progress."""
