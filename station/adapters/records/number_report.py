"""What the records say about numbers, as rows: the ranges and what is left of them, and single numbers with their boards.

Reads one consistent moment of the file and cannot change it, so it may run beside the station.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, and_, func, select

from station.adapters.records.numbers import free_here
from station.adapters.records.report import Report, format_time, reading
from station.adapters.records.schema_numbers import (
    serial_burn,
    serial_event,
    serial_free,
    serial_number,
    serial_range,
)

_RANGES = ("pool", "first", "last", "station", "free", "reserved", "confirmed", "burned", "person", "granted_at")
_NUMBERS = ("number", "state", "mac", "label", "changed_at", "job")
_EVENTS = ("happened_at", "pool", "event", "first", "last", "mac", "person", "reason", "job")


def ranges_report(url: str, pool: str = "") -> Report:
    """Return every range that was granted, oldest first; of one pool, or of all. Raises what `jobs_report` raises."""
    wanted = select(serial_range).order_by(serial_range.c.pool, serial_range.c.first)
    with reading(url) as connection:
        found = connection.execute(wanted.where(serial_range.c.pool == pool) if pool else wanted).all()
        rows = [
            {
                "pool": row.pool,
                "first": row.first,
                "last": row.last,
                "station": row.station_id,
                "free": _in_spans(connection, serial_free, row.pool, row.first, row.last),
                **_in_rows(connection, row.pool, row.first, row.last),
                "person": row.person,
                "granted_at": format_time(row.granted_at),
            }
            for row in found
        ]
    return Report(columns=_RANGES, narrow=_RANGES[:-2], rows=tuple(rows))


def numbers_report(url: str, pool: str) -> Report:
    """Return the numbers of a pool that belong to a board, in order; raises what `jobs_report` raises."""
    wanted = select(serial_number).where(serial_number.c.pool == pool).order_by(serial_number.c.number)
    with reading(url) as connection:
        rows = [
            {
                "number": row.number,
                "state": row.state,
                "mac": row.mac,
                "label": row.label,
                "changed_at": format_time(row.changed_at),
                "job": row.job_id,
            }
            for row in connection.execute(wanted)
        ]
    return Report(columns=_NUMBERS, narrow=_NUMBERS[:-1], rows=tuple(rows))


def number_events_report(url: str, pool: str) -> Report:
    """Return everything that ever happened to the numbers of a pool, oldest first; raises what `jobs_report` raises."""
    wanted = select(serial_event).where(serial_event.c.pool == pool).order_by(serial_event.c.sequence)
    with reading(url) as connection:
        rows = [
            {
                "happened_at": format_time(row.happened_at),
                "pool": row.pool,
                "event": row.event,
                "first": row.first,
                "last": row.last,
                "mac": row.mac,
                "person": row.person,
                "reason": row.reason,
                "job": row.job_id,
            }
            for row in connection.execute(wanted)
        ]
    return Report(columns=_EVENTS, narrow=_EVENTS[:-1], rows=tuple(rows))


def free_numbers(url: str, pool: str, station_id: str, highest: int | None = None) -> int | None:
    """Return how many numbers of a pool, up to `highest`, this station can still hand out; None: it was granted none.

    Raises what `jobs_report` raises.
    """
    own = and_(serial_range.c.pool == pool, serial_range.c.station_id == station_id)
    with reading(url) as connection:
        if connection.execute(select(serial_range.c.id).where(own)).first() is None:
            return None
        free = connection.execute(free_here(station_id)).all()
    spans = [(first, last if highest is None else min(last, highest)) for of, first, last in free if of == pool]
    return sum(max(0, last - first + 1) for first, last in spans)


def numbers_of(connection: Connection, mac: str) -> tuple[dict[str, Any], ...]:
    """Return the numbers that belong to this board: pool, number, state, label."""
    of_board = select(serial_number).where(serial_number.c.mac == mac).order_by(serial_number.c.pool)
    return tuple(
        {"pool": row.pool, "number": row.number, "state": row.state, "label": row.label}
        for row in connection.execute(of_board)
    )


def _in_spans(connection: Connection, table: Table, pool: str, first: int, last: int) -> int:
    touching = and_(table.c.pool == pool, table.c.first <= last, table.c.last >= first)
    found = connection.execute(select(table.c.first, table.c.last).where(touching))
    return sum(min(high, last) - max(low, first) + 1 for low, high in found)


def _in_rows(connection: Connection, pool: str, first: int, last: int) -> dict[str, int]:
    within = and_(serial_number.c.pool == pool, serial_number.c.number.between(first, last))
    counts = select(serial_number.c.state, func.count()).where(within).group_by(serial_number.c.state)
    states = {str(row[0]): int(row[1]) for row in connection.execute(counts)}
    burned = states.get("burned", 0) + _in_spans(connection, serial_burn, pool, first, last)
    return {"reserved": states.get("reserved", 0), "confirmed": states.get("confirmed", 0), "burned": burned}
