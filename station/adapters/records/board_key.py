"""How a person names a board: by its MAC, or by its chip ID in any of the forms it is printed in. Pure."""

from __future__ import annotations

import re

_CHIP_ID_BITS = 24
_MAC_DIGITS = 12
_SEPARATORS = re.compile(r"[:\-._\s]")
_HEX = re.compile(r"[0-9a-f]+")


def parse_board_key(key: str) -> tuple[str, tuple[int, ...]]:
    """Return the MAC that `key` is, else "" and the chip IDs it may mean; raises ValueError when it is neither.

    A MAC is twelve hex digits in either case with any separators. A chip ID is `0x…`, or six or eight hex digits as
    esptool prints them, whose top byte is not part of it; digits alone may be decimal as well, and then both are meant.
    """
    digits = _SEPARATORS.sub("", key.strip().lower())
    prefixed = digits.startswith("0x")
    digits = digits.removeprefix("0x")
    if not _HEX.fullmatch(digits):
        raise ValueError(f"{key!r} is neither a MAC nor a chip ID")
    if len(digits) == _MAC_DIGITS and not prefixed:
        return ":".join(digits[at : at + 2] for at in range(0, _MAC_DIGITS, 2)), ()
    meant = []
    if (prefixed and len(digits) <= 8) or len(digits) in {6, 8}:  # noqa: PLR2004 - 24 bits, or 32 as esptool prints them
        meant.append(int(digits, 16) & 0xFFFFFF)
    if not prefixed and digits.isdecimal() and int(digits) < 1 << _CHIP_ID_BITS:
        meant.append(int(digits))
    if not meant:
        raise ValueError(f"{key!r} is neither a MAC (12 hex digits) nor a chip ID (0x00ddc142)")
    return "", tuple(dict.fromkeys(meant))
