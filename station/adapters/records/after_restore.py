"""What becomes of numbers when records are put back: every one that may have been handed out since is burned.

How far the numbers got is known exactly where the records that stood there, or the high-water file, hold the last thing that
the backup knows of numbers and so everything after it. Each number that is spoken of there is burned, in the name of the MAC
that had it last, which gets the same one again. Where neither of them shows it, the whole rest of every range is burned,
and what is reserved for boards that neither passed nor wait. Works on a file that no station has open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import uuid_utils
from sqlalchemy import Connection, Row, and_, delete, insert, select

from station.adapters.records import high_water
from station.adapters.records.copying import examine
from station.adapters.records.engine import make_engine, short_lived, unwritable_is_named, writing
from station.adapters.records.high_water import NumberLine
from station.adapters.records.jobs import next_sequence
from station.adapters.records.numbers import TELLING
from station.adapters.records.schema import job
from station.adapters.records.schema_numbers import (
    serial_burn,
    serial_event,
    serial_free,
    serial_number,
    serial_range,
)
from station.adapters.records.spans import put_span, take_span
from station.errors import RecordsUnwritable
from station.model import JobState

_PERSON = "station restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burned:
    """What was burned."""

    exact: bool
    """Whether it was known how far the numbers had got."""
    numbers: int
    pools: tuple[str, ...]

    def in_words(self) -> str:
        """Return what a person must know; empty when nothing was burned."""
        if not self.numbers:
            return ""
        pools = ", ".join(self.pools)
        if self.exact:
            return f"{self.numbers} serial numbers were handed out after the backup and are burned: {pools}"
        return (
            f"nothing shows how far the serial numbers got after the backup: all {self.numbers} that were left are burned"
            f" ({pools}); grant a new range, or see station serial release"
        )


def burn_since_backup(records: Path, *, standing: Path, station_id: str, now: datetime) -> Burned:
    """Burn in `records`, which come from a backup, what may have been handed out since; raises `RecordsUnwritable`.

    `standing` are the records that they replace, whole or not, there or not; the high-water file lies beside those.
    """
    said_there, said_in_file = _said_in_records(standing), high_water.read(high_water.numbers_file(standing))
    with (
        short_lived(make_engine(f"sqlite:///{records}", writes=True)) as engine,
        unwritable_is_named(records),
        writing(engine) as connection,
    ):
        last = _last_known(connection)
        after = [_after(said, last) for said in (said_there, said_in_file) if said is not None]
        known = [said for said in after if said is not None]
        burning = _Burning(connection, station_id, now)
        if known or last is None:
            for said in [line for lines in known for line in lines]:
                burning.repeat(said)
        else:
            burning.burn_the_rest()
        lines = burning.lines()
        # The file goes on where the records do: a later restore finds this moment in it.
        if lines:
            high_water.append(high_water.numbers_file(standing), lines)
        pools = tuple(sorted({line.pool for line in lines}))
        return Burned(exact=bool(known), numbers=burning.numbers(), pools=pools)


def part_spans(records: Path) -> None:
    """Take the numbers that have a row out of the spans, after jobs of a journal brought rows of their own."""
    with (
        short_lived(make_engine(f"sqlite:///{records}", writes=True)) as engine,
        unwritable_is_named(records),
        writing(engine) as connection,
    ):
        for table in (serial_free, serial_burn):
            inside = (table.c.pool == serial_number.c.pool, serial_number.c.number.between(table.c.first, table.c.last))
            for row in connection.execute(
                select(serial_number.c.pool, serial_number.c.number).join(table, and_(*inside))
            ).all():
                take_span(connection, table, row.pool, row.number, row.number)


class _Burning:
    """One pass over the numbers of restored records."""

    def __init__(self, connection: Connection, station_id: str, now: datetime) -> None:
        self._connection, self._station_id, self._now = connection, station_id, now
        self._burned: dict[tuple[str, int, int], dict[str, str]] = {}
        """Pool, first and last -> what else is said of it: the MAC that has it, its label, whose word it was."""

    def repeat(self, said: NumberLine) -> None:
        """Take over one thing that happened after the backup."""
        if said.event == "grant":
            self._grant(said)
        elif said.mac and said.event != "burn":
            self._bind(said)
        else:
            person = {"event": said.event, "person": said.person} if said.event == "burn" else {}
            self._burn(said.pool, said.first, said.last, **person)

    def burn_the_rest(self) -> None:
        """Burn every number that is free, and those that may have been given back since, by a job or by a person.

        Those of boards that passed stay, and those of boards that wait for their test: they are in them.
        """
        waiting = select(job.c.id).where(job.c.state == JobState.PENDING)
        unsure = (serial_number.c.state == "reserved", serial_number.c.job_id.not_in(waiting))
        for row in self._connection.execute(select(serial_number).where(*unsure)).all():
            self._burn(row.pool, row.number, row.number)
        for row in self._connection.execute(select(serial_free)).all():
            self._burn(row.pool, row.first, row.last)

    def numbers(self) -> int:
        """Return how many numbers were burned."""
        return sum(last - first + 1 for _, first, last in self._burned)

    def lines(self) -> list[NumberLine]:
        """Write an event for all that was burned, and return the same for the high-water file."""
        lines = []
        for (pool, first, last), more in self._burned.items():
            about = {
                "event": "restore",
                "mac": "",
                "label": "",
                "person": _PERSON,
                "station_id": self._station_id,
            } | more
            line = NumberLine(id=str(uuid_utils.uuid7()), pool=pool, first=first, last=last, **about)
            lines.append(line)
            self._connection.execute(
                insert(serial_event).values(
                    **about,
                    id=line.id,
                    sequence=next_sequence(self._connection, serial_event),
                    pool=pool,
                    first=first,
                    last=last,
                    reason="may have been handed out since the backup",
                    job_id="",
                    happened_at=self._now,
                )
            )
        return lines

    def _grant(self, said: NumberLine) -> None:
        """A range that was granted after the backup; none of it is free here until what follows says what became of it."""
        overlaps = (
            serial_range.c.pool == said.pool,
            serial_range.c.first <= said.last,
            serial_range.c.last >= said.first,
        )
        if self._connection.execute(select(serial_range.c.id).where(*overlaps)).first() is not None:
            return
        self._connection.execute(
            insert(serial_range).values(
                id=str(uuid_utils.uuid7()),
                sequence=next_sequence(self._connection, serial_range),
                pool=said.pool,
                station_id=said.station_id,
                first=said.first,
                last=said.last,
                person=said.person or _PERSON,
                granted_at=self._now,
            )
        )
        if said.station_id == self._station_id:
            put_span(self._connection, serial_free, said.pool, said.first, said.last)

    def _bind(self, said: NumberLine) -> None:
        """Burn a number in the name of the MAC that had it last: it is in that board, or nowhere."""
        self._burn(said.pool, said.first, said.first)
        take_span(self._connection, serial_burn, said.pool, said.first, said.first)
        before = select(serial_number.c.number).where(
            serial_number.c.pool == said.pool, serial_number.c.mac == said.mac
        )
        for number in self._connection.execute(before).scalars().all():
            self._burn(said.pool, number, number)
        values = {"pool": said.pool, "number": said.first, "mac": said.mac, "state": "burned", "label": said.label}
        self._connection.execute(
            insert(serial_number).values(**values, reserved_by="", job_id="", changed_at=self._now)
        )
        self._burned[said.pool, said.first, said.first] = {"mac": said.mac, "label": said.label}

    def _burn(self, pool: str, first: int, last: int, **more: str) -> None:
        """Burn numbers wherever they are, so that no MAC has them."""
        within = (serial_number.c.pool == pool, serial_number.c.number.between(first, last))
        self._connection.execute(delete(serial_number).where(*within))
        take_span(self._connection, serial_free, pool, first, last)
        take_span(self._connection, serial_burn, pool, first, last)
        put_span(self._connection, serial_burn, pool, first, last)
        self._burned[pool, first, last] = more


def _last_known(connection: Connection) -> str | None:
    """Return the id of the last thing these records know of numbers, None when they know nothing."""
    telling = select(serial_event.c.id).where(serial_event.c.event.in_(TELLING))
    found: str | None = connection.execute(telling.order_by(serial_event.c.sequence.desc()).limit(1)).scalar()
    return found


def _said_in_records(standing: Path) -> list[NumberLine] | None:
    """Return what the records say that are to be replaced; None when there are none, or they cannot tell."""
    try:
        if not standing.is_file() or examine(standing, beside_a_station=True).revision == "":
            return None
        with (
            short_lived(make_engine(f"sqlite:///{standing}", writes=False)) as engine,
            unwritable_is_named(standing),
            engine.connect() as connection,
        ):
            telling = select(serial_event).where(serial_event.c.event.in_(TELLING)).order_by(serial_event.c.sequence)
            return [_line_of(row) for row in connection.execute(telling)]
    except RecordsUnwritable:
        return None


def _line_of(row: Row[tuple[Any, ...]]) -> NumberLine:
    named = ("id", "pool", "event", "first", "last", "mac", "station_id", "label", "person")
    return NumberLine(**{name: getattr(row, name) for name in named})


def _after(said: Sequence[NumberLine], last: str | None) -> Sequence[NumberLine] | None:
    """Return what was said after the event `last`; None when that is not among it, so that nothing is proven."""
    if last is None:
        return said
    at = next((index for index, line in enumerate(said) if line.id == last), None)
    return None if at is None else said[at + 1 :]
