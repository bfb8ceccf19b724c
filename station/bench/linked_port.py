"""One socket of `station bench`: a virtual programmer, and the link by which clients find its tty while it is plugged in.

Promises that the link is there exactly while the programmer is, that `port_busy` and `adapter_hung` look from outside as
they do on a real port, and that everything is given back by `unplug`. It must never take away a link that is not its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from station.bench.bench import hold
from station.bench.chip import Chip
from station.bench.programmer import BootFirmware, ProgrammerKind
from station.bench.table_port import TablePort

TIOCSPTLCK = 0x40045431
"""The ioctl that locks a pty: whoever opens it gets EIO, as from an adapter that answers no control request."""


class LinkedPort(TablePort):
    """A programmer whose tty is a pty, found by `link`."""

    def __init__(
        self,
        link: Path,
        chip: Chip,
        exchange: Chip | None,
        *,
        boot_firmware: BootFirmware,
        kind: ProgrammerKind,
        pace: float,
        seed: int,
    ) -> None:
        self._link = link
        self._tty: str | None = None
        self._hung_master: int | None = None
        super().__init__(chip, exchange, boot_firmware=boot_firmware, kind=kind, pace=pace, seed=seed)

    @property
    def plugged(self) -> bool:
        """Whether the programmer is plugged in."""
        return self._tty is not None

    async def plug(self) -> None:
        """Plug the programmer in and link its tty; ValueError when it is in, or something else is where the link goes."""
        if self._tty is not None:
            raise ValueError(f"{self._link.name} is plugged in already")
        if self._link.exists() and not self._link.is_symlink():
            raise ValueError(f"{self._link} exists and is no link")
        tty = self.programmer.plug()
        if self.programmer.control_hung:
            self._hung_master, tty = _hung_tty()
        self._tty = tty
        if self.programmer.chip is not None and self.programmer.chip.fault("port_busy") is not None:
            self._holder = await asyncio.to_thread(hold, tty)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(tty)

    def unplug(self) -> None:
        """Pull the programmer out; harmless when it is out."""
        # The link first: the kernel gives the number of a pty out again, perhaps to somebody's terminal.
        with suppress(OSError):
            if str(self._link.readlink()) == self._tty:  # else another bench has put its own there meanwhile
                self._link.unlink()
        self._tty = None
        self.programmer.unplug()
        self._let_go()
        master, self._hung_master = self._hung_master, None
        if master is not None:
            os.close(master)


def _hung_tty() -> tuple[int, str]:
    """Return the master of a tty that cannot be opened, and its path."""
    master, slave = os.openpty()
    tty = os.ttyname(slave)
    os.close(slave)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 1))
    return master, tty
