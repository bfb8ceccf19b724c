"""All slots of the bench together: who is plugged in where, what keeps them from working, and what a person sees of it.

The `Floor` holds the slots, turns the watcher's snapshots into plugs and unplugs (uevents are only hints to look again),
hands visits to the slots' threads and keeps results that the records could not take yet. It lives on the event loop and
never blocks it: every touch of the database goes through a thread. It decides nothing about boards.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from station.config import Config
from station.errors import ConfigurationError, ImageChanged, RecordsUnwritable
from station.job import run_visit
from station.model import (
    CommittedJob,
    JobEnd,
    JobStart,
    Light,
    Lot,
    LotState,
    Phase,
    Plug,
    Progress,
    StationView,
    StopCause,
    job_as_json,
)
from station.ports import Books, Gauges, LightDriver, ProgrammerWatcher, Stop
from station.reasons import MEANINGS, Reason, words_for
from station.recipe import Recipe, check_unchanged
from station.slot import Bench, Blocked, Slot
from station.slotmap import next_label, read_taught, write_taught
from station.visit import Finding, Held, Tools, Visit, VisitResult, write_down

MOST_SLOTS = 256
TICK_S = 0.25
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A held result and the plug it belongs to."""

    plug: Plug
    held: Held


class Floor:
    """Every slot of the bench."""

    def __init__(
        self,
        *,
        config: Config,
        slot_map: Mapping[str, str],
        recipe: Recipe | None,
        lot: Lot | None,
        watcher: ProgrammerWatcher,
        tools: Tools,
        books: Books,
        gauges: Gauges,
        lights: Sequence[LightDriver],
    ) -> None:
        self._config, self._recipe, self._lot = config, recipe, lot
        self._watcher, self._tools, self._books = watcher, tools, books
        self._gauges, self._lights = gauges, tuple(lights)
        self._slots: dict[str, Slot] = {}
        self._strangers: dict[str, Slot] = {}
        self._waiting: list[_Waiting] = []
        self._writing_held = asyncio.Lock()
        self._writable = True
        self._image_changed = ""
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._revision = 0
        self._watchers: set[asyncio.Future[None]] = set()
        self._threads = ThreadPoolExecutor(MOST_SLOTS, thread_name_prefix="slot")
        self._clerk = ThreadPoolExecutor(1, thread_name_prefix="clerk")
        self._bench = Bench(
            blocked=self._blocked,
            start_visit=self._start_visit,
            changed=self._slot_changed,
            ended=self._visit_ended,
            broken=self._visit_broken,
            released=tools.claims.release,
            free_slot=self._free_slot,
            settings=config.flashing,
            clock=tools.clock,
            now=tools.now,
        )
        for label, place in slot_map.items():
            self._add_slot(label, place)
        tools.claims.on_contest = self._contested

    # -- who is plugged in -----------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Make the slots agree with what is attached now. Cheap enough for every uevent."""
        attached = {programmer.place: programmer for programmer in self._watcher.snapshot()}
        for slot in [*self._slots.values(), *self._strangers.values()]:
            here, there = slot.programmer, attached.get(slot.place)
            if here is not None and (there is None or there.generation != here.generation):
                log.info("programmer.unplugged", slot=slot.label, node=here.node, state=slot.state)
                slot.unplugged()
                self._strangers.pop(slot.place, None)
        for place, programmer in attached.items():
            slot = self._slot_at(place) or self._stranger(place, programmer.hub_path)
            if slot.programmer is None:
                log.info("programmer.plugged", slot=slot.label, node=programmer.node, place=place, known=slot.known)
                began = self._tools.clock()
                slot.plugged(programmer)
                if slot.busy:
                    self._gauges.slot_to_busy(self._tools.clock() - began)

    def tick(self) -> None:
        """End visits that are past their deadline, and begin those whose obstacle is gone."""
        for slot in self._slots.values():
            slot.tick()
            slot.try_to_start()

    async def keep_books(self) -> None:
        """Look once whether the records can be written, the image is unchanged, a lot is open; write what was held."""
        loop = asyncio.get_running_loop()
        self._writable, self._image_changed, lot = await loop.run_in_executor(self._clerk, self._ask_the_clerk)
        if self._config.work.require_lot:
            self._lot = lot
        if self._writable and not self._closing:
            await self._write_held()
        self._gauges.database_backlog(len(self._waiting))
        self.changed()

    # -- what a person sees ----------------------------------------------------------------------------------------

    def view(self) -> StationView:
        """Return the whole bench as it is now."""
        recipe, lot = self._recipe, self._lot
        ready = recipe is not None and self._writable and self._watcher.heard() and not self._image_changed
        return StationView(
            station_id=self._config.station_id,
            product=recipe.name if recipe else "",
            recipe_version=recipe.version if recipe else "",
            recipe_hash=recipe.short_hash if recipe else "",
            lot_state=lot.state if lot else "",
            lot_person=lot.person if lot else "",
            notices=self._notices(),
            slots=tuple(slot.view() for slot in [*self._slots.values(), *self._strangers.values()]),
            ready=ready,
            udev_heard=self._watcher.heard(),
            database_writable=self._writable,
            recipe_loaded=recipe is not None,
            light_healthy=self._lights_healthy(),
        )

    def jobs(self, limit: int) -> Sequence[Mapping[str, object]]:
        """Return the last jobs from the records; called from a thread."""
        return [job_as_json(job) for job in self._books.jobs(limit)]

    async def wait_change(self, seen: int) -> int:
        """Return the revision of the view as soon as it is greater than `seen`."""
        while self._revision <= seen:
            waiter = asyncio.get_running_loop().create_future()
            self._watchers.add(waiter)
            try:
                await waiter
            finally:
                self._watchers.discard(waiter)
        return self._revision

    def changed(self) -> None:
        """Something a person can see has changed."""
        self._revision += 1
        for waiter in self._watchers:
            if not waiter.done():
                waiter.set_result(None)
        self._gauges.station_view(self.view())

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The slots of the map by label."""
        return self._slots

    # -- the end ---------------------------------------------------------------------------------------------------

    async def close(self, finish_s: float) -> None:
        """Start nothing new, give running jobs `finish_s`, then abort them, and leave when all is on record."""
        self._closing = True
        running = [slot for slot in self._slots.values() if slot.busy]
        if running:
            log.info("station.finishing", jobs=len(running), at_most_s=finish_s)
            await asyncio.wait([asyncio.create_task(slot.finished()) for slot in running], timeout=finish_s)
        await asyncio.gather(*(slot.stop(StopCause.SHUTDOWN) for slot in self._slots.values()))
        await self._write_held()
        for waiting in self._waiting:
            log.error(
                "job.lost",
                job=waiting.held.rows[0].start.id,
                slot=waiting.plug.slot,
                outcome=waiting.held.rows[0].end.outcome,
            )
        self._threads.shutdown()
        self._clerk.shutdown()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _add_slot(self, label: str, place: str) -> Slot:
        slot = self._slots[label] = Slot(label, place, self._bench)
        self._gauges.add_slot(label)
        self._show(slot)
        return slot

    def _slot_at(self, place: str) -> Slot | None:
        known = next((slot for slot in self._slots.values() if slot.place == place), None)
        return known or self._strangers.get(place)

    def _stranger(self, place: str, hub_path: str) -> Slot:
        """A programmer in a place that is not in the map: the next free slot if that is wanted, else only shown."""
        if self._config.usb.enroll == "auto":
            label = next_label({label: slot.place for label, slot in self._slots.items()})
            try:
                write_taught(self._config.state_dir, {**read_taught(self._config.state_dir), label: place})
            except (OSError, ConfigurationError) as error:
                log.error("slot.not_enrolled", slot=label, place=place, problem=str(error))  # noqa: TRY400 - no traceback
            else:
                log.info("slot.enrolled", slot=label, place=place)
                return self._add_slot(label, place)
        label = hub_path or place
        # Everything about a slot hangs on its label: a stranger must never have that of a slot of the map.
        label = f"{label}?" if label in self._slots else label
        slot = self._strangers[place] = Slot(label, place, self._bench, known=False)
        return slot

    def _blocked(self, label: str) -> Blocked | None:
        """Return why this slot may not work now; the first obstacle is the one to clear first."""
        if label not in self._slots:
            return Blocked(Reason.UNKNOWN_PLACE)
        if self._recipe is None:
            return Blocked(Reason.NO_RECIPE)
        if self._image_changed:
            return Blocked(Reason.IMAGE_CHANGED, self._image_changed)
        if not self._writable:
            return Blocked(Reason.RECORDS_UNWRITABLE)
        if self._closing or not self._lot_is_open():
            return Blocked(Reason.NO_WORK_ORDER)
        return None

    def _free_slot(self, label: str) -> str:
        """Return the first empty slot of the map that is not `label`; empty when all are taken."""
        empty = (other for other, slot in self._slots.items() if other != label and slot.light is Light.EMPTY)
        return next(empty, "")

    def _lot_is_open(self) -> bool:
        """Whether the work order asks for the very recipe that is loaded."""
        lot, recipe = self._lot, self._recipe
        return lot is not None and recipe is not None and lot.state is LotState.OPEN and lot.recipe_hash == recipe.hash

    def _notices(self) -> tuple[str, ...]:
        notices = []
        if not self._writable:
            notices.append(f"{words_for(Reason.RECORDS_UNWRITABLE)}: {MEANINGS[Reason.RECORDS_UNWRITABLE].deed}")
        if self._waiting:
            notices.append(f"{len(self._waiting)} finished results wait to be written: do not switch the station off")
        if self._image_changed:
            notices.append(f"{words_for(Reason.IMAGE_CHANGED)}: {self._image_changed}; restart the station on purpose")
        if self._recipe is None:
            notices.append("no recipe: set work.recipe in the configuration (station recipe new makes one), restart")
        elif not self._lot_is_open():
            notices.append(f"{words_for(Reason.NO_WORK_ORDER)} (station lot open --by NAME)")
        if not self._watcher.heard():
            notices.append("udev is silent: plugs are found by looking every few seconds only")
        if not self._lights_healthy():
            notices.append("the status light is dead: watch this page")
        return tuple(notices)

    async def _start_visit(self, plug: Plug, stop: Stop, tell: Callable[[Progress], None]) -> VisitResult:
        assert self._recipe is not None  # noqa: S101 - _blocked() keeps a slot without a recipe waiting
        assert self._lot is not None  # noqa: S101 - likewise
        phases: list[Phase] = []

        def tell_and_log(progress: Progress) -> None:
            if progress.mac and "mac" not in structlog.contextvars.get_contextvars():
                structlog.contextvars.bind_contextvars(mac=progress.mac)
            if not phases or phases[-1] is not progress.phase:
                phases.append(progress.phase)
                log.info("phase.began", phase=progress.phase)
            tell(progress)

        visit = Visit(
            id=self._tools.new_id(), plug=plug, recipe=self._recipe, lot=self._lot, stop=stop, tell=tell_and_log
        )
        with structlog.contextvars.bound_contextvars(slot=plug.slot, visit=visit.id):
            log.info("visit.began", plug=plug.number, node=plug.programmer.node)
            context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        return await self._loop.run_in_executor(self._threads, context.run, run_visit, visit, self._tools)

    def _slot_changed(self, slot: Slot) -> None:
        self._show(slot)
        self.changed()

    def _show(self, slot: Slot) -> None:
        for light in self._lights if slot.known else ():
            light.show(slot.label, slot.light)

    def _lights_healthy(self) -> bool:
        return all(light.healthy() for light in self._lights)

    def _visit_ended(self, slot: Slot, plug: Plug, result: VisitResult) -> None:
        match result:
            case CommittedJob():
                say = log.info if slot.light is Light.PASS else log.warning
                say(
                    "job.ended",
                    slot=slot.label,
                    job=result.id,
                    mac=result.mac,
                    state=result.state,
                    outcome=result.outcome,
                    reason=result.reason,
                    detail=result.detail,
                )
            case Finding():
                self._gauges.visit_finding(result.reason)
                log.warning("visit.found", slot=slot.label, reason=result.reason, detail=result.detail)
                self._writable &= result.reason is not Reason.RECORDS_UNWRITABLE
                if result.reason is Reason.IMAGE_CHANGED:
                    self._image_changed = result.detail
            case Held():
                self._writable = False
                self._waiting.append(_Waiting(plug=plug, held=result))
                log.error("job.held", slot=slot.label, job=result.rows[0].start.id, outcome=result.rows[0].end.outcome)
        self.changed()

    def _contested(self, slot: str, other: str) -> None:
        """In a slot's thread: the board in `slot`, already done perhaps, is not the only one with its MAC."""
        if self._loop is not None and slot in self._slots:
            self._loop.call_soon_threadsafe(self._slots[slot].contested, other)

    def _visit_broken(self, slot: Slot, error: BaseException) -> None:
        log.error("visit.broken", slot=slot.label, exc_info=error)

    def _ask_the_clerk(self) -> tuple[bool, str, Lot | None]:
        """In the clerk's thread: records, image, work order."""
        writable, changed, lot = self._books.writable(), "", self._lot
        try:
            self._gauges.pending_jobs(self._books.pending_jobs())
        except RecordsUnwritable:
            writable = False
        if self._recipe is not None:
            try:
                check_unchanged(self._recipe)
            except ImageChanged as error:
                changed = str(error)
            if self._config.work.require_lot:
                try:
                    lot = self._books.current_lot()
                except RecordsUnwritable:
                    writable = False
        return writable, changed, lot

    async def _write_held(self) -> None:
        """Offer every held result to the records once; one at a time, also when books are kept and closed at once."""
        loop = asyncio.get_running_loop()
        async with self._writing_held:
            while self._waiting:
                waiting = self._waiting[0]
                try:
                    committed = await loop.run_in_executor(
                        self._clerk, write_down, waiting.held, self._books, self._tools.on_record
                    )
                except RecordsUnwritable:
                    self._writable = False
                    return
                self._waiting.remove(waiting)
                log.info("job.written", slot=waiting.plug.slot, job=committed.id, outcome=committed.outcome)
                slot = self._slots.get(waiting.plug.slot)
                if slot is not None:
                    slot.recorded(waiting.plug, committed)


def count_job(gauges: Gauges, start: JobStart, end: JobEnd) -> None:
    """Tell the metrics of a job that is on record; called from the slot's thread."""
    slot = start.plug.slot
    gauges.job_finished(slot, end, first_attempt=start.attempt == 1 and end.flash_touched)
    for phase in end.phases:
        if phase.outcome != "SKIPPED":
            gauges.phase_finished(phase.phase, phase.duration_s)
    gauges.bytes_flashed(slot, end.bytes_flashed)
    for _ in range(end.baud_fallbacks):
        gauges.baud_fallback(slot)
