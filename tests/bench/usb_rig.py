"""A host controller in user space: it speaks USB/IP to a virtual programmer as the kernel does, one transfer at a time."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from station.bench.port import PortEvents
from station.bench.usb.usb_port import UsbPort

STALL, GONE = -32, -104
PATIENCE_S = 20.0
PROBE = ("c0 5f 0000 0000 02", "40 a1 0000 0000", "40 9a 1312 b282", "40 9a 2518 00c3", "40 a4 ffff 0000")
QUIRK = "c0 95 0005 0000 02"


class Host:
    """The kernel's end of the stream. Make it on the loop; `close` it."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.ended: dict[int, tuple[int, bytes]] = {}
        """seqnum -> status and data of every transfer that has ended."""
        self.sizes: dict[int, int] = {}
        self.unlinked: dict[int, int] = {}
        """seqnum of the unlink -> status."""
        self._news = asyncio.Condition()
        self._last = 0
        self._directions: dict[int, bool] = {}
        stream.setblocking(False)
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def close(self) -> None:
        """Let go of the device."""
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        self.stream.close()

    def submit(self, endpoint: int, *, is_in: bool, length: int = 0, setup: bytes = bytes(8), data: bytes = b"") -> int:
        """Submit a transfer; returns its seqnum."""
        self._last += 1
        self._directions[self._last] = is_in
        head = struct.pack(">IIIII", 1, self._last, 0x10001, is_in, endpoint)
        self.stream.sendall(head + struct.pack(">Iiiii", 0, len(data) or length, 0, 0, 0) + setup + data)
        return self._last

    def unlink(self, victim: int) -> int:
        """Want a transfer back; returns the seqnum of that."""
        self._last += 1
        self.stream.sendall(struct.pack(">6I", 2, self._last, 0x10001, 0, 0, victim) + bytes(24))
        return self._last

    def read(self) -> int:
        """Submit a bulk IN."""
        return self.submit(2, is_in=True, length=32)

    def write(self, data: bytes) -> int:
        """Submit a bulk OUT."""
        return self.submit(2, is_in=False, data=data)

    def ask(self, words: str) -> int:
        """Submit a control transfer as a usbmon trace writes it."""
        kind, request, value, index, *length = (int(word, 16) for word in words.split())
        size = length[0] if length else 0
        setup = struct.pack("<BBHHH", kind, request, value, index, size)
        return self.submit(0, is_in=bool(kind & 0x80), length=size, setup=setup)

    async def answer(self, seqnum: int) -> tuple[int, bytes]:
        """Wait for the end of a transfer: its status and data."""
        await self.until(lambda: seqnum in self.ended)
        return self.ended[seqnum]

    async def control(self, words: str) -> tuple[int, bytes]:
        """A control transfer and its end."""
        return await self.answer(self.ask(words))

    async def probe(self) -> None:
        """What the driver does when the device is plugged in."""
        for words in (*PROBE, QUIRK):
            await self.control(words)

    async def open(self, index: str = "cc83") -> int:
        """What the driver does when the port is opened at that baud; returns the interrupt transfer's seqnum."""
        for words in (f"40 9a 1312 {index}", "40 9a 2518 00c3", "40 a4 ffff 0000"):
            await self.control(words)
        interrupt = self.submit(1, is_in=True, length=8)
        await self.control("c0 95 0706 0000 02")
        await self.control("40 a4 ff9f 0000")
        return interrupt

    async def send(self, data: bytes) -> None:
        """Write as the driver does: 32 bytes in a transfer, two at a time."""
        under_way: list[int] = []
        for at in range(0, len(data), 32):
            under_way.append(self.write(data[at : at + 32]))
            if len(under_way) == 2:
                await self.answer(under_way.pop(0))
        for seqnum in under_way:
            await self.answer(seqnum)

    async def hear(self, wanted: Callable[[bytes], bool]) -> bytes:
        """Read as the driver does, two transfers at a time, until the bytes satisfy `wanted`."""
        heard, under_way = b"", [self.read(), self.read()]
        while not wanted(heard):
            status, data = await self.answer(under_way.pop(0))
            assert status == 0
            assert 1 <= len(data) <= 32
            heard += data
            under_way.append(self.read())
        for seqnum in under_way:
            await self.until_unlinked(self.unlink(seqnum))
        return heard

    async def until_unlinked(self, seqnum: int) -> int:
        """Wait for the answer to an unlink; returns its status."""
        await self.until(lambda: seqnum in self.unlinked)
        return self.unlinked[seqnum]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is so."""
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(condition), PATIENCE_S)

    async def at_end(self) -> None:
        """Wait until the device has gone."""
        await asyncio.wait_for(asyncio.shield(self._reader), PATIENCE_S)

    async def _piece(self) -> bytes:
        """What comes next; empty when the device has gone, or was pulled with requests unread."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.stream, 4096)
        except ConnectionResetError:
            return b""

    async def _read(self) -> None:
        rest = b""
        while piece := await self._piece():
            rest += piece
            while len(rest) >= 48:
                kind, seqnum, _, _, _, status, actual = struct.unpack_from(">IIIIIii", rest)
                if kind == 4:
                    self.unlinked[seqnum] = status
                    rest = rest[48:]
                else:
                    assert kind == 3
                    data_bytes = actual if self._directions[seqnum] else 0
                    if len(rest) < 48 + data_bytes:
                        break
                    assert seqnum not in self.ended
                    self.sizes[seqnum] = actual
                    self.ended[seqnum] = status, rest[48 : 48 + data_bytes]
                    rest = rest[48 + data_bytes :]
            async with self._news:
                self._news.notify_all()


class Board:
    """What is behind a port: remembers what it was told, and is as busy as it is said to be."""

    def __init__(self) -> None:
        self.busy = False
        self.heard: list[bytes] = []
        self.lines: list[tuple[bool, bool]] = []

    @property
    def events(self) -> PortEvents:
        """The port's events, to be remembered."""
        return PortEvents(take=self._take, closed=lambda: None, lines=lambda dtr, rts: self.lines.append((dtr, rts)))

    def _take(self, data: bytes) -> bool:
        self.heard.append(data)
        return not self.busy


def connected(board: Board, *faults: str) -> tuple[Host, UsbPort]:
    """A host and a port with these faults, connected; call it on the loop."""
    ours, theirs = socket.socketpair()
    port = UsbPort(
        asyncio.get_running_loop(), board.events, stream=ours, path="here", has_fault=lambda token: token in faults
    )
    return Host(theirs), port
