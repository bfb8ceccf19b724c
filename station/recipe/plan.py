"""What a recipe holds when it is loaded: images, files, checks and the parts on disk, all frozen and free of paths to read.

Plain data. Nothing here judges, reads or writes.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One verified firmware image, and what it needs."""

    content: bytes
    path: str
    sha256: str
    version: str
    """What the image says of itself; empty when it says nothing."""
    machine: str
    """Its `os.uname().machine`, such as `ESP module (1M) with ESP8266`; empty when it names none."""
    minimum_flash_bytes: int
    has_filesystem: bool
    modules: tuple[str, ...] | None
    """Top-level modules that a program can import; None where nobody knows."""
    build: str = ""
    """Which of MicroPython's own builds it calls itself: `512K`, `1M`, `2M`; empty for another firmware."""

    @property
    def needs_flash_bytes(self) -> int:
        """The flash without which it is not written."""
        return max(self.minimum_flash_bytes, len(self.content))


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the tree, as it comes to the board."""

    path: str
    """On the board, after renaming, without a leading slash: `lib/sensor.py`; of a compiled one, `lib/sensor.mpy`."""
    content: bytes
    """As in the recipe; of a compiled one, the compiled bytes."""
    fill_in: bool
    """Whether `${…}` in it is replaced by the board's own data."""


class FilesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the board's filesystem when it is done, the board's own data not yet filled in."""

    files: tuple[SourceFile, ...] = ()
    """Sorted by path."""
    directories: tuple[str, ...] = ()
    """Sorted, parents before children; those of files included."""
    delete: tuple[str, ...] = ()
    delete_others: bool = False
    by_repl: bool = False
    hold: tuple[str, ...] = ()


class OwnCheckCode(msgspec.Struct, frozen=True, kw_only=True):
    """A check of the recipe's own, ready to run."""

    name: str
    source: str
    timeout_s: float
    limits: Mapping[str, tuple[float, float] | float | str | bool]
    units: Mapping[str, str]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One file on disk that the recipe was made of."""

    path: str
    """Absolute."""
    name: str
    """Seen from the recipe's directory, as bundle and manifest call it."""
    sha256: str
