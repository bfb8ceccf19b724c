"""A first recipe, written by the station for an image. Promises text that loads; never writes a file itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from station.errors import ConfigurationError
from station.recipe.images import image_problem, trailer_problem
from station.recipe.text import read_file


def new_recipe_text(image_path: Path, out: Path) -> str:
    """Return the TOML of a minimal recipe for `image_path`, to be written to `out`; raises `ConfigurationError`."""
    image = read_file(image_path, what="firmware image")
    problem = image_problem(image)
    if problem:
        raise ConfigurationError(file=str(image_path), problem=problem, fix="give an ESP8266 firmware image")
    # A JSON string is a TOML string: whatever the files are called, the text can be read again.
    lines = [f"name = {msgspec.json.encode(out.stem).decode()}", 'version = "1"', "", "[firmware]"]
    shown = msgspec.json.encode(shown_path(image_path, out)).decode()
    lines += [f"path = {shown}", f'sha256 = "{hashlib.sha256(image).hexdigest()}"']
    if trailer_problem(image):
        lines.append('trailer = "none"  # this image carries no MicroPython trailer: only its sha256 vouches for it')
    return "\n".join(lines) + "\n"


def shown_path(image: Path, recipe: Path) -> str:
    """Return how a recipe names an image: seen from itself where it lies beside or below, else by its whole path."""
    resolved, directory = image.resolve(), recipe.resolve().parent
    return str(resolved.relative_to(directory) if resolved.is_relative_to(directory) else resolved)
