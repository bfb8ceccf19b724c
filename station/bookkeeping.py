"""What the records allow now, and what waits for them: the clerk of the floor.

The clerk is one thread that every few seconds looks whether a row could be written, whether recipe and image on disk are
still what was loaded, which lot is open and which boards wait for their test; it also writes results that the records could
not take at first, and what was learned about a slot. All state lives on the event loop, which never waits for a disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from station.errors import ConfigurationError, ImageChanged, RecordsUnwritable
from station.model import (
    CommittedJob,
    JobEnd,
    JobStart,
    JobState,
    Light,
    Lot,
    LotState,
    PendingJob,
    Plug,
    format_chip_id,
)
from station.ports import Books, Gauges
from station.properties import ANY_SLOT, Learned, SlotProperties
from station.reasons import Reason, words_for
from station.recipe import Recipe, check_unchanged
from station.selftest import vendor_of
from station.slotmap import remember
from station.slotwords import Texts
from station.views import PendingView
from station.visit import Finding, Held, VisitResult, write_down

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A held result and the plug it belongs to."""

    plug: Plug
    held: Held


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkNow:
    """What the bench may make now."""

    lot: Lot | None
    unreleased: str = ""
    """Why the recipe may not be used, empty when it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What the clerk saw at one look."""

    writable: bool
    image_changed: str
    work: WorkNow
    pending: tuple[PendingJob, ...]
    rejected: int
    numbers_left: Mapping[str, int]


class Bookkeeping:
    """What the records said last, and the results that they still have to take. Used on the event loop."""

    def __init__(
        self,
        *,
        recipe: Recipe | None,
        lot: Lot | None,
        orders: Callable[[], WorkNow],
        books: Books,
        gauges: Gauges,
        now: Callable[[], datetime],
        on_record: Callable[[JobStart, JobEnd], None],
    ) -> None:
        self.writable = True
        self.image_changed = ""
        """The problem with recipe or image on disk; empty when they are what was loaded."""
        self.lot = lot
        self.unreleased = ""
        """Why the recipe that is loaded may not be used, although it is there; empty when it may."""
        self.pending: tuple[PendingJob, ...] = ()
        """The boards that wait for their test, longest waiting first."""
        self.some_pending = False
        """Whether any board waits for its test, as far as it was heard."""
        self._numbers_left: Mapping[str, int] = {}
        self.rejected = 0
        """Modules that a person booked out of the current lot by hand."""
        self._recipe, self._orders = recipe, orders
        self._books, self._gauges, self._now, self._on_record = books, gauges, now, on_record
        self._waiting: list[_Waiting] = []
        self._writing = asyncio.Lock()
        self._clerk = ThreadPoolExecutor(1, thread_name_prefix="clerk")

    @property
    def held(self) -> int:
        """How many finished results wait to be written."""
        return len(self._waiting)

    @property
    def lot_is_open(self) -> bool:
        """Whether the work order asks for the very recipe that is loaded."""
        lot, recipe = self.lot, self._recipe
        return lot is not None and recipe is not None and lot.state is LotState.OPEN and lot.recipe_hash == recipe.hash

    async def look(self) -> None:
        """Ask the clerk to look once."""
        seen = await asyncio.get_running_loop().run_in_executor(self._clerk, self._look)
        self.writable, self.image_changed = seen.writable, seen.image_changed
        self.pending, self.rejected = seen.pending, seen.rejected
        self.some_pending = bool(seen.pending)
        self.lot, self.unreleased = seen.work.lot, seen.work.unreleased
        oldest_s = max(((self._now() - job.since).total_seconds() for job in self.pending), default=0.0)
        self._gauges.pending_jobs(len(self.pending), max(0.0, oldest_s))
        self._gauges.rejected(self.rejected)
        self._numbers_left = seen.numbers_left
        self._gauges.numbers_left(self._numbers_left)
        self._gauges.database_backlog(self.held)

    def job_ended(self, job: CommittedJob) -> None:
        """A job was read back: what it says of waiting boards holds at once, before the next look."""
        self.pending = tuple(
            waiting for waiting in self.pending if waiting.id != job.id or job.state is JobState.PENDING
        )
        self.some_pending = bool(self.pending) or job.state is JobState.PENDING

    def visit_ended(self, plug: Plug, result: VisitResult, light: Light, texts: Texts) -> None:
        """A visit ended, and its slot shows `light` and `texts` now: log it, and take from it what holds for the bench."""
        match result:
            case CommittedJob():
                self.job_ended(result)
                say = log.info if light is Light.PASS else log.warning
                say(
                    "job.ended",
                    slot=plug.slot,
                    job=result.id,
                    mac=result.mac,
                    state=result.state,
                    outcome=result.outcome,
                    reason=result.reason,
                    detail=result.detail,
                    words=texts.words,
                    deed=texts.deed,
                )
            case Finding():
                self._gauges.visit_finding(result.reason)
                log.warning(
                    "visit.found",
                    slot=plug.slot,
                    reason=result.reason,
                    detail=result.detail,
                    words=texts.words,
                    deed=texts.deed,
                )
                self.writable &= result.reason is not Reason.RECORDS_UNWRITABLE
                if result.reason is Reason.IMAGE_CHANGED:
                    self.image_changed = result.detail
            case Held():
                self.hold(plug, result)
                row = result.rows[0]
                log.error("job.held", slot=plug.slot, job=row.start.id, outcome=row.end.outcome)

    def hold(self, plug: Plug, held: Held) -> None:
        """Keep a result that the records could not take."""
        self.writable = False
        self._waiting.append(_Waiting(plug=plug, held=held))

    async def write_held(self, written: Callable[[Plug, CommittedJob], None]) -> None:
        """Offer every held result to the records once; one at a time, also when books are kept and closed at once."""
        loop = asyncio.get_running_loop()
        async with self._writing:
            while self._waiting:
                waiting = self._waiting[0]
                try:
                    committed = await loop.run_in_executor(
                        self._clerk, write_down, waiting.held, self._books, self._on_record
                    )
                except RecordsUnwritable:
                    self.writable = False
                    break
                self._waiting.remove(waiting)
                log.info("job.written", slot=waiting.plug.slot, job=committed.id, outcome=committed.outcome)
                written(waiting.plug, committed)
        self._gauges.database_backlog(self.held)

    def remember(self, state_dir: Path, label: str, place: str, learned: Learned, adapter: str) -> None:
        """Let the clerk keep what was learned about a slot; what cannot be written is logged and learned again."""
        self._clerk.submit(_remember, state_dir, label, place, learned, adapter, self._now())

    def close(self) -> None:
        """Say what is lost, and let the clerk go."""
        for waiting in self._waiting:
            row = waiting.held.rows[0]
            log.error("job.lost", job=row.start.id, slot=waiting.plug.slot, outcome=row.end.outcome)
        self._clerk.shutdown()

    def _look(self) -> _Look:
        """In the clerk's thread: records, image, work order, boards that wait."""
        writable, pending, rejected = self._books.writable(), self.pending, self.rejected
        work, numbers_left = WorkNow(lot=self.lot, unreleased=self.unreleased), self._numbers_left
        try:
            if self._recipe is not None:
                work = self._orders()
            pending = tuple(self._books.pending())
            rejected = self._books.rejected(work.lot.id) if work.lot is not None else 0
            numbers_left = self._books.numbers_left()
        except RecordsUnwritable:
            writable = False
        changed = ""
        if self._recipe is not None:
            try:
                check_unchanged(self._recipe)
            except ImageChanged as error:
                changed = str(error)
        return _Look(
            writable=writable,
            image_changed=changed,
            work=work,
            pending=pending,
            rejected=rejected,
            numbers_left=numbers_left,
        )


def pending_views(jobs: Sequence[PendingJob], slots: Mapping[str, SlotProperties]) -> tuple[PendingView, ...]:
    """Return what a person sees of the boards that wait; `slots` by label."""
    return tuple(
        PendingView(
            mac=job.identity.mac,
            chip_id=format_chip_id(job.identity.chip_id),
            slot=job.slot,
            product=job.lot.product,
            since=job.since.isoformat(timespec="seconds"),
            words=words_for(
                Reason(job.reason or Reason.AWAITS_RUN_MODE),
                job.detail.partition("\n")[0],
                slots.get(job.slot, ANY_SLOT),
            ),
        )
        for job in jobs
    )


def count_job(gauges: Gauges, start: JobStart, end: JobEnd) -> None:
    """Tell the metrics of a job that is on record; called from the slot's thread."""
    slot = start.plug.slot
    first_attempt = start.attempt == 1 and end.flash_touched
    gauges.job_finished(slot, end, first_attempt=first_attempt)
    if first_attempt and end.state is JobState.CLOSED and start.flash is not None:
        gauges.flash_vendor(vendor_of(start.flash.jedec_id))
    for phase in end.phases:
        if phase.outcome != "SKIPPED":
            gauges.phase_finished(phase.phase, phase.duration_s)
    gauges.bytes_flashed(slot, end.bytes_flashed)
    for _ in range(end.baud_fallbacks):
        gauges.baud_fallback(slot)


def _remember(state_dir: Path, label: str, place: str, learned: Learned, adapter: str, at: datetime) -> None:
    """In the clerk's thread."""
    try:
        remember(state_dir, label, place, learned, adapter=adapter, at=at)
    except (OSError, ConfigurationError) as error:
        log.error("slot.not_remembered", slot=label, place=place, problem=str(error))  # noqa: TRY400 - no traceback
