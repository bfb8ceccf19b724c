"""The commands that set a station up: `slots`, `recipe`, `config`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click
import msgspec

from station.cli.options import default_state_dir
from station.config import Config, StationSection, load_config
from station.errors import ConfigurationError
from station.model import Programmer
from station.recipe import load_recipe, new_recipe_text, read_file, trailer_problem
from station.slotmap import load_slot_map, next_label, read_taught, write_taught

config_option = click.option("--config", "config_path", type=click.Path(path_type=Path), help="station.toml")
file_argument = click.argument("file", type=click.Path(path_type=Path), required=False)


@click.group()
def slots() -> None:
    """Say which USB socket is which slot."""


@slots.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True)
def slots_list(config_path: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """List the slots: label, place, and what is plugged in now."""
    from station.adapters.udev import UdevWatcher

    config = _config(config_path)
    places = load_slot_map(config)
    attached = {
        programmer.place: programmer
        for programmer in UdevWatcher(usb_ids=config.usb.ids, excluded_places=config.usb.excluded).snapshot()
    }
    rows = [_row(label, place, attached.get(place)) for label, place in places.items()]
    rows += [_row("", place, found) for place, found in attached.items() if place not in places.values()]
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        plugged = f"{row['node']} ({row['product']})" if row["node"] else "empty"
        click.echo(f"{row['slot'] or '(unknown)':<10} {row['hub_path']:<8} {row['place']:<44} {plugged}")
    if not rows:
        click.echo("no slots yet, and no programmer is plugged in: station slots teach")


@slots.command("teach")
@config_option
@click.option("--count", type=click.IntRange(1), help="Stop after so many slots; default: until Ctrl-C.")
def slots_teach(config_path: Path | None, count: int | None) -> None:
    """Plug one programmer after another: each gets the next label. Unplug everything first."""
    config = _config(config_path)
    try:
        asyncio.run(_teach(config, count))
    except KeyboardInterrupt:
        click.echo("\nthe map is saved after every slot; restart the station to use it")


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
    places = load_slot_map(loaded)
    click.echo(f"{file} is good: {len(places)} slots, recipe {loaded.work.recipe or 'none'}")


@config.command("show")
@file_argument
@config_option
def config_show(file: Path | None, config_path: Path | None) -> None:
    """Print the whole configuration, defaults included, as JSON. Give it as FILE or by --config; without, the defaults."""
    file = file or config_path
    loaded = load_config(file) if file else Config()
    click.echo(msgspec.json.format(msgspec.json.encode(loaded), indent=2).decode())


def _config(path: Path | None) -> Config:
    return load_config(path) if path else Config(station=StationSection(state_dir=str(default_state_dir())))


def _row(label: str, place: str, programmer: Programmer | None) -> dict[str, str]:
    return {
        "slot": label,
        "place": place,
        "hub_path": programmer.hub_path if programmer else "",
        "node": programmer.node if programmer else "",
        "product": programmer.product if programmer else "",
    }


async def _teach(config: Config, count: int | None) -> None:
    """Give each newly seen place the next label, and save the map after every one."""
    from station.adapters.udev import UdevWatcher

    watcher = UdevWatcher(usb_ids=config.usb.ids, excluded_places=config.usb.excluded)
    changed = asyncio.Event()
    watcher.start(changed.set)
    try:
        seen = watcher.snapshot()
        if seen:
            click.echo(f"{len(seen)} programmers are plugged in already; unplug and plug in the one you mean")
        taught = read_taught(config.state_dir)
        known = load_slot_map(config)
        done = 0
        click.echo(f"plug a programmer into {next_label(known)} now (Ctrl-C ends)")
        while count is None or done < count:
            with contextlib.suppress(TimeoutError):  # uevents get lost
                await asyncio.wait_for(changed.wait(), config.usb.reconcile_s)
            changed.clear()
            attached = watcher.snapshot()
            for programmer in attached:
                if programmer not in seen:
                    done += _learn(config, taught, known, programmer)
            seen = attached
    finally:
        watcher.stop()


def _learn(config: Config, taught: dict[str, str], known: dict[str, str], programmer: Programmer) -> int:
    """Label the place of this plug unless it has one; return how many were labelled."""
    for label, place in known.items():
        if place == programmer.place:
            click.echo(f"that place is {label} already ({programmer.hub_path})")
            return 0
    label = next_label(known)
    taught[label] = known[label] = programmer.place
    try:
        write_taught(config.state_dir, taught)
    except OSError as error:
        raise ConfigurationError(
            file=str(config.state_dir),
            key="station.state_dir",
            problem=f"cannot be written ({error.strerror})",
            fix="run as the station's user, or name another directory",
        ) from None
    click.echo(f"{label} is {programmer.hub_path} ({programmer.place}); next: {next_label(known)}")
    return 1
