"""A MicroPython filesystem in memory, for code of `station.upload` that CPython executes.

What is closed is kept, what is not is lost with the interpreter. It counts every change of the flash, so that a test can take
the power away before any of them.
"""

from __future__ import annotations

import binascii
import builtins
import contextlib
import errno
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from littlefs import LittleFS, UserContext

from station.layouts import LAYOUT_CODE, SECTOR_BYTES, Layout
from station.selftest import MARK_CODE, MARKED_CODE

DIRECTORY, REGULAR = 0x4000, 0x8000
FIRST_START = b"# what the firmware's own first start writes"
LAYOUT = Layout(first_sector=153, sectors=98)


class PowerCutError(Exception):
    """The board is off: nothing after this moment happened."""


class _File(io.BytesIO):
    """An open file: its content gets into the flash when it is closed."""

    def __init__(self, content: bytes, keep: Callable[[bytes], None] | None) -> None:
        super().__init__(content)
        self._keep = keep

    def close(self) -> None:
        """Keep what was written."""
        if not self.closed and self._keep is not None:
            self._keep(self.getvalue())
        super().close()


@dataclass(slots=True)
class FileSystem:
    """The files of one board, and the memory of its interpreter."""

    files: dict[str, bytes] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    mounted: bool = True
    blank: bool = False
    """Whether the flash was erased, and no firmware has started since."""
    says: Layout | None = LAYOUT
    """Where the firmware says that its filesystem lies."""
    broken: bool = False
    """Whether it never gets its filesystem mounted."""
    lives: int = 0
    """So often the interpreter was started anew."""
    changes: int = 0
    """So often the flash was changed."""
    cut_before: int | None = None
    """The power goes before this change, counted from 0."""
    loses: Callable[[str], bool] = lambda _path: False
    """Whether the flash forgets what is written to this path."""
    damage: Callable[[bytes], bytes] = lambda data: data
    """What the line makes of a piece of content."""
    memory: dict[str, Any] = field(default_factory=dict)

    def restart(self, flash: bytes | bytearray = b"") -> None:
        """The interpreter starts anew; a LittleFS that the flash pass has just written is mounted."""
        self.memory, self.mounted, self.lives = {}, not self.broken, self.lives + 1
        if not self.blank:
            return
        self.blank = False
        region = bytearray(flash[LAYOUT.start_bytes : LAYOUT.start_bytes + LAYOUT.size_bytes])
        if region[8:16] != b"littlefs":
            self.files = {"boot.py": FIRST_START}
            return
        mounted = LittleFS(context=UserContext(buffer=region), block_size=SECTOR_BYTES, block_count=LAYOUT.sectors)
        for root, directories, names in mounted.walk("/"):
            self.directories |= {f"{root}/{name}".lstrip("/") for name in directories}
            for name in names:
                with mounted.open(f"{root}/{name}", "rb") as file:
                    self.files[f"{root}/{name}".lstrip("/")] = file.read()

    def erase(self) -> None:
        """The whole flash is erased: the next start finds nothing, and makes its own filesystem."""
        self.files, self.directories, self.blank = {}, set(), True

    def everything(self) -> dict[str, bytes | None]:
        """Every path, None for a directory."""
        return {**self.files, **dict.fromkeys(self.directories)}

    @staticmethod
    def takes(code: str) -> bool:
        """Whether this code is about files, or about the memory of the interpreter."""
        return code in (LAYOUT_CODE, MARK_CODE, MARKED_CODE) or "os.chdir('/')" in code or code.startswith("w(b'")

    def execute(self, code: str) -> bytes:
        """What code prints; what it raises comes out as it is."""
        assert code.isascii()
        printed = io.StringIO()
        self.memory["__builtins__"] = {**vars(builtins), "__import__": self._import, "open": self._open}
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "<stdin>", "exec"), self.memory)  # noqa: S102 - our own code, in a test
        return printed.getvalue().replace("\n", "\r\n").encode()

    def _import(self, name: str, *_more: object) -> Any:
        found = {
            "json": json,
            "hashlib": hashlib,
            "binascii": SimpleNamespace(hexlify=binascii.hexlify, a2b_base64=self._a2b),
            "os": self._os(),
            "vfs": SimpleNamespace(mount=self._mount, VfsLfs2=lambda _device: "lfs2"),
            "flashbdev": SimpleNamespace(bdev=self._device()),
        }
        if name not in found:
            raise ImportError(name)
        return found[name]

    def _a2b(self, data: bytes) -> bytes:
        return self.damage(binascii.a2b_base64(data))

    def _os(self) -> SimpleNamespace:
        return SimpleNamespace(
            chdir=lambda _path: None,
            listdir=self._listdir,
            stat=self._stat,
            statvfs=lambda _path: (4096, 4096, 98 if self.mounted else 0),
            mkdir=self._mkdir,
            rmdir=self._rmdir,
            remove=self._remove,
            rename=self._rename,
            umount=self._umount,
            sync=lambda: None,
        )

    def _device(self) -> SimpleNamespace | None:
        if self.says is None:
            return None
        head = b"\1\0\0\0\xf0\x0f\xff\xf7littlefs\x2f\xe0\0\x10\0\0\2\0" + SECTOR_BYTES.to_bytes(4, "little")
        head += self.says.sectors.to_bytes(4, "little")

        def read(_block: int, buffer: bytearray) -> None:
            buffer[:] = head

        return SimpleNamespace(start_sec=self.says.first_sector, blocks=self.says.sectors, readblocks=read)

    def _change(self) -> None:
        if self.cut_before == self.changes:
            self.lives += 1
            raise PowerCutError
        self.changes += 1

    def _mount(self, _filesystem: object, _where: str) -> None:
        self.mounted = True

    def _umount(self, _where: str) -> None:
        self.mounted = False

    def _listdir(self, path: str) -> list[str]:
        there = [*self.files, *self.directories] if self.mounted else []
        start = f"{path}/" if path else ""
        return [name[len(start) :] for name in there if name.startswith(start) and "/" not in name[len(start) :]]

    def _stat(self, path: str) -> tuple[int, ...]:
        if path not in self.files and path not in self.directories:
            raise OSError(errno.ENOENT)
        return (DIRECTORY if path in self.directories else REGULAR, 0, 0, 0, 0, 0, 0)

    def _open(self, path: str, mode: str) -> _File:
        parent = path.rpartition("/")[0]
        if not self.mounted or path in self.directories or (parent and parent not in self.directories):
            raise OSError(errno.ENOENT)
        if "w" not in mode:
            if path not in self.files:
                raise OSError(errno.ENOENT)
            return _File(self.files[path], None)
        self._change()
        self.files[path] = b""
        life = self.lives
        return _File(b"", lambda content: self._keep(path, content, life))

    def _keep(self, path: str, content: bytes, life: int) -> None:
        if life != self.lives:
            return  # the interpreter that had it open is gone, and its memory with it
        self._change()
        self.files[path] = b"\0" + content if self.loses(path) else content

    def _mkdir(self, path: str) -> None:
        if path in self.everything():
            raise OSError(errno.EEXIST)
        self._change()
        self.directories.add(path)

    def _rmdir(self, path: str) -> None:
        if self._listdir(path):
            raise OSError(errno.ENOTEMPTY)
        self._change()
        self.directories.remove(path)

    def _remove(self, path: str) -> None:
        if path not in self.files:
            raise OSError(errno.ENOENT)
        self._change()
        del self.files[path]

    def _rename(self, old: str, new: str) -> None:
        self._change()
        self.files[new] = self.files.pop(old)
