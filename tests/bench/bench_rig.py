"""What the tests of the virtual silicon share: a small image that boots, requests, a fake firmware, a raw client."""

import struct
import time
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import xor

import serial

from station.bench.chip import Chip, make_chip
from station.bench.faults import parse_fault
from station.bench.loader import Command
from station.bench.programmer import ProgrammerKind, VirtualProgrammer
from station.bench.slip import Decoder, encode
from station.properties import Gpio0, Reset

MAC = bytes.fromhex("5ccf7fddc142")
SYNC_BODY = b"\x07\x07\x12\x20" + b"\x55" * 32
STUB_BYTES = {1: 8276, 2: 11456}


def bootable_image(*, flash_mode: int = 3, length: int = 3000) -> bytes:
    """An image with one segment that the ROM accepts."""
    segment = bytes(range(250)) * (length // 250)
    head = bytes((0xE9, 1, flash_mode, 0x20)) + struct.pack("<I", 0x40100004)
    image = head + struct.pack("<II", 0x40100000, len(segment)) + segment
    return image.ljust(len(image) | 15, b"\0") + bytes([reduce(xor, segment, 0xEF)])


def chip_with(*tokens: str, image: bytes = b"") -> Chip:
    """A board with these faults."""
    return make_chip(mac=MAC, faults=tuple(parse_fault(token) for token in tokens), image=image)


def request(op: int, body: bytes = b"", checksum: int = 0) -> bytes:
    """The payload of one request frame."""
    return struct.pack("<BBHI", 0, op, len(body), checksum) + body


def data_request(op: int, payload: bytes, seq: int = 0) -> bytes:
    """A MEM_DATA, FLASH_DATA or FLASH_DEFL_DATA request."""
    body = struct.pack("<IIII", len(payload), seq, 0, 0) + payload
    return request(op, body, reduce(xor, payload, 0xEF))


def stub_upload(version: int) -> list[bytes]:
    """The requests that upload and start something as long as that stub."""
    text = bytes(STUB_BYTES[version])
    begin = request(Command.MEM_BEGIN, struct.pack("<IIII", len(text), 2, 0x1800, 0x4010C500))
    blocks = [data_request(Command.MEM_DATA, text[at : at + 0x1800]) for at in range(0, len(text), 0x1800)]
    return [begin, *blocks, request(Command.MEM_END, struct.pack("<II", 0, 0x4010C504))]


def write_begin(total: int, offset: int, *, block: int = 0x4000) -> bytes:
    """A FLASH_BEGIN request."""
    return request(Command.FLASH_BEGIN, struct.pack("<IIII", total, -(-total // block), block, offset))


class FakeFirmware:
    """Says hello, answers every byte with its capital, and asks for a reset on `!`."""

    baud = 115200
    started = 0

    def __init__(self, chip: Chip, emit: Callable[[bytes], None], on_reset: Callable[[str], None]) -> None:
        self.chip = chip
        self.emit = emit
        self.on_reset = on_reset
        self.powered = True
        type(self).started += 1
        emit(b"hello\r\n")

    def receive(self, data: bytes) -> None:
        """Answer."""
        if b"!" in data:
            self.on_reset("software")
        else:
            self.emit(data.upper())

    def power_off(self) -> None:
        """End."""
        self.powered = False
        self.emit(b"words after death")


STICK = ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.HAND, close_cuts_power=True)
"""No lines and a jumper at GND, as `station bench` has it: closing the port is the power cycle."""
RUNNING = replace(STICK, jumper_low=False)
"""The same without the jumper."""
LINES = ProgrammerKind()
"""Both lines, as `station demo` has it."""


def programmer_with(chip: Chip | None, kind: ProgrammerKind = STICK, *, pace: float = 0.0) -> VirtualProgrammer:
    """A programmer with this board and the fake firmware."""
    return VirtualProgrammer(chip=chip, boot_firmware=FakeFirmware, kind=kind, pace=pace, seed=7)


class RawClient:
    """A client that speaks frames over a tty; every wait has an end."""

    def __init__(self, path: str, baud: int = 115200) -> None:
        self.tty = serial.Serial(path, baud, timeout=0.01)
        self._decoder = Decoder()
        self._found: list[bytes] = []

    def send(self, payload: bytes) -> None:
        """One frame."""
        self.tty.write(encode(payload))

    def frames(self, count: int, timeout_s: float = 2.0) -> list[bytes]:
        """The next frames, fewer when they do not come in time."""
        deadline = time.monotonic() + timeout_s
        while len(self._found) < count and time.monotonic() < deadline:
            heard = self._decoder.feed(self.tty.read(4096))
            self._found += [frame.payload for frame in heard if frame.payload is not None]
        frames, self._found = self._found[:count], self._found[count:]
        return frames

    def ask(self, payload: bytes, timeout_s: float = 2.0) -> bytes | None:
        """One request and its reply; None when there is none in time."""
        self.send(payload)
        replies = self.frames(1, timeout_s)
        return replies[0] if replies else None

    def sync(self, timeout_s: float = 2.0) -> bool:
        """Whether a loader answers."""
        self.send(request(Command.SYNC, SYNC_BODY))
        return len(self.frames(8, timeout_s)) == 8

    def start_stub(self, version: int = 2) -> None:
        """Sync, upload, start."""
        assert self.sync()
        for payload in stub_upload(version):
            assert self.ask(payload) is not None
        assert self.frames(1) == [b"OHAI"]

    def text(self, wanted: bytes, timeout_s: float = 2.0) -> bytes:
        """What comes until `wanted` is in it, or the time is up."""
        heard = b""
        deadline = time.monotonic() + timeout_s
        while wanted not in heard and time.monotonic() < deadline:
            heard += self.tty.read(4096)
        return heard

    def close(self) -> None:
        """Close the tty."""
        self.tty.close()
