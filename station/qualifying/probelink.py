"""The link of `station qualify`: what a job's link does by itself, in single steps that can be timed.

Opening, judging breaks, finding out what the lines reach and seeing that it is still the same board are those of
`station.link`; nothing of that is done a second time here. It asks two things of a loader that no job needs. It must never be
used for a job: it goes to rates that no ladder has.
"""

from __future__ import annotations

from typing import Protocol, cast

import msgspec

from station.flashing import BoardLink
from station.link import BOOT_LOG_BAUD, BOOT_MESSAGE_S, ROM_BAUD, hear_boot_mode
from station.model import BootInto
from station.ports import Flasher, Line, Loader


class ProbingLoader(Loader, Protocol):
    """A loader that can also do what no job needs."""

    blocks_repeated: int
    """So many blocks were sent again, since the stub refused their checksum."""

    def connect_at(self, baud: int) -> bool:
        """Reset the board into its loader and synchronise at `baud` from the first byte on; False when nobody answers.

        Only where a line resets the board. Where it is False, `connect` is needed.
        """

    def erase_region(self, offset: int, length: int) -> None:
        """Erase whole sectors, by blocks of 64 KiB where it can; needs the stub."""


class ProbingFlasher(Flasher, Protocol):
    """Makes such loaders."""

    def loader(self, line: Line) -> ProbingLoader:
        """Return a loader conversation over `line`; nothing is sent yet."""


class ProbeLink(BoardLink):
    """The link of one measuring: in single steps what the link of a job does by itself. Used from one thread."""

    @property
    def loader(self) -> ProbingLoader:
        """The loader that was spoken to last; there is one after `connect`."""
        return cast("ProbingLoader", self._loader)

    def into_loader(self) -> ProbingLoader:
        """Back to a loader that answers, of the same board: the ROM's where a line resets, else whichever still runs."""
        self._reconnect()
        return self.loader

    def start_stub(self, *, legacy: bool | None = None) -> None:
        """Start the stub that this slot's boards get, or the one that is asked for."""
        by_lines = self.properties.starts_firmware_by_lines
        self.loader.start_stub(legacy=not by_lines if legacy is None else legacy)
        self._in_stub = self._loader_is_stale = True

    def stub_at(self, baud: int) -> None:
        """A stub that answers at this rate, whatever happened before."""
        self.into_loader()
        self.start_stub()
        self.loader.set_baud(baud)

    def settle(self, ladder: tuple[int, ...]) -> None:
        """Go on with this ladder from its first rung: what follows is written as a job writes."""
        self._settings = msgspec.structs.replace(self._settings, baud_ladder=ladder)
        self._rung = 0
        self.stub_at(ladder[0])

    def touches_flash(self) -> None:
        """From here on a board that goes away is half-flashed."""
        self._evidence.flash_touched = True

    def boot_text_baud(self) -> int | None:
        """Return the rate at which the ROM's boot message can be read: 74880 with a 26 MHz crystal, 115200 with 40."""
        found = None
        for baud in (BOOT_LOG_BAUD, ROM_BAUD):
            self.line.set_baud(baud)
            self.line.discard_input()
            if self.line.reset_board(BootInto.LOADER) and hear_boot_mode(self.line, self._clock, BOOT_MESSAGE_S):
                found = baud
                break
        self.line.set_baud(ROM_BAUD)
        return found
