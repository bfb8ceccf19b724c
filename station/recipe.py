"""What to make of a board: image, flash settings and limits, loaded from TOML, verified, frozen and hashed.

`load_recipe` reads the file and the image it names once, checks both (sha256 from the recipe, MicroPython's own trailer)
before anything is touched, and returns an immutable `Recipe` that carries the image's bytes. Nothing here talks to a board.
It must never return a recipe whose image was not verified. Format of the image: micropython `ports/esp8266/makeimg.py`;
format of the header: Espressif's ESP8266 "firmware image format".
"""

from __future__ import annotations

import hashlib
import re
import struct
import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from station.errors import ConfigurationError, ImageChanged

HEADER_MAGIC = 0xE9
FLASH_MODES = {"qio": 0, "qout": 1, "dio": 2, "dout": 3}
FLASH_FREQUENCIES = {"40m": 0x0, "26m": 0x1, "20m": 0x2, "80m": 0xF}
# High nibble of header byte 3 (esptool 5.6 ESP8266ROM.FLASH_SIZES).
FLASH_SIZE_CODES = {
    512 << 10: 0x00,
    256 << 10: 0x10,
    1 << 20: 0x20,
    2 << 20: 0x30,
    4 << 20: 0x40,
    8 << 20: 0x80,
    16 << 20: 0x90,
}
TRAILER_LENGTH_OFFSET = 0x8FFC
TRAILER_SIZE_BYTES = 16
_MACHINE = re.compile(rb"ESP module(?: \((512K|1M)\))? with ESP8266")
_VERSION = re.compile(rb"v(\d+\.\d+(?:\.\d+)?(?:-[A-Za-z0-9.\-]+)?) on \d{4}-\d\d-\d\d")
_VARIANT_FLASH_BYTES = {b"512K": 512 << 10, b"1M": 1 << 20, None: 2 << 20}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COLD_BOOT = re.compile(r"never|all|(first|every) [1-9]\d{0,6}")
T = TypeVar("T")


class FirmwareSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[firmware]`: which image, and how it proves that it is whole."""

    path: str
    sha256: str
    trailer: str = "micropython"
    """`micropython`: the image must carry its own length and MD5; `none`: only the sha256 is checked, said on purpose."""
    minimum_flash_bytes: int | None = None
    """Smallest flash the image runs on; default: from the machine name in the image (512K, 1M, else 2 MiB)."""


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


class RecipeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recipe as it stands in TOML."""

    firmware: FirmwareSection
    name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    version: Annotated[str, msgspec.Meta(max_length=40)] = "1"
    flash: FlashSection = FlashSection()
    limits: LimitsSection = LimitsSection()
    policy: PolicySection = PolicySection()


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The immutable, verified description of what to make of a board, with the image itself."""

    name: str
    version: str
    file: str
    hash: str
    """sha256 over the canonical recipe, which names the image by its own sha256."""
    image: bytes
    firmware_path: str
    firmware_sha256: str
    firmware_version: str
    """What the image says of itself, or what `[limits]` demands; empty when neither does."""
    minimum_flash_bytes: int
    has_filesystem: bool
    flash_mode: str
    flash_frequency: str
    limits: LimitsSection
    policy: PolicySection
    file_sha256: str
    canonical: str
    """The canonical recipe as JSON text, whose sha256 is `hash`."""

    @property
    def short_hash(self) -> str:
        """The first eight digits of the hash, for people."""
        return self.hash[:8]


def load_recipe(path: Path) -> Recipe:
    """Read, verify and freeze the recipe at `path`; raises `ConfigurationError` naming file, key, problem and fix."""
    raw = read_file(path, what="recipe")
    parsed = _parse(path, raw)
    _check_values(path, parsed)
    image_path = (path.parent / parsed.firmware.path).resolve()
    image = read_file(image_path, what="firmware image", named_in=f"{path}: firmware.path")
    verify_image(
        image, sha256=parsed.firmware.sha256, trailer=parsed.firmware.trailer, file=str(image_path), recipe=path
    )
    machine = _MACHINE.search(image)
    variant = machine.group(1) if machine else None
    needed = _VARIANT_FLASH_BYTES[variant] if machine else _round_up_to_flash_size(len(image))
    minimum = parsed.firmware.minimum_flash_bytes or needed
    if variant is not None and minimum < needed:
        # A build that names no size may be an early one, made for 1 MiB; one that names it will not do with less (D-6).
        raise ConfigurationError(
            file=str(path),
            key="firmware.minimum_flash_bytes",
            problem=f"{minimum} is less than this {variant.decode()} build needs",
            fix=f"leave the key out, or write at least {needed}",
        )
    found_version = _VERSION.search(image)
    version = parsed.limits.firmware_version or (found_version.group(1).decode() if found_version else "")
    canonical = msgspec.json.encode(_canonical(parsed, path), order="sorted")
    return Recipe(
        name=parsed.name or path.stem,
        version=parsed.version,
        file=str(path),
        hash=hashlib.sha256(canonical).hexdigest(),
        canonical=canonical.decode(),
        image=image,
        firmware_path=str(image_path),
        firmware_sha256=parsed.firmware.sha256.lower(),
        firmware_version=version,
        minimum_flash_bytes=minimum,
        has_filesystem=(minimum if variant is None else needed) >= 1 << 20,
        flash_mode=parsed.flash.mode,
        flash_frequency=parsed.flash.frequency,
        limits=parsed.limits,
        policy=parsed.policy,
        file_sha256=hashlib.sha256(raw).hexdigest(),
    )


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


def verify_image(image: bytes, *, sha256: str, trailer: str, file: str, recipe: Path) -> None:
    """Check an image's sha256 and, unless `trailer` is `none`, MicroPython's own trailer (faults D-9).

    Raises `ConfigurationError`.
    """
    actual = hashlib.sha256(image).hexdigest()
    if actual != sha256.lower():
        raise ConfigurationError(
            file=str(recipe),
            key="firmware.sha256",
            problem=f"{file} ({len(image)} bytes) has sha256 {actual}, the recipe says {sha256.lower()}",
            fix="fetch the image again if it is damaged, or write the new sha256 if you meant to change it",
        )
    problem = image_problem(image)
    if problem:
        raise ConfigurationError(
            file=file, problem=problem, fix="use an ESP8266 firmware image (it starts with byte 0xE9)"
        )
    if trailer == "micropython":
        problem = trailer_problem(image)
        if problem:
            raise ConfigurationError(
                file=file,
                problem=f"not a complete MicroPython image: {problem}",
                fix='fetch the image again; for an early MicroPython or another firmware say firmware.trailer = "none"',
            )


def image_problem(image: bytes) -> str:
    """Return what makes `image` no ESP8266 firmware at all, or an empty string."""
    if len(image) < 16:  # noqa: PLR2004 - header (8) and the first segment's header (8)
        return f"only {len(image)} bytes long"
    if image[0] != HEADER_MAGIC:
        return f"first byte is {image[0]:#04x}, not 0xe9"
    return ""


def trailer_problem(image: bytes) -> str:
    """Return why MicroPython's trailer (length at 0x8ffc, MD5 of all but the first 4 bytes at the end) does not hold."""
    if len(image) < TRAILER_LENGTH_OFFSET + 4 + TRAILER_SIZE_BYTES:
        return f"only {len(image)} bytes long"
    (length,) = struct.unpack_from("<I", image, TRAILER_LENGTH_OFFSET)
    if length != len(image) - TRAILER_SIZE_BYTES:
        return f"the image says it is {length + TRAILER_SIZE_BYTES} bytes long, the file has {len(image)}"
    if hashlib.md5(image[4:-TRAILER_SIZE_BYTES], usedforsecurity=False).digest() != image[-TRAILER_SIZE_BYTES:]:
        return "its MD5 does not match its content"
    return ""


def image_for_flash(recipe: Recipe, flash_size_bytes: int, mode: str | None = None) -> bytes:
    """Return the image with header bytes 2 and 3 set for this flash, as `esptool --flash-size detect` does (D-8).

    `flash_size_bytes` must be a key of `FLASH_SIZE_CODES`; `mode` overrides the recipe's flash mode.
    """
    size = FLASH_SIZE_CODES[flash_size_bytes]
    header = bytes((FLASH_MODES[mode or recipe.flash_mode], size | FLASH_FREQUENCIES[recipe.flash_frequency]))
    return recipe.image[:2] + header + recipe.image[4:]


def check_unchanged(recipe: Recipe) -> None:
    """Raise `ImageChanged` unless recipe and image on disk are still what was loaded (D-10)."""
    for path, digest in ((recipe.file, recipe.file_sha256), (recipe.firmware_path, recipe.firmware_sha256)):
        try:
            actual = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError as error:
            raise ImageChanged(f"{path} cannot be read any more ({error.strerror})") from None
        if actual != digest:
            raise ImageChanged(f"{path} is not what was loaded (sha256 {actual[:12]}…, was {digest[:12]}…)")


def new_recipe_text(image_path: Path, out: Path) -> str:
    """Return the TOML of a minimal recipe for `image_path`, to be written to `out`; raises `ConfigurationError`."""
    image = read_file(image_path, what="firmware image")
    problem = image_problem(image)
    if problem:
        raise ConfigurationError(file=str(image_path), problem=problem, fix="give an ESP8266 firmware image")
    # A JSON string is a TOML string: whatever the files are called, the text can be read again.
    lines = [f"name = {msgspec.json.encode(out.stem).decode()}", 'version = "1"', "", "[firmware]"]
    resolved = image_path.resolve()
    inside = resolved.is_relative_to(out.resolve().parent)
    shown = resolved.relative_to(out.resolve().parent) if inside else resolved
    lines += [f"path = {msgspec.json.encode(str(shown)).decode()}", f'sha256 = "{hashlib.sha256(image).hexdigest()}"']
    if trailer_problem(image):
        lines.append('trailer = "none"  # this image carries no MicroPython trailer: only its sha256 vouches for it')
    return "\n".join(lines) + "\n"


def _parse(path: Path, raw: bytes) -> RecipeFile:
    return parse_toml(path, raw, RecipeFile, "see docs/recipes.md for every key")


def parse_toml(path: Path, raw: bytes, into: type[T], fix: str) -> T:
    """Decode TOML strictly into a struct; raises `ConfigurationError` with the line of a syntax error or the key's path."""
    try:
        return msgspec.convert(tomllib.loads(raw.decode("utf-8")), into)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            file=str(path), problem=f"not UTF-8 text (byte {error.start})", fix="save the file as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(file=str(path), problem=f"TOML syntax: {error}", fix="correct that line") from None
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise ConfigurationError(file=str(path), key=where.rstrip("`").lstrip("."), problem=message, fix=fix) from None


def _check_values(path: Path, parsed: RecipeFile) -> None:
    accepted: tuple[tuple[str, str, object], ...] = (
        ("firmware.trailer", parsed.firmware.trailer, ("micropython", "none")),
        ("flash.mode", parsed.flash.mode, tuple(FLASH_MODES)),
        ("flash.frequency", parsed.flash.frequency, tuple(FLASH_FREQUENCIES)),
    )
    for key, value, choices in accepted:
        if value not in choices:  # type: ignore[operator]
            raise ConfigurationError(
                file=str(path), key=key, problem=f"{value!r} is not known", fix=f"write one of {choices}"
            )
    if not _COLD_BOOT.fullmatch(parsed.policy.cold_boot):
        raise ConfigurationError(
            file=str(path),
            key="policy.cold_boot",
            problem=f"{parsed.policy.cold_boot!r} is not known",
            fix='write "never", "all", "first N" or "every K" with a number above 0',
        )
    minimum = parsed.firmware.minimum_flash_bytes
    if minimum is not None and minimum not in FLASH_SIZE_CODES:
        raise ConfigurationError(
            file=str(path),
            key="firmware.minimum_flash_bytes",
            problem=f"{minimum} is no flash size of an ESP8266",
            fix=f"write one of {sorted(FLASH_SIZE_CODES)}",
        )
    if not _SHA256.fullmatch(parsed.firmware.sha256.lower()):
        raise ConfigurationError(
            file=str(path),
            key="firmware.sha256",
            problem="not 64 hex digits",
            fix="write the output of: sha256sum IMAGE",
        )
    for key in ("cpu_frequency_hz", "free_ram_bytes"):
        low, high = getattr(parsed.limits, key)
        if low > high:
            raise ConfigurationError(
                file=str(path), key=f"limits.{key}", problem=f"{low} is above {high}", fix="write [lowest, highest]"
            )


def demands_cold_boot(policy: PolicySection, number: int) -> bool:
    """Whether the `number`-th board of a lot, counted from 1, must start from a hardware reset before PASS."""
    kind, _, count = policy.cold_boot.partition(" ")
    match kind:
        case "all":
            return True
        case "first":
            return number <= int(count)
        case "every":
            return number % int(count) == 0
        case _:
            return False


def _canonical(parsed: RecipeFile, path: Path) -> dict[str, object]:
    """The recipe without what does not change the product: where the image lies and how the TOML is laid out."""
    content = msgspec.to_builtins(parsed)
    content["firmware"].pop("path")
    if parsed.policy == PolicySection():
        # Recipes from before there was a policy keep their hash, and with it what boards passed under them.
        content.pop("policy")
    content["firmware"]["sha256"] = parsed.firmware.sha256.lower()
    content["name"] = parsed.name or path.stem
    return dict(content)


def _round_up_to_flash_size(length: int) -> int:
    return next(size for size in sorted(FLASH_SIZE_CODES) if size >= length or size == max(FLASH_SIZE_CODES))
