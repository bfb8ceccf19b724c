"""All slots of the bench together: who is plugged in where, what keeps them from working, and what a person sees of it.

The `Floor` holds the slots, turns the watcher's snapshots into plugs and unplugs (uevents are only hints to look again), and
hands visits and looks to the slots' threads. It lives on the event loop and never blocks it: every touch of the database goes
through a thread. It decides nothing about boards.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import structlog

from station.bookkeeping import Bookkeeping, pending_views
from station.config import Config
from station.errors import ConfigurationError
from station.job import run_visit
from station.lookout import looks_with
from station.model import (
    CommittedJob,
    Light,
    Lot,
    Phase,
    Plug,
    Programmer,
    StopCause,
    job_as_json,
)
from station.notices import BenchState, notices, slots_for_test
from station.ports import Books, Gauges, LightDriver, ProgrammerWatcher, Stop
from station.properties import Learned, SlotProperties, refusal
from station.reasons import Reason
from station.recipe import Recipe
from station.slot import Bench, Slot
from station.slotmap import CONFIGURED, DEFAULT, KnownSlot, load_slot_map, next_label, read_taught, write_taught
from station.transitions import Blocked
from station.views import PENDING_SHOWN, PendingView, Progress, StationView
from station.visit import Finding, Held, Tools, Visit, VisitResult

MOST_SLOTS = 256
TICK_S = 0.25
T = TypeVar("T")
log = structlog.get_logger()


class Floor:
    """Every slot of the bench."""

    def __init__(
        self,
        *,
        config: Config,
        slot_map: Mapping[str, KnownSlot],
        recipe: Recipe | None,
        lot: Lot | None,
        watcher: ProgrammerWatcher,
        tools: Tools,
        books: Books,
        gauges: Gauges,
        lights: Sequence[LightDriver],
    ) -> None:
        self._config, self._recipe = config, recipe
        self._watcher, self._books = watcher, books
        self._tools = tools = replace(tools, learn=self._learned)
        self._gauges, self._lights = gauges, tuple(lights)
        self._clerk = Bookkeeping(
            recipe=recipe,
            lot=lot,
            require_lot=config.work.require_lot,
            books=books,
            gauges=gauges,
            now=tools.now,
            on_record=tools.on_record,
        )
        self._map: dict[str, KnownSlot] = {}
        self._slots: dict[str, Slot] = {}
        self._strangers: dict[str, Slot] = {}
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._revision = 0
        self._watchers: set[asyncio.Future[None]] = set()
        self._threads = ThreadPoolExecutor(MOST_SLOTS, thread_name_prefix="slot")
        self._bench = Bench(
            blocked=self._blocked,
            start_visit=self._start_visit,
            looks=looks_with(tools, self._in_thread),
            changed=self._slot_changed,
            ended=self._visit_ended,
            broken=self._visit_broken,
            released=tools.claims.release,
            free_slot=self._free_slot,
            settings=config.flashing,
            clock=tools.clock,
            now=tools.now,
        )
        for known in slot_map.values():
            self._add_slot(known)
        tools.claims.on_contest = self._contested
        tools.claims.on_lifted = self._lifted
        tools.claims.confirm = self._confirm

    # -- who is plugged in -----------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Make the slots agree with what is attached now. Cheap enough for every uevent."""
        self._loop = asyncio.get_running_loop()
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
                if slot.label in self._map and slot.known:
                    slot.become(self._map[slot.label].properties_with(_kind_of(programmer)))
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
        await self._clerk.look()
        if self._clerk.writable and not self._closing:
            await self._clerk.write_held(self._written)
        self.changed()

    # -- what a person sees ----------------------------------------------------------------------------------------

    def view(self) -> StationView:
        """Return the whole bench as it is now."""
        recipe, lot, clerk = self._recipe, self._clerk.lot, self._clerk
        ready = recipe is not None and clerk.writable and self._watcher.heard() and not clerk.image_changed
        properties = self._properties()
        return StationView(
            station_id=self._config.station_id,
            product=recipe.name if recipe else "",
            recipe_version=recipe.version if recipe else "",
            recipe_hash=recipe.short_hash if recipe else "",
            lot_state=lot.state if lot else "",
            lot_person=lot.person if lot else "",
            notices=self._notices(properties),
            slots=tuple(slot.view() for slot in [*self._slots.values(), *self._strangers.values()]),
            pending=pending_views(clerk.pending[:PENDING_SHOWN], properties),
            pending_count=len(clerk.pending),
            rejected_count=clerk.rejected,
            ready=ready,
            udev_heard=self._watcher.heard(),
            database_writable=clerk.writable,
            recipe_loaded=recipe is not None,
            light_healthy=self._lights_healthy(),
        )

    def jobs(self, limit: int) -> Sequence[Mapping[str, object]]:
        """Return the last jobs from the records; called from a thread."""
        return [job_as_json(job) for job in self._books.jobs(limit)]

    def pending(self) -> Sequence[PendingView]:
        """Return every board that waits for its test, from the records; called from a thread."""
        return pending_views(self._books.pending(), self._properties())

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
        await self._clerk.write_held(self._written)
        self._threads.shutdown()
        self._clerk.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _add_slot(self, known: KnownSlot) -> Slot:
        self._map[known.label] = known
        slot = self._slots[known.label] = Slot(known.label, known.place, self._bench, properties=known.properties)
        self._gauges.add_slot(known.label)
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
                known = load_slot_map(self._config)[label]
            except (OSError, ConfigurationError) as error:
                log.error("slot.not_enrolled", slot=label, place=place, problem=str(error))  # noqa: TRY400 - no traceback
            else:
                log.info("slot.enrolled", slot=label, place=place)
                return self._add_slot(known)
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
        if self._clerk.image_changed:
            return Blocked(Reason.IMAGE_CHANGED, self._clerk.image_changed)
        if not self._clerk.writable:
            return Blocked(Reason.RECORDS_UNWRITABLE)
        if self._closing or not self._clerk.lot_is_open:
            return Blocked(Reason.NO_WORK_ORDER)
        return None

    def _free_slot(self, label: str) -> str:
        """Return the first empty slot of the map that could take what `label` has; empty when all are taken."""
        role = self._slots[label].properties.role
        free = (other for other, slot in self._slots.items() if slot.free and slot.properties.role is role)
        return next((other for other in free if other != label), "")

    def _properties(self) -> dict[str, SlotProperties]:
        return {label: slot.properties for label, slot in dict(self._slots).items()}

    def _notices(self, properties: Mapping[str, SlotProperties]) -> tuple[str, ...]:
        clerk = self._clerk
        return notices(
            BenchState(
                writable=clerk.writable,
                held=clerk.held,
                image_changed=clerk.image_changed,
                has_recipe=self._recipe is not None,
                lot_is_open=clerk.lot_is_open,
                udev_heard=self._watcher.heard(),
                lights_healthy=self._lights_healthy(),
                slots=properties,
            )
        )

    async def _start_visit(self, plug: Plug, stop: Stop, tell: Callable[[Progress], None]) -> VisitResult:
        assert self._recipe is not None  # noqa: S101 - _blocked() keeps a slot without a recipe waiting
        assert self._clerk.lot is not None  # noqa: S101 - likewise
        phases: list[Phase] = []

        def tell_and_log(progress: Progress) -> None:
            if progress.mac and "mac" not in structlog.contextvars.get_contextvars():
                structlog.contextvars.bind_contextvars(mac=progress.mac)
            if not phases or phases[-1] is not progress.phase:
                phases.append(progress.phase)
                log.info("phase.began", phase=progress.phase)
            tell(progress)

        properties = self._properties()
        visit = Visit(
            id=self._tools.new_id(),
            plug=plug,
            recipe=self._recipe,
            lot=self._clerk.lot,
            stop=stop,
            tell=tell_and_log,
            properties=properties[plug.slot],
            test_slots=slots_for_test(plug.slot, properties),
            some_pending=self._clerk.some_pending,
        )
        with structlog.contextvars.bound_contextvars(slot=plug.slot, visit=visit.id):
            log.info("visit.began", plug=plug.number, node=plug.programmer.node)
            context = contextvars.copy_context()
        return await self._in_thread(lambda: context.run(run_visit, visit, self._tools))

    def _in_thread(self, work: Callable[[], T]) -> Awaitable[T]:
        """Do it in a thread of the slots."""
        self._loop = asyncio.get_running_loop()
        return self._loop.run_in_executor(self._threads, work)

    def _slot_changed(self, slot: Slot) -> None:
        self._show(slot)
        self.changed()

    def _show(self, slot: Slot) -> None:
        for light in self._lights if slot.known else ():
            light.show(slot.label, slot.light)

    def _lights_healthy(self) -> bool:
        return all(light.healthy() for light in self._lights)

    def _visit_ended(self, slot: Slot, plug: Plug, result: VisitResult) -> None:
        texts, clerk = slot.texts, self._clerk
        match result:
            case CommittedJob():
                clerk.job_ended(result)
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
                    words=texts.words,
                    deed=texts.deed,
                )
            case Finding():
                self._gauges.visit_finding(result.reason)
                log.warning(
                    "visit.found",
                    slot=slot.label,
                    reason=result.reason,
                    detail=result.detail,
                    words=texts.words,
                    deed=texts.deed,
                )
                clerk.writable &= result.reason is not Reason.RECORDS_UNWRITABLE
                if result.reason is Reason.IMAGE_CHANGED:
                    clerk.image_changed = result.detail
            case Held():
                clerk.hold(plug, result)
                log.error("job.held", slot=slot.label, job=result.rows[0].start.id, outcome=result.rows[0].end.outcome)
        self.changed()

    def _written(self, plug: Plug, committed: CommittedJob) -> None:
        slot = self._slots.get(plug.slot)
        if slot is not None:
            slot.recorded(plug, committed)

    def _visit_broken(self, slot: Slot, error: BaseException) -> None:
        log.error("visit.broken", slot=slot.label, exc_info=error)

    # -- what visits say in their own threads ------------------------------------------------------------------------

    def _contested(self, label: str, other: str) -> None:
        """The board in slot `label`, already done perhaps, is not the only one with its MAC."""
        self._tell_slot(label, lambda slot: slot.contested(other))

    def _lifted(self, label: str, mac: str) -> None:
        """The board with this MAC was asked for in slot `label` and did not answer."""
        self._tell_slot(label, lambda slot: slot.lifted(mac))

    def _confirm(self, label: str, mac: str) -> Future[bool]:
        """Ask slot `label` whether the board with this MAC is there now."""
        slot = self._slots.get(label)
        if self._loop is None or slot is None:
            nobody: Future[bool] = Future()
            nobody.set_result(False)
            return nobody
        return asyncio.run_coroutine_threadsafe(slot.answers(mac), self._loop)

    def _learned(self, label: str, learned: Learned) -> None:
        """A visit found out something about its slot: the next one begins with it, and so does the next start."""
        self._tell_slot(label, lambda slot: self._take_learned(slot, learned))

    def _tell_slot(self, label: str, what: Callable[[Slot], None]) -> None:
        if self._loop is not None and label in self._slots:
            self._loop.call_soon_threadsafe(what, self._slots[label])

    def _take_learned(self, slot: Slot, learned: Learned) -> None:
        known, plug = self._map[slot.label], slot.plug
        kind = _kind_of(plug.programmer) if plug is not None else known.adapter
        properties = known.properties_with(kind).learned(reset=learned.reset, gpio0=learned.gpio0)
        if refusal(properties):
            return
        told = {name: source for name, source in known.evidence.items() if source in (CONFIGURED, DEFAULT)}
        self._map[slot.label] = replace(known, properties=properties, evidence=told, adapter=kind)
        log.info("slot.learned", slot=slot.label, reset=learned.reset, gpio0=learned.gpio0, evidence=learned.evidence)
        slot.become(properties)
        self._clerk.remember(self._config.state_dir, slot.label, slot.place, learned, kind)


def _kind_of(programmer: Programmer) -> str:
    """Which kind of adapter this is: what was learned with one kind says nothing about another."""
    return f"{programmer.usb_id} {programmer.adapter_version}".strip()
