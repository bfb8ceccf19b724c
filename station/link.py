"""The open line and the loader conversation of one visit, with its retries.

`LoaderLink` opens the port, finds out who is there, goes down the baud ladder when the link breaks, and judges each break
before trying again: did the board reset itself, was it lifted, does it hang? Every attempt is left in the `Evidence`. It
writes nothing to flash. Sources: faults tables A and C, speed.md section 1 for what stub and ROM do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from station.config import FlashingSection
from station.errors import (
    BoardRestarted,
    IdentityInvalid,
    JobEnded,
    LinkCorrupt,
    LinkError,
    LinkSilent,
    LoaderRefused,
    PortBusy,
)
from station.model import (
    BootEvidence,
    BootInto,
    FlashChip,
    Identity,
    Measurement,
    Phase,
    PhaseRecord,
    Programmer,
)
from station.ports import Clock, Flasher, Line, LineOpener, Loader, Stop
from station.properties import Gpio0, Learned, Reset, SlotProperties
from station.reasons import Reason
from station.views import Progress

ROM_BAUD = 115_200
BOOT_LOG_BAUD = 74_880
CONNECT_TRIES = 3
BUSY_TRIES = 3
BOOT_MESSAGE_S = 0.5
BOOT_MODE_LOADER = b"1"
_BOOT_MODE = re.compile(rb"boot mode:\((\d+),")
T = TypeVar("T")
_BREAKS = (LinkSilent, LinkCorrupt, BoardRestarted, LoaderRefused)


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What a job has shown so far; it becomes the record whether the job passes or not."""

    phases: list[PhaseRecord] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    identity: Identity | None = None
    observed_mac: str = ""
    flash: FlashChip | None = None
    flash_mode: str = ""
    baud_used: int | None = None
    baud_fallbacks: int = 0
    flash_touched: bool = False
    bytes_flashed: int = 0
    boot_evidence: BootEvidence | None = None
    notes: list[str] = field(default_factory=list)

    def measure(self, measurement: Measurement) -> None:
        """Keep the newest value of a measurement; a repeated phase replaces what its first try measured."""
        self.measurements = [kept for kept in self.measurements if kept.name != measurement.name]
        self.measurements.append(measurement)


class LoaderLink:
    """The open line and the loader conversation of one visit. Used from one thread."""

    def __init__(
        self,
        *,
        programmer: Programmer,
        opener: LineOpener,
        flasher: Flasher,
        stop: Stop,
        settings: FlashingSection,
        evidence: Evidence,
        clock: Clock,
        tell: Callable[[Progress], None],
        properties: SlotProperties,
        learn: Callable[[Learned], None],
    ) -> None:
        self._programmer = programmer
        self._opener = opener
        self._flasher = flasher
        self._stop = stop
        self._settings = settings
        self._evidence = evidence
        self._clock = clock
        self._tell = tell
        self._learn = learn
        self.properties = properties
        """What the slot is, as far as it is known by now."""
        self._rung = 0
        self._in_stub = False
        self._loader_is_stale = False
        self.saw_corruption = False
        """Whether bytes were seen to arrive damaged in this visit; a board is not blamed over such a line."""
        self._line: Line | None = None
        self._loader: Loader | None = None

    @property
    def line(self) -> Line:
        """The open line; opened at the ROM's rate when there is none."""
        if self._line is None:
            self._line = self._open_patiently()
        return self._line

    @property
    def transcript(self) -> bytes:
        """The most recent bytes from the board; empty when the line is closed."""
        return self._line.transcript if self._line is not None else b""

    def close(self) -> None:
        """Release the port; safe to call twice."""
        line, self._line, self._loader, self._in_stub = self._line, None, None, False
        self._stop.attach(None)
        if line is not None:
            line.close()

    def reset_into_firmware(self) -> bool:
        """Reset the board by the lines out of its loader; False when this line cannot, or GPIO0 stays at GND all the same.

        Where nobody knows yet whether the line releases GPIO0, the ROM's boot message tells.
        """
        self._in_stub = False
        self.line.set_baud(ROM_BAUD)
        self.line.discard_input()
        if self.properties.gpio0 is not None:
            return self.line.reset_board(BootInto.FIRMWARE)
        self.line.set_baud(BOOT_LOG_BAUD)
        if not self.line.reset_board(BootInto.FIRMWARE):
            return False
        mode = hear_boot_mode(self.line, self._clock, BOOT_MESSAGE_S)
        self.line.set_baud(ROM_BAUD)
        if mode is None:
            return True
        into_loader = mode == BOOT_MODE_LOADER
        evidence = f"boot mode {mode.decode()} after a reset with GPIO0 released by the line"
        self._learn(Learned(gpio0=Gpio0.HAND if into_loader else Gpio0.LINES, evidence=evidence))
        return not into_loader

    def start_firmware_by_software(self) -> None:
        """Leave the loader by run user code: the firmware starts although GPIO0 is at GND (A-9).

        Raises `JobEnded` where the loader does not take the order because its board is gone.
        """
        loader = self._loader if self._in_stub else None
        try:
            (loader or self._reconnect()).start_firmware()
        except LinkSilent:
            if self._is_there() is False:
                raise JobEnded(Reason.BOARD_REMOVED) from None
            raise
        self._in_stub = False

    def loader_still_answers(self) -> bool:
        """Whether the board sits in its loader where its firmware was wanted."""
        return self._loader is not None and self._loader.answers_as() is not None

    def connect(self) -> Identity:
        """CONNECT, first half: synchronise with the ROM loader and read who the board is.

        Raises what `Loader.connect` and `Loader.read_identity` raise, and `JobEnded` for a deaf adapter.
        """
        for tries_left in reversed(range(CONNECT_TRIES)):
            try:
                identity = self._connect_once()
                break
            except IdentityInvalid as invalid:
                self._evidence.observed_mac = invalid.observed
                raise
            except LinkCorrupt as damaged:
                self.saw_corruption = True
                if not tries_left:
                    raise
                self._evidence.notes.append(f"{damaged}: connected again")
        self._evidence.identity, self._evidence.observed_mac = identity, identity.mac
        if self.properties.reset is None:
            self._find_out_reset()
        return identity

    def look_at_chip(self) -> FlashChip:
        """Read the flash chip's id and size and judge nothing; raises what the ladder raises."""
        chip = self._on_ladder(lambda loader: loader.read_flash_chip())
        self._evidence.flash = chip
        return chip

    def copy_flash(self, size_bytes: int, on_progress: Callable[[int], None]) -> bytes:
        """Return the whole content of the flash, as the chip's own MD5 confirms it; raises what the ladder raises."""
        return self._on_ladder(lambda loader: loader.read_flash(0, size_bytes, on_progress))

    def back_to_first_rate(self) -> None:
        """Leave the stub at the rate at which whoever comes next asks first; a board that cannot be reset keeps its stub."""
        if self._in_stub and self._loader is not None:
            with suppress(LinkError):
                self._loader.set_baud(ROM_BAUD)

    # -- the ladder ------------------------------------------------------------------------------------------------

    def _on_ladder(self, work: Callable[[Loader], T]) -> T:
        """Do `work` in the stub, one try per rung of the baud ladder; judge every break before going on."""
        ladder = self._settings.baud_ladder
        while True:
            baud = ladder[self._rung]
            try:
                loader = self._stub_at(baud)
                done = work(loader)
            except _BREAKS as broken:
                self._judge_break(broken)
                if self._rung + 1 >= len(ladder):
                    reason = Reason.LINK_UNRELIABLE if self.saw_corruption else Reason.LINK_LOST
                    raise JobEnded(reason, f"{broken} at {baud} baud") from broken
                self._rung += 1
                self._in_stub = False
                self._evidence.baud_fallbacks += 1
                self._evidence.notes.append(f"{type(broken).__name__} at {baud} baud: retry at {ladder[self._rung]}")
            else:
                self._evidence.baud_used = baud
                return done

    def _stub_at(self, baud: int) -> Loader:
        if self._in_stub and self._loader is not None:
            return self._loader
        loader = self._loader
        if loader is None or self._loader_is_stale:
            loader = self._reconnect()
        self._loader_is_stale = True
        loader.start_stub(legacy=not self.properties.starts_firmware_by_lines)
        if baud != ROM_BAUD:
            loader.set_baud(baud)
        self._in_stub = True
        return loader

    def _reconnect(self) -> Loader:
        """Back to the ROM loader after a break; a board that is there but silent keeps us here until the deadline."""
        self._in_stub = False
        reopened = False
        while True:
            self.line.set_baud(ROM_BAUD)
            self._loader = self._flasher.loader(self.line)
            try:
                self._loader.connect(self._attempts)
                break
            except LinkSilent:
                present = self._is_there()
                if present is None and self._fell_silent_at_unknown_lines:
                    present = False
                if present is None:
                    raise
                if present is False and self._evidence.flash_touched:
                    raise JobEnded(Reason.BOARD_REMOVED) from None
                if present is False and self.properties.board_moves:
                    raise JobEnded(Reason.NO_ANSWER, "it answered before, and is gone") from None
                if present is False and reopened:
                    raise JobEnded(Reason.ADAPTER_DEAF) from None
                if present is False:
                    # B-8: a stalled bulk-IN pipe gives silence without an error; the driver re-arms it at open.
                    self.close()
                    reopened = True
                self._stop.wait(0.2)
        if self._evidence.identity is not None:
            self._same_board(self._loader)
        return self._loader

    def _judge_break(self, broken: LinkError) -> None:
        """Decide whether trying again makes sense; raises `JobEnded` when it does not."""
        self.saw_corruption |= isinstance(broken, LinkCorrupt | LoaderRefused)
        if self._loader is None or not self._evidence.flash_touched:
            return
        if isinstance(broken, BoardRestarted) or (self._in_stub and self._loader.answers_as() == "rom"):
            if self.was_exchanged():
                raise JobEnded(Reason.BOARD_REMOVED, "another board is in its place") from broken
            raise JobEnded(Reason.BOARD_RESET, "the ROM loader answered where the stub was") from broken
        if isinstance(broken, LinkSilent) and self._is_there() is False:
            raise JobEnded(Reason.BOARD_REMOVED) from broken

    def was_lifted(self) -> bool:
        """Whether a board that fell silent in its firmware is gone; where no line can ask, the hand is likelier than a defect.

        It is reset into its loader by that, where a line can.
        """
        if self._loader is None:
            return False
        present = self._probe_by_lines(self._loader)
        if present is None and self.properties.board_moves:
            return self._loader.answers_as() is None
        return present is False

    def was_exchanged(self) -> bool:
        """Whether, where boards move, another one sits in the socket by now; it is reset into its loader where a line can."""
        identity = self._evidence.identity
        if self._loader is None or identity is None or not self.properties.board_moves:
            return False
        self._probe_by_lines(self._loader)
        return self._loader.peek(knock=False).mac not in ("", identity.mac)

    def _is_there(self) -> bool | None:
        """Whether there is a board at all, None where nothing can tell.

        Where boards move and no line can reset them, a loader that says nothing at any rate has been lifted: nothing else
        takes it away as often (decision record 0008).
        """
        assert self._loader is not None  # noqa: S101 - asked of a conversation that broke
        present = self._probe_by_lines(self._loader)
        if present is None and self.properties.board_moves and self._evidence.flash_touched:
            return self._loader.answers_as() is not None
        return present

    @property
    def _attempts(self) -> int:
        """Where the line does not move GPIO0, more resets of a running firmware only make its words come later."""
        by_line = self.properties.gpio0 in (Gpio0.LINES, None)
        return self._settings.connect_attempts if by_line else min(2, self._settings.connect_attempts)

    @property
    def _fell_silent_at_unknown_lines(self) -> bool:
        """Whether a board that answered, before anybody knew what the lines do, does not answer to them either."""
        untouched = self.properties.reset is None and not self._evidence.flash_touched
        return untouched and self.line.has_reset_lines

    def _probe_by_lines(self, loader: Loader) -> bool | None:
        """Whether a reset by the lines brings a boot message, None where they are not known to reach the board."""
        if self.properties.reset is Reset.NONE:
            return None
        present = loader.probe_presence()
        return present if present or self.properties.reset is Reset.LINES else None

    def _find_out_reset(self) -> None:
        """Pulse the reset line of a board that just answered: its boot message comes, or the line does not reach it."""
        assert self._loader is not None  # noqa: S101 - connect() made it
        present = self._loader.probe_presence()
        if present:
            self._learn(Learned(reset=Reset.LINES, evidence="a pulse of the reset line brought the ROM's boot message"))
            self._loader_is_stale = True
        elif present is None:
            self._learn(Learned(reset=Reset.NONE, evidence="this port has no modem lines"))
        elif self._loader.answers_as() is not None:
            evidence = "the board answers, and a pulse of the reset line brought no boot message"
            self._learn(Learned(reset=Reset.NONE, evidence=evidence))

    def _open_patiently(self) -> Line:
        """Open the port; one that is held is tried again, since ModemManager and brltty let go after seconds (B-5)."""
        for _ in range(BUSY_TRIES - 1):
            try:
                return self._open()
            except PortBusy as busy:
                self._tell(Progress(phase=Phase.CONNECT, note=f"port held by {busy.holder}"))
                self._stop.wait(self._settings.port_busy_s / (BUSY_TRIES - 1))
        return self._open()

    def _open(self) -> Line:
        return self._opener.open(self._programmer, ROM_BAUD, self._stop, may_reset=self.properties.may_reset)

    def _connect_once(self) -> Identity:
        self._loader = self._flasher.loader(self.line)
        self._loader.connect(self._attempts)
        try:
            return read_identity_surely(self._loader)
        except LinkSilent:
            return read_identity_surely(self._reconnect())

    def _same_board(self, loader: Loader) -> None:
        expected = self._evidence.identity
        found = read_identity_surely(loader)
        if found != expected:
            raise JobEnded(Reason.IDENTITY_MISMATCH, f"{found.mac} instead of {self._evidence.observed_mac}")
        if self._evidence.flash_touched:
            self._evidence.measure(Measurement(name="mac_after_write", value=found.mac))


def hear_boot_mode(line: Line, clock: Clock, within_s: float, said: bytes = b"") -> bytes | None:
    """Return the mode, as digits, that the ROM's boot message names in `said` and what follows it; None for no message."""
    until = clock() + within_s
    while (left_s := until - clock()) > 0 and not _BOOT_MODE.search(said):
        said += line.read_some(left_s)
    mode = _BOOT_MODE.search(said)
    return mode[1] if mode else None


def read_identity_surely(loader: Loader) -> Identity:
    """Read the identity until two readings in a row agree: replies of the loader carry no checksum."""
    previous: Identity | None = None
    for _ in range(5):
        found = loader.read_identity()
        if found == previous:
            return found
        previous = found
    raise LinkCorrupt("the board's identity reads differently each time")
