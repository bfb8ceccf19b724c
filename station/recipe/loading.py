"""What to make of a board: loaded from TOML, verified, frozen and hashed.

`load_recipe` reads the file and everything it names once, checks it (sha256 from the recipe, MicroPython's own trailer)
before anything is touched, and returns an immutable `Recipe` that carries the bytes. Nothing here talks to a board. It must
never return a recipe of which anything was not verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from station.errors import ImageChanged
from station.recipe.checking import canonical_content, check_values
from station.recipe.fitting import check_images
from station.recipe.images import describe, verify_image, with_header
from station.recipe.modules import modules_of
from station.recipe.plan import FilesPlan, Image, OwnCheckCode, Part
from station.recipe.programs import check_programs, read_checks, source_files
from station.recipe.text import (
    ChecksSection,
    FirmwareSection,
    LimitsSection,
    NetworkSection,
    OwnCheck,
    PolicySection,
    RecipeFile,
    SerialSection,
    SignalSection,
    ValuesSection,
    parse_toml,
    read_file,
)
from station.recipe.tree import Tree, read_tree

_NOWHERE_ELSE: Mapping[str, Path] = MappingProxyType({})


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The immutable, verified description of what to make of a board, with everything that goes into it.

    `image` and the fields beside it are those of one image. Before the flash is known that is the smallest one;
    `for_flash` returns the recipe of a board whose flash is.
    """

    name: str
    version: str
    file: str
    hash: str
    """sha256 over the canonical recipe, which names every part by its own sha256."""
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
    machine: str = ""
    """`os.uname().machine` of the chosen image; empty where it names none."""
    images: tuple[Image, ...] = ()
    """All of them, by the flash they need, smallest first; empty in recipes made without a file (tests, probes)."""
    files: FilesPlan = FilesPlan()
    serial: SerialSection = SerialSection()
    values: ValuesSection = ValuesSection()
    network: NetworkSection = NetworkSection()
    checks: ChecksSection = ChecksSection()
    own_checks: tuple[OwnCheckCode, ...] = ()
    signal: SignalSection = SignalSection()
    parts: tuple[Part, ...] = ()
    """Everything on disk that it was made of, the TOML and the images included."""

    @property
    def short_hash(self) -> str:
        """The first eight digits of the hash, for people."""
        return self.hash[:8]

    def for_flash(self, size_bytes: int) -> Recipe:
        """Return this recipe with the largest of its images that a flash of this size carries; itself where none does."""
        fitting = [image for image in self.images if image.needs_flash_bytes <= size_bytes]
        if not fitting or fitting[-1].sha256 == self.firmware_sha256:
            return self
        return _with_image(self, fitting[-1])


def load_recipe(path: Path, *, images: Mapping[str, Path] = _NOWHERE_ELSE) -> Recipe:
    """Read, verify and freeze the recipe at `path`; raises `ConfigurationError` naming file, key, problem and fix.

    `images`, by sha256, are read from there, wherever the recipe looks for them: a bundle holds them so.
    """
    raw = read_file(path, what="recipe")
    parsed = parse_toml(path, raw, RecipeFile, "see docs/recipes.md for every key")
    check_values(path, parsed)
    loaded = tuple(sorted(_images(path, parsed, images), key=lambda image: image.needs_flash_bytes))
    tree, own = read_tree(path, parsed.files), read_checks(path, parsed.check)
    files = FilesPlan(
        files=source_files(tree),
        directories=tree.directories,
        delete=parsed.files.delete,
        delete_others=parsed.files.others == "delete",
        by_repl=parsed.files.method == "repl",
        hold=parsed.files.hold,
    )
    check_images(path, parsed, loaded, files)
    check_programs(path, parsed, tree, files=files.files, own=own, images=loaded)
    canonical = msgspec.json.encode(canonical_content(parsed, path, tree=tree, own=own), order="sorted")
    recipe = Recipe(
        name=parsed.name or path.stem,
        version=parsed.version,
        file=str(path),
        hash=_sha256(canonical),
        canonical=canonical.decode(),
        image=b"",
        firmware_path="",
        firmware_sha256="",
        firmware_version="",
        minimum_flash_bytes=0,
        has_filesystem=False,
        flash_mode=parsed.flash.mode,
        flash_frequency=parsed.flash.frequency,
        limits=parsed.limits,
        policy=parsed.policy,
        file_sha256=_sha256(raw),
        images=loaded,
        serial=parsed.serial,
        values=parsed.values,
        network=parsed.network,
        checks=parsed.checks,
        signal=parsed.signal,
        files=files,
        own_checks=own,
        parts=_parts(path, raw, loaded, tree, zip(parsed.check, own, strict=True)),
    )
    return _with_image(recipe, loaded[0])


def _with_image(recipe: Recipe, image: Image) -> Recipe:
    return msgspec.structs.replace(
        recipe,
        image=image.content,
        firmware_path=image.path,
        firmware_sha256=image.sha256,
        firmware_version=recipe.limits.firmware_version or image.version,
        minimum_flash_bytes=image.minimum_flash_bytes,
        has_filesystem=image.has_filesystem,
        machine=image.machine,
    )


def _parts(
    path: Path, raw: bytes, images: Iterable[Image], tree: Tree, checks: Iterable[tuple[OwnCheck, OwnCheckCode]]
) -> tuple[Part, ...]:
    """Everything on disk that the recipe was made of, as it was read."""
    directory = path.resolve().parent
    parts = [(path.absolute(), _sha256(raw))]
    parts += [(Path(image.path), image.sha256) for image in images]
    parts += [(Path(tree.root) / file.source, file.sha256) for file in tree.files]
    parts += [(directory / check.file, _sha256(code.source.encode())) for check, code in checks]
    return tuple(Part(path=str(part), name=_name_in(path, part), sha256=digest) for part, digest in dict(parts).items())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _images(path: Path, parsed: RecipeFile, elsewhere: Mapping[str, Path]) -> list[Image]:
    if parsed.firmware is not None:
        return [_image(path, "firmware", parsed.firmware, elsewhere)]
    return [_image(path, f"image[{number}]", section, elsewhere) for number, section in enumerate(parsed.image)]


def _image(path: Path, key: str, section: FirmwareSection, elsewhere: Mapping[str, Path]) -> Image:
    """Read and verify one image, and find out what it needs."""
    image_path = elsewhere.get(section.sha256.lower(), path.parent / section.path).resolve()
    content = read_file(image_path, what="firmware image", named_in=f"{path}: {key}.path")
    verify_image(content, sha256=section.sha256, trailer=section.trailer, file=str(image_path), recipe=path, key=key)
    said = describe(content)
    minimum = section.minimum_flash_bytes or said.needs_flash_bytes
    return Image(
        content=content,
        path=str(image_path),
        sha256=section.sha256.lower(),
        version=said.version,
        machine=said.machine,
        build=said.build,
        minimum_flash_bytes=minimum,
        has_filesystem=(said.needs_flash_bytes if said.variant else minimum) >= 1 << 20,
        modules=modules_of(said.build, said.version) if section.modules is None else section.modules,
    )


def _name_in(recipe: Path, part: Path) -> str:
    """Return how a part is called from the recipe's directory; a part from elsewhere by its own name."""
    directory = recipe.resolve().parent
    return str(part.relative_to(directory)) if part.is_relative_to(directory) else part.name


def image_for_flash(recipe: Recipe, flash_size_bytes: int, mode: str | None = None) -> bytes:
    """Return the image with header bytes 2 and 3 set for this flash, as `esptool --flash-size detect` does (D-8).

    `flash_size_bytes` must be a key of `FLASH_SIZE_CODES`; `mode` overrides the recipe's flash mode.
    """
    image = recipe.image
    return with_header(image, flash_size_bytes, mode=mode or recipe.flash_mode, frequency=recipe.flash_frequency)


def check_unchanged(recipe: Recipe) -> None:
    """Raise `ImageChanged` unless everything on disk that the recipe was made of is still what was loaded (D-10)."""
    for part in recipe.parts:
        try:
            actual = hashlib.sha256(Path(part.path).read_bytes()).hexdigest()
        except OSError as error:
            raise ImageChanged(f"{part.path} cannot be read any more ({error.strerror})") from None
        if actual != part.sha256:
            raise ImageChanged(f"{part.path} is not what was loaded (sha256 {actual[:12]}…, was {part.sha256[:12]}…)")


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
