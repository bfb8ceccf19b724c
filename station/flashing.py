"""FLASH and VERIFY of one board: what is written, and by what it is believed.

`BoardLink` writes nothing before `write` is called, and never returns from `verify` unless the chip's own MD5 of everything
the recipe defines is ours. Retries and the judging of breaks are those of `station.link`. Sources: faults tables A and D.
"""

from __future__ import annotations

import hashlib

from station.errors import JobEnded
from station.link import LoaderLink
from station.model import FlashChip, Measurement, Phase
from station.ports import Loader
from station.reasons import Reason
from station.recipe import FLASH_SIZE_CODES, Recipe, image_for_flash
from station.views import Progress

SECTOR_BYTES = 4096
# The chip reads its flash by words, and writes are padded with 0xFF to whole ones.
WORD_BYTES = 4
# esptool allows 120 s for a chip erase (CHIP_ERASE_TIMEOUT); the slowest datasheets say 4 s per MiB.
ERASE_ALLOWANCE_S = 125.0
DEAD_FLASH_IDS = (0x000000, 0xFFFFFF, 0xFFFF3F)
IDENTITY_READS = 3
SMALLEST_FLASH_BYTES = 256 << 10


class BoardLink(LoaderLink):
    """The link of a visit that may write: FLASH and VERIFY. Used from one thread."""

    _head_before = ""

    def read_chip(self, recipe: Recipe) -> FlashChip:
        """CONNECT, second half: start the stub at the working rate, read the flash id, refuse what cannot carry the recipe.

        The identity is read three times in all, over at least the configured time, so that a board lifted in between
        is noticed before anything is written. Raises `JobEnded`.
        """
        chip = self._on_ladder(self._read_chip_steadily)
        self._evidence.flash = chip
        if chip.jedec_id in DEAD_FLASH_IDS:
            raise JobEnded(Reason.FLASH_NO_ANSWER, str(chip))
        if chip.size_bytes is None:
            raise JobEnded(Reason.FLASH_UNKNOWN, str(chip))
        needed = max(recipe.minimum_flash_bytes, len(recipe.image))
        if chip.size_bytes < needed:
            detail = f"{_size(chip.size_bytes)} board, this product needs {_size(needed)}"
            raise JobEnded(Reason.FLASH_TOO_SMALL, detail)
        if chip.size_bytes not in FLASH_SIZE_CODES:
            # No header of an ESP8266 image can say this size.
            raise JobEnded(Reason.FLASH_UNKNOWN, str(chip))
        return chip

    def write(self, image: bytes) -> None:
        """FLASH: erase the whole chip, write `image` at 0, and see that the same board is still there."""
        self._evidence.flash_touched = True

        def erase_and_write(loader: Loader) -> None:
            self._tell(Progress(phase=Phase.FLASH, fraction=0.0, note="erasing", allow_s=ERASE_ALLOWANCE_S))
            loader.erase_chip()
            loader.write(0, image, lambda done: self._wrote(done, len(image)))
            self._same_board(loader)

        self._on_ladder(erase_and_write)
        self._evidence.bytes_flashed += len(image)

    def verify(self, image: bytes, chip: FlashChip) -> None:
        """VERIFY: the chip's own MD5 of the image and of the blank rest; one rewrite at the lowest rate before judging.

        Raises `JobEnded` with the reason when the flash does not hold what was written.
        """
        assert chip.size_bytes is not None  # noqa: S101 - read_chip() refused unknown sizes
        expected = _md5_of(image)
        found = self._image_md5(len(image), expected)
        if found != expected and self._was_protected(image):
            found = self._image_md5(len(image), expected)
        if found != expected:
            self._refuse_fake_size(image, chip.size_bytes)
            self._write_again(image, found, expected)
        self._evidence.measure(_md5_measurement(expected, expected))
        self._refuse_fake_size(image, chip.size_bytes)
        self._verify_blank_rest(len(image), chip.size_bytes)

    # -- small steps -----------------------------------------------------------------------------------------------

    def _read_chip_steadily(self, loader: Loader) -> FlashChip:
        began = self._clock()
        chip = loader.read_flash_chip()
        if chip.size_bytes is not None:
            self._head_before = loader.md5(0, SECTOR_BYTES)
        for read in range(1, IDENTITY_READS):
            due = began + self._settings.identity_reads_over_s * read / (IDENTITY_READS - 1)
            self._stop.wait(max(0.0, due - self._clock()))
            self._same_board(loader)
        return chip

    def _wrote(self, done: int, total: int) -> None:
        self._tell(Progress(phase=Phase.FLASH, fraction=done / total, note="writing"))

    def _image_md5(self, length: int, expected: str) -> str:
        """Ask the chip; a wrong answer is asked for twice, since replies carry no checksum of their own."""
        self._tell(Progress(phase=Phase.VERIFY, note="chip computes MD5"))
        found = self._on_ladder(lambda loader: loader.md5(0, length))
        return found if found == expected else self._on_ladder(lambda loader: loader.md5(0, length))

    def _write_again(self, image: bytes, first: str, expected: str) -> None:
        """Erase and write once more at the lowest rate; the same wrong MD5 again is the flash, another one the link (A-12)."""
        self._evidence.notes.append(f"MD5 {first} instead of {expected}: erased and written again at the lowest rate")
        self._rung = len(self._settings.baud_ladder) - 1
        self._in_stub = False
        self.write(image)
        second = self._image_md5(len(image), expected)
        if second == expected:
            return
        self._evidence.measure(_md5_measurement(second, expected))
        reason = Reason.VERIFY_MISMATCH if second == first else Reason.VERIFY_UNSTABLE
        raise JobEnded(reason, f"MD5 {second} instead of {expected}")

    def _verify_blank_rest(self, image_length: int, flash_size: int) -> None:
        """Everything behind the last word of the image; where the image fills the flash there is nothing to be wrong."""
        start = -(-image_length // WORD_BYTES) * WORD_BYTES
        expected = _md5_of(b"\xff" * (flash_size - start))
        blank = start >= flash_size or self._on_ladder(lambda loader: loader.md5(start, flash_size - start)) == expected
        self._evidence.measure(Measurement(name="flash_rest_blank", value=blank, within=blank))
        if not blank:
            raise JobEnded(Reason.VERIFY_MISMATCH, f"the erased rest from {start:#x} on is not blank")

    def _refuse_fake_size(self, image: bytes, flash_size: int) -> None:
        """Where addresses wrap, a sector at size/2, /4 … is the first sector again (D-5); the chip compares by MD5."""
        head = self._on_ladder(lambda loader: loader.md5(0, SECTOR_BYTES))
        candidates = [size for size in FLASH_SIZE_CODES if SMALLEST_FLASH_BYTES <= size < flash_size]
        for address in candidates if head != _BLANK_SECTOR_MD5 else ():
            there = image[address : address + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\xff")
            if there == image[:SECTOR_BYTES]:
                continue
            if self._on_ladder(lambda loader, at=address: loader.md5(at, SECTOR_BYTES)) == head:  # type: ignore[misc]
                self._evidence.measure(_real_size(address, flash_size))
                raise JobEnded(Reason.FLASH_SIZE_FAKE, f"{_size(address)} instead of {_size(flash_size)}")
        self._evidence.measure(_real_size(flash_size, flash_size))

    def _was_protected(self, image: bytes) -> bool:
        """Where the first sector is still what it was, lift the write protection, write again and return True (A-13).

        Raises `JobEnded` when that does not help.
        """
        written = _md5_of(image[:SECTOR_BYTES].ljust(SECTOR_BYTES, b"\xff"))

        def untouched() -> bool:
            # A board that carried this very image before has the right head before and after: that is no protection.
            head = self._on_ladder(lambda loader: loader.md5(0, SECTOR_BYTES))
            return head != written and head in (_BLANK_SECTOR_MD5, self._head_before)

        if not untouched():
            return False
        self._evidence.notes.append("nothing was written: write protection lifted, written again")
        self._on_ladder(lambda loader: loader.clear_write_protection())
        self.write(image)
        if untouched():
            raise JobEnded(Reason.FLASH_WRITE_PROTECTED)
        return True


def image_for(recipe: Recipe, chip: FlashChip, mode: str) -> bytes:
    """Return the recipe's image with the header that suits this board."""
    assert chip.size_bytes is not None  # noqa: S101 - read_chip() refused unknown sizes
    return image_for_flash(recipe, chip.size_bytes, mode)


def _md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


_BLANK_SECTOR_MD5 = _md5_of(b"\xff" * SECTOR_BYTES)


def _md5_measurement(found: str, expected: str) -> Measurement:
    return Measurement(name="flash_md5", value=found, low=expected, high=expected, within=found == expected)


def _real_size(found: int, claimed: int) -> Measurement:
    return Measurement(
        name="flash_real_size", value=found, unit="B", low=claimed, high=claimed, within=found == claimed
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KB"
