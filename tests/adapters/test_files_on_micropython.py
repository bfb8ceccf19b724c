"""The code that brings files onto a board, on a real MicroPython with a real LittleFS: the virtual bench's boards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from station import upload
from station.adapters.littlefs import make_filesystem
from station.adapters.repl import RawRepl
from station.bench.bench import BenchLine, BenchOpener, VirtualBench
from station.bench.chip import Chip, make_chip
from station.bench.image import make_image
from station.errors import CheckRaised
from station.layouts import LAYOUT_CODE, Layout, layout_that_answers
from station.model import BootInto
from station.ports import Stop
from station.recipe import FilesPlan, SourceFile
from station.upload import PART_SUFFIX, target_of
from tests.bench.firmware_rig import files_in

LAYOUT = Layout(first_sector=153, sectors=98)
MAC = bytes.fromhex("5ccf7fddc142")
RUN_S, PROMPT_S = 60, 60
BOOT = b"with open('seen', 'w') as f:\n    f.write('by boot.py')\n"
LOOP = b"import time\nprint('it runs')\nwhile True:\n    time.sleep(0.01)\n"


@contextmanager
def board(files: dict[str, bytes] | None = None) -> Iterator[tuple[RawRepl, BenchLine, Chip]]:
    """A flashed board that was reset into its firmware; with `files` its filesystem was written as sectors."""
    chip = make_chip(mac=MAC, image=make_image(variant="1M"))
    if files is not None:
        made = make_filesystem(LAYOUT, files, ())
        assert made is not None
        chip.flash.data[LAYOUT.start_bytes : LAYOUT.start_bytes + LAYOUT.size_bytes] = made
    with VirtualBench(slots=1, pace=0, seed=1) as bench:
        bench.plug("A1", chip)
        stop = Stop()
        line = BenchOpener(bench).open(bench.attached()[0], 115200, stop)
        try:
            line.reset_board(BootInto.FIRMWARE)
            yield RawRepl(line, stop), line, chip
        finally:
            line.close()


def put(repl: RawRepl, path: str, content: bytes, salt: bytes = b"") -> None:
    """Write one file and give it its name."""
    for code in upload.write_runs(path, content, salt):
        said = repl.run(code, RUN_S)
    expected = hashlib.sha256(salt + content).hexdigest()
    assert upload.received_and_stored(said) == (expected, expected)
    upload.done(repl.run(upload.name_code(path + PART_SUFFIX, path), RUN_S))


def test_files_are_written_listed_hashed_replaced_and_removed():
    """Every piece of code does on MicroPython what it does in theory, and the flash holds it after a reset."""
    with board() as (repl, line, chip):
        repl.await_prompt(PROMPT_S)
        assert upload.listing(repl.run(upload.LIST_CODE, RUN_S)) == {"boot.py": False}
        upload.done(repl.run(upload.mkdir_code(["lib", "lib/deep"]), RUN_S))
        contents = {"a": bytes(range(256)) * 11, "lib/deep/b'\"": b"", "lib/c": b"print('MicroPython v1')\n"}
        for path, content in contents.items():
            put(repl, path, content, b"salt")
        put(repl, "a", b"anew")
        contents["a"] = b"anew"
        line.reset_board(BootInto.FIRMWARE)
        repl.await_prompt(PROMPT_S)
        there = {"boot.py": False, "a": False, "lib": True, "lib/c": False, "lib/deep": True, "lib/deep/b'\"": False}
        assert upload.listing(repl.run(upload.LIST_CODE, RUN_S)) == there
        plan = FilesPlan(files=tuple(SourceFile(path=path, content=contents[path], fill_in=True) for path in contents))
        target = target_of(plan)
        ((paths, code),) = upload.hash_runs(target, [*contents, "none", "lib"])
        assert upload.hashes(paths, repl.run(code, RUN_S)) == {**target.hashes, "none": None, "lib": None}
        gone = target_of(FilesPlan(delete=("lib", "boot.py"))).removals(there)
        upload.done(repl.run(upload.remove_code(gone), RUN_S))
        assert files_in(chip) == {"a": b"anew"}


def test_what_was_not_finished_is_not_there_after_a_reset():
    """A file whose last piece never came has no name, and its beginning was never flushed."""
    with board() as (repl, line, chip):
        repl.await_prompt(PROMPT_S)
        put(repl, "a", b"old" * 900)
        for code in upload.write_runs("a", b"new" * 900)[:-1]:
            repl.run(code, RUN_S)
        line.reset_board(BootInto.FIRMWARE)
        repl.await_prompt(PROMPT_S)
        assert files_in(chip)["a"] == b"old" * 900
        with pytest.raises(CheckRaised, match="NameError"):
            repl.run(upload.write_runs("a", b"new" * 900)[-1], RUN_S)


def test_a_board_shows_where_its_filesystem_lies():
    """Whether the firmware made it or the station did: block device and superblock agree on where it is."""
    for files in (None, {"boot.py": b""}):
        with board(files) as (repl, _, _):
            repl.await_prompt(PROMPT_S)
            assert layout_that_answers(repl.run(LAYOUT_CODE, RUN_S)) == LAYOUT


def test_what_was_written_as_sectors_is_what_the_firmware_mounts():
    """The firmware makes nothing of its own then, runs boot.py, and goes on writing in that filesystem."""
    with board({"boot.py": BOOT}) as (repl, _, chip):
        repl.await_prompt(PROMPT_S)
        put(repl, "more", b"and more")
        assert files_in(chip) == {
            "boot.py": BOOT,
            "seen": b"by boot.py",
            "more": b"and more",
        }


def test_a_filesystem_mounted_anew_shows_what_is_in_flash():
    """After naming a program it is mounted again without any start: what was named is there, and nothing ran."""
    with board({"boot.py": b"", f"main.py{upload.HELD_SUFFIX}": LOOP}) as (repl, _, chip):
        repl.await_prompt(PROMPT_S)
        upload.done(repl.run(upload.name_code(f"main.py{upload.HELD_SUFFIX}", "main.py"), RUN_S))
        upload.done(repl.run(upload.REMOUNT_CODE, RUN_S))
        assert upload.listing(repl.run(upload.LIST_CODE, RUN_S)) == {"boot.py": False, "main.py": False}
        assert repl.run("print(6*7)", RUN_S) == b"42\r\n"
        assert files_in(chip)["main.py"] == LOOP


def test_a_prompt_without_a_filesystem_gets_one_by_a_soft_reset():
    """Where nothing is mounted the listing says so; MicroPython's own soft reset mounts what is in flash."""
    with board({"boot.py": b""}) as (repl, _, _):
        repl.await_prompt(PROMPT_S)
        repl.run("import os\nos.umount('/')", RUN_S)
        assert upload.listing(repl.run(upload.LIST_CODE, RUN_S)) is None
        repl.soft_reset(PROMPT_S)
        assert upload.listing(repl.run(upload.LIST_CODE, RUN_S)) == {"boot.py": False}


def test_a_program_that_never_ends_is_interrupted_and_boot_py_is_not():
    """Its board comes to the prompt long before an unknown board is interrupted; what boot.py does was done by then."""
    slow = b"import time\ntime.sleep(0.5)\n" + BOOT
    with board({"boot.py": slow, "main.py": LOOP}) as (repl, _, chip):
        repl.await_prompt(1_000_000, programs=True)
        there = {"boot.py": False, "main.py": False, "seen": False}
        assert upload.listing(repl.run(upload.LIST_CODE, RUN_S)) == there
        assert files_in(chip)["seen"] == b"by boot.py"
