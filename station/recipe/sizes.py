"""How many blocks of a LittleFS the files of a recipe take, so that no board is begun whose files do not fit.

An estimate from above, of the on-disk format of LittleFS 2 as MicroPython makes it on this chip (block 4096, cache 128). It
never says fewer blocks than LittleFS needs for a fresh filesystem with these files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

BLOCK_BYTES = 4096
SPARE_BLOCKS = 6
"""For what is written while others are still there: a file's next version, a directory's new pair, the self-test's file."""
_INLINE_BYTES = 128
"""A file not larger than the cache lies in its directory (lfs_file_opencfg: cache, attribute limit, an eighth of a block)."""
_POINTER_BYTES = 4
_ENTRY_BYTES = 48
"""Tags for name, structure and modification time, and their padding, of one entry."""
_PAIR_BYTES = 1536
"""A directory is split in two when it is fuller than half a block after compaction (lfs_dir_splittingcompact)."""


def blocks_needed(files: Iterable[tuple[str, int]], directories: Iterable[str]) -> int:
    """Return blocks of 4 KiB for these files (path, size) and directories, the root and spare blocks included."""
    directories = tuple(directories)
    held = dict.fromkeys((".", *directories), 0)
    blocks = SPARE_BLOCKS
    for path, size_bytes in files:
        inline = size_bytes <= _INLINE_BYTES
        name = PurePosixPath(path)
        held[str(name.parent)] += _ENTRY_BYTES + len(name.name) + (size_bytes if inline else 0)
        blocks += 0 if inline else _blocks_of(size_bytes)
    for path in directories:
        name = PurePosixPath(path)
        held[str(name.parent)] += _ENTRY_BYTES + len(name.name)
    return blocks + sum(2 * (1 + entries_bytes // _PAIR_BYTES) for entries_bytes in held.values())


def _blocks_of(size_bytes: int) -> int:
    """Blocks of one file's list: block n holds a pointer for each power of two that divides n (DESIGN.md, "CTZ skip-lists")."""
    blocks, capacity_bytes = 0, 0
    while capacity_bytes < size_bytes:
        pointers = (blocks & -blocks).bit_length()
        capacity_bytes += BLOCK_BYTES - _POINTER_BYTES * pointers
        blocks += 1
    return blocks
