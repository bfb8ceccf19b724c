"""Out of the loader by software, and reading a flash: what a slot without reset lines and an inspection need."""

import hashlib
import time
from collections.abc import Callable, Iterator

import pytest

from station.adapters.esp8266 import Esp8266Loader
from station.adapters.line import SerialLine
from station.bench.programmer import ProgrammerKind
from station.errors import LinkCorrupt, LinkSilent
from station.model import Answer, Peek
from station.properties import Gpio0, Reset
from tests.adapters.esp8266_rig import BANNER, IMAGE, JUMPERED, Bench, into_stub, nothing

SOLDERED = ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Give a bench without programmers."""
    with Bench() as made:
        yield made


def words_of(line: SerialLine, wanted: bytes) -> bytes:
    """What the board says until `wanted` was said; a test that waits in vain ends after 20 s."""
    heard, deadline = b"", time.monotonic() + 20
    while wanted not in heard and time.monotonic() < deadline:
        heard += line.read_some(0.2)
    return heard


# --- out of the loader ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [JUMPERED, SOLDERED])
@pytest.mark.parametrize("baud", [115200, 460800, 921600])
def test_the_legacy_stub_starts_what_it_flashed(bench: Bench, kind: ProgrammerKind, baud: int) -> None:
    """Flashed at any rate, the firmware starts without a reset although GPIO0 is at GND, and is heard at 115200."""
    board, line, chip = bench.board(kind=kind)
    into_stub(board, baud, legacy=True)
    board.read_flash_chip()
    board.erase_chip()
    board.write(0, IMAGE, nothing)
    assert board.md5(0, len(IMAGE)) == hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
    board.start_firmware()
    assert line.baudrate == 115200
    assert BANNER in words_of(line, b">>> ")
    assert bytes(chip.flash.data) == IMAGE.ljust(1 << 20, b"\xff")
    line.send(b"\r")
    assert words_of(line, b">>> ").endswith(b">>> ")


def test_the_rom_starts_what_is_in_flash(bench: Bench) -> None:
    """Without any stub the ROM leaves into the firmware, too."""
    board, line, _ = bench.board(kind=JUMPERED, image=IMAGE)
    board.connect(1)
    board.start_firmware()
    assert line.baudrate == 115200
    assert BANNER in words_of(line, b">>> ")


def test_a_stub_found_running_may_be_the_legacy_one(bench: Bench) -> None:
    """A legacy stub that an earlier conversation left at another rate is kept, and starts the firmware."""
    board, line, _ = bench.board(kind=JUMPERED, image=IMAGE)
    into_stub(board, 460800, legacy=True)
    later = bench.flasher.loader(line)
    later.connect(1)
    later.start_stub(legacy=True)
    later.start_firmware()
    assert BANNER in words_of(line, b">>> ")


def test_stub_2_is_never_asked(bench: Bench) -> None:
    """To start the firmware by the stub that ignores it is our own mistake, said before anything is sent."""
    board, line, _ = bench.board(kind=JUMPERED, image=IMAGE)
    into_stub(board)
    sent = line.sent_bytes
    with pytest.raises(RuntimeError, match="legacy=True"):
        board.start_firmware()
    assert line.sent_bytes == sent
    assert board.answers_as() == "stub"


def test_a_stub_2_found_running_stays(bench: Bench) -> None:
    """Nobody can tell which stub was left there: asked, stub "2" ignores it, and nothing but the silence tells."""
    board, line, _ = bench.board(kind=JUMPERED, image=IMAGE)
    into_stub(board)
    later = bench.flasher.loader(line)
    later.connect(1)
    later.start_stub(legacy=True)
    later.start_firmware()
    line.pause(0.3)
    assert line.in_waiting == 0
    assert later.answers_as() == "stub"


def test_after_the_start_the_loader_is_gone(bench: Bench) -> None:
    """Nothing of the loader can be used without `connect`, and the stub's rate is not tried any more."""
    board, line, _ = bench.board(kind=JUMPERED, image=IMAGE)
    into_stub(board, 460800, legacy=True)
    board.start_firmware()
    words_of(line, b">>> ")
    uses: list[Callable[[Esp8266Loader], object]] = [
        lambda board: board.read_identity(),
        lambda board: board.read_flash_chip(),
        lambda board: board.start_stub(),
        lambda board: board.start_firmware(),
        lambda board: board.clear_write_protection(),
        lambda board: board.md5(0, 16),
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match="connect"):
            use(board)
    assert board.answers_as() is None
    assert line.syncs(460800) == 0


def test_a_peek_after_the_start_sees_the_firmware(bench: Bench) -> None:
    """Once started, the firmware is what answers."""
    board, line, _ = bench.board(kind=JUMPERED, image=IMAGE)
    board.connect(1)
    board.start_firmware()
    words_of(line, b">>> ")
    for _ in range(20):  # one look waits 0.1 s, and this machine may be busy
        seen = board.peek(knock=True)
        if seen.answer is not Answer.NOTHING:
            break
    assert seen == Peek(answer=Answer.FIRMWARE)


# --- reading a flash -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [True, False])
def test_a_region_of_flash_is_read(bench: Bench, *, legacy: bool) -> None:
    """Any region comes as it is in flash, prompts and banners in it included, and progress tells the bytes so far."""
    board, _, chip = bench.board()
    content = (BANNER + b">>> \r\n ets Jan  8 2013,rst cause:1, boot mode:(3,7)\xc0\xdb\xc0" * 3).ljust(
        97, b"\xdb"
    ) * 300
    chip.flash.data[0x1000 : 0x1000 + len(content)] = content
    into_stub(board, legacy=legacy)
    for offset, length in ((0x1000, len(content)), (0x1123, 5000), (0xFFFFF, 1), (0, 0)):
        done: list[int] = []
        assert board.read_flash(offset, length, done.append) == bytes(chip.flash.data[offset : offset + length])
        assert done == sorted(done)
        assert done[-1:] == ([length] if length else [])
    assert board.answers_as() == "stub"


def test_a_flash_is_read_by_the_stub_only(bench: Bench) -> None:
    """To read with the ROM alone is our own mistake."""
    board, _, _ = bench.board()
    board.connect(2)
    with pytest.raises(RuntimeError, match="needs the flasher stub"):
        board.read_flash(0, 16, nothing)


@pytest.mark.parametrize("hurt", [b"\xc0ARK", b"MORK"], ids=["a frame cut in two", "another byte"])
def test_a_damaged_reading_is_the_link(bench: Bench, hurt: bytes) -> None:
    """What changed on the way is the link's fault, and a flash full of prompts is not taken for a board that restarted."""
    board, line, chip = bench.board()
    chip.flash.data[:] = b">>> ".ljust(16) * (len(chip.flash.data) // 16)
    chip.flash.data[0x1800:0x1804] = b"MARK"
    into_stub(board)
    line.distort = lambda data: data.replace(b"MARK", hurt)
    with pytest.raises(LinkCorrupt, match="read the flash at 0x1000"):
        board.read_flash(0x1000, 0x2000, nothing)


def test_a_reading_that_stops_is_silence(bench: Bench) -> None:
    """A board that says no more in the middle of it is silent, not a board that restarted."""
    board, line, _ = bench.board(image=IMAGE)
    into_stub(board)
    line.damage = lambda data: b"" if data[2:4] == b"\x20\0" else data  # the acknowledgement of the second sector
    with pytest.raises(LinkSilent, match="read the flash at 0x0"):
        board.read_flash(0, 0x4000, nothing)
