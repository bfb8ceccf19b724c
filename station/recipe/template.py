"""Templates: `${name}` in a file of the recipe stands for the board's own data, filled in just before it is written.

`${mac}`, `${mac_plain}`, `${chip_id}`, `${serial}`, `${values.COLUMN}`, `${secret.NAME}`; `${name|quoted}` is the value as
a JSON string literal, which is also a Python one; `$$` is one dollar sign, any other `$` stays. Pure functions over bytes.
Nothing here knows a value before it is given one, and no message of this module holds one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import msgspec

OF_EVERY_BOARD = ("mac", "mac_plain", "chip_id")
"""What every board has: its MAC with and without colons, and its chip ID."""
SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
"""How a secret may be called: it is the name of a file."""
_FILTER = "quoted"
_PLACE = re.compile(rb"\$(?:\$|\{([^}\r\n]*)(\})?)")


def names_in(content: bytes) -> set[str]:
    """Return what is asked for in `content`, without filters: `{"mac", "secret.wifi"}`."""
    return {_name_of(inner)[0] for inner, _closed in _places(content)}


def fill(content: bytes, names: Mapping[str, str]) -> bytes:
    """Return `content` with every place filled from `names`, as UTF-8; raises `KeyError` for a name that is not there.

    Of a template in which `problem_in` finds nothing, `names_in` are the names it needs.
    """

    def value(place: re.Match[bytes]) -> bytes:
        if place[1] is None:
            return b"$"
        name, quoted = _name_of(_text(place[1]))
        return msgspec.json.encode(names[name]) if quoted else names[name].encode()

    return _PLACE.sub(value, content)


def fill_for_parsing(content: bytes) -> bytes:
    """Return `content` with something in every place that lets a Python file be read: a number, or a quoted one."""
    return fill(content, dict.fromkeys(names_in(content), "1"))


def problem_in(content: bytes, *, serial: bool, values: bool, offered: Iterable[str] = ()) -> str:
    """Return what is wrong with a template, or an empty string.

    `serial`, `values`: whether the recipe names a pool or a table; `offered`: further names that can be given.
    """
    known = [*OF_EVERY_BOARD, *(["serial"] if serial else []), *offered]
    for inner, closed in _places(content):
        name, _, suffix = inner.partition("|")
        if not closed:
            return f"${{{inner[:40]} is not closed on its line; $${{ stands for ${{"
        if suffix != _FILTER and "|" in inner:
            return f"${{{inner}}}: the only filter is |{_FILTER}"
        kind, dot, rest = name.partition(".")
        if (
            name in known
            or (kind == "secret" and SECRET_NAME.fullmatch(rest))
            or (kind == "values" and values and rest)
        ):
            continue
        if name == "serial":
            return "${serial} needs a pool: write serial.pool"
        if kind == "values" and dot:
            return f"${{{inner}}} needs a table: write values.csv"
        near = get_close_matches(name, [*known, "serial", "values.COLUMN", "secret.NAME"], n=1, cutoff=0.5)
        return f"${{{inner}}} is not known{f', did you mean ${{{near[0]}}}?' if near else ''}"
    return ""


def _places(content: bytes) -> list[tuple[str, bool]]:
    """What stands between the braces of each place, and whether its brace is closed."""
    return [(_text(place[1]), place[2] is not None) for place in _PLACE.finditer(content) if place[1] is not None]


def _text(inner: bytes) -> str:
    return inner.decode("utf-8", "replace")


def _name_of(inner: str) -> tuple[str, bool]:
    """The name, and whether its value is to be quoted."""
    name, _, suffix = inner.partition("|")
    return name, suffix == _FILTER
