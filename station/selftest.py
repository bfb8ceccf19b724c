"""The checks of the self-test, and what their values mean: code for the board, measurements, and the verdict over them.

A check is code that prints one JSON value as its last line, the type that value must have, and the measurements it becomes.
Everything here is pure: nothing talks to a board. `judge` never says pass unless every required measurement is there and
within its limits. The code runs on MicroPython 1.8.7 to 1.27: no f-strings, modules with and without their `u`. What the
functions it calls return: micropython `ports/esp8266/` (modesp.c, modmachine.c, network_wlan.c, moduos.c).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from station.errors import ReplGarbage
from station.model import FlashChip, Identity, Measurement, chip_id_from_unique_id, format_chip_id, format_mac
from station.reasons import Reason
from station.recipe import Recipe, trailer_problem

ANSWER_MAX_BYTES = 4096
"""What a check may print, chatter of the SDK before its value included."""
FILE_BLOCKS, FILE_BLOCK_BYTES = 16, 256

Value = float | int | str | bool | None
Text = Annotated[str, msgspec.Meta(max_length=120, pattern="^[ -~]*$")]
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
Hex6 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$")]
Hex4 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

_JSON = "try:\n import json\nexcept ImportError:\n import ujson as json\n"
_HEX = "try:\n import binascii\nexcept ImportError:\n import ubinascii as binascii\n"
_OS = "try:\n import os\nexcept ImportError:\n import uos as os\n"
_HASH = "try:\n import hashlib\nexcept ImportError:\n import uhashlib as hashlib\n"

IDENTITY_CODE = (
    f"{_JSON}{_HEX}import machine,network\n"
    # The station interface's address: the access point's differs by design (identity.md: its locally administered bit).
    "print(json.dumps([binascii.hexlify(network.WLAN(network.STA_IF).config('mac')).decode(),"
    "binascii.hexlify(machine.unique_id()).decode()]))\n"
)
# Everything is on flash after it; MicroPython's soft reset mounts the filesystem anew.
UNMOUNT_CODE = f"{_OS}try:\n os.umount('/')\nexcept OSError:\n pass\n"
RESTART_CODE = "import machine\nmachine.reset()\n"
# uname()[2] is the SDK's version, uname()[3] the firmware's: "v1.27.0 on 2025-12-09".
FIRMWARE_CODE = f"{_JSON}{_OS}u=os.uname()\nprint(json.dumps([u[3],u[2],u[4]]))\n"
CPU_FREQUENCY_CODE = "import machine\nprint(machine.freq())\n"
FLASH_CODE = "import esp\nprint('[%d,%d]'%(esp.flash_id()&0xffffff,esp.flash_size()))\n"
# esp.check_fw() prints size and MD5 of its own; builds before 1.8.3 have none.
FIRMWARE_INTACT_CODE = (
    f"{_JSON}import esp\nr=esp.check_fw() if hasattr(esp,'check_fw') else None\nprint()\nprint(json.dumps(r))\n"
)
FREE_RAM_CODE = "import gc\ngc.collect()\nprint(gc.mem_free())\n"
# A supply that is too weak gives way when the radio starts (fault E-1); the radio is left as it was found.
WIFI_START_CODE = (
    f"{_JSON}import network,time\nw=network.WLAN(network.STA_IF)\na=w.active()\nw.active(True)\ntime.sleep(0.2)\n"
    "r=w.active()\nw.active(a)\nprint()\nprint(json.dumps(r))\n"
)
_FILESYSTEM_WRITE_CODE = (
    f"{_JSON}{_HEX}{_OS}{_HASH}h=hashlib.sha256(b'@TOKEN@')\nx=@START@\nb=bytearray({FILE_BLOCK_BYTES})\n"
    "with open('selftest.tmp','wb') as f:\n"
    " f.write(b'@TOKEN@')\n"
    f" for i in range({FILE_BLOCKS}):\n"
    f"  for j in range({FILE_BLOCK_BYTES}):\n"
    "   x=(x*75+74)%65537\n"
    "   b[j]=x&255\n"
    "  h.update(b)\n"
    "  f.write(b)\n"
    "if hasattr(os,'sync'):\n os.sync()\n"
    "print(json.dumps(binascii.hexlify(h.digest()).decode()))\n"
)
FILESYSTEM_READ_CODE = (
    f"{_JSON}{_HEX}{_OS}{_HASH}h=hashlib.sha256()\n"
    "try:\n"
    " with open('selftest.tmp','rb') as f:\n"
    "  while 1:\n"
    f"   b=f.read({FILE_BLOCK_BYTES})\n"
    "   if not b:\n"
    "    break\n"
    "   h.update(b)\n"
    " os.remove('selftest.tmp')\n"
    " r=binascii.hexlify(h.digest()).decode()\n"
    "except OSError:\n r=None\n"
    "print(json.dumps(r))\n"
)

_IDENTITY_NAMES = ("mac", "chip_id", "flash_id")
_FILESYSTEM_NAMES = ("filesystem_written", "filesystem_hash")
_REQUIRED = (
    *_IDENTITY_NAMES,
    "firmware_version",
    "cpu_frequency",
    "flash_size",
    "firmware_intact",
    "free_ram",
    "wifi_start",
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Why the self-test did not pass."""

    reason: Reason
    detail: str


def board_that_answers(identity: bytes, flash: bytes) -> tuple[Identity, FlashChip]:
    """Return who answers a REPL, from what IDENTITY_CODE and FLASH_CODE printed; raises `ReplGarbage`.

    A firmware tells its MAC, not its OTP words. The size is what the image's header says, not what the chip has.
    """
    mac_hex, unique_id = _answer_of("identity", identity, tuple[Hex6, Hex4])
    jedec_id, size_bytes = _answer_of("flash", flash, tuple[Number, Number])
    chip_id = chip_id_from_unique_id(bytes.fromhex(unique_id))
    return (
        Identity(mac=format_mac(bytes.fromhex(mac_hex)), chip_id=chip_id, otp_words=None),
        FlashChip(jedec_id=jedec_id, size_bytes=size_bytes),
    )


def checks_for(recipe: Recipe, identity: Identity, flash: FlashChip) -> tuple[Check, ...]:
    """Return the checks for the board that was flashed, in the order in which to run them, those of the filesystem aside.

    Who answers comes first: of another board's values nothing may be held against this one.
    """
    limits = recipe.limits
    return (
        Check(
            name="identity",
            code=IDENTITY_CODE,
            answer=tuple[Hex6, Hex4],
            measure=lambda value: _measure_identity(value, identity),
        ),
        Check(
            name="flash",
            code=FLASH_CODE,
            answer=tuple[Number, Number],
            measure=lambda value: (
                exactly("flash_id", f"{value[0]:06x}", f"{flash.jedec_id & 0xFFFFFF:06x}"),
                exactly("flash_size", value[1], flash.size_bytes, unit="B"),
            ),
        ),
        Check(
            name="firmware",
            code=FIRMWARE_CODE,
            answer=tuple[Text, Text, Text],
            measure=lambda value: _measure_firmware(value, recipe),
        ),
        Check(
            name="firmware_intact",
            code=FIRMWARE_INTACT_CODE,
            answer=bool | None,
            # An image without MicroPython's trailer is vouched for by its sha256; the board's own check cannot hold there.
            measure=lambda value: (
                recorded("firmware_intact", value)
                if trailer_problem(recipe.image)
                else exactly("firmware_intact", value, expected=True),
            ),
        ),
        Check(
            name="cpu_frequency",
            code=CPU_FREQUENCY_CODE,
            answer=Number,
            measure=lambda value: (between("cpu_frequency", value, limits.cpu_frequency_hz, unit="Hz"),),
        ),
        Check(
            name="free_ram",
            code=FREE_RAM_CODE,
            answer=Number,
            measure=lambda value: (between("free_ram", value, limits.free_ram_bytes, unit="B"),),
        ),
        Check(
            name="wifi_start",
            code=WIFI_START_CODE,
            answer=bool,
            measure=lambda value: (exactly("wifi_start", value, expected=True),),
        ),
    )


def filesystem_checks(recipe: Recipe, seed: int) -> tuple[Check, ...]:
    """Return the two checks between which the board is reset by the lines; none where the firmware has no filesystem.

    The first writes a file of 4 KiB that `seed` (64 bits, fresh for each run) determines; the second, after the reset,
    hashes what is there and deletes it. The station knows the hash without asking.
    """
    if not recipe.has_filesystem:
        return ()
    token, start = f"{seed & (1 << 64) - 1:016x}", seed % 65537
    expected = hashlib.sha256(file_content(seed)).hexdigest()
    write_code = _FILESYSTEM_WRITE_CODE.replace("@TOKEN@", token).replace("@START@", str(start))
    return (
        Check(
            name="filesystem_write",
            code=write_code,
            answer=Hex32,
            measure=lambda value: (exactly("filesystem_written", value, expected),),
        ),
        Check(
            name="filesystem_read",
            code=FILESYSTEM_READ_CODE,
            answer=Hex32 | None,
            measure=lambda value: (exactly("filesystem_hash", value, expected),),
        ),
    )


def file_content(seed: int) -> bytes:
    """Return the bytes that the filesystem check with `seed` writes."""
    content = bytearray(f"{seed & (1 << 64) - 1:016x}".encode())
    state = seed % 65537
    for _ in range(FILE_BLOCKS * FILE_BLOCK_BYTES):
        state = (state * 75 + 74) % 65537
        content.append(state & 255)
    return bytes(content)


def parse(check: Check, payload: bytes) -> tuple[Measurement, ...]:
    """Return the measurements in what `check` printed; raises `ReplGarbage` when that is not what its code prints."""
    return check.measure(_answer_of(check.name, payload, check.answer))


def _answer_of(name: str, payload: bytes, answer: Any) -> Any:
    """Return the value in the last line of what a check printed; raises `ReplGarbage` when it is not of type `answer`."""
    if len(payload) > ANSWER_MAX_BYTES:
        raise ReplGarbage(f"check {name}: {len(payload)} bytes of answer, at most {ANSWER_MAX_BYTES} expected")
    lines = payload.strip().splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else b"", type=answer)
    except (msgspec.DecodeError, ValueError) as error:
        raise ReplGarbage(f"check {name}: {error}") from None


def required_measurements(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the measurements without which there is no PASS."""
    return _REQUIRED + (_FILESYSTEM_NAMES if recipe.has_filesystem else ())


def first_failure(measurements: Iterable[Measurement]) -> Finding | None:
    """Return why these measurements do not pass, None when all are within; a wrong identity comes before all else."""
    outside = [measurement for measurement in measurements if not measurement.within]
    for measurement in outside:
        if measurement.name in _IDENTITY_NAMES:
            detail = f"{measurement.name} = {_words(measurement.value)}, flashed was {_words(measurement.low)}"
            return Finding(reason=Reason.IDENTITY_MISMATCH, detail=detail)
    for measurement in outside:
        if measurement.name in _FILESYSTEM_NAMES:
            return Finding(reason=Reason.FILESYSTEM_LOST_DATA, detail=_deviation(measurement))
        return Finding(reason=Reason.OUT_OF_LIMITS, detail=_deviation(measurement))
    return None


def judge(recipe: Recipe, measurements: Iterable[Measurement]) -> Finding | None:
    """Return why a board with these measurements does not pass, None for pass: all required ones there, all within."""
    taken = tuple(measurements)
    failure = first_failure(taken)
    if failure is not None:
        return failure
    names = {measurement.name for measurement in taken}
    missing = [name for name in required_measurements(recipe) if name not in names]
    if missing:
        return Finding(reason=Reason.EVIDENCE_MISSING, detail=", ".join(missing))
    return None


def recorded(name: str, value: Value, *, unit: str = "") -> Measurement:
    """Return a measurement without limits."""
    return Measurement(name=name, value=value, unit=unit)


def between(name: str, value: float, limits: tuple[float, float], *, unit: str = "") -> Measurement:
    """Return a measurement that must lie within `limits`, both included."""
    low, high = limits
    return Measurement(name=name, value=value, unit=unit, low=low, high=high, within=low <= value <= high)


def exactly(name: str, value: Value, expected: Value, *, unit: str = "") -> Measurement:
    """Return a measurement that must equal `expected`; nothing equals an `expected` of None."""
    within = expected is not None and type(value) is type(expected) and value == expected
    return Measurement(name=name, value=value, unit=unit, low=expected, high=expected, within=within)


def _measure_identity(value: tuple[str, str], identity: Identity) -> tuple[Measurement, ...]:
    mac, unique_id = bytes.fromhex(value[0]), bytes.fromhex(value[1])
    return (
        exactly("mac", format_mac(mac), identity.mac),
        exactly("chip_id", format_chip_id(chip_id_from_unique_id(unique_id)), format_chip_id(identity.chip_id)),
    )


def _measure_firmware(value: tuple[str, str, str], recipe: Recipe) -> tuple[Measurement, ...]:
    version = value[0].partition(" on ")[0].removeprefix("v")
    return (
        exactly("firmware_version", version, recipe.firmware_version)
        if recipe.firmware_version
        else recorded("firmware_version", version),
        recorded("sdk_version", value[1]),
        recorded("machine", value[2]),
    )


def _deviation(measurement: Measurement) -> str:
    low, high, unit = measurement.low, measurement.high, f" {measurement.unit}" if measurement.unit else ""
    allowed = _words(low) if low == high else f"{_words(low)}…{_words(high)}"
    return f"{measurement.name} = {_words(measurement.value)}{unit}, allowed {allowed}"


def _words(value: Value) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
