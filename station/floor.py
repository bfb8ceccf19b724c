"""All slots of the bench together: who is plugged in where, who works there, and what a person sees of it.

The `Floor` holds the slots, turns the watcher's snapshots into plugs and unplugs (uevents are only hints to look again), and
hands visits and looks to threads of the slots. It lives on the event loop and never blocks it: every touch of the database
goes through a thread. It decides nothing about boards, and its end waits for no thread that does not come back.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

import structlog

from station.bookkeeping import Bookkeeping, WorkNow, pending_views
from station.config import Config
from station.gate import Gate
from station.hubs import short_hub
from station.job import run_visit
from station.lookout import looks_with
from station.model import CommittedJob, Lot, Phase, Plug, Programmer, StopCause, job_as_json
from station.notices import BenchState, notices, slots_for_test
from station.ports import Books, Gauges, LightDriver, ProgrammerWatcher, Stop
from station.properties import Learned, SlotProperties
from station.recipe import Recipe
from station.roster import Roster
from station.slot import Bench, Slot
from station.slotmap import KnownSlot
from station.threads import OwnThreads
from station.transitions import RESULTS, SlotState
from station.views import PENDING_SHOWN, Diagnosis, PendingView, Progress, StationView
from station.visit import Tools, Visit, VisitResult

TICK_S = 0.25
GIVE_BACK_S = 35.0
"""So long the end of the station waits for its slots' ports: a close whose output cannot drain takes 31 s (faults.md B-9)."""
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
        lot: Lot | None = None,
        watcher: ProgrammerWatcher,
        tools: Tools,
        books: Books,
        gauges: Gauges,
        lights: Sequence[LightDriver],
        orders: Callable[[], WorkNow],
    ) -> None:
        self._config, self._recipe = config, recipe
        self._watcher, self._books = watcher, books
        self._tools = tools = replace(tools, learn=self._learned)
        self._gauges, self._lights = gauges, tuple(lights)
        self._clerk = Bookkeeping(
            recipe=recipe,
            lot=lot,
            orders=orders,
            books=books,
            gauges=gauges,
            now=tools.now,
            on_record=tools.on_record,
        )
        self._gate = Gate(recipe, self._clerk, tools, shifts=config.work.shifts, slots=lambda: self.slots)
        self._diagnoses: tuple[Diagnosis, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._revision = 0
        self._watchers: set[asyncio.Future[None]] = set()
        self._looked_at = tools.clock()
        self._blind = ""
        self._threads = OwnThreads("slot")
        bench = Bench(
            blocked=self._gate.blocked,
            start_visit=self._start_visit,
            looks=looks_with(tools, self._threads.begin),
            changed=self._slot_changed,
            ended=self._visit_ended,
            broken=self._visit_broken,
            stuck=self._slot_stuck,
            released=tools.claims.release,
            free_slot=self._free_slot,
            barred=self._gate.bars.of,
            settings=config.flashing,
            clock=tools.clock,
            now=tools.now,
        )
        self._roster = Roster(config, bench, slot_map, added=self._slot_added)
        tools.claims.on_contest = self._contested
        tools.claims.on_lifted = self._lifted
        tools.claims.confirm = self._confirm

    # -- who is plugged in -----------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Make the slots agree with what is attached now. Cheap enough for every uevent.

        Where nobody can say what is attached, nothing changes, and `blind_s` says for how long.
        """
        self._loop = asyncio.get_running_loop()
        try:
            attached = {programmer.place: programmer for programmer in self._watcher.snapshot()}
        except OSError as error:
            if self._blind != str(error):
                log.error("watcher.blind", problem=str(error))  # noqa: TRY400 - no traceback
            self._blind = str(error)
            return
        self._blind, self._looked_at = "", self._tools.clock()
        for slot in self._roster:
            here, there = slot.programmer, attached.get(slot.place)
            if here is not None and (there is None or there.generation != here.generation):
                log.info("programmer.unplugged", slot=slot.label, node=here.node, state=slot.state)
                # First of all: the visit that is cut off asks at once whether its hub is disturbed.
                lost = slot.state not in (*RESULTS, SlotState.LIFTED, SlotState.PULLED)
                self._tools.hubs.unplugged(slot.place, lost=lost, in_visit=slot.state is SlotState.BUSY)
                slot.unplugged()
                self._roster.forget(slot)
        for programmer in attached.values():
            slot = self._roster.slot_of(programmer)
            if slot.programmer is None:
                self._plugged(slot, programmer)
        self._roster.look_for_moved_hub(attached)

    def tick(self) -> None:
        """End visits that are past their deadline, and begin those whose obstacle is gone."""
        self._note_hubs()
        for slot in self.slots.values():
            slot.tick()
            slot.try_to_start()

    async def keep_books(self) -> None:
        """Look once whether the records can be written, the image is unchanged, a lot is open; write what was held."""
        await self._clerk.look()
        if self._clerk.writable and not self._gate.closed:
            await self._clerk.write_held(self._written)
        for label in await self._gate.look():
            self._slot_changed(self.slots[label])
        self._gauges.quarantined(len(self._gate.bars.quarantined))
        self.changed()

    # -- what a person sees ----------------------------------------------------------------------------------------

    def view(self) -> StationView:
        """Return the whole bench as it is now."""
        recipe, lot, clerk = self._recipe, self._clerk.lot, self._clerk
        ready = recipe is not None and clerk.writable and self._watcher.heard() and not clerk.image_changed
        properties = self._roster.properties
        return StationView(
            station_id=self._config.station_id,
            product=recipe.name if recipe else "",
            recipe_version=recipe.version if recipe else "",
            recipe_hash=recipe.short_hash if recipe else "",
            lot_state=lot.state if lot else "",
            lot_person=lot.person if lot else "",
            notices=self._notices(properties),
            slots=tuple(slot.view() for slot in self._roster.shown),
            pending=pending_views(clerk.pending[:PENDING_SHOWN], properties),
            pending_count=len(clerk.pending),
            rejected_count=clerk.rejected,
            ready=ready,
            udev_heard=self._watcher.heard(),
            database_writable=clerk.writable,
            recipe_loaded=recipe is not None,
            light_healthy=self._lights_healthy(),
            diagnoses=self._diagnoses,
        )

    def jobs(self, limit: int) -> Sequence[Mapping[str, object]]:
        """Return the last jobs from the records; called from a thread."""
        return [job_as_json(job) for job in self._books.jobs(limit)]

    def pending(self) -> Sequence[PendingView]:
        """Return every board that waits for its test, from the records; called from a thread."""
        return pending_views(self._books.pending(), self._roster.properties)

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

    def diagnosed(self, unwell: tuple[Diagnosis, ...]) -> None:
        """The doctor looked: this is all that is not well, worst first."""
        if unwell != self._diagnoses:
            self._diagnoses = unwell
            self.changed()

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
        return self._roster.slots

    @property
    def blind_s(self) -> float:
        """For how long nobody has seen who is plugged in."""
        return self._tools.clock() - self._looked_at

    # -- the end ---------------------------------------------------------------------------------------------------

    async def close(self, finish_s: float) -> None:
        """Start nothing new, give running jobs `finish_s`, then abort them, and leave when all is on record."""
        self._gate.closed = True
        running = [slot for slot in self.slots.values() if slot.busy]
        if running:
            log.info("station.finishing", jobs=len(running), at_most_s=finish_s)
            await asyncio.wait([asyncio.create_task(slot.finished()) for slot in running], timeout=finish_s)
        stopping = {asyncio.create_task(slot.stop(StopCause.SHUTDOWN)): slot for slot in self.slots.values()}
        if stopping:
            await asyncio.wait(stopping, timeout=GIVE_BACK_S)
        for task, slot in stopping.items():
            if not slot.line_is_back:
                log.error("slot.left_behind", slot=slot.label, state=slot.state)
            task.cancel()
            slot.abandon()
        await asyncio.gather(*stopping, return_exceptions=True)
        self._threads.join_finished()
        await self._clerk.write_held(self._written)
        self._clerk.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _slot_added(self, slot: Slot) -> None:
        self._gauges.add_slot(slot.label)
        self._show(slot)

    def _plugged(self, slot: Slot, programmer: Programmer) -> None:
        log.info("programmer.plugged", slot=slot.label, node=programmer.node, place=slot.place, known=slot.known)
        began = self._tools.clock()
        self._tools.hubs.plugged(slot.place)
        self._roster.meet(slot, programmer)
        slot.plugged(programmer)
        if slot.busy:
            self._gauges.slot_to_busy(self._tools.clock() - began)

    def _note_hubs(self) -> None:
        """Say once that a hub was disturbed, and once that it is still; waiting slots then go on by themselves.

        Not with the look that found it: what is lost with the next uevents belongs to the same line.
        """
        for news in self._tools.hubs.news():
            if news.places:
                log.error("hub.disturbed", hub=news.hub, slots=self._roster.labels_of(news.places))
                self._gauges.hub_disturbed()
            else:
                log.info("hub.stable", hub=news.hub)
            self.changed()

    def _free_slot(self, label: str) -> str:
        """Return the first empty slot of the map that could take what `label` has; empty when all are taken."""
        role = self.slots[label].properties.role
        free = (other for other, slot in self.slots.items() if slot.free and slot.properties.role is role)
        return next((other for other in free if other != label), "")

    def _notices(self, properties: Mapping[str, SlotProperties]) -> tuple[str, ...]:
        clerk, hubs = self._clerk, self._tools.hubs.all_disturbed()
        return notices(
            BenchState(
                writable=clerk.writable,
                held=clerk.held,
                image_changed=clerk.image_changed,
                has_recipe=self._recipe is not None,
                lot_is_open=clerk.lot_is_open,
                unreleased=clerk.unreleased,
                udev_heard=self._watcher.heard(),
                lights_healthy=self._lights_healthy(),
                slots=properties,
                diagnoses=self._diagnoses,
                moved_hub=self._roster.moved.labels if self._roster.moved else "",
                quarantined=self._gate.bars.quarantined,
                label_trouble=self._tools.label_trouble(),
                disturbed_hubs={short_hub(hub): self._roster.labels_of(places) for hub, places in hubs.items()},
            )
        )

    async def _start_visit(self, plug: Plug, stop: Stop, tell: Callable[[Progress], None]) -> VisitResult:
        assert self._recipe is not None  # noqa: S101 - the gate keeps a slot without a recipe waiting
        assert self._clerk.lot is not None  # noqa: S101 - likewise
        phases: list[Phase] = []

        def tell_and_log(progress: Progress) -> None:
            if progress.mac and "mac" not in structlog.contextvars.get_contextvars():
                structlog.contextvars.bind_contextvars(mac=progress.mac)
            if not phases or phases[-1] is not progress.phase:
                phases.append(progress.phase)
                log.info("phase.began", phase=progress.phase)
            tell(progress)

        properties = self._roster.properties
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
            shift_began=self._gate.shift_began(),
            siblings=self._roster.siblings_of(plug.slot),
            quarantine_after=self._config.work.quarantine_after,
            for_proofs_only=self._gate.for_proofs_only(plug.slot),
        )
        with structlog.contextvars.bound_contextvars(slot=plug.slot, visit=visit.id):
            log.info("visit.began", plug=plug.number, node=plug.programmer.node)
            context = contextvars.copy_context()
        return await self._threads.begin(lambda: context.run(run_visit, visit, self._tools))

    def _slot_changed(self, slot: Slot) -> None:
        self._show(slot)
        self.changed()

    def _show(self, slot: Slot) -> None:
        for light in self._lights if slot.known else ():
            light.show(slot.label, slot.light)

    def _lights_healthy(self) -> bool:
        return all(light.healthy() for light in self._lights)

    def _visit_ended(self, slot: Slot, plug: Plug, result: VisitResult) -> None:
        self._clerk.visit_ended(plug, result, slot.light, slot.texts)
        self.changed()

    def _written(self, plug: Plug, committed: CommittedJob) -> None:
        slot = self.slots.get(plug.slot)
        if slot is not None:
            slot.recorded(plug, committed)

    def _visit_broken(self, slot: Slot, error: BaseException) -> None:
        log.error("visit.broken", slot=slot.label, exc_info=error)

    def _slot_stuck(self, slot: Slot) -> None:
        log.error("slot.stuck", slot=slot.label, place=slot.place, state=slot.state)

    # -- what visits say in their own threads ------------------------------------------------------------------------

    def _contested(self, label: str, other: str) -> None:
        """The board in slot `label`, already done perhaps, is not the only one with its MAC."""
        self._tell_slot(label, lambda slot: slot.contested(other))

    def _lifted(self, label: str, mac: str) -> None:
        """The board with this MAC was asked for in slot `label` and did not answer."""
        self._tell_slot(label, lambda slot: slot.lifted(mac))

    def _confirm(self, label: str, mac: str) -> Future[bool]:
        """Ask slot `label` whether the board with this MAC is there now."""
        slot = self.slots.get(label)
        if self._loop is None or slot is None:
            nobody: Future[bool] = Future()
            nobody.set_result(False)
            return nobody
        return asyncio.run_coroutine_threadsafe(slot.answers(mac), self._loop)

    def _learned(self, label: str, learned: Learned) -> None:
        """A visit found out something about its slot: the next one begins with it, and so does the next start."""
        self._tell_slot(label, lambda slot: self._take_learned(slot, learned))

    def _tell_slot(self, label: str, what: Callable[[Slot], None]) -> None:
        if self._loop is not None and label in self.slots:
            self._loop.call_soon_threadsafe(what, self.slots[label])

    def _take_learned(self, slot: Slot, learned: Learned) -> None:
        kind = self._roster.learn(slot, learned)
        if kind is not None:
            self._clerk.remember(self._config.state_dir, slot.label, slot.place, learned, kind)
