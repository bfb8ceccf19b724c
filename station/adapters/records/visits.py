"""The rows of visits: one per plug of a slot, whether or not a job came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from station.adapters.records.jobs import next_sequence, tie_to_visit
from station.adapters.records.schema import job_visit, visit
from station.model import Plug, VisitEnd
from station.reasons import Reason

_AT_GROUND = (Reason.AWAITS_RUN_MODE, Reason.AWAITS_TEST_SLOT, Reason.NEVER_STARTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRow:
    """A visit as it stands in the records."""

    id: str
    slot: str
    place: str
    plugged_at: datetime
    ended_at: datetime | None
    finding: str
    """The value of a `Reason` when no job was begun or closed, else empty."""
    detail: str
    mac: str
    """Whose board a finding is about, where that is known."""
    job_ids: tuple[str, ...]
    """What this visit belongs to; with a finding as well, a job that still waits."""


def begin(connection: Connection, visit_id: str, plug: Plug, station_id: str, now: datetime) -> None:
    """Write the row of a plug, once."""
    if connection.execute(select(visit.c.id).where(visit.c.id == visit_id)).first() is not None:
        return
    programmer = plug.programmer
    row = insert(visit).values(
        id=visit_id,
        sequence=next_sequence(connection, visit),
        station_id=station_id,
        slot=plug.slot,
        place=programmer.place,
        hub_path=programmer.hub_path,
        usb_id=programmer.usb_id,
        adapter_version=programmer.adapter_version,
        adapter_product=programmer.product,
        plug_number=plug.number,
        plugged_at=now,
        finding="",
        detail="",
        transcript=b"",
    )
    connection.execute(row)


def end(connection: Connection, visit_id: str, ended: VisitEnd) -> None:
    """Complete a visit that is not ended yet; raises LookupError when it was never begun."""
    row = connection.execute(select(visit.c.ended_at).where(visit.c.id == visit_id)).one_or_none()
    if row is None:
        raise LookupError(f"visit {visit_id} was never begun")
    if ended.job_id is not None:
        tie_to_visit(connection, ended.job_id, visit_id)
    if row.ended_at is None:
        completed = update(visit).where(visit.c.id == visit_id)
        connection.execute(
            completed.values(
                ended_at=ended.ended_at,
                finding=ended.finding,
                detail=ended.detail,
                transcript=ended.transcript,
                mac=ended.mac,
            )
        )


def returns_at_ground(connection: Connection, job_id: str) -> int:
    """Return how many visits of a waiting job found its board with GPIO0 at GND again, the one under way not counted."""
    tied = select(func.count()).select_from(job_visit).join(visit, visit.c.id == job_visit.c.visit_id)
    again = tied.where(job_visit.c.job_id == job_id, visit.c.finding.in_(_AT_GROUND))
    return connection.execute(again).scalar_one()


def latest(connection: Connection, limit: int) -> tuple[VisitRow, ...]:
    """Return the `limit` visits begun last, newest first."""
    wanted = select(visit.c.id).order_by(visit.c.sequence.desc()).limit(limit)
    jobs: dict[str, tuple[str, ...]] = {}
    ties = select(job_visit).where(job_visit.c.visit_id.in_(wanted)).order_by(job_visit.c.job_id)
    for tie in connection.execute(ties):
        jobs[tie.visit_id] = (*jobs.get(tie.visit_id, ()), tie.job_id)
    columns = (
        visit.c.id,
        visit.c.slot,
        visit.c.place,
        visit.c.plugged_at,
        visit.c.ended_at,
        visit.c.finding,
        visit.c.detail,
        visit.c.mac,
    )
    rows = connection.execute(wanted.with_only_columns(*columns))
    return tuple(VisitRow(**row, job_ids=jobs.get(row["id"], ())) for row in rows.mappings())
