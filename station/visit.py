"""What a visit is given and what comes of it: the tools, the order, and the three ways in which it ends on record.

A visit is one plug of one slot. These are the words in which `station.slot` and `station.floor` speak with `station.job`;
nothing here talks to a board. `Claims` is the one thing that all visits of a station share.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from station.config import FlashingSection
from station.errors import JobEnded
from station.model import CommittedJob, HostFacts, JobEnd, JobStart, Lot, Phase, Plug, Progress, VisitEnd
from station.ports import Clock, Flasher, LineOpener, Recorder, ReplMaker, Stop
from station.reasons import Reason
from station.recipe import Recipe


class Claims:
    """Which MAC is alive in which slot right now, to notice one MAC in two places. Thread-safe."""

    def __init__(self) -> None:
        self.on_contest: Callable[[str, str], None] = lambda _slot, _other: None
        """Called, in the second board's thread, with the slot that had the MAC first and the one that has it now."""
        self._macs: dict[str, str] = {}
        self._contested: dict[str, str] = {}
        self._lock = threading.Lock()

    def claim(self, mac: str, slot: str) -> None:
        """Say that `mac` answers in `slot`; raises `JobEnded` in this slot, and later in the other, when it is in two."""
        with self._lock:
            self._macs[slot] = mac
            others = [other for other, claimed in self._macs.items() if claimed == mac and other != slot]
            for other in others:
                self._contested[other], self._contested[slot] = slot, other
        for other in others:
            self.on_contest(other, slot)
        self.check(slot)

    def check(self, slot: str) -> None:
        """Raise `JobEnded` when the MAC of the board in `slot` answers in another slot too."""
        with self._lock:
            other = self._contested.get(slot)
        if other is not None:
            raise JobEnded(Reason.DUPLICATE_MAC, f"{slot} and {other}")

    def release(self, slot: str) -> None:
        """The plug of `slot` ended: its board is not there any more."""
        with self._lock:
            self._macs.pop(slot, None)
            self._contested.pop(slot, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every job uses; the same for the life of the station."""

    opener: LineOpener
    flasher: Flasher
    make_repl: ReplMaker
    recorder: Recorder
    settings: FlashingSection
    claims: Claims
    host: Callable[[], HostFacts]
    clock: Clock
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    on_record: Callable[[JobStart, JobEnd], None]
    """Called in the slot's thread after a job was committed and read back."""
    operator: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One plug of one slot, and what shall be made of the board in it."""

    id: str
    plug: Plug
    recipe: Recipe
    lot: Lot
    stop: Stop
    tell: Callable[[Progress], None]
    until: Phase | None = None
    """Stop after this phase on request; never a PASS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a visit found that never became a job."""

    visit_id: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job from its beginning to its end, ready to be written."""

    start: JobStart
    end: JobEnd
    begun: bool
    """Whether the row exists already, running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The finished rows of a visit that the records could not take yet; green nowhere, and written when they can."""

    rows: tuple[JobRow, ...]
    """The visit's own job, and after it that of another board that answered in its place."""
    visit_end: VisitEnd


VisitResult = Finding | CommittedJob | Held


def write_down(held: Held, recorder: Recorder, on_record: Callable[[JobStart, JobEnd], None]) -> CommittedJob:
    """Write the rows of a finished visit and return the last one as it was read back; raises `RecordsUnwritable`.

    May be called again after a failure: the records take each row once. `on_record` hears of the rows when all are there.
    """
    for row in held.rows:
        if not row.begun:
            recorder.begin_job(row.start)
        committed = recorder.finish_job(row.start.id, row.end)
    recorder.end_visit(held.rows[0].start.visit_id, held.visit_end)
    for row in held.rows:
        on_record(row.start, row.end)
    return committed
