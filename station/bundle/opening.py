"""Makes a recipe of a bundle, or of a plain file: unpacked under the name of its sha256, then loaded as any recipe is.

A bundle is unpacked whole or not at all, into a directory that its content names, and only by names that `archive` has
checked. A recipe that comes out with another hash than the manifest says is refused. Which signatures count is asked here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from station.bundle.archive import MOST_BYTES, SUFFIX, Bundle, read_bundle
from station.errors import ConfigurationError
from station.recipe import Part, Recipe, load_recipe

BUNDLES = "bundles"
"""Directory in the state directory: unpacked bundles by their sha256. It can be deleted at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A recipe, and the public key that vouches for it; empty for a plain recipe and an unsigned bundle."""

    recipe: Recipe
    signed_by: str


def is_bundle(path: Path) -> bool:
    """Whether a path names a bundle rather than a plain recipe."""
    return path.suffix == SUFFIX


def read_bundle_file(path: Path) -> Bundle:
    """Read and check the bundle at `path`; raises `ConfigurationError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            file=str(path), problem=f"the bundle cannot be read ({error.strerror})", fix="give the path of a bundle"
        ) from None
    return read_bundle(content, str(path))


def open_recipe(path: Path, state_dir: Path) -> Opened:
    """Load the plain recipe or the bundle at `path`; a bundle is unpacked in `state_dir`. Raises `ConfigurationError`."""
    if not is_bundle(path):
        return Opened(recipe=load_recipe(path), signed_by="")
    bundle = read_bundle_file(path)
    recipe = open_bundle(bundle, state_dir / BUNDLES, file=str(path))
    # The file itself is watched, too: one that was exchanged stops the bench, as an exchanged image does.
    itself = Part(path=str(path.absolute()), name=path.name, sha256=bundle.sha256)
    recipe = msgspec.structs.replace(recipe, file=str(path), parts=(*recipe.parts, itself))
    return Opened(recipe=recipe, signed_by=bundle.signed_by)


def prove(bundle: Bundle, *, file: str) -> None:
    """Raise `ConfigurationError` unless the recipe of this bundle is good, and the one that was frozen; nothing stays."""
    with tempfile.TemporaryDirectory(prefix="station-bundle-") as directory:
        open_bundle(bundle, Path(directory), file=file)


def look_into(path: Path) -> Recipe:
    """Load the plain recipe or the bundle at `path` for a look: nothing of it stays on disk. Raises `ConfigurationError`."""
    if not is_bundle(path):
        return load_recipe(path)
    with tempfile.TemporaryDirectory(prefix="station-bundle-") as directory:
        return msgspec.structs.replace(open_recipe(path, Path(directory)).recipe, file=str(path))


def recipe_text(path: Path) -> str:
    """Return the TOML of the plain recipe or of the bundle at `path`, whether or not it would be accepted as a recipe.

    Raises OSError, and `ConfigurationError` for a damaged bundle.
    """
    if not is_bundle(path):
        return path.read_text("utf-8", errors="replace")
    bundle = read_bundle_file(path)
    return bundle.parts[bundle.manifest.recipe].decode("utf-8", errors="replace")


def open_bundle(bundle: Bundle, directory: Path, *, file: str) -> Recipe:
    """Unpack a bundle below `directory`, once, and load its recipe; `file` is what errors call it.

    Raises `ConfigurationError`, also for a bundle whose recipe has another hash here than where it was frozen.
    """
    try:
        home = _unpacked(bundle, directory)
    except OSError as error:
        raise ConfigurationError(
            file=str(directory),
            problem=f"the bundle {file} cannot be unpacked there ({error.strerror or error})",
            fix="make room, and let the station's user write there",
        ) from None
    by_sum = {part.sha256: home / part.name for part in bundle.manifest.parts}
    recipe = load_recipe(home / bundle.manifest.recipe, images=by_sum)
    if (recipe.name, recipe.version) != (bundle.manifest.name, bundle.manifest.version):
        raise ConfigurationError(
            file=file, problem="it is not called what its recipe is called", fix="freeze the recipe again"
        )
    if recipe.hash != bundle.manifest.recipe_hash:
        raise ConfigurationError(
            file=file,
            problem=f"its recipe is {recipe.short_hash} to this station, and was {bundle.manifest.recipe_hash[:8]}",
            fix="freeze the recipe with this version of the station, and release it anew",
        )
    return recipe


def check_signer(signed_by: str, signers: Sequence[str], *, file: str) -> None:
    """Raise `ConfigurationError` unless no signature is asked for (`work.signers` is empty) or one of these keys signed."""
    if not signers or signed_by in signers:
        return
    raise ConfigurationError(
        file=file,
        key="work.signers",
        problem=f"signed by {signed_by}, which is none of the keys there" if signed_by else "not signed, and must be",
        fix="station recipe freeze RECIPE OUT --sign KEY, by who holds one of the keys",
    )


def _unpacked(bundle: Bundle, directory: Path) -> Path:
    """Return where the parts of a bundle lie, every one as it is in the bundle."""
    home = directory / bundle.sha256
    if home.is_dir() and _is_whole(bundle, home):
        return home
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=directory))
    try:
        _write_parts(bundle, draft)
        draft.chmod(0o750)
        if home.exists():
            # Somebody changed what lies there; whoever has it loaded holds the bytes.
            home.rename(draft / ".changed")
        with contextlib.suppress(FileExistsError):
            draft.rename(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(home / ".changed", ignore_errors=True)
    _belongs_to(home, directory.parent)
    return home


def _write_parts(bundle: Bundle, home: Path) -> None:
    for name in bundle.manifest.directories:
        (home / name).mkdir(parents=True, exist_ok=True)
    for name, content in bundle.parts.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)


def _is_whole(bundle: Bundle, home: Path) -> bool:
    """Whether there lies exactly what is in the bundle: a stray file in a tree would come to every board."""
    found = {path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir() or path.is_symlink()}
    if found != set(bundle.parts) or any((home / name).is_symlink() for name in found):
        return False
    if not all((home / name).is_dir() for name in bundle.manifest.directories):
        return False
    sums = {part.name: part.sha256 for part in bundle.manifest.parts}
    return all(hashlib.sha256((home / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())


def _belongs_to(home: Path, state_dir: Path) -> None:
    """What root unpacks belongs to whom the state directory belongs to, so that the station's own user can put it right."""
    if os.geteuid() == 0 and state_dir.is_dir():
        owner = state_dir.stat()
        for path in (home.parent, home, *home.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
