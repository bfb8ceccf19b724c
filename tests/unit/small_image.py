"""Small images in MicroPython's format, and recipes for them, for tests that need no board to boot them."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from station.recipe import Recipe, load_recipe

LENGTH_OFFSET = 0x8FFC
MACHINES = {
    "512K": b"ESP module (512K) with ESP8266",
    "1M": b"ESP module (1M) with ESP8266",
    "2M": b"ESP module with ESP8266",
}


def make_small_image(
    *,
    variant: str = "1M",
    version: str = "1.27.0",
    filling: bytes = b"",
    size_bytes: int = 0x9400,
    trailer: bool = True,
) -> bytes:
    """Return an image of about 37 KB with header, machine name and version, and with MicroPython's trailer if wanted."""
    body = bytearray(bytes(index * 7 & 0xFF for index in range(size_bytes)))
    body[:8] = b"\xe9\x03\x00\x20" + bytes(4)
    words = MACHINES.get(variant, b"") + b"\0MicroPython v" + version.encode() + b" on 2025-12-09\0" + filling
    body[0x100 : 0x100 + len(words)] = words
    if not trailer:
        return bytes(body)
    struct.pack_into("<I", body, LENGTH_OFFSET, len(body))
    return bytes(body) + hashlib.md5(body[4:], usedforsecurity=False).digest()


def write_recipe(directory: Path, image: bytes, more: str = "", *, name: str = "thing") -> Path:
    """Write image and recipe into `directory`; `more` is put behind the `[firmware]` section's two keys."""
    (directory / "thing.bin").write_bytes(image)
    path = directory / f"{name}.toml"
    sha256 = hashlib.sha256(image).hexdigest()
    path.write_text(f'[firmware]\npath = "thing.bin"\nsha256 = "{sha256}"\n{more}', encoding="utf-8")
    return path


def small_recipe(directory: Path, more: str = "", **image: str) -> Recipe:
    """Return a loaded recipe for a small image."""
    return load_recipe(write_recipe(directory, make_small_image(**image), more))  # type: ignore[arg-type]
