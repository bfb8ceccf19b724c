"""A recipe as it stands in TOML: every section and key with its default, read strictly.

An unknown key, a wrong type or a value out of range is a `ConfigurationError` that names file, key, problem and fix. What
the keys mean is said in `docs/recipes.md`; a test holds the two together. Nothing here opens an image or talks to a board.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from station.errors import ConfigurationError
from station.recipe.nearest import refused

T = TypeVar("T")
Range = tuple[float, float]
"""Lowest and highest, both allowed."""
Name = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,39}$")]


class FirmwareSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[firmware]`, or one of several `[[image]]`: which image, and how it proves that it is whole."""

    path: str
    sha256: str
    trailer: str = "micropython"
    """`micropython`: the image must carry its own length and MD5; `none`: only the sha256 is checked, said on purpose."""
    minimum_flash_bytes: int | None = None
    """Smallest flash the image runs on; default: from the machine name in the image (512K, 1M, else 2 MiB)."""
    modules: tuple[str, ...] | None = None
    """Top-level modules that this build can import; default: those of MicroPython's own build of that variant."""


class FlashSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[flash]`: how it is written."""

    mode: str = "dout"
    frequency: str = "40m"


class LimitsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[limits]`: what the self-test accepts."""

    firmware_version: str = ""
    """Exact version, e.g. `1.27.0`; default: the version found in the image, any when it names none."""
    cpu_frequency_hz: tuple[int, int] = (80_000_000, 160_000_000)
    free_ram_bytes: tuple[int, int] = (10_000, 120_000)


class PolicySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[policy]`: what to do with boards that the records know, and what a PASS takes beyond the tests."""

    attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """So often a board may be judged FAIL or ERROR before it takes a rework; ABORTED and a disturbed hub are not counted."""
    repeat: Literal["refuse", "flash"] = "refuse"
    """What to do with a board that passed under this very recipe in an open lot."""
    cold_boot: str = "never"
    """`never`, `all`, `first N` or `every K` boards of a lot must start from a hardware reset before PASS."""
    run_mode_board: Literal["ignore", "test", "refuse"] = "ignore"
    """What to do with a board that runs a firmware and for which no job waits."""
    prove: tuple[Literal["golden", "red"], ...] = ()
    """The known boards that every slot must judge as they must be, in each lot and shift, before it makes any."""
    first_article: Literal["none", "lot", "shift"] = "none"
    """`lot`, `shift`: boards are made one at a time until one of it has passed."""


class FilesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[files]`: what lies in the board's filesystem when it is done."""

    tree: str = ""
    """A directory, seen from the recipe: its files and directories come to the board's root as they are."""
    compile: tuple[str, ...] = ()
    """Patterns of paths in the tree (`lib/**/*.py`) that are uploaded compiled, as `.mpy`."""
    fill_in: tuple[str, ...] = ()
    """Patterns of paths in which `${…}` is replaced by the board's own data."""
    rename: Mapping[str, str] = {}
    """Path in the tree -> path on the board."""
    delete: tuple[str, ...] = ()
    """Paths on the board that must not exist when it is done, such as the firmware's own `boot.py`."""
    others: Literal["keep", "delete"] = "keep"
    """What becomes of files on the board that the recipe does not name."""
    method: Literal["auto", "repl"] = "auto"
    """`auto`: written as LittleFS sectors in the flash pass where the layout is known; `repl`: always through the REPL."""
    hold: tuple[str, ...] = ()
    """Paths that get their name only after the last check: programs that would hide the REPL or sleep."""


class SerialSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[serial]`: a number of its own for every board, out of a pool of the station."""

    pool: Annotated[str, msgspec.Meta(max_length=60)] = ""
    """Name of the pool; empty: no serial number."""
    format: Annotated[str, msgspec.Meta(max_length=60)] = "{number}"
    """How `${serial}` is written, e.g. `SN{number:06d}`."""


class ValuesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[values]`: pre-assigned values, one row of a CSV file per board."""

    csv: str = ""
    """File in the station's directory of values (`work.values`); empty: none."""
    by: Literal["mac", "chip_id", "row"] = "mac"
    """`mac`, `chip_id`: the row whose column of that name is the board's; `row`: the next one nobody has, as a serial."""
    secret: tuple[str, ...] = ()
    """Columns that must never be seen: not in log, records, page or transcript."""


class NetworkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[network]`: what the board's radio does when it leaves the bench."""

    access_point: Literal["off", "keep"] = "off"
    """`off`: a fresh MicroPython's own access point, with its public password, is switched off and proven off."""
    ssid: Annotated[str, msgspec.Meta(max_length=32)] = ""
    """Network to join as a station; empty: none."""
    key_secret: str = ""
    """Name of the secret that holds its key; empty: an open network."""
    join_within_s: Annotated[float, msgspec.Meta(ge=0, le=120)] = 0.0
    """Above 0: the board must have joined within so long; 0: the credentials are stored and proven, nobody joins."""
    webrepl_secret: str = ""
    """Name of the secret that holds the WebREPL password (4 to 9 characters); empty: no WebREPL."""


class FrequencyCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[checks.frequency]`: the CPU is set to each of these, measured, and set back."""

    hz: tuple[int, ...] = (80_000_000, 160_000_000)


class FlashPolicyCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[checks.flash_policy]`: what becomes of flash chips by vendor byte (`0x85`) or whole id (`0x144068`)."""

    reject: tuple[str, ...] = ()
    read_back: tuple[str, ...] = ("0x85", "0x5e", "0x68", "unknown")
    """PUYA, ZBIT, BOYA and vendors that nobody knows: allowed after an extra write and read-back, and counted."""
    allow: tuple[str, ...] = ("all",)


class FilesystemFillCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[checks.filesystem_fill]`: so much of what is free is filled and read back after a reset, then deleted."""

    share: Annotated[float, msgspec.Meta(gt=0, le=0.95)] = 0.5


class WifiScanCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[checks.wifi_scan]`: one access point of the bench must be heard, neither too weak nor too strong."""

    ssid: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    rssi_dbm: Range = (-75.0, -10.0)
    scans: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    """At most so many; the strongest signal of all counts."""
    at_once_per_hub: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2


class GpioCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[checks.gpio]`: levels and pull-ups of the boot pins; not applicable where a jumper or line holds GPIO0."""

    pins: tuple[Literal[0, 2], ...] = (0, 2)


class BootCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[checks.boot]`: how the board started, and how often while it was tested."""

    to_prompt_s: Range = (0.0, 20.0)
    unexpected_boots: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """So many starts that nobody ordered are allowed during the test."""


class ChecksSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[checks.…]`: checks beyond those that every board gets; a table that is there switches its check on."""

    frequency: FrequencyCheck | None = None
    flash_policy: FlashPolicyCheck = FlashPolicyCheck()
    filesystem_fill: FilesystemFillCheck | None = None
    wifi_scan: WifiScanCheck | None = None
    gpio: GpioCheck | None = None
    boot: BootCheck | None = None


class OwnCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[check]]`: a `.py` file with a function `check()` that is run on the board and returns its measurements."""

    name: Name
    file: str
    """Seen from the recipe; at most 8 KiB. `check()` returns a dict: name -> value."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=120)] = 10.0
    limits: Mapping[str, tuple[float, float] | float | str | bool] = {}
    """Measurement -> [lowest, highest], or the one value it must have; a name here is required of `check()`."""
    units: Mapping[str, str] = {}


class SignalSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[signal]`: the LED on the board shows the result until it is unplugged; no file is left behind."""

    led: Literal["none", "gpio1", "gpio2"] = "none"
    """GPIO2 on the ESP-01S, GPIO1 (the UART's TX) on the ESP-01."""


class RecipeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recipe as it stands in TOML."""

    name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    version: Annotated[str, msgspec.Meta(max_length=40)] = "1"
    firmware: FirmwareSection | None = None
    image: tuple[FirmwareSection, ...] = ()
    """Several images; the largest that fits the detected flash is taken. Either these or `[firmware]`."""
    flash: FlashSection = FlashSection()
    limits: LimitsSection = LimitsSection()
    policy: PolicySection = PolicySection()
    files: FilesSection = FilesSection()
    serial: SerialSection = SerialSection()
    values: ValuesSection = ValuesSection()
    network: NetworkSection = NetworkSection()
    checks: ChecksSection = ChecksSection()
    check: tuple[OwnCheck, ...] = ()
    signal: SignalSection = SignalSection()


def read_file(path: Path, *, what: str, named_in: str = "") -> bytes:
    """Return the bytes of `path`; a file that cannot be read is a `ConfigurationError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            file=named_in or str(path),
            problem=f"the {what} {path} cannot be read ({error.strerror})",
            fix="give the path of a readable file",
        ) from None


def parse_toml(path: Path, raw: bytes, into: type[T], fix: str) -> T:
    """Decode TOML strictly into a struct; raises `ConfigurationError` with the line of a syntax error or the key's path."""
    try:
        written = tomllib.loads(raw.decode("utf-8"))
        if _holds_nul(written):
            raise ConfigurationError(file=str(path), problem="a text holds the character U+0000", fix="take it out")
        return msgspec.convert(written, into)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            file=str(path), problem=f"not UTF-8 text (byte {error.start})", fix="save the file as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(file=str(path), problem=f"TOML syntax: {error}", fix="correct that line") from None
    except msgspec.ValidationError as error:
        raise refused(str(path), error, into, fix) from None


def _holds_nul(value: object) -> bool:
    """Whether any text holds what ends a path and a record's text; TOML can write it as an escape."""
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_holds_nul(each) for pair in value.items() for each in pair)
        case list():
            return any(map(_holds_nul, value))
        case _:
            return False
