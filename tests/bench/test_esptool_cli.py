"""The unmodified esptool command line against a virtual board's tty: what it prints, how it exits, what is in flash."""

import asyncio
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from station.bench.chip import Chip, make_chip
from station.bench.faults import parse_fault
from station.bench.programmer import ProgrammerKind, VirtualProgrammer
from tests.bench.bench_rig import MAC, STICK, FakeFirmware, bootable_image

LIMIT_S = 60


class Bench:
    """Programmers on one event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="virtual bench")
        self._thread.start()
        self._plugged: list[VirtualProgrammer] = []

    def plug(self, chip: Chip, *, kind: ProgrammerKind = STICK) -> str:
        """Plug a board in; the path of its tty."""
        path: Future[str] = Future()
        programmer = VirtualProgrammer(chip=chip, boot_firmware=FakeFirmware, kind=kind, pace=0.0, seed=1)
        self._plugged.append(programmer)
        self._loop.call_soon_threadsafe(lambda: path.set_result(programmer.plug()))
        return path.result(LIMIT_S)

    def close(self) -> None:
        """Pull everything and end the thread."""

        def end() -> None:
            for programmer in self._plugged:
                programmer.unplug()
            self._loop.stop()

        self._loop.call_soon_threadsafe(end)
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        self._loop.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One bench for all the commands here."""
    running = Bench()
    yield running
    running.close()


def board(*tokens: str, image: bytes = b"") -> Chip:
    """A board with these faults."""
    return make_chip(mac=MAC, faults=tuple(parse_fault(token) for token in tokens), image=image)


def esptool(path: str, *arguments: str | Path) -> tuple[int, str]:
    """Run the CLI; its exit code and everything it printed."""
    command = [sys.executable, "-m", "esptool", "--port", path, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd="/")
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Seventy kilobytes, half of them compressible, not a multiple of anything."""
    path = tmp_path / "image.bin"
    path.write_bytes(random.Random(5).randbytes(35_000) + b"text text " * 3_500 + b"odd")
    return path


def in_flash(chip: Chip, path: Path, address: int = 0) -> bool:
    """Whether the file is in flash, padded to four bytes as esptool pads."""
    content = path.read_bytes()
    content = content.ljust(-(-len(content) // 4) * 4, b"\xff")
    return chip.flash.read(address, len(content)) == content


def test_identity_commands_one_after_the_other(bench: Bench) -> None:
    """One board answers flash-id, chip-id and read-mac in turn, each in a process of its own, with its identity."""
    path = bench.plug(board())
    code, said = esptool(path, "flash-id")
    assert code == 0, said
    assert re.search(r"Manufacturer: ef\nDevice: 4014\nDetected flash size: 1MB", said)
    assert "Crystal frequency:  26MHz" in said
    assert "Chip type:          ESP8266EX" in said
    code, said = esptool(path, "chip-id")
    assert (code, "Chip ID: 0x00ddc142" in said) == (0, True), said
    code, said = esptool(path, "read-mac")
    assert (code, said.count("5c:cf:7f:dd:c1:42")) == (0, 2), said


def test_identity_without_a_stub(bench: Bench) -> None:
    """The ROM alone gives flash id and MAC."""
    path = bench.plug(board("puya"))
    code, said = esptool(path, "--no-stub", "flash-id")
    assert (code, "Manufacturer: 85\nDevice: 6014" in said) == (0, True), said


@pytest.mark.parametrize(
    ("options", "write_options"),
    [
        (("--stub-version", "2", "--baud", "460800"), ()),
        (("--stub-version", "2", "--baud", "921600"), ("-u",)),
        (("--stub-version", "1", "--baud", "921600"), ()),
        (("--stub-version", "1", "--baud", "460800"), ("-u",)),
        (("--stub-version", "2"), ("--erase-all",)),
        (("--no-stub",), ()),
        (("--no-stub", "--chip", "esp8266"), ("--flash-mode", "keep")),
    ],
)
def test_write_flash(bench: Bench, image: Path, options: tuple[str, ...], write_options: tuple[str, ...]) -> None:
    """Over old content the file is in flash byte for byte, whatever stub, baud and compression; the MD5 agrees."""
    chip = board()
    chip.flash.data[:] = bytes(len(chip.flash.data))
    code, said = esptool(bench.plug(chip), *options, "write-flash", *write_options, "0x11000", image)
    assert code == 0, said
    assert in_flash(chip, image, 0x11000)
    assert ("Hash of data verified." in said) == ("--no-stub" not in options)
    if "--baud" in options:
        assert "Changed." in said
    assert (chip.flash.data[0xF000] == 0) == ("--erase-all" not in write_options), "before the file nothing is touched"


@pytest.mark.parametrize("version", ["1", "2"])
def test_verify_and_read_flash(bench: Bench, image: Path, tmp_path: Path, version: str) -> None:
    """What was written verifies, a changed byte does not, and read-flash brings the bytes of the cells."""
    chip = board()
    path = bench.plug(chip)
    stub = ("--stub-version", version, "--baud", "921600")
    assert esptool(path, *stub, "write-flash", "0", image)[0] == 0
    code, said = esptool(path, *stub, "verify-flash", "0", image)
    assert (code, "Verification successful" in said) == (0, True), said
    chip.flash.data[4321] ^= 0x10
    code, said = esptool(path, *stub, "verify-flash", "0", image)
    assert (code, "Verification failed" in said) == (2, True), said
    read = tmp_path / "read.bin"
    code, said = esptool(path, *stub, "read-flash", "0x100", "0x11234", read)
    assert code == 0, said
    assert read.read_bytes() == chip.flash.read(0x100, 0x11234)


def test_erase_flash_and_region(bench: Bench) -> None:
    """Chip and region become ones, and nothing else does."""
    chip = board()
    chip.flash.data[:] = bytes(len(chip.flash.data))
    path = bench.plug(chip)
    assert esptool(path, "erase-region", "0x1000", "0x12000")[0] == 0
    assert chip.flash.data == bytes(0x1000) + b"\xff" * 0x12000 + bytes(0xED000)
    assert esptool(path, "--stub-version", "1", "erase-flash")[0] == 0
    assert chip.flash.data == b"\xff" * (1 << 20)


def test_skip_flashed_and_diff_with(bench: Bench, image: Path, tmp_path: Path) -> None:
    """What is there already is skipped by the chip's MD5; with the former file only the changed sector is written."""
    chip = board()
    path = bench.plug(chip)
    assert esptool(path, "write-flash", "0", image)[0] == 0
    programs = chip.flash.programs
    code, said = esptool(path, "write-flash", "--skip-flashed", "0", image)
    assert (code, "already in flash, skipping write" in said) == (0, True), said
    assert chip.flash.programs == programs
    changed = tmp_path / "changed.bin"
    content = bytearray(image.read_bytes())
    content[9000] ^= 0xFF
    changed.write_bytes(content)
    code, said = esptool(path, "write-flash", "--diff-with", image, "--", "0", changed)
    assert (code, "Reflashing 1 changed sector at 0x00002000" in said) == (0, True), said
    assert in_flash(chip, changed)
    assert chip.flash.programs == programs + 16


def test_a_bootable_image_is_booted_after_it_was_written(bench: Bench, tmp_path: Path) -> None:
    """With the switch on auto the loader is gone once a bootable image is there: the next esptool finds none."""
    chip = board()
    path = bench.plug(chip, kind=replace(STICK, jumper_low=None))
    firmware = tmp_path / "firmware.bin"
    firmware.write_bytes(bootable_image(flash_mode=2))
    code, said = esptool(path, "write-flash", "--flash-mode", "dout", "--flash-size", "detect", "0", firmware)
    assert code == 0, said
    assert chip.flash.data[2:4] == b"\x03\x20"
    assert chip.bootable
    code, said = esptool(path, "--connect-attempts", "1", "chip-id")
    assert (code, "Failed to connect to ESP8266" in said or "Failed to connect to Espressif" in said) == (2, True), said


@pytest.mark.parametrize(
    ("token", "wrong"),
    [
        ("bad_md5", "MD5 of file does not match data in flash!"),
        ("worn", "MD5 of file does not match data in flash!"),
        ("write_protected", "Write failed, the written flash region is empty."),
        ("no_answer", "No serial data received."),
        ("echo", "Failed to connect"),
        ("wrong_chip", "This chip is ESP32, not ESP8266. Wrong chip argument?"),
        ("small_flash", "will not fit in 524288 bytes of flash"),
        ("flash_dead", "Failed to communicate with the flash chip"),
        ("bad_mac@oui", "Unknown OUI"),
    ],
)
def test_esptool_sees_the_faults(bench: Bench, image: Path, token: str, wrong: str) -> None:
    """A faulty board makes esptool fail with the words it has for that fault."""
    path = bench.plug(board(token))
    address = "0x78000" if token == "small_flash" else "0"
    options = ("--chip", "esp8266", "--connect-attempts", "1")
    code, said = esptool(path, *options, "write-flash", address, image)
    assert code == 2, said
    assert wrong in re.sub(r"\s+", " ", said)
