"""What no type can say of a recipe: choices, ranges, and which keys go together; and the one form that is hashed.

Every refusal is a `ConfigurationError` that names file, key, problem and fix. Nothing here reads a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from station.errors import ConfigurationError
from station.recipe.images import FLASH_FREQUENCIES, FLASH_MODES, FLASH_SIZE_CODES
from station.recipe.plan import OwnCheckCode
from station.recipe.sections import check_sections
from station.recipe.text import FirmwareSection, PolicySection, RecipeFile
from station.recipe.tree import NO_TREE, Tree, hashed_form

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COLD_BOOT = re.compile(r"never|all|(first|every) [1-9]\d{0,6}")
# Sections that say what is made of a board; at their defaults they are left out of the hashed form.
_LEFT_OUT = ("files", "serial", "values", "checks", "check", "signal")


def check_values(path: Path, parsed: RecipeFile) -> None:
    """Raise `ConfigurationError` for the first value that makes no sense."""
    if (parsed.firmware is None) == (not parsed.image):
        raise ConfigurationError(
            file=str(path),
            key="firmware",
            problem="both [firmware] and [[image]]" if parsed.image else "no image",
            fix="write one [firmware] table, or one [[image]] table for each flash size",
        )
    for key, section in image_sections(parsed):
        _check_image_values(path, key, section)
    for key, value, choices in (
        ("flash.mode", parsed.flash.mode, tuple(FLASH_MODES)),
        ("flash.frequency", parsed.flash.frequency, tuple(FLASH_FREQUENCIES)),
    ):
        _check_choice(path, key, value, choices)
    if not _COLD_BOOT.fullmatch(parsed.policy.cold_boot):
        raise ConfigurationError(
            file=str(path),
            key="policy.cold_boot",
            problem=f"{parsed.policy.cold_boot!r} is not known",
            fix='write "never", "all", "first N" or "every K" with a number above 0',
        )
    for key in ("cpu_frequency_hz", "free_ram_bytes"):
        low, high = getattr(parsed.limits, key)
        if low > high:
            raise ConfigurationError(
                file=str(path), key=f"limits.{key}", problem=f"{low} is above {high}", fix="write [lowest, highest]"
            )
    check_sections(path, parsed)


def canonical_content(
    parsed: RecipeFile, path: Path, *, tree: Tree = NO_TREE, own: Iterable[OwnCheckCode] = ()
) -> dict[str, object]:
    """Return the recipe without what does not change the product: where the parts lie and how the TOML is laid out.

    Files stand in it by where they come to and by the sha256 of their sources, so that another release of the compiler
    makes no other recipe. `[network]` is always in it: its defaults do something to every board.
    """
    content = msgspec.to_builtins(parsed)
    for name in ("firmware", "image"):
        if not content[name]:
            content.pop(name)
    if "firmware" in content:
        content["firmware"] = _image_form(content["firmware"])
    else:
        content["image"] = sorted(map(_image_form, content["image"]), key=lambda section: section["sha256"])
    if parsed.policy == PolicySection():
        content.pop("policy")
    for name in _LEFT_OUT:
        if getattr(parsed, name) == getattr(RecipeFile(), name):
            content.pop(name)
    if "files" in content:
        content["files"] = hashed_form(tree, parsed.files)
    for check, code in zip(content.get("check", ()), own, strict=True):
        check["file"] = hashlib.sha256(code.source.encode()).hexdigest()
    content["name"] = parsed.name or path.stem
    return dict(content)


def _image_form(section: dict[str, Any]) -> dict[str, Any]:
    """An image without where it lies, and without what is found in it."""
    left_out = ("path", "modules") if section["modules"] is None else ("path",)
    kept = {key: value for key, value in section.items() if key not in left_out}
    return kept | {"sha256": section["sha256"].lower()}


def image_sections(parsed: RecipeFile) -> Iterator[tuple[str, FirmwareSection]]:
    """Yield key and section of every image."""
    if parsed.firmware is not None:
        yield "firmware", parsed.firmware
    for number, section in enumerate(parsed.image):
        yield f"image[{number}]", section


def _check_image_values(path: Path, key: str, section: FirmwareSection) -> None:
    _check_choice(path, f"{key}.trailer", section.trailer, ("micropython", "none"))
    minimum = section.minimum_flash_bytes
    if minimum is not None and minimum not in FLASH_SIZE_CODES:
        raise ConfigurationError(
            file=str(path),
            key=f"{key}.minimum_flash_bytes",
            problem=f"{minimum} is no flash size of an ESP8266",
            fix=f"write one of {sorted(FLASH_SIZE_CODES)}",
        )
    if not section.sha256:
        raise ConfigurationError(
            file=str(path),
            key=f"{key}.sha256",
            problem="no image was filled in yet",
            fix=f"station recipe firmware {path} --image IMAGE; or take this table out, if you make no such boards",
        )
    if not _SHA256.fullmatch(section.sha256.lower()):
        raise ConfigurationError(
            file=str(path),
            key=f"{key}.sha256",
            problem="not 64 hex digits",
            fix="write the output of: sha256sum IMAGE",
        )


def _check_choice(path: Path, key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(
            file=str(path), key=key, problem=f"{value!r} is not known", fix=f"write one of {choices}"
        )
