"""CONNECT, FLASH and VERIFY of one board: the loader's half of a job, with its retries.

`BoardLink` owns the open line and the loader conversation of one visit. It goes down the baud ladder when the link breaks,
judges each break before trying again (did the board reset itself, was it lifted, does it hang?), and leaves every attempt
in the `Evidence`. It writes nothing before `write` is called, and never returns from `verify` unless the chip's own MD5 of
everything the recipe defines is ours. Sources: faults tables A and D, speed.md section 1 for what stub and ROM do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
    Progress,
)
from station.ports import Clock, Flasher, Line, LineOpener, Loader, Stop
from station.reasons import Reason
from station.recipe import FLASH_SIZE_CODES, Recipe, image_for_flash

ROM_BAUD = 115_200
SECTOR_BYTES = 4096
# The chip reads its flash by words, and writes are padded with 0xFF to whole ones.
WORD_BYTES = 4
# esptool allows 120 s for a chip erase (CHIP_ERASE_TIMEOUT); the slowest datasheets say 4 s per MiB.
ERASE_ALLOWANCE_S = 125.0
DEAD_FLASH_IDS = (0x000000, 0xFFFFFF, 0xFFFF3F)
IDENTITY_READS = 3
CONNECT_TRIES = 3
BUSY_TRIES = 3
SMALLEST_FLASH_BYTES = 256 << 10
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


class BoardLink:
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
    ) -> None:
        self._programmer = programmer
        self._opener = opener
        self._flasher = flasher
        self._stop = stop
        self._settings = settings
        self._evidence = evidence
        self._clock = clock
        self._tell = tell
        self._rung = 0
        self._in_stub = False
        self._loader_is_stale = False
        self._head_before = ""
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

    def leave_loader(self, into: BootInto) -> bool:
        """Reset the board by the lines out of its loader; False when this line cannot."""
        self._in_stub = False
        self.line.set_baud(ROM_BAUD)
        self.line.discard_input()
        return self.line.reset_board(into)

    def loader_still_answers(self) -> bool:
        """Whether the board sits in its loader although it was reset into its firmware: the reset lines do not reach it."""
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
        return identity

    def read_chip(self, recipe: Recipe) -> FlashChip:
        """CONNECT, second half: start the stub at the working rate, read the flash id, refuse what cannot carry the recipe.

        The identity is read three times in all, over at least the configured time, so that a board lifted in between
        is noticed before anything is written. Raises `JobEnded`.
        """
        chip = self._on_ladder(self._read_chip_steadily)
        self._evidence.flash = chip
        if chip.jedec_id in DEAD_FLASH_IDS:
            raise JobEnded(Reason.FLASH_NO_ANSWER, str(chip))
        if chip.size_bytes is None:
            raise JobEnded(Reason.FLASH_UNKNOWN, str(chip))
        needed = max(recipe.minimum_flash_bytes, len(recipe.image))
        if chip.size_bytes < needed:
            detail = f"{_size(chip.size_bytes)} board, this product needs {_size(needed)}"
            raise JobEnded(Reason.FLASH_TOO_SMALL, detail)
        if chip.size_bytes not in FLASH_SIZE_CODES:
            # No header of an ESP8266 image can say this size.
            raise JobEnded(Reason.FLASH_UNKNOWN, str(chip))
        return chip

    def write(self, image: bytes) -> None:
        """FLASH: erase the whole chip, write `image` at 0, and see that the same board is still there."""
        self._evidence.flash_touched = True

        def erase_and_write(loader: Loader) -> None:
            self._tell(Progress(phase=Phase.FLASH, fraction=0.0, note="erasing", allow_s=ERASE_ALLOWANCE_S))
            loader.erase_chip()
            loader.write(0, image, lambda done: self._wrote(done, len(image)))
            self._same_board(loader)

        self._on_ladder(erase_and_write)
        self._evidence.bytes_flashed += len(image)

    def verify(self, image: bytes, chip: FlashChip) -> None:
        """VERIFY: the chip's own MD5 of the image and of the blank rest; one rewrite at the lowest rate before judging.

        Raises `JobEnded` with the reason when the flash does not hold what was written.
        """
        assert chip.size_bytes is not None  # noqa: S101 - read_chip() refused unknown sizes
        expected = _md5_of(image)
        found = self._image_md5(len(image), expected)
        if found != expected and self._was_protected(image):
            found = self._image_md5(len(image), expected)
        if found != expected:
            self._refuse_fake_size(image, chip.size_bytes)
            self._write_again(image, found, expected)
        self._evidence.measure(_md5_measurement(expected, expected))
        self._refuse_fake_size(image, chip.size_bytes)
        self._verify_blank_rest(len(image), chip.size_bytes)

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
        loader.start_stub()
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
                self._loader.connect(self._settings.connect_attempts)
                break
            except LinkSilent:
                present = self._loader.probe_presence()
                if present is None:
                    raise
                if present is False and self._evidence.flash_touched:
                    raise JobEnded(Reason.BOARD_REMOVED) from None
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
            raise JobEnded(Reason.BOARD_RESET, "the ROM loader answered where the stub was") from broken
        if isinstance(broken, LinkSilent) and self._loader.probe_presence() is False:
            raise JobEnded(Reason.BOARD_REMOVED) from broken

    def _open_patiently(self) -> Line:
        """Open the port; one that is held is tried again, since ModemManager and brltty let go after seconds (B-5)."""
        for _ in range(BUSY_TRIES - 1):
            try:
                return self._opener.open(self._programmer, ROM_BAUD, self._stop)
            except PortBusy as busy:
                self._tell(Progress(phase=Phase.CONNECT, note=f"port held by {busy.holder}"))
                self._stop.wait(self._settings.port_busy_s / (BUSY_TRIES - 1))
        return self._opener.open(self._programmer, ROM_BAUD, self._stop)

    def _connect_once(self) -> Identity:
        self._loader = self._flasher.loader(self.line)
        self._loader.connect(self._settings.connect_attempts)
        try:
            return _read_identity_surely(self._loader)
        except LinkSilent:
            return _read_identity_surely(self._reconnect())

    # -- small steps -----------------------------------------------------------------------------------------------

    def _read_chip_steadily(self, loader: Loader) -> FlashChip:
        began = self._clock()
        chip = loader.read_flash_chip()
        if chip.size_bytes is not None:
            self._head_before = loader.md5(0, SECTOR_BYTES)
        for read in range(1, IDENTITY_READS):
            due = began + self._settings.identity_reads_over_s * read / (IDENTITY_READS - 1)
            self._stop.wait(max(0.0, due - self._clock()))
            self._same_board(loader)
        return chip

    def _same_board(self, loader: Loader) -> None:
        expected = self._evidence.identity
        found = _read_identity_surely(loader)
        if found != expected:
            raise JobEnded(Reason.IDENTITY_MISMATCH, f"{found.mac} instead of {self._evidence.observed_mac}")
        if self._evidence.flash_touched:
            self._evidence.measure(Measurement(name="mac_after_write", value=found.mac))

    def _wrote(self, done: int, total: int) -> None:
        self._tell(Progress(phase=Phase.FLASH, fraction=done / total, note="writing"))

    def _image_md5(self, length: int, expected: str) -> str:
        """Ask the chip; a wrong answer is asked for twice, since replies carry no checksum of their own."""
        self._tell(Progress(phase=Phase.VERIFY, note="chip computes MD5"))
        found = self._on_ladder(lambda loader: loader.md5(0, length))
        return found if found == expected else self._on_ladder(lambda loader: loader.md5(0, length))

    def _write_again(self, image: bytes, first: str, expected: str) -> None:
        """Erase and write once more at the lowest rate; the same wrong MD5 again is the flash, another one the link (A-12)."""
        self._evidence.notes.append(f"MD5 {first} instead of {expected}: erased and written again at the lowest rate")
        self._rung = len(self._settings.baud_ladder) - 1
        self._in_stub = False
        self.write(image)
        second = self._image_md5(len(image), expected)
        if second == expected:
            return
        self._evidence.measure(_md5_measurement(second, expected))
        reason = Reason.VERIFY_MISMATCH if second == first else Reason.VERIFY_UNSTABLE
        raise JobEnded(reason, f"MD5 {second} instead of {expected}")

    def _verify_blank_rest(self, image_length: int, flash_size: int) -> None:
        """Everything behind the last word of the image; where the image fills the flash there is nothing to be wrong."""
        start = -(-image_length // WORD_BYTES) * WORD_BYTES
        expected = _md5_of(b"\xff" * (flash_size - start))
        blank = start >= flash_size or self._on_ladder(lambda loader: loader.md5(start, flash_size - start)) == expected
        self._evidence.measure(Measurement(name="flash_rest_blank", value=blank, within=blank))
        if not blank:
            raise JobEnded(Reason.VERIFY_MISMATCH, f"the erased rest from {start:#x} on is not blank")

    def _refuse_fake_size(self, image: bytes, flash_size: int) -> None:
        """Where addresses wrap, a sector at size/2, /4 … is the first sector again (D-5); the chip compares by MD5."""
        head = self._on_ladder(lambda loader: loader.md5(0, SECTOR_BYTES))
        candidates = [size for size in FLASH_SIZE_CODES if SMALLEST_FLASH_BYTES <= size < flash_size]
        for address in candidates if head != _BLANK_SECTOR_MD5 else ():
            there = image[address : address + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\xff")
            if there == image[:SECTOR_BYTES]:
                continue
            if self._on_ladder(lambda loader, at=address: loader.md5(at, SECTOR_BYTES)) == head:  # type: ignore[misc]
                self._evidence.measure(_real_size(address, flash_size))
                raise JobEnded(Reason.FLASH_SIZE_FAKE, f"{_size(address)} instead of {_size(flash_size)}")
        self._evidence.measure(_real_size(flash_size, flash_size))

    def _was_protected(self, image: bytes) -> bool:
        """Where the first sector is still what it was, lift the write protection, write again and return True (A-13).

        Raises `JobEnded` when that does not help.
        """
        written = _md5_of(image[:SECTOR_BYTES].ljust(SECTOR_BYTES, b"\xff"))

        def untouched() -> bool:
            # A board that carried this very image before has the right head before and after: that is no protection.
            head = self._on_ladder(lambda loader: loader.md5(0, SECTOR_BYTES))
            return head != written and head in (_BLANK_SECTOR_MD5, self._head_before)

        if not untouched():
            return False
        self._evidence.notes.append("nothing was written: write protection lifted, written again")
        self._on_ladder(lambda loader: loader.clear_write_protection())
        self.write(image)
        if untouched():
            raise JobEnded(Reason.FLASH_WRITE_PROTECTED)
        return True


def image_for(recipe: Recipe, chip: FlashChip, mode: str) -> bytes:
    """Return the recipe's image with the header that suits this board."""
    assert chip.size_bytes is not None  # noqa: S101 - read_chip() refused unknown sizes
    return image_for_flash(recipe, chip.size_bytes, mode)


def _read_identity_surely(loader: Loader) -> Identity:
    """Read the identity until two readings in a row agree: replies of the loader carry no checksum."""
    previous: Identity | None = None
    for _ in range(5):
        found = loader.read_identity()
        if found == previous:
            return found
        previous = found
    raise LinkCorrupt("the board's identity reads differently each time")


def _md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


_BLANK_SECTOR_MD5 = _md5_of(b"\xff" * SECTOR_BYTES)


def _md5_measurement(found: str, expected: str) -> Measurement:
    return Measurement(name="flash_md5", value=found, low=expected, high=expected, within=found == expected)


def _real_size(found: int, claimed: int) -> Measurement:
    return Measurement(
        name="flash_real_size", value=found, unit="B", low=claimed, high=claimed, within=found == claimed
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KB"
