"""What no type can say of serial numbers, values, network and checks: which keys go together, and which make no sense.

Every refusal is a `ConfigurationError` that names file, key, problem and fix. Nothing here reads a file.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator
from pathlib import Path

from station.errors import ConfigurationError
from station.recipe.template import SECRET_NAME
from station.recipe.text import ChecksSection, NetworkSection, OwnCheck, RecipeFile, SerialSection

SERIAL_SPEC = re.compile(r"(0?[1-9]\d?)?[dXx]?")
"""Width, with leading zeros, and decimal or hexadecimal."""
FREQUENCIES_HZ = (80_000_000, 160_000_000)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_FLASH_ID = re.compile(r"0x[0-9a-fA-F]{2}|0x[0-9a-fA-F]{6}")
# `done` is what the station itself says of a check of the recipe's that ran to its end.
_MEASUREMENT = re.compile(r"(?!done\Z)[a-z][a-z0-9_]{0,39}")

Problem = tuple[str, str, str]
"""Key, problem, fix."""


def check_sections(path: Path, parsed: RecipeFile) -> None:
    """Raise `ConfigurationError` for the first thing that makes no sense."""
    problems = (
        *_of_serial(parsed.serial),
        *_of_values(parsed),
        *_of_network(parsed.network),
        *_of_webrepl(parsed),
        *_of_checks(parsed.checks),
        *_of_own_checks(parsed.check),
    )
    for key, problem, fix in problems:
        raise ConfigurationError(file=str(path), key=key, problem=problem, fix=fix)


def _of_serial(serial: SerialSection) -> Iterator[Problem]:
    fix = 'write text with one {number} in it, such as "SN{number:06d}"'
    try:
        fields = [field for field in string.Formatter().parse(serial.format) if field[1] is not None]
    except ValueError as error:
        yield "serial.format", f"{serial.format!r}: {error}", fix
        return
    whole = len(fields) == 1 and fields[0][1] == "number" and not fields[0][3]
    if not whole or not SERIAL_SPEC.fullmatch(fields[0][2] or ""):
        yield "serial.format", f"{serial.format!r} does not hold exactly one plain {{number}}", fix
    if serial.pool and not _PLAIN_NAME.fullmatch(serial.pool):
        yield "serial.pool", f"{serial.pool!r} is no name", "use letters, digits, dot, dash and underscore"
    if serial.format != SerialSection().format and not serial.pool:
        yield "serial.format", "there is no pool to take numbers from", "name one in serial.pool"


def _of_values(parsed: RecipeFile) -> Iterator[Problem]:
    values = parsed.values
    if values.csv and not _PLAIN_NAME.fullmatch(values.csv):
        fix = "name a file of the station's directory of values (work.values), without a path"
        yield "values.csv", f"{values.csv!r} is no name of a file", fix
    if values.secret and not values.csv:
        yield "values.secret", "there is no table", "name one in values.csv"


def _of_network(network: NetworkSection) -> Iterator[Problem]:
    for key in ("key_secret", "webrepl_secret"):
        name = getattr(network, key)
        if name and not SECRET_NAME.fullmatch(name):
            yield f"network.{key}", f"{name!r} is no name of a secret", "use letters, digits, dot, dash and underscore"
    if not network.ssid:
        for key in ("key_secret", "join_within_s"):
            if getattr(network, key):
                yield f"network.{key}", "there is no network to join", "name one in network.ssid"


def _of_webrepl(parsed: RecipeFile) -> Iterator[Problem]:
    network = parsed.network
    if network.webrepl_secret and network.access_point == "off" and not network.ssid and not parsed.files.tree:
        fix = 'name a network in network.ssid, or write access_point = "keep"'
        yield "network.webrepl_secret", "nobody can reach WebREPL: no access point, no network", fix


def _of_checks(checks: ChecksSection) -> Iterator[Problem]:
    if checks.frequency is not None and (not checks.frequency.hz or set(checks.frequency.hz) - set(FREQUENCIES_HZ)):
        yield "checks.frequency.hz", f"{list(checks.frequency.hz)}", f"choose from {list(FREQUENCIES_HZ)}"
    for key in ("reject", "read_back", "allow"):
        for vendor in getattr(checks.flash_policy, key):
            if vendor not in ("all", "unknown") and not _FLASH_ID.fullmatch(vendor):
                fix = 'write a vendor as "0x85", a whole id as "0x144068", "unknown" or "all"'
                yield f"checks.flash_policy.{key}", f"{vendor!r} is no flash id", fix
    if checks.wifi_scan is not None:
        if checks.wifi_scan.ssid.startswith("MicroPython-"):
            fix = "give the bench an access point with a name of its own"
            yield "checks.wifi_scan.ssid", "every fresh board beside it has such an access point", fix
        yield from _range("checks.wifi_scan.rssi_dbm", *checks.wifi_scan.rssi_dbm)
    if checks.boot is not None:
        yield from _range("checks.boot.to_prompt_s", *checks.boot.to_prompt_s)
    if checks.gpio is not None and not checks.gpio.pins:
        yield "checks.gpio.pins", "names no pin", "leave the table out, or write [0, 2]"


def _of_own_checks(own: tuple[OwnCheck, ...]) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, check in enumerate(own):
        if check.name in seen:
            yield f"check[{number}].name", f"{check.name!r} is there twice", "give each check its own name"
        seen.add(check.name)
        for key in ("limits", "units"):
            for name in getattr(check, key):
                if not _MEASUREMENT.fullmatch(name):
                    fix = "use small letters, digits and underscore, at most 40, and not done"
                    yield f"check[{number}].{key}", f"{name!r} is no name of a measurement", fix
        for name, limits in check.limits.items():
            if isinstance(limits, tuple):
                yield from _range(f"check[{number}].limits.{name}", *limits)
            elif isinstance(limits, float) and not math.isfinite(limits):
                yield f"check[{number}].limits.{name}", f"nothing equals {limits:g}", "write [lowest, highest]"


def _range(key: str, low: float, high: float) -> Iterator[Problem]:
    if not low <= high:
        yield key, f"{low:g} is above {high:g}", "write [lowest, highest]"
