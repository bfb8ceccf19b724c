"""Numbers of which none is ever on two boards: granted in ranges, reserved for a MAC, confirmed with its PASS.

A MAC keeps its number for ever, through retry, rework and restart. A number goes back only when its first job ends and
nothing that carries it can have left the station. Every function takes the connection of a write transaction that somebody
else begins and commits; what concerns the high-water file is in it, synced, before the function returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import uuid_utils
from sqlalchemy import Connection, Row, Select, and_, case, delete, func, insert, select, update

from station.adapters.records import high_water
from station.adapters.records.high_water import NumberLine
from station.adapters.records.jobs import next_sequence
from station.adapters.records.schema import job
from station.adapters.records.schema_numbers import (
    job_value,
    serial_burn,
    serial_event,
    serial_free,
    serial_number,
    serial_range,
)
from station.adapters.records.spans import covered, put_span, take_span
from station.errors import ConfigurationError
from station.model import Issued, JobEnd, JobState, Outcome

AnyRow = Row[*tuple[Any, ...]]
LARGEST = 10**15
TELLING = ("grant", "reserve", "burn", "restore")
"""What must be in the high-water file: it leaves fewer numbers free, or says whose they are."""
_JUST_NOW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Numbers of one pool, both ends included, that a person speaks of."""

    pool: str
    first: int
    last: int

    def __str__(self) -> str:
        """As a person writes it."""
        return f"{self.pool} {self.first}" + (f"-{self.last}" if self.last != self.first else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Who says it, why, and when."""

    person: str
    reason: str
    now: datetime


class Ledger:
    """The numbers of one station in one transaction."""

    def __init__(self, connection: Connection, file: Path, station_id: str) -> None:
        self._connection, self._file, self._station_id = connection, file, station_id

    def reserve(self, pool: str, mac: str, job_id: str, labels: Sequence[str], now: datetime) -> Issued | None:
        """Return the MAC's number: the one it has, else the lowest that is free, now its own; None when none is."""
        mine = (serial_number.c.pool == pool, serial_number.c.mac == mac)
        known = self._connection.execute(select(serial_number).where(*mine)).one_or_none()
        if known is not None:
            # What a restore burned may be in this very board: it is its number still, and no other's.
            state = "confirmed" if known.state == "confirmed" else "reserved"
            values = {"state": state, "job_id": job_id, "changed_at": now}
            self._connection.execute(update(serial_number).where(*mine).values(**values))
            return Issued(number=known.number, label=known.label)
        number = self._lowest_free(pool, len(labels) or LARGEST)
        if number is None:
            return None
        label = labels[number - 1] if labels else ""
        take_span(self._connection, serial_free, pool, number, number)
        values = {"pool": pool, "number": number, "mac": mac, "state": "reserved", "label": label}
        self._connection.execute(
            insert(serial_number).values(**values, reserved_by=job_id, job_id=job_id, changed_at=now)
        )
        self._say("reserve", Span(pool=pool, first=number, last=number), now, mac=mac, label=label, job_id=job_id)
        return Issued(number=number, label=label)

    def settle(self, job_id: str, end: JobEnd) -> None:
        """Confirm the numbers of a job that passed; take back those that its end proves to be nowhere."""
        if end.state is not JobState.CLOSED:
            return
        of_job = (serial_number.c.job_id == job_id, serial_number.c.state == "reserved")
        for row in self._connection.execute(select(serial_number).where(*of_job)).all():
            span, here = Span(pool=row.pool, first=row.number, last=row.number), _row_of(row.pool, row.number)
            if end.outcome is Outcome.PASS:
                values = {"state": "confirmed", "changed_at": end.ended_at}
                self._connection.execute(update(serial_number).where(*here).values(**values))
                self._say("confirm", span, end.ended_at, mac=row.mac, job_id=job_id)
            elif not end.number_used and row.reserved_by == job_id:
                self._connection.execute(delete(serial_number).where(*here))
                put_span(self._connection, serial_free, row.pool, row.number, row.number)
                self._say("give_back", span, end.ended_at, mac=row.mac, job_id=job_id)

    def grant(self, span: Span, station_id: str, word: Word) -> None:
        """Give a station a range; raises `ConfigurationError` when any number of it is known already, wherever."""
        if not 0 <= span.first <= span.last < LARGEST:
            raise _refused(span, "is no range", f"write FIRST-LAST, below {LARGEST}")
        overlapping = select(serial_range).where(
            serial_range.c.pool == span.pool, serial_range.c.first <= span.last, serial_range.c.last >= span.first
        )
        taken = self._connection.execute(overlapping).first()
        if taken is not None:
            problem = f"overlaps {taken.first}-{taken.last}, which station {taken.station_id} has"
            raise _refused(span, problem, f"station serial list {span.pool}")
        within = (serial_number.c.pool == span.pool, serial_number.c.number.between(span.first, span.last))
        used = self._connection.execute(select(serial_number).where(*within)).first()
        if used is not None or covered(self._connection, serial_burn, span.pool, span.first, span.last):
            raise _refused(
                span, "holds numbers that boards have, or that are burned", "grant numbers never used before"
            )
        if high_water.speaks_of(self._file, span.pool, span.first, span.last):
            problem = f"holds numbers that went to boards before these records began, as {self._file} says"
            raise _refused(
                span, problem, "put the newest backup back (station restore), or grant numbers never used before"
            )
        self._connection.execute(
            insert(serial_range).values(
                id=_new_id(),
                sequence=next_sequence(self._connection, serial_range),
                pool=span.pool,
                station_id=station_id,
                first=span.first,
                last=span.last,
                person=word.person,
                granted_at=word.now,
            )
        )
        if station_id == self._station_id:
            put_span(self._connection, serial_free, span.pool, span.first, span.last)
        self._say("grant", span, word.now, station_id=station_id, person=word.person, reason=word.reason)

    def burn(self, span: Span, word: Word) -> int:
        """See to it that nobody gets these numbers; return how many there were. A board that has one loses it on record.

        Raises `ConfigurationError` when there are none, and while a job with one of them runs or waits.
        """
        within = (serial_number.c.pool == span.pool, serial_number.c.number.between(span.first, span.last))
        rows = self._connection.execute(select(serial_number).where(*within)).all()
        for row in rows:
            state = self._connection.execute(select(job.c.state).where(job.c.id == row.job_id)).scalar()
            # A job gets its row a moment after its number.
            begins = state is None and word.now - row.changed_at < _JUST_NOW
            if begins or state in (JobState.RUNNING, JobState.PENDING):
                raise _refused(span, f"{row.number} is in the hands of a job of {row.mac}", "let that job end first")
        pieces = take_span(self._connection, serial_free, span.pool, span.first, span.last)
        pieces += [(row.number, row.number) for row in rows]
        if not pieces:
            raise _refused(span, "holds no number that could be burned", f"station serial list {span.pool}")
        self._connection.execute(delete(serial_number).where(*within))
        for first, last in pieces:
            put_span(self._connection, serial_burn, span.pool, first, last)
        macs = {row.number: row.mac for row in rows}
        for first, last in pieces:
            piece = Span(pool=span.pool, first=first, last=last)
            mac = macs.get(first, "") if first == last else ""
            self._say("burn", piece, word.now, mac=mac, person=word.person, reason=word.reason)
        return sum(last - first + 1 for first, last in pieces)

    def release(self, span: Span, word: Word) -> int:
        """Let burned numbers be handed out after all; return how many. A person answers for it that no board has one.

        Numbers that a restore burned in the name of a board go with it. Raises `ConfigurationError` when none is burned.
        """
        within = (serial_number.c.pool == span.pool, serial_number.c.number.between(span.first, span.last))
        rows = self._connection.execute(select(serial_number).where(*within, serial_number.c.state == "burned")).all()
        pieces = take_span(self._connection, serial_burn, span.pool, span.first, span.last)
        pieces += [(row.number, row.number) for row in rows]
        if not pieces:
            raise _refused(span, "holds no burned number of this station", f"station serial list {span.pool}")
        self._connection.execute(delete(serial_number).where(*within, serial_number.c.state == "burned"))
        for first, last in pieces:
            put_span(self._connection, serial_free, span.pool, first, last)
            piece = Span(pool=span.pool, first=first, last=last)
            self._say("release", piece, word.now, person=word.person, reason=word.reason)
        return sum(last - first + 1 for first, last in pieces)

    def _lowest_free(self, pool: str, highest: int) -> int | None:
        """A number that a row names is never free, nor is one of another station's range, whatever the spans say."""
        while True:
            free = free_here(self._station_id).subquery()
            number: int | None = self._connection.execute(
                select(func.min(free.c.first)).where(free.c.pool == pool)
            ).scalar()
            if number is None or number > highest:
                return None
            if self._connection.execute(select(serial_number.c.mac).where(*_row_of(pool, number))).first() is None:
                return number
            take_span(self._connection, serial_free, pool, number, number)

    def _say(self, event: str, span: Span, now: datetime, **more: str) -> None:
        about = {
            "mac": "",
            "station_id": self._station_id,
            "label": "",
            "person": "",
            "reason": "",
            "job_id": "",
        } | more
        named = {name: about[name] for name in ("mac", "station_id", "label", "person")}
        line = NumberLine(id=_new_id(), event=event, pool=span.pool, first=span.first, last=span.last, **named)
        self._connection.execute(
            insert(serial_event).values(
                id=line.id,
                sequence=next_sequence(self._connection, serial_event),
                pool=span.pool,
                event=event,
                first=span.first,
                last=span.last,
                happened_at=now,
                **about,
            )
        )
        if event in TELLING:
            high_water.append(self._file, [line])


def left(connection: Connection, station_id: str) -> dict[str, int]:
    """Return pool -> how many numbers this station can still hand out; 0 for a pool that is used up."""
    found = {str(row[0]): 0 for row in connection.execute(select(serial_range.c.pool).distinct())}
    for pool, first, last in connection.execute(free_here(station_id)):
        found[pool] += last - first + 1
    return dict(sorted(found.items()))


def free_here(station_id: str) -> Select[str, int, int]:
    """Return what finds pool, first and last of all that is free in this station's own ranges.

    A copy of a station's disk that is called otherwise from now on has the free numbers of the other one, too.
    """
    free, of = serial_free.c, serial_range.c
    return select(
        free.pool,
        case((free.first < of.first, of.first), else_=free.first).label("first"),
        case((free.last > of.last, of.last), else_=free.last).label("last"),
    ).join(
        serial_range,
        and_(of.pool == free.pool, of.first <= free.last, of.last >= free.first, of.station_id == station_id),
    )


def put_values(connection: Connection, job_id: str, values: Sequence[tuple[str, str]]) -> None:
    """Write what a job gave its board, once: a later visit of the same job gives it the same."""
    if connection.execute(select(job_value.c.name).where(job_value.c.job_id == job_id)).first() is not None:
        return
    rows = [{"job_id": job_id, "position": at, "name": name, "value": value} for at, (name, value) in enumerate(values)]
    if rows:
        connection.execute(insert(job_value), rows)


def _row_of(pool: str, number: int) -> tuple[Any, Any]:
    return serial_number.c.pool == pool, serial_number.c.number == number


def _new_id() -> str:
    return str(uuid_utils.uuid7())


def _refused(span: Span, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(file=f"numbers {span}", problem=f"it {problem}", fix=fix)
