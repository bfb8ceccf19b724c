"""Makes a bundle of a recipe: every byte it was loaded from, by name and sum.

What is frozen is what was loaded: a file that changed since is refused. The TOML goes in as it was written; an image that
lies outside the recipe's directory goes in by its sha256, and is found by it. Every bundle is opened again before anybody
gets to see it, and has to give the same recipe.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from station.bundle.archive import (
    FORMAT,
    IMAGES,
    SUFFIX,
    Bundle,
    Manifest,
    entries,
    manifest_bytes,
    pack,
    pack_raw,
    read_bundle,
)
from station.bundle.opening import prove, read_bundle_file
from station.bundle.signing import sign
from station.errors import ConfigurationError
from station.recipe import Part, Recipe, RecipeFile, parse_toml, read_file

if TYPE_CHECKING:
    from station.bundle.signing import PrivateKey


def bundle_of(recipe: Recipe) -> Bundle | None:
    """Return the bundle that a recipe was loaded from, or one made of it now; None for a recipe that is no file's.

    Raises `ConfigurationError` when what lies on disk is not what was loaded.
    """
    if not recipe.parts:
        return None
    if not recipe.file.endswith(SUFFIX):
        return freeze(recipe)
    bundle = read_bundle_file(Path(recipe.file))
    if bundle.sha256 not in {part.sha256 for part in recipe.parts}:
        raise _changed(recipe.file)
    return bundle


def freeze(recipe: Recipe) -> Bundle:
    """Return the bundle of a recipe that was loaded from its TOML, unsigned; raises `ConfigurationError`."""
    toml = Path(recipe.file)
    parts: dict[str, bytes] = {}
    for part in recipe.parts:
        path = Path(part.path)
        content = read_file(path, what="part of the recipe", named_in=recipe.file)
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise _changed(part.path)
        parts[_name_in_bundle(toml, part)] = content
    manifest = Manifest(
        format=FORMAT,
        name=recipe.name,
        version=recipe.version,
        recipe_hash=recipe.hash,
        recipe=toml.name,
        parts=tuple(entries(parts)),
        directories=tuple(_empty_directories(toml)),
    )
    bundle = read_bundle(pack(manifest, parts), str(toml))
    prove(bundle, file=str(toml))
    return bundle


def signed(bundle: Bundle, key: PrivateKey) -> Bundle:
    """Return the same bundle, signed; a signature that it had is replaced. Another file, so another bundle by name."""
    raw = manifest_bytes(bundle.manifest)
    return read_bundle(pack_raw(raw, bundle.parts, sign(raw, key)), bundle.title)


def recipe_files(toml: Path) -> list[Path]:
    """Return every file that the recipe at `toml` names, itself first, whether or not it would be accepted.

    For backups: also a recipe that is wrong is worth keeping. Raises OSError for a recipe that cannot be read, and
    `ConfigurationError` for one that is none.
    """
    parsed = parse_toml(toml, toml.read_bytes(), RecipeFile, "see docs/recipes.md for every key")
    sections = (*((parsed.firmware,) if parsed.firmware else ()), *parsed.image)
    home = toml.resolve().parent
    found = [toml, *((toml.parent / section.path).resolve() for section in sections)]
    found += [(home / check.file).resolve() for check in parsed.check]
    if parsed.files.tree:
        tree = (home / parsed.files.tree).resolve()
        found += sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    return list(dict.fromkeys(found))


def _name_in_bundle(toml: Path, part: Part) -> str:
    """Return how a part is called in the bundle: as from the recipe's directory, or by its sum if it lies elsewhere."""
    path = Path(part.path)
    if path.absolute() == toml.absolute():
        return toml.name
    here = toml.resolve().parent / part.name
    lies_here = not Path(part.name).is_absolute() and here.exists() and here.resolve() == path.resolve()
    return Path(part.name).as_posix() if lies_here else f"{IMAGES}/{part.sha256}.bin"


def _empty_directories(toml: Path) -> list[str]:
    """Return the directories of the recipe's tree that hold no file, as seen from the recipe."""
    parsed = parse_toml(toml, read_file(toml, what="recipe"), RecipeFile, "see docs/recipes.md for every key")
    if not parsed.files.tree:
        return []
    home = toml.resolve().parent
    tree = (home / parsed.files.tree).resolve()
    if not tree.is_relative_to(home):
        raise ConfigurationError(
            file=str(toml),
            key="files.tree",
            problem="lies outside the recipe's directory",
            fix="put it beside the recipe",
        )
    empty = [path for path in (tree, *tree.rglob("*")) if path.is_dir() and not any(path.iterdir())]
    return sorted(path.relative_to(home).as_posix() for path in empty)


def _changed(path: str) -> ConfigurationError:
    return ConfigurationError(
        file=path, problem="it changed after the recipe was loaded", fix="load the recipe again: restart the station"
    )
