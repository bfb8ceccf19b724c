"""FLASH and VERIFY of one board: what is written, and by what it is believed.

`BoardLink` writes nothing before `write` is called, and never returns from `verify` unless the chip's own MD5 of everything
the recipe defines is ours. Retries and the judging of breaks are those of `station.link`. Sources: faults tables A and D.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A part of the flash besides the image, in whole sectors, and what it shall hold; nothing else overlaps it."""

    offset: int
    content: bytes


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

    def write(self, image: bytes, areas: Sequence[Area] = ()) -> None:
        """FLASH: erase the whole chip, write `image` at 0 and the areas, and see that the same board is still there."""
        self._evidence.flash_touched = True
        pieces = [(0, image), *(piece for area in areas for piece in _written_parts(area))]
        total = sum(len(data) for _, data in pieces)

        def erase_and_write(loader: Loader) -> None:
            self._tell(Progress(phase=Phase.FLASH, fraction=0.0, note="erasing", allow_s=ERASE_ALLOWANCE_S))
            loader.erase_chip()
            before = 0
            for offset, data in pieces:
                loader.write(offset, data, lambda done, before=before: self._wrote(before + done, total))  # type: ignore[misc]
                before += len(data)
            self._same_board(loader)

        self._on_ladder(erase_and_write)
        self._evidence.bytes_flashed += total

    def verify(self, image: bytes, chip: FlashChip, areas: Sequence[Area] = ()) -> None:
        """VERIFY: the chip's own MD5 of image, areas and blank rest; one rewrite at the lowest rate before judging.

        Raises `JobEnded` with the reason when the flash does not hold what was written.
        """
        assert chip.size_bytes is not None  # noqa: S101 - read_chip() refused unknown sizes
        content = _Content(image, areas)
        expected = content.digests
        found = self._content_md5(content)
        if found != expected and self._was_protected(content):
            found = self._content_md5(content)
        if found != expected:
            self._refuse_fake_size(content, chip.size_bytes)
            self._write_again(content, found)
        self._measure_content(content, expected)
        self._refuse_fake_size(content, chip.size_bytes)
        self._verify_blank_rest(content, chip.size_bytes)

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

    def _content_md5(self, content: _Content) -> tuple[str, ...]:
        """Ask the chip for each part; a wrong answer is asked for twice, since replies carry no checksum of their own."""
        self._tell(Progress(phase=Phase.VERIFY, note="chip computes MD5"))
        found = []
        for (offset, data), expected in zip(content.parts, content.digests, strict=True):
            once = self._md5(offset, len(data))
            found.append(once if once == expected else self._md5(offset, len(data)))
        return tuple(found)

    def _md5(self, offset: int, length: int) -> str:
        return self._on_ladder(lambda loader: loader.md5(offset, length))

    def _write_again(self, content: _Content, first: tuple[str, ...]) -> None:
        """Erase and write once more at the lowest rate; the same wrong MD5 again is the flash, another one the link (A-12)."""
        expected = content.digests
        self._evidence.notes.append(f"{_difference(first, expected)}: erased and written again at the lowest rate")
        self._rung = len(self._settings.baud_ladder) - 1
        self._in_stub = False
        self.write(content.image, content.areas)
        second = self._content_md5(content)
        if second == expected:
            return
        self._measure_content(content, second)
        reason = Reason.VERIFY_MISMATCH if second == first else Reason.VERIFY_UNSTABLE
        raise JobEnded(reason, _difference(second, expected))

    def _measure_content(self, content: _Content, found: tuple[str, ...]) -> None:
        self._evidence.measure(_md5_measurement(found[0], content.digests[0]))
        if content.areas:
            # Not the MD5 itself: the files may hold a secret, and a short one could be guessed from it.
            holds = found[1:] == content.digests[1:]
            self._evidence.measure(Measurement(name="filesystem_md5", value=holds, low=True, high=True, within=holds))

    def _verify_blank_rest(self, content: _Content, flash_size: int) -> None:
        """Everything between the parts and behind the last one; where they fill the flash nothing can be wrong."""
        wrong = [
            start
            for start, end in content.gaps(flash_size)
            if self._md5(start, end - start) != _md5_of(b"\xff" * (end - start))
        ]
        self._evidence.measure(Measurement(name="flash_rest_blank", value=not wrong, within=not wrong))
        if wrong:
            raise JobEnded(Reason.VERIFY_MISMATCH, f"the erased rest from {wrong[0]:#x} on is not blank")

    def _refuse_fake_size(self, content: _Content, flash_size: int) -> None:
        """Where addresses wrap, a sector at size/2, /4 … is the first sector again (D-5); the chip compares by MD5."""
        head = self._md5(0, SECTOR_BYTES)
        candidates = [size for size in FLASH_SIZE_CODES if SMALLEST_FLASH_BYTES <= size < flash_size]
        for address in candidates if head != _BLANK_SECTOR_MD5 else ():
            if content.sector_at(address) == content.sector_at(0):
                continue
            if self._md5(address, SECTOR_BYTES) == head:
                self._evidence.measure(_real_size(address, flash_size))
                raise JobEnded(Reason.FLASH_SIZE_FAKE, f"{_size(address)} instead of {_size(flash_size)}")
        self._evidence.measure(_real_size(flash_size, flash_size))

    def _was_protected(self, content: _Content) -> bool:
        """Where the first sector is still what it was, lift the write protection, write again and return True (A-13).

        Raises `JobEnded` when that does not help.
        """
        written = _md5_of(content.sector_at(0))

        def untouched() -> bool:
            # A board that carried this very image before has the right head before and after: that is no protection.
            head = self._md5(0, SECTOR_BYTES)
            return head != written and head in (_BLANK_SECTOR_MD5, self._head_before)

        if not untouched():
            return False
        self._evidence.notes.append("nothing was written: write protection lifted, written again")
        self._on_ladder(lambda loader: loader.clear_write_protection())
        self.write(content.image, content.areas)
        if untouched():
            raise JobEnded(Reason.FLASH_WRITE_PROTECTED)
        return True


class _Content:
    """All that was written: the image at 0, and the areas behind it in their order."""

    def __init__(self, image: bytes, areas: Sequence[Area]) -> None:
        self.image, self.areas = image, areas
        self.parts = [(0, image), *((area.offset, area.content) for area in areas)]
        self.digests = tuple(_md5_of(data) for _, data in self.parts)

    def gaps(self, flash_size: int) -> Iterator[tuple[int, int]]:
        """Start and end of every stretch that must be blank, in whole words."""
        start = 0
        for offset, data in (*self.parts, (flash_size, b"")):
            if start < offset:
                yield start, offset
            start = -(-(offset + len(data)) // WORD_BYTES) * WORD_BYTES

    def sector_at(self, address: int) -> bytes:
        """What the 4 KiB from `address` on must hold; an image ends in its last sector, an area with one."""
        for offset, data in self.parts:
            if offset <= address < offset + len(data):
                return data[address - offset : address - offset + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\xff")
        return b"\xff" * SECTOR_BYTES


def _written_parts(area: Area) -> Iterator[tuple[int, bytes]]:
    """The runs of sectors of an area that are not blank: the others are as the erase left them."""
    blank, start = b"\xff" * SECTOR_BYTES, 0
    for at in range(0, len(area.content) + SECTOR_BYTES, SECTOR_BYTES):
        if area.content[at : at + SECTOR_BYTES] in (b"", blank):
            if start < at:
                yield area.offset + start, area.content[start:at]
            start = at + SECTOR_BYTES


def image_for(recipe: Recipe, chip: FlashChip, mode: str) -> bytes:
    """Return the recipe's image for this board's flash, with the header that suits it."""
    assert chip.size_bytes is not None  # noqa: S101 - read_chip() refused unknown sizes
    return image_for_flash(recipe.for_flash(chip.size_bytes), chip.size_bytes, mode)


def _md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


_BLANK_SECTOR_MD5 = _md5_of(b"\xff" * SECTOR_BYTES)


def _difference(found: tuple[str, ...], expected: tuple[str, ...]) -> str:
    same_image = found[0] == expected[0]
    return "MD5 of the filesystem deviates" if same_image else f"MD5 {found[0]} instead of {expected[0]}"


def _md5_measurement(found: str, expected: str) -> Measurement:
    return Measurement(name="flash_md5", value=found, low=expected, high=expected, within=found == expected)


def _real_size(found: int, claimed: int) -> Measurement:
    return Measurement(
        name="flash_real_size", value=found, unit="B", low=claimed, high=claimed, within=found == claimed
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KB"
