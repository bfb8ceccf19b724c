"""What boards are given: the secrets, the table of values and the numbers that the recipe asks for, before board 1 asks.

Everything is read as the station reads it when a board is there, and its own refusal is the problem. No word of this module
repeats a secret or a field of a table. Where recipe or records are broken, their own checks say so, and these say nothing.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable
from pathlib import Path

from station.adapters.records import database_path, free_numbers
from station.boarddata import check_values, columns_wanted, rows_pool, secrets_wanted
from station.doctor.patient import Patient, Said, names, ok, plural, problem, warning
from station.errors import ConfigurationError, RecordsUnwritable, SecretUnusable
from station.recipe import Recipe
from station.secrets import SERVICE_CREDENTIALS, read_secret, secrets_directory
from station.values import ValuesTable, load_values

FEW_NUMBERS = 100
"""As in the alert StationNumbersShort: time enough for a person to grant more."""


def _of_recipe(check: Callable[[Patient, Recipe], Said]) -> Callable[[Patient], Said]:
    """Ask for what is made; a recipe that is broken is the finding of the check `recipe`."""

    @functools.wraps(check)
    def checked(one: Patient) -> Said:
        try:
            recipe = one.recipe()
        except (ConfigurationError, OSError):
            return
        if recipe is None:
            yield ok("no recipe is named")
        else:
            yield from check(one, recipe)

    return checked


@_of_recipe
def secrets(one: Patient, recipe: Recipe) -> Said:
    """Whether each secret of the recipe is there, can be used, and can be read by the station and not by everybody."""
    wanted = sorted(secrets_wanted(recipe))
    if not wanted:
        yield ok("the recipe asks for none")
        return
    directory = _directory_of_secrets(one)
    if directory is None and not one.in_daemon:
        yield warning(
            f"the recipe asks for {names(wanted)}: work.secrets is not set, and systemd shows what it gives the service"
            " only while that runs",
            "set work.secrets, or LoadCredential= in the unit, and look again while the service runs",
        )
        return
    found = [each for name in wanted for each in _secret(one, directory, name)]
    found += _of_directory(directory) if one.config.work.secrets and directory is not None else ()
    yield from found or [ok(f"{plural(len(wanted), 'secret')}, readable for the station and not for everybody")]


@_of_recipe
def values(one: Patient, recipe: Recipe) -> Said:
    """Whether the recipe's table is there, is read in one way only, and has what its files ask for in every row."""
    section = recipe.values
    if not section.csv:
        yield ok("the recipe asks for no table")
        return
    if not one.config.work.values:
        yield problem(f"the recipe asks for {section.csv}, and work.values names no directory", "set work.values")
        return
    file = Path(one.config.work.values) / section.csv
    _require_sight(one, file)
    table = load_values(file)
    check_values(table, recipe)
    found = [*_of_table(one, file, is_secret=bool(section.secret)), *_empty_fields(table, recipe)]
    if not table.rows:
        found.append(warning(f"{file} has no rows", "write a row for each board"))
    yield from found or [ok(f"{file}: {plural(len(table.rows), 'row')}, by {section.by}")]


@_of_recipe
def numbers(one: Patient, recipe: Recipe) -> Said:
    """Whether there are numbers, and rows of a table, for the boards to come."""
    by_row = recipe.values.csv and recipe.values.by == "row"
    pools = [pool for pool in (recipe.serial.pool, rows_pool(recipe.values.csv) if by_row else "") if pool]
    if not pools:
        yield ok("the recipe hands out none")
        return
    try:
        left = {pool: _left(one, pool) for pool in pools}
        rows = len(load_values(Path(one.config.work.values) / recipe.values.csv).rows) if by_row else 0
        rows_left = _left(one, pools[-1], rows) if by_row else None
    except (ConfigurationError, RecordsUnwritable):
        return
    found = [each for pool, count in left.items() for each in _of_pool(pool, count)]
    if rows_left is not None and left[pools[-1]] and rows_left < FEW_NUMBERS:
        said = f"{rows_left or 'no'} rows of {recipe.values.csv} are left for boards that have none yet"
        found = [each for each in found if each.said.partition(": ")[0] != pools[-1]]
        found.append((warning if rows_left else problem)(said, "append rows to the table"))
    yield from found or [ok(", ".join(f"{count} numbers of {pool} are left" for pool, count in left.items()))]


def _directory_of_secrets(one: Patient) -> Path | None:
    named = secrets_directory(one.config.work.secrets)
    given = one.root / SERVICE_CREDENTIALS
    return named if named is not None or one.in_daemon or not given.is_dir() else given


def _secret(one: Patient, directory: Path | None, name: str) -> Said:
    if directory is not None:
        _require_sight(one, directory / name)
    try:
        read_secret(directory, name)
    except SecretUnusable as error:
        place = f" ({directory / name})" if directory is not None else ""
        yield problem(
            f"the secret {error}{place}", "write that file: the secret and nothing else, mode 0640, group station"
        )
        return
    if directory is not None and one.config.work.secrets:
        yield from _readable(one, directory / name)
        owner = (directory / name).stat().st_uid
        if owner not in (0, one.person().uid, os.getuid()):
            yield warning(
                f"{directory / name} belongs to user {owner}, who can exchange it", f"chown root {directory / name}"
            )


def _of_directory(directory: Path) -> Said:
    if directory.stat().st_mode & stat.S_IWOTH:
        yield warning(f"everybody can exchange what is in {directory}", f"chmod o-w {directory}")


def _of_table(one: Patient, file: Path, *, is_secret: bool) -> Said:
    yield from _readable(one, file)
    if is_secret and file.stat().st_mode & stat.S_IRWXO:
        yield warning(f"{file} holds secrets, and is open to everybody", f"chmod 0640 {file}")


def _readable(one: Patient, file: Path) -> Said:
    """A file that root can look at, and the user of the service cannot."""
    person = one.person()
    if not person.is_running and not (person.may_search(file.parent.stat()) and person.may_read(file.stat())):
        yield problem(f"{person.name} may not read {file}", f"chgrp station {file}, and give it mode 0640")


def _require_sight(one: Patient, file: Path) -> None:
    """Raise PermissionError where not the station asks but a person who may not see what it sees."""
    try:
        is_hidden = stat.S_ISREG(file.stat().st_mode) and not os.access(file, os.R_OK)
    except PermissionError:
        is_hidden = True
    except OSError:
        return
    if is_hidden and not one.in_daemon:
        raise PermissionError(13, "may not be read", str(file))


def _empty_fields(table: ValuesTable, recipe: Recipe) -> Said:
    for column in sorted(columns_wanted(recipe)):
        lines = [str(line) for line, said in zip(table.lines, table.column(column), strict=True) if not said.strip()]
        if lines:
            said = f"{table.file}: files are filled in from the column {column}, which is empty in line {names(lines)}"
            yield warning(said, "give every row one, unless nothing is what these boards shall get")


def _left(one: Patient, pool: str, highest: int | None = None) -> int | None:
    if not database_path(one.config.database_url).exists():
        return None
    return free_numbers(one.config.database_url, pool, one.config.station_id, highest)


def _of_pool(pool: str, left: int | None) -> Said:
    fix = f"station serial grant {pool} FIRST-LAST --by NAME --reason WHY"
    if left is None:
        yield problem(f"{pool}: this station was granted no numbers of it", fix)
    elif not left:
        yield problem(f"{pool}: its numbers are used up", fix)
    elif left < FEW_NUMBERS:
        yield warning(f"{pool}: {left} numbers are left", fix)
