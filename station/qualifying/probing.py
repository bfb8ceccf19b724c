"""What one board in one slot is like: every step from the first SYNC to the second prompt, measured one by one.

`station qualify` runs it in a thread. Promises to write nothing before `begin` returned, to keep in `Seen` whatever was
measured when something ends it, and to leave a board that was measured to the end with the recipe's image, verified, in its
firmware. It uses the line, the loader and the REPL that a job uses; what it adds is the clock. Raises what the link and the
REPL raise. It must never judge: `station.qualifying.assumptions` compares, and no board passes here.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

from station import selftest
from station.booting import BOOT_SLACK_S, SIGN_OF_LIFE_S
from station.errors import (
    BoardRestarted,
    FirmwareAnswers,
    JobEnded,
    LinkCorrupt,
    LinkError,
    LinkSilent,
    NothingBoots,
    ReplError,
)
from station.flashing import ERASE_ALLOWANCE_S, SECTOR_BYTES, image_for
from station.link import CONNECT_TRIES, ROM_BAUD
from station.model import FlashChip, Identity, Phase
from station.ports import Clock, Repl, ReplMaker, Stop
from station.properties import Gpio0, Reset
from station.qualification import MARGIN_BYTES, MARGIN_ROUNDS, UNPROVEN_BAUD, RateResult, Value
from station.qualifying.probelink import ProbeLink, ProbingLoader
from station.reasons import Reason
from station.recipe import Recipe
from station.views import Progress

RATES = (115_200, 230_400, 460_800, 921_600, 1_500_000, 2_000_000)
DIRECT_BAUDS = (230_400, 460_800, 921_600)
DIRECT_STUB_BAUD = 460_800
SYNCS = 3
BLOCK_BYTES = 64 << 10
MIB = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """What to measure with."""

    bauds: tuple[int, ...] = RATES
    """Rising."""
    rounds: int = MARGIN_ROUNDS
    round_bytes: int = MARGIN_BYTES


@dataclass(slots=True, kw_only=True)
class Seen:
    """What was measured of one board so far."""

    identity: Identity | None = None
    chip: FlashChip | None = None
    values: dict[str, Value] = field(default_factory=dict)
    """By the names of `station.qualifying.assumptions`."""
    rates: list[RateResult] = field(default_factory=list)
    lost_at_baud: int | None = None
    """The rate at which the board fell silent for good, since nothing here resets it."""
    complete: bool = False


@dataclass(slots=True, kw_only=True)
class _Count:
    """One rate while it is measured; the names are those of `RateResult`."""

    rounds: int = 0
    clean: int = 0
    corrupted: int = 0
    silent: int = 0
    restarted: int = 0
    repeated_blocks: int = 0
    wrong: int = 0
    change_s: float | None = None
    write_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)

    def broke(self, error: LinkError) -> None:
        """Count what ended a conversation."""
        match error:
            case LinkSilent():
                self.silent += 1
            case BoardRestarted():
                self.restarted += 1
            case _:
                self.corrupted += 1

    def result(self, baud: int, round_bytes: int) -> RateResult:
        """What became of this rate."""
        return RateResult(
            baud=baud,
            round_bytes=round_bytes,
            rounds=self.rounds,
            clean=self.clean,
            corrupted=self.corrupted,
            silent=self.silent,
            restarted=self.restarted,
            repeated_blocks=self.repeated_blocks,
            wrong=self.wrong,
            change_s=self.change_s,
            write_s=_median(self.write_s),
            read_s=_median(self.read_s),
        )


class BoardProbe:
    """One board while it is measured. Used from one thread."""

    def __init__(
        self,
        link: ProbeLink,
        *,
        plan: ProbePlan,
        recipe: Recipe,
        make_repl: ReplMaker,
        boot_deadline_s: float,
        check_deadline_s: float,
        clock: Clock,
        stop: Stop,
        tell: Callable[[Progress], None],
        admit: Callable[[Identity], None],
        begin: Callable[[Identity, FlashChip], None],
    ) -> None:
        """Raise out of `admit` for a board that must not be touched; `begin` puts it on record before the first write."""
        self.seen = Seen()
        self._link, self._plan, self._recipe = link, plan, recipe
        self._make_repl, self._clock, self._stop, self._tell = make_repl, clock, stop, tell
        self._boot_deadline_s, self._check_deadline_s = boot_deadline_s, check_deadline_s
        self._admit, self._begin = admit, begin

    def measure(self) -> Seen:
        """Measure everything, in the order of a board's life; what was measured is in `seen` whatever ends it."""
        self._say(Phase.CONNECT, "who is there?")
        self.seen.identity = identity = self._link.connect()
        self._admit(identity)
        self._look_at_lines()
        if self._is_reset_by_lines:
            self._time_syncs()
        self.seen.chip = chip = self._start_first_stub()
        self._begin(identity, chip)
        self._erase_and_hash(chip)
        self._try_rates(chip)
        self._time_small_erases(chip)
        self._write_image(chip)
        self._start_firmware(identity)
        self.seen.complete = True
        return self.seen

    # -- the loader ------------------------------------------------------------------------------------------------

    def _look_at_lines(self) -> None:
        """What RTS and DTR reach, by the ROM's own words after a reset; where lines must not be touched, nothing."""
        link, values = self._link, self.seen.values
        if not link.line.has_reset_lines or link.properties.reset is None:
            return
        values["en_by_rts"] = link.properties.reset is Reset.LINES
        if not values["en_by_rts"]:
            values["gpio0_by_dtr"] = False
            return
        self._say(Phase.CONNECT, "what the lines reach")
        values["boot_text_baud"] = link.boot_text_baud()
        link.reset_into_firmware()
        if link.properties.gpio0 is not None:
            values["gpio0_by_dtr"] = link.properties.gpio0 is Gpio0.LINES
        link.into_loader()

    def _time_syncs(self) -> None:
        """From reset to an answer, again and again; then straight at higher rates, which the ROM finds by itself."""
        loader, values = self._link.loader, self.seen.values
        took, attempts = [], []
        for number in range(SYNCS):
            self._say(Phase.CONNECT, f"reset and SYNC, {number + 1} of {SYNCS}")
            seconds, tries = self._timed(lambda: _connect_patiently(loader))
            took.append(seconds)
            attempts.append(tries)
        values["sync_s"], values["sync_attempts"] = _median(took), max(attempts)
        for baud in DIRECT_BAUDS:
            self._say(Phase.CONNECT, f"first SYNC straight at {baud}")
            try:
                if not loader.connect_at(baud):
                    break
                values["direct_sync_baud"] = baud
                if baud == DIRECT_STUB_BAUD:
                    values["direct_stub_start_s"], _ = self._timed(loader.start_stub)
            except LinkError:
                break

    def _start_first_stub(self) -> FlashChip:
        """The stub of this slot, timed where it was really uploaded; then the flash, and whether it can carry the recipe."""
        link = self._link
        self._say(Phase.CONNECT, "flasher stub")
        was_rom = link.into_loader().answers_as() == "rom"
        seconds, _ = self._timed(link.start_stub)
        if was_rom:
            by_lines = link.properties.starts_firmware_by_lines
            self.seen.values["stub_start_s" if by_lines else "legacy_stub_start_s"] = seconds
        return link.read_chip(self._recipe)

    def _erase_and_hash(self, chip: FlashChip) -> None:
        """The whole chip: erased, then its MD5."""
        assert chip.size_bytes is not None  # noqa: S101 - read_chip() refused unknown sizes
        loader, size, values = self._link.loader, chip.size_bytes, self.seen.values
        self._link.touches_flash()
        self._say(Phase.FLASH, "erasing", ERASE_ALLOWANCE_S)
        values["chip_erase_s"], _ = self._timed(loader.erase_chip)
        self._say(Phase.FLASH, "chip computes MD5")
        seconds, _ = self._timed(lambda: loader.md5(0, size))
        values["md5_s_per_mib"] = seconds * MIB / size

    def _try_rates(self, chip: FlashChip) -> None:
        """Every rate from the lowest on; where nothing resets the board, not beyond the first that is not clean."""
        rounds, scratch = self._plan.rounds, _scratch(chip)
        clean = [ROM_BAUD]
        for baud in self._plan.bauds:
            count = _Count()
            try:
                self._try_rate(baud, scratch, count)
            finally:
                self.seen.rates.append(count.result(baud, self._plan.round_bytes))
            if count.clean == rounds:
                clean.append(baud)
            elif not self._is_reset_by_lines:
                break
        self._link.settle(tuple(sorted({baud for baud in clean if baud <= UNPROVEN_BAUD}, reverse=True)))

    def _try_rate(self, baud: int, scratch: int, count: _Count) -> None:
        """So many rounds at one rate; after a break the loader is fetched back, which is where a board can get lost."""
        link = self._link
        for number in range(self._plan.rounds):
            self._say(Phase.FLASH, f"{baud} baud, round {number + 1} of {self._plan.rounds}")
            count.rounds += 1
            try:
                seconds, _ = self._timed(lambda: link.loader.set_baud(baud))
                if count.change_s is None and baud != ROM_BAUD:
                    count.change_s = seconds
                self._round(scratch, count)
            except LinkError as error:
                count.broke(error)
                self._fetch_back(baud)

    def _fetch_back(self, baud: int) -> None:
        """The stub, after a break at `baud`."""
        try:
            self._link.into_loader()
            self._link.start_stub()
        except (LinkError, JobEnded):
            if not self._is_reset_by_lines:
                self.seen.lost_at_baud = baud
            raise

    def _round(self, scratch: int, count: _Count) -> None:
        """Random bytes there, by the chip's MD5, and back; raises `LinkError`."""
        loader, size = self._link.loader, self._plan.round_bytes
        data = random.randbytes(size)  # noqa: S311 - incompressible, not secret
        before = loader.blocks_repeated
        seconds, _ = self._timed(lambda: loader.write(scratch, data, lambda _done: None))
        count.write_s.append(seconds)
        repeated = loader.blocks_repeated - before
        count.repeated_blocks += repeated
        if loader.md5(scratch, size) != hashlib.md5(data, usedforsecurity=False).hexdigest():
            count.wrong += 1
            return
        seconds, read = self._timed(lambda: loader.read_flash(scratch, size, lambda _done: None))
        count.read_s.append(seconds)
        if read != data:
            count.wrong += 1
        elif not repeated:
            count.clean += 1

    def _time_small_erases(self, chip: FlashChip) -> None:
        """One sector and one block that are not blank."""
        loader, values, scratch = self._link.loader, self.seen.values, _scratch(chip)
        self._say(Phase.FLASH, "erasing a sector and a block")
        loader.write(scratch, random.randbytes(BLOCK_BYTES), lambda _done: None)  # noqa: S311 - not secret
        values["sector_erase_s"], _ = self._timed(lambda: loader.erase_region(scratch, SECTOR_BYTES))
        values["block_erase_s"], _ = self._timed(lambda: loader.erase_region(scratch, BLOCK_BYTES))

    def _write_image(self, chip: FlashChip) -> None:
        """The recipe's image, as a job writes and verifies it."""
        image = image_for(self._recipe, chip, self._recipe.flash_mode)
        self._link.write(image)
        self._link.verify(image, chip)

    # -- the firmware ----------------------------------------------------------------------------------------------

    def _start_firmware(self, identity: Identity) -> None:
        """By the lines twice, by software, and by the lines again to leave it so; else by software alone."""
        values = self.seen.values
        if not self._link.properties.starts_firmware_by_lines:
            took = self._start_by_software(identity)
            values["first_boot_s"] = took
            return
        values["first_boot_s"] = self._start_by_lines(identity)
        values["second_boot_s"] = self._start_by_lines(identity)
        self._link.into_loader()
        self._link.line.hold_boot_pin(low=True)
        values["legacy_stub_start_s"], _ = self._timed(lambda: self._link.start_stub(legacy=True))
        self._start_by_software(identity)
        self._link.line.hold_boot_pin(low=False)
        self._start_by_lines(identity)

    def _start_by_lines(self, identity: Identity) -> float:
        """Reset into the firmware; return how long its prompt took."""
        self._say(Phase.BOOT, "starting by the lines", self._boot_deadline_s + BOOT_SLACK_S)
        if not self._link.reset_into_firmware():
            raise NothingBoots("GPIO0 stays at GND after a reset by the lines")
        return self._meet(identity)

    def _start_by_software(self, identity: Identity) -> float | None:
        """Run user code with GPIO0 at GND; whether the prompt came is the value. None where it did not."""
        self._say(Phase.BOOT, "starting by software", self._boot_deadline_s + BOOT_SLACK_S)
        self.seen.values["software_start"] = False
        try:
            self._link.start_firmware_by_software()
            began = self._clock()
            if not self._link.line.read_some(SIGN_OF_LIFE_S) and self._link.loader_still_answers():
                return None
            self._meet(identity)
        except (ReplError, LinkError):
            return None
        self.seen.values["software_start"] = True
        return self._clock() - began

    def _meet(self, identity: Identity) -> float:
        """Wait for the prompt and hold what the firmware says of itself against the loader's words; return the wait."""
        repl = self._make_repl(self._link.line, self._stop)
        took, _ = self._timed(lambda: repl.await_prompt(self._boot_deadline_s))
        found = self._who_answers(repl)
        agrees = (found.mac, found.chip_id) == (identity.mac, identity.chip_id)
        self.seen.values["identity_agrees"] = self.seen.values.get("identity_agrees", True) is True and agrees
        repl.leave()
        return took

    def _who_answers(self, repl: Repl) -> Identity:
        deadline_s = self._check_deadline_s
        identity, flash = (repl.run(code, deadline_s) for code in (selftest.IDENTITY_CODE, selftest.FLASH_CODE))
        return selftest.board_that_answers(identity, flash)[0]

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _is_reset_by_lines(self) -> bool:
        return self._link.properties.reset is Reset.LINES

    def _timed(self, work: Callable[[], T]) -> tuple[float, T]:
        """Do it; return how long it took, in seconds, and what came of it."""
        began = self._clock()
        done = work()
        return self._clock() - began, done

    def _say(self, phase: Phase, note: str, allow_s: float | None = None) -> None:
        self._tell(Progress(phase=phase, note=note, allow_s=allow_s))


def _connect_patiently(loader: ProbingLoader) -> int:
    """Reset and SYNC until it answers; return how many resets that took."""
    for attempt in range(1, CONNECT_TRIES + 1):
        try:
            loader.connect(1)
        except (LinkSilent, LinkCorrupt, FirmwareAnswers):
            if attempt == CONNECT_TRIES:
                raise
        else:
            return attempt
    raise AssertionError("the last try returns or raises")


def _scratch(chip: FlashChip) -> int:
    """Where the random bytes go: in the middle of the flash, at the start of a block."""
    if chip.size_bytes is None:
        raise JobEnded(Reason.FLASH_UNKNOWN, str(chip))
    return chip.size_bytes // 2


def _median(values: list[float]) -> float | None:
    return median(values) if values else None
