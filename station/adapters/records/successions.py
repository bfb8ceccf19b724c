"""One lot after another: a lot never changes its recipe, so it is closed and another one is opened in its place.

What becomes of the boards that are flashed and wait for their test is said once, by the person who does it. Every function
takes the connection of a transaction that somebody else begins and commits: all of it happens, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, insert, select, update

from station.adapters.records import boards, lots
from station.adapters.records.boards import BoardEvent, BoardEventRow
from station.adapters.records.jobs import closed_as_aborted
from station.adapters.records.lots import LotRequest
from station.adapters.records.schema import job, lot
from station.adapters.records.schema_bundles import succession
from station.errors import ConfigurationError
from station.model import JobState, Lot, LotState
from station.reasons import Reason


class PendingChoice(StrEnum):
    """What becomes of the boards of a lot that are flashed and not tested, when the lot ends."""

    FINISH = "finish"
    """They wait on, and are tested under the recipe they were flashed with."""
    REFLASH = "reflash"
    """Their jobs are closed; a board that comes again is made anew, under the successor's recipe."""
    SCRAP = "scrap"
    """Their jobs are closed and they are marked, with the word of the person who threw them away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """What came of it."""

    closed: Lot
    opened: Lot
    pending_jobs: int
    """How many boards waited."""


def succeed(
    connection: Connection,
    old: Lot,
    request: LotRequest,
    choice: PendingChoice,
    new_id: Callable[[], str],
    now: datetime,
) -> Succeeded:
    """Close `old`, open its successor, and do with the boards that wait as was chosen.

    Raises `ConfigurationError` for a lot that is closed, for the same work order again, and while a job of it runs: what
    becomes of its board nobody can know yet.
    """
    file = f"lot {old.id}"
    if request.recipe_hash == old.recipe_hash:
        raise ConfigurationError(
            file=file,
            problem="its successor would have the very same recipe",
            fix="station lot close, station lot open",
        )
    state = connection.execute(select(lot.c.state).where(lot.c.id == old.id)).scalar_one_or_none()
    if state is None or state == LotState.CLOSED:
        raise ConfigurationError(file=file, problem="it is closed, or was never opened", fix="station lot open")
    running = select(job.c.slot).where(job.c.lot_id == old.id, job.c.state == JobState.RUNNING)
    slots = sorted(connection.execute(running).scalars())
    if slots:
        raise ConfigurationError(
            file=file,
            problem=f"a job of it runs in {', '.join(slots)}",
            fix="station lot pause, let it end, then again; if no station runs, start it once",
        )
    waiting = _dispose(connection, old, request, choice, new_id, now)
    closed = lots.change(connection, old.id, LotState.CLOSED, request.person, now)
    # A standing lot is opened by the station's own hand, its successor as well.
    open_lot = lots.standing if old.standing else lots.open_by_hand
    opened = open_lot(connection, request, new_id(), now)
    row = insert(succession).values(lot_id=old.id, successor_id=opened.id, pending=choice, pending_jobs=waiting)
    connection.execute(row.values(person=request.person, happened_at=now))
    return Succeeded(closed=closed, opened=opened, pending_jobs=waiting)


def is_finished_later(connection: Connection, lot_id: str) -> bool:
    """Whether the boards that wait in this closed lot shall be tested under its own recipe."""
    chosen = select(succession.c.pending).where(succession.c.lot_id == lot_id)
    return connection.execute(chosen).scalar_one_or_none() == PendingChoice.FINISH


def _dispose(
    connection: Connection,
    old: Lot,
    request: LotRequest,
    choice: PendingChoice,
    new_id: Callable[[], str],
    now: datetime,
) -> int:
    """Do with the waiting jobs of a lot as was chosen; return their number."""
    waiting = (job.c.lot_id == old.id, job.c.state == JobState.PENDING)
    match choice:
        case PendingChoice.FINISH:
            return connection.execute(select(func.count()).select_from(job).where(*waiting)).scalar_one()
        case PendingChoice.REFLASH:
            word = f"to be flashed anew with {request.product} [{request.recipe_hash[:8]}], by {request.person}"
        case PendingChoice.SCRAP:
            word = f"scrapped by {request.person}, when {request.product} [{request.recipe_hash[:8]}] succeeded its lot"
            # Without a mark the next hand that finds one in the box has it made anew.
            for mac in connection.execute(select(job.c.board_mac).where(*waiting).order_by(job.c.sequence)).scalars():
                said = BoardEventRow(
                    id=new_id(), mac=mac, event=BoardEvent.MARK_SCRAPPED, person=request.person, reason=word
                )
                boards.add_event(connection, said, now)
    values = closed_as_aborted(Reason.STOPPED_BY_REQUEST, word, now)
    return connection.execute(update(job).where(*waiting).values(**values)).rowcount
