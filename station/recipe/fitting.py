"""Every image of a recipe must do for everything else that the recipe says, or the recipe is refused before any board.

One image for each flash size and no two for one, none written to a flash that its own build calls too small, a filesystem
where something is to lie in it, and room there for the files. Nothing here reads a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from station.errors import ConfigurationError
from station.recipe.images import FLASH_SIZE_CODES, describe, filesystem_blocks
from station.recipe.plan import FilesPlan, Image
from station.recipe.sizes import blocks_needed
from station.recipe.template import names_in
from station.recipe.text import RecipeFile

VALUE_ALLOWANCE_BYTES = 64
"""So much longer than its place a value may make a file, for the size budget."""
MADE_AT_FIRST_START = "boot.py"
"""What MicroPython's own first start puts into a filesystem that it makes (inisetup.py); into a ready one it puts nothing."""


def check_images(recipe: Path, parsed: RecipeFile, images: Sequence[Image], plan: FilesPlan) -> None:
    """Raise `ConfigurationError` where an image cannot carry the recipe. `images`: sorted by the flash they need."""
    for image in images:
        _check_minimum(recipe, parsed, image)
    for image, larger in itertools.pairwise(images):
        if image.needs_flash_bytes == larger.needs_flash_bytes:
            raise ConfigurationError(
                file=str(recipe),
                key="image",
                problem=f"{image.path} and {larger.path} both need {_size(image.needs_flash_bytes)} of flash",
                fix="keep one image for each flash size, or say minimum_flash_bytes of one",
            )
    for image in images:
        if not image.has_filesystem:
            for key in _needs_filesystem(parsed, plan):
                raise ConfigurationError(
                    file=str(recipe),
                    key=key,
                    problem=f"{image.path} ({image.machine or 'for less than 1 MB of flash'}) has no filesystem",
                    fix="take the image out, or make a recipe of its own for those boards",
                )
    _check_boot_file(recipe, parsed, plan)
    if plan.files:
        for place, image in enumerate(images):
            _check_room(recipe, image, plan, images[place + 1 :])


def _check_minimum(recipe: Path, parsed: RecipeFile, image: Image) -> None:
    said = describe(image.content)
    if said.variant and image.minimum_flash_bytes < said.needs_flash_bytes:
        # A build that names no size may be an early one, made for 1 MiB; one that names it will not do with less (D-6).
        place = next((n for n, each in enumerate(parsed.image) if each.sha256.lower() == image.sha256), None)
        raise ConfigurationError(
            file=str(recipe),
            key=f"{'firmware' if place is None else f'image[{place}]'}.minimum_flash_bytes",
            problem=f"{image.minimum_flash_bytes} is less than this {said.variant} build needs",
            fix=f"leave the key out, or write at least {said.needs_flash_bytes}",
        )


def _needs_filesystem(parsed: RecipeFile, plan: FilesPlan) -> Iterator[str]:
    """The keys that ask for a filesystem."""
    if plan.files or plan.directories:
        yield "files.tree"
    if parsed.files.delete:
        yield "files.delete"
    if plan.delete_others:
        yield "files.others"
    if parsed.network.webrepl_secret:
        yield "network.webrepl_secret"
    if parsed.checks.filesystem_fill is not None:
        yield "checks.filesystem_fill"


def _check_boot_file(recipe: Path, parsed: RecipeFile, plan: FilesPlan) -> None:
    """What is made must not depend on the way the files went: where sectors are written, nobody makes a `boot.py`."""
    named = {file.path for file in plan.files} | set(plan.delete)
    if parsed.network.webrepl_secret and MADE_AT_FIRST_START in plan.delete:
        raise ConfigurationError(
            file=str(recipe),
            key="files.delete",
            problem=f"{MADE_AT_FIRST_START} is deleted, and starts WebREPL",
            fix="take it out of files.delete, or WebREPL out of [network]",
        )
    if (
        not plan.files
        or plan.by_repl
        or plan.delete_others
        or parsed.network.webrepl_secret
        or MADE_AT_FIRST_START in named
    ):
        return
    raise ConfigurationError(
        file=str(recipe),
        key="files",
        problem=f"nothing says what becomes of {MADE_AT_FIRST_START}, which the firmware makes only in an empty flash",
        fix=f'put a {MADE_AT_FIRST_START} into the tree, or write files.delete = ["{MADE_AT_FIRST_START}"], files.others ='
        ' "delete" or files.method = "repl"',
    )


def _check_room(recipe: Path, image: Image, plan: FilesPlan, larger: Sequence[Image]) -> None:
    """The files must fit on the smallest flash that this image is written to."""
    sizes = [size for size in sorted(FLASH_SIZE_CODES) if size >= image.needs_flash_bytes]
    room = filesystem_blocks(image.build, sizes[0]) if sizes else None
    if room is None or any(other.needs_flash_bytes <= sizes[0] for other in larger):
        return
    needed = blocks_needed(
        (
            (file.path, len(file.content) + VALUE_ALLOWANCE_BYTES * len(names_in(file.content) if file.fill_in else ()))
            for file in plan.files
        ),
        plan.directories,
    )
    if needed > room:
        raise ConfigurationError(
            file=str(recipe),
            key="files.tree",
            problem=f"the files take {needed} blocks of 4 KB, the filesystem of {image.machine} on {_size(sizes[0])} of"
            f" flash has {room}",
            fix="take files out or compile programs (files.compile), or let the image need more flash (minimum_flash_bytes)",
        )


def _size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KB"
