"""The power goes at every byte that an upload changes in a flash with a real LittleFS in it: what is left is never half a file.

CPython runs the code that the station sends to boards; the filesystem below it is LittleFS itself.
"""

from __future__ import annotations

import binascii
import builtins
import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from littlefs import LittleFS, LittleFSError, UserContext
from littlefs.lfs import LFSConfig

from station import upload
from station.adapters.littlefs import make_filesystem
from station.layouts import SECTOR_BYTES, Layout
from station.recipe import FilesPlan, SourceFile
from station.upload import PART_SUFFIX, Target, target_of

SECTORS = 12
OLD = {"a": b"old" * 40, "boot.py": b"# of the first start\n", "junk/deep/x": b"1" * 5000, "junk/y": b"", "z": b"2"}
NEW = {"a": b"new" * 70, "lib/b": b"B = 1\n"}
DIRECTORY, REGULAR = 0x4000, 0x8000


class Flash(UserContext):
    """A flash that remembers every change, so that it can be shown as it was when the power went in the middle of one."""

    def __init__(self, content: bytes) -> None:
        super().__init__(buffer=bytearray(content))
        self._first, self._changes = bytes(content), list[tuple[int, bytes]]()

    def prog(self, cfg: LFSConfig, block: int, off: int, data: bytes) -> int:
        """Byte after byte of a page."""
        start = block * cfg.block_size + off
        self._changes += [(start + at, bytes(data[at : at + 1])) for at in range(len(data))]
        return int(super().prog(cfg, block, off, data))

    def erase(self, cfg: LFSConfig, block: int) -> int:
        """In two halves."""
        half = cfg.block_size // 2
        self._changes += [(block * cfg.block_size + at, b"\xff" * half) for at in (0, half)]
        return int(super().erase(cfg, block))

    def cut(self) -> Iterator[bytes]:
        """Its content before each change."""
        content = bytearray(self._first)
        for start, data in self._changes:
            yield bytes(content)
            content[start : start + len(data)] = data


class Board:
    """A board with this flash, and what its MicroPython makes of code about files."""

    def __init__(self, flash: Flash) -> None:
        self.flash = flash
        self.files = LittleFS(
            context=flash,
            block_size=SECTOR_BYTES,
            block_count=SECTORS,
            read_size=32,
            prog_size=32,
            cache_size=128,
            lookahead_size=32,
        )
        self.memory: dict[str, Any] = {}

    def everything(self) -> dict[str, bytes]:
        """Path -> content of every file."""
        paths = [f"{root}/{name}".strip("/") for root, _, names in self.files.walk("/") for name in names]
        return {path: self._read(path) for path in paths}

    def execute(self, code: str) -> bytes:
        """What code prints."""
        modules = {
            "os": SimpleNamespace(
                chdir=lambda _path: None,
                statvfs=lambda _path: (0, 0, SECTORS),
                stat=lambda path: (DIRECTORY if self.files.stat(path).type == 2 else REGULAR,),
                listdir=lambda path: self.files.listdir(path or "/"),
                mkdir=_raising(self.files.mkdir),
                rmdir=_raising(self.files.rmdir),
                remove=_raising(self.files.remove),
                rename=_raising(self.files.rename),
            ),
            "json": json,
            "hashlib": hashlib,
            "binascii": binascii,
        }
        self.memory["__builtins__"] = {
            **vars(builtins),
            "__import__": lambda name, *_: modules[name],
            "open": lambda path, mode: _File(self, path, mode),
        }
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "<stdin>", "exec"), self.memory)  # noqa: S102 - our own code, in a test
        return printed.getvalue().encode()

    def _read(self, path: str) -> bytes:
        with self.files.open(path, "rb") as file:
            return bytes(file.read())


class _File(io.BytesIO):
    """An open file; what it holds is in flash when it was closed."""

    def __init__(self, board: Board, path: str, mode: str) -> None:
        self._board, self._path, self._writes = board, path, "w" in mode
        if self._writes:
            _raising(self._put)(b"")
        super().__init__(b"" if self._writes else _raising(board._read)(path))

    def close(self) -> None:
        """Into the flash with it."""
        if not self.closed and self._writes:
            content, self._writes = self.getvalue(), False
            _raising(self._put)(content)
        super().close()

    def _put(self, content: bytes) -> None:
        with self._board.files.open(self._path, "wb") as file:
            file.write(content)


def _raising(function: Callable[..., Any]) -> Callable[..., Any]:
    """As on a board, whatever LittleFS has against it is an OSError."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except LittleFSError as error:
            raise OSError(-error.code, "LittleFS") from None

    return call


def provide(board: Board, target: Target) -> None:
    """What PROVISION does, in its order."""
    there = upload.listing(board.execute(upload.LIST_CODE))
    assert there is not None
    gone = target.removals(there)
    upload.done(board.execute(upload.remove_code(gone)))
    kept = {path: kind for path, kind in there.items() if (path, kind) not in gone}
    upload.done(board.execute(upload.mkdir_code(target.missing_directories(kept))))
    for path, content in target.files.items():
        for code in upload.write_runs(path, content):
            said = board.execute(code)
        assert upload.received_and_stored(said) == (target.hashes[path],) * 2
        upload.done(board.execute(upload.name_code(path + PART_SUFFIX, path)))


def test_power_that_goes_at_any_byte_leaves_no_half_file() -> None:
    """While others are deleted, directories made, a file replaced, named: old or new under a name, and a next visit heals."""
    plan = FilesPlan(
        files=tuple(SourceFile(path=path, content=content, fill_in=False) for path, content in NEW.items()),
        directories=("lib",),
        delete_others=True,
    )
    target = target_of(plan)
    before = make_filesystem(Layout(first_sector=1, sectors=SECTORS), OLD, ("junk", "junk/deep"))
    assert before is not None
    flash = Flash(before)
    provide(Board(flash), target)
    states = set()
    for number, left in enumerate(flash.cut()):
        board = Board(Flash(left))
        files = board.everything()
        states.add(frozenset(files))
        assert "a" in files, number
        for path, content in files.items():
            assert path.endswith(PART_SUFFIX) or content in (OLD.get(path), NEW.get(path)), (number, path)
        provide(board, target)
        assert board.everything() == NEW, number
    assert states >= {frozenset(OLD), frozenset({"a", f"a{PART_SUFFIX}"}), frozenset({"a", f"lib/b{PART_SUFFIX}"})}
    assert len(states) > 5
