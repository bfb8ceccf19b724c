"""The ESP8266's ROM loader, sans-IO: what answers when GPIO0 was low at reset.

Promises the ROM's own protocol, its errors and its oddities: it measures the host's baud from the first SYNC, it knows
no MD5, its erase takes more than it is asked for, and a command it does not know is answered with the opcode of the
last one it knew. Uploading a program to RAM and starting it leaves the ROM; which stub it was is told by its size.
"""

import struct
from collections.abc import Callable

from station.bench.chip import UART_CLOCK_HZ, Chip, ResetCause
from station.bench.flash import BLOCK_BYTES, SECTOR_BYTES
from station.bench.loader import (
    Command,
    Effect,
    Mishap,
    Packet,
    Programming,
    Restart,
    RunFlash,
    Send,
    StartStub,
    StartUnknown,
    StubVersion,
    parse,
    response,
)
from station.bench.registers import UART_CLKDIV, Registers

INVALID_MESSAGE = 0x0105
FAILED_TO_ACT = 0x0106
BAD_CHECKSUM = 0x0107

SYNC_BODY = b"\x07\x07\x12\x20" + b"\x55" * 32
SYNC_REPLIES = 8
SYNC_VALUE = 0x20120707
"""Any value but 0, which is a stub's."""
LEGACY_STUB_MAX_BYTES = 10_000
"""The text of the legacy stub is 8276 bytes, that of stub "2" 11456 (both in esptool 5.6)."""
STUB_ENTRY_OFFSET = 4
"""Both stubs begin with one literal word; the code starts after it."""
SECTORS_PER_BLOCK = BLOCK_BYTES // SECTOR_BYTES
REG_WRITE = struct.Struct("<IIII")
"""Address, value, mask, delay in microseconds."""


class RomLoader:
    """The loader from a reset on. `autobaud` is true until it has measured the host's baud."""

    def __init__(self, chip: Chip, registers: Registers, programming: Programming) -> None:
        self._chip = chip
        self._registers = registers
        self._programming = programming
        self._last_known = Command.SYNC
        self._ram: list[tuple[int, bytearray]] = []
        self._ram_left = 0
        self._write_address: int | None = None
        self.autobaud = True
        self._commands: dict[int, Callable[[Packet, float], list[Effect]]] = {
            Command.SYNC: self._sync,
            Command.READ_REG: self._read_reg,
            Command.WRITE_REG: self._write_reg,
            Command.MEM_BEGIN: self._mem_begin,
            Command.MEM_DATA: self._mem_data,
            Command.MEM_END: self._mem_end,
            Command.FLASH_BEGIN: self._flash_begin,
            Command.FLASH_DATA: self._flash_data,
            Command.FLASH_END: self._flash_end,
        }

    def receive(self, frame: bytes, at_s: float, host_baud: float) -> list[Effect]:
        """What the frame that was complete at `at_s`, sent at `host_baud`, brings about."""
        packet = parse(frame)
        if packet is None:
            return []
        if self.autobaud:
            if packet.op != Command.SYNC or packet.body != SYNC_BODY:
                return []
            self._registers.uart_divider = round(UART_CLOCK_HZ / host_baud)
            self.autobaud = False
        carry_out = self._commands.get(packet.op)
        if carry_out is None:
            return self._refuse(at_s)
        self._last_known = Command(packet.op)
        if not packet.well_formed:
            return self._answer(packet, at_s, INVALID_MESSAGE)
        return carry_out(packet, at_s)

    def _sync(self, packet: Packet, at_s: float) -> list[Effect]:
        return [self._send(response(packet.op, value=SYNC_VALUE), at_s)] * SYNC_REPLIES

    def _send(self, payload: bytes, at_s: float) -> Send:
        return Send(at_s=at_s, payload=payload, divider=self._registers.uart_divider)

    def _answer(self, packet: Packet, at_s: float, status: int = 0) -> list[Effect]:
        return [self._send(response(packet.op, status=status), at_s)]

    def _refuse(self, at_s: float) -> list[Effect]:
        """The ROM answers what it does not know as if it were the last thing it knew: eight times if that was SYNC."""
        refusal = self._send(response(self._last_known, status=INVALID_MESSAGE), at_s)
        return [refusal] * (SYNC_REPLIES if self._last_known is Command.SYNC else 1)

    def _read_reg(self, packet: Packet, at_s: float) -> list[Effect]:
        if len(packet.body) != 4:  # noqa: PLR2004 - one word
            return self._answer(packet, at_s, FAILED_TO_ACT)
        value = self._registers.read(packet.words(1)[0])
        return [self._send(response(packet.op, value=value), at_s)]

    def _write_reg(self, packet: Packet, at_s: float) -> list[Effect]:
        """Any number of (address, value, mask, delay) entries; the reply goes out at the divider they leave behind."""
        if not packet.body or len(packet.body) % REG_WRITE.size:
            return self._answer(packet, at_s, FAILED_TO_ACT)
        for address, value, mask, delay_us in REG_WRITE.iter_unpack(packet.body):
            at_s += delay_us / 1e6 + self._registers.write(address, value, mask)
            if address == UART_CLKDIV:
                self._registers.uart_divider = self._registers.read(UART_CLKDIV)
        return self._answer(packet, at_s)

    def _mem_begin(self, packet: Packet, at_s: float) -> list[Effect]:
        words = packet.words(4)
        if len(words) != 4:  # noqa: PLR2004 - size, blocks, block size, offset
            return self._answer(packet, at_s, FAILED_TO_ACT)
        size, _, _, offset = words
        self._ram.append((offset, bytearray()))
        self._ram_left = size
        return self._answer(packet, at_s)

    def _mem_data(self, packet: Packet, at_s: float) -> list[Effect]:
        if not self._ram or not packet.announces_its_length or len(packet.payload) > self._ram_left:
            return self._answer(packet, at_s, FAILED_TO_ACT)
        if not packet.sound:
            return self._answer(packet, at_s, BAD_CHECKSUM)
        self._ram[-1][1].extend(packet.payload)
        self._ram_left -= len(packet.payload)
        return self._answer(packet, at_s)

    def _mem_end(self, packet: Packet, at_s: float) -> list[Effect]:
        words = packet.words(2)
        if len(words) != 2 or self._ram_left:  # noqa: PLR2004 - stay flag, entry
            return self._answer(packet, at_s, FAILED_TO_ACT)
        stay, entry = words
        if stay:
            return self._answer(packet, at_s)
        version = self._uploaded_stub(entry)
        start: Effect = StartUnknown(at_s=at_s) if version is None else StartStub(at_s=at_s, version=version)
        return [*self._answer(packet, at_s), start]

    def _uploaded_stub(self, entry: int) -> StubVersion | None:
        """Which stub starts at `entry`; None when what was uploaded is none."""
        for offset, text in reversed(self._ram):
            if entry == offset + STUB_ENTRY_OFFSET and text:
                return StubVersion.LEGACY if len(text) < LEGACY_STUB_MAX_BYTES else StubVersion.V2
        return None

    def _flash_begin(self, packet: Packet, at_s: float) -> list[Effect]:
        """Attach the flash, erase what is asked for and more, and expect blocks."""
        words = packet.words(4)
        if len(words) != 4:  # noqa: PLR2004 - erase size, blocks, block size, offset
            return self._answer(packet, at_s, FAILED_TO_ACT)
        erase_bytes, blocks, block_bytes, offset = words
        self._registers.flash_attached = True
        self._write_address = offset
        self._programming.begin(blocks * block_bytes)
        return self._answer(packet, at_s + self._erase(offset, erase_bytes))

    def _erase(self, offset: int, erase_bytes: int) -> float:
        """Erase as the ROM does: the sectors up to the first block boundary are not counted, so as many more go too.

        esptool's `ESP8266ROM.get_erase_size()` is the way around it. Returns seconds.
        """
        first = offset // SECTOR_BYTES
        wanted = -(-erase_bytes // SECTOR_BYTES)
        last = first + wanted + min(SECTORS_PER_BLOCK - first % SECTORS_PER_BLOCK, wanted)
        duration_s = 0.0
        sector = first
        while sector < last:
            if sector % SECTORS_PER_BLOCK == 0 and last - sector >= SECTORS_PER_BLOCK:
                duration_s += self._chip.flash.erase_block(sector * SECTOR_BYTES)
                sector += SECTORS_PER_BLOCK
            else:
                duration_s += self._chip.flash.erase_sector(sector * SECTOR_BYTES)
                sector += 1
        return duration_s

    def _flash_data(self, packet: Packet, at_s: float) -> list[Effect]:
        """Program one block and only then answer: the ROM has one buffer."""
        if self._write_address is None or not packet.announces_its_length:
            return self._answer(packet, at_s, FAILED_TO_ACT)
        if not packet.sound:
            return self._answer(packet, at_s, BAD_CHECKSUM)
        duration_s, fault = self._programming.program(self._write_address, packet.payload)
        self._write_address += len(packet.payload)
        if fault is not None:
            return [Mishap(at_s=at_s + duration_s, fault=fault)]
        return self._answer(packet, at_s + duration_s)

    def _flash_end(self, packet: Packet, at_s: float) -> list[Effect]:
        """Leave the loader: 0 resets the chip, anything else starts what is in flash."""
        words = packet.words(1)
        if not words or self._write_address is None:
            return self._answer(packet, at_s, FAILED_TO_ACT)
        leave: Effect = RunFlash(at_s=at_s) if words[0] else Restart(at_s=at_s, cause=ResetCause.SOFTWARE)
        return [*self._answer(packet, at_s), leave]
