"""The commands about learned layouts, under `recipe`: `layouts` and `forget-layout`. They may run beside the daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from station.cli.boards import json_option, records_options, said_by_a_person
from station.cli.options import database_url_or_default

if TYPE_CHECKING:
    from station.adapters.records import LearnedLayout


@click.command("layouts")
@records_options
@json_option
def recipe_layouts(config_path: Path | None, database_url: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """List where images have their filesystem, as the first board showed it, and what was forgotten of that."""
    from station.adapters.records import Database, require_file

    url = database_url_or_default(database_url, config_path)
    require_file(url)
    with Database.open(url) as database:
        found = database.layouts()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2, default=str))
        return
    for line in (line for one in found for line in _about(one)):
        click.echo(line)
    if not found:
        click.echo("nothing was learned yet: the first board of an image that passes shows it")


@click.command("forget-layout")
@click.argument("image", metavar="IMAGE")
@said_by_a_person
def recipe_forget_layout(
    image: str, person: str, reason: str, config_path: Path | None, database_url: str | None
) -> None:
    """Forget where an image has its filesystem; the next board shows it anew. IMAGE is the first digits of its sha256."""
    from station.adapters.records import Database, require_file

    url = database_url_or_default(database_url, config_path)
    require_file(url)
    with Database.open(url) as database:
        count = database.forget_layouts(image.lower(), person=person, reason=reason)
    click.echo(f"forgotten for {count} {'size' if count == 1 else 'sizes'} of flash, by {person}")


COMMANDS = (recipe_layouts, recipe_forget_layout)


def _about(one: LearnedLayout) -> Iterator[str]:
    version = f"MicroPython {one.version}" if one.version else "firmware of unknown version"
    size = f"{one.flash_size_bytes >> 10} KB"
    yield f"{one.firmware_sha256[:12]}  {size:>8}  {one.layout}  {version}, learned {one.learned_at:%Y-%m-%d %H:%M}"
    if one.forgotten_at is not None:
        yield f"    forgotten {one.forgotten_at:%Y-%m-%d %H:%M}, {one.person}: {one.reason}"
