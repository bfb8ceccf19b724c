"""What the records say about single boards, as rows: the whole life of one, and those that are flashed and wait.

Reads one consistent moment of the file and cannot change it, so it may run beside the station.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from station.adapters.records import jobs
from station.adapters.records.board_key import parse_board_key
from station.adapters.records.boards import known_board, macs_of
from station.adapters.records.number_report import numbers_of
from station.adapters.records.pending import waiting
from station.adapters.records.report import JOBS, Report, format_time, job_row, reading, report_of_jobs
from station.adapters.records.schema import board_event, job, recipe, visit
from station.model import KnownBoard, PendingJob, format_chip_id
from station.reasons import Reason, words_for

_EVENT_COLUMNS = ("happened_at", "mac", "event", "flash_id", "reason_code", "person", "reason")
_FINDING_COLUMNS = ("plugged_at", "slot", "finding", "detail", "visit")
_NUMBER_COLUMNS = ("pool", "number", "state", "label")
_PENDING_COLUMNS = (
    "age_s",
    "mac",
    "chip_id",
    "slot",
    "recipe",
    "product",
    "recipe_hash",
    "since",
    "attempt",
    "reason",
    "waits_for",
    "job",
)
_PENDING_NARROW = ("age", "mac", "chip_id", "slot", "recipe", "waits_for")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardHistory:
    """Everything on record about one board."""

    mac: str
    known: KnownBoard | None
    """None when the records never heard of it."""
    jobs: Report
    """Oldest first, with what each job found."""
    events: Report
    """What people said, oldest first."""
    findings: Report
    """The visits that ended without a job but knew whose board it was, oldest first."""
    numbers: Report
    """The serial numbers and rows of tables that are this board's."""


def board_histories(url: str, mac_or_chip_id: str) -> tuple[BoardHistory, ...]:
    """Return the whole life of a board, or of all boards that share the chip ID.

    Raises ValueError for a key that is neither, and what `jobs_report` raises.
    """
    mac, chip_ids = parse_board_key(mac_or_chip_id)
    with reading(url) as connection:
        macs = (mac,) if mac else macs_of(connection, chip_ids)
        return tuple(_history(connection, each) for each in macs)


def board_report(url: str, mac_or_chip_id: str) -> Report:
    """Return every job of the board, or of all boards that share the chip ID, oldest first, with what each job found.

    What people said about it stands in the notes. Raises ValueError for a key that is neither, and what `jobs_report` raises.
    """
    mac, chip_ids = parse_board_key(mac_or_chip_id)
    with reading(url) as connection:
        rows = detailed(connection, _of_board(mac, chip_ids))
        events = _events(connection, (mac,) if mac else macs_of(connection, chip_ids))
    boards = {row["mac"] for row in rows if row["mac"]}
    notes = [f"{len(boards)} boards share this number: {', '.join(sorted(boards))}"] if len(boards) > 1 else []
    return report_of_jobs(rows, *notes, *map(_event_in_words, events))


def pending_report(url: str, now: datetime) -> Report:
    """Return the jobs that wait for another visit, longest waiting first; raises what `jobs_report` raises."""
    with reading(url) as connection:
        names = {row.hash: row.name for row in connection.execute(select(recipe.c.hash, recipe.c.name))}
        with jobs.damage_is_named():
            rows = [_pending_row(one, names[one.lot.recipe_hash], now) for one in waiting(connection)]
    return Report(columns=_PENDING_COLUMNS, narrow=_PENDING_NARROW, rows=tuple(rows))


def format_age(age_s: float) -> str:
    """Return an age as people say it: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes, seconds = divmod(max(0, int(age_s)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _history(connection: Connection, mac: str) -> BoardHistory:
    about = select(visit).where(visit.c.mac == mac, visit.c.finding != "").order_by(visit.c.sequence)
    findings = [
        {
            "plugged_at": format_time(row.plugged_at),
            "slot": row.slot,
            "finding": row.finding,
            "detail": row.detail,
            "visit": row.id,
        }
        for row in connection.execute(about)
    ]
    return BoardHistory(
        mac=mac,
        known=known_board(connection, mac),
        jobs=report_of_jobs(detailed(connection, _of_board(mac, ()))),
        events=Report(columns=_EVENT_COLUMNS, rows=_events(connection, (mac,))),
        findings=Report(columns=_FINDING_COLUMNS, narrow=_FINDING_COLUMNS[:-1], rows=tuple(findings)),
        numbers=Report(columns=_NUMBER_COLUMNS, rows=numbers_of(connection, mac)),
    )


def _of_board(mac: str, chip_ids: tuple[int, ...]) -> ColumnElement[bool]:
    return (job.c.board_mac == mac) | (job.c.observed_mac == mac) if mac else job.c.chip_id.in_(chip_ids)


def detailed(connection: Connection, wanted: ColumnElement[bool]) -> tuple[dict[str, Any], ...]:
    """Return the wanted jobs with their phases and measurements, oldest first."""
    found = connection.execute(JOBS.where(wanted).order_by(job.c.sequence)).all()
    details = jobs.committed(connection, select(job.c.id).where(wanted).order_by(job.c.sequence))
    return tuple(
        {
            **job_row(row),
            "phases": [{"phase": p.phase, "outcome": p.outcome, "duration_s": p.duration_s} for p in detail.phases],
            "measurements": [
                {"name": m.name, "value": m.value, "unit": m.unit, "low": m.low, "high": m.high, "within": m.within}
                for m in detail.measurements
            ],
            "values": dict(detail.values),
        }
        for row, detail in zip(found, details, strict=True)
    )


def _events(connection: Connection, macs: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    found = select(board_event).where(board_event.c.mac.in_(macs)).order_by(board_event.c.sequence)
    return tuple(
        {
            "happened_at": format_time(row.happened_at),
            "mac": row.mac,
            "event": row.event,
            "flash_id": None if row.flash_id is None else f"{row.flash_id:#08x}",
            "reason_code": row.reason_code,
            "person": row.person,
            "reason": row.reason,
        }
        for row in connection.execute(found)
    )


def _event_in_words(event: dict[str, Any]) -> str:
    flash = f" {event['flash_id']}" if event["flash_id"] else ""
    return f"{event['happened_at']} {event['mac']} {event['event']}{flash} by {event['person']}: {event['reason']}"


def _pending_row(one: PendingJob, recipe_name: str, now: datetime) -> dict[str, Any]:
    age_s = (now - one.since).total_seconds()
    return {
        "age_s": round(age_s, 1),
        "age": format_age(age_s),
        "mac": one.identity.mac,
        "chip_id": format_chip_id(one.identity.chip_id),
        "slot": one.slot,
        "recipe": recipe_name,
        "product": one.lot.product,
        "recipe_hash": one.lot.recipe_hash,
        "since": format_time(one.since),
        "attempt": one.attempt,
        "reason": one.reason,
        "waits_for": words_for(Reason(one.reason), one.detail.partition("\n")[0]),
        "job": one.id,
    }
