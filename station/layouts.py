"""Where a firmware keeps its filesystem: what a board says of it, and whether that can be believed.

A layout belongs to an image and a flash size. It is learned from the first board that passed with that image, and every later
board is asked again: sectors that were written where the firmware does not look are no files. Pure; nothing here talks to a
board. It must never return a layout that overlaps the image, leaves the flash, or is not LittleFS 2 in sectors of 4 KiB.
Sources: micropython `ports/esp8266/modules/flashbdev.py`; littlefs `SPEC.md`, the superblock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec

from station.errors import ReplGarbage

SECTOR_BYTES = 4096
MAGIC = b"littlefs"
MAJOR_VERSION = 2
_SUPERBLOCK_BYTES = 32
_ANSWER_MAX_BYTES = 4096

Number = Annotated[int, msgspec.Meta(ge=-(1 << 20), le=1 << 20)]
Head = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

# Both blocks of the superblock's pair: one of them may be in the middle of its next version. Builds up to about 1.18 call the
# first sector START_SEC; a build without a filesystem has no block device at all.
LAYOUT_CODE = (
    "try:\n import json\nexcept ImportError:\n import ujson as json\n"
    "try:\n import binascii\nexcept ImportError:\n import ubinascii as binascii\n"
    "try:\n"
    " from flashbdev import bdev\n"
    " s=bdev.start_sec if hasattr(bdev,'start_sec') else bdev.START_SEC\n"
    " r=[s,bdev.blocks]\n"
    f" b=bytearray({_SUPERBLOCK_BYTES})\n"
    " for i in range(2):\n"
    "  bdev.readblocks(i,b)\n"
    "  r.append(binascii.hexlify(b).decode())\n"
    "except (ImportError,AttributeError):\n r=None\n"
    "print()\nprint(json.dumps(r))\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A filesystem of `sectors` sectors of 4 KiB from `first_sector` of the flash on."""

    first_sector: int
    sectors: int

    @property
    def start_bytes(self) -> int:
        """Its first byte in the flash."""
        return self.first_sector * SECTOR_BYTES

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self.sectors * SECTOR_BYTES

    def fits(self, *, image_bytes: int, flash_bytes: int) -> bool:
        """Whether it lies behind the image and inside the flash; LittleFS needs two sectors to begin with."""
        inside = image_bytes <= self.start_bytes and self.start_bytes + self.size_bytes <= flash_bytes
        return inside and self.sectors > 1

    def __str__(self) -> str:
        return f"sector {self.first_sector}, {self.sectors} sectors"


class FilesystemMaker(Protocol):
    """Makes the content of a filesystem. Called from a slot's thread."""

    def __call__(self, layout: Layout, files: dict[str, bytes], directories: tuple[str, ...]) -> bytes | None:
        """Return `layout.size_bytes` of LittleFS with these files (path -> content); None when they do not fit."""


def cannot_make(layout: Layout, files: dict[str, bytes], directories: tuple[str, ...]) -> bytes | None:
    """Return None: the maker of a station that has none, where every file goes through the REPL."""
    del layout, files, directories
    return None


def layout_that_answers(payload: bytes) -> Layout | None:
    """Return the layout in what LAYOUT_CODE printed; None where there is no LittleFS 2 of 4 KiB sectors.

    Raises `ReplGarbage` when it is not what that code prints.
    """
    if len(payload) > _ANSWER_MAX_BYTES:
        raise ReplGarbage(f"filesystem layout: {len(payload)} bytes of answer")
    lines = payload.strip().splitlines()
    try:
        said = msgspec.json.decode(lines[-1] if lines else b"", type=tuple[Number, Number, Head, Head] | None)
    except (msgspec.DecodeError, ValueError) as error:
        raise ReplGarbage(f"filesystem layout: {error}") from None
    if said is None:
        return None
    first, sectors, *heads = said
    superblocks = [bytes.fromhex(head) for head in heads]
    return Layout(first_sector=first, sectors=sectors) if any(map(_is_superblock(sectors), superblocks)) else None


def _is_superblock(sectors: int) -> Callable[[bytes], bool]:
    """The name stands at byte 8 of the block; version, block size and block count from byte 20 on, little-endian."""

    def holds(block: bytes) -> bool:
        version, size, count = (int.from_bytes(block[at : at + 4], "little") for at in (20, 24, 28))
        return block[8:16] == MAGIC and (version >> 16, size, count) == (MAJOR_VERSION, SECTOR_BYTES, sectors)

    return holds
