"""The search for a loader on one line: resets, SYNCs, and listening to what is there instead.

Promises to say within 2 s that a line is silent, and to judge what is not a loader by the bytes that came. It resets the
board itself and never lets esptool do so; it must never upload or start anything.
"""

from __future__ import annotations

import time
from typing import Any

from station.adapters.esptool_library import Library
from station.adapters.line import Mark, SerialLine
from station.adapters.link_evidence import PROBE, is_micropython, why_no_loader
from station.errors import FirmwareAnswers, LinkCorrupt, LinkEcho, LinkError
from station.model import BootInto

ROM_BAUD = 115200
"""The ROM finds our rate by itself; stub "2" takes this one for granted when it is asked for another."""
BOOT_LOG_BAUD = 74880
"""What the ROM's 115200 comes out as with the 26 MHz crystal that every ESP-01 has."""
SYNCS_PER_RESET = 5
SYNCS_AT_STUB_RATE = 3
LONG_SETTLE_S = 0.55
"""Every second reset holds GPIO0 longer, for boards with a large capacitor at EN (as esptool does)."""
LISTEN_S = 0.5
BOOT_MESSAGE_S = 0.3
"""The boot message begins some milliseconds after the reset and is over 10 ms later."""
PRESENCE_BYTES = 8
"""The boot message has at least 40 bytes; a line that hangs in the air may catch a stray one."""


class LoaderSearch:
    """The search on one open line. Used from one thread.

    `stub_rates` says, per plug, at which rate a stub was last spoken to. Where a ROM answers, that is forgotten.
    """

    def __init__(self, line: SerialLine, library: Library, stub_rates: dict[str, int]) -> None:
        self._line, self._library, self._stub_rates = line, library, stub_rates

    def connect(self, attempts: int) -> Any:
        """Reset the board into its loader, at most `attempts` times, and return esptool's side of the one that answers.

        Raises `LinkSilent`, `LinkEcho`, `FirmwareAnswers` and `LinkCorrupt` as `Esp8266Loader.connect` says.
        """
        line, began = self._line, self._line.mark()
        for attempt in range(attempts):
            has_restarted = self._reset_into_loader(LONG_SETTLE_S if attempt % 2 else None)
            loader = self.synchronise(knocking=True)
            if loader is not None:
                return loader
            why = self._why_no_loader(began)
            # The one needs no board, the other was running all the time: a reset that is not felt cures neither.
            if isinstance(why, LinkEcho) or (isinstance(why, FirmwareAnswers) and not has_restarted):
                raise why
            if not _came_since(began, line):
                self._last_look(began)
                if not _came_since(began, line):
                    raise why
        if line.has_reset_lines:
            self._listen(LISTEN_S, since=began)
        self._last_look(began)
        raise self._why_no_loader(began)

    def synchronise(self, *, knocking: bool = False) -> Any | None:
        """Return esptool's side of the loader that answers our SYNC, at the ROM's rate or at the one a stub was left at.

        Our side is at the loader's rate then, or at the ROM's when there is none. `knocking` sends `PROBE` after the
        first SYNC that got no answer, and gives up as soon as that brings a MicroPython.
        """
        loader = self._synchronise_at(ROM_BAUD, SYNCS_PER_RESET, knocking=knocking)
        if loader is not None:
            if not loader.sync_stub_detected:
                self._stub_rates.pop(self._line.plug, None)
            return loader
        left_at = self._stub_rates.get(self._line.plug, ROM_BAUD)
        if left_at != ROM_BAUD:
            loader = self._synchronise_at(left_at, SYNCS_AT_STUB_RATE)
            if loader is None:
                self._line.set_baud(ROM_BAUD)
        return loader

    def connect_at(self, baud: int) -> Any | None:
        """Reset the board into its loader and return esptool's side of it when it takes `baud` as its first rate, else None.

        Without a reset line a ROM that took it keeps it until its power goes.
        """
        self._reset_into_loader(None)
        loader = self._synchronise_at(baud, SYNCS_PER_RESET)
        if loader is None:
            self._line.set_baud(ROM_BAUD)
        return loader

    def probe_presence(self) -> bool | None:
        """Return whether a pulse of the reset line brings a boot message; None when this line cannot reset."""
        began = self._line.mark()
        can_reset = self._hear_boot_message(LISTEN_S)
        return self._line.mark().received_bytes - began.received_bytes >= PRESENCE_BYTES if can_reset else None

    # --- inside ----------------------------------------------------------------------------------------------------

    def _reset_into_loader(self, settle_s: float | None) -> bool:
        """Reset the board where the line can; whether anything was heard of it meanwhile: the ROM speaks at once."""
        line = self._line
        line.set_baud(ROM_BAUD)
        line.discard_input()
        began = line.mark()
        can_reset = line.reset_board(BootInto.LOADER, settle_s)
        line.discard_input()
        return can_reset and _came_since(began, line)

    def _synchronise_at(self, baud: int, syncs: int, *, knocking: bool = False) -> Any | None:
        line = self._line
        line.set_baud(baud)
        loader = self._library.rom(line, baud)
        line.discard_input()
        began = line.mark()
        for number in range(syncs):
            try:
                loader.flush_input()
                loader.sync()
            except (self._library.fatal_error, IndexError, LinkCorrupt):
                if knocking and number == 0:
                    line.send(PROBE)
                line.pause(0.05)
                if knocking and is_micropython(line.received_since(began)):
                    break
            else:
                return loader
        return None

    def _last_look(self, began: Mark) -> None:
        """Listen once more, unless all is known: to the boot message where the board can be reset, else for an answer."""
        if not self._line.has_reset_lines:
            self._listen(LISTEN_S, since=began)
        elif not is_micropython(self._line.received_since(began)):
            self._hear_boot_message(BOOT_MESSAGE_S)

    def _hear_boot_message(self, duration_s: float) -> bool:
        """Reset the board and listen at the rate of the ROM's boot message; False where this line cannot reset."""
        line = self._line
        line.set_baud(BOOT_LOG_BAUD)
        line.discard_input()
        began = line.mark()
        can_reset = line.reset_board(BootInto.LOADER)
        if can_reset:
            self._listen(duration_s, since=began)
        line.set_baud(ROM_BAUD)
        return can_reset

    def _listen(self, duration_s: float, *, since: Mark) -> None:
        """Let the board speak for a while, or until it has shown a MicroPython; what it says is in the transcript."""
        deadline = time.monotonic() + duration_s
        while (left_s := deadline - time.monotonic()) > 0 and not is_micropython(self._line.received_since(since)):
            self._line.read_some(left_s)

    def _why_no_loader(self, began: Mark) -> LinkError:
        return why_no_loader(sent=self._line.sent_since(began), received=self._line.received_since(began))


def _came_since(began: Mark, line: SerialLine) -> bool:
    """Whether a byte came since that moment."""
    return line.received_bytes > began.received_bytes
