"""The commands that set a station up: `slots`, `recipe`, `config`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from station.cli.options import default_state_dir
from station.config import Config, StationSection, load_config
from station.errors import ConfigurationError
from station.model import Programmer
from station.properties import Gpio0, SlotProperties, in_words
from station.recipe import load_recipe, new_recipe_text, read_file, trailer_problem
from station.slotmap import (
    CONFIGURED,
    DEFAULT,
    KnownSlot,
    forget,
    known_places,
    load_slot_map,
    next_label,
    read_taught,
    write_taught,
)

config_option = click.option("--config", "config_path", type=click.Path(path_type=Path), help="station.toml")
file_argument = click.argument("file", type=click.Path(path_type=Path), required=False)


@click.group()
def slots() -> None:
    """Say which USB socket is which slot, and show what each slot is."""


@slots.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True)
def slots_list(config_path: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """List the slots: label, place, what is plugged in now, and what each slot is and how that is known."""
    from station.adapters.udev import UdevWatcher

    config = _config(config_path)
    known = load_slot_map(config)
    attached = {
        programmer.place: programmer
        for programmer in UdevWatcher(usb_ids=config.usb.ids, excluded_places=config.usb.excluded).snapshot()
    }
    named = {slot.place for slot in known.values()}
    listed = [(slot, slot.place) for slot in known.values()] + [
        (None, place) for place in attached if place not in named
    ]
    if as_json:
        click.echo(msgspec.json.encode([_row(slot, place, attached.get(place)) for slot, place in listed]).decode())
        return
    for slot, place in listed:
        row = _row(slot, place, attached.get(place))
        plugged = f"{row['node']} ({row['product']})" if row["node"] else "empty"
        click.echo(f"{row['slot'] or '(unknown)':<10} {row['hub_path']:<8} {place:<44} {plugged}")
        for line in _said_of(slot) if slot else ():
            click.echo(f"{'':<10} {line}")
    if not listed:
        click.echo("no slots yet, and no programmer is plugged in: station slots teach")


@slots.command("forget")
@config_option
@click.argument("label")
def slots_forget(config_path: Path | None, label: str) -> None:
    """Forget what was learned of the slot LABEL, for another kind of programmer sits there now. Its place stays."""
    config = _config(config_path)
    if label not in known_places(config):
        raise click.UsageError(f"there is no slot {label}; station slots list shows them")
    with _writing(config):
        forgotten = forget(config.state_dir, label)
    click.echo(
        f"{label}: forgotten, and found out again with the next board; restart a station that is running"
        if forgotten
        else f"{label}: nothing was learned there"
    )


@slots.command("teach")
@config_option
@click.option("--count", type=click.IntRange(1), help="Stop after so many slots; default: until Ctrl-C.")
def slots_teach(config_path: Path | None, count: int | None) -> None:
    """Plug one programmer after another: each gets the next label. Unplug everything first."""
    config = _config(config_path)
    try:
        asyncio.run(_teach(config, count))
    except (KeyboardInterrupt, asyncio.CancelledError):
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
    known = load_slot_map(loaded)
    click.echo(f"{file} is good: {len(known)} slots, recipe {loaded.work.recipe or 'none'}")
    gap = _test_gap([slot.properties for slot in known.values()])
    if gap:
        click.echo(f"warning: {gap}", err=True)


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


def _row(slot: KnownSlot | None, place: str, programmer: Programmer | None) -> dict[str, object]:
    """One slot as `--json` prints it; None for a place that is not in the map."""
    return {
        "slot": slot.label if slot else "",
        "place": place,
        "hub_path": programmer.hub_path if programmer else "",
        "node": programmer.node if programmer else "",
        "product": programmer.product if programmer else "",
        "properties": asdict(slot.properties) if slot else {},
        "evidence": dict(slot.evidence) if slot else {},
    }


def _said_of(slot: KnownSlot) -> Iterator[str]:
    """The properties of a slot, each with where it comes from; then the evidence of what was learned."""
    from station.adapters.logs import one_line

    learned = {name: text for name, text in slot.evidence.items() if text not in (CONFIGURED, DEFAULT)}
    said = zip(("reset", "gpio0", "moves", "role"), in_words(slot.properties).split(", "), strict=True)
    yield ", ".join(
        f"{words} ({'learned' if name in learned else slot.evidence.get(name, 'not known yet')})"
        for name, words in said
    )
    for name, text in learned.items():
        yield f"{name}: {one_line(text)}"


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


@contextlib.contextmanager
def _writing(config: Config) -> Iterator[None]:
    """Say in one line why the slot map cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            file=str(config.state_dir),
            key="station.state_dir",
            problem=f"cannot be written ({error.strerror})",
            fix="run as the station's user, or name another directory",
        ) from None


async def _teach(config: Config, count: int | None) -> None:
    """Give each newly seen place the next label, and save the map after every one."""
    from station.adapters.udev import UdevWatcher

    watcher = UdevWatcher(usb_ids=config.usb.ids, excluded_places=config.usb.excluded)
    changed = asyncio.Event()
    teaching = asyncio.current_task()
    assert teaching is not None  # noqa: S101 - asyncio.run() made it
    for each in (signal.SIGINT, signal.SIGTERM):
        # Set by us: whoever was started in the background has SIGINT ignored, and Python leaves it so.
        asyncio.get_running_loop().add_signal_handler(each, teaching.cancel)
    watcher.start(changed.set)
    try:
        seen = watcher.snapshot()
        if seen:
            click.echo(f"{len(seen)} programmers are plugged in already; unplug and plug in the one you mean")
        known = known_places(config)
        done = 0
        click.echo(f"plug a programmer into {_next(config, known)} now (Ctrl-C ends)")
        while count is None or done < count:
            with contextlib.suppress(TimeoutError):  # uevents get lost
                async with asyncio.timeout(config.usb.reconcile_s):
                    await changed.wait()
            changed.clear()
            attached = watcher.snapshot()
            for programmer in attached:
                if programmer not in seen:
                    done += _learn(config, known, programmer)
            seen = attached
    finally:
        watcher.stop()


def _learn(config: Config, known: dict[str, str], programmer: Programmer) -> int:
    """Label the place of this plug unless it has one; return how many were labelled."""
    for label, place in known.items():
        if place == programmer.place:
            click.echo(f"that place is {label} already ({programmer.hub_path})")
            return 0
    label = _next(config, known)
    known[label] = programmer.place
    with _writing(config):
        write_taught(config.state_dir, {**read_taught(config.state_dir), label: programmer.place})
    click.echo(f"{label} is {programmer.hub_path} ({programmer.place}); next: {_next(config, known)}")
    return 1


def _next(config: Config, known: Mapping[str, str]) -> str:
    """The label to teach next: a slot that is configured and has no place yet goes first."""
    return next((label for label in config.slots if label not in known), next_label(known))
