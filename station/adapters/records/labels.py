"""The rows of labels: asked for, being sent, printed or not.

A PASS asks for its label in the very commit that closes its job. The row becomes `sending` before the first byte leaves, so
that after a crash a label that may lie in the printer's tray is never sent again by itself; another one is a row of its own,
with the name of who asked for it and why. `LabelBook` is what the station is given, and goes through the lane of the records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from station.adapters.records.boards import find_mac
from station.adapters.records.engine import make_engine, short_lived, unwritable_is_named, writing
from station.adapters.records.jobs import next_sequence
from station.adapters.records.report import Report, format_time, reading
from station.adapters.records.schema import job, lot
from station.adapters.records.schema_labels import label
from station.adapters.records.schema_numbers import job_value
from station.errors import ConfigurationError
from station.model import JobEnd, JobState, Outcome, format_chip_id

MOST_WAITING = 200
"""A label beyond these fails at once: a printer that is off for days must not print for hours afterwards."""
T = TypeVar("T")
_COLUMNS = ("asked_at", "mac", "product", "slot", "attempt", "state", "detail", "person", "reason", "ended_at", "job")


class LabelState(StrEnum):
    """Where a label is."""

    QUEUED = "queued"
    SENDING = "sending"
    """On its way to the printer; after a crash nobody knows more."""
    PRINTED = "printed"
    """The printer took all of it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLabel:
    """A label that waits to be printed, with what the records know of its board."""

    id: str
    attempt: int
    mac: str
    chip_id: str
    product: str
    slot: str
    station_id: str
    values: tuple[tuple[str, str], ...]
    """What the board was given: its serial number and columns."""


class Lane(Protocol):
    """How the records are read and written; what `Database` does with a connection."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Do `work` in one transaction; raises `RecordsUnwritable`."""


class LabelBook:
    """The labels in the station's records. Thread-safe; every call may block and raises `RecordsUnwritable`."""

    def __init__(self, *, read: Lane, write: Lane, now: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._read, self._write, self._now, self._new_id = read, write, now, new_id
        self.wanted = False
        """Whether every PASS asks for a label."""

    def job_ended(self, connection: Connection, job_id: str, end: JobEnd) -> None:
        """Ask for the label of a job that passed, in the transaction that closes it."""
        if self.wanted and end.state is JobState.CLOSED and end.outcome is Outcome.PASS:
            _ask(connection, self._new_id(), job_id, self._now())

    def ask_again(self, key: str, person: str, reason: str) -> str:
        """Ask for another label of the board that a MAC or chip ID names, and return its MAC.

        Raises ValueError for no such key, `ConfigurationError` for a board whose last job is no PASS.
        """
        now, label_id = self._now(), self._new_id()
        return self._write(lambda connection: _ask_again(connection, label_id, key, person, reason, now))

    def next(self) -> WantedLabel | None:
        """Return the label that has waited longest; None when none waits."""
        return self._read(_next)

    def waiting(self) -> int:
        """Return how many labels wait."""
        return self._read(_waiting)

    def begin(self, label_id: str) -> bool:
        """Note, before the first byte is sent, that it is; False when this label is not to be printed any more."""
        now = self._now()
        return self._write(lambda connection: _begin(connection, label_id, now))

    def back(self, label_id: str) -> None:
        """Nothing of it was sent after all: it waits again."""
        self._write(lambda connection: _set(connection, label_id, LabelState.QUEUED, "", None))

    def end(self, label_id: str, state: LabelState, detail: str = "") -> None:
        """Write how it ended."""
        now = self._now()
        self._write(lambda connection: _set(connection, label_id, state, detail, now))

    def recover(self) -> int:
        """At start: what was being sent when the station died may have been printed, and is not sent again."""
        now = self._now()
        return self._write(lambda connection: give_up(connection, (LabelState.SENDING,), "station restarted", now))


def labels_report(url: str, *, limit: int | None = None) -> Report:
    """Return every label, or the `limit` asked for last, newest first; raises what `jobs_report` raises."""
    with reading(url) as connection:
        rows = connection.execute(_LABELS.order_by(label.c.sequence.desc()).limit(limit)).all()
    return Report(columns=_COLUMNS, narrow=_COLUMNS[:-2], rows=tuple(map(label_row, rows)))


def labels_of(connection: Connection, mac: str) -> tuple[Mapping[str, Any], ...]:
    """Return the labels of a board, oldest first."""
    found = connection.execute(_LABELS.where(job.c.board_mac == mac).order_by(label.c.sequence))
    return tuple(map(label_row, found))


def label_row(row: Row[Any]) -> dict[str, Any]:
    """Return a row of the report."""
    times = {"asked_at": format_time(row.asked_at), "ended_at": format_time(row.ended_at)}
    return {**row._mapping, **times}  # noqa: SLF001 - SQLAlchemy's public name for the row as a mapping


def give_up_labels(records: Path, now: datetime) -> int:
    """After a restore: what waited when the backup was made may have been printed since; return how many are given up.

    Raises `RecordsUnwritable`. Works on a file that no station has open.
    """
    with (
        short_lived(make_engine(f"sqlite:///{records}", writes=True)) as engine,
        unwritable_is_named(records),
        writing(engine) as connection,
    ):
        return give_up(connection, (LabelState.QUEUED, LabelState.SENDING), "restored from a backup", now)


def give_up(connection: Connection, states: tuple[LabelState, ...], why: str, now: datetime) -> int:
    """End the labels in these states, which may have been printed, and return their number."""
    detail = f"{why}: it may have been printed"
    ended = update(label).where(label.c.state.in_(states))
    return connection.execute(ended.values(state=LabelState.FAILED, detail=detail, ended_at=now)).rowcount


_LABELS: Select[Any] = (
    select(
        label.c.asked_at,
        job.c.board_mac.label("mac"),
        lot.c.product,
        job.c.slot,
        label.c.attempt,
        label.c.state,
        label.c.detail,
        label.c.person,
        label.c.reason,
        label.c.ended_at,
        label.c.job_id.label("job"),
    )
    .join(job, job.c.id == label.c.job_id)
    .join(lot, lot.c.id == job.c.lot_id)
)


def _ask(connection: Connection, label_id: str, job_id: str, now: datetime, person: str = "", reason: str = "") -> None:
    before = connection.execute(select(func.max(label.c.attempt)).where(label.c.job_id == job_id)).scalar() or 0
    full = _waiting(connection) >= MOST_WAITING
    connection.execute(
        insert(label).values(
            id=label_id,
            sequence=next_sequence(connection, label),
            job_id=job_id,
            attempt=before + 1,
            state=LabelState.FAILED if full else LabelState.QUEUED,
            detail=f"{MOST_WAITING} labels wait already" if full else "",
            person=person,
            reason=reason,
            asked_at=now,
            ended_at=now if full else None,
        )
    )


def _ask_again(connection: Connection, label_id: str, key: str, person: str, reason: str, now: datetime) -> str:
    mac = find_mac(connection, key)
    last = select(job.c.id, job.c.outcome).where(job.c.board_mac == mac).order_by(job.c.sequence.desc()).limit(1)
    found = connection.execute(last).one_or_none()
    if found is None or found.outcome != Outcome.PASS:
        problem = "it has no job on record" if found is None else "its last job is no PASS"
        fix = "only a board that passed gets a label: station board show it"
        raise ConfigurationError(file=f"board {mac}", problem=problem, fix=fix)
    _ask(connection, label_id, found.id, now, person, reason)
    return mac


def _next(connection: Connection) -> WantedLabel | None:
    wanted = (
        select(
            label.c.id,
            label.c.attempt,
            label.c.job_id,
            job.c.board_mac,
            job.c.chip_id,
            job.c.slot,
            job.c.station_id,
            lot.c.product,
        )
        .join(job, job.c.id == label.c.job_id)
        .join(lot, lot.c.id == job.c.lot_id)
        .where(label.c.state == LabelState.QUEUED)
        .order_by(label.c.sequence)
    )
    row = connection.execute(wanted.limit(1)).one_or_none()
    if row is None:
        return None
    given = select(job_value.c.name, job_value.c.value).where(job_value.c.job_id == row.job_id)
    return WantedLabel(
        id=row.id,
        attempt=row.attempt,
        mac=row.board_mac or "",
        chip_id=format_chip_id(row.chip_id) if row.chip_id is not None else "",
        product=row.product,
        slot=row.slot,
        station_id=row.station_id,
        values=tuple((name, value) for name, value in connection.execute(given.order_by(job_value.c.position))),
    )


def _waiting(connection: Connection) -> int:
    queued = select(func.count()).select_from(label).where(label.c.state == LabelState.QUEUED)
    return int(connection.execute(queued).scalar_one())


def _begin(connection: Connection, label_id: str, now: datetime) -> bool:
    """Take a label that waits, unless its board was flashed again: then the label would say what is not so any more."""
    later = job.alias("later")
    mine = select(job.c.board_mac, job.c.sequence).join(label, label.c.job_id == job.c.id).where(label.c.id == label_id)
    about = connection.execute(mine).one()
    newer = select(later.c.id).where(later.c.board_mac == about.board_mac, later.c.sequence > about.sequence)
    if connection.execute(newer.where(later.c.flash_touched.is_(True)).limit(1)).first() is not None:
        _set(connection, label_id, LabelState.FAILED, "the board was flashed again meanwhile", now)
        return False
    taken = update(label).where(label.c.id == label_id, label.c.state == LabelState.QUEUED)
    return connection.execute(taken.values(state=LabelState.SENDING)).rowcount == 1


def _set(connection: Connection, label_id: str, state: LabelState, detail: str, ended_at: datetime | None) -> None:
    changed = update(label).where(label.c.id == label_id)
    connection.execute(changed.values(state=state, detail=detail, ended_at=ended_at))
