"""Boards that answer at once, for tests about the station around them: the ports of loader and REPL, in memory.

They stand in where a test plays hundreds of event orders; what real boards and real esptool do is tested on the bench.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from station import network, selftest
from station.errors import LinkSilent, PortGone
from station.model import Answer, BootInto, FlashChip, Identity, Peek, Programmer, StopCause, chip_id_from_mac
from station.ports import Line, Repl, ReplMaker, Stop

FLASH_BYTES = 1 << 20
JEDEC_ID = 0x1440EF
LOADER_STARTS = b"\r\n ets Jan  8 2013,rst cause:2, boot mode:(1,6)\r\n"
FIRMWARE_STARTS = b"\r\n ets Jan  8 2013,rst cause:2, boot mode:(3,6)\r\n"


@dataclass(slots=True)
class QuickBoard:
    """One board: its MAC, what is in its flash, and how it behaves."""

    mac: str
    behaves: Literal["passes", "fails", "hangs", "silent", "unstable"] = "passes"
    flash: bytearray = field(default_factory=lambda: bytearray(b"\xff" * FLASH_BYTES))
    stored: int | None = None


class QuickBench:
    """Sockets into which tests plug quick boards; watcher and opener at once."""

    def __init__(self) -> None:
        self.boards: dict[str, tuple[Programmer, QuickBoard | None]] = {}
        self._generation = 0
        self._hint: Callable[[], None] = lambda: None
        self.lines: dict[str, QuickLine] = {}

    def plug(self, place: str, board: QuickBoard | None) -> None:
        """Plug a programmer in, with this board or without one; the station is told nothing yet."""
        self._generation += 1
        node, generation = f"/dev/quick{self._generation}", str(self._generation)
        programmer = Programmer(place=place, node=node, sysfs_path="", generation=generation, hub_path=place)
        self.boards[place] = (programmer, board)

    def unplug(self, place: str) -> None:
        """Pull it out; the station is told nothing yet."""
        self.boards.pop(place, None)

    def seat(self, place: str, board: QuickBoard | None) -> None:
        """Put a board into a programmer that stays, or take it out; a board that gets power says its boot message."""
        self.boards[place] = (self.boards[place][0], board)
        if board is not None and place in self.lines:
            self.lines[place].says(LOADER_STARTS)

    def start(self, on_hint: Callable[[], None]) -> None:
        """Keep the hint."""
        self._hint = on_hint

    def snapshot(self) -> tuple[Programmer, ...]:
        """What is plugged in."""
        return tuple(programmer for programmer, _ in self.boards.values())

    def heard(self) -> bool:
        """Always."""
        return True

    def stop(self) -> None:
        """Forget the hint."""
        self._hint = lambda: None

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> QuickLine:
        """Open the line of this plug."""
        stop.check()
        here = self.boards.get(programmer.place)
        if here is None or here[0] != programmer:
            raise PortGone(programmer.node)
        line = self.lines[programmer.place] = QuickLine(self, programmer, stop, may_reset=may_reset)
        stop.attach(line)
        return line


class QuickLine:
    """An open line to whatever quick board is in that programmer."""

    transcript = b"quick"

    def __init__(self, bench: QuickBench, programmer: Programmer, stop: Stop, *, may_reset: bool) -> None:
        self.node, self.has_reset_lines = programmer.node, may_reset
        self._bench, self._programmer, self._stop = bench, programmer, stop
        self._input = b""
        self._came, self._stopped = threading.Event(), threading.Event()

    @property
    def board(self) -> QuickBoard | None:
        """Who is in the socket; raises `PortGone` when the programmer is not there any more."""
        here = self._bench.boards.get(self._programmer.place)
        if here is None or here[0] != self._programmer:
            raise PortGone(self.node)
        return here[1]

    def touch(self) -> QuickBoard:
        """Every use of a board: the line may be stopped or gone, the board may hang or not be there."""
        self._stop.check()
        board = self.board
        if board is None:
            raise LinkSilent("nobody")
        if board.behaves == "hangs":
            self._stopped.wait(20)
            self._stop.check()
        return board

    def says(self, data: bytes) -> None:
        """Bytes from the board."""
        self._input += data
        self._came.set()

    def set_baud(self, baud: int) -> None:
        """Any rate will do."""

    def read_some(self, timeout_s: float) -> bytes:
        """What came; no silence is waited out."""
        self._stop.check()
        self._came.wait(min(timeout_s, 0.02))
        self._stop.check()
        data, self._input = self._input, b""
        self._came.clear()
        return data if self.board is not None else b""

    def send(self, data: bytes) -> None:
        """Nobody listens."""
        self.touch()

    def discard_input(self) -> None:
        """Throw away what came."""
        self._input = b""

    def reset_board(self, into: BootInto) -> bool:
        """The board says which way it starts."""
        if self.has_reset_lines and self.board is not None:
            self.touch()
            self.says(LOADER_STARTS if into is BootInto.LOADER else FIRMWARE_STARTS)
        return self.has_reset_lines

    def hold_boot_pin(self, *, low: bool) -> bool:
        """Every board is in its loader whenever it is asked."""
        return self.has_reset_lines

    def stop(self, cause: StopCause) -> None:
        """Wake up whoever waits."""
        self._stopped.set()
        self._came.set()

    def close(self) -> None:
        """Nothing to release."""


class QuickFlasher:
    """Makes loaders for quick boards."""

    version = "quick"

    def loader(self, line: Line) -> QuickLoader:
        """Return a conversation."""
        assert isinstance(line, QuickLine)
        return QuickLoader(line)


class QuickLoader:
    """The loader of a quick board."""

    def __init__(self, line: QuickLine) -> None:
        self._line = line

    def connect(self, attempts: int) -> None:
        """Synchronise, unless the board is silent."""
        if self._line.touch().behaves == "silent":
            raise LinkSilent("silent")

    def read_identity(self) -> Identity:
        """Who it is."""
        mac = self._line.touch().mac
        return Identity(mac=mac, chip_id=chip_id_from_mac(mac), otp_words=(0, 0, 0, 0))

    def start_stub(self, *, legacy: bool = False) -> None:
        """Done."""
        self._line.touch()

    def start_firmware(self) -> None:
        """Done, and heard."""
        self._line.touch()
        self._line.says(FIRMWARE_STARTS)

    def peek(self, *, knock: bool) -> Peek:
        """Its loader answers, whatever it did last."""
        self._line.discard_input()
        if self._line.board is None or self._line.touch().behaves == "silent":
            return Peek(answer=Answer.NOTHING)
        return Peek(answer=Answer.LOADER, mac=self._line.touch().mac)

    def read_flash(self, offset: int, length: int, on_progress: Callable[[int], None]) -> bytes:
        """What is in it."""
        content = bytes(self._line.touch().flash[offset : offset + length])
        on_progress(length)
        return content

    def set_baud(self, baud: int) -> None:
        """Done."""

    def read_flash_chip(self) -> FlashChip:
        """One megabyte."""
        self._line.touch()
        return FlashChip(jedec_id=JEDEC_ID, size_bytes=FLASH_BYTES)

    def erase_chip(self) -> None:
        """All ones."""
        self._line.touch().flash[:] = b"\xff" * FLASH_BYTES

    def write(self, offset: int, data: bytes, on_progress: Callable[[int], None]) -> None:
        """Write in two steps, so that there is a middle."""
        half = len(data) // 2
        self._line.touch().flash[offset : offset + half] = data[:half]
        on_progress(half)
        self._line.touch().flash[offset : offset + len(data)] = data
        on_progress(len(data))

    def md5(self, offset: int, length: int) -> str:
        """Of what is in flash; an unstable board's is another each time."""
        board = self._line.touch()
        if board.behaves == "unstable" and length > 4096:
            return secrets.token_hex(16)
        return hashlib.md5(board.flash[offset : offset + length], usedforsecurity=False).hexdigest()

    def clear_write_protection(self) -> None:
        """There is none."""

    def answers_as(self) -> Literal["stub", "rom"] | None:
        """The stub."""
        return "stub" if self._line.board is not None else None

    def probe_presence(self) -> bool | None:
        """Whether the board is there."""
        if not self._line.has_reset_lines:
            return None
        return self._line.board is not None and self._line.touch().behaves != "silent"


class QuickRepl:
    """The REPL of a quick board: answers the built-in checks as a healthy board does, or with a wrong frequency."""

    def __init__(self, line: QuickLine, firmware_version: str) -> None:
        self._line, self._version = line, firmware_version

    def await_prompt(self, timeout_s: float, *, programs: bool = False) -> str:
        """Here it is."""
        self._line.touch()
        return "quick"

    def run(self, code: str, timeout_s: float) -> bytes:
        """Answer a check by its code."""
        board = self._line.touch()
        mac = bytes.fromhex(board.mac.replace(":", ""))
        answers: dict[str, object] = {
            selftest.IDENTITY_CODE: [mac.hex(), (mac[:2:-1] + b"\0").hex()],
            selftest.FLASH_CODE: [JEDEC_ID, FLASH_BYTES],
            selftest.FIRMWARE_CODE: [f"v{self._version} on 2025-12-09", "2.2.0", "ESP module (1M) with ESP8266"],
            selftest.FIRMWARE_INTACT_CODE: True,
            selftest.CPU_FREQUENCY_CODE: 52_000_000 if board.behaves == "fails" else 80_000_000,
            selftest.FREE_RAM_CODE: 36_000,
            selftest.WIFI_START_CODE: True,
            selftest.MARK_CODE: None,
            selftest.MARKED_CODE: False,
            network.ACCESS_POINT_OFF_CODE: True,
            network.ACCESS_POINT_CODE: False,
        }
        if code in answers:
            return json.dumps(answers[code]).encode()
        if code == selftest.FILESYSTEM_READ_CODE:
            return json.dumps(self._hash(board.stored)).encode()
        board.stored = int(code.partition("sha256(b'")[2][:16], 16)
        return json.dumps(self._hash(board.stored)).encode()

    def _hash(self, seed: int | None) -> str | None:
        return None if seed is None else hashlib.sha256(selftest.file_content(seed)).hexdigest()

    def soft_reset(self, timeout_s: float) -> None:
        """Done."""
        self._line.touch()

    def leave(self) -> None:
        """Done."""


def quick_repl_maker(firmware_version: str) -> ReplMaker:
    """Return the maker of REPLs for boards with this firmware."""

    def make(line: Line, stop: Stop) -> Repl:
        assert isinstance(line, QuickLine)
        return QuickRepl(line, firmware_version)

    return make
