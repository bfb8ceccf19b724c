"""Copies of the records, and single jobs with every row that belongs to them: what backups and the journal are made of.

Everything here sees the raw rows of a file of any schema, so that what is copied is what is stored, and an older file can be
copied too. It works beside a running station: a copy is one consistent moment, and nothing but the copy is ever written.
What the file refuses becomes `RecordsUnwritable`. Source: sqlite.org/backup.html, sqlite.org/uri.html.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from station.adapters.records.engine import BUSY_TIMEOUT_S, words_for
from station.errors import RecordsUnwritable

Value = str | int | float | bytes | None
Rows = dict[str, list[dict[str, Value]]]
"""Table -> rows, each column -> value as it is stored."""
COPY_WAITS_S = 30.0
"""So long a copy waits for a program that has locked the records whole."""
_BOOKKEEPING = ("alembic_version", "heartbeat")
_BYTES = "base64"
# Write and read version in the header: 1 is a rollback journal, 2 the write-ahead log, which a share without locks cannot have.
_FORMAT_OFFSET, _WITHOUT_LOG = 18, b"\x01\x01"
# What goes with a row besides what it refers to: table, its column, and the table and column that the row is of.
_GOES_WITH = (
    ("job_visit", "job_id", "job", "id"),
    ("phase", "job_id", "job", "id"),
    ("measurement", "job_id", "job", "id"),
    ("job_value", "job_id", "job", "id"),
    ("serial_number", "job_id", "job", "id"),
    ("lot_event", "lot_id", "lot", "id"),
    ("board_event", "mac", "board", "mac"),
)
_WORK_OF_PEOPLE = ("job", "visit", "board", "board_event", "reject", "serial_range")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMark:
    """How far a job is, as it is stored."""

    id: str
    sequence: int
    state: str
    ended_at: str
    """As stored, in UTC, so that later is greater; empty while it runs."""
    outcome: str

    @property
    def version(self) -> str:
        """Changes whenever something is added to the job, and is the same wherever it is read."""
        return f"{self.state} {self.ended_at}".strip()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the mark of a row of the table `job`."""
        return cls(
            id=row["id"],
            sequence=row["sequence"],
            state=row["state"],
            ended_at=row["ended_at"] or "",
            outcome=row["outcome"] or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptJob:
    """A job with every row that belongs to it, and the revision of the schema they were stored under."""

    revision: str
    rows: Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a whole file of records holds."""

    revision: str
    """Of the schema; empty for a file without tables."""
    rows: dict[str, int]
    """Table -> number of rows."""
    passes: int
    newest: JobMark | None
    """The job begun last."""
    unfinished: tuple[JobMark, ...]
    """The jobs that are not closed."""

    @property
    def jobs(self) -> int:
        """How many jobs there are."""
        return self.rows.get("job", 0)

    @property
    def holds_work(self) -> bool:
        """Whether anything in it came from a bench or a person: a station that was only started has nothing yet."""
        return any(self.rows.get(table, 0) for table in _WORK_OF_PEOPLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """What the records say is going on."""

    running: tuple[tuple[str, str], ...]
    """Slot, and when the job began, as stored in UTC."""
    open_lots: tuple[tuple[str, str], ...]
    """Product and person of the lots that a person opened and nobody paused."""


def copy_records(source: Path, target: Path) -> None:
    """Copy one consistent moment of the records, also while a station writes them, into the new file `target`, and sync it.

    The copy is a single file without a write-ahead log. Raises `RecordsUnwritable` for the source, OSError for a full disk.
    """
    deadline = time.monotonic() + COPY_WAITS_S

    def give_up(_status: int, _remaining: int, _total: int) -> None:
        # The driver itself tries a locked source for ever.
        if time.monotonic() > deadline:
            raise RecordsUnwritable(f"another program keeps the database locked ({source})")

    with (
        _refusals_named(source, target),
        _opened(source) as original,
        closing(_connect(target, "rwc", "nolock=1")) as copy,
    ):
        original.backup(copy, pages=-1, progress=give_up, sleep=0.1)
    with target.open("rb+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(_FORMAT_OFFSET)
            file.write(_WITHOUT_LOG)
            file.flush()
        os.fsync(file.fileno())


def examine(file: Path, *, beside_a_station: bool = False) -> Contents:
    """Return what a file of records holds; raises `RecordsUnwritable` when it is damaged or no database.

    Without `beside_a_station` nobody else may have the file, and nothing is made beside it.
    """
    with (
        _refusals_named(file),
        closing(_connect(file, *(("rw",) if beside_a_station else ("ro", "immutable=1")))) as connection,
    ):
        found = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise RecordsUnwritable(f"the database is corrupt: {found[0]} ({file})")
        tables = table_names(connection)
        rows = {table: _count(connection, table) for table in tables if table not in _BOOKKEEPING}
        marks = (
            _marks(connection, "state <> 'closed' OR sequence = (SELECT max(sequence) FROM job)")
            if "job" in tables
            else ()
        )
        passes = "SELECT count(*) FROM job WHERE outcome = 'PASS'"
        return Contents(
            revision=revision_of(connection),
            rows=rows,
            passes=connection.execute(passes).fetchone()[0] if "job" in tables else 0,
            newest=marks[-1] if marks else None,
            unfinished=tuple(mark for mark in marks if mark.state != "closed"),
        )


def job_marks(file: Path, *, after: int | None = None, ids: Sequence[str] = ()) -> tuple[JobMark, ...]:
    """Return the jobs of `ids`, and those begun after the job of the sequence `after`, in the order in which they began."""
    with _refusals_named(file), _opened(file) as connection:
        if "job" not in table_names(connection):
            return ()
        wanted = "sequence > ? OR id IN (SELECT value FROM json_each(?))"
        return _marks(connection, wanted, (after, json.dumps(list(ids))))


def kept_jobs(file: Path, ids: Sequence[str]) -> tuple[KeptJob, ...]:
    """Return the jobs of `ids` that are there with every row that belongs to each: one moment of all."""
    with _refusals_named(file), _opened(file) as connection:
        connection.execute("BEGIN")
        revision = revision_of(connection)
        found = (rows_of_job(connection, job_id) for job_id in ids)
        return tuple(KeptJob(revision=revision, rows=rows) for rows in found if rows.get("job"))


def under_way(file: Path) -> UnderWay:
    """Return the running jobs, and the open lots that a person opened."""
    with _refusals_named(file), _opened(file) as connection:
        if not {"job", "lot"} <= set(table_names(connection)):
            return UnderWay(running=(), open_lots=())
        running = connection.execute("SELECT slot, started_at FROM job WHERE state = 'running' ORDER BY sequence")
        lots = connection.execute("SELECT product, person FROM lot WHERE state = 'open' AND NOT standing")
        return UnderWay(running=tuple(map(tuple, running)), open_lots=tuple(map(tuple, lots)))


def rows_of_job(connection: sqlite3.Connection, job_id: str) -> Rows:
    """Return every row that belongs to a job: its own, what it refers to, directly or not, and what goes with those."""
    tables = table_names(connection)
    references = {table: _references(connection, table) for table in tables}
    found: Rows = {}
    wanted: list[tuple[str, str, Value]] = [("job", "id", job_id)]
    asked = set(wanted)
    while wanted:
        table, column, value = wanted.pop(0)
        for row in connection.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,)):  # noqa: S608 - our own names
            values = dict(row)
            if values in found.setdefault(table, []):
                continue
            found[table].append(values)
            more = [(other, key, values[of]) for of, other, key in references[table] if values[of] is not None]
            more += [(other, key, values[of]) for other, key, its, of in _GOES_WITH if its == table and other in tables]
            wanted += [each for each in more if each not in asked]
            asked |= set(more)
    return found


def table_names(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all tables, SQLite's own aside."""
    named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    return [row[0] for row in connection.execute(named)]


def revision_of(connection: sqlite3.Connection) -> str:
    """Return the revision of the schema, empty for a file that has none."""
    if "alembic_version" not in table_names(connection):
        return ""
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def as_json(rows: Rows) -> dict[str, list[dict[str, object]]]:
    """Return rows in which bytes are `{"base64": "…"}`."""
    return {
        table: [
            {
                column: {_BYTES: base64.b64encode(value).decode()} if isinstance(value, bytes) else value
                for column, value in row.items()
            }
            for row in of_table
        ]
        for table, of_table in rows.items()
    }


def from_json(rows: dict[str, list[dict[str, object]]]) -> Rows:
    """Return what `as_json` was given; raises ValueError for what it never made."""
    return {
        table: [{column: _stored(value) for column, value in row.items()} for row in of_table]
        for table, of_table in rows.items()
    }


def _stored(value: object) -> Value:
    match value:
        case {"base64": str(text)}:
            return base64.b64decode(text, validate=True)
        case str() | int() | float() | None:
            return value
        case _:
            raise ValueError(f"{value!r} is nothing that a row holds")


def _marks(connection: sqlite3.Connection, where: str, values: tuple[object, ...] = ()) -> tuple[JobMark, ...]:
    asked = f"SELECT id, sequence, state, ended_at, outcome FROM job WHERE {where} ORDER BY sequence"  # noqa: S608 - ours
    return tuple(map(JobMark.of, connection.execute(asked, values)))


def _references(connection: sqlite3.Connection, table: str) -> list[tuple[str, str, str]]:
    """What a table refers to: its column, the other table, the column there."""
    return [(row["from"], row["table"], row["to"]) for row in connection.execute(f"PRAGMA foreign_key_list({table})")]


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - from sqlite_master


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open records that a station may be writing; they must be there, and cannot be written through this."""
    with closing(_connect(file, "rw")) as connection:
        connection.execute("PRAGMA query_only=ON")
        yield connection


def _connect(file: Path, mode: str, more: str = "") -> sqlite3.Connection:
    uri = f"file:{quote(str(file.absolute()))}?mode={mode}{'&' if more else ''}{more}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def _refusals_named(file: Path, target: Path | None = None) -> Iterator[None]:
    """Turn what SQLite refuses into `RecordsUnwritable`; a disk that is full is that of the target, where there is one."""
    try:
        yield
    except sqlite3.Error as error:
        if target is not None and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, "No space left on device", str(target)) from error
        raise RecordsUnwritable(f"{words_for(error)} ({file})") from error
