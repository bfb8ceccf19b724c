"""The commands about what is configured: `config`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from station.bundle import look_into
from station.cli.options import config_option
from station.config import Config, load_config
from station.properties import Gpio0, SlotProperties
from station.qualification import load as load_qualification
from station.qualification import why_left_out
from station.slotmap import load_slot_map

file_argument = click.argument("file", type=click.Path(path_type=Path), required=False)


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
        look_into(Path(loaded.work.recipe))
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
