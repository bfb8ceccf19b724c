"""The commands about what is configured: `recipe`, `config`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from station.cli.options import config_option
from station.config import Config, load_config
from station.errors import ConfigurationError
from station.properties import Gpio0, SlotProperties
from station.qualification import load as load_qualification
from station.qualification import why_left_out
from station.recipe import load_recipe, new_recipe_text, read_file, trailer_problem
from station.slotmap import load_slot_map

file_argument = click.argument("file", type=click.Path(path_type=Path), required=False)


@click.group()
def recipe() -> None:
    """Make and check recipes."""


@recipe.command("new")
@click.option("--image", type=click.Path(path_type=Path), required=True, help="An ESP8266 firmware image.")
@click.argument("out", type=click.Path(path_type=Path))
def recipe_new(image: Path, out: Path) -> None:
    """Write a minimal recipe for an image to OUT."""
    if out.exists():
        raise ConfigurationError(file=str(out), problem="exists already", fix="name another file, or delete it")
    text = new_recipe_text(image, out)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            file=str(out), problem=f"cannot be written ({error.strerror})", fix="name another file"
        ) from None
    click.echo(text, nl=False)
    problem = trailer_problem(read_file(image, what="firmware image"))
    if problem:
        click.echo(
            f"warning: {image} does not prove by itself that it is whole ({problem}). A MicroPython of our days does: if it"
            " should be one, fetch it again and make the recipe anew.",
            err=True,
        )


@recipe.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def recipe_check(file: Path) -> None:
    """Load and verify a recipe and its image."""
    loaded = load_recipe(file)
    click.echo(f"{loaded.name} {loaded.version} [{loaded.short_hash}] is good")
    click.echo(f"  image      {loaded.firmware_path} ({len(loaded.image)} bytes, sha256 {loaded.firmware_sha256})")
    click.echo(f"  firmware   MicroPython {loaded.firmware_version or 'of unknown version'}")
    click.echo(f"  flash      at least {loaded.minimum_flash_bytes >> 10} KB, mode {loaded.flash_mode}")


@click.group()
def config() -> None:
    """Show and check the configuration."""


@config.command("check")
@file_argument
@config_option
def config_check(file: Path | None, config_path: Path | None) -> None:
    """Check a configuration, and the recipe and slot map it names. Give it as FILE or by --config."""
    file = file or config_path
    if file is None:
        raise click.UsageError("Missing argument 'FILE'.")
    loaded = load_config(file)
    if loaded.work.recipe:
        load_recipe(Path(loaded.work.recipe))
    known = load_slot_map(loaded)
    click.echo(f"{file} is good: {len(known)} slots, recipe {loaded.work.recipe or 'none'}")
    gap = _test_gap([slot.properties for slot in known.values()])
    if gap:
        click.echo(f"warning: {gap}", err=True)
    measured = load_qualification(loaded.state_dir)
    for slot in known.values():
        left_out = why_left_out(loaded.flashing.baud_ladder, slot.place, measured)
        if left_out:
            click.echo(f"note: {slot.label}: {left_out}", err=True)


@config.command("show")
@file_argument
@config_option
def config_show(file: Path | None, config_path: Path | None) -> None:
    """Print the whole configuration, defaults included, as JSON. Give it as FILE or by --config; without, the defaults."""
    file = file or config_path
    loaded = load_config(file) if file else Config()
    click.echo(msgspec.json.format(msgspec.json.encode(loaded), indent=2).decode())


def _test_gap(slots: Iterable[SlotProperties]) -> str:
    """Return what is wrong with a bench whose boards never meet a slot that can test them; empty when they do."""
    slots = tuple(slots)
    if not any(slot.flashes for slot in slots) or any(
        slot.tests and slot.gpio0 is not Gpio0.ALWAYS_LOW for slot in slots
    ):
        return ""
    return (
        'every slot that flashes has gpio0 = "always_low" or role = "flash", and no other slot tests: a board whose firmware'
        ' cannot be started where it was flashed is never tested. Give a slot role = "test"'
    )
