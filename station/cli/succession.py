"""The command `lot succeed`: a lot never changes its recipe, so another one takes its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from station.cli.options import needed_config_option
from station.cli.records import by_option
from station.config import Config, load_config
from station.errors import ConfigurationError

if TYPE_CHECKING:
    from station.adapters.records import Database, Succeeded
    from station.model import Lot
    from station.recipe import Recipe

_WORDS = {
    "finish": "are tested under their own recipe when they come",
    "reflash": "are made anew when they come",
    "scrap": "are marked scrapped, and not made again by themselves",
}


@click.command("succeed")
@needed_config_option
@by_option
@click.option(
    "--recipe", "recipe_path", required=True, type=click.Path(path_type=Path), help="What is made from now on."
)
@click.option(
    "--pending",
    "pending",
    required=True,
    type=click.Choice(list(_WORDS)),
    help="What becomes of boards that are flashed and not tested.",
)
@click.option("--product", help="What is made; default: the recipe's name.")
@click.option("--quantity", type=click.IntRange(1), help="How many are wanted.")
def lot_succeed(
    config_path: Path, person: str, recipe_path: Path, pending: str, product: str | None, quantity: int | None
) -> None:
    """Close the lot and open its successor, with another recipe, in one step; writes work.recipe.

    Boards that wait for their test are finished under the old recipe, made anew under the new one, or scrapped.
    """
    from station.adapters.records import Database, LotRequest, PendingChoice
    from station.orders import open_for, remember_recipe, require_released

    config = load_config(config_path)
    new = open_for(config, recipe_path.absolute())
    _refuse_unwritable(config_path)
    with Database.open(config.database_url, station_id=config.station_id) as database:
        old = _lot_at_work(config, database, config_path)
        require_released(config, database, remember_recipe(database, new, person))
        request = LotRequest(
            recipe_hash=new.hash,
            # The standing lot is found again by the name that the station gives it.
            product=new.name if old.standing else product or new.name,
            person=person,
            supplier_batch=config.station.supplier_batch,
            target_quantity=quantity,
        )
        done = database.shelf.succeed(old, request, PendingChoice(pending))
    _say(done, pending)
    _write_recipe(config_path, recipe_path.absolute(), new)


def _lot_at_work(config: Config, database: Database, config_path: Path) -> Lot:
    """Return the lot to be succeeded: the one that a person opened, or the standing one of the configured recipe."""
    from station.orders import load_work, standing_request

    found = None
    if config.work.require_lot:
        found = database.current_lot()
    else:
        recipe = load_work(config)
        found = database.known_standing_lot(standing_request(config, recipe)) if recipe is not None else None
    if found is None:
        raise ConfigurationError(
            file=str(config_path),
            key="work.recipe",
            problem="no lot is open for what it names, so there is nothing to succeed",
            fix="let work.recipe name the old recipe until then; lots that people open count with work.require_lot alone",
        )
    return found


def _refuse_unwritable(config_path: Path) -> None:
    """Raise `ConfigurationError` before anything is changed, when the configuration could not be written afterwards."""
    if not os.access(config_path.absolute().parent, os.W_OK):
        raise ConfigurationError(
            file=str(config_path), problem="cannot be written", fix="run as root: sudo station lot succeed"
        )


def _write_recipe(config_path: Path, recipe_path: Path, new: Recipe) -> None:
    from station.adapters.config_file import set_values

    home = config_path.absolute().parent
    shown = recipe_path.relative_to(home) if recipe_path.is_relative_to(home) else recipe_path
    changed = set_values(config_path, {("work", "recipe"): str(shown)})
    verb = "names" if changed else "named already"
    click.echo(f"work.recipe {verb} {shown} [{new.short_hash}]; restart the station: systemctl restart station")


def _say(done: Succeeded, pending: str) -> None:
    old, new = done.closed, done.opened
    click.echo(f"lot {old.id} for {old.product} [{old.recipe_hash[:8]}] is {old.state}")
    click.echo(f"lot {new.id} for {new.product} [{new.recipe_hash[:8]}] is {new.state}")
    boards = "1 board that waits" if done.pending_jobs == 1 else f"{done.pending_jobs} boards that wait"
    click.echo(f"{boards}: {_WORDS[pending]}")
