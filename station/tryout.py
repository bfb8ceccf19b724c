"""A person's recipe on the virtual bench: a copy of it, what it needs around it made up, and what must lie on its boards.

The images are the bench's own, of the variants that the recipe asks for, filled in as `station recipe firmware` does it.
Secrets, the table of values and the numbers are made up and belong to nobody; the person's own are never read. The recipe
itself is never changed where it lies.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from station.adapters.recipe_file import flash_wanted, with_images
from station.adapters.records import Database, Span, ranges_report
from station.bench.chip import WINBOND_1M, WINBOND_2M, WINBOND_512K, Chip
from station.bench.filesystem import FlashFilesystem
from station.bench.image import MIB, Variant, describe_image, make_image
from station.bench.peripherals import AIR, AccessPoint
from station.boarddata import rows_pool, secrets_wanted
from station.config import WorkSection
from station.errors import ConfigurationError
from station.model import Outcome, chip_id_from_mac, format_chip_id, format_mac
from station.network import files_of
from station.recipe import FirmwareSection, Recipe, RecipeFile, fill, load_recipe, names_in, parse_toml, read_file
from station.recipe.tree import inside

RECIPE = "recipe.toml"
"""What a recipe is called in a directory of its own."""
FLASH_IDS = (WINBOND_512K, WINBOND_1M, WINBOND_2M)
STATION = "demo"
NUMBERS = 1000
"""So many are granted at once, where a pool has fewer left than there are boards."""
WPA2 = 3
UNSAID_DBM = -50
MADE_AT_FIRST_START = "boot.py"
_VALUES = "values."


@dataclass(frozen=True, slots=True, kw_only=True)
class Tryout:
    """A recipe with everything around it."""

    recipe: Recipe
    image: bytes
    """For boards that have one before they are flashed."""
    work: WorkSection
    secrets: Mapping[str, str]
    air: tuple[AccessPoint, ...]
    flash_ids: tuple[int, ...]
    """Of boards that this recipe can be made of, smallest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the boards of one run are given."""

    table: tuple[Mapping[str, str], ...]
    """The rows of values, as the recipe's table has them."""


def prepare(named: Path, directory: Path) -> Tryout:
    """Copy the recipe (a file, or a directory with a `recipe.toml`) into `directory`, with images and secrets made for it.

    Raises `ConfigurationError`.
    """
    source = named / RECIPE if named.is_dir() else named
    recipe = load_recipe(_copied(source, directory / "recipe"))
    secrets = {name: _made_up(name) for name in sorted(secrets_wanted(recipe))}
    kept, values = directory / "secrets", directory / "values"
    kept.mkdir(exist_ok=True)
    values.mkdir(exist_ok=True)
    for name, secret in secrets.items():
        (kept / name).touch(mode=0o600)
        (kept / name).write_text(f"{secret}\n", encoding="utf-8")
    smallest = recipe.images[0].needs_flash_bytes
    return Tryout(
        recipe=recipe,
        image=recipe.for_flash(MIB).image,
        work=WorkSection(recipe=recipe.file, values=str(values), secrets=str(kept)),
        secrets=secrets,
        air=_air(recipe, secrets),
        flash_ids=tuple(each for each in FLASH_IDS if 1 << (each >> 16) >= smallest),
    )


def furnish(tryout: Tryout, chips: Sequence[Chip], database_url: str) -> Around:
    """Grant the numbers that the recipe takes for these boards, and write its table; return what was made up.

    Raises `RecordsUnwritable`.
    """
    recipe = tryout.recipe
    if recipe.serial.pool:
        _grant(database_url, recipe.serial.pool, len(chips))
    if not recipe.values.csv:
        return Around(table=())
    rows = len(chips)
    if recipe.values.by == "row":
        # A row that an earlier run handed out stays where it is.
        rows = _grant(database_url, rows_pool(recipe.values.csv), rows)
    table = tuple(_row(recipe, number, chips) for number in range(rows))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    (Path(tryout.work.values) / recipe.values.csv).write_text(text.getvalue(), encoding="utf-8")
    return Around(table=table)


def problems_with_files(
    tryout: Tryout, around: Around, chips: Iterable[Chip], jobs: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Return a sentence for every board whose last job is a PASS and whose flash does not hold what the recipe says."""
    passed = {job["mac"]: job for job in jobs if job["outcome"]}
    passed = {mac: job for mac, job in passed.items() if job["outcome"] == Outcome.PASS}
    found: list[str] = []
    seen: set[str] = set()
    for chip in chips:
        mac = format_mac(chip.mac)
        if mac in passed and mac not in seen:
            problem = _problem(tryout, _names(tryout, around, mac, passed[mac]["values"]), chip)
            found += [f"{mac}: {problem}"] if problem else []
        # Of two boards with one MAC the first is the one that may pass.
        seen.add(mac)
    numbers = [job["values"].get("serial") for job in passed.values()]
    if tryout.recipe.serial.pool and len(set(numbers)) != len(numbers):
        found.append(f"a serial number was given twice: {sorted(map(str, numbers))}")
    return found


def files_on(chip: Chip) -> dict[str, bytes] | None:
    """Return path -> content of every file in the flash of a board, as LittleFS reads it; None without a filesystem.

    OSError when there should be one, and it is none.
    """
    image = describe_image(chip.flash.read(0, chip.flash.size_bytes))
    if image is None or image.filesystem_sectors is None:
        return None
    start, sectors = image.filesystem_sectors
    files = FlashFilesystem(chip.flash, start_sector=start, sectors=sectors)
    files.mount()
    found: dict[str, bytes] = {}
    directories = [""]
    while directories:
        directory = directories.pop()
        for entry in files.listdir(f"/{directory}"):
            path = f"{directory}/{entry.name}".lstrip("/")
            if entry.is_directory:
                directories.append(path)
            else:
                handle = files.open(f"/{path}", "r")
                found[path] = files.read(handle, entry.size_bytes)
    return found


def _copied(source: Path, directory: Path) -> Path:
    """Copy what the recipe is made of, with the bench's images in the place of its own; return the copy."""
    directory.mkdir(parents=True, exist_ok=True)
    raw = read_file(source, what="recipe")
    parsed = parse_toml(source, raw, RecipeFile, "see docs/recipes.md for every key")
    if parsed.files.tree:
        tree = inside(source, "files.tree", parsed.files.tree)
        if tree.is_dir():
            # Links stay links: what a recipe may not hold is refused here as on a bench.
            shutil.copytree(tree, directory / parsed.files.tree, symlinks=True)
    for number, check in enumerate(parsed.check):
        program = inside(source, f"check[{number}].file", check.file)
        copy = directory / check.file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(read_file(program, what="check", named_in=f"{source}: check[{number}].file"))
    version = parsed.limits.firmware_version or "1.27.0"
    images = []
    for variant in dict.fromkeys(_variants(source, parsed)):
        images.append(directory / f"virtual-firmware-{variant}.bin")
        images[-1].write_bytes(make_image(variant=variant, version=version))
    copy = directory / source.name
    text = with_images(copy, raw.decode("utf-8"), images, named_from=source.resolve().parent)
    copy.write_text(text, encoding="utf-8")
    return copy


def _variants(source: Path, parsed: RecipeFile) -> list[Variant]:
    """The builds that the recipe's images are, or will be when they are filled in."""
    if parsed.firmware is not None:
        return [_variant(source, parsed.firmware)]
    if not parsed.image:
        raise ConfigurationError(
            file=str(source), key="image", problem="no image", fix="write a [[image]] table, path and sha256 empty"
        )
    return [_variant(source, section) for section in parsed.image]


def _variant(source: Path, section: FirmwareSection) -> Variant:
    wanted = flash_wanted(source.resolve().parent / section.path, section.minimum_flash_bytes) or MIB
    return "512K" if wanted < MIB else "1M" if wanted < 2 * MIB else "2M"


def _made_up(name: str) -> str:
    """A secret for the demo: of a length that a WebREPL (4 to 9 characters) and a WPA network (8 and more) both take."""
    return f"demo-{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def _air(recipe: Recipe, secrets: Mapping[str, str]) -> tuple[AccessPoint, ...]:
    """The bench's usual air, with the networks of the recipe in it, as strong as it wants them."""
    heard: dict[str, tuple[int, str | None]] = {}
    if recipe.network.ssid:
        heard[recipe.network.ssid] = UNSAID_DBM, secrets.get(recipe.network.key_secret)
    scan = recipe.checks.wifi_scan
    if scan is not None:
        _, key = heard.get(scan.ssid, (0, None))
        heard[scan.ssid] = round(sum(scan.rssi_dbm) / 2), key
    ours = tuple(
        (ssid, f"0200000001{number:02x}", 11, rssi_dbm, WPA2 if key else 0, key)
        for number, (ssid, (rssi_dbm, key)) in enumerate(heard.items())
    )
    return ours + tuple(each for each in AIR if each[0] not in heard)


def _grant(database_url: str, pool: str, wanted: int) -> int:
    """See to it that so many numbers of a pool are left; return the highest there is."""
    with Database.open(database_url, station_id=STATION) as database:
        left = database.numbers.left().get(pool, 0)
    highest = max((int(str(row["last"])) for row in ranges_report(database_url, pool).rows), default=0)
    if left >= wanted:
        return highest
    last = highest + max(wanted, NUMBERS)
    with Database.open(database_url, station_id=STATION) as database:
        database.numbers.grant(Span(pool=pool, first=highest + 1, last=last), STATION, "made up for the demo")
    return last


def _row(recipe: Recipe, number: int, chips: Sequence[Chip]) -> dict[str, str]:
    """One row of the table: the column by which it is found, the columns that files name, and those that are secret."""
    named = {name for file in recipe.files.files if file.fill_in for name in names_in(file.content)}
    columns = {name.removeprefix(_VALUES) for name in named if name.startswith(_VALUES)}
    public = sorted(columns - {*recipe.values.secret}) or ["label"]
    row = {column: f"{column} {number + 1:04d}" for column in (*public, *sorted(recipe.values.secret))}
    if recipe.values.by == "row":
        return row
    mac = format_mac(chips[number].mac)
    return row | {recipe.values.by: mac if recipe.values.by == "mac" else format_chip_id(chip_id_from_mac(mac))}


def _names(tryout: Tryout, around: Around, mac: str, public: Mapping[str, str]) -> dict[str, str]:
    """What the templates of this board were filled with: the table and secrets that were made up, and what is on record."""
    names = {"mac": mac, "mac_plain": mac.replace(":", ""), "chip_id": format_chip_id(chip_id_from_mac(mac))}
    names |= {f"secret.{name}": secret for name, secret in tryout.secrets.items()}
    if "serial" in public:
        names["serial"] = public["serial"]
    for row in around.table:
        if all(
            public.get(column) == value for column, value in row.items() if column not in tryout.recipe.values.secret
        ):
            names |= {f"{_VALUES}{column}": value for column, value in row.items()}
    return names


def _problem(tryout: Tryout, names: Mapping[str, str], chip: Chip) -> str:
    """Return what is wrong with the files of a board that passed, or an empty string."""
    plan = files_of(tryout.recipe)
    try:
        wanted = {file.path: fill(file.content, names) if file.fill_in else file.content for file in plan.files}
        found = files_on(chip)
    except KeyError as missing:
        return f"it passed without {missing}"
    except OSError as error:
        return f"its filesystem cannot be read ({error.strerror})"
    if found is None:
        return "it has no filesystem" if wanted else ""
    wrong = sorted(path for path, content in wanted.items() if found.get(path) != content)
    extra = sorted(set(found) - set(wanted))
    if not plan.delete_others:
        extra = [path for path in extra if path in plan.delete or path != MADE_AT_FIRST_START]
    said = [f"{', '.join(wrong)} not as the recipe says"] if wrong else []
    return "; ".join([*said, *([f"{', '.join(extra)} too much"] if extra else [])])
