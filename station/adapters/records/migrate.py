"""The schema's version: what the file has, what this station needs, and the way up.

A migration runs whole or not at all, in one transaction that holds the write lock. A newer schema and a file that is not
ours are refused, never touched; nothing is ever migrated down. The migrations lie beside the package in a checkout and
inside it, as `_migrations`, in a wheel. Alembic takes seconds to import on a small machine: it is imported only to run a
migration, never to see that there is none to run.
"""

from __future__ import annotations

import ast
import re
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect

from station.adapters.records.engine import (
    database_file,
    make_engine,
    parse_url,
    short_lived,
    unwritable_is_named,
    writing,
)
from station.errors import ConfigurationError, RecordsUnwritable

if TYPE_CHECKING:
    from alembic.config import Config

_REVISION = re.compile(r"^(revision|down_revision) = (.+)$", re.MULTILINE)


class SchemaState(StrEnum):
    """What the tables in the file are to this station."""

    CURRENT = "current"
    FRESH = "fresh"
    """No tables at all."""
    OLDER = "older"
    NEWER = "newer"
    FOREIGN = "foreign"
    """Tables that no station made."""


def migrations_dir() -> Path:
    """Return where the migrations lie: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[2]
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def schema_state(connection: Connection) -> SchemaState:
    """Compare the file's schema with the newest migration."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return SchemaState.FRESH
    if "alembic_version" not in tables:
        return SchemaState.FOREIGN
    revisions = {row[0] for row in connection.exec_driver_sql("SELECT version_num FROM alembic_version")}
    if not revisions:
        return SchemaState.FOREIGN
    if revisions == {head()}:
        return SchemaState.CURRENT
    return SchemaState.OLDER if revisions <= set(_line_of_revisions()) else SchemaState.NEWER


def require_current(state: SchemaState, file: Path) -> None:
    """Raise `ConfigurationError` with the fix unless the schema is the one this station needs."""
    command_line = f"station db upgrade --db {shlex.quote(f'sqlite:///{file.absolute()}')}"
    problems = {
        SchemaState.FRESH: ("holds no records yet", command_line),
        SchemaState.OLDER: ("was made by an older station", command_line),
        SchemaState.NEWER: ("was made by a newer station", "install the newer station, or name another database"),
        SchemaState.FOREIGN: ("is not a database of this program", "name another file"),
    }
    if state in problems:
        problem, fix = problems[state]
        raise ConfigurationError(file=str(file), problem=f"the database {problem}", fix=fix)


def head() -> str:
    """Return the revision of the newest schema, the one that this station needs."""
    line = _line_of_revisions()
    # Every older revision is what a newer one goes down to; the newest is what nobody goes down to.
    (newest,) = set(line) - set(line.values())
    return newest


def knows(revision: str) -> bool:
    """Whether this station has the migrations up to this revision: it is its own, or an older one."""
    return revision in _line_of_revisions()


def upgrade(url: str, revision: str = "head") -> str:
    """Create the tables, or bring them to the newest schema or to `revision`; return what the newest is.

    Raises `ConfigurationError` for a newer schema, a foreign file or a missing directory, and `RecordsUnwritable`.
    """
    file = database_file(parse_url(url))
    require_directory(file)
    # Batch mode replaces whole tables, which foreign keys would forbid; they are checked before the commit instead.
    engine = make_engine(url, writes=True, foreign_keys=False)
    with short_lived(engine), unwritable_is_named(file), writing(engine) as connection:
        state = schema_state(connection)
        if state in {SchemaState.NEWER, SchemaState.FOREIGN}:
            require_current(state, file)
        if state is not SchemaState.CURRENT:
            _run_migrations(connection, revision)
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise RecordsUnwritable(f"{len(broken)} rows would refer to nothing after the upgrade ({file})")
        return head()


def check(url: str) -> list[str]:
    """Return what is wrong with the database, one line each; empty when it is whole and current. Changes nothing."""
    try:
        file = require_file(url)
        with (
            short_lived(make_engine(url, writes=False)) as engine,
            unwritable_is_named(file),
            engine.connect() as connection,
        ):
            problems = damage(connection)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            problems += [f"a row of {row[0]} refers to a row of {row[2]} that does not exist" for row in broken]
            require_current(schema_state(connection), file)
    except (ConfigurationError, RecordsUnwritable) as error:
        return [str(error)]
    return problems


def damage(connection: Connection) -> list[str]:
    """Return what SQLite's own quick check finds in the file, at most 100 lines; empty when it is whole."""
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check")]
    return [] if found == ["ok"] else found


def require_directory(file: Path) -> None:
    """Raise `ConfigurationError` when the directory of a database file does not exist."""
    if not file.absolute().parent.is_dir():
        raise ConfigurationError(
            file=str(file), key="database.url", problem="its directory does not exist", fix=f"mkdir -p {file.parent}"
        )


def require_file(url: str) -> Path:
    """Return the database file behind `url`; raises `ConfigurationError` when there is none."""
    file = database_file(parse_url(url))
    if not file.is_file():
        raise ConfigurationError(
            file=str(file), key="database.url", problem="there is no such database", fix="give --db sqlite:////path"
        )
    return file


def _line_of_revisions() -> dict[str, str | None]:
    """Return of each migration what it is and what it comes after, as its file says; nothing of it is run."""
    line: dict[str, str | None] = {}
    for file in (migrations_dir() / "versions").glob("*.py"):
        said = {name: ast.literal_eval(value) for name, value in _REVISION.findall(file.read_text("utf-8"))}
        line[said["revision"]] = said["down_revision"]
    return line


def _run_migrations(connection: Connection, revision: str) -> None:
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    # Config files interpolate `%`; a path may hold one.
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
