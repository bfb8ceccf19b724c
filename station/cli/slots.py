"""The commands about the slots: teach them, say that a hub was moved, list them, forget what was learned of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from station.cli.boards import said_by_a_person
from station.cli.options import config_option, database_url_or_default, load_or_default
from station.cli.voice import Terminal, somebody_is_there
from station.config import Config
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import Programmer
from station.properties import in_words
from station.proving import SlotEvent, SlotWord
from station.slotmap import CONFIGURED, DEFAULT, KnownSlot, forget, known_places, load_slot_map
from station.sockets import (
    MOST_COLUMNS,
    MOST_ROWS,
    bench_order,
    cell_of,
    hub_path_of,
    row_letters,
)

if TYPE_CHECKING:
    from station.adapters.records import SlotHealth

rows_option = click.option("--rows", type=click.IntRange(1, MOST_ROWS), help="So many rows of sockets; else asked for.")
columns_option = click.option(
    "--columns", type=click.IntRange(1, MOST_COLUMNS), help="So many sockets in a row; else asked for."
)


@click.group()
def slots() -> None:
    """Say which USB socket is which slot, and show what each slot is."""


@slots.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True)
def slots_list(config_path: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """List the slots: label, place, what is plugged in now, and what each slot is and how that is known."""
    from station.adapters.udev import UdevWatcher

    config = load_or_default(config_path)
    known = load_slot_map(config)
    attached = {
        programmer.place: programmer
        for programmer in UdevWatcher(usb_ids=config.usb.ids, excluded_places=config.usb.excluded).snapshot()
    }
    health = _health(config, known)
    named = {slot.place for slot in known.values()}
    listed = [(known[label], known[label].place) for label in bench_order(known)] + [
        (None, place) for place in attached if place not in named
    ]
    rows = [_row(slot, place, attached.get(place), health) for slot, place in listed]
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    for row, (slot, place) in zip(rows, listed, strict=True):
        plugged = f"{row['node']} ({row['product']})" if row["node"] else "empty"
        click.echo(f"{row['slot'] or '(unknown)':<10} {row['hub_path']:<8} {place:<44} {plugged}")
        for line in _said_of(slot, health) if slot else ():
            click.echo(f"{'':<10} {line}")
    if not listed:
        click.echo("no slots yet, and no programmer is plugged in: station slots teach")


@slots.command("forget")
@config_option
@click.argument("label")
def slots_forget(config_path: Path | None, label: str) -> None:
    """Forget what was learned of the slot LABEL, for another kind of programmer sits there now. Its place stays."""
    from station.setup.teaching import writing

    config = load_or_default(config_path)
    if label not in known_places(config):
        raise click.UsageError(f"there is no slot {label}; station slots list shows them")
    with writing(config):
        forgotten = forget(config.state_dir, label)
    click.echo(
        f"{label}: forgotten, and found out again with the next board; restart a station that is running"
        if forgotten
        else f"{label}: nothing was learned there"
    )


@slots.command("teach")
@config_option
@rows_option
@columns_option
@click.option(
    "--count", type=click.IntRange(1), help="Stop after so many slots; default: when all are taught, or Ctrl-C."
)
def slots_teach(config_path: Path | None, rows: int | None, columns: int | None, count: int | None) -> None:
    """Plug one programmer after another, socket by socket: each gets the label of where it stands, A1, A2 and so on.

    What was taught stays; a later run goes on with the first socket that is missing.
    """
    from station.setup.teaching import RESTART, grid_wanted, run_lesson

    config = load_or_default(config_path)
    asked = rows is not None or columns is not None
    if asked or somebody_is_there():
        rows, columns = grid_wanted(config, Terminal(), rows, columns)
    taught = run_lesson(config, Terminal(), rows or 0, columns or 0, count, may_ask=somebody_is_there())
    if not taught:
        again = f" --rows {rows} --columns {columns}" if rows else ""
        click.echo(f"\nwhat was taught is saved; it goes on with: station slots teach{again}")
    if not taught or rows:
        click.echo(RESTART)


@slots.command("moved")
@config_option
@click.option("--yes", is_flag=True, help="Believe that one plug, and ask nothing.")
@click.argument("label", required=False)
def slots_moved(config_path: Path | None, label: str | None, yes: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Say that a hub hangs at another USB port now: one plug into the slot LABEL, by default the first one, moves them all.

    What was learned of the slots stays.
    """
    from station.setup.teaching import RESTART, find_moved, first_known, until_ctrl_c

    config = load_or_default(config_path)
    label = label or first_known(config)
    if label not in known_places(config):
        raise click.UsageError(
            f"there is no slot {label}; station slots list shows them" if label else "no slot is taught"
        )
    if until_ctrl_c(find_moved(config, label, Terminal(), yes=yes)):
        click.echo(RESTART)


@slots.command("quarantine")
@click.argument("label")
@said_by_a_person
def slots_quarantine(label: str, person: str, reason: str, config_path: Path | None, database_url: str | None) -> None:
    """Take the slot LABEL out of use: it makes no board until a golden board is judged good there, or it is released."""
    if label not in known_places(load_or_default(config_path)):
        raise click.UsageError(f"there is no slot {label}; station slots list shows them")
    _say(label, "quarantine", person, reason, database_url_or_default(database_url, config_path))
    click.echo(f"{label} is in quarantine, by {person}")


@slots.command("release")
@click.argument("label")
@said_by_a_person
def slots_release(label: str, person: str, reason: str, config_path: Path | None, database_url: str | None) -> None:
    """Say that the slot LABEL is mended: it may make boards again."""
    _say(label, "release", person, reason, database_url_or_default(database_url, config_path))
    click.echo(f"{label} is released, by {person}")


def _say(label: str, word: str, person: str, reason: str, url: str) -> None:
    """Put on record what a person says about a slot; the running station sees it with the next board."""
    from station.adapters.records import Database, new_id, require_file

    require_file(url)
    with Database.open(url) as database:
        database.proofs.say(
            SlotEvent(id=new_id(), slot=label, word=SlotWord(word), cause=f"{reason} ({person})", person=person)
        )


def _health(config: Config, labels: Mapping[str, object]) -> Mapping[str, SlotHealth]:
    """How the slots did lately; nothing where there are no records that can be read."""
    from station.adapters.records import slots_health

    try:
        return slots_health(config.database_url, labels)
    except (ConfigurationError, RecordsUnwritable):
        return {}


def _position(label: str) -> str:
    cell = cell_of(label)
    return f"row {row_letters(cell.row)}, column {cell.column + 1}" if cell is not None else ""


def _row(
    slot: KnownSlot | None, place: str, programmer: Programmer | None, health: Mapping[str, SlotHealth]
) -> dict[str, object]:
    """One slot as `--json` prints it; None for a place that is not in the map."""
    return {
        "slot": slot.label if slot else "",
        "position": _position(slot.label) if slot else "",
        "place": place,
        "hub_path": programmer.hub_path if programmer else hub_path_of(place),
        "node": programmer.node if programmer else "",
        "product": programmer.product if programmer else "",
        "properties": asdict(slot.properties) if slot else {},
        "evidence": dict(slot.evidence) if slot else {},
        "health": asdict(health[slot.label]) if slot and slot.label in health else None,
    }


def _said_of(slot: KnownSlot, health: Mapping[str, SlotHealth]) -> Iterator[str]:
    """The properties of a slot, each with where it comes from; the evidence of what was learned; how it did lately."""
    from station.adapters.logs import one_line

    learned = {name: text for name, text in slot.evidence.items() if text not in (CONFIGURED, DEFAULT)}
    said = zip(("reset", "gpio0", "moves", "role"), in_words(slot.properties).split(", "), strict=True)
    yield ", ".join(
        f"{words} ({'learned' if name in learned else slot.evidence.get(name, 'not known yet')})"
        for name, words in said
    )
    for name, text in learned.items():
        yield f"{name}: {one_line(text)}"
    position = _position(slot.label)
    lately = str(health.get(slot.label, "no records"))
    yield f"{position}; {lately}" if position else lately
