"""How the database file is opened, and what it means when it refuses.

A writing connection is WAL, `synchronous=FULL`, foreign keys on, and takes the write lock when its transaction begins, so that
it never finds out halfway that it may not write. A reading connection cannot write at all. Full, read-only, locked, corrupt
and unreadable files become `RecordsUnwritable` with words for a person; a mistake of ours (a constraint, a wrong statement)
stays the exception it is, so that it is never retried for ever. Source: sqlite.org/wal.html, pragma.html, rescode.html.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InternalError, OperationalError

from station.errors import ConfigurationError, RecordsUnwritable

BUSY_TIMEOUT_S = 5.0
_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_BUSY: "another program has locked the database",
    sqlite3.SQLITE_LOCKED: "another program has locked the database",
    sqlite3.SQLITE_CORRUPT: "the database is corrupt",
    sqlite3.SQLITE_NOTADB: "the file is corrupt or not a database",
    sqlite3.SQLITE_IOERR: "the disk gives errors",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_PERM: "no permission to use the database",
}
_PRIMARY_CODE = 0xFF


def parse_url(url: str) -> URL:
    """Return the parsed database URL; raises `ConfigurationError` for what is not a SQLite file."""
    fix = "write sqlite:////absolute/path/station.db"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(file=url, key="database.url", problem="not a database URL", fix=fix) from None
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise ConfigurationError(file=url, key="database.url", problem="only SQLite is supported", fix=fix)
    if parsed.database in {None, "", ":memory:"}:
        raise ConfigurationError(file=url, key="database.url", problem="names no file", fix=fix)
    return parsed


def database_file(url: URL) -> Path:
    """Return the file behind a SQLite URL, the `file:` form included."""
    return Path((url.database or "").removeprefix("file:"))


def make_engine(
    url: str,
    *,
    writes: bool,
    foreign_keys: bool = True,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> Engine:
    """Return an engine for the file behind `url`; nothing is opened yet. `factory` makes the driver's connections."""
    engine = create_engine(parse_url(url), connect_args={"factory": factory, "timeout": busy_timeout_s})
    pragmas = (
        ("journal_mode=WAL", "synchronous=FULL", f"foreign_keys={'ON' if foreign_keys else 'OFF'}")
        if writes
        else ("query_only=ON",)
    )
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_ours(connection: Connection) -> None:
        # The driver alone would begin late, at the first INSERT, and not at all before DDL or a SELECT.
        connection.exec_driver_sql(begin)

    return engine


@contextmanager
def unwritable_is_named(file: Path) -> Iterator[None]:
    """Turn what the database says when it cannot be used into `RecordsUnwritable`; let mistakes of ours through."""
    try:
        yield
    except DBAPIError as error:
        if not _is_the_databases_fault(error):
            raise
        raise RecordsUnwritable(f"{words_for(error.orig)} ({file})") from error


@contextmanager
def short_lived(engine: Engine) -> Iterator[Engine]:
    """Use an engine for one task and let go of its connections."""
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One write transaction: committed at the end, or rolled back and its connection thrown away.

    After an I/O error nothing of that connection's cache is trusted: the next one reads the file anew.
    """
    with engine.connect() as connection:
        try:
            with connection.begin():
                yield connection
        except DBAPIError:
            connection.invalidate()
            raise


def words_for(error: BaseException | None) -> str:
    """Return what a driver's exception means, with its own text, e.g. `the disk is full: database or disk is full`."""
    code = getattr(error, "sqlite_errorcode", None)
    words = _WORDS.get(code & _PRIMARY_CODE) if isinstance(code, int) else None
    return f"{words}: {error}" if words else str(error)


def _is_the_databases_fault(error: DBAPIError) -> bool:
    """Plain `DatabaseError` is how the driver reports a corrupt file; its other subclasses are mistakes of ours."""
    return isinstance(error, (OperationalError, InternalError)) or type(error) is DatabaseError
