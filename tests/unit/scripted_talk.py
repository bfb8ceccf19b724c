"""How one talks to a scripted board: its line, its loader and its REPL, with every step open to the script."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal

from station import network, selftest
from station.errors import (
    BoardRestartedInTest,
    CheckRaised,
    FirmwareAnswers,
    LinkSilent,
    NothingBoots,
    PortGone,
    ReplSilent,
)
from station.model import Answer, BootInto, FlashChip, Identity, Peek, Programmer, StopCause
from station.ports import Line, Stop
from tests.unit.file_board import PowerCutError
from tests.unit.scripted_board import BANNER, PROGRAMMER, STUBS, ScriptedBoard, identity_of

BOOT_LOG_BAUD = 74_880


class ScriptedOpener:
    """Opens the one line."""

    def __init__(self, board: ScriptedBoard) -> None:
        self._board = board

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> ScriptedLine:
        """Open it; a close and a reopen is no power cycle."""
        stop.check()
        self._board.note("open")
        self._board.step("open")
        line = ScriptedLine(self._board, stop, baud, may_reset=may_reset)
        stop.attach(line)
        return line


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

    def __init__(self, board: ScriptedBoard, stop: Stop, baud: int, *, may_reset: bool = True) -> None:
        self.board, self._stop, self.baud = board, stop, baud
        self._open = True
        self._may_reset = may_reset
        self.transcript = b"what the board said"

    @property
    def has_reset_lines(self) -> bool:
        """Whether they can be moved here, wherever they lead."""
        return bool(self.board.modem_lines) and self._may_reset

    def use(self) -> None:
        """Every use of the line: a closed or a stopped one is useless."""
        assert self._open, "a closed line was used"
        self._stop.check()

    def set_baud(self, baud: int) -> None:
        """Change our side."""
        self.use()
        self.baud = baud

    def read_some(self, timeout_s: float) -> bytes:
        """What it said by itself; the ROM's message is readable at its own rate only."""
        self.use()
        heard: bytes | None = self.board.step("sign of life")
        said, self.board.said = heard or self.board.said, b""
        if said and self.board.present:
            return said if said == BANNER or self.baud == BOOT_LOG_BAUD or heard else b"\x00\x9f\xff"
        self._stop.wait(timeout_s)
        return b""

    def send(self, data: bytes) -> None:
        """Nobody echoes."""
        self.use()

    def discard_input(self) -> None:
        """What was said is lost."""
        self.use()
        self.board.said = b""

    def reset_board(self, into: BootInto) -> bool:
        """Pulse the lines, where there are any; whether that resets anything is the wiring's business."""
        self.use()
        if not self.has_reset_lines:
            return False
        self.board.note(f"reset into {into}")
        if self.board.lines:
            self.board.reset(line_low=into is BootInto.LOADER)
        return True

    def hold_boot_pin(self, *, low: bool) -> bool:
        """Hold GPIO0 where the line reaches it."""
        self.use()
        self.board.held_low = low and self.has_reset_lines
        return self.has_reset_lines

    def stop(self, cause: StopCause) -> None:
        """The next use raises."""

    def close(self) -> None:
        """Release the port."""
        assert self._open, "a line was closed twice"
        self._open = self.board.held_low = False
        self.board.note("close")


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

    def _ask(self, name: str) -> Any:
        answer = self._step(name)
        if self._board.runs == "rom" and not self._board.synced:
            raise LinkSilent(f"no SYNC before {name}")
        return answer

    def _in_stub(self, name: str) -> Any:
        answer = self._step(name)
        if self._board.runs not in STUBS:
            raise LinkSilent(f"no stub to {name} with")
        return answer

    def connect(self, attempts: int) -> None:
        """Reset into the ROM loader where the lines can; else whoever runs there answers."""
        self._step("connect")
        for _ in range(attempts if self._line.has_reset_lines and self._board.lines else 0):
            self._board.reset(line_low=True)
            if self._board.runs == "rom":
                break
        self._board.note(f"connect at {self._line.baud}")
        if self._board.runs == "firmware" and self._board.talks:
            raise FirmwareAnswers("a firmware talks", micropython=self._board.prompts)
        if self._board.runs in ("firmware", "nothing"):
            raise LinkSilent("not a byte")
        self._board.synced = True

    def read_identity(self) -> Identity:
        """Who it is."""
        answer = self._ask("identity")
        self._board.note(f"identity at {self._board.clock.now_s - 1000:.2f} s")
        return answer or identity_of(self._board.mac)

    def start_stub(self, *, legacy: bool = False) -> None:
        """Into the stub; one that runs is kept."""
        self._ask("stub")
        if self._board.runs not in STUBS:
            self._board.runs = "legacy stub" if legacy else "stub"
            self._board.note(self._board.runs)

    def start_firmware(self) -> None:
        """Run user code: stub "2" ignores it, and so does a board whose script answers."""
        ignored = self._ask("start")
        self._board.note("start firmware")
        self._line.set_baud(115_200)
        if not ignored and self._board.runs != "stub":
            self._board.start_firmware()

    def peek(self, *, knock: bool) -> Peek:
        """Who is there, without a reset."""
        self._line.use()
        if self.answers_as() is not None:
            return Peek(answer=Answer.LOADER, mac=self._board.mac)
        return Peek(answer=Answer.FIRMWARE if knock and self._board.prompts else Answer.NOTHING)

    def set_baud(self, baud: int) -> None:
        """Both sides."""
        self._in_stub("baud")
        self._line.set_baud(baud)

    def read_flash_chip(self) -> FlashChip:
        """The id, and what size it claims."""
        self._ask("chip")
        return FlashChip(jedec_id=self._board.jedec_id, size_bytes=self._board.claimed_bytes)

    def read_flash(self, offset: int, length: int, on_progress: Callable[[int], None]) -> bytes:
        """In two halves, so that there is a middle."""
        self._in_stub("read")
        self._board.note(f"read at {self._line.baud}")
        on_progress(length // 2)
        self._in_stub("half read")
        on_progress(length)
        return self._board.read(offset, length)

    def erase_chip(self) -> None:
        """All ones, but what is stuck or protected."""
        self._in_stub("erase")
        self._board.note(f"erase at {self._line.baud}")
        if self._board.protected == "no":
            self._board.flash[:] = b"\xff" * self._board.real_bytes
            self._board.files.erase()
            self._board.program(0, b"\xff")  # stuck bits show in an erased flash too
            self._board.stored = None

    def write(self, offset: int, data: bytes, on_progress: Callable[[int], None]) -> None:
        """In two halves, so that there is a middle."""
        self._in_stub("write")
        self._board.note(f"write at {self._line.baud}")
        half = len(data) // 2
        self._put(offset, data[:half])
        on_progress(half)
        self._in_stub("half")
        self._put(offset + half, data[half:])
        on_progress(len(data))
        self._in_stub("written")

    def _put(self, offset: int, data: bytes) -> None:
        if self._board.protected == "no":
            self._board.program(offset, data)

    def md5(self, offset: int, length: int) -> str:
        """Computed by the chip."""
        answer = self._in_stub("md5")
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
        if not self._board.present or self._board.runs in ("firmware", "nothing"):
            return None
        self._board.synced = True
        return "rom" if self._board.runs == "rom" else "stub"

    def probe_presence(self) -> bool | None:
        """Whether the ROM prints its message after a pulse of the lines."""
        self._line.use()
        if not self._line.has_reset_lines:
            return None
        answer = self._board.step("presence")
        self._board.note("pulse")
        if self._board.lines:
            self._board.reset(line_low=True)
            self._board.said = b""
        return self._board.present and self._board.lines if answer is None else bool(answer)


class ScriptedRepl:
    """The firmware's REPL."""

    def __init__(self, line: Line, stop: Stop) -> None:
        assert isinstance(line, ScriptedLine)
        self._line, self._board, self._stop = line, line.board, stop

    def _said_nothing(self) -> bool:
        self._line.use()
        return not self._board.prompts

    def await_prompt(self, timeout_s: float, *, programs: bool = False) -> str:
        """Here it is, unless the script says otherwise or no MicroPython runs."""
        self._line.use()
        self._board.step("prompt")
        if self._said_nothing():
            self._stop.wait(timeout_s)
            raise NothingBoots("no firmware runs")
        self._board.note("prompt")
        self._board.interrupted.append(programs)
        return "MicroPython"

    def run(self, code: str, timeout_s: float) -> bytes:
        """Answer a check as a healthy board does, or as the test wants."""
        self._line.use()
        self._board.step("run")
        if self._said_nothing():
            raise ReplSilent("no firmware runs")
        if code == selftest.UNMOUNT_CODE:
            self._board.note("umount")
            self._board.mounted = self._board.files.mounted = False
            return b""
        if code == selftest.RESTART_CODE:
            self._restart()
        if self._board.files.takes(code):
            return self._about_files(code)
        if "machine.PWM" in code:
            self._board.step("blink")
            self._board.note(f"blinks at {code.partition('freq=')[2].partition(',')[0]} Hz")
            return b""
        name, value = self._healthy(code)
        answer = self._board.checks.get(name, json.dumps(value).encode())
        if isinstance(answer, BaseException):
            raise answer
        said: bytes = answer() if callable(answer) else answer
        return said

    def _about_files(self, code: str) -> bytes:
        """CPython does what the code says; a power that goes takes the whole programmer along."""
        try:
            return self._board.files.execute(code)
        except PowerCutError:
            raise PortGone("pulled") from None
        except (OSError, NameError, ValueError, ImportError) as error:
            raise CheckRaised(f"Traceback\n{type(error).__name__}: {error}") from error

    def _restart(self) -> None:
        """machine.reset() does not sample GPIO0 again: the latch decides, and after a start by software it says loader."""
        self._board.note("machine.reset")
        if self._board.latch_low:
            self._board.runs = "rom"
            raise ReplSilent("the board said nothing any more")
        self._board.start_firmware()
        raise BoardRestartedInTest("ets Jan  8 2013")

    def _healthy(self, code: str) -> tuple[str, object]:
        board = self._board
        mac = bytes.fromhex((board.run_mac or board.mac).replace(":", ""))
        answers: dict[str, tuple[str, object]] = {
            selftest.IDENTITY_CODE: ("identity", [mac.hex(), (mac[:2:-1] + b"\0").hex()]),
            selftest.FLASH_CODE: ("flash", [board.jedec_id, board.claimed_bytes]),
            selftest.FIRMWARE_CODE: ("firmware", [f"v{board.version} on 2025-12-09", "2.2.0", board.calls_itself]),
            selftest.FIRMWARE_INTACT_CODE: ("firmware_intact", board.intact),
            selftest.CPU_FREQUENCY_CODE: ("cpu_frequency", 80_000_000),
            selftest.FREE_RAM_CODE: ("free_ram", 36_000),
            selftest.WIFI_START_CODE: ("wifi_start", True),
            selftest.FILESYSTEM_READ_CODE: ("filesystem_read", self._hash()),
            network.ACCESS_POINT_OFF_CODE: ("access_point_set", True),
            network.ACCESS_POINT_CODE: ("access_point", board.access_point),
        }
        if code == network.ACCESS_POINT_OFF_CODE:
            board.access_point = False
        if code in answers:
            return answers[code]
        board.note("file written")
        board.stored = int(code.partition("sha256(b'")[2][:16], 16)
        return "filesystem_write", self._hash()

    def _hash(self) -> str | None:
        stored = self._board.stored if self._board.mounted else None
        return None if stored is None else hashlib.sha256(selftest.file_content(stored)).hexdigest()

    def soft_reset(self, timeout_s: float) -> None:
        """MicroPython starts anew, and mounts what is in flash."""
        self._line.use()
        self._board.step("soft reset")
        if self._said_nothing():
            raise ReplSilent("no firmware runs")
        self._board.note("soft reset")
        self._board.mounted = True
        self._board.files.restart(self._board.flash)

    def leave(self) -> None:
        """Back to the friendly REPL."""
        self._board.note("leave")
