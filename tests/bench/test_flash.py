"""The flash chip: what programming, erasing, protection, wear and fakes do to its cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.bench.flash import BLOCK_BYTES, PUYA_TIMING, SECTOR_BYTES, FlashTiming, NorFlash

SMALL = 2 * BLOCK_BYTES


def flash(**options: object) -> NorFlash:
    """A healthy little flash unless told otherwise."""
    return NorFlash(**({"size_bytes": SMALL, "jedec_id": 0x1440EF} | options))  # type: ignore[arg-type]


@given(
    old=st.binary(min_size=1, max_size=700),
    new=st.binary(min_size=1, max_size=700),
    address=st.integers(0, SMALL - 1),
    shift=st.integers(-300, 300),
)
def test_programming_only_clears_bits(old: bytes, new: bytes, address: int, shift: int) -> None:
    """Whatever is programmed over whatever, each cell becomes the AND of both, and no other cell changes."""
    chip = flash()
    wanted = bytearray(b"\xff" * SMALL)
    for start, data in ((address, old), ((address + shift) % SMALL, new)):
        chip.program(start, data)
        for index, byte in enumerate(data):
            wanted[(start + index) % SMALL] &= byte
    assert chip.data == wanted


@given(address=st.integers(0, SMALL - 1))
def test_erasing_a_sector_touches_that_sector_only(address: int) -> None:
    """The 4 KB around the address become ones, the rest keeps its zeros."""
    chip = flash()
    chip.data[:] = bytes(SMALL)
    chip.erase_sector(address)
    start = address // SECTOR_BYTES * SECTOR_BYTES
    assert chip.data[start : start + SECTOR_BYTES] == b"\xff" * SECTOR_BYTES
    assert chip.data.count(0) == SMALL - SECTOR_BYTES


def test_erasing_block_and_chip() -> None:
    """A block erase takes the aligned 64 KB, a chip erase everything."""
    chip = flash()
    chip.data[:] = bytes(SMALL)
    chip.erase_block(BLOCK_BYTES + 5)
    assert chip.data == bytes(BLOCK_BYTES) + b"\xff" * BLOCK_BYTES
    chip.erase_chip()
    assert chip.data == b"\xff" * SMALL
    assert chip.erases == 2


def test_operations_take_the_time_of_the_part() -> None:
    """Durations are the table's, a page each 256 bytes begun, three times longer on a slow part, 8 ms on a PUYA."""
    assert flash().erase_sector(0) == 0.045
    assert flash().erase_block(0) == 0.2
    assert flash().erase_chip() == 2.5
    assert flash().program(250, bytes(10)) == pytest.approx(2 * 0.0009)
    assert flash(timing=FlashTiming().scaled(3.0)).erase_sector(0) == pytest.approx(0.135)
    assert flash(timing=PUYA_TIMING).erase_chip() == 0.008


def test_addresses_wrap_at_the_real_size() -> None:
    """A fake of half the size reads, programs and erases its head where its tail should be."""
    chip = flash(size_bytes=2 * SMALL, real_size_bytes=SMALL)
    chip.program(SMALL + 10, b"tail")
    assert chip.read(10, 4) == b"tail"
    assert chip.read(SMALL - 2, 16) == b"\xff" * 12 + b"tail"
    chip.erase_sector(SMALL)
    assert chip.read(10, 4) == b"\xff" * 4


def test_a_write_protected_flash_ignores_everything() -> None:
    """Nothing is programmed or erased, and its protection bits cannot be cleared."""
    chip = flash(write_protected=True)
    chip.data[:4] = b"\x11" * 4
    chip.write_status(0)
    chip.program(0, bytes(16))
    chip.erase_chip()
    assert chip.read(0, 6) == b"\x11" * 4 + b"\xff" * 2
    assert chip.status & 0x1C


@pytest.mark.parametrize(("level", "protected"), [(0, 0), (1, 1), (3, 4), (4, 8), (7, 16)])
def test_protection_bits_guard_the_top(level: int, protected: int) -> None:
    """Each level doubles the protected part, in sixteenths of the flash from the top."""
    chip = flash()
    chip.write_status(level << 2)
    sixteenth = SMALL // 16
    for part in range(16):
        chip.program(part * sixteenth, b"\0")
    assert [chip.data[part * sixteenth] for part in range(16)] == [0] * (16 - protected) + [0xFF] * protected


@pytest.mark.parametrize(("jedec_id", "bus"), [(0xFFFFFF, 0xFF), (0, 0)])
def test_a_dead_flash_gives_the_idle_bus(jedec_id: int, bus: int) -> None:
    """Every read is what nobody drives, and nothing is stored."""
    chip = flash(jedec_id=jedec_id)
    chip.program(0, b"\x12\x34")
    assert chip.read(0, 2) == chip.sfdp(0, 2) == bytes([bus]) * 2
    assert chip.data[:2] == b"\xff\xff"


def test_worn_bits_survive_every_erase() -> None:
    """The same bits of the first quarter stay 0 after each erase, and the same seed wears the same bits."""
    chip, twin, other = flash(worn=True, seed=3), flash(worn=True, seed=3), flash(worn=True, seed=4)
    before = bytes(chip.data)
    chip.program(0, bytes(SMALL))
    chip.erase_chip()
    assert bytes(chip.data) == before == bytes(twin.data) != bytes(other.data)
    assert any(byte != 0xFF for byte in before[: SMALL // 4])
    assert before[SMALL // 4 :] == b"\xff" * (SMALL * 3 // 4)


def test_a_forgetful_flash_loses_what_the_firmware_wrote() -> None:
    """At the reset everything is as it was when the firmware started; what a loader wrote before stays."""
    chip = flash(forgets_above_bytes=0)
    chip.program(0, b"image")
    chip.firmware_starts()
    chip.program(SECTOR_BYTES, b"file")
    chip.board_resets()
    assert chip.read(0, 5) == b"image"
    assert chip.read(SECTOR_BYTES, 4) == b"\xff" * 4


def test_a_flash_that_loses_much_keeps_the_first_of_what_the_firmware_wrote() -> None:
    """What came before the limit is there after the reset, what came after it is not; a loader's writes never count."""
    chip = flash(forgets_above_bytes=8)
    chip.program(0, b"a long image")
    chip.firmware_starts()
    chip.program(SECTOR_BYTES, b"first")
    chip.program(2 * SECTOR_BYTES, b"second")
    chip.board_resets()
    assert chip.read(0, 12) == b"a long image"
    assert chip.read(SECTOR_BYTES, 5) == b"first"
    assert chip.read(2 * SECTOR_BYTES, 6) == b"\xff" * 6


def test_sfdp_names_vendor_and_density() -> None:
    """The signature is there, the second header carries the vendor, the basic table the size in bits."""
    chip = flash(jedec_id=0x146085)
    assert chip.sfdp(0, 4) == b"SFDP"
    assert chip.sfdp(16, 1) == b"\x85"
    assert int.from_bytes(chip.sfdp(0x84, 4), "little") == SMALL * 8 - 1
    assert chip.sfdp(5000, 3) == b"\xff" * 3


def test_a_size_without_whole_blocks_is_refused() -> None:
    """A flash is a whole number of 64 KB blocks."""
    with pytest.raises(ValueError, match="64 KB blocks"):
        NorFlash(size_bytes=5000, jedec_id=0x1440EF)
