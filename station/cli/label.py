"""The commands about labels: `label print|list|test`.

`print` and `list` may run beside the daemon, whose lane prints what `print` asks for; `test` talks to the printer itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from station.cli.boards import board_argument, records_options, said_by_a_person
from station.cli.options import config_option, database_url_or_default, default_config, load_or_default
from station.cli.records import format_option
from station.config import Config
from station.errors import ConfigurationError, PrinterTrouble


@click.group()
def label() -> None:
    """Labels of boards that passed."""


@label.command("print")
@board_argument
@said_by_a_person
def label_print(board: str, person: str, reason: str, config_path: Path | None, database_url: str | None) -> None:
    """Ask for another label of BOARD, a MAC or a chip ID of one board only; the running station prints it.

    Only a board whose last job is a PASS gets one. Who asked and why goes on record.
    """
    from station.adapters.records import Database, require_file

    config = load_or_default(config_path or default_config())
    _printer_of(config, config_path)
    url = database_url or config.database_url
    require_file(url)
    with Database.open(url, station_id=config.station_id) as database:
        try:
            mac = database.labels.ask_again(board, person, reason)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        waiting = database.labels.waiting()
    click.echo(f"another label of {mac} is asked for, by {person}; {waiting} wait for the printer (station label list)")


@label.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many.")
@format_option
@records_options
def label_list(
    limit: int,
    output_format: Literal["table", "json", "csv"],
    config_path: Path | None,
    database_url: str | None,
) -> None:
    """List labels, newest first: whose, asked for by whom and why, and what became of them."""
    from station.adapters.records import labels_report, render

    found = labels_report(database_url_or_default(database_url, config_path), limit=limit)
    if output_format != "table" or found.rows:
        click.echo(render(found, output_format), nl=False)
    else:
        click.echo("no label was asked for")


@label.command("test")
@click.option("--zpl", "only_show", is_flag=True, help="Print the ZPL here, and send nothing.")
@config_option
def label_test(config_path: Path | None, only_show: bool) -> int:  # noqa: FBT001 - click passes flags so
    """Print a label of a board that does not exist. Exit code: 0 the printer took it, 1 it did not."""
    from station.adapters.label_lane import label_maker
    from station.adapters.printer import open_printer
    from station.adapters.records import WantedLabel
    from station.labels import load_template

    config = load_or_default(config_path)
    template = load_template(config.label, file=str(config_path))
    values = (("serial", "SN000000"),)
    about = {"mac": "02:00:00:00:00:01", "chip_id": "0x00000001", "product": "TEST LABEL", "slot": "A1"}
    wanted = WantedLabel(id="", attempt=1, station_id=config.station_id, values=values, **about)
    zpl = label_maker(config, template)(wanted)
    if only_show:
        click.echo(zpl, nl=False)
        return 0
    printer = _printer_of(config, config_path)
    try:
        with open_printer(printer) as there:
            there.send(zpl)
    except PrinterTrouble as trouble:
        click.echo(trouble.problem if printer in trouble.problem else f"{printer}: {trouble.problem}", err=True)
        return 1
    click.echo(f"{printer} took {len(zpl)} bytes: a label with the slot A1 and a QR code should lie there")
    return 0


def _printer_of(config: Config, config_path: Path | None) -> str:
    """Return the configured printer; raises `ConfigurationError` when there is none."""
    if not config.label.printer:
        raise ConfigurationError(
            file=str(config_path or "station.toml"),
            key="label.printer",
            problem="no printer is configured",
            fix='write [label] printer = "tcp://HOST:9100", or the path of its device',
        )
    return config.label.printer
