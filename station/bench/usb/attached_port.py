"""One socket of `station bench --usb`: a virtual programmer that the kernel's own drivers find on the virtual host controller.

Promises that pulling it is closing the stream, so that the driver sees what a pull is, and that the socket is the same one for
every plug. It must never wait for the kernel on the loop's thread.
"""

from __future__ import annotations

import asyncio
import socket

from station.bench.bench import hold
from station.bench.chip import Chip
from station.bench.port import PortEvents
from station.bench.programmer import BootFirmware, ProgrammerKind
from station.bench.table_port import TablePort
from station.bench.usb.usb_port import UsbPort
from station.bench.usb.vhci import VhciSocket, attach, await_tty


class AttachedPort(TablePort):
    """A programmer whose tty is the kernel's."""

    def __init__(
        self,
        place: VhciSocket,
        chip: Chip,
        exchange: Chip | None,
        *,
        boot_firmware: BootFirmware,
        kind: ProgrammerKind,
        pace: float,
        seed: int,
    ) -> None:
        self._place = place
        self._stream: socket.socket | None = None
        super().__init__(
            chip, exchange, boot_firmware=boot_firmware, kind=kind, pace=pace, seed=seed, open_port=self._open
        )

    @property
    def plugged(self) -> bool:
        """Whether the programmer is plugged in."""
        return self._stream is not None

    async def plug(self) -> None:
        """Plug the programmer in; ValueError when it is in, OSError when the kernel does not take it."""
        if self._stream is not None:
            raise ValueError("it is plugged in already")
        self._stream = await asyncio.to_thread(attach, self._place)
        self.programmer.plug()
        if self.programmer.chip is not None and self.programmer.chip.fault("port_busy") is not None:
            tty = await asyncio.to_thread(await_tty, self._place)
            self._holder = await asyncio.to_thread(hold, tty)

    def unplug(self) -> None:
        """Pull the programmer out; harmless when it is out."""
        self._stream = None
        self.programmer.unplug()
        self._let_go()

    def _open(self, loop: asyncio.AbstractEventLoop, events: PortEvents) -> UsbPort:
        if self._stream is None:
            raise RuntimeError("the programmer is attached before it is plugged in")
        has_fault = self.programmer.adapter_has
        return UsbPort(loop, events, stream=self._stream, path=self._place.id_path, has_fault=has_fault)


class TowerLight:
    """A CH340 that is no programmer but a light: it takes whatever it is sent and counts it, and never says a thing."""

    def __init__(self, place: VhciSocket) -> None:
        self._place = place
        self._port: UsbPort | None = None
        self._bytes_from_host = self._line_moves = 0

    @property
    def stats(self) -> dict[str, int]:
        """How many bytes it was sent, how often it was opened and how often a modem line moved."""
        opens = self._port.opens if self._port is not None else 0
        return {"bytes_from_host": self._bytes_from_host, "opens": opens, "line_moves": self._line_moves}

    async def plug(self) -> None:
        """Plug it in; OSError when the kernel does not take it."""
        stream = await asyncio.to_thread(attach, self._place)
        events = PortEvents(take=self._take, closed=lambda: None, lines=self._move)
        self._port = UsbPort(asyncio.get_running_loop(), events, stream=stream, path=self._place.id_path)

    def unplug(self) -> None:
        """Pull it out."""
        if self._port is not None:
            self._port.close()

    def _take(self, data: bytes) -> bool:
        self._bytes_from_host += len(data)
        return True

    def _move(self, dtr: bool, rts: bool) -> None:  # noqa: FBT001 - a callback's two levels
        del dtr, rts
        self._line_moves += 1
