"""The commands about what is on record: `report`, `db`, `lot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from station.cli.options import database_option, database_url_or_default, needed_config_option
from station.config import load_config
from station.errors import ConfigurationError
from station.model import Lot

if TYPE_CHECKING:
    from station.adapters.records import Database, Report
    from station.config import Config
    from station.recipe import Recipe

MOST_REJECTS = 1000


class NotBlank(click.ParamType):  # type: ignore[type-arg]
    """Text in which something is said."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text without the blanks around it."""
        text = str(value).strip()
        return text or self.fail("it is empty; it goes on record, so write who or why", param, ctx)


format_option = click.option(
    "--format", "output_format", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
db_option = database_option(help_text="Where the records are; default: the station's own.")
by_option = click.option(
    "--by", "person", required=True, type=NotBlank(), metavar="NAME", help="Who says so; goes on record."
)


@click.group()
def report() -> None:
    """Print what is on record."""


@report.command("jobs")
@format_option
@db_option
@click.option("--limit", type=click.IntRange(1), help="Only so many, newest first.")
def report_jobs(output_format: Literal["table", "json", "csv"], database_url: str | None, limit: int | None) -> None:
    """Every job, newest first."""
    from station.adapters.records import jobs_report

    _print(jobs_report(database_url_or_default(database_url), limit=limit), output_format)


@report.command("board")
@click.argument("board")
@format_option
@db_option
def report_board(board: str, output_format: Literal["table", "json", "csv"], database_url: str | None) -> None:
    """The whole life of one board: BOARD is a MAC or a chip ID."""
    from station.adapters.records import board_report

    try:
        found = board_report(database_url_or_default(database_url), board)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _print(found, output_format)


@report.command("yield")
@format_option
@db_option
def report_yield(output_format: Literal["table", "json", "csv"], database_url: str | None) -> None:
    """First pass yield, and its formula."""
    from station.adapters.records import yield_report

    _print(yield_report(database_url_or_default(database_url)), output_format)


@click.group()
def db() -> None:
    """Look after the records' schema."""


@db.command("upgrade")
@db_option
def db_upgrade(database_url: str | None) -> None:
    """Bring the records to this station's schema."""
    from station.adapters.records import upgrade

    click.echo(upgrade(database_url_or_default(database_url)))


@db.command("check")
@db_option
def db_check(database_url: str | None) -> int:
    """Check that the records are whole and of this station's schema; 1 when they are not."""
    from station.adapters.records import check

    problems = check(database_url_or_default(database_url))
    for problem in problems:
        click.echo(problem)
    if not problems:
        click.echo("the records are whole and of this station's schema")
    return 1 if problems else 0


@click.group()
def lot() -> None:
    """Open, pause and close the work order, and book modules out of it; the running daemon follows within seconds."""


@lot.command("open")
@needed_config_option
@by_option
@click.option("--product", help="What is made; default: the recipe's name.")
@click.option("--quantity", type=click.IntRange(1), help="How many are wanted.")
def lot_open(config_path: Path, person: str, product: str | None, quantity: int | None) -> None:
    """Open a work order for the configured recipe, or the paused one again."""
    from station.adapters.records import Database, LotRequest
    from station.orders import load_work, remember_recipe, require_released

    config = load_config(config_path)
    recipe = _needed(load_work(config), config_path)
    with Database.open(config.database_url, station_id=config.station_id) as database:
        require_released(config, database, remember_recipe(database, recipe, person))
        opened = database.open_lot(
            LotRequest(
                recipe_hash=recipe.hash,
                product=product or recipe.name,
                person=person,
                supplier_batch=config.station.supplier_batch,
                target_quantity=quantity,
            )
        )
    _say(opened)
    if not config.work.require_lot:
        click.echo("note: work.require_lot is not set, so the standing lot is open as well", err=True)


@lot.command("pause")
@needed_config_option
@by_option
def lot_pause(config_path: Path, person: str) -> None:
    """Let running jobs end and start no new ones."""
    config = load_config(config_path)
    with _open(config) as database:
        _say(database.pause_lot(_current(database).id, person))


@lot.command("close")
@needed_config_option
@by_option
def lot_close(config_path: Path, person: str) -> None:
    """Close the work order for ever."""
    config = load_config(config_path)
    with _open(config) as database:
        closed = database.close_lot(_current(database).id, person)
        waiting = sum(job.lot.id == closed.id for job in database.pending())
    _say(closed)
    if waiting:
        boards = "1 board of it waits" if waiting == 1 else f"{waiting} boards of it wait"
        click.echo(
            f"note: {boards} for the test, and can have it as long as this recipe is loaded (station pending list)."
            " Where another recipe is next, it is station lot succeed that says what becomes of them",
            err=True,
        )


@lot.command("reject")
@needed_config_option
@click.option("--reason", required=True, type=click.Choice(["no_answer", "damaged", "wrong_part"]))
@click.option("--by", "person", type=NotBlank(), metavar="NAME", help="Who says so; default: the lot's person.")
@click.option("--count", type=click.IntRange(1, MOST_REJECTS), default=1, show_default=True, help="How many modules.")
@click.option("--slot", default="", metavar="LABEL", help="Where they were tried.")
def lot_reject(config_path: Path, reason: str, person: str | None, count: int, slot: str) -> None:
    """Book modules out of the work order: silent after one more seating, damaged, or the wrong part. In no yield."""
    from station.adapters.records import RejectReason, RejectRow, new_id

    config = load_config(config_path)
    with _open(config) as database:
        at_work = _lot_at_work(config, config_path, database)
        by = person or at_work.person
        database.add_rejects(
            [
                RejectRow(id=new_id(), lot_id=at_work.id, reason=RejectReason(reason), person=by, slot=slot)
                for _ in range(count)
            ]
        )
        in_all = database.rejected(at_work.id)
    modules = "1 module" if count == 1 else f"{count} modules"
    click.echo(f"{modules} booked out of lot {at_work.id} for {at_work.product}: {reason}, by {by}; {in_all} in all")


def _lot_at_work(config: Config, config_path: Path, database: Database) -> Lot:
    """Return the lot that the daemon of this configuration works on."""
    from station.orders import Orders, load_work

    if config.work.require_lot:
        return _current(database)
    now = Orders(config, database, _needed(load_work(config), config_path))()
    if now.lot is None:
        raise ConfigurationError(
            file="lot", problem=now.unreleased, fix="station recipe list; let work.recipe name a released one"
        )
    return now.lot


def _open(config: Config) -> Database:
    from station.adapters.records import Database

    return Database.open(config.database_url, station_id=config.station_id)


def _current(database: Database) -> Lot:
    current = database.current_lot()
    if current is None:
        raise ConfigurationError(file="lot", problem="no lot is open or paused", fix="station lot open --by NAME")
    return current


def _needed(recipe: Recipe | None, config_path: Path) -> Recipe:
    if recipe is None:
        raise ConfigurationError(
            file=str(config_path), key="work.recipe", problem="no recipe is named", fix="station recipe new makes one"
        )
    return recipe


def _say(lot_now: Lot) -> None:
    click.echo(f"lot {lot_now.id} for {lot_now.product} [{lot_now.recipe_hash[:8]}] is {lot_now.state}")


def _print(found: Report, output_format: Literal["table", "json", "csv"]) -> None:
    from station.adapters.records import render

    # Flushed at once, so that a reader who has read enough (`| head`) ends us quietly.
    click.echo(render(found, output_format), nl=False)
