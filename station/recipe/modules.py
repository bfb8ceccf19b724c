"""Which modules a program can import on MicroPython's own builds for the ESP8266, so that board 500 is not the first to say.

Sources: MicroPython's `ports/esp8266/boards/manifest.py`, `boards/ESP8266_GENERIC/manifest_512kiB.py`, `manifest_2MiB.py`,
`mpconfigboard.h`, `mpconfigport.h` and micropython-lib's `bundle-networking`, releases 1.23 to 1.29. Older releases, and
builds that are not MicroPython's own, are not known here; a recipe names their modules itself. Nothing here reads a file.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KNOWN_SINCE = (1, 23)
"""The first release for which these lists hold: `ssl` became a frozen module over `tls`, `vfs` a module of its own."""

# Modules in C that MicroPython also finds under the same name with a `u` before it (`py/objmodule.c`, "extensible" modules).
_EXTENSIBLE = _words(
    "array binascii collections errno hashlib io json machine os platform random re select socket struct sys time"
)
_IN_C = _EXTENSIBLE | _words(
    "__main__ _onewire _webrepl builtins deflate esp gc lwip math micropython network tls uctypes vfs websocket"
)
_FROZEN = _words("_boot apa102 dht ds18x20 neopixel ntptime onewire port_diag webrepl webrepl_setup")
_OF_1M = _words("_asyncio _espnow btree cryptolib espnow flashbdev framebuf heapq inisetup mip requests ssl urequests")
_OF_2M = _words("asyncio ssd1306 uasyncio umqtt upysh urllib")
_WITH_U = frozenset(f"u{name}" for name in _EXTENSIBLE)

_BUILDS = {
    "512K": _IN_C | _WITH_U | _FROZEN,
    "1M": _IN_C | _WITH_U | _FROZEN | _OF_1M | {"uheapq"},
    "2M": _IN_C | _WITH_U | _FROZEN | _OF_1M | _OF_2M | {"uheapq"},
}


def modules_of(variant: str, version: str) -> tuple[str, ...] | None:
    """Return the top-level modules of MicroPython's own build `512K`, `1M` or `2M`, sorted; None where nobody knows.

    `version` is what the image says of itself, such as `1.27.0`.
    """
    known = _BUILDS.get(variant)
    return tuple(sorted(known)) if known is not None and release(version) >= KNOWN_SINCE else None


def release(version: str) -> tuple[int, int]:
    """Return major and minor number of a version such as `1.27.0-preview.3`; (0, 0) for anything else."""
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
