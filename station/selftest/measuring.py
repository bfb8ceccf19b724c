"""What a check is, and how what a board printed becomes measurements. Pure.

A check is code that prints one JSON value as its last line, the type that value must have, and the measurements it becomes.
What is not exactly of that type is `ReplGarbage` and is never judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from station.errors import ReplGarbage
from station.model import Measurement
from station.reasons import Reason

ANSWER_MAX_BYTES = 4096
"""What a check may print, chatter of the SDK before its value included."""

Value = float | int | str | bool | None
Text = Annotated[str, msgspec.Meta(max_length=120, pattern="^[ -~]*$")]
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
Hex6 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$")]
Hex4 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

# The code runs on MicroPython 1.8.7 to 1.27: no f-strings, modules with and without their `u`.
JSON = "try:\n import json\nexcept ImportError:\n import ujson as json\n"
HEX = "try:\n import binascii\nexcept ImportError:\n import ubinascii as binascii\n"
OS = "try:\n import os\nexcept ImportError:\n import uos as os\n"
HASH = "try:\n import hashlib\nexcept ImportError:\n import uhashlib as hashlib\n"
TIME = "try:\n import time\nexcept ImportError:\n import utime as time\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to ask of a board."""

    name: str
    """Named to the person when the check crashes."""
    code: str
    """Printable ASCII and line feeds; prints one JSON value as its last line."""
    answer: Any
    """The type (for msgspec) that the decoded value must have."""
    measure: Callable[[Any], tuple[Measurement, ...]]
    """Turns a value of that type into measurements."""
    timeout_s: float | None = None
    """How long it may take; None: as long as any check of the station."""
    radio: bool = False
    """Whether it draws the current of a radio: not too many of those at once on one hub."""
    own: bool = False
    """Whether it is the recipe's own code: what hangs there is the check, not the REPL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Why the self-test did not pass."""

    reason: Reason
    detail: str


def parse(check: Check, payload: bytes) -> tuple[Measurement, ...]:
    """Return the measurements in what `check` printed; raises `ReplGarbage` when that is not what its code prints."""
    return check.measure(answer_of(check.name, payload, check.answer))


def answer_of(name: str, payload: bytes, answer: Any) -> Any:
    """Return the value in the last line of what a check printed; raises `ReplGarbage` when it is not of type `answer`."""
    if len(payload) > ANSWER_MAX_BYTES:
        raise ReplGarbage(f"check {name}: {len(payload)} bytes of answer, at most {ANSWER_MAX_BYTES} expected")
    lines = payload.strip().splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else b"", type=answer)
    except (msgspec.DecodeError, ValueError) as error:
        raise ReplGarbage(f"check {name}: {error}") from None


def recorded(name: str, value: Value, *, unit: str = "") -> Measurement:
    """Return a measurement without limits."""
    return Measurement(name=name, value=value, unit=unit)


def between(name: str, value: Value, limits: tuple[float, float], *, unit: str = "") -> Measurement:
    """Return a measurement that must be a number within `limits`, both included."""
    low, high = limits
    within = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    return Measurement(name=name, value=value, unit=unit, low=low, high=high, within=within)


def exactly(name: str, value: Value, expected: Value, *, unit: str = "") -> Measurement:
    """Return a measurement that must equal `expected`; nothing equals an `expected` of None."""
    within = expected is not None and type(value) is type(expected) and value == expected
    return Measurement(name=name, value=value, unit=unit, low=expected, high=expected, within=within)


def deviation(measurement: Measurement) -> str:
    """Return what a person reads of a measurement outside its limits: `free_ram = 1 B, allowed 10000…120000`."""
    low, high, unit = measurement.low, measurement.high, f" {measurement.unit}" if measurement.unit else ""
    allowed = words(low) if low == high else f"{words(low)}…{words(high)}"
    return f"{measurement.name} = {words(measurement.value)}{unit}, allowed {allowed}"


def words(value: Value) -> str:
    """Return a value as a person reads it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
