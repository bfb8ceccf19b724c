"""The SPI NOR flash of a virtual board: its cells, its status register and how long its operations take.

Promises the physics that flashing depends on: programming can only clear bits, erasing sets a whole sector to ones,
addresses wrap at the size that is really there, and protected, worn and dead parts do what such parts do. Every
operation returns the seconds it takes on the reference chip, so that the caller can model time; nothing here ever
waits, and nothing here knows of loaders or files.
"""

import random
from dataclasses import dataclass

SECTOR_BYTES = 4096
"""The smallest erase."""
BLOCK_BYTES = 65536
"""The large erase."""
PAGE_BYTES = 256
"""The most that one program operation takes."""

STATUS_WRITE_ENABLED = 0x02
STATUS_BLOCK_PROTECT = 0x1C
"""BP0 to BP2."""
STATUS_LOCKED = 0x80
"""SRP0: the status register itself is protected."""

DEAD_IDS = (0x000000, 0xFFFFFF)
"""What RDID gives when nothing drives the bus."""

WORN_BITS = 256
"""Stuck bits of a worn flash, all in its first quarter so that any firmware image meets some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashTiming:
    """How long each operation takes, in seconds; by default a typical W25Q80, the page fitted to field logs."""

    sector_erase_s: float = 0.045
    block_erase_s: float = 0.200
    chip_erase_s: float = 2.5
    page_program_s: float = 0.0009

    def scaled(self, factor: float) -> "FlashTiming":
        """The same part, `factor` times slower."""
        return FlashTiming(
            sector_erase_s=self.sector_erase_s * factor,
            block_erase_s=self.block_erase_s * factor,
            chip_erase_s=self.chip_erase_s * factor,
            page_program_s=self.page_program_s * factor,
        )


PUYA_TIMING = FlashTiming(sector_erase_s=0.008, block_erase_s=0.008, chip_erase_s=0.008)
"""A PUYA P25Q80 erases anything in about 8 ms."""


class NorFlash:
    """One flash chip.

    `size_bytes` is what it claims, `real_size_bytes` what it has (addresses wrap there), `jedec_id` esptool's
    `flash_id()` word with the vendor in the low byte (0x1440EF: Winbond, 1 MB). `data` are the raw cells, blank at
    first. `seed` places the stuck bits of a `worn` part.
    """

    def __init__(
        self,
        *,
        size_bytes: int,
        real_size_bytes: int | None = None,
        jedec_id: int,
        seed: int = 0,
        timing: FlashTiming | None = None,
        write_protected: bool = False,
        worn: bool = False,
        forgets_above_bytes: int | None = None,
    ) -> None:
        self.size_bytes = size_bytes
        self.real_size_bytes = size_bytes if real_size_bytes is None else real_size_bytes
        if self.real_size_bytes % BLOCK_BYTES:
            raise ValueError(f"a flash of {self.real_size_bytes} bytes is not a whole number of 64 KB blocks")
        self.jedec_id = jedec_id
        self.timing = FlashTiming() if timing is None else timing
        self.write_protected = write_protected
        self.forgets_above_bytes = forgets_above_bytes
        self.data = bytearray(b"\xff" * self.real_size_bytes)
        self.status = STATUS_BLOCK_PROTECT | STATUS_LOCKED if write_protected else 0
        self.erases = 0
        self.programs = 0
        self._remembered: bytes | None = None
        self._firmware_may_write_bytes: int | None = None
        self._stuck_low = self._wear(seed) if worn else {}
        self._apply_wear(0, self.real_size_bytes)

    @property
    def dead(self) -> bool:
        """Nothing drives the bus: every read gives the bits of the id, nothing is ever written."""
        return self.jedec_id in DEAD_IDS

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from `address`; both may run past the real size, where the addresses wrap."""
        if self.dead:
            return bytes([self.jedec_id & 0xFF]) * length
        parts = [bytes(self.data[start:stop]) for start, stop in self._spans(address, length)]
        return b"".join(parts)

    def program(self, address: int, data: bytes) -> float:
        """Clear the bits that are 0 in `data`, page by page; a bit that is 0 stays 0. Returns seconds."""
        pages = _pages(address, len(data))
        self.programs += pages
        self._notice_writing(len(data))
        if not (self.dead or self._protects(address, len(data))):
            taken = 0
            for start, stop in self._spans(address, len(data)):
                old = int.from_bytes(self.data[start:stop], "big")
                new = int.from_bytes(data[taken : taken + stop - start], "big")
                self.data[start:stop] = (old & new).to_bytes(stop - start, "big")
                taken += stop - start
        return pages * self.timing.page_program_s

    def erase_sector(self, address: int) -> float:
        """Set the 4 KB sector that holds `address` to ones. Returns seconds."""
        return self._erase(address // SECTOR_BYTES * SECTOR_BYTES, SECTOR_BYTES, self.timing.sector_erase_s)

    def erase_block(self, address: int) -> float:
        """Set the 64 KB block that holds `address` to ones. Returns seconds."""
        return self._erase(address // BLOCK_BYTES * BLOCK_BYTES, BLOCK_BYTES, self.timing.block_erase_s)

    def erase_chip(self) -> float:
        """Set everything to ones. Returns seconds."""
        return self._erase(0, self.real_size_bytes, self.timing.chip_erase_s)

    def write_status(self, value: int) -> None:
        """WRSR of the first status register: the protection bits stick unless the part is locked for good."""
        if not (self.write_protected or self.dead):
            self.status = value & (STATUS_BLOCK_PROTECT | STATUS_LOCKED)

    def sfdp(self, address: int, length: int) -> bytes:
        """`length` bytes of the serial flash discoverable parameters (JESD216) from `address`; ones past their end."""
        if self.dead:
            return bytes([self.jedec_id & 0xFF]) * length
        table = self._sfdp_table()
        return table[address : address + length].ljust(length, b"\xff")

    def firmware_starts(self) -> None:
        """The firmware runs from here on: of what it now writes, a forgetful part keeps no more than so much."""
        self._firmware_may_write_bytes = self.forgets_above_bytes
        self._remembered = None
        self._notice_writing(0)

    def board_resets(self) -> None:
        """The board resets, or its firmware does: a forgetful part loses what the firmware wrote beyond what it keeps."""
        if self._remembered is not None:
            self.data[:] = self._remembered
        self._remembered = self._firmware_may_write_bytes = None

    def _notice_writing(self, length: int) -> None:
        """A forgetful part remembers what it is like before the first byte too many."""
        if self._firmware_may_write_bytes is None or self._remembered is not None:
            return
        self._firmware_may_write_bytes -= length
        if self._firmware_may_write_bytes <= 0:
            self._remembered = bytes(self.data)

    def _erase(self, start: int, length: int, duration_s: float) -> float:
        """Set a range that does not wrap to ones."""
        self.erases += 1
        if not (self.dead or self._protects(start, length)):
            start %= self.real_size_bytes
            self.data[start : start + length] = b"\xff" * length
            self._apply_wear(start, start + length)
        return duration_s

    def _protects(self, address: int, length: int) -> bool:
        """Whether the protection bits cover any byte of this range (W25Q80, TB = SEC = 0: from the top, 1/16 up)."""
        level = (self.status & STATUS_BLOCK_PROTECT) >> 2
        if level == 0:
            return False
        protected = self.real_size_bytes >> max(0, 5 - level)
        return any(stop > self.real_size_bytes - protected for _, stop in self._spans(address, length))

    def _spans(self, address: int, length: int) -> list[tuple[int, int]]:
        """The range as (start, stop) pairs of cells, cut where the address wraps."""
        spans = []
        while length > 0:
            start = address % self.real_size_bytes
            stop = min(start + length, self.real_size_bytes)
            spans.append((start, stop))
            address += stop - start
            length -= stop - start
        return spans

    def _wear(self, seed: int) -> dict[int, int]:
        """Address -> mask of the bits that can still be ones."""
        dice = random.Random(f"wear {seed}")  # noqa: S311 - reproducible, not secret
        return {dice.randrange(self.real_size_bytes // 4): 0xFF & ~(1 << dice.randrange(8)) for _ in range(WORN_BITS)}

    def _apply_wear(self, start: int, stop: int) -> None:
        """Stuck bits stay 0 through every erase."""
        for address, mask in self._stuck_low.items():
            if start <= address < stop:
                self.data[address] &= mask

    def _sfdp_table(self) -> bytes:
        """Header, the basic table at 0x80 and the vendor's empty one."""
        vendor = self.jedec_id & 0xFF
        header = b"SFDP" + bytes((0x05, 0x01, 0x01, 0xFF))
        basic = bytes((0x00, 0x05, 0x01, 9)) + (0x80).to_bytes(3, "little") + b"\xff"
        vendors = bytes((vendor, 0x00, 0x01, 0)) + (0xA4).to_bytes(3, "little") + b"\xff"
        # DWORD 1: 4 KB erase by opcode 0x20 everywhere; DWORD 2: density in bits, minus one.
        words = [0xFFF120E5, self.size_bytes * 8 - 1, 0x6B08EB44, 0xBB423B08, 0xFFFFFFFE, 0x0000FFFF, 0x0000FFFF]
        words += [0x520F200C, 0xFF00D810]
        body = b"".join(word.to_bytes(4, "little") for word in words)
        return (header + basic + vendors).ljust(0x80, b"\xff") + body


def _pages(address: int, length: int) -> int:
    """How many page programs this range takes."""
    return 0 if length == 0 else (address + length - 1) // PAGE_BYTES - address // PAGE_BYTES + 1
