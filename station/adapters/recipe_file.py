"""Puts firmware images into a recipe that a person wrote: comments, order and everything else stay as they were.

Promises to change path, sum and trailer of images and nothing else. Never writes a file itself, and never judges a recipe:
loading does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import tomlkit
from tomlkit.exceptions import ParseError
from tomlkit.items import AoT, Table

from station.errors import ConfigurationError
from station.recipe import describe, image_problem, read_file, shown_path, trailer_problem


def with_images(recipe: Path, text: str, images: Sequence[Path], *, named_from: Path | None = None) -> str:
    """Return the TOML `text` of `recipe` with path and sha256 of these images in it, everything else as it was.

    One image fills `[firmware]`, or the `[[image]]` table of its flash size; several are one `[[image]]` table each. Of a
    copied recipe `named_from` is where the images lie that it names so far. Raises `ConfigurationError`.
    """
    try:
        document = tomlkit.parse(text)
    except ParseError as error:
        raise ConfigurationError(file=str(recipe), problem=f"TOML syntax: {error}", fix="correct that line") from None
    tables = [_facts(recipe, image) for image in images]
    if len(tables) == 1 and "image" not in document:
        section = document.setdefault("firmware", tomlkit.table())
        _set(section, tables[0])
        return tomlkit.dumps(document)
    document.pop("firmware", None)
    listed = document.setdefault("image", tomlkit.aot())
    if not isinstance(listed, AoT):
        raise ConfigurationError(
            file=str(recipe), key="image", problem="not a list of tables", fix="write [[image]] tables"
        )
    for table in tables:
        wanted = table.pop("flash_bytes")
        present = [each for each in listed if _flash_of(named_from or recipe.resolve().parent, each) == wanted]
        if not present:
            present = [tomlkit.table()]
            listed.append(present[0])
        _set(present[0], table)
    return tomlkit.dumps(document)


def _facts(recipe: Path, image: Path) -> dict[str, str | int]:
    content = read_file(image, what="firmware image")
    problem = image_problem(content)
    if problem:
        raise ConfigurationError(file=str(image), problem=problem, fix="give an ESP8266 firmware image")
    facts: dict[str, str | int] = {"path": shown_path(image, recipe), "sha256": hashlib.sha256(content).hexdigest()}
    if trailer_problem(content):
        facts["trailer"] = "none"
    return facts | {"flash_bytes": describe(content).needs_flash_bytes}


def _set(section: Table, facts: dict[str, str | int]) -> None:
    for key in ("path", "sha256"):
        section[key] = facts[key]
    if "trailer" in facts:
        section["trailer"] = facts["trailer"]
    else:
        section.pop("trailer", None)


def _flash_of(directory: Path, section: Table) -> int | None:
    """The flash that the image of a `[[image]]` table needs, as far as that can be told."""
    path, said = str(section.get("path", "")), section.get("minimum_flash_bytes")
    return flash_wanted(directory / path, said if isinstance(said, int) else None)


def flash_wanted(image: Path, minimum_flash_bytes: int | None) -> int | None:
    """Return the flash that the image of a table needs: by the image, else by what the table says; None: nobody knows."""
    return describe(image.read_bytes()).needs_flash_bytes if image.is_file() else minimum_flash_bytes
