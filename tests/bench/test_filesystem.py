"""LittleFS in the emulated flash: what is in the flash is what was closed or flushed, and nothing ends the process."""

import errno

import pytest
from littlefs import LittleFS, UserContext

from station.bench.filesystem import FlashFilesystem
from station.bench.flash import NorFlash

START, SECTORS = 0x99, 98


def fresh_flash() -> NorFlash:
    """A blank 1 MB flash."""
    return NorFlash(size_bytes=1024 * 1024, jedec_id=0x1440EF)


def files_on(flash: NorFlash, *, formatted: bool = True) -> FlashFilesystem:
    """The filesystem of a 1 MB board on this flash, made and mounted."""
    files = FlashFilesystem(flash, start_sector=START, sectors=SECTORS)
    if formatted:
        files.format()
        files.mount()
    return files


def read_afresh(flash: NorFlash) -> dict[str, bytes]:
    """What another LittleFS finds in a copy of the flash's bytes."""
    context = UserContext(buffer=bytearray(flash.data[START * 4096 : (START + SECTORS) * 4096]))
    files = LittleFS(context=context, block_size=4096, block_count=SECTORS)
    found = {}
    for name in files.listdir("/"):
        with files.open(name, "rb") as file:
            found[name] = file.read()
    return found


def test_only_what_was_closed_or_flushed_is_in_the_flash() -> None:
    """Of three files written, the closed and the flushed one are there after power is lost, the open one is empty."""
    flash = fresh_flash()
    files = files_on(flash)
    closed, flushed, left = (files.open(name, "wb") for name in ("closed", "flushed", "left"))
    for handle in (closed, flushed, left):
        assert files.write(handle, b"data" * 2000) == 8000
    files.close(closed)
    files.flush(flushed)
    files.write(flushed, b"later")
    assert read_afresh(flash) == {"closed": b"data" * 2000, "flushed": b"data" * 2000, "left": b""}
    again = files_on(flash, formatted=False)
    again.mount()
    assert {entry.name: entry.size_bytes for entry in again.listdir("/")} == {
        "closed": 8000,
        "flushed": 8000,
        "left": 0,
    }


def test_soft_reset_closes_every_file() -> None:
    """`close_all()` writes what open files hold, as the firmware's sweep does."""
    flash = fresh_flash()
    files = files_on(flash)
    files.write(files.open("a", "w"), b"kept")
    files.close_all()
    assert read_afresh(flash) == {"a": b"kept"}


def test_unmounting_forgets_what_was_not_written() -> None:
    """After `unmount()` nothing is mounted, no handle is good any more, and what was open and not flushed is lost."""
    flash = fresh_flash()
    files = files_on(flash)
    handle = files.open("a", "w")
    files.write(handle, b"lost")
    files.unmount()
    with pytest.raises(OSError, match="mounted"):
        files.listdir("/")
    files.mount()
    with pytest.raises(OSError, match="not open") as problem:
        files.close(handle)
    assert problem.value.errno == errno.EBADF
    files.unmount()
    files.unmount()
    assert read_afresh(flash) == {"a": b""}


def test_blank_and_foreign_flash_cannot_be_mounted() -> None:
    """Mounting what is no LittleFS raises the number that MicroPython gives, and stays unmounted."""
    for first in (b"\xff", b"\x00"):
        flash = fresh_flash()
        flash.data[START * 4096 : (START + SECTORS) * 4096] = first * SECTORS * 4096
        files = files_on(flash, formatted=False)
        with pytest.raises(OSError, match="CORRUPT") as problem:
            files.mount()
        assert problem.value.errno == 84
        with pytest.raises(OSError, match="mounted"):
            files.listdir("/")


def test_a_build_without_room_gets_eio() -> None:
    """A negative number of sectors (a 2 MB build on 1 MB) is an I/O error, for mount and format alike."""
    files = FlashFilesystem(fresh_flash(), start_sector=0x101, sectors=-6)
    for deed in (files.mount, files.format):
        with pytest.raises(OSError, match="room") as problem:
            deed()
        assert problem.value.errno == errno.EIO


def test_misuse_is_an_errno_and_never_an_assertion_of_littlefs() -> None:
    """Wrong handles, wrong modes and wrong paths raise OSError with MicroPython's number; LittleFS would end the process."""
    files = files_on(fresh_flash())
    writing = files.open("a", "w")
    reading = files.open("a", "r")
    files.mkdir("d")
    for expected, deed in (
        (errno.EBADF, lambda: files.read(writing, 1)),
        (errno.EBADF, lambda: files.write(reading, b"x")),
        (errno.EBADF, lambda: files.close(99)),
        (errno.ENOENT, lambda: files.open("none", "r")),
        (errno.EEXIST, lambda: files.open("a", "x")),
        (errno.EISDIR, lambda: files.open("d", "r")),
        (errno.ENOENT, lambda: files.stat("none")),
        (errno.EEXIST, lambda: files.mkdir("d")),
        (errno.ENOTDIR, lambda: files.listdir("a")),
    ):
        with pytest.raises(OSError, match=r"not open|LFS_ERR") as problem:
            deed()
        assert problem.value.errno == expected
    files.close(writing)
    with pytest.raises(OSError, match="not open"):
        files.close(writing)


def test_append_seek_rename_and_remove() -> None:
    """The remaining operations do what their names say."""
    files = files_on(fresh_flash())
    first = files.open("a", "w")
    files.write(first, b"one")
    files.close(first)
    second = files.open("a", "a+")
    files.write(second, b"two")
    assert files.seek(second, 1, 0) == 1
    assert files.read(second, 10) == b"netwo"
    files.close(second)
    files.rename("a", "b")
    assert files.stat("b").size_bytes == 6
    files.remove("b")
    assert files.listdir("/") == []


def test_full_filesystem_says_so() -> None:
    """Writing more than the region holds raises ENOSPC and leaves the rest readable."""
    files = files_on(fresh_flash())
    handle = files.open("big", "w")
    with pytest.raises(OSError, match="NOSPC") as problem:
        files.write(handle, bytes(SECTORS * 4096))
    assert problem.value.errno == errno.ENOSPC
    assert [entry.name for entry in files.listdir("/")] == ["big"]


def test_the_time_that_the_flash_takes_is_counted_once() -> None:
    """Making a filesystem keeps the flash busy for at least its two erases, and the time is given out once."""
    files = files_on(fresh_flash())
    assert files.take_busy_s() > 0.09
    assert files.take_busy_s() == 0.0
