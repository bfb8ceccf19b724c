"""The rows of boards and jobs: what is written at a job's begin and end, and how it is read back.

Every function takes the connection of a transaction that somebody else begins and commits. Writing twice what was written
already changes nothing (the commit of the first time may have been unknown), and a closed job is never written again: what
an attempt said stays said. Order is the order of writing (`sequence`), not wall time, which may be wrong at boot.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, Table, func, insert, select, update

from station.adapters.records.schema import board, job, job_visit, measurement, phase, storable, visit
from station.adapters.records.schema_numbers import job_value
from station.errors import RecordsUnwritable
from station.model import (
    BootEvidence,
    CommittedJob,
    Identity,
    JobEnd,
    JobStart,
    JobState,
    Measurement,
    Outcome,
    Phase,
    PhaseOutcome,
    PhaseRecord,
)
from station.reasons import Reason

Value = float | int | str | bool | None
AnyRow = Row[*tuple[Any, ...]]
_BEFORE_END = (
    job.c.sequence,
    job.c.board_mac,
    job.c.state,
    job.c.ended_at,
    job.c.duration_s,
    job.c.flash_mode,
    job.c.flash_touched,
    job.c.bytes_flashed,
    job.c.baud_used,
    job.c.baud_fallbacks,
    job.c.boot_evidence,
)
_COMMITTED = (
    job.c.id,
    job.c.slot,
    job.c.board_mac,
    job.c.chip_id,
    job.c.state,
    job.c.outcome,
    job.c.reason,
    job.c.detail,
    job.c.attempt,
    job.c.boot_evidence,
)


def begin(connection: Connection, start: JobStart) -> None:
    """Write board and job row, running, and tie the job to its visit."""
    if _exists(connection, select(job.c.id).where(job.c.id == start.id)):
        return
    if not _exists(connection, select(visit.c.id).where(visit.c.id == start.visit_id)):
        raise LookupError(f"visit {start.visit_id} was never begun")
    if start.identity is not None:
        _see_board(connection, start, start.identity)
    connection.execute(insert(job).values(sequence=next_sequence(connection, job), **_first_values(start)))
    tie_to_visit(connection, start.id, start.visit_id)


def finish(connection: Connection, job_id: str, end: JobEnd) -> bool:
    """Close a job or set it pending, with its phases and measurements; a later visit of a pending job adds to it.

    Return False, and change nothing, where that was written already or the job is closed.
    """
    before = connection.execute(select(*_BEFORE_END).where(job.c.id == job_id)).one_or_none()
    if before is None:
        raise LookupError(f"job {job_id} was never begun")
    written_already = before.state == end.state and before.ended_at == end.ended_at
    if before.state == JobState.CLOSED or written_already:
        return False
    connection.execute(update(job).where(job.c.id == job_id).values(**_last_values(before, end)))
    _append(
        connection,
        phase,
        job_id,
        [{"phase": p.phase, "outcome": p.outcome, "duration_s": p.duration_s, "detail": p.detail} for p in end.phases],
    )
    _append(connection, measurement, job_id, [_measurement_values(m) for m in end.measurements])
    if before.flash_touched or end.flash_touched:
        _close_overwritten(connection, job_id, before, end.ended_at)
    return True


def abort_running(connection: Connection, now: datetime) -> int:
    """Close every running job as ABORTED, `station_restarted`, and end every open visit; return the number of jobs.

    Nobody knows how far such a job came, so its flash counts as touched.
    """
    connection.execute(update(visit).where(visit.c.ended_at.is_(None)).values(ended_at=now, detail="station restarted"))
    running = connection.execute(
        select(job.c.id, job.c.sequence, job.c.board_mac).where(job.c.state == JobState.RUNNING)
    ).all()
    for row in running:
        values = closed_as_aborted(Reason.STATION_RESTARTED, "", now)
        connection.execute(update(job).where(job.c.id == row.id).values(**values, flash_touched=True))
        _close_overwritten(connection, row.id, row, now)
    return len(running)


def closed_as_aborted(reason: Reason, detail: str, now: datetime) -> dict[str, object]:
    """Return the values of a job that somebody closes who is not its own visit."""
    return {
        "state": JobState.CLOSED,
        "outcome": Outcome.ABORTED,
        "reason": reason,
        "detail": detail,
        "ended_at": now,
    }


def tie_to_visit(connection: Connection, job_id: str, visit_id: str) -> None:
    """Say that this job had this visit, once."""
    known = select(job_visit.c.job_id).where(job_visit.c.job_id == job_id, job_visit.c.visit_id == visit_id)
    if not _exists(connection, known):
        connection.execute(insert(job_visit).values(job_id=job_id, visit_id=visit_id))


def next_sequence(connection: Connection, table: Table) -> int:
    """Return the next number of `table`; safe because a write transaction is alone from its first statement."""
    return 1 + (connection.execute(select(func.max(table.c.sequence))).scalar() or 0)


def number_in_lot(connection: Connection, job_id: str) -> int:
    """Return which board of its lot the job's board is, from 1 in the order of first attempts; raises LookupError.

    A job that runs counts: whether it touched flash is written only at its end.
    """
    asked = connection.execute(select(job.c.lot_id, job.c.board_mac).where(job.c.id == job_id)).one_or_none()
    if asked is None or asked.board_mac is None:
        raise LookupError(f"job {job_id} was never begun, or has no board")
    attempted = job.c.flash_touched.is_(True) | (job.c.state == JobState.RUNNING) | (job.c.id == job_id)
    firsts = (
        select(job.c.board_mac, func.min(job.c.sequence).label("first"))
        .where(job.c.lot_id == asked.lot_id, job.c.board_mac.is_not(None), attempted)
        .group_by(job.c.board_mac)
        .subquery()
    )
    own = select(firsts.c.first).where(firsts.c.board_mac == asked.board_mac).scalar_subquery()
    return connection.execute(select(func.count()).select_from(firsts).where(firsts.c.first <= own)).scalar_one()


def committed(connection: Connection, wanted: Select[Any]) -> tuple[CommittedJob, ...]:
    """Return the jobs that `wanted` (a select of `job.c.id`) finds, with phases and measurements, in its order."""
    rows = connection.execute(wanted.with_only_columns(*_COMMITTED)).all()
    phases = rows_by_job(connection, phase, wanted)
    measurements = rows_by_job(connection, measurement, wanted)
    values = rows_by_job(connection, job_value, wanted)
    with damage_is_named():
        return tuple(
            _committed(row, phases.get(row.id, []), measurements.get(row.id, []), values.get(row.id, []))
            for row in rows
        )


@contextmanager
def damage_is_named() -> Iterator[None]:
    """Turn a word that is none of ours into `RecordsUnwritable`: SQLite checks no page sums, and bits flip."""
    try:
        yield
    except ValueError as error:
        raise RecordsUnwritable(f"the database is corrupt: {error}") from error


def decoded(text: str) -> Value:
    """Return the value that `encoded` wrote; raises ValueError."""
    return cast("Value", json.loads(text))


def encoded(value: Value) -> str:
    """Return a value as JSON, in ASCII: its type and every digit survive any database."""
    return json.dumps(storable(value) if isinstance(value, str) else value)


def _first_values(start: JobStart) -> dict[str, object]:
    plug, lot, host, identity = start.plug, start.lot, start.host, start.identity
    programmer = plug.programmer
    return {
        "id": start.id,
        "state": JobState.RUNNING,
        "reason": "",
        "detail": "",
        "board_mac": identity.mac if identity else None,
        "observed_mac": start.observed_mac,
        "chip_id": identity.chip_id if identity else None,
        "otp_words": format_otp_words(identity) if identity else "",
        "attempt": start.attempt,
        "lot_id": lot.id,
        "recipe_hash": lot.recipe_hash,
        "firmware_sha256": start.firmware_sha256,
        "operator": start.operator,
        "supplier_batch": lot.supplier_batch,
        "station_id": host.station_id,
        "slot": plug.slot,
        "place": programmer.place,
        "hub_path": programmer.hub_path,
        "usb_id": programmer.usb_id,
        "adapter_version": programmer.adapter_version,
        "adapter_product": programmer.product,
        "flash_id": start.flash.jedec_id if start.flash else None,
        "flash_size_bytes": start.flash.size_bytes if start.flash else None,
        "flash_mode": "",
        "flash_touched": False,
        "bytes_flashed": 0,
        "baud_fallbacks": 0,
        "started_at": start.started_at,
        "station_version": host.station_version,
        "esptool_version": host.esptool_version,
        "kernel_version": host.kernel_version,
        "boot_id": host.boot_id,
        "clock_synchronised": host.clock_synchronised,
        "transcript": b"",
    }


def _last_values(before: AnyRow, end: JobEnd) -> dict[str, object]:
    """What the end changes; what an earlier visit of a pending job measured is added to, not replaced."""
    return {
        "state": end.state,
        "outcome": end.outcome,
        "reason": end.reason,
        "detail": end.detail,
        "ended_at": end.ended_at,
        "duration_s": (before.duration_s or 0.0) + end.duration_s,
        "flash_mode": end.flash_mode or before.flash_mode,
        "flash_touched": before.flash_touched or end.flash_touched,
        "bytes_flashed": before.bytes_flashed + end.bytes_flashed,
        "baud_used": before.baud_used if end.baud_used is None else end.baud_used,
        "baud_fallbacks": before.baud_fallbacks + end.baud_fallbacks,
        "boot_evidence": end.boot_evidence or before.boot_evidence,
        "transcript": end.transcript,
    }


def format_otp_words(identity: Identity) -> str:
    """Return the four raw words at 0x3FF00050, 54, 58 and 5C, for eyes and for recomputing the MAC; empty if unread."""
    return " ".join(f"{word:#010x}" for word in identity.otp_words or ())


def parse_otp_words(text: str) -> tuple[int, int, int, int] | None:
    """Return the words that `format_otp_words` wrote, None where none were read; raises ValueError."""
    if not text:
        return None
    first, second, third, fourth = (int(word, 16) for word in text.split())
    return first, second, third, fourth


def _see_board(connection: Connection, start: JobStart, identity: Identity) -> None:
    seen: dict[str, object] = {"last_seen_at": start.started_at}
    if start.flash is not None:
        seen["last_flash_id"] = start.flash.jedec_id
    words = format_otp_words(identity)
    if words:
        # A board that was first seen through its firmware has none yet; as first seen they stay.
        unread = update(board).where(board.c.mac == identity.mac, board.c.otp_words == "")
        connection.execute(unread.values(otp_words=words))
    updated = connection.execute(update(board).where(board.c.mac == identity.mac).values(**seen))
    if updated.rowcount == 0:
        connection.execute(
            insert(board).values(
                mac=identity.mac,
                chip_id=identity.chip_id,
                otp_words=words,
                first_seen_at=start.started_at,
                **seen,
            )
        )


def _append(connection: Connection, table: Table, job_id: str, values: Sequence[dict[str, object]]) -> None:
    """Put rows behind those the job has already."""
    if not values:
        return
    first = connection.execute(select(func.count()).select_from(table).where(table.c.job_id == job_id)).scalar_one()
    rows = [{"job_id": job_id, "position": first + index, **row} for index, row in enumerate(values)]
    connection.execute(insert(table), rows)


def _measurement_values(measured: Measurement) -> dict[str, object]:
    return {
        "name": measured.name,
        "value": encoded(measured.value),
        "value_number": _number(measured.value),
        "unit": measured.unit,
        "low": encoded(measured.low),
        "high": encoded(measured.high),
        "within": measured.within,
    }


def _number(value: Value) -> float | None:
    """The value for queries: None where it is no finite number (NaN is NULL in SQLite, so it is NULL everywhere)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _exists(connection: Connection, wanted: Select[Any]) -> bool:
    return connection.execute(wanted).first() is not None


def _close_overwritten(connection: Connection, job_id: str, written: AnyRow, now: datetime) -> None:
    """Close what waits for a test of content that this job has overwritten: it can never be tested any more."""
    if written.board_mac is None:
        return
    older = (job.c.board_mac == written.board_mac, job.c.state == JobState.PENDING, job.c.sequence < written.sequence)
    values = closed_as_aborted(Reason.STOPPED_BY_REQUEST, f"flashed anew by job {job_id}", now)
    connection.execute(update(job).where(*older).values(**values))


def rows_by_job(connection: Connection, table: Table, wanted: Select[Any]) -> dict[str, list[AnyRow]]:
    """Return the rows of `table` that belong to the jobs `wanted` finds, by job and in their order."""
    found: dict[str, list[AnyRow]] = {}
    of_jobs = select(table).where(table.c.job_id.in_(wanted)).order_by(table.c.job_id, table.c.position)
    for row in connection.execute(of_jobs):
        found.setdefault(row.job_id, []).append(row)
    return found


def _committed(
    row: AnyRow, phases: Sequence[AnyRow], measurements: Sequence[AnyRow], values: Sequence[AnyRow]
) -> CommittedJob:
    return CommittedJob(
        id=row.id,
        slot=row.slot,
        mac=row.board_mac,
        chip_id=row.chip_id,
        state=JobState(row.state),
        outcome=None if row.outcome is None else Outcome(row.outcome),
        reason=row.reason,
        detail=row.detail,
        phases=tuple(
            PhaseRecord(phase=Phase(p.phase), outcome=PhaseOutcome(p.outcome), duration_s=p.duration_s, detail=p.detail)
            for p in phases
        ),
        measurements=measured(measurements),
        attempt=row.attempt,
        boot_evidence=None if row.boot_evidence is None else BootEvidence(row.boot_evidence),
        values=tuple((value.name, value.value) for value in values),
    )


def measured(rows: Sequence[AnyRow]) -> tuple[Measurement, ...]:
    """Return measurements as they were given; raises ValueError for a value that is no JSON."""
    return tuple(
        Measurement(
            name=row.name,
            value=decoded(row.value),
            unit=row.unit,
            low=decoded(row.low),
            high=decoded(row.high),
            within=row.within,
        )
        for row in rows
    )
