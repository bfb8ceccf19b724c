"""The command `setup`: the way from a fresh installation to the first green board."""

from __future__ import annotations

import os
from pathlib import Path

import click

from station.cli.options import SYSTEM_CONFIG, config_option, default_state_dir
from station.cli.slots import columns_option, rows_option
from station.cli.voice import Terminal


@click.command("setup")
@config_option
@click.option("--operator", metavar="NAME", help="Who works here.")
@rows_option
@columns_option
@click.option("--image", type=click.Path(path_type=Path), help="The firmware image to make boards with.")
@click.option("--product", metavar="NAME", help="What is made.")
@click.option("--start/--no-start", default=None, help="Start the station's service, anew if it runs.")
@click.option("--board/--no-board", default=None, help="Wait for a first board to turn green.")
def first(
    config_path: Path | None,
    operator: str | None,
    rows: int | None,
    columns: int | None,
    image: Path | None,
    product: str | None,
    start: bool | None,  # noqa: FBT001 - click passes flags so
    board: bool | None,  # noqa: FBT001 - click passes flags so
) -> None:
    """Set the station up, step by step: machine, name, sockets, recipe, start, first board.

    What an option says is not asked. It may be run again at any time; after Ctrl-C it goes on where it stopped.
    """
    from station.setup.guide import Stopped, Wish, set_up

    file = config_path or _new_config()
    wish = Wish(
        config_file=file,
        state_dir=default_state_dir(),
        operator=operator,
        rows=rows,
        columns=columns,
        image=image,
        product=product,
        start=start,
        board=board,
    )
    try:
        set_up(wish, Terminal())
    except (KeyboardInterrupt, Stopped):
        named = "" if file == SYSTEM_CONFIG else f" --config {file}"
        click.echo(f"\nwhat is done stays; it goes on with: station setup{named}")
        raise click.Abort from None


def _new_config() -> Path:
    """Where a configuration is made when there is none: the system's for root, else in this directory."""
    return SYSTEM_CONFIG if os.geteuid() == 0 else Path("station.toml")
