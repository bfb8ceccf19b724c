"""One programmer of `station bench` in the hands of the person at standard input, whatever its other end is.

Promises that a board that exchanges itself (`swapped`) or a programmer that is pulled by a fault (`unplug@N`) does so, and
that another process lets go of the tty when the programmer is pulled. It must never know how clients find the programmer.
"""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod

from station.bench.bench import SwappingHand
from station.bench.chip import Chip
from station.bench.faults import Fault
from station.bench.port import OpenPort
from station.bench.programmer import BootFirmware, ProgrammerKind, VirtualProgrammer
from station.bench.pty_port import PtyPort


class TablePort(ABC):
    """A programmer with `chip` in it, not plugged in yet. Make and use it on the loop's thread.

    `exchange` is the board that a hand puts there as soon as the firmware starts (`swapped`).
    """

    def __init__(
        self,
        chip: Chip,
        exchange: Chip | None,
        *,
        boot_firmware: BootFirmware,
        kind: ProgrammerKind,
        pace: float,
        seed: int,
        open_port: OpenPort = PtyPort,
    ) -> None:
        self._holder: subprocess.Popen[bytes] | None = None
        self._hand = SwappingHand(boot_firmware)
        self.programmer = VirtualProgrammer(
            chip=chip, boot_firmware=self._hand.boot, kind=kind, pace=pace, seed=seed, open_port=open_port
        )
        self.programmer.on_progress_fault = self._pull
        self._hand.take(self.programmer, exchange)

    @property
    @abstractmethod
    def plugged(self) -> bool:
        """Whether the programmer is plugged in."""

    @abstractmethod
    async def plug(self) -> None:
        """Plug the programmer in; ValueError when it is in, OSError when that does not work."""

    @abstractmethod
    def unplug(self) -> None:
        """Pull the programmer out; harmless when it is out."""

    def put(self, chip: Chip, exchange: Chip | None) -> None:
        """Put this board in, in place of what is there; ValueError when that one has power."""
        if self.plugged and self.programmer.chip is not None:
            raise ValueError("there is a board in it: unplug the programmer, or lift the board")
        self.programmer.lift()
        self._hand.take(self.programmer, exchange)
        self.programmer.seat(chip)

    def _let_go(self) -> None:
        """The process that holds the tty (`port_busy`) ends."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.communicate()

    def _pull(self, fault: Fault) -> None:
        if fault.token == "unplug":
            self.unplug()
