"""The filesystem of a virtual board: real LittleFS inside its emulated flash, with the parameters MicroPython uses.

Promises that a file exists in the flash exactly when LittleFS has written it there: what was closed or flushed survives a
reset, what was not is gone with the RAM, and any LittleFS reads the result. Everything the firmware can do wrong is an
OSError with the number MicroPython gives; it must never reach LittleFS itself, whose assertions end the process.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from typing import ParamSpec, TypeVar

from littlefs import LittleFSError, lfs
from littlefs.context import UserContext
from littlefs.lfs import LFSConfig, LFSFileFlag, LFSFilesystem

from station.bench.flash import SECTOR_BYTES, NorFlash

P = ParamSpec("P")
R = TypeVar("R")

TRANSFER_BYTES = 32
"""MicroPython's read and program size; its cache is four times that, its lookahead buffer as much (extmod/vfs_lfsx.c)."""
BLOCK_CYCLES = 100


class _Access(IntFlag):
    """What a file is opened for (lfs.h, LFS_O_*)."""

    READ = 0x001
    WRITE = 0x002
    CREATE = 0x100
    EXCLUSIVE = 0x200
    TRUNCATE = 0x400
    APPEND = 0x800


_MODES = {
    "r": _Access.READ,
    "w": _Access.WRITE | _Access.CREATE | _Access.TRUNCATE,
    "x": _Access.WRITE | _Access.CREATE | _Access.EXCLUSIVE,
    "a": _Access.WRITE | _Access.CREATE | _Access.APPEND,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file or directory: `size_bytes` is 0 for a directory."""

    name: str
    is_directory: bool
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _OpenFile:
    """A LittleFS handle and what it was opened for."""

    handle: lfs.LFSFile
    access: _Access


class FlashFilesystem:
    """The files between `start_sector` and `start_sector + sectors` of `flash`.

    Nothing is mounted at first. Paths are absolute; handles are small integers. Every method raises OSError.
    """

    def __init__(self, flash: NorFlash, *, start_sector: int, sectors: int) -> None:
        self.start_sector = start_sector
        self.sectors = sectors
        self._region = _Region(flash, start_sector * SECTOR_BYTES)
        self._config: LFSConfig | None = None
        self._mounted: LFSFilesystem | None = None
        self._files: dict[int, _OpenFile] = {}
        self._next_handle = 1

    def mount(self) -> None:
        """Mount what is in the flash; EIO when there is no such region, 84 (LittleFS's own) when it is no LittleFS."""
        self._mounted, self._files = None, {}
        filesystem = LFSFilesystem()
        self._config = self._configure()
        _do(lfs.mount, filesystem, self._config)
        self._mounted = filesystem

    def format(self) -> None:
        """Make an empty filesystem, mounted or not; it is not mounted afterwards."""
        self._mounted, self._files = None, {}
        self._config = self._configure()
        _do(lfs.format, LFSFilesystem(), self._config)

    def unmount(self) -> None:
        """Forget what is mounted and every open file: what was not closed or flushed is gone. Harmless when nothing is."""
        self._mounted, self._files = None, {}

    def close_all(self) -> None:
        """Close every open file, as the firmware's sweep does at a soft reset: what they hold is written."""
        for handle in list(self._files):
            self.close(handle)

    def open(self, path: str, mode: str) -> int:
        """Open a file (`r`, `w`, `x`, `a`, each with `+`) and return its handle."""
        kind = next((letter for letter in mode if letter in _MODES), "r")
        access = _MODES[kind]
        if "+" in mode:
            access |= _Access.READ | _Access.WRITE
        handle = _do(lfs.file_open, self._filesystem(), path, LFSFileFlag(int(access)))
        self._next_handle += 1
        self._files[self._next_handle] = _OpenFile(handle, access)
        return self._next_handle

    def read(self, handle: int, length: int) -> bytes:
        """At most `length` bytes; fewer only at the end of the file."""
        return _do(lfs.file_read, self._filesystem(), self._file(handle, _Access.READ), length)

    def write(self, handle: int, data: bytes) -> int:
        """Write all of `data`, into the handle's cache first, and return its length."""
        return _do(lfs.file_write, self._filesystem(), self._file(handle, _Access.WRITE), data)

    def seek(self, handle: int, offset: int, whence: int) -> int:
        """Move the position (whence 0 start, 1 current, 2 end) and return it."""
        return _do(lfs.file_seek, self._filesystem(), self._file(handle), offset, whence)

    def flush(self, handle: int) -> None:
        """Write what the handle holds into the flash, metadata included."""
        _do(lfs.file_sync, self._filesystem(), self._file(handle))

    def close(self, handle: int) -> None:
        """Flush and forget the handle."""
        file = self._file(handle)
        del self._files[handle]
        _do(lfs.file_close, self._filesystem(), file)

    def stat(self, path: str) -> Entry:
        """What is at `path`."""
        return _entry(_do(lfs.stat, self._filesystem(), path))

    def listdir(self, path: str) -> list[Entry]:
        """What is in the directory at `path`, without `.` and `..`."""
        filesystem = self._filesystem()
        directory = _do(lfs.dir_open, filesystem, path)
        entries = []
        while (found := _do(lfs.dir_read, filesystem, directory)) is not None:
            entries.append(_entry(found))
        _do(lfs.dir_close, filesystem, directory)
        return [entry for entry in entries if entry.name not in (".", "..")]

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        _do(lfs.mkdir, self._filesystem(), path)

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory."""
        _do(lfs.remove, self._filesystem(), path)

    def rename(self, old: str, new: str) -> None:
        """Move a file or directory; what is at `new` is replaced."""
        _do(lfs.rename, self._filesystem(), old, new)

    def free_sectors(self) -> int:
        """How many sectors are free."""
        return self.sectors - _do(lfs.fs_size, self._filesystem())

    def take_busy_s(self) -> float:
        """The seconds the flash was busy since this was last asked."""
        busy_s, self._region.busy_s = self._region.busy_s, 0.0
        return busy_s

    def _configure(self) -> LFSConfig:
        """What MicroPython tells LittleFS about this region."""
        if self.sectors <= 1:
            raise OSError(errno.EIO, "no room for a filesystem")
        return LFSConfig(
            context=self._region,
            block_size=SECTOR_BYTES,
            block_count=self.sectors,
            read_size=TRANSFER_BYTES,
            prog_size=TRANSFER_BYTES,
            block_cycles=BLOCK_CYCLES,
            cache_size=4 * TRANSFER_BYTES,
            lookahead_size=TRANSFER_BYTES,
        )

    def _filesystem(self) -> LFSFilesystem:
        """The mounted filesystem."""
        if self._mounted is None:
            raise OSError(errno.ENODEV, "no filesystem is mounted")
        return self._mounted

    def _file(self, handle: int, needed: _Access | None = None) -> lfs.LFSFile:
        """The LittleFS handle, refused unless it was opened for `needed`: LittleFS would only assert that."""
        file = self._files.get(handle)
        if file is None or (needed is not None and not file.access & needed):
            raise OSError(errno.EBADF, "not open for this")
        return file.handle


class _Region(UserContext):
    """The block device: a range of the flash, with the flash's own physics."""

    def __init__(self, flash: NorFlash, offset: int) -> None:
        self._flash = flash
        self._offset = offset
        self.busy_s = 0.0

    def read(self, cfg: LFSConfig, block: int, off: int, size: int) -> bytearray:
        """Read one piece of a block."""
        return bytearray(self._flash.read(self._offset + block * cfg.block_size + off, size))

    def prog(self, cfg: LFSConfig, block: int, off: int, data: bytes) -> int:
        """Program one piece of a block."""
        self.busy_s += self._flash.program(self._offset + block * cfg.block_size + off, bytes(data))
        return 0

    def erase(self, cfg: LFSConfig, block: int) -> int:
        """Erase a block."""
        self.busy_s += self._flash.erase_sector(self._offset + block * cfg.block_size)
        return 0

    def sync(self, cfg: LFSConfig) -> int:
        """Nothing is held back below LittleFS."""
        del cfg
        return 0


def _entry(found: lfs.LFSStat) -> Entry:
    """LittleFS's answer in our words."""
    is_directory = found.type == lfs.LFSStat.TYPE_DIR
    return Entry(name=found.name, is_directory=is_directory, size_bytes=0 if is_directory else found.size)


def _do(function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    """Call LittleFS; its negative error numbers are the firmware's errno."""
    try:
        return function(*arguments, **keywords)
    except LittleFSError as problem:
        raise OSError(-problem.code, problem.name) from None
