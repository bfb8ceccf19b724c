"""Records in memory that refuse what a test wants refused, and a station's tools around one scripted board."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from station.config import FlashingSection
from station.errors import RecordsUnwritable
from station.model import CommittedJob, HostFacts, JobEnd, JobStart, KnownBoard, Lot, LotState, Phase, Plug, VisitEnd
from station.ports import Recorder
from station.recipe import Recipe
from station.visit import Claims, Tools, Visit
from tests.unit.scripted_board import PROGRAMMER, InstantStop, ScriptedBoard, ScriptedFlasher

FACTS = HostFacts(
    station_id="test",
    station_version="0",
    esptool_version="0",
    kernel_version="0",
    boot_id="b",
    clock_synchronised=None,
)
SETTINGS = FlashingSection(identity_reads_over_s=0.3)


@dataclass(slots=True)
class MemoryRecords:
    """A recorder; `refuse` names the calls that cannot be written now."""

    board: ScriptedBoard
    refuse: set[str] = field(default_factory=set)
    known: KnownBoard | None = None
    visits: dict[str, VisitEnd | None] = field(default_factory=dict)
    starts: dict[str, JobStart] = field(default_factory=dict)
    ends: dict[str, JobEnd] = field(default_factory=dict)

    def _may(self, call: str) -> None:
        if call in self.refuse:
            raise RecordsUnwritable("the disk is full")

    def begin_visit(self, visit_id: str, plug: Plug) -> None:
        """A visit's row."""
        self._may("begin_visit")
        self.visits[visit_id] = None
        self.board.note("visit row")

    def end_visit(self, visit_id: str, end: VisitEnd) -> None:
        """Complete it."""
        self._may("end_visit")
        assert visit_id in self.visits
        self.visits[visit_id] = end
        self.board.note("visit ended")

    def known_board(self, mac: str) -> KnownBoard | None:
        """What the test says is known."""
        self._may("known_board")
        self.board.note("looked up")
        return self.known

    def begin_job(self, start: JobStart) -> None:
        """A job's row, running."""
        self._may("begin_job")
        assert start.id not in self.starts
        self.starts[start.id] = start
        self.board.note("job row running")

    def finish_job(self, job_id: str, end: JobEnd) -> CommittedJob:
        """Its end, read back."""
        self._may("finish_job")
        self.ends[job_id] = end
        self.board.note(f"job row {end.state}")
        start = self.starts[job_id]
        return CommittedJob(
            id=job_id,
            slot=start.plug.slot,
            mac=start.identity.mac if start.identity else None,
            chip_id=start.identity.chip_id if start.identity else None,
            state=end.state,
            outcome=end.outcome,
            reason=end.reason,
            detail=end.detail,
            phases=end.phases,
            measurements=end.measurements,
        )


def lot_for(recipe: Recipe) -> Lot:
    """An open lot for this recipe."""
    return Lot(id="lot", recipe_hash=recipe.hash, product=recipe.name, person="x", state=LotState.OPEN, standing=True)


def tools_for(
    board: ScriptedBoard, recorder: Recorder, *, claims: Claims | None = None, settings: FlashingSection = SETTINGS
) -> Tools:
    """What a job uses, around one scripted board."""
    ids = itertools.count(1)
    began = datetime(2025, 11, 22, tzinfo=UTC)
    return Tools(
        opener=board,
        flasher=ScriptedFlasher(board),
        make_repl=board.make_repl,
        recorder=recorder,
        settings=settings,
        claims=claims or Claims(),
        host=lambda: FACTS,
        clock=board.clock,
        now=lambda: began + timedelta(seconds=board.clock.now_s),
        new_id=lambda: f"job-{next(ids)}",
        on_record=lambda _start, end: board.note(f"counted {end.outcome or end.state}"),
        operator="Ada",
    )


def visit_for(board: ScriptedBoard, recipe: Recipe, *, until: Phase | None = None, slot: str = "A1") -> Visit:
    """One plug of one slot."""
    return Visit(
        id="visit-1",
        plug=Plug(slot=slot, programmer=PROGRAMMER, number=1),
        recipe=recipe,
        lot=lot_for(recipe),
        stop=InstantStop(board.clock),
        tell=lambda _progress: None,
        until=until,
    )
