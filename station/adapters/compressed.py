"""Images as the flasher stub takes them: deflated once, cut into the blocks that go over the wire.

Promises that the same bytes are compressed once for all boards, whatever the number of threads that ask, and that each
block says how many bytes of the image it brings, which is what progress and time limits are reckoned from.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from dataclasses import dataclass

BLOCK_BYTES = 0x4000
"""The largest block the stub takes, and the fastest size (esptool's FLASH_WRITE_SIZE for stubs)."""
MAX_IMAGES = 8
"""A recipe has one image, in a few flash modes at the most."""
_LEVEL = 9
_WORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Block:
    """One block: the deflated bytes that are sent, and how many bytes of the image come out of them."""

    payload: bytes
    inflated_bytes: int


@dataclass(frozen=True, slots=True)
class CompressedImage:
    """An image on its way to a flash; `size_bytes` is what the flash gets, padded with 0xFF to whole words."""

    size_bytes: int
    compressed_bytes: int
    blocks: tuple[Block, ...]


class CompressedImages:
    """The images that are being flashed, by their content. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: dict[bytes, CompressedImage] = {}

    def of(self, data: bytes) -> CompressedImage:
        """Return `data` compressed; whoever asks first does the work, the others wait for it."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            image = self._images.get(key)
            if image is None:
                if len(self._images) >= MAX_IMAGES:
                    del self._images[next(iter(self._images))]
                image = self._images[key] = _compress(data)
            return image


def _compress(data: bytes) -> CompressedImage:
    padded = data + b"\xff" * (-len(data) % _WORD_BYTES)
    deflated = zlib.compress(padded, _LEVEL)
    inflater = zlib.decompressobj()
    payloads = [deflated[start : start + BLOCK_BYTES] for start in range(0, len(deflated), BLOCK_BYTES)]
    blocks = tuple(Block(payload, len(inflater.decompress(payload))) for payload in payloads)
    return CompressedImage(size_bytes=len(padded), compressed_bytes=len(deflated), blocks=blocks)
