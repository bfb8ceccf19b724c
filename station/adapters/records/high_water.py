"""`numbers.jsonl` beside the records: every number that was ever on its way to a board, on disk before it is used.

It is what tells, after the records were put back from a backup, how far the numbers have gone since. A line is appended and
synced inside the transaction that it belongs to, before its commit, so there is never a number on record without its line;
the other way round a line may speak of a number that nobody got. It is never in a backup, and nothing is ever taken out of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from station.errors import RecordsUnwritable

NAME = "numbers.jsonl"
MOST_LINE_BYTES = 1 << 20
_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","said":', b"}"
_DIGEST = slice(len(_HEAD), len(_HEAD) + 64)
_CONTENT = slice(_DIGEST.stop + len(_MIDDLE), -len(_TAIL))


class NumberLine(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to numbers, as it stands in `serial_event` under the same id."""

    id: str
    pool: str
    event: str
    first: int
    last: int
    mac: str = ""
    station_id: str = ""
    label: str = ""
    person: str = ""


def numbers_file(database: Path) -> Path:
    """Return the file that belongs to these records: beside them."""
    return database.absolute().with_name(NAME)


def append(file: Path, lines: Sequence[NumberLine]) -> None:
    """Append lines and sync them; raises `RecordsUnwritable`. The caller is alone: it holds the write lock of the records."""
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            whole_bytes = _end_of_whole_lines(handle)
            if not whole_bytes:
                _belong_to_the_directory(handle, file.parent)
            # A line that a loss of power tore was never synced: nobody used what it says.
            os.ftruncate(handle, whole_bytes)
            data = memoryview(b"".join(map(_encoded, lines)))
            while data:
                written = os.pwrite(handle, data, whole_bytes)
                whole_bytes, data = whole_bytes + written, data[written:]
            os.fsync(handle)
        finally:
            os.close(handle)
        _sync_directory(file.parent)
    except OSError as error:
        raise RecordsUnwritable(f"{file} cannot be written ({error.strerror}); no number is used without it") from error


def read(file: Path) -> list[NumberLine] | None:
    """Return what it says, oldest first; None unless every line is whole, the last one aside, which may be torn."""
    try:
        raw = file.read_bytes()
    except OSError:
        return None
    *whole, _torn = raw.split(b"\n")
    lines = [_decoded(line) for line in whole]
    return None if any(line is None for line in lines) else [line for line in lines if line is not None]


def speaks_of(file: Path, pool: str, first: int, last: int) -> bool:
    """Whether the file says of any of these numbers that it was on its way to a board, or that nobody shall get it.

    A grant alone says neither: its records may have died before they had it. A file that is damaged says nothing.
    """
    return any(
        line.pool == pool and line.first <= last and line.last >= first and line.event != "grant"
        for line in read(file) or ()
    )


def _end_of_whole_lines(handle: int) -> int:
    size = os.fstat(handle).st_size
    tail = os.pread(handle, MOST_LINE_BYTES, max(0, size - MOST_LINE_BYTES))
    return size - len(tail) + tail.rfind(b"\n") + 1


def _encoded(line: NumberLine) -> bytes:
    content = msgspec.json.encode(line)
    return _HEAD + hashlib.sha256(content).hexdigest().encode() + _MIDDLE + content + _TAIL + b"\n"


def _decoded(raw: bytes) -> NumberLine | None:
    content = raw[_CONTENT]
    if hashlib.sha256(content).hexdigest().encode() != raw[_DIGEST]:
        return None
    try:
        return msgspec.json.decode(content, type=NumberLine)
    except msgspec.DecodeError:
        return None


def _belong_to_the_directory(handle: int, directory: Path) -> None:
    """What root writes belongs to whom the directory belongs to: the station's own user must go on with it."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
