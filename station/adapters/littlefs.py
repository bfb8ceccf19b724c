"""LittleFS images as MicroPython's ESP8266 port mounts them, made by littlefs-python; the same files give the same bytes.

Disk version 2.0, which every MicroPython with LittleFS 2 reads; the sizes are those of its `VfsLfs2` (extmod/vfs_lfsx.c). It
must never return an image in which one of the files is not whole.
"""

from __future__ import annotations

import errno
from contextlib import suppress

from littlefs import LittleFS, LittleFSError

from station.layouts import SECTOR_BYTES, Layout

TRANSFER_BYTES = 32
DISK_VERSION = 0x0002_0000


def make_filesystem(layout: Layout, files: dict[str, bytes], directories: tuple[str, ...]) -> bytes | None:
    """Return `layout.size_bytes` of LittleFS with these directories and files (path -> content).

    Parents come before children in `directories`. None when it does not all fit.
    """
    made = LittleFS(
        block_size=SECTOR_BYTES,
        block_count=layout.sectors,
        read_size=TRANSFER_BYTES,
        prog_size=TRANSFER_BYTES,
        cache_size=4 * TRANSFER_BYTES,
        lookahead_size=TRANSFER_BYTES,
        disk_version=DISK_VERSION,
    )
    try:
        for directory in directories:
            with suppress(FileExistsError):
                made.mkdir(directory)
        for path, content in files.items():
            with made.open(path, "wb") as file:
                file.write(content)
    except (OSError, LittleFSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or getattr(error, "code", None) == -errno.ENOSPC:
            return None
        raise
    return bytes(made.context.buffer)
