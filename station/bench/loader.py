"""What the two loaders of the chip, ROM and stub, have in common: packets, effects, and a write that can go wrong.

Sans-IO: a loader takes a frame and the time it arrived and returns effects, each with the time it happens; it never
waits and never touches a line. Times are seconds of the board's own virtual clock.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from operator import xor

from station.bench.chip import CHECKSUM_SEED, Chip, ResetCause
from station.bench.faults import Fault

REQUEST = 0
RESPONSE = 1
HEADER = struct.Struct("<BBHI")
WRITE_FAULTS = ("drop", "hang", "unplug", "removed", "reset")
"""What can strike in the middle of a write, at a percentage of it."""
ONCE_FAULTS = ("unplug", "removed")
"""Of those, the deeds of a hand: they happen once, or the operator could never bring a board through."""


class Command(IntEnum):
    """The opcodes of esptool's protocol that an ESP8266 loader may be asked for."""

    FLASH_BEGIN = 0x02
    FLASH_DATA = 0x03
    FLASH_END = 0x04
    MEM_BEGIN = 0x05
    MEM_END = 0x06
    MEM_DATA = 0x07
    SYNC = 0x08
    WRITE_REG = 0x09
    READ_REG = 0x0A
    SPI_SET_PARAMS = 0x0B
    SPI_ATTACH = 0x0D
    CHANGE_BAUDRATE = 0x0F
    FLASH_DEFL_BEGIN = 0x10
    FLASH_DEFL_DATA = 0x11
    FLASH_DEFL_END = 0x12
    SPI_FLASH_MD5 = 0x13
    GET_SECURITY_INFO = 0x14
    ERASE_FLASH = 0xD0
    ERASE_REGION = 0xD1
    READ_FLASH = 0xD2
    RUN_USER_CODE = 0xD3


class StubVersion(IntEnum):
    """The two flasher stubs that esptool ships: the legacy one, and esp-flasher-stub."""

    LEGACY = 1
    V2 = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A frame goes out at `at_s`, at the baud that the UART's `divider` gives."""

    at_s: float
    payload: bytes
    divider: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartStub:
    """The program uploaded to RAM starts, and it is a flasher stub."""

    at_s: float
    version: StubVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUnknown:
    """The program uploaded to RAM starts, and nobody knows what it does: silence until the next reset."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlash:
    """The loader is left and what is in flash is started, without a reset."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The chip resets itself."""

    at_s: float
    cause: ResetCause


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """A fault strikes."""

    at_s: float
    fault: Fault


Effect = Send | StartStub | StartUnknown | RunFlash | Restart | Mishap


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One request: opcode, checksum field, body, and whether the length in its header was right."""

    op: int
    checksum: int
    body: bytes
    well_formed: bool

    def words(self, count: int) -> tuple[int, ...]:
        """The first `count` 32-bit words of the body; fewer when it is shorter."""
        count = min(count, len(self.body) // 4)
        return struct.unpack_from(f"<{count}I", self.body)

    @property
    def payload(self) -> bytes:
        """The data of a DATA command, after its four words."""
        return self.body[16:]

    @property
    def sound(self) -> bool:
        """Whether the checksum field is that of the payload."""
        return reduce(xor, self.payload, CHECKSUM_SEED) == self.checksum

    @property
    def announces_its_length(self) -> bool:
        """Whether the first word of a DATA command is the length of its payload."""
        return self.words(1) == (len(self.payload),)


def parse(frame: bytes) -> Packet | None:
    """Read a request; None when it is too short or no request at all."""
    if len(frame) < HEADER.size:
        return None
    direction, op, length, checksum = HEADER.unpack_from(frame)
    if direction != REQUEST:
        return None
    body = frame[HEADER.size :]
    return Packet(op=op, checksum=checksum, body=body, well_formed=length == len(body))


def response(op: int, *, value: int = 0, data: bytes = b"", status: int = 0) -> bytes:
    """A reply: `status` is the two bytes after the data, 0 when all is well."""
    body = data + status.to_bytes(2, "big")
    return HEADER.pack(RESPONSE, op, len(body), value) + body


class Programming:
    """Programs the flash for a loader and knows where in the announced write a fault strikes.

    Progress is the bytes programmed since `begin`, relative to the size announced there.
    """

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._announced = 0
        self._done = 0
        self._struck: set[str] = set()

    def begin(self, announced_bytes: int) -> None:
        """A write of this many bytes is announced; 0 announces none."""
        self._announced = announced_bytes
        self._done = 0
        self._struck.clear()

    def program(self, address: int, data: bytes) -> tuple[float, Fault | None]:
        """Program `data` as far as the next fault lets it. Returns the seconds it took and the fault that struck."""
        strike = self._next_strike()
        if strike is None or self._done + len(data) < strike[0]:
            self._done += len(data)
            return self._chip.flash.program(address, data), None
        at, fault = strike
        part = data[: max(0, at - self._done)]
        self._done += len(part)
        self._struck.add(fault.token)
        if fault.token in ONCE_FAULTS:
            self._chip.spend(fault.token)
        return self._chip.flash.program(address, part), fault

    def _next_strike(self) -> tuple[int, Fault] | None:
        """The first fault of this write that has not struck yet, and the byte it waits for."""
        if self._announced == 0:
            return None
        waiting = [
            (round(self._announced * fault.number / 100), fault)
            for fault in self._chip.faults
            if fault.token in WRITE_FAULTS and fault.token not in self._struck and not self._chip.spent(fault.token)
        ]
        return min(waiting, key=lambda strike: strike[0]) if waiting else None
