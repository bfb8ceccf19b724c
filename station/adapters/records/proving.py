"""The rows of what slots have proven and of what was said about slots: written once, never changed, the last word holds.

Every function of the module takes the connection of a transaction that somebody else begins and commits; `ProofBook` is what
the station gives to its visits, and goes through the lane of the records. Order is the order of writing, not wall time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection, func, insert, select

from station.adapters.records.jobs import damage_is_named, encoded, next_sequence
from station.adapters.records.schema import job, job_visit, visit
from station.adapters.records.schema_proofs import proof, slot_event
from station.errors import ConfigurationError
from station.model import BoardMark, Measurement, Outcome
from station.proving import Golden, Lately, Proof, SlotEvent, SlotWord, Standing, says_something
from station.reasons import Reason

LOOK_BACK = 500
"""So many of the last visits with a closed job are looked at for a bad run, and so many golden boards."""
T = TypeVar("T")


class Lane(Protocol):
    """How the records are read and written; what `Database` does with a connection."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Do `work` in one transaction; raises `RecordsUnwritable`."""


class ProofBook:
    """What slots have proven, in the station's records. Thread-safe; every call may block and raises `RecordsUnwritable`."""

    def __init__(self, read: Lane, write: Lane, now: Callable[[], datetime]) -> None:
        self._read, self._write, self._now = read, write, now

    def standing(self, slot: str, lot_id: str, since: datetime | None) -> Standing:
        """Return what holds for this slot now; proofs of another lot, or from before `since`, do not count."""
        return self._read(lambda connection: standing(connection, slot, lot_id, since))

    def standings(self, slots: Sequence[str], lot_id: str, since: datetime | None) -> dict[str, Standing]:
        """Return the same for several slots, of one moment."""
        return self._read(lambda connection: {slot: standing(connection, slot, lot_id, since) for slot in slots})

    def lately(self, slot: str) -> tuple[Lately, ...]:
        """Return the last jobs of all slots that say something about their slot, newest first.

        None from before the last word about this slot: who was released begins anew.
        """
        return self._read(lambda connection: lately(connection, slot))

    def goldens(self) -> tuple[Golden, ...]:
        """Return what was made of the last golden boards, of all slots and lots, newest first."""
        return self._read(goldens)

    def has_pass(self, lot_id: str, since: datetime | None) -> bool:
        """Whether a board of this lot passed, after `since` where that is given."""
        return self._read(lambda connection: has_pass(connection, lot_id, since))

    def put(self, made: Proof, event: SlotEvent | None) -> None:
        """Write a proof, and what it changes for its slot, in one transaction."""
        now = self._now()
        self._write(lambda connection: put(connection, made, event, now))

    def say(self, event: SlotEvent) -> None:
        """Write what is said about a slot; raises `ConfigurationError` when it changes nothing."""
        now = self._now()
        self._write(lambda connection: say(connection, event, now))


def standing(connection: Connection, slot: str, lot_id: str, since: datetime | None) -> Standing:
    """Return what the rows say of one slot."""
    last = connection.execute(
        select(slot_event).where(slot_event.c.slot == slot).order_by(slot_event.c.sequence.desc()).limit(1)
    ).one_or_none()
    wanted = select(proof.c.mark, proof.c.finding).where(proof.c.slot == slot, proof.c.lot_id == lot_id)
    if since is not None:
        wanted = wanted.where(proof.c.happened_at >= since)
    good = (Reason.GOLDEN_PASSED, Reason.RED_CAUGHT)
    with damage_is_named():
        latest = {
            BoardMark(row.mark): row.finding in good for row in connection.execute(wanted.order_by(proof.c.sequence))
        }
        quarantined = last is not None and SlotWord(last.event) is SlotWord.QUARANTINE
        return Standing(
            quarantine=last.reason if last is not None and quarantined else "",
            release_by=BoardMark(last.release_by) if last is not None else BoardMark.GOLDEN,
            latest=latest,
        )


def lately(connection: Connection, slot: str) -> tuple[Lately, ...]:
    """Return the last jobs that say something about a slot, by the visit that closed them, newest first."""
    last_word = select(func.max(slot_event.c.visit_sequence)).where(slot_event.c.slot == slot)
    begin = connection.execute(last_word).scalar() or 0
    later_visit, later = visit.alias(), job_visit.alias()
    went_on = (
        select(later.c.visit_id)
        .join(later_visit, later_visit.c.id == later.c.visit_id)
        .where(later.c.job_id == job.c.id, later_visit.c.sequence > visit.c.sequence)
        .correlate(job, visit)
        .exists()
    )
    # From the newest visit backwards, so that it costs the same however long the records are; closed jobs have an outcome.
    wanted = (
        select(visit.c.slot, job.c.board_mac, job.c.outcome, job.c.reason)
        .join(job_visit, job_visit.c.visit_id == visit.c.id)
        .join(job, job.c.id == job_visit.c.job_id)
        .where(visit.c.sequence > begin, ~went_on, job.c.outcome.is_not(None), job.c.board_mac.is_not(None))
        .order_by(visit.c.sequence.desc())
        .limit(LOOK_BACK)
    )
    with damage_is_named():
        return tuple(
            Lately(slot=row.slot, mac=row.board_mac, passed=row.outcome == Outcome.PASS)
            for row in connection.execute(wanted)
            if says_something(Outcome(row.outcome), row.reason)
        )


def goldens(connection: Connection) -> tuple[Golden, ...]:
    """Return what was made of the last golden boards, newest first, and where."""
    wanted = (
        select(proof.c.slot, visit.c.place, proof.c.observed)
        .join(visit, visit.c.id == proof.c.visit_id)
        .where(proof.c.mark == BoardMark.GOLDEN)
        .order_by(proof.c.sequence.desc())
        .limit(LOOK_BACK)
    )
    return tuple(Golden(slot=row.slot, place=row.place, observed=row.observed) for row in connection.execute(wanted))


def has_pass(connection: Connection, lot_id: str, since: datetime | None) -> bool:
    """Whether a board of this lot passed, of those that were made in it."""
    passed = select(job.c.id).where(job.c.lot_id == lot_id, job.c.outcome == Outcome.PASS, job.c.flash_touched)
    if since is not None:
        passed = passed.where(job.c.ended_at >= since)
    return connection.execute(passed.limit(1)).first() is not None


def put(connection: Connection, made: Proof, event: SlotEvent | None, now: datetime) -> None:
    """Write a proof once, and what it changes for its slot."""
    if connection.execute(select(proof.c.id).where(proof.c.id == made.id)).first() is not None:
        return
    connection.execute(
        insert(proof).values(
            id=made.id,
            sequence=next_sequence(connection, proof),
            visit_id=made.visit_id,
            slot=made.slot,
            mac=made.mac,
            mark=made.sample.mark,
            enrolled=made.sample.enrolled,
            finding=made.finding,
            observed=made.observed,
            recipe_hash=made.recipe_hash,
            lot_id=made.lot_id,
            measurements=json.dumps([_as_json(each) for each in made.measurements]),
            happened_at=now,
        )
    )
    if event is not None:
        _write_event(connection, event, now)


def say(connection: Connection, event: SlotEvent, now: datetime) -> None:
    """Write what is said about a slot; raises `ConfigurationError` when it holds already."""
    last = select(slot_event.c.event).where(slot_event.c.slot == event.slot).order_by(slot_event.c.sequence.desc())
    before = connection.execute(last.limit(1)).scalar() or SlotWord.RELEASE
    if before == event.word:
        is_in = before == SlotWord.QUARANTINE
        raise ConfigurationError(
            file=f"slot {event.slot}",
            problem="it is in quarantine already" if is_in else "it is in no quarantine",
            fix="station slots list",
        )
    _write_event(connection, event, now)


def _write_event(connection: Connection, event: SlotEvent, now: datetime) -> None:
    connection.execute(
        insert(slot_event).values(
            id=event.id,
            sequence=next_sequence(connection, slot_event),
            slot=event.slot,
            event=event.word,
            release_by=event.release_by,
            person=event.person,
            reason=event.cause,
            happened_at=now,
            visit_sequence=connection.execute(select(func.max(visit.c.sequence))).scalar() or 0,
        )
    )


def _as_json(one: Measurement) -> dict[str, object]:
    values = {"value": one.value, "low": one.low, "high": one.high}
    return {
        "name": one.name,
        **{key: json.loads(encoded(value)) for key, value in values.items()},
        "unit": one.unit,
        "within": one.within,
    }
