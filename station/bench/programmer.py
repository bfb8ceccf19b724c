"""A virtual CH340 programmer and the ESP-01 in it: a tty on one side, a board on the other, two control lines, a jumper.

Promises that any serial client may be pointed at it, that a client inside the process also has DTR and RTS, that GPIO0
counts only while the board gets power or EN rises, and that pulling it looks like pulling a real one. Everything happens
on one event loop; `set_lines` alone may be called from other threads. It must never judge a board.
"""

import errno
from asyncio import TimerHandle
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Protocol, assert_never

from station.bench.board import Board, BoardEffect, Say, StartFirmware
from station.bench.chip import Chip, ResetCause
from station.bench.faults import USB_FAULT_TOKENS, Fault
from station.bench.link import Link, LinkCounts
from station.bench.loader import Mishap, Restart
from station.bench.port import OpenPort
from station.bench.pty_port import PtyPort
from station.bench.wire import BAUD_TOLERANCE, Noise, byte_s
from station.properties import Gpio0, Reset

FIRMWARE_BAUD = 115200
EN_RISE_S = 0.005
"""EN's capacitor, in real seconds: a sequence that moves the lines one by one has them settled when the pin is read."""
FIRMWARE_RESET_S = 0.01
"""A reset that the firmware asks for takes this long in real seconds, so that a boot loop never spins at pace 0."""
LINES_TIMEOUT_S = 5.0
DEAF_AFTER_FRAMES = 6
"""A deaf adapter's last words: a few boot messages and answers. Those to SYNC are not counted: a hurried host asks often."""
_SYNC_ANSWER = b"\xc0\x01\x08"
ADAPTER_FAULTS = ("adapter_deaf", "adapter_hung", *USB_FAULT_TOKENS)
"""Faults of the programmer, though a board brings them: pulling it out cures them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgrammerKind:
    """How a programmer is built, whatever the station believes about its slot.

    `reset` LINES has RTS on EN (low while RTS is asserted and DTR is not), `gpio0` LINES has DTR on GPIO0 (low while DTR is
    asserted and RTS is not); HAND is a jumper, which `jumper_low` says how it is set at first: None is a hand that thinks,
    and grounds the pin for every board without a bootable image. With `close_cuts_power` closing the port is a power
    cycle: no real programmer has that, but a client of a pty has no other.
    """

    reset: Reset = Reset.LINES
    gpio0: Gpio0 = Gpio0.LINES
    jumper_low: bool | None = True
    close_cuts_power: bool = False


class RunningFirmware(Protocol):
    """The firmware of one board, from one start to its end. `baud` is that of its UART."""

    baud: int

    def receive(self, data: bytes) -> None:
        """Bytes at its RX."""

    def power_off(self) -> None:
        """The chip is reset or loses its supply: it ends here and says no more."""


BootFirmware = Callable[[Chip, Callable[[bytes], None], Callable[[str], None]], RunningFirmware]
"""Start the firmware in a chip's flash: called with the chip, `emit(bytes)` for what it says, and `on_reset(cause)`,
by which it asks for a reset (a value of `ResetCause`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgrammerStats:
    """Counts of one programmer since it was made; `erases` and `programs` are those of its last board's flash."""

    bytes_from_host: int
    bytes_to_host: int
    erases: int
    programs: int
    frames_lost: int
    resets: int


class VirtualProgrammer:
    """One programmer. Make it anywhere, use it on the loop's thread only (`set_lines` excepted).

    `jumper_low` is how the jumper is set, where the programmer's `kind` has one; like every other level of GPIO0 it is
    looked at when the board gets power or EN rises, and at no other time. `on_progress_fault` is called when a hand should
    pull the programmer (`unplug@N`) or has lifted the board (`removed@N`). `open_port` makes the host's side of each plug: a
    pty, which has no lines (`set_lines` moves them), or a USB device, which has.
    """

    def __init__(
        self,
        *,
        chip: Chip | None,
        boot_firmware: BootFirmware,
        kind: ProgrammerKind,
        pace: float,
        seed: int,
        open_port: OpenPort = PtyPort,
    ) -> None:
        self.kind = kind
        self._open_port = open_port
        self.jumper_low = kind.jumper_low
        self.on_progress_fault: Callable[[Fault], None] | None = None
        self._boot_firmware = boot_firmware
        self._pace = pace
        self._to_board, self._to_host = Noise(seed, "to board"), Noise(seed, "to host")
        self._chip = self._last_chip = chip
        self._board: Board | None = None
        self._firmware: RunningFirmware | None = None
        self._link: Link | None = None
        self._thread_id = 0
        self._lines = (False, False)
        self._in_reset = False
        self._rise: TimerHandle | None = None
        """EN on its way up, after the lines let it go."""
        self._resets = self._frames_answered = self._frames_lost = 0
        self._counts = LinkCounts()

    @property
    def chip(self) -> Chip | None:
        """The board that sits in it."""
        return self._chip

    @property
    def control_hung(self) -> bool:
        """Whether control requests are never answered, so that an open must fail: `adapter_hung`, until re-plugged."""
        return self.adapter_has("adapter_hung")

    @property
    def stats(self) -> ProgrammerStats:
        """The counts so far."""
        return ProgrammerStats(
            bytes_from_host=self._counts.from_host,
            bytes_to_host=self._counts.to_host,
            erases=self._last_chip.flash.erases if self._last_chip else 0,
            programs=self._last_chip.flash.programs if self._last_chip else 0,
            frames_lost=self._frames_lost + (self._board.frames_lost if self._board else 0),
            resets=self._resets,
        )

    def plug(self) -> str:
        """Plug the programmer in: its board gets power. Returns where clients find it."""
        if self._link is not None:
            raise RuntimeError(f"the programmer is plugged in already, as {self._link.path}")
        self._link = Link(
            pace=self._pace,
            to_board=self._to_board,
            to_host=self._to_host,
            counts=self._counts,
            hear=self._hear,
            closed=self._client_closed,
            lines=lambda dtr, rts: self._move_lines(dtr=dtr, rts=rts),
            open_port=self._open_port,
        )
        self._thread_id = get_ident()
        self._frames_answered = 0
        self._lines = (False, False)
        self._start(ResetCause.POWER_ON)
        return self._link.path

    def unplug(self) -> None:
        """Pull the programmer out; harmless when it is out."""
        self._cut_off()
        self._forget_board()
        link, self._link = self._link, None
        if link is None:
            return
        link.close()
        if self._chip is not None:
            for token in ADAPTER_FAULTS:
                self._chip.spend(token)

    def seat(self, chip: Chip) -> None:
        """Put a board into the empty programmer; it gets power now, or when the programmer is plugged in."""
        if self._chip is not None:
            raise RuntimeError("there is a board in the programmer already")
        self._chip = self._last_chip = chip
        self._start(ResetCause.POWER_ON)

    def lift(self) -> Chip | None:
        """Take the board out and leave the programmer plugged in. Returns the board, None when there was none."""
        self._cut_off()
        self._forget_board()
        chip, self._chip = self._chip, None
        return chip

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """Move DTR and RTS (True: asserted), from any thread; returns when it is done. OSError when unplugged.

        What they reach, if anything, is the matter of the programmer's `kind`.
        """
        link = self._link
        if link is None:
            raise OSError(errno.ENODEV, "the programmer is not plugged in")
        if get_ident() == self._thread_id:
            self._move_lines(dtr=dtr, rts=rts)
            return
        done: Future[None] = Future()

        def move() -> None:
            self._move_lines(dtr=dtr, rts=rts)
            done.set_result(None)

        try:
            link.loop.call_soon_threadsafe(move)
        except RuntimeError as error:  # the loop is closed
            raise OSError(errno.ENODEV, "the virtual bench has ended") from error
        done.result(LINES_TIMEOUT_S)

    def _move_lines(self, *, dtr: bool, rts: bool) -> None:
        if self._rise is not None and self._link is not None and self._link.loop.time() >= self._rise.when():
            # The bench is late. A capacitor is not: EN rose before the lines moved on, and GPIO0 was what it was then.
            self._rise.cancel()
            self._en_rises()
        self._lines = (dtr, rts)
        if self.kind.reset is not Reset.LINES or self._link is None:
            return
        if rts and not dtr:
            self._cut_off()
            self._in_reset = True
        elif self._in_reset:
            self._rise = self._link.loop.call_later(EN_RISE_S, self._link.guarded(self._en_rises))

    def _en_rises(self) -> None:
        self._rise = None
        self._start(ResetCause.EXTERNAL)

    def _start(self, cause: ResetCause) -> None:
        """The chip starts: power came, EN rose, or it reset itself."""
        self._cut_off()
        if self._chip is None or self._link is None:
            return
        if self._board is None:
            self._board = Board(self._chip)
        if cause is ResetCause.POWER_ON and self.kind.reset is Reset.LINES and self._lines == (False, True):
            self._in_reset = True  # it has power, and starts when EN rises
            return
        self._resets += 1
        noise = self._chip.fault("noise")
        self._link.noise = noise.number if noise is not None else 0.0
        gpio0_low = self._gpio0_low(self._chip)
        self._play(self._board.boot(gpio0_low=gpio0_low, cause=cause, at_s=self._link.now_s))

    def _gpio0_low(self, chip: Chip) -> bool:
        """What the boot pin is while this chip starts."""
        match self.kind.gpio0:
            case Gpio0.LINES:
                dtr, rts = self._lines
                return dtr and not rts
            case Gpio0.HAND:
                return not chip.bootable if self.jumper_low is None else self.jumper_low
            case Gpio0.ALWAYS_LOW:
                return True
            case Gpio0.NEVER_LOW:
                return False
            case _ as never:
                assert_never(never)

    def _cut_off(self) -> None:
        """Whatever runs on the chip ends, and nothing that it had begun happens any more."""
        self._in_reset = False
        if self._rise is not None:
            self._rise.cancel()
            self._rise = None
        if self._link is not None:
            self._link.cut_off()
        firmware, self._firmware = self._firmware, None
        if firmware is not None:
            firmware.power_off()

    def _forget_board(self) -> None:
        """The board has lost its power."""
        if self._board is not None:
            self._frames_lost += self._board.frames_lost
            self._board = None

    def _client_closed(self) -> None:
        if self.kind.close_cuts_power:
            self._start(ResetCause.POWER_ON)

    def _hear(self, data: bytes, begun_s: float, baud: int) -> None:
        """These bytes are at the chip's RX."""
        if self._chip is None or self._board is None or self._link is None:
            return
        if self._chip.fault("echo") is not None:
            self._link.transmit(data, self._link.now_s, baud)
            return
        if self._in_reset:
            return
        if self._firmware is not None:
            matches = abs(self._firmware.baud / baud - 1) <= BAUD_TOLERANCE
            self._firmware.receive(data if matches else self._link.garble(data))
            return
        if self._board.in_loader and not self._board.hears(baud, BAUD_TOLERANCE):
            data = self._link.garble(data)
            self._frames_lost += 1
        self._play(self._board.hear(data, begun_s=begun_s, byte_s=byte_s(baud), host_baud=baud))

    def _play(self, effects: list[BoardEffect]) -> None:
        """Let the board's effects happen, each at its time."""
        if self._link is None:
            return
        for effect in effects:
            match effect:
                case Say():
                    self._frames_answered += not effect.data.startswith(_SYNC_ANSWER)
                    self._link.deaf = self.adapter_has("adapter_deaf") and self._frames_answered > DEAF_AFTER_FRAMES
                    self._link.transmit(effect.data, effect.at_s, effect.baud)
                case StartFirmware():
                    self._link.later(effect.at_s, self._start_firmware)
                case Restart():
                    self._link.later(effect.at_s, partial(self._start, effect.cause))
                case Mishap():
                    self._link.later(effect.at_s, partial(self._hand, effect.fault))

    def _hand(self, fault: Fault) -> None:
        """A hand lifts the board, or pulls the programmer, which is the bench's to do."""
        match fault.token:
            case "removed":
                self.lift()
            case _:
                pass
        if self.on_progress_fault is not None:
            self.on_progress_fault(fault)

    def _start_firmware(self) -> None:
        """The firmware's first instruction."""
        link, chip = self._link, self._chip
        if link is None or chip is None:
            return
        life = link.life

        def emit(data: bytes) -> None:
            if link.life == life:
                baud = self._firmware.baud if self._firmware is not None else FIRMWARE_BAUD
                link.transmit(data, link.now_s, baud)

        def reset(cause: str) -> None:
            restart = link.guarded(partial(self._start, ResetCause(cause)))
            link.loop.call_later(FIRMWARE_RESET_S, link.guarded(lambda: link.later(link.quiet_s, restart)))

        self._firmware = self._boot_firmware(chip, emit, reset)

    def adapter_has(self, token: str) -> bool:
        """Whether this fault of the adapter acts: the next plug of the same board is free of it."""
        return self._chip is not None and self._chip.fault(token) is not None and not self._chip.spent(token)
