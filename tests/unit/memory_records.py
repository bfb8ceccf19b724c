"""Records in memory that refuse what a test wants refused, and a station's tools around one scripted board."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from station.adapters.littlefs import make_filesystem
from station.claims import Claims
from station.config import FlashingSection
from station.errors import RecordsUnwritable
from station.layouts import Layout
from station.model import (
    CommittedJob,
    HostFacts,
    JobEnd,
    JobStart,
    JobState,
    KnownBoard,
    Lot,
    LotState,
    PendingJob,
    Phase,
    Plug,
    VisitEnd,
)
from station.ports import Recorder
from station.properties import Gpio0, Learned, Reset, SlotProperties
from station.recipe import Recipe
from station.visit import Tools, Visit
from tests.unit.scripted_board import PROGRAMMER, InstantStop, ScriptedBoard
from tests.unit.scripted_talk import ScriptedFlasher, ScriptedOpener, ScriptedRepl

FACTS = HostFacts(
    station_id="test",
    station_version="0",
    esptool_version="0",
    kernel_version="0",
    boot_id="b",
    clock_synchronised=None,
)
SETTINGS = FlashingSection(identity_reads_over_s=0.3)
BEGAN = datetime(2025, 11, 22, tzinfo=UTC)
AUTO = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES)
STICK = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND)


@dataclass(slots=True)
class MemoryRecords:
    """A recorder; `refuse` names the calls that cannot be written now."""

    board: ScriptedBoard
    """Whose journal the calls are noted in."""
    refuse: set[str] = field(default_factory=set)
    known: KnownBoard | None = None
    visits: dict[str, VisitEnd | None] = field(default_factory=dict)
    starts: dict[str, JobStart] = field(default_factory=dict)
    layouts: dict[tuple[str, int], Layout] = field(default_factory=dict)
    ends: dict[str, JobEnd] = field(default_factory=dict)
    """What stands in the job's row: a later visit adds to what an earlier one left."""

    def _may(self, call: str) -> None:
        if call in self.refuse:
            raise RecordsUnwritable("the disk is full")

    def begin_visit(self, visit_id: str, plug: Plug) -> None:
        """A visit's row."""
        self._may("begin_visit")
        assert visit_id not in self.visits
        self.visits[visit_id] = None
        self.board.note("visit row")

    def end_visit(self, visit_id: str, end: VisitEnd) -> None:
        """Complete it."""
        self._may("end_visit")
        assert visit_id in self.visits
        assert end.job_id is None or end.job_id in self.starts
        self.visits[visit_id] = end
        self.board.note("visit ended")

    def known_board(self, mac: str) -> KnownBoard | None:
        """What the test says is known."""
        self._may("known_board")
        self.board.note("looked up")
        return self.known

    def pending_job(self, mac: str) -> PendingJob | None:
        """The newest that waits for this board."""
        self._may("pending_job")
        waiting = [job_id for job_id in self.starts if self._waits(job_id, mac)]
        return self._pending(waiting[-1]) if waiting else None

    def returns_at_ground(self, job_id: str) -> int:
        """How many visits of it found GPIO0 at GND again."""
        self._may("returns_at_ground")
        at_ground = ("awaits_run_mode", "awaits_test_slot", "never_started")
        ended = [end for end in self.visits.values() if end is not None and end.job_id == job_id]
        return sum(end.finding in at_ground for end in ended)

    def pending_macs(self) -> set[str]:
        """Whose jobs wait."""
        return {start.observed_mac for job_id, start in self.starts.items() if self._waits(job_id, start.observed_mac)}

    def number_in_lot(self, job_id: str) -> int:
        """Which board of its lot it is, in the order of first attempts."""
        self._may("number_in_lot")
        macs = dict.fromkeys(start.observed_mac for start in self.starts.values())
        return 1 + list(macs).index(self.starts[job_id].observed_mac)

    def known_layout(self, firmware_sha256: str, flash_bytes: int) -> Layout | None:
        """What an earlier board showed."""
        self._may("known_layout")
        return self.layouts.get((firmware_sha256, flash_bytes))

    def learn_layout(self, firmware_sha256: str, flash_bytes: int, layout: Layout) -> None:
        """The first one stays."""
        self._may("learn_layout")
        self.layouts.setdefault((firmware_sha256, flash_bytes), layout)
        self.board.note("layout learned")

    def begin_job(self, start: JobStart) -> None:
        """A job's row, running."""
        self._may("begin_job")
        assert start.id not in self.starts
        self.starts[start.id] = start
        self.board.note("job row running")

    def finish_job(self, job_id: str, end: JobEnd) -> CommittedJob:
        """Its end, read back; a closed one stays as it is."""
        self._may("finish_job")
        before = self.ends.get(job_id)
        if before is None or before.state is JobState.PENDING:
            self.ends[job_id] = end if before is None else _added(before, end)
            self.board.note(f"job row {end.state}")
        return self._committed(job_id)

    def _waits(self, job_id: str, mac: str) -> bool:
        end = self.ends.get(job_id)
        return end is not None and end.state is JobState.PENDING and self.starts[job_id].observed_mac == mac

    def _committed(self, job_id: str) -> CommittedJob:
        start, end = self.starts[job_id], self.ends[job_id]
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
            attempt=start.attempt,
            boot_evidence=end.boot_evidence,
        )

    def _pending(self, job_id: str) -> PendingJob:
        start, end = self.starts[job_id], self.ends[job_id]
        assert start.identity is not None
        assert start.flash is not None
        return PendingJob(
            id=job_id,
            identity=start.identity,
            flash=start.flash,
            lot=start.lot,
            slot=start.plug.slot,
            since=end.ended_at,
            reason=end.reason,
            detail=end.detail,
            attempt=start.attempt,
            flash_mode=end.flash_mode,
            firmware_sha256=start.firmware_sha256,
            measurements=end.measurements,
        )


def _added(before: JobEnd, end: JobEnd) -> JobEnd:
    """What a row says after a later visit: the phases and measurements of both."""
    return replace(
        end,
        phases=(*before.phases, *end.phases),
        measurements=(*before.measurements, *end.measurements),
        duration_s=before.duration_s + end.duration_s,
        baud_used=before.baud_used if end.baud_used is None else end.baud_used,
        boot_evidence=end.boot_evidence or before.boot_evidence,
        flash_touched=before.flash_touched or end.flash_touched,
        bytes_flashed=before.bytes_flashed + end.bytes_flashed,
    )


def lot_for(recipe: Recipe) -> Lot:
    """An open lot for this recipe."""
    return Lot(id="lot", recipe_hash=recipe.hash, product=recipe.name, person="x", state=LotState.OPEN, standing=True)


def tools_for(
    board: ScriptedBoard,
    recorder: Recorder,
    *,
    claims: Claims | None = None,
    settings: FlashingSection = SETTINGS,
    learned: list[Learned] | None = None,
    ids: itertools.count[int] | None = None,
) -> Tools:
    """What a job uses, around one scripted board."""
    numbers = ids or itertools.count(1)
    kept = [] if learned is None else learned
    return Tools(
        opener=ScriptedOpener(board),
        flasher=ScriptedFlasher(board),
        make_repl=ScriptedRepl,
        recorder=recorder,
        settings=settings,
        claims=claims or Claims(),
        host=lambda: FACTS,
        clock=board.clock,
        now=lambda: BEGAN + timedelta(seconds=board.clock.now_s),
        new_id=lambda: f"job-{next(numbers)}",
        on_record=lambda _start, end: board.note(f"counted {end.outcome or end.state}"),
        operator="Ada",
        make_filesystem=make_filesystem,
        learn=lambda _slot, what: kept.append(what),
    )


def visit_for(
    board: ScriptedBoard,
    recipe: Recipe,
    *,
    until: Phase | None = None,
    slot: str = "A1",
    visit_id: str = "visit-1",
    properties: SlotProperties | None = None,
) -> Visit:
    """One plug of one slot, whose properties are by default what the board's lines are."""
    return Visit(
        id=visit_id,
        plug=Plug(slot=slot, programmer=PROGRAMMER, number=1),
        recipe=recipe,
        lot=lot_for(recipe),
        stop=InstantStop(board.clock),
        tell=lambda _progress: None,
        properties=properties or (AUTO if board.lines else STICK),
        until=until,
    )
