"""The commands about serial numbers: `serial grant|list|burn|release`. What a person says here is a row with name and reason.

They may run beside the daemon: each is one short transaction, and the next board sees what it changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from station.cli.boards import records_options, said_by_a_person
from station.cli.options import database_url_or_default, default_config, load_or_default
from station.cli.records import format_option

if TYPE_CHECKING:
    from station.adapters.records import Database

_POOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,63}")
_NUMBERS = re.compile(r"(\d{1,15})(?:-(\d{1,15}))?")


class Pool(click.ParamType):  # type: ignore[type-arg]
    """The name of a pool: what a recipe calls it, or `rows/FILE` for the rows of a table."""

    name = "POOL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        if not _POOL.fullmatch(str(value)):
            self.fail(f"{value!r} is no name of a pool: letters, digits, . _ / and -, at most 64", param, ctx)
        return str(value)


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """One number, or FIRST-LAST."""

    name = "NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return the first and the last number."""
        found = _NUMBERS.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is neither a number nor FIRST-LAST", param, ctx)
        first, last = int(found[1]), int(found[2] or found[1])
        return (first, last) if first <= last else self.fail(f"{first} is greater than {last}", param, ctx)


pool_argument = click.argument("pool", type=Pool(), metavar="POOL")
numbers_argument = click.argument("numbers", type=Numbers(), metavar="FIRST-LAST")


@click.group()
def serial() -> None:
    """Serial numbers: which this station may hand out, and which boards have them."""


@serial.command("grant")
@pool_argument
@numbers_argument
@click.option("--station", "station_id", default="", metavar="ID", help="Whose range it is; default: this station's.")
@said_by_a_person
def serial_grant(
    pool: str,
    numbers: tuple[int, int],
    station_id: str,
    person: str,
    reason: str,
    config_path: Path | None,
    database_url: str | None,
) -> None:
    """Give this station FIRST-LAST of POOL, or note that another station has it. Numbers that overlap are refused."""
    from station.adapters.records import Span

    with _books(config_path, database_url) as database:
        database.numbers.grant(Span(pool=pool, first=numbers[0], last=numbers[1]), person, reason, station_id)
        left = database.numbers.left().get(pool, 0)
    whose = f"station {station_id} has" if station_id else "granted:"
    click.echo(f"{whose} {pool} {numbers[0]}-{numbers[1]}, by {person}; {left} numbers of {pool} are left here")
    click.echo("make a backup now (station backup): it is the only thing that knows of this range besides this disk")


@serial.command("list")
@click.argument("pool", type=Pool(), metavar="[POOL]", required=False)
@click.option("--numbers", "what", flag_value="numbers", help="Every number of POOL that belongs to a board.")
@click.option("--events", "what", flag_value="events", help="Everything that ever happened to numbers of POOL.")
@format_option
@records_options
def serial_list(
    pool: str | None,
    what: str | None,
    output_format: Literal["table", "json", "csv"],
    config_path: Path | None,
    database_url: str | None,
) -> None:
    """List the ranges with what is left of them; of one pool, or of all."""
    from station.adapters.records import number_events_report, numbers_report, ranges_report, render

    if what is not None and pool is None:
        raise click.UsageError(f"--{what} takes the name of a pool")
    url = database_url_or_default(database_url, config_path)
    match what:
        case "numbers":
            found = numbers_report(url, pool or "")
        case "events":
            found = number_events_report(url, pool or "")
        case _:
            found = ranges_report(url, pool or "")
    if output_format != "table" or found.rows:
        click.echo(render(found, output_format), nl=False)
    else:
        click.echo("no numbers were granted" if what is None else "none")


@serial.command("burn")
@pool_argument
@numbers_argument
@said_by_a_person
def serial_burn(
    pool: str,
    numbers: tuple[int, int],
    person: str,
    reason: str,
    config_path: Path | None,
    database_url: str | None,
) -> None:
    """See to it that nobody gets these numbers any more; a board that has one gets another one at its next job."""
    from station.adapters.records import Span

    with _books(config_path, database_url) as database:
        count = database.numbers.burn(Span(pool=pool, first=numbers[0], last=numbers[1]), person, reason)
    click.echo(f"{count} numbers of {pool} are burned, by {person}")


@serial.command("release")
@pool_argument
@numbers_argument
@said_by_a_person
def serial_release(
    pool: str,
    numbers: tuple[int, int],
    person: str,
    reason: str,
    config_path: Path | None,
    database_url: str | None,
) -> None:
    """Let burned numbers be handed out after all: you answer for it that no board has one of them."""
    from station.adapters.records import Span

    with _books(config_path, database_url) as database:
        count = database.numbers.release(Span(pool=pool, first=numbers[0], last=numbers[1]), person, reason)
    click.echo(f"{count} numbers of {pool} can be handed out, by {person}")


@contextmanager
def _books(config_path: Path | None, database_url: str | None) -> Iterator[Database]:
    """Open the records of this station, under its own name: ranges belong to a station."""
    from station.adapters.records import Database, require_file

    config = load_or_default(config_path or default_config())
    url = database_url or config.database_url
    require_file(url)
    with Database.open(url, station_id=config.station_id) as database:
        yield database
