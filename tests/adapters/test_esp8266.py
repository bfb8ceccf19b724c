"""The loader conversation, through the real esptool: against virtual boards, and against peers that answer by script."""

import contextlib
import functools
import hashlib
import inspect
import os
import select
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import esptool
import pytest
from esptool import cmds, config, loader, logger, util
from esptool.targets.esp8266 import ESP8266ROM, ESP8266StubLoader

from station.adapters.compressed import BLOCK_BYTES, MAX_IMAGES, CompressedImages
from station.adapters.esp8266 import Esp8266Loader, EsptoolFlasher
from station.adapters.esptool_library import library
from station.adapters.line import SerialLine
from station.adapters.link_evidence import BOOT_MESSAGE_BYTES, PROBE, why_broken, why_no_loader
from station.adapters.otp import identity_from_otp
from station.bench.chip import otp_words
from station.errors import (
    BoardRestarted,
    FirmwareAnswers,
    IdentityInvalid,
    LineStopped,
    LinkCorrupt,
    LinkEcho,
    LinkError,
    LinkSilent,
    LoaderMute,
    LoaderRefused,
    PortGone,
    WrongChip,
)
from station.model import FlashChip, Identity, StopCause, format_mac
from station.ports import Flasher, Loader
from tests.adapters.esp8266_rig import IMAGE, JUMPERED, RUNNING, SYNC, Bench, into_stub, nothing

T = TypeVar("T")
IMAGE_MD5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
WINBOND_1M = 0x1440EF


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Give a bench without programmers."""
    with Bench() as made:
        yield made


# --- peers that answer by script -----------------------------------------------------------------------------------

Answers = Callable[[int, bytes], list[bytes]]
"""From opcode and body to the answers' payloads, unframed."""


def ok(op: int, value: int = 0, status: bytes = b"\0\0") -> bytes:
    """One answer of a loader."""
    return struct.pack("<BBHI", 1, op, len(status), value) + status


def unslip(frame: bytes) -> bytes:
    """Take the escapes out of a frame."""
    return frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")


def slip(payload: bytes) -> bytes:
    """Frame a payload."""
    return b"\xc0" + payload.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


@contextlib.contextmanager
def scripted(answers: Answers) -> Iterator[Esp8266Loader]:
    """A loader on a pty whose other end answers SYNC as the ROM does, and everything else by script."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    line = SerialLine(os.ttyname(slave), baud=115200)
    os.close(slave)

    def play() -> None:
        heard = b""
        while chunk := _wait_and(lambda: os.read(master, 65536), master, select.POLLIN):
            heard += chunk
            while heard.count(b"\xc0") >= 2:
                frame, heard = heard.split(b"\xc0", 2)[1:]
                payload = unslip(frame)
                op, body = payload[1], payload[8:]
                said = [ok(op, 0x20120707)] * 8 if op == 0x08 else answers(op, body)
                rest = b"".join(map(slip, said))
                while rest and (count := _wait_and(functools.partial(os.write, master, rest), master, select.POLLOUT)):
                    rest = rest[count:]

    player = threading.Thread(target=play)
    player.start()
    try:
        yield EsptoolFlasher().loader(line)
    finally:
        line.close()
        player.join()
        os.close(master)


def _wait_and(act: Callable[[], T], descriptor: int, event: int) -> T | None:
    """Read or write when that is possible; None when the other end was closed."""
    poller = select.poll()
    poller.register(descriptor, event)
    if any(happened & select.POLLHUP for _, happened in poller.poll()):
        return None
    return act()


def registers(**values: int) -> Answers:
    """Answer READ_REG by address (hexadecimal, after an x), the ESP8266's magic included."""
    table = {0x40001000: 0xFFF0C101} | {int(name[1:], 16): value for name, value in values.items()}
    return lambda op, body: [ok(op, table[struct.unpack("<I", body[:4])[0]])]


# --- the contract with esptool -------------------------------------------------------------------------------------

SIGNATURES: list[tuple[Any, list[str]]] = [
    (ESP8266ROM.__init__, ["self", "port", "baud", "trace_enabled"]),
    (ESP8266ROM.flush_input, ["self"]),
    (ESP8266ROM.sync, ["self"]),
    (ESP8266ROM.command, ["self", "op", "data", "chk", "wait_response", "timeout"]),
    (ESP8266ROM.check_command, ["self", "op_description", "op", "data", "chk", "resp_data_len", "timeout"]),
    (ESP8266ROM.read_reg, ["self", "addr", "timeout"]),
    (ESP8266ROM.run_stub, ["self", "stub"]),
    (ESP8266ROM.flash_id, ["self", "cache"]),
    (ESP8266ROM.flash_set_parameters, ["self", "size"]),
    (ESP8266ROM.flash_begin, ["self", "size", "offset", "encrypted_write", "logging"]),
    (ESP8266ROM.write_status, ["self", "new_status", "num_bytes", "set_non_volatile"]),
    (ESP8266ROM.checksum, ["data", "state"]),
    (ESP8266StubLoader.__init__, ["self", "rom_loader"]),
    (ESP8266StubLoader.flash_defl_begin, ["self", "size", "compsize", "offset", "encrypted_write"]),
    (ESP8266StubLoader.flash_defl_finish, ["self", "reboot", "timeout"]),
    (ESP8266StubLoader.flash_md5sum, ["self", "addr", "size"]),
    (ESP8266StubLoader.erase_flash, ["self"]),
    (ESP8266StubLoader.erase_region, ["self", "offset", "size"]),
    (ESP8266StubLoader.read_flash, ["self", "offset", "length", "progress_fn"]),
    (loader.StubFlasher.__init__, ["self", "target", "plugins"]),
    (cmds.attach_flash, ["esp", "spi_connection", "flash_type"]),
    (cmds.detect_flash_size, ["esp"]),
    (util.flash_size_bytes, ["size"]),
    (config.load_config_file, ["verbose"]),
]
VALUES: list[tuple[Any, str, object]] = [
    (ESP8266ROM, "MAGIC_VALUE", 0xFFF0C101),
    (ESP8266ROM, "CHIP_DETECT_MAGIC_REG_ADDR", 0x40001000),
    (ESP8266ROM, "UART_CLKDIV_REG", 0x60000014),
    (ESP8266ROM, "UART_CLKDIV_MASK", 0xFFFFF),
    (ESP8266ROM, "IS_STUB", False),
    (ESP8266ROM, "STUB_CLASS", ESP8266StubLoader),
    (ESP8266ROM, "sync_stub_detected", False),
    (ESP8266StubLoader, "IS_STUB", True),
    (ESP8266StubLoader, "FLASH_WRITE_SIZE", BLOCK_BYTES),
    (loader, "DEFAULT_TIMEOUT", 3),
    (loader, "ERASE_WRITE_TIMEOUT_PER_MB", 40),
    (loader, "CHIP_ERASE_TIMEOUT", 120),
    (loader, "MD5_TIMEOUT_PER_MB", 8),
    (loader, "SYNC_TIMEOUT", 0.1),
]


def parameters(function: Any) -> list[str]:
    """The parameter names of a function, also of one behind esptool's `stub_function_only`."""
    behind = inspect.getclosurevars(function).nonlocals.get("func", function)
    return list(inspect.signature(behind).parameters)


@pytest.mark.parametrize(("function", "expected"), SIGNATURES, ids=lambda item: getattr(item, "__qualname__", ""))
def test_esptool_has_the_functions_we_call(function: Any, expected: list[str]) -> None:
    """Every function of esptool that we call takes what we give it."""
    name = f"{function.__module__}.{function.__qualname__}"
    assert parameters(function) == expected, f"esptool {esptool.__version__} changed the parameters of {name}"


@pytest.mark.parametrize(("owner", "name", "value"), VALUES, ids=lambda item: item if isinstance(item, str) else "")
def test_esptool_has_the_values_we_rely_on(owner: Any, name: str, value: object) -> None:
    """Every constant of esptool that we read or that our time limits assume is what it was."""
    assert getattr(owner, name) == value, f"esptool {esptool.__version__} changed {owner.__name__}.{name}"


def stub_of(version: str) -> Any:
    """One version of the stub, as esptool itself chooses it."""
    chooser: Any = type("Chooser", (loader.StubFlasher,), {})
    chooser.set_stub_subdir(version)
    return chooser(ESP8266ROM)


def test_esptool_has_the_opcodes_and_hooks_we_use() -> None:
    """The opcodes sent by our own hand, what a logger has to have, the stubs and the failure's type are there."""
    says = f"esptool {esptool.__version__} changed"
    ours = {"FLASH_END": 0x04, "CHANGE_BAUDRATE": 0x0F, "FLASH_DEFL_DATA": 0x11, "RUN_USER_CODE": 0xD3}
    assert {name: ESP8266ROM.ESP_CMDS.get(name) for name in ours} == ours, f"{says} its opcodes"
    hooks = {"print", "note", "warning", "error", "stage", "progress_bar", "set_verbosity"}
    assert logger.TemplateLogger.__abstractmethods__ == hooks, f"{says} what a custom logger has to have"
    assert issubclass(util.FatalError, Exception), f"{says} FatalError"
    assert not issubclass(util.FatalError, OSError), f"{says} FatalError"
    sizes = {version: len(stub_of(version).text) for version in ("1", "2")}
    assert sizes == {"1": 8276, "2": 11456}, f"{says} its stubs"
    assert len(library().stub_program.text) == sizes["2"]
    assert len(library().legacy_stub_program.text) == sizes["1"]
    assert config._CONFIG.env_var == "ESPTOOL_CFGFILE", f"{says} the variable that names its configuration"


def test_esptool_has_the_places_that_we_silence(tmp_path: Path) -> None:
    """Where the logger is installed and the trace formatted: looked at in a process whose esptool nobody silenced yet."""
    code = (
        "from esptool import loader, logger; "
        "print(callable(logger.log.set_logger), '__str__' in vars(loader.HexFormatter), str(loader.HexFormatter(b'A')))"
    )
    done = run_in(tmp_path, code)
    assert done.stdout == "True True 41\n", (
        f"esptool {esptool.__version__} changed its logger or its trace: {done.stderr}"
    )


def test_the_flasher_fits_the_ports(bench: Bench) -> None:
    """The adapters are what the Protocols ask for; another kind of line is refused."""
    flasher: Flasher = bench.flasher
    programmer, path = bench.plug()
    board: Loader = flasher.loader(bench.open(programmer, path))
    assert isinstance(board, Esp8266Loader)
    assert flasher.version == esptool.__version__
    not_a_line: Any = object()
    with pytest.raises(TypeError, match="needs a SerialLine"):
        flasher.loader(not_a_line)


# --- esptool as a library ------------------------------------------------------------------------------------------

PRINT_LIMITS = (
    "import os; from station.adapters.esptool_library import library; lib = library(); "
    "print(lib.default_timeout_s, lib.erase_write_timeout_s_per_mb, os.environ.get('ESPTOOL_CFGFILE'))"
)


def run_in(directory: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in that working directory, with this project importable."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(root), "HOME": str(directory), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hostile_configuration_changes_nothing(tmp_path: Path) -> None:
    """An esptool.cfg in the working directory or named by the environment has no effect, and the variable is kept."""
    hostile = "[esptool]\ntimeout = 99\nerase_write_timeout_per_mb = 1\ncustom_reset_sequence = D1|R1|W9\n"
    (tmp_path / "esptool.cfg").write_text(hostile, encoding="ascii")
    (tmp_path / "named.cfg").write_text(hostile, encoding="ascii")
    for environment in ({}, {"ESPTOOL_CFGFILE": str(tmp_path / "named.cfg")}):
        done = run_in(tmp_path, PRINT_LIMITS, **environment)
        assert done.stderr == ""
        assert done.stdout.split() == ["3", "40", environment.get("ESPTOOL_CFGFILE", "None")]


def test_a_configuration_that_was_read_before_is_refused(tmp_path: Path) -> None:
    """If somebody imported esptool first and it found a configuration, that file is named and nothing goes on."""
    (tmp_path / "esptool.cfg").write_text("[esptool]\ntimeout = 99\n", encoding="ascii")
    done = run_in(tmp_path, f"import esptool; {PRINT_LIMITS}")
    assert done.returncode == 1
    assert f"ConfigurationError: {tmp_path / 'esptool.cfg'}: esptool has read it" in done.stderr


def test_importing_the_adapter_does_not_import_esptool(tmp_path: Path) -> None:
    """The slow import is made when the first board comes, not when the station starts."""
    done = run_in(tmp_path, "import sys, station.adapters.esp8266; print('esptool' in sys.modules)")
    assert done.stdout == "False\n"


def test_nothing_is_printed(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """Not a word of esptool reaches the terminal, neither of its progress nor of its warnings."""
    board, _, _ = bench.board()
    into_stub(board)
    board.read_flash_chip()
    board.write(0, IMAGE[:50000], nothing)
    silent, _, _ = bench.board("no_answer", number=2)
    with pytest.raises(LinkSilent):
        silent.connect(1)
    logger.log.warn("a warning")
    with logger.log.progress(total=3) as progress:
        progress.update(1)
    assert capfd.readouterr() == ("", "")


def test_the_trace_formats_nothing() -> None:
    """The hex dump of every frame, most of the processor time of a flash, is not made."""
    library()
    assert str(loader.HexFormatter(b"\xc0" * 1000)) == ""


# --- evidence ------------------------------------------------------------------------------------------------------

GARBAGE = bytes(range(128, 256)) * 2
NO_LOADER: list[tuple[str, bytes, bytes, type[LinkError]]] = [
    ("nothing", SYNC * 5, b"", LinkSilent),
    ("own bytes", SYNC * 5 + PROBE, SYNC * 5 + PROBE, LinkEcho),
    ("own bytes, the last still under way", SYNC * 5 + PROBE, SYNC * 4, LinkEcho),
    ("a REPL that echoes what can be printed", SYNC + b"\r\n", b" " + b"U" * 32 + b"\r\n>>> ", FirmwareAnswers),
    ("a REPL in raw mode", SYNC, b"raw REPL; CTRL-B to exit\r\n>", FirmwareAnswers),
    ("a banner in garbage", SYNC, GARBAGE + b"MicroPython v1.27.0 on" + GARBAGE, FirmwareAnswers),
    ("another firmware", SYNC, GARBAGE + b"\r\nready: AT version 1.7.4\r\n", FirmwareAnswers),
    ("a start from flash", SYNC, b"ets Jan  8 2013,rst cause:2, boot mode:(3,6)\r\n", FirmwareAnswers),
    ("a start into the loader", SYNC, b"ets Jan  8 2013,rst cause:2, boot mode:(1,7)\r\n", LoaderMute),
    ("only the letters of SYNC", SYNC, b" " + b"U" * 32, LinkCorrupt),
    ("garbage", SYNC, GARBAGE, LinkCorrupt),
    ("an AT firmware that starts", SYNC, GARBAGE + b"\r\nready\r\n", FirmwareAnswers),
    ("an AT firmware that echoes all of it", SYNC + PROBE, SYNC + b"\r\n\r\nERROR\r\n", FirmwareAnswers),
    ("a first start", SYNC, b"Performing initial setup\r\n", FirmwareAnswers),
    ("a word that ends like an answer", SYNC, b"alREADready\r\n", LinkCorrupt),
    ("a part of our own bytes and garbage", SYNC, SYNC[:20] + GARBAGE, LinkCorrupt),
]
BROKEN: list[tuple[str, bytes, bytes, type[LinkError]]] = [
    ("nothing", b"\xc0\x00\x0a", b"", LinkSilent),
    ("the ROM's first words", b"\xc0\x00\x0a", GARBAGE + b"\r\n ets Jan  8 2013,rst cause:1", BoardRestarted),
    ("a firmware's prompt", b"\xc0\x00\x0a", b"\r\n>>> ", BoardRestarted),
    ("own bytes", SYNC, SYNC, LinkEcho),
    ("half an answer", b"\xc0\x00\x0a", b"\xc0\x01\x0a\x02", LinkCorrupt),
    ("garbage as short as an answer", b"\xc0\x00\x0a", GARBAGE[: BOOT_MESSAGE_BYTES - 1], LinkCorrupt),
    ("garbage as long as a boot message", b"\xc0\x00\x0a", GARBAGE[:BOOT_MESSAGE_BYTES], BoardRestarted),
]
LEFT_OVER: list[tuple[bytes, type[LinkError]]] = [
    (b"", LinkSilent),
    (b"\xc0\x01\x0a\xc0", LinkSilent),
    (b"\xc0\x01\x08\xc0" * 8, LinkSilent),
    (b"\xc0\x01\x0a\xc0" + GARBAGE[:9], LinkCorrupt),
    (b"\xc0\x01\x0a\xc0" + GARBAGE, BoardRestarted),
    (b"\xc0\x01\x0a\xc0\r\n ets Jan  8 2013,rst cause:1", BoardRestarted),
]


@pytest.mark.parametrize(
    ("sent", "received", "verdict"), [case[1:] for case in NO_LOADER], ids=[c[0] for c in NO_LOADER]
)
def test_why_there_is_no_loader(sent: bytes, received: bytes, verdict: type[LinkError]) -> None:
    """What came back where a loader was wanted says which of the faults it is, and nothing more than it shows."""
    error = why_no_loader(sent=sent, received=received)
    assert type(error) is verdict
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("received", "micropython"),
    [
        (b" " + b"U" * 32 + b"\r\n>>> ", True),
        (b"raw REPL; CTRL-B to exit\r\n>", True),
        (GARBAGE + b"\r\nMicroPython v1.27.0 on", True),
        (b"Performing initial setup\r\n", True),
        (b"MPY: soft reboot\r\n", True),
        (b"\r\nready\r\n", False),
        (b"ets Jan  8 2013,rst cause:2, boot mode:(3,6)\r\n", False),
        (b"Sensor node 7 is up and running\r\n", False),
    ],
)
def test_only_a_micropython_is_called_one(received: bytes, *, micropython: bool) -> None:
    """A firmware is MicroPython only by its own words; any other can be nothing but flashed."""
    error = why_no_loader(sent=SYNC, received=received)
    assert isinstance(error, FirmwareAnswers)
    assert error.micropython is micropython


@pytest.mark.parametrize(("sent", "answer", "verdict"), [case[1:] for case in BROKEN], ids=[c[0] for c in BROKEN])
def test_why_a_conversation_broke(sent: bytes, answer: bytes, verdict: type[LinkError]) -> None:
    """What came after a request that was not answered says why, together with what we were doing."""
    error = why_broken("erase the flash", sent=sent, answer=answer)
    assert type(error) is verdict
    assert str(error).startswith("erase the flash: ")


@pytest.mark.parametrize(("before", "verdict"), LEFT_OVER)
def test_what_was_left_over_counts(before: bytes, verdict: type[LinkError]) -> None:
    """Bytes that stood behind the last good answer are evidence, although they came before the request."""
    error = why_broken("write block 11", sent=b"\xc0\x00\x11", answer=b"", before=before)
    assert type(error) is verdict


# --- identity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "mac", "chip_id"),
    [
        ((0x42000000, 0x0000DDC1, 0x8000, 0x005CCF7F), "5c:cf:7f:dd:c1:42", 0x00DDC142),
        ((0x42FFFFFF, 0xFF00DDC1, 0x8000, 0xFF5CCF7F), "5c:cf:7f:dd:c1:42", 0x00DDC142),
        ((0x42000000, 0x0000DDC1, 0x8000, 0), "18:fe:34:dd:c1:42", 0x00DDC142),
        ((0x42000000, 0x0001DDC1, 0x8000, 0), "ac:d0:74:dd:c1:42", 0x00DDC142),
        ((0x00000000, 0x00000001, 0x8000, 0x005CCF7F), "5c:cf:7f:00:01:00", 0x00000100),
    ],
)
def test_identity_by_the_rule(words: tuple[int, int, int, int], mac: str, chip_id: int) -> None:
    """MAC and chip ID follow from the OTP words as esptool's own rule has it; bits beside them do not matter."""
    assert identity_from_otp(words) == Identity(mac=mac, chip_id=chip_id, otp_words=words)


@pytest.mark.parametrize(
    "words",
    [
        (0, 0, 0, 0),
        (0xFFFFFFFF,) * 4,
        (0, 0, 0x8000, 0x005CCF7F),
        (0xFF000000, 0x0000FFFF, 0x8000, 0x005CCF7F),
        (0x42000000, 0x0000DDC1, 0x8000, 0x0001005E),
        (0x42000000, 0x0000DDC1, 0x8000, 0x01000000),
        (0x42000000, 0x0002DDC1, 0x8000, 0),
    ],
    ids=["blank", "ones", "number zero", "number ones", "multicast", "OUI zero", "unknown selector"],
)
def test_identity_that_is_none(words: tuple[int, int, int, int]) -> None:
    """Words that name no factory address are refused, and what was read is kept for the record."""
    with pytest.raises(IdentityInvalid) as invalid:
        identity_from_otp(words)
    assert invalid.value.observed


def test_identity_agrees_with_esptool(bench: Bench) -> None:
    """Our reading of a board and esptool's own are the same."""
    board, line, _ = bench.board(number=0x42)
    board.connect(2)
    identity = board.read_identity()
    rom = ESP8266ROM(line, 115200)
    assert identity.mac == format_mac(bytes(rom.read_mac())) == "5c:cf:7f:dd:c1:42"
    assert identity.chip_id == rom.chip_id() & 0xFFFFFF
    assert identity.otp_words == tuple(otp_words(bytes.fromhex("5ccf7fddc142")).values())


# --- compressed images ---------------------------------------------------------------------------------------------


def test_blocks_inflate_to_the_image() -> None:
    """The blocks are one deflate stream of the image, padded to whole words, and each knows what it brings."""
    data = IMAGE[:100_001]
    image = CompressedImages().of(data)
    stream = b"".join(block.payload for block in image.blocks)
    assert zlib.decompress(stream) == data + b"\xff" * 3
    assert (image.size_bytes, image.compressed_bytes) == (100_004, len(stream))
    assert sum(block.inflated_bytes for block in image.blocks) == 100_004
    assert all(len(block.payload) == BLOCK_BYTES for block in image.blocks[:-1])


def test_an_image_is_compressed_once_for_all() -> None:
    """Sixteen threads that ask for the same content get the very same blocks; few images are kept."""
    images = CompressedImages()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: images.of(bytes(IMAGE[:200_000])), range(16)))
    assert all(image is made[0] for image in made)
    for number in range(2 * MAX_IMAGES):
        images.of(b"%d" % number)
    assert len(images._images) == MAX_IMAGES
    assert images.of(IMAGE[:200_000]) == made[0]


# --- a whole conversation ------------------------------------------------------------------------------------------


def flash(board: Esp8266Loader, progress: list[int]) -> tuple[Identity, FlashChip, str]:
    """Do what a job does to a good board."""
    board.connect(2)
    identity = board.read_identity()
    board.start_stub()
    board.set_baud(460800)
    chip = board.read_flash_chip()
    board.erase_chip()
    board.write(0, IMAGE, progress.append)
    return identity, chip, board.md5(0, len(IMAGE))


def test_a_good_board(bench: Bench) -> None:
    """Connect, identity, stub, baud, flash id, erase, write and MD5: the flash holds the image and blank cells."""
    board, line, chip = bench.board()
    chip.flash.data[:] = bytes(len(chip.flash.data))
    progress: list[int] = []
    identity, flash_chip, md5 = flash(board, progress)
    assert (identity.mac, identity.chip_id) == ("5c:cf:7f:dd:c1:01", 0xDDC101)
    assert flash_chip == FlashChip(jedec_id=WINBOND_1M, size_bytes=1 << 20)
    assert md5 == IMAGE_MD5
    assert bytes(chip.flash.data) == IMAGE.ljust(1 << 20, b"\xff")
    assert progress == sorted(progress)
    assert progress[0] == 0
    assert progress[-1] == len(IMAGE)
    assert line.baudrate == 460800


def test_progress_is_never_ahead_of_the_flash(bench: Bench) -> None:
    """What is reported as written is written at that moment."""
    board, _, chip = bench.board()
    into_stub(board)
    board.erase_chip()
    ahead: list[int] = []

    def check(done: int) -> None:
        if bytes(chip.flash.data[:done]) != IMAGE[:done]:
            ahead.append(done)

    board.write(0, IMAGE, check)
    assert ahead == []


def test_eight_boards_at_once(bench: Bench) -> None:
    """Eight threads flash eight boards through one flasher: each is itself, and all hold the image."""
    boards = [bench.board(number=number) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda board: flash(board[0], []), boards))
    assert [identity.mac for identity, _, _ in results] == [f"5c:cf:7f:dd:c1:{number:02x}" for number in range(1, 9)]
    assert {md5 for _, _, md5 in results} == {IMAGE_MD5}
    assert {bytes(chip.flash.data) for _, _, chip in boards} == {IMAGE.ljust(1 << 20, b"\xff")}


def test_a_region_elsewhere(bench: Bench) -> None:
    """A region is written where it belongs, whatever its length, and its MD5 is that of its own bytes."""
    board, _, chip = bench.board()
    into_stub(board)
    done: list[int] = []
    board.write(0xFB000, b"sdk parameters", done.append)
    assert bytes(chip.flash.data[0xFB000:0xFB010]) == b"sdk parameters\xff\xff"
    assert board.md5(0xFB000, 14) == hashlib.md5(b"sdk parameters", usedforsecurity=False).hexdigest()
    assert done == [0, 14]


def test_writes_that_make_no_sense(bench: Bench) -> None:
    """Nothing is written for no data; an offset inside a sector, or a write without the stub, is our own mistake."""
    board, line, _ = bench.board()
    board.connect(2)
    with pytest.raises(RuntimeError, match="needs the flasher stub"):
        board.write(0, b"x", nothing)
    board.start_stub()
    sent = line.sent_bytes
    board.write(0, b"", nothing)
    with pytest.raises(ValueError, match="not at the start of a sector"):
        board.write(0x10, b"x", nothing)
    assert line.sent_bytes == sent


@pytest.mark.parametrize("baud", [115200, 230400, 460800, 921600, 1500000, 2000000])
def test_rates_are_rounded_and_not_cut_off(bench: Bench, baud: int) -> None:
    """Every rate of the ladder and beyond is within 2 %, where the stub's own arithmetic would be 4 % off at 2 M.

    The board's own rate is looked at. A SYNC would tell less, and esptool gives it 0.1 s of real time, which a thread on a
    busy machine does not always have.
    """
    programmer, path = bench.plug()
    line = bench.open(programmer, path)
    into_stub(bench.flasher.loader(line), baud)
    assert line.baudrate == baud
    chip = programmer._board
    assert chip is not None
    assert chip.hears(baud, 0.02)
    assert not chip.hears(baud * 1.05, 0.02)


def test_rates_may_be_changed_again(bench: Bench) -> None:
    """A second change, up or down, works too: the stub takes it for granted that we come from 115200, we do not."""
    board, line, _ = bench.board()
    into_stub(board, 460800)
    for baud in (230400, 921600, 115200, 460800):
        board.set_baud(baud)
        assert line.baudrate == baud
        board.read_flash_chip()


# --- the flash chip ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "jedec_id", "size_bytes"),
    [
        ("", WINBOND_1M, 1 << 20),
        ("puya", 0x146085, 1 << 20),
        ("small_flash", 0x1340EF, 512 << 10),
        ("flash_unknown", 0x7F40EF, None),
        ("flash_dead", 0xFFFFFF, None),
        ("flash_dead@000000", 0x000000, None),
    ],
)
@pytest.mark.parametrize("with_stub", [True, False])
def test_flash_chip(bench: Bench, fault: str, jedec_id: int, size_bytes: int | None, *, with_stub: bool) -> None:
    """Id and size are told as they are, through ROM and stub; a flash that is dead or unknown has no size."""
    board, _, _ = bench.board(fault)
    board.connect(2)
    if with_stub:
        board.start_stub()
    assert board.read_flash_chip() == FlashChip(jedec_id=jedec_id, size_bytes=size_bytes)


def test_write_protection_is_cleared_for_good(bench: Bench) -> None:
    """A protection that can be cleared is gone afterwards, and not only until the next reset."""
    board, line, chip = bench.board()
    into_stub(board)
    chip.flash.status = 0x1C
    line.written.clear()
    board.clear_write_protection()
    assert struct.pack("<I", 0x7000_0006) in b"".join(data for _, data in line.written), "WREN was not sent"
    assert chip.flash.status & 0x1C == 0


def test_write_protection_that_is_locked_stays(bench: Bench) -> None:
    """A flash whose protection is locked takes the commands and keeps its content; the MD5 tells."""
    board, _, chip = bench.board("write_protected")
    into_stub(board)
    board.clear_write_protection()
    assert chip.flash.status & 0x1C
    board.erase_chip()
    board.write(0, IMAGE[:8192], nothing)
    assert board.md5(0, 8192) == hashlib.md5(b"\xff" * 8192, usedforsecurity=False).hexdigest()


# --- faults of the board and the link ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "verdict", "present"),
    [("no_answer", LinkSilent, False), ("run_mode", FirmwareAnswers, True), ("echo", LinkEcho, False)],
)
def test_no_loader_there(bench: Bench, fault: str, verdict: type[LinkError], *, present: bool) -> None:
    """A silent socket, a running firmware and an echo are told apart, and so is whether a board is there."""
    board, line, _ = bench.board(fault, image=IMAGE)
    with pytest.raises(verdict) as broken:
        board.connect(1)
    assert type(broken.value) is verdict
    assert line.baudrate == 115200
    assert board.answers_as() is None
    assert board.probe_presence() is present


def test_a_running_firmware_without_reset_lines(bench: Bench) -> None:
    """Wired by hand, a board that runs its firmware is recognised by the prompt it gives to an empty line."""
    board, line, _ = bench.board(kind=RUNNING, image=IMAGE)
    assert line.has_reset_lines is False
    line.pause(0.2)
    line.discard_input()
    with pytest.raises(FirmwareAnswers, match=">>> "):
        board.connect(1)
    assert board.probe_presence() is None


@pytest.mark.parametrize(
    ("fault", "verdict", "answers", "present"),
    [
        ("drop@40", LinkSilent, None, True),
        ("removed@40", LinkSilent, None, False),
        ("reset@40", BoardRestarted, None, True),
    ],
)
def test_breaks_in_mid_write(
    bench: Bench, fault: str, verdict: type[LinkError], answers: str | None, *, present: bool
) -> None:
    """A board that stops, is lifted or resets itself leaves the evidence by which they are told apart."""
    board, _, _ = bench.board(fault)
    into_stub(board)
    board.erase_chip()
    with pytest.raises(verdict) as broken:
        board.write(0, IMAGE, nothing)
    assert type(broken.value) is verdict
    assert board.answers_as() == answers
    assert board.probe_presence() is present


def test_a_board_that_reset_itself_into_its_loader(bench: Bench) -> None:
    """With GPIO0 held by hand the ROM answers where the stub was: the board reset itself, and can be used on."""
    board, _, chip = bench.board("reset@40", kind=JUMPERED)
    into_stub(board)
    with pytest.raises(BoardRestarted):
        board.write(0, IMAGE, nothing)
    assert board.answers_as() == "rom"
    board.start_stub()
    written = bytes(chip.flash.data[:8192])
    assert board.md5(0, 8192) == hashlib.md5(written, usedforsecurity=False).hexdigest()


def test_unplug_in_mid_write(bench: Bench) -> None:
    """A programmer pulled in mid-write is PortGone out of whatever esptool was doing, and of everything after."""
    board, _, _ = bench.board("unplug@40")
    into_stub(board)
    with pytest.raises(PortGone):
        board.write(0, IMAGE, nothing)
    for deed in (board.answers_as, board.probe_presence, lambda: board.connect(1)):
        with pytest.raises(PortGone):
            deed()


def test_stop_in_mid_write(bench: Bench) -> None:
    """A line that is taken away ends the write at once, through esptool and all its retries."""
    board, line, _ = bench.board()
    into_stub(board)
    written: list[int] = []

    def stop_half_way(done: int) -> None:
        written.append(done)
        if done > len(IMAGE) // 2:
            threading.Thread(target=line.stop, args=(StopCause.UNPLUGGED,)).start()

    with pytest.raises(LineStopped):
        board.write(0, IMAGE, stop_half_way)
    assert written[-1] < len(IMAGE)
    with pytest.raises(LineStopped):
        board.connect(1)


def test_stop_while_nobody_answers(bench: Bench) -> None:
    """Also where esptool waits for an answer that never comes (120 s for an erase) the stop is heard."""
    board, line, _ = bench.board()
    into_stub(board)
    line.damage = lambda data: b"" if data[2] == 0xD0 else data
    timer = threading.Timer(0.1, line.stop, (StopCause.DEADLINE,))
    timer.start()
    with pytest.raises(LineStopped) as stopped:
        board.erase_chip()
    assert stopped.value.cause is StopCause.DEADLINE
    timer.join()


def test_a_damaged_block_is_sent_again(bench: Bench) -> None:
    """One flipped bit in a block is refused by its checksum and mended by sending it once more."""
    board, line, chip = bench.board()
    into_stub(board)
    blocks = 0

    def damage(data: bytes) -> bytes:
        nonlocal blocks
        blocks += data[2] == 0x11
        hurt = bytearray(data)
        if data[2] == 0x11 and blocks == 5:
            hurt[1000] = 0x55 if hurt[1000] != 0x55 else 0x54
        return bytes(hurt)

    line.damage = damage
    board.erase_chip()
    board.write(0, IMAGE, nothing)
    assert bytes(chip.flash.data[: len(IMAGE)]) == IMAGE
    assert blocks == len(bench.flasher._images.of(IMAGE).blocks) + 1
    assert board.blocks_repeated == 1


def test_a_lost_block_is_not_sent_again(bench: Bench) -> None:
    """A block without an answer may have been taken: it is sent once, and the job decides."""
    board, line, _ = bench.board()
    into_stub(board)
    blocks = 0

    def lose(data: bytes) -> bytes:
        nonlocal blocks
        blocks += data[2] == 0x11
        return b"" if data[2] == 0x11 else data

    line.damage = lose
    with pytest.raises(LinkSilent, match="write block 0: no answer"):
        board.write(0, IMAGE, nothing)
    assert blocks == 1


@pytest.mark.parametrize("probability", ["0.0005", "0.01", "0.3"])
def test_noise_is_a_corrupt_link_and_never_a_bad_board(bench: Bench, probability: str) -> None:
    """Whatever a bad contact makes of a conversation, it ends in a link error, or in the truth."""
    for seed in (1, 2):
        board, _, _ = bench.board(f"noise@{probability}", number=seed)
        try:
            identity, flash_chip, md5 = flash(board, [])
        except LinkError:
            continue
        assert identity.mac == f"5c:cf:7f:dd:c1:{seed:02x}"
        assert flash_chip.jedec_id == WINBOND_1M
        assert md5 == IMAGE_MD5


def test_a_deaf_adapter_is_silence(bench: Bench) -> None:
    """A programmer that returns nothing any more is silence in mid-conversation."""
    board, _, _ = bench.board("adapter_deaf")
    board.connect(2)
    with pytest.raises(LinkSilent):
        board.read_identity()


@pytest.mark.parametrize("variant", ["zero", "blank", "ff", "multicast", "oui"])
def test_boards_without_a_mac(bench: Bench, variant: str) -> None:
    """No invented identity: a board without a usable MAC is refused, read twice."""
    board, _, _ = bench.board(f"bad_mac@{variant}")
    board.connect(2)
    with pytest.raises(IdentityInvalid):
        board.read_identity()


def test_another_chip_is_refused(bench: Bench) -> None:
    """A chip that speaks the protocol and is no ESP8266 is named by its magic."""
    board, _, _ = bench.board("wrong_chip")
    with pytest.raises(WrongChip, match="0x00f01d83"):
        board.connect(2)


# --- a stub that stayed --------------------------------------------------------------------------------------------


def test_a_stub_that_stayed_is_found_and_used(bench: Bench) -> None:
    """Where the line cannot reset, a stub left at another rate by an earlier visit is found, kept and brought down."""
    programmer, path = bench.plug(kind=JUMPERED)
    first = bench.open(programmer, path)
    into_stub(bench.flasher.loader(first), 460800)
    first.close()
    second = bench.open(programmer, path)
    board = bench.flasher.loader(second)
    board.connect(1)
    assert second.baudrate == 460800
    sent = second.sent_bytes
    board.start_stub()
    assert second.sent_bytes == sent, "the stub was uploaded again"
    board.set_baud(230400)
    board.write(0, IMAGE[:8192], nothing)
    assert programmer.chip is not None
    assert bytes(programmer.chip.flash.data[:8192]) == IMAGE[:8192]


def test_a_retry_finds_the_stub_by_itself(bench: Bench) -> None:
    """After a break the same loader connects again to the stub at the rate it was left at, also without reset lines."""
    board, line, _ = bench.board(kind=JUMPERED)
    into_stub(board, 460800)
    line.damage = lambda data: b"" if data[2] == 0x13 else data
    with pytest.raises(LinkSilent):
        board.md5(0, 16)
    line.damage = lambda data: data
    assert board.answers_as() == "stub"
    board.connect(1)
    board.start_stub()
    board.set_baud(115200)
    assert board.md5(0, 16) == hashlib.md5(b"\xff" * 16, usedforsecurity=False).hexdigest()


# --- hostile answers -----------------------------------------------------------------------------------------------


def test_a_refusal_keeps_its_code() -> None:
    """An error of the loader's own work is LoaderRefused with the two bytes of the packet."""
    with scripted(lambda op, _: [ok(op, status=b"\x01\x06")]) as board, pytest.raises(LoaderRefused) as refused:
        board.connect(1)
    assert refused.value.code == 0x0106


@pytest.mark.parametrize("status", [b"\x01\x07", b"\x01\x05", b"\xc1\x00", b"\xc7\x00", b"\x20\x00", b"\xc4\x01"])
def test_a_refusal_of_damaged_bytes_is_the_link(status: bytes) -> None:
    """A checksum or format error, or a code that no loader knows, blames the link."""
    with scripted(lambda op, _: [ok(op, status=status)]) as board, pytest.raises(LinkCorrupt):
        board.connect(1)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x01\x77\x00\x00\x00\x00\x00\x00",
        b"\x01\x0a\x00\x00\x00\x00\x00\x00",
        b"\x01\x0a\x01\x00\x00\x00\x00\x00\x00",
        b"\x01\x77\x02\x00\x00\x00\x00\x00\x01\x05",
        b"",
        b"\xff" * 70000,
    ],
    ids=["another opcode, no body", "no body", "half a status", "invalid message", "empty", "70 kB"],
)
def test_malformed_answers_blame_no_board(answer: bytes) -> None:
    """No answer that a loader would not give leaves as anything but a broken link."""
    with scripted(lambda _op, _body: [answer] * 101) as board, pytest.raises((LinkCorrupt, BoardRestarted)):
        board.connect(1)


def test_one_wrong_reading_blames_nobody() -> None:
    """A chip magic that reads wrong once and right then is an ESP8266; identity words that change are a bad link."""
    readings = iter([0x00F01D83, 0xFFF0C101, *[0] * 4, *[1] * 4])
    with scripted(lambda op, _: [ok(op, next(readings))]) as board:
        board.connect(1)
        with pytest.raises(LinkCorrupt, match="differently each time"):
            board.read_identity()


def test_identity_words_of_another_loader() -> None:
    """What the registers say is what is recorded, raw words included."""
    words = {"x3FF00050": 0x42000000, "x3FF00054": 0xDDC1, "x3FF00058": 0x8000, "x3FF0005C": 0x5CCF7F}
    with scripted(registers(**words)) as board:
        board.connect(1)
        assert board.read_identity().otp_words == tuple(words.values())
