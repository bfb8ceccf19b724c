"""The jobs that were flashed and wait for another visit: which they are, since when, and how a person drops them.

Every function takes the connection of a transaction that somebody else begins and commits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from station.adapters.records.jobs import (
    closed_as_aborted,
    damage_is_named,
    measured,
    parse_otp_words,
    rows_by_job,
)
from station.adapters.records.lots import lot_of
from station.adapters.records.schema import job, job_visit, lot, measurement, visit
from station.model import FlashChip, Identity, JobState, Lot, Measurement, PendingJob
from station.reasons import Reason

AnyRow = Row[*tuple[Any, ...]]


def waiting(connection: Connection) -> tuple[PendingJob, ...]:
    """Return every job that waits, longest waiting first."""
    return tuple(sorted(_found(connection), key=lambda one: one.since))


def newest_of(connection: Connection, mac: str) -> PendingJob | None:
    """Return the job that waits for this board, the one begun last when there are several."""
    return next(iter(_found(connection, mac)), None)


def drop(connection: Connection, mac: str, detail: str, now: datetime) -> int:
    """Close every job that waits for this board as ABORTED, `stopped_by_request`; return their number."""
    of_board = (job.c.board_mac == mac, job.c.state == JobState.PENDING)
    values = closed_as_aborted(Reason.STOPPED_BY_REQUEST, detail, now)
    return connection.execute(update(job).where(*of_board).values(**values)).rowcount


def _found(connection: Connection, mac: str | None = None) -> tuple[PendingJob, ...]:
    """Newest first. A job without a board never waits: nothing could be bound to it."""
    last_visit = (
        select(func.max(visit.c.ended_at))
        .join(job_visit, job_visit.c.visit_id == visit.c.id)
        .where(job_visit.c.job_id == job.c.id)
        .scalar_subquery()
    )
    of_board = job.c.board_mac.is_not(None) if mac is None else job.c.board_mac == mac
    wanted = select(job.c.id).where(job.c.state == JobState.PENDING, of_board).order_by(job.c.sequence.desc())
    rows = connection.execute(wanted.with_only_columns(job, last_visit.label("last_visit_ended_at"))).all()
    lots = select(lot).where(lot.c.id.in_(wanted.with_only_columns(job.c.lot_id).order_by(None)))
    values = rows_by_job(connection, measurement, wanted)
    with damage_is_named():
        lot_by_id = {row.id: lot_of(row) for row in connection.execute(lots)}
        return tuple(_pending_job(row, lot_by_id[row.lot_id], measured(values.get(row.id, []))) for row in rows)


def _pending_job(row: AnyRow, its_lot: Lot, measurements: tuple[Measurement, ...]) -> PendingJob:
    return PendingJob(
        id=row.id,
        identity=Identity(mac=row.board_mac, chip_id=row.chip_id, otp_words=parse_otp_words(row.otp_words)),
        # 0 is no flash's id: it agrees with none that is read later.
        flash=FlashChip(jedec_id=row.flash_id or 0, size_bytes=row.flash_size_bytes),
        lot=its_lot,
        slot=row.slot,
        since=row.last_visit_ended_at or row.ended_at or row.started_at,
        reason=row.reason,
        detail=row.detail,
        attempt=row.attempt,
        flash_mode=row.flash_mode,
        firmware_sha256=row.firmware_sha256,
        measurements=measurements,
    )
