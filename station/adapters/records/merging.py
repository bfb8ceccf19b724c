"""Puts single jobs, as the journal of finished jobs kept them, into a copy of the records that is older than they are.

A job that is closed wins over the same one that waits or runs; what two files say alike is put once, so merging again
changes nothing. Jobs that an older station wrote go the way up through its own migrations first. All of it is one
transaction. Used only on files that no station has open: what is merged here nobody has read back.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from station.adapters.records.copying import KeptJob, Rows, Value, revision_of, rows_of_job
from station.adapters.records.engine import words_for
from station.adapters.records.migrate import head, knows, upgrade
from station.adapters.records.schema import metadata
from station.errors import RecordsUnwritable

_ORDER = ("running", "pending", "closed")
_PARENTS_FIRST = [table.name for table in metadata.sorted_tables]
# What the job itself says anew each time it is written.
_REPLACED = ("phase", "measurement")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What came of it."""

    jobs: int = 0
    """Jobs that were not in the records, or not that far."""
    newer: int = 0
    """Jobs of a newer schema than this station's: left out."""
    unfit: int = 0
    """Jobs whose rows fit no table: left out."""
    twice: tuple[str, ...] = ()
    """Serial numbers that two boards have, in words: two stations handed them out."""


def merge_jobs(target: Path, kept: Iterable[KeptJob]) -> Merged:
    """Put every job that is newer than what `target` says of it; raises `RecordsUnwritable`.

    `target` has the newest schema.
    """
    mine = head()
    done = newer = unfit = 0
    twice: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="merge-", dir=target.parent) as scratch, _writing(target) as connection:
        older: dict[str, sqlite3.Connection] = {}
        for job in kept:
            if not knows(job.revision):
                newer += 1
                continue
            if job.revision != mine and job.revision not in older:
                older[job.revision] = _records_at(job.revision, Path(scratch))
            into = connection if job.revision == mine else older[job.revision]
            try:
                put = _put_job(into, job.rows)
            except (sqlite3.IntegrityError, LookupError, ValueError):
                unfit += 1
            else:
                done += put and into is connection
                twice |= _numbers_of_others(into, job.rows)
        for file in _brought_up(older, Path(scratch)):
            done += _put_all(connection, file, twice)
    return Merged(jobs=done, newer=newer, unfit=unfit, twice=tuple(sorted(twice)))


def _put_job(connection: sqlite3.Connection, rows: Rows) -> bool:
    """Put the rows of one job, all or none; False when the records know it that far. Raises LookupError, IntegrityError."""
    (job,) = rows["job"]
    before = _same(connection, "job", job)
    if before is not None and not _is_further(job, before):
        return False
    connection.execute("SAVEPOINT one_job")
    try:
        for table in _REPLACED:
            connection.execute(f"DELETE FROM {table} WHERE job_id = ?", (job["id"],))  # noqa: S608 - our own names
        for table in sorted(rows, key=_PARENTS_FIRST.index):
            for row in rows[table]:
                _put(connection, table, row, rows)
    except (sqlite3.IntegrityError, LookupError, ValueError):
        connection.execute("ROLLBACK TO one_job")
        raise
    finally:
        connection.execute("RELEASE one_job")
    return True


def _put(connection: sqlite3.Connection, table: str, row: dict[str, Value], rows: Rows) -> None:
    """Insert a row, or replace the one with its key where this one says more."""
    columns = {str(info["name"]): int(info["pk"]) for info in connection.execute(f"PRAGMA table_info({table})")}
    strangers = sorted(set(row) - set(columns))
    if strangers:
        raise LookupError(f"{table} has no column {strangers[0]!r}")
    before = _same(connection, table, row)
    if before is not None:
        if _says_more(connection, table, row, before, rows):
            # The order of writing stays what it was here.
            values = {column: value for column, value in row.items() if column != "sequence" and not columns[column]}
            keys = {column: row[column] for column, position in columns.items() if position}
            changed, named = _assigned(values, ", "), _assigned(keys, " AND ")
            connection.execute(f"UPDATE {table} SET {changed} WHERE {named}", (*values.values(), *keys.values()))  # noqa: S608
        return
    if table == "serial_number" and _number_is_out_of_date(connection, row):
        return
    if "sequence" in columns:
        row = {**row, "sequence": _free_sequence(connection, table, row["sequence"])}
    places = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))  # noqa: S608


def _number_is_out_of_date(connection: sqlite3.Connection, row: dict[str, Value]) -> bool:
    """Whether the MAC has another number by now, or a person burned this one: what a job said then does not hold."""
    asked = "SELECT 1 FROM serial_number WHERE pool = ? AND mac = ?"
    known = connection.execute(asked, (row["pool"], row["mac"])).fetchone() is not None
    return known or _number_is_burned(connection, row)


def _number_is_burned(connection: sqlite3.Connection, row: dict[str, Value]) -> bool:
    """Whether a person burned this number at some time."""
    asked = "SELECT 1 FROM serial_event WHERE pool = ? AND event = 'burn' AND first <= ? AND last >= ?"
    return connection.execute(asked, (row["pool"], row["number"], row["number"])).fetchone() is not None


def _numbers_of_others(connection: sqlite3.Connection, rows: Rows) -> set[str]:
    """Return the numbers of a job that are another board's in these records, unless a person took them away since."""
    found = set()
    for row in rows.get("serial_number", ()):
        there = _same(connection, "serial_number", row)
        if there is not None and there["mac"] != row["mac"] and not _number_is_burned(connection, row):
            found.add(f"{row['pool']!s} {row['number']!s} ({there['mac']!s}, {row['mac']!s})")
    return found


def _same(connection: sqlite3.Connection, table: str, row: dict[str, Value]) -> dict[str, Value] | None:
    """Return the row with the same key, None when there is none; raises LookupError for a row without its key."""
    keys = [str(info["name"]) for info in connection.execute(f"PRAGMA table_info({table})") if info["pk"]]
    named = " AND ".join(f"{key} = ?" for key in keys)
    asked = f"SELECT * FROM {table} WHERE {named}"  # noqa: S608 - the table's own columns
    found = connection.execute(asked, [row[key] for key in keys]).fetchone()
    return None if found is None else dict(found)


def _says_more(
    connection: sqlite3.Connection, table: str, row: dict[str, Value], before: dict[str, Value], rows: Rows
) -> bool:
    match table:
        case "job":
            return True
        case "visit":
            return not before["ended_at"]
        case "board":
            return str(row["last_seen_at"]) >= str(before["last_seen_at"])
        case "lot":
            asked = "SELECT count(*) FROM lot_event WHERE lot_id = ?"
            known = int(connection.execute(asked, (row["id"],)).fetchone()[0])
            return sum(event["lot_id"] == row["id"] for event in rows.get("lot_event", ())) > known
        case _:
            return False


def _is_further(job: dict[str, Value], before: dict[str, Value]) -> bool:
    """Closed is further than waiting, waiting than running; a later visit of a job that waits is further, too."""
    now, then = _ORDER.index(str(job["state"])), _ORDER.index(str(before["state"]))
    if now != then or job["state"] == "closed":
        return now > then
    return str(job["ended_at"] or "") > str(before["ended_at"] or "")


def _free_sequence(connection: sqlite3.Connection, table: str, wanted: Value) -> Value:
    """The number the row had, or the next one where another row has it: two histories that went apart."""
    asked = f"SELECT 1 FROM {table} WHERE sequence = ?"  # noqa: S608 - our own name
    if connection.execute(asked, (wanted,)).fetchone() is None:
        return wanted
    return int(connection.execute(f"SELECT max(sequence) + 1 FROM {table}").fetchone()[0])  # noqa: S608 - likewise


def _assigned(values: dict[str, Value], between: str) -> str:
    return between.join(f"{column} = ?" for column in values)


def _records_at(revision: str, directory: Path) -> sqlite3.Connection:
    """Return empty records of an older schema, to put jobs into."""
    file = directory / f"{revision}.db"
    upgrade(f"sqlite:///{file}", revision)
    connection = _connect(file)
    connection.execute("BEGIN")
    return connection


def _brought_up(older: dict[str, sqlite3.Connection], directory: Path) -> Iterator[Path]:
    """Bring the records of older schemas to the newest one."""
    for revision, connection in older.items():
        connection.commit()
        connection.close()
        file = directory / f"{revision}.db"
        upgrade(f"sqlite:///{file}")
        yield file


def _put_all(connection: sqlite3.Connection, file: Path, twice: set[str]) -> int:
    """Put every job of another file with the same schema; return how many were news. `twice` takes numbers of two boards."""
    done = 0
    with closing(_connect(file)) as other:
        ids: Sequence[str] = [row["id"] for row in other.execute("SELECT id FROM job ORDER BY sequence")]
        for job_id in ids:
            rows = rows_of_job(other, job_id)
            done += _put_job(connection, rows)
            twice |= _numbers_of_others(connection, rows)
    return done


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


@contextmanager
def _writing(file: Path) -> Iterator[sqlite3.Connection]:
    """One transaction, committed at the end or not at all."""
    try:
        with closing(_connect(file)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            if revision_of(connection) != head():
                raise RecordsUnwritable(f"only records of the newest schema can take jobs ({file})")
            yield connection
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise RecordsUnwritable(f"{words_for(error)} ({file})") from error
