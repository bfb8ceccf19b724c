"""Recipes with files and checks in a directory, for tests that load them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from station.errors import ConfigurationError
from station.recipe import Recipe, load_recipe
from tests.unit.small_image import make_small_image


def write_files(directory: Path, files: Mapping[str, bytes | str]) -> None:
    """Write these files, with the directories that they need."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def written(directory: Path, more: str = "", files: Mapping[str, bytes | str] | None = None, **image: str) -> Path:
    """Write a recipe for one image, `more` behind the `[firmware]` keys; `files` lie in the recipe's directory."""
    content = make_small_image(**image)  # type: ignore[arg-type]
    write_files(directory, {"thing.bin": content, **(files or {})})
    sha256 = hashlib.sha256(content).hexdigest()
    write_files(directory, {"thing.toml": f'[firmware]\npath = "thing.bin"\nsha256 = "{sha256}"\n{more}'})
    return directory / "thing.toml"


def with_images(
    directory: Path, variants: Mapping[str, str], more: str = "", files: Mapping[str, str] | None = None
) -> Path:
    """Write a recipe of `[[image]]` tables: variant -> further keys of its table; `more` stands before them."""
    text = more
    for variant, keys in variants.items():
        content = make_small_image(variant=variant)
        write_files(directory, {f"{variant}.bin": content})
        text += f'[[image]]\npath = "{variant}.bin"\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n{keys}'
    write_files(directory, {"thing.toml": text, **(files or {})})
    return directory / "thing.toml"


def tree(directory: Path, files: Mapping[str, bytes | str], more: str = "", **image: str) -> Recipe:
    """Load a recipe whose tree holds these files; `more` are further keys of `[files]` and what comes after."""
    named = {f"files/{name}": content for name, content in files.items()}
    return load_recipe(written(directory, f'[files]\ntree = "files"\n{more}', named, **image))


def refusal(path: Path) -> ConfigurationError:
    """Why this recipe is refused, in one line."""
    with pytest.raises(ConfigurationError) as refused:
        load_recipe(path)
    assert "\n" not in str(refused.value)
    return refused.value
