# mypy: ignore-errors
"""The block device below the filesystem: a range of flash sectors.

Runs inside MicroPython. Where it lies is computed by the bench from the image that is in the flash.
"""

import esp
from _link import facts


class FlashBdev:
    """Sectors `start_sec` to `start_sec + blocks` of the flash."""

    SEC_SIZE = 4096

    def __init__(self, start_sec, blocks):
        self.start_sec = start_sec
        self.blocks = blocks

    def readblocks(self, n, buf, off=0):
        """Fill `buf` from block `n`."""
        esp.flash_read((n + self.start_sec) * self.SEC_SIZE + off, buf)

    def writeblocks(self, n, buf, off=None):
        """Write `buf` to block `n`, erasing it first unless an offset is given."""
        if off is None:
            esp.flash_erase(n + self.start_sec)
            off = 0
        esp.flash_write((n + self.start_sec) * self.SEC_SIZE + off, buf)

    def ioctl(self, op, arg):
        """Number of blocks (4), their size (5), erase one (6)."""
        if op == 4:
            return self.blocks
        if op == 5:
            return self.SEC_SIZE
        if op == 6:
            esp.flash_erase(arg + self.start_sec)
        return 0


bdev = None if facts["filesystem"] is None else FlashBdev(*facts["filesystem"])
