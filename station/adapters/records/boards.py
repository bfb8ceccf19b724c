"""What the records know of a board: its passes and attempts, and what people said about it.

A person's word is a row of `board_event`, never changed and never taken away: a mark stands until `unmark`, a rework until
it is closed or used up by the next job of that board. Every function takes the connection of a transaction that somebody
else begins and commits.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from station.adapters.records.board_key import parse_board_key
from station.adapters.records.jobs import damage_is_named, next_sequence
from station.adapters.records.schema import board, board_event, job, lot
from station.errors import ConfigurationError
from station.model import BoardMark, EarlierPass, JobState, KnownBoard, LotState, Outcome, chip_id_from_mac
from station.reasons import Reason

AnyRow = Row[*tuple[Any, ...]]
# These jobs are in doubt about which board they saw, so their flash id is no evidence of what the MAC's own board carries.
_IDENTITY_IN_DOUBT = (Reason.MAC_REUSED, Reason.DUPLICATE_MAC)
_JUDGED = (Outcome.FAIL, Outcome.ERROR)


class BoardEvent(StrEnum):
    """What a named person said about a board."""

    MARK_GOLDEN = "mark_golden"
    MARK_RED = "mark_red"
    MARK_RETURNED = "mark_returned"
    MARK_SCRAPPED = "mark_scrapped"
    UNMARK = "unmark"
    """None of the marks holds any more."""
    REWORK_OPEN = "rework_open"
    """One more job may begin, whatever the records say against it."""
    REWORK_CLOSE = "rework_close"
    ACCEPT_FLASH = "accept_flash"
    """This MAC may carry this other flash chip."""


_MARKS = {
    BoardEvent.MARK_GOLDEN: BoardMark.GOLDEN,
    BoardEvent.MARK_RED: BoardMark.RED,
    BoardEvent.MARK_RETURNED: BoardMark.RETURNED,
    BoardEvent.MARK_SCRAPPED: BoardMark.SCRAPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardEventRow:
    """One thing a person said about a board."""

    id: str
    mac: str
    event: BoardEvent
    person: str
    reason: str
    flash_id: int | None = None
    """The JEDEC id that is accepted; None for every other event."""
    reason_code: str = ""
    """Of a board that is marked red: what it fails with, as `station.proving.enrolment` takes it."""


def known_board(connection: Connection, mac: str) -> KnownBoard | None:
    """Return what the records say about a MAC, None when they never heard of it."""
    events = connection.execute(
        select(board_event).where(board_event.c.mac == mac).order_by(board_event.c.sequence)
    ).all()
    if not events and connection.execute(select(board.c.mac).where(board.c.mac == mac)).first() is None:
        return None
    jobs = _jobs_of(connection, mac)
    after_pass = list(itertools.takewhile(lambda row: not _is_pass(row), jobs))
    since_pass = [row for row in after_pass if row.state == JobState.CLOSED]
    flash_ids = [row.flash_id for row in jobs if row.flash_id is not None and row.reason not in _IDENTITY_IN_DOUBT]
    with damage_is_named():
        return KnownBoard(
            mac=mac,
            flash_id=flash_ids[0] if flash_ids else None,
            attempts=sum(row.flash_touched for row in jobs),
            judged_attempts=sum(row.flash_touched and _is_judged(row) for row in since_pass),
            passes=tuple(_pass_of(row) for row in jobs if _is_pass(row)),
            attempts_since_pass=sum(row.flash_touched for row in after_pass),
            errors=frozenset((row.reason, row.slot) for row in since_pass if row.outcome == Outcome.ERROR),
            marks=_marks(events),
            rework_open=_rework_is_open(events, jobs),
            accepted_flash_ids=frozenset(e.flash_id for e in events if e.event == BoardEvent.ACCEPT_FLASH),
            enrolled=_enrolled(events),
        )


def add_event(connection: Connection, row: BoardEventRow, now: datetime) -> None:
    """Write what a person said, once; raises `ConfigurationError` when it contradicts the records or changes nothing."""
    if connection.execute(select(board_event.c.id).where(board_event.c.id == row.id)).first() is not None:
        return
    problem, fix = _objection(row, known_board(connection, row.mac))
    if problem:
        raise ConfigurationError(file=f"board {row.mac}", problem=problem, fix=fix)
    made = insert(board_event).values(
        id=row.id,
        sequence=next_sequence(connection, board_event),
        mac=row.mac,
        event=row.event,
        flash_id=row.flash_id,
        person=row.person,
        reason=row.reason,
        reason_code=row.reason_code,
        happened_at=now,
        job_sequence=connection.execute(select(func.max(job.c.sequence))).scalar() or 0,
    )
    connection.execute(made)


def find_mac(connection: Connection, key: str) -> str:
    """Return the MAC that a person means by a MAC or by a chip ID that names exactly one board.

    Raises ValueError for what is neither, and `ConfigurationError` for a chip ID of no board or of several.
    """
    mac, chip_ids = parse_board_key(key)
    if mac:
        return mac
    found = macs_of(connection, chip_ids)
    if not found:
        raise ConfigurationError(
            file=f"board {key}", problem="no board on record has this chip ID", fix="give the MAC: station report jobs"
        )
    if len(found) > 1:
        problem = f"{len(found)} boards share this chip ID: {', '.join(found)}"
        raise ConfigurationError(file=f"board {key}", problem=problem, fix="give the MAC of the one that is meant")
    return found[0]


def macs_of(connection: Connection, chip_ids: Sequence[int]) -> tuple[str, ...]:
    """Return the MACs on record that belong to these chip IDs, those that only a person has named included."""
    seen = connection.execute(select(board.c.mac).where(board.c.chip_id.in_(chip_ids))).scalars()
    named = connection.execute(select(board_event.c.mac).distinct()).scalars()
    return tuple(sorted({*seen, *(mac for mac in named if chip_id_from_mac(mac) in chip_ids)}))


def _jobs_of(connection: Connection, mac: str) -> Sequence[AnyRow]:
    """Newest first."""
    columns = (
        job.c.id,
        job.c.sequence,
        job.c.state,
        job.c.outcome,
        job.c.reason,
        job.c.slot,
        job.c.recipe_hash,
        job.c.flash_id,
        job.c.flash_touched,
        job.c.ended_at,
        lot.c.product,
        lot.c.state.label("lot_state"),
    )
    of_board = select(*columns).join(lot, lot.c.id == job.c.lot_id).where(job.c.board_mac == mac)
    return connection.execute(of_board.order_by(job.c.sequence.desc())).all()


def _is_judged(row: AnyRow) -> bool:
    """Whether it counts against the board: what a disturbed hub cut off does not, however often."""
    return row.outcome in _JUDGED and row.reason != Reason.HUB_DISTURBED


def _is_pass(row: AnyRow) -> bool:
    """A test of a board that was not flashed here is no PASS of ours, so it ends no count of failures either."""
    return bool(row.outcome == Outcome.PASS and row.flash_touched)


def _pass_of(row: AnyRow) -> EarlierPass:
    return EarlierPass(
        job_id=row.id,
        recipe_hash=row.recipe_hash,
        product=row.product,
        lot_state=LotState(row.lot_state),
        ended_at=row.ended_at,
    )


def _marks(events: Sequence[AnyRow]) -> frozenset[BoardMark]:
    marks: frozenset[BoardMark] = frozenset()
    for row in events:
        event = BoardEvent(row.event)
        if event is BoardEvent.UNMARK:
            marks = frozenset()
        elif event in _MARKS:
            marks |= {_MARKS[event]}
    return marks


def _enrolled(events: Sequence[AnyRow]) -> str:
    """What the last mark as red says."""
    return next((row.reason_code for row in reversed(events) if row.event == BoardEvent.MARK_RED), "")


def _rework_is_open(events: Sequence[AnyRow], jobs: Sequence[AnyRow]) -> bool:
    """The last word about a rework is that it is open, and no job of this board has begun since."""
    reworks = [row for row in events if row.event in (BoardEvent.REWORK_OPEN, BoardEvent.REWORK_CLOSE)]
    if not reworks or reworks[-1].event == BoardEvent.REWORK_CLOSE:
        return False
    return not jobs or jobs[0].sequence <= reworks[-1].job_sequence


def _objection(row: BoardEventRow, known: KnownBoard | None) -> tuple[str, str]:
    """Return problem and fix; the problem is empty when there is nothing against it."""
    if known is None and row.event not in _MARKS:
        return "the records have never seen this board", "look the MAC up: station report jobs"
    known = known or KnownBoard(mac=row.mac, flash_id=None, attempts=0)
    problem, fix = "", f"station board show {row.mac}"
    match row.event:
        case BoardEvent.MARK_GOLDEN if BoardMark.RED in known.marks:
            problem, fix = "it is marked red", f"station board unmark {row.mac} --by NAME --reason WHY"
        case BoardEvent.MARK_RED if BoardMark.GOLDEN in known.marks:
            problem, fix = "it is marked golden", f"station board unmark {row.mac} --by NAME --reason WHY"
        case BoardEvent.UNMARK if not known.marks:
            problem = "it carries no mark"
        case BoardEvent.REWORK_OPEN if known.rework_open:
            problem, fix = "a rework is open already", "let the board be made, or close the rework"
        case BoardEvent.REWORK_CLOSE if not known.rework_open:
            problem = "no rework is open"
        case BoardEvent.ACCEPT_FLASH if row.flash_id in {known.flash_id, *known.accepted_flash_ids}:
            problem = f"flash {row.flash_id:#08x} is on record for this board already"
        case _:
            pass
    return problem, fix
