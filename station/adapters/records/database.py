"""The station's durable journal: every write goes through one lane, and is on disk when the call returns.

`Database` is the `Recorder` of the jobs, keeps the lots, and answers what page and demo ask. A write either happened whole or
raised `RecordsUnwritable` and may be asked for again: same id, same row. What a light may turn green from is read back, after
the commit, on a connection that did not write it. The database must never be asked from the event loop: a call waits for the
lane, for fsync, and up to the busy timeout for a lock that another program holds.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import uuid_utils
from sqlalchemy import Connection, Engine, insert, select, update

from station.adapters.records import boards, high_water, jobs, layouts, lots, migrate, numbers, pending, visits
from station.adapters.records.boards import BoardEventRow
from station.adapters.records.engine import (
    database_file,
    make_engine,
    parse_url,
    short_lived,
    unwritable_is_named,
    writing,
)
from station.adapters.records.labels import LabelBook
from station.adapters.records.layouts import LearnedLayout
from station.adapters.records.lock import StationLock
from station.adapters.records.lots import LotRequest, RecipeRow, RejectRow
from station.adapters.records.number_book import NumberBook
from station.adapters.records.proving import ProofBook
from station.adapters.records.schema import heartbeat, job
from station.adapters.records.shelf import Shelf
from station.adapters.records.visits import VisitRow
from station.errors import RecordsUnwritable
from station.layouts import Layout
from station.model import CommittedJob, JobEnd, JobStart, KnownBoard, Lot, LotState, PendingJob, Plug, VisitEnd

MINIMUM_FREE_BYTES = 16 << 20
"""Below this no new job begins, so that those running can still be recorded; a failed job takes about 70 KB."""
T = TypeVar("T")


def utc_now() -> datetime:
    """The wall clock, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Return a new UUIDv7 (RFC 9562), the key of every row that the station makes."""
    return str(uuid_utils.uuid7())


class Database:
    """The records in one SQLite file, for as long as the station runs. Thread-safe."""

    def __init__(
        self,
        writer: Engine,
        reader: Engine,
        *,
        lock: StationLock | None = None,
        station_id: str = "",
        now: Callable[[], datetime] = utc_now,
        on_write: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._writer, self._reader = writer, reader
        self._station_id, self._now, self._on_write = station_id, now, on_write
        self._file = database_file(writer.url)
        self._file_identity = _identity_of(self._file)
        self._lane = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        self._lock = StationLock(self._file) if lock is None else lock
        self.shelf = Shelf(read=self._read, write=self._write, now=now, new_id=new_id)
        """The recipe bundles, and the lots that succeed one another."""
        self.proofs = ProofBook(self._read, self._write, now)
        """What slots have proven, and what was said about slots."""
        file = high_water.numbers_file(self._file)
        self.numbers = NumberBook(read=self._read, write=self._write, file=file, station_id=station_id, now=now)
        """The serial numbers of this station."""
        self.labels = LabelBook(read=self._read, write=self._write, now=now, new_id=new_id)
        """The labels of boards that passed."""

    @classmethod
    def open(
        cls,
        url: str,
        *,
        exclusive: bool = False,
        station_id: str = "",
        now: Callable[[], datetime] = utc_now,
        on_write: Callable[[float], None] = lambda _seconds: None,
    ) -> Self:
        """Open the records behind `url`, checked; a file that does not exist yet, or is empty, gets its tables now.

        `exclusive`: for the one station whose running jobs the file holds; every other program opens it without, also at
        the same time. `station_id` goes into every visit, `on_write` gets the seconds each committed write took, on the
        lane's thread. Raises `ConfigurationError` when the schema is not this station's (older: `station db upgrade`) or
        another station has it exclusively, and `RecordsUnwritable` when the file is corrupt or cannot be opened.
        """
        file = database_file(parse_url(url))
        lock = StationLock(file)
        with contextlib.ExitStack() as undo:
            undo.callback(lock.release)
            if exclusive:
                migrate.require_directory(file)
                lock.take()
            state = _state_of_whole(url) if file.exists() else migrate.SchemaState.FRESH
            if state is migrate.SchemaState.FRESH:
                migrate.upgrade(url)
            else:
                migrate.require_current(state, file)
            engines = make_engine(url, writes=True), make_engine(url, writes=False)
            opened = cls(*engines, lock=lock, station_id=station_id, now=now, on_write=on_write)
            undo.pop_all()
        return opened

    def close(self) -> None:
        """Wait for what is queued, then let go of the file; later writes raise `RecordsUnwritable`."""
        self._lane.shutdown(wait=True)
        self._reader.dispose()
        self._writer.dispose()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin_visit(self, visit_id: str, plug: Plug) -> None:
        """Write the visit row of a plug."""
        now = self._now()
        self._write(lambda connection: visits.begin(connection, visit_id, plug, self._station_id, now))

    def end_visit(self, visit_id: str, end: VisitEnd) -> None:
        """Complete a visit row; raises LookupError for a visit that was never begun."""
        self._write(lambda connection: visits.end(connection, visit_id, end))

    def known_board(self, mac: str) -> KnownBoard | None:
        """Return what the records say about a MAC, jobs and people; None when they never heard of it."""
        return self._read(lambda connection: boards.known_board(connection, mac))

    def pending_job(self, mac: str) -> PendingJob | None:
        """Return the job that waits for this board, the newest when there are several; None when none does."""
        return self._read(lambda connection: pending.newest_of(connection, mac))

    def pending(self) -> tuple[PendingJob, ...]:
        """Return every job that waits for another visit, longest waiting first."""
        return self._read(pending.waiting)

    def drop_pending(self, mac: str, person: str, reason: str) -> int:
        """Close every job that waits for this board as ABORTED, `stopped_by_request`; return their number.

        Person and reason stand in the job's detail. A test of the board that runs right now ends in the ABORTED row.
        """
        now = self._now()
        return self._write(lambda connection: pending.drop(connection, mac, f"dropped by {person}: {reason}", now))

    def returns_at_ground(self, job_id: str) -> int:
        """Return how many visits of this waiting job found its board with GPIO0 at GND again."""
        return self._read(lambda connection: visits.returns_at_ground(connection, job_id))

    def number_in_lot(self, job_id: str) -> int:
        """Return which board of its lot the job's board is, from 1 in the order of first attempts.

        Raises LookupError for an unknown job and for one without a board.
        """
        return self._read(lambda connection: jobs.number_in_lot(connection, job_id))

    def find_mac(self, key: str) -> str:
        """Return the MAC that a MAC or a chip ID of exactly one board names; raises ValueError and `ConfigurationError`."""
        return self._read(lambda connection: boards.find_mac(connection, key))

    def add_board_event(self, row: BoardEventRow) -> None:
        """Write what a person said about a board; raises `ConfigurationError` when it contradicts what is on record."""
        now = self._now()
        self._write(lambda connection: boards.add_event(connection, row, now))

    def add_rejects(self, rows: Sequence[RejectRow]) -> None:
        """Write modules that a person booked out of a lot, all or none; raises `ConfigurationError` for no open lot."""
        now = self._now()
        self._write(lambda connection: lots.add_rejects(connection, rows, now))

    def rejected(self, lot_id: str) -> int:
        """Return how many modules a person booked out of this lot by hand."""
        return self._read(lambda connection: lots.rejected(connection, lot_id))

    def numbers_left(self) -> dict[str, int]:
        """Return pool -> how many serial numbers this station can still hand out."""
        return self.numbers.left()

    def begin_job(self, start: JobStart) -> None:
        """Write board and job row, running, durable; raises LookupError for a visit that was never begun."""
        self._write(lambda connection: jobs.begin(connection, start))

    def finish_job(self, job_id: str, end: JobEnd) -> CommittedJob:
        """Close a job or set it pending, commit, and return the row as another connection reads it back.

        The first end of a job stays: for a job that is closed already its row is returned as it stands. The end of a
        later visit of a pending job carries what that visit did; it is added. A job that touched flash closes older ones
        that wait for the same board: what they flashed is gone. Raises LookupError for an unknown job.
        """

        def finish(connection: Connection) -> None:
            if jobs.finish(connection, job_id, end):
                numbers.put_values(connection, job_id, end.values)
                # A number is confirmed by the very commit that makes the light green.
                self.numbers.ledger(connection).settle(job_id, end)
                self.labels.job_ended(connection, job_id, end)

        self._write(finish)
        wanted = select(job.c.id).where(job.c.id == job_id)
        found = self._read(lambda connection: jobs.committed(connection, wanted))
        if not found:
            raise RecordsUnwritable(f"job {job_id} was committed but is not there ({self._file})")
        return found[0]

    def recover_running(self, now: datetime) -> int:
        """At start: close every running job as ABORTED, `station_restarted`; return their number. Pending ones stay.

        Takes the file exclusively until `close`; raises `ConfigurationError` when another station has it so.
        """
        self._lock.take()
        return self._write(lambda connection: jobs.abort_running(connection, now))

    def known_layout(self, firmware_sha256: str, flash_bytes: int) -> Layout | None:
        """Return where this image has its filesystem on a flash of this size; None when no board showed it yet."""
        return self._read(lambda connection: layouts.known(connection, firmware_sha256, flash_bytes))

    def learn_layout(self, firmware_sha256: str, flash_bytes: int, layout: Layout) -> None:
        """Keep what a board that passed showed; what is known already stays."""
        now = self._now()
        self._write(lambda connection: layouts.learn(connection, firmware_sha256, flash_bytes, layout, now))

    def layouts(self) -> tuple[LearnedLayout, ...]:
        """Return every layout that is believed, newest first, then those that a person had forgotten, likewise."""
        return self._read(layouts.learned)

    def forget_layouts(self, key: str, *, person: str, reason: str) -> int:
        """Forget the layouts of the image whose sha256 begins with `key`; return how many. Raises `ConfigurationError`."""
        now = self._now()
        return self._write(
            lambda connection: layouts.forget(connection, key, person=person, reason=reason, now=now, new_id=new_id)
        )

    def jobs(self, limit: int) -> tuple[CommittedJob, ...]:
        """Return the `limit` jobs begun last, newest first."""
        wanted = select(job.c.id).order_by(job.c.sequence.desc()).limit(limit)
        return self._read(lambda connection: jobs.committed(connection, wanted))

    def visits(self, limit: int) -> tuple[VisitRow, ...]:
        """Return the `limit` visits begun last, newest first."""
        return self._read(lambda connection: visits.latest(connection, limit))

    def ensure_recipe(self, row: RecipeRow) -> None:
        """Write a recipe and its firmware unless they are known."""
        now = self._now()
        self._write(lambda connection: lots.ensure_recipe(connection, row, now))

    def standing_lot(self, request: LotRequest) -> Lot:
        """Return the standing lot of this recipe, product and supplier batch; made if there is none."""
        now, lot_id = self._now(), new_id()
        return self._write(lambda connection: lots.standing(connection, request, lot_id, now))

    def known_standing_lot(self, request: LotRequest) -> Lot | None:
        """Return the standing lot of this recipe, product and supplier batch; None when there is none that is not closed."""
        return self._read(lambda connection: lots.known_standing(connection, request))

    def open_lot(self, request: LotRequest) -> Lot:
        """Open a lot by hand, or the paused one of the same work order again; raises `ConfigurationError`."""
        now, lot_id = self._now(), new_id()
        return self._write(lambda connection: lots.open_by_hand(connection, request, lot_id, now))

    def pause_lot(self, lot_id: str, person: str) -> Lot:
        """Pause a lot; raises `ConfigurationError` for a closed or unknown one."""
        now = self._now()
        return self._write(lambda connection: lots.change(connection, lot_id, LotState.PAUSED, person, now))

    def close_lot(self, lot_id: str, person: str) -> Lot:
        """Close a lot for ever; raises `ConfigurationError` for an unknown one."""
        now = self._now()
        return self._write(lambda connection: lots.change(connection, lot_id, LotState.CLOSED, person, now))

    def lot(self, lot_id: str) -> Lot | None:
        """Return a lot as it is now; None when there is no such lot."""
        return self._read(lambda connection: lots.one(connection, lot_id))

    def current_lot(self) -> Lot | None:
        """Return the lot opened by hand that is not closed, be it open or paused; standing lots are not looked at."""
        return self._read(lots.current)

    def pause_hand_opened_lots(self) -> int:
        """At start: pause what a person opened, so that work after a restart begins by a person; return their number."""
        now = self._now()
        return self._write(lambda connection: lots.pause_hand_opened(connection, now))

    def writable(self) -> bool:
        """Whether a row can be written now, found out by writing one."""
        return not self.write_problem()

    def write_problem(self) -> str:
        """Return why no row can be written now, empty when one just was."""
        now = self._now()
        try:
            space = os.statvfs(self._file.absolute().parent)
            free_bytes = space.f_bavail * space.f_frsize
            if free_bytes < MINIMUM_FREE_BYTES:
                return f"only {free_bytes >> 20} MiB free beside {self._file}, {MINIMUM_FREE_BYTES >> 20} are needed"
            self._write(lambda connection: _beat(connection, now))
        except (OSError, RecordsUnwritable) as error:
            return str(error)
        return ""

    def _read(self, ask: Callable[[Connection], T]) -> T:
        with unwritable_is_named(self._file), self._reader.connect() as connection:
            return ask(connection)

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Have the lane do `work` in one transaction, and wait for its commit."""
        try:
            future = self._lane.submit(self._commit, work)
        except RuntimeError:
            raise RecordsUnwritable(f"the records are closed ({self._file})") from None
        return future.result()

    def _commit(self, work: Callable[[Connection], T]) -> T:
        began = time.monotonic()
        if _identity_of(self._file) != self._file_identity:
            # SQLite would go on writing into a file that no name leads to any more.
            raise RecordsUnwritable(
                f"the database was removed or replaced while open, restart the station ({self._file})"
            )
        with unwritable_is_named(self._file), writing(self._writer) as connection:
            result = work(connection)
        self._on_write(time.monotonic() - began)
        return result


def _beat(connection: Connection, now: datetime) -> None:
    beaten = connection.execute(update(heartbeat).where(heartbeat.c.name == "writable").values(beat_at=now))
    if beaten.rowcount == 0:
        connection.execute(insert(heartbeat).values(name="writable", beat_at=now))


def _identity_of(file: Path) -> tuple[int, int] | None:
    """Device and inode of the file, None when it is gone."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _state_of_whole(url: str) -> migrate.SchemaState:
    """Look at a file that exists: its schema; raises `RecordsUnwritable` when it is damaged."""
    file = database_file(parse_url(url))
    with (
        short_lived(make_engine(url, writes=False)) as engine,
        unwritable_is_named(file),
        engine.connect() as connection,
    ):
        damage = migrate.damage(connection)
        if damage:
            raise RecordsUnwritable(f"the database is corrupt: {damage[0]} ({file})")
        return migrate.schema_state(connection)
