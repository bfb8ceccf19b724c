"""One write of the flasher stub: inflate, erase as it goes, program.

Promises the order of the real stubs: output gathers in 32 KB, sectors are erased just ahead of what is programmed, by
64 KB where aligned, and stub "2" skips sectors while they are blank until the first one that is not.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum

from station.bench.faults import Fault
from station.bench.flash import BLOCK_BYTES, SECTOR_BYTES, NorFlash
from station.bench.loader import Programming

MAX_BLOCK_BYTES = 0x4000
OUTPUT_BYTES = 32768
INFLATE_S_PER_BYTE = 1.6e-3 / 1024
BLANK_CHECK_S = 0.7e-3 * SECTOR_BYTES / 1024


class Trouble(IntEnum):
    """What can go wrong in the work on a block, as the stubs number it."""

    NONE = 0
    INFLATE = 0xC700


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockResult:
    """What became of one block: the seconds it took, what went wrong, and the fault that struck meanwhile."""

    duration_s: float
    trouble: Trouble = Trouble.NONE
    fault: Fault | None = None


class StubWrite:
    """From a BEGIN to its END. `remaining_bytes` is what is still to be programmed."""

    def __init__(
        self,
        flash: NorFlash,
        programming: Programming,
        *,
        offset: int,
        total_bytes: int,
        deflated: bool,
        skips_blank: bool,
    ) -> None:
        self._flash = flash
        self._programming = programming
        self._address = offset
        self._next_erase = offset // SECTOR_BYTES * SECTOR_BYTES
        self._erase_end = -(-(offset + total_bytes) // SECTOR_BYTES) * SECTOR_BYTES
        self._inflater = zlib.decompressobj() if deflated else None
        self._output = bytearray()
        self._skips_blank = skips_blank
        self.remaining_bytes = total_bytes
        programming.begin(total_bytes)

    def take(self, block: bytes) -> BlockResult:
        """Work on one block."""
        if self._inflater is None:
            return self._put(block)
        try:
            inflated = self._inflater.decompress(block)
        except zlib.error:
            return BlockResult(duration_s=0.0, trouble=Trouble.INFLATE)
        self._output += inflated
        duration_s = len(inflated) * INFLATE_S_PER_BYTE
        while len(self._output) >= OUTPUT_BYTES or (self._inflater.eof and self._output):
            part = bytes(self._output[:OUTPUT_BYTES])
            del self._output[:OUTPUT_BYTES]
            result = self._put(part)
            duration_s += result.duration_s
            if result.fault is not None:
                return BlockResult(duration_s=duration_s, fault=result.fault)
        return BlockResult(duration_s=duration_s)

    def _put(self, data: bytes) -> BlockResult:
        """Erase as far as needed and program; what is beyond the announced end is padding and dropped."""
        data = data[: self.remaining_bytes]
        duration_s = self._erase_to(self._address + len(data))
        programmed_s, fault = self._programming.program(self._address, data)
        self._address += len(data)
        self.remaining_bytes -= len(data)
        return BlockResult(duration_s=duration_s + programmed_s, fault=fault)

    def _erase_to(self, address: int) -> float:
        """Make sure that everything below `address` is erased; returns seconds."""
        duration_s = 0.0
        while self._next_erase < address:
            if self._skips_blank:
                duration_s += BLANK_CHECK_S
                if self._flash.read(self._next_erase, SECTOR_BYTES) == b"\xff" * SECTOR_BYTES:
                    self._next_erase += SECTOR_BYTES
                    continue
                self._skips_blank = False
            if self._next_erase % BLOCK_BYTES == 0 and self._erase_end - self._next_erase >= BLOCK_BYTES:
                duration_s += self._flash.erase_block(self._next_erase)
                self._next_erase += BLOCK_BYTES
            else:
                duration_s += self._flash.erase_sector(self._next_erase)
                self._next_erase += SECTOR_BYTES
        return duration_s
