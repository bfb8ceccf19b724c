"""The flasher stub, sans-IO: the program esptool uploads to RAM, in both versions it ships.

Promises what a client can tell: a block is acknowledged before it is worked on, two buffers receive, a third frame that
begins too early is lost, and an error of the work surfaces on the next command. The two versions differ where the real
ones do: baud change, blank sectors, reboot, running the firmware, error codes.
"""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from station.bench.chip import Chip, ResetCause
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
    StubVersion,
    parse,
    response,
)
from station.bench.registers import UART_CLKDIV, Registers
from station.bench.rom import REG_WRITE, SYNC_BODY, SYNC_REPLIES
from station.bench.stub_write import MAX_BLOCK_BYTES, StubWrite

BAD_DATA_LENGTH = 0xC000
BAD_CHECKSUM = 0xC100
BAD_BLOCK_SIZE = 0xC200
INVALID_COMMAND = 0xC300
NOT_IN_FLASH_MODE = 0xC600
TOO_MUCH_DATA = 0xC900
NOT_IMPLEMENTED = 0xFF00

RECEIVE_BUFFERS = 2
START_S = 0.001
READ_S_PER_BYTE = 0.7e-3 / 1024
MD5_S_PER_BYTE = 0.5e-3 / 1024
BAUD_CHANGE_S = 0.011
V2_ASSUMED_BAUD = 115200
"""Stub "2" takes it for granted that the link was synced at this."""
MAX_READ_PACKET_BYTES = 4096
ACK_BYTES = 4


@dataclass(slots=True, kw_only=True)
class _Reading:
    """A READ_FLASH under way: one packet is out, its acknowledgement is awaited."""

    address: int
    end: int
    packet_bytes: int
    digest: "hashlib._Hash"
    awaited: int = 0


class FlasherStub:
    """A stub from its start on. `frames_lost` counts what came too early for its buffers."""

    def __init__(self, chip: Chip, registers: Registers, programming: Programming, version: StubVersion) -> None:
        self._chip = chip
        self._registers = registers
        self._programming = programming
        self._version = version
        self._write: StubWrite | None = None
        self._reading: _Reading | None = None
        self._trouble: int = 0
        self._busy_until_s = 0.0
        self._finishes_s: list[float] = []
        self._md5_count = itertools.count(1)
        self.frames_lost = 0
        registers.flash_attached = True
        self._commands: dict[int, Callable[[Packet, float], list[Effect]]] = {
            Command.SYNC: self._sync,
            Command.READ_REG: self._read_reg,
            Command.WRITE_REG: self._write_reg,
            Command.SPI_ATTACH: self._accept,
            Command.SPI_SET_PARAMS: self._accept,
            Command.CHANGE_BAUDRATE: self._change_baudrate,
            Command.FLASH_BEGIN: self._flash_begin,
            Command.FLASH_DATA: self._flash_data,
            Command.FLASH_END: self._flash_end,
            Command.FLASH_DEFL_BEGIN: self._flash_begin,
            Command.FLASH_DEFL_DATA: self._flash_data,
            Command.FLASH_DEFL_END: self._flash_end,
            Command.SPI_FLASH_MD5: self._md5,
            Command.ERASE_FLASH: self._erase_flash,
            Command.ERASE_REGION: self._erase_region,
            Command.READ_FLASH: self._read_flash,
            Command.RUN_USER_CODE: self._run_user_code,
        }

    def greet(self, at_s: float) -> list[Effect]:
        """The stub's first word."""
        return [self._send(b"OHAI", at_s + START_S)]

    def receive(self, frame: bytes, begun_s: float, at_s: float) -> list[Effect]:
        """What the frame that came in from `begun_s` to `at_s` brings about."""
        self._finishes_s = [finish_s for finish_s in self._finishes_s if finish_s > begun_s]
        if len(self._finishes_s) >= RECEIVE_BUFFERS:
            self.frames_lost += 1
            return []
        start_s = max(at_s, self._busy_until_s)
        self._busy_until_s = start_s
        effects = self._acknowledged(frame, start_s) if self._reading else self._command(frame, start_s)
        self._finishes_s.append(self._busy_until_s)
        return effects

    def _command(self, frame: bytes, at_s: float) -> list[Effect]:
        packet = parse(frame)
        if packet is None:
            return []
        if not packet.well_formed:
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        if self._version is StubVersion.V2 and self._trouble:
            # The error of the last block's work takes the place of whatever is asked next.
            status, self._trouble = self._trouble, 0
            return self._answer(packet, at_s, status)
        carry_out = self._commands.get(packet.op)
        if carry_out is None:
            known = self._version is StubVersion.LEGACY or packet.op == Command.GET_SECURITY_INFO
            return self._answer(packet, at_s, NOT_IMPLEMENTED if known else INVALID_COMMAND)
        return carry_out(packet, at_s)

    def _send(self, payload: bytes, at_s: float) -> Send:
        return Send(at_s=at_s, payload=payload, divider=self._registers.uart_divider)

    def _answer(self, packet: Packet, at_s: float, status: int = 0) -> list[Effect]:
        return [self._send(response(packet.op, status=status), at_s)]

    def _works(self, duration_s: float) -> float:
        """The stub is busy this much longer; returns when it is done."""
        self._busy_until_s += duration_s
        return self._busy_until_s

    def _accept(self, packet: Packet, at_s: float) -> list[Effect]:
        return self._answer(packet, at_s)

    def _sync(self, packet: Packet, at_s: float) -> list[Effect]:
        """Eight replies of value 0, by which esptool knows that a stub is still there."""
        if len(packet.body) != len(SYNC_BODY):
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        return self._answer(packet, at_s) * SYNC_REPLIES

    def _read_reg(self, packet: Packet, at_s: float) -> list[Effect]:
        if len(packet.body) != 4:  # noqa: PLR2004 - one word
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        return [self._send(response(packet.op, value=self._registers.read(packet.words(1)[0])), at_s)]

    def _write_reg(self, packet: Packet, at_s: float) -> list[Effect]:
        if not packet.body or len(packet.body) % REG_WRITE.size:
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        for address, value, mask, delay_us in REG_WRITE.iter_unpack(packet.body):
            self._works(delay_us / 1e6 + self._registers.write(address, value, mask))
        return self._answer(packet, self._busy_until_s)

    def _change_baudrate(self, packet: Packet, at_s: float) -> list[Effect]:
        """Answer at the old baud, then change the divider; both versions cut its fraction off."""
        words = packet.words(2)
        if len(words) != 2 or words[0] == 0:  # noqa: PLR2004 - new baud, old baud
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        answer = self._answer(packet, at_s)
        new, old = words
        from_baud = old if self._version is StubVersion.LEGACY else V2_ASSUMED_BAUD
        divider = self._registers.read(UART_CLKDIV)
        self._registers.uart_divider = divider * from_baud // new
        self._works(BAUD_CHANGE_S)
        return answer

    def _flash_begin(self, packet: Packet, at_s: float) -> list[Effect]:
        words = packet.words(4)
        if len(words) != 4:  # noqa: PLR2004 - bytes to write, blocks, block size, offset
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        total, _, block_bytes, offset = words
        if block_bytes > MAX_BLOCK_BYTES and self._version is StubVersion.LEGACY:
            return self._answer(packet, at_s, BAD_BLOCK_SIZE)
        self._trouble = 0
        self._chip.flash.write_status(0)  # both stubs unlock the flash here
        self._write = StubWrite(
            self._chip.flash,
            self._programming,
            offset=offset,
            total_bytes=total,
            deflated=packet.op == Command.FLASH_DEFL_BEGIN,
            skips_blank=self._version is StubVersion.V2,
        )
        return self._answer(packet, at_s)

    def _flash_data(self, packet: Packet, at_s: float) -> list[Effect]:
        """Acknowledge the block, then work on it."""
        status = self._block_status(packet)
        answer = self._answer(packet, at_s, status)
        if status or self._write is None:
            return answer
        result = self._write.take(packet.payload)
        self._works(result.duration_s)
        self._trouble = self._trouble or result.trouble
        if result.fault is not None:
            return [*answer, Mishap(at_s=self._busy_until_s, fault=result.fault)]
        return answer

    def _block_status(self, packet: Packet) -> int:
        """What is wrong with a block before it is taken; 0 when nothing is."""
        if self._write is None:
            return NOT_IN_FLASH_MODE
        if not packet.announces_its_length:
            return BAD_DATA_LENGTH if self._version is StubVersion.LEGACY else TOO_MUCH_DATA
        if not packet.sound:
            return BAD_CHECKSUM
        return self._trouble

    def _flash_end(self, packet: Packet, at_s: float) -> list[Effect]:
        """Answer when the last block is in flash; 0 asks for a reboot, which stub "2" does not do."""
        words = packet.words(1)
        if self._write is None:
            return self._answer(packet, at_s, NOT_IN_FLASH_MODE)
        if not words or (self._version is StubVersion.V2 and self._write.remaining_bytes):
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        status, self._trouble = self._trouble, 0
        self._write = None
        answer = self._answer(packet, at_s, status)
        if words[0] == 0 and not status and self._version is StubVersion.LEGACY:
            return [*answer, Restart(at_s=self._works(0.01), cause=ResetCause.SOFTWARE)]
        return answer

    def _md5(self, packet: Packet, at_s: float) -> list[Effect]:
        words = packet.words(2)
        if len(words) != 2:  # noqa: PLR2004 - address, length
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        address, length = words
        digest = hashlib.md5(self._chip.flash.read(address, length), usedforsecurity=False)
        if self._chip.fault("bad_md5") is not None:
            digest.update(b"a cell that never reads as written")
        if self._chip.fault("unstable_md5") is not None:
            digest.update(str(next(self._md5_count)).encode())
        done_s = self._works(length * MD5_S_PER_BYTE)
        return [self._send(response(packet.op, data=digest.digest()), max(at_s, done_s))]

    def _erase_flash(self, packet: Packet, at_s: float) -> list[Effect]:
        return self._answer(packet, max(at_s, self._works(self._chip.flash.erase_chip())))

    def _erase_region(self, packet: Packet, at_s: float) -> list[Effect]:
        words = packet.words(2)
        if len(words) != 2 or words[0] % SECTOR_BYTES or words[1] % SECTOR_BYTES:  # noqa: PLR2004 - address, length
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        self._chip.flash.write_status(0)
        address, end = words[0], words[0] + words[1]
        while address < end:
            if address % BLOCK_BYTES == 0 and end - address >= BLOCK_BYTES:
                self._works(self._chip.flash.erase_block(address))
                address += BLOCK_BYTES
            else:
                self._works(self._chip.flash.erase_sector(address))
                address += SECTOR_BYTES
        return self._answer(packet, self._busy_until_s)

    def _read_flash(self, packet: Packet, at_s: float) -> list[Effect]:
        """Answer, then send packet by packet, one at a time whatever the host allows (both versions)."""
        words = packet.words(4)
        if len(words) != 4 or not 0 < words[2] <= MAX_READ_PACKET_BYTES:  # noqa: PLR2004
            return self._answer(packet, at_s, BAD_DATA_LENGTH)
        address, length, packet_bytes, _ = words
        digest = hashlib.md5(usedforsecurity=False)
        self._reading = _Reading(address=address, end=address + length, packet_bytes=packet_bytes, digest=digest)
        return [*self._answer(packet, at_s), *self._next_packet(self._reading)]

    def _acknowledged(self, frame: bytes, at_s: float) -> list[Effect]:
        """The host has a packet; anything but a count ends the reading with the digest of what was sent."""
        reading = self._reading
        if reading is None:
            return []
        if len(frame) != ACK_BYTES:
            return self._end_reading(reading, at_s)
        return self._next_packet(reading)

    def _next_packet(self, reading: _Reading) -> list[Effect]:
        data = self._chip.flash.read(reading.address, min(reading.packet_bytes, reading.end - reading.address))
        if not data:
            return self._end_reading(reading, self._busy_until_s)
        reading.address += len(data)
        reading.digest.update(data)
        return [self._send(data, self._works(len(data) * READ_S_PER_BYTE))]

    def _end_reading(self, reading: _Reading, at_s: float) -> list[Effect]:
        self._reading = None
        return [self._send(reading.digest.digest(), at_s)]

    def _run_user_code(self, packet: Packet, at_s: float) -> list[Effect]:
        """No answer: the legacy stub returns into the ROM, which starts the firmware; stub "2" does nothing."""
        del packet
        return [RunFlash(at_s=at_s)] if self._version is StubVersion.LEGACY else []
