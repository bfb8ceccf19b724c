"""`station qualify`: boards of a first day measured slot by slot, and what came of it kept as a file.

A person plugs one board after another as told; each is measured by `probing` and put on record as a job that was stopped
by request, in a work order of its own: its flash is written, so the records must know, and nobody may take it for a
PASS. What was measured is in `qualification.json` after every board, whatever ends the next one. Promises never to run beside a
daemon, and never to write a board that a person marked, that passed or that waits for its test, unless asked to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import msgspec

from station.adapters.esp8266 import EsptoolFlasher
from station.adapters.host import host_facts, only_daemon
from station.adapters.logs import one_line
from station.adapters.records import Database, utc_now
from station.adapters.repl import RawRepl
from station.config import Config
from station.errors import ConfigurationError, LineStopped, RecordsUnwritable, StationError
from station.model import (
    Plug,
    Programmer,
    StopCause,
)
from station.orders import load_work
from station.ports import LineOpener, ProgrammerWatcher, Stop
from station.properties import Learned, Reset, SlotProperties
from station.qualification import NOTHING, BoardResult, SlotResult, adapter_kind, keep, ladder_for
from station.qualifying.probe_record import Order, ProbeEntry, work_order
from station.qualifying.probelink import ProbeLink
from station.qualifying.probing import BoardProbe, ProbePlan, Seen
from station.reasons import Reason, words_for
from station.recipe import Recipe
from station.slotmap import KnownSlot, load_slot_map
from station.verdict import Verdict, verdict_of, verdict_of_stop
from station.views import Progress

BOARD_DEADLINE_S = 1800.0
"""A board takes two minutes; one whose rates all break, and that is slow, a quarter of an hour."""
_TICK_S = 0.1
_KEPT = "what was measured of it is kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class QualifyRequest:
    """What the command line asks for."""

    boards: int | None = None
    """How many in all; None: one per slot."""
    slots: tuple[str, ...] = ()
    """Which slots, in this order; empty: all of the map."""
    again: bool = False
    """Also boards that passed, that wait for their test or that were returned or scrapped."""
    plan: ProbePlan = field(default_factory=ProbePlan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who plugs the boards in: what is said goes there, and what is pressed comes back."""

    say: Callable[[str], None]
    show: Callable[[str, Progress], None] = lambda _slot, _progress: None
    """Called on the event loop with every sign of progress in a slot."""
    pressed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the person says that the board was changed without unplugging the programmer."""
    finish: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it shall end."""


async def qualify(
    config: Config, request: QualifyRequest, person: Person, *, watcher: ProgrammerWatcher, opener: LineOpener
) -> tuple[SlotResult, ...]:
    """Measure so many boards over the slots; return what was measured, by slot, in the order of the slots.

    Raises `ConfigurationError` before anything is opened, also while a daemon runs, and `RecordsUnwritable`.
    """
    recipe = _recipe_of(config)
    slots = _slots_of(config, request.slots)
    flasher = EsptoolFlasher()
    facts = host_facts(config.station_id, flasher.version)
    with ExitStack() as stack:
        stack.enter_context(only_daemon(config.state_dir))
        books = stack.enter_context(Database.open(config.database_url, station_id=config.station_id))
        bench = _Bench(
            config=config,
            order=Order(
                recipe=recipe,
                lot=work_order(config, books, recipe),
                operator=config.station.operator,
                facts=facts,
                again=request.again,
            ),
            books=books,
            flasher=flasher,
            watcher=watcher,
            opener=opener,
            person=person,
            request=request,
        )
        watcher.start(bench.hint.set)
        try:
            return await bench.work(slots, request.boards or len(slots))
        finally:
            watcher.stop()


@dataclass(slots=True, kw_only=True)
class _Bench:
    """The slots while they are measured, one after the other. Lives on the event loop."""

    config: Config
    order: Order
    books: Database
    flasher: EsptoolFlasher
    watcher: ProgrammerWatcher
    opener: LineOpener
    person: Person
    request: QualifyRequest
    hint: asyncio.Event = field(default_factory=asyncio.Event)
    boards: dict[str, list[BoardResult]] = field(default_factory=dict)
    adapters: dict[str, str] = field(default_factory=dict)
    done: dict[str, SlotResult] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    """Label -> the plug that was looked at last: the next board takes another one, or a word of the person."""
    plugs: int = 0

    async def work(self, slots: Sequence[KnownSlot], boards: int) -> tuple[SlotResult, ...]:
        """One board after the other, round the slots."""
        for number in range(boards):
            slot, plan = slots[number % len(slots)], self.request.plan
            said = f"board {number + 1} of {boards}"
            while not self.person.finish.is_set():
                programmer = await self._await_programmer(slot, said)
                if programmer is None:
                    break
                seen = await self._measure(slot, programmer, plan)
                if seen.complete:
                    break
                if seen.lost_at_baud is not None:
                    # It would be lost there again: nothing in this slot fetches a board back.
                    bauds = tuple(baud for baud in plan.bauds if baud < (seen.lost_at_baud or 0))
                    plan = replace(plan, bauds=bauds)
        return tuple(self.done[slot.label] for slot in slots if slot.label in self.done)

    # -- the hand ----------------------------------------------------------------------------------------------------

    async def _await_programmer(self, slot: KnownSlot, said: str) -> Programmer | None:
        """Ask for a board and wait for it; None when it shall end."""
        used = self.used.get(slot.label)
        programmer = self._attached(slot)
        if programmer is None or programmer.generation == used:
            self.person.say(f"{slot.label}: put a board into the programmer and plug it in ({said})")
        self.person.pressed.clear()
        while not self.person.finish.is_set():
            programmer = self._attached(slot)
            if programmer is not None and (programmer.generation != used or self.person.pressed.is_set()):
                self.used[slot.label] = programmer.generation
                self.person.say(f"{slot.label}: measuring {said}")
                return programmer
            await self._pause(self.config.usb.reconcile_s)
        return None

    def _attached(self, slot: KnownSlot) -> Programmer | None:
        return next((each for each in self.watcher.snapshot() if each.place == slot.place), None)

    async def _pause(self, at_most_s: float) -> None:
        """Wait for a hint of udev, for the person, or for the end; uevents get lost."""
        waits = [asyncio.ensure_future(each.wait()) for each in (self.hint, self.person.pressed, self.person.finish)]
        try:
            await asyncio.wait(waits, timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        self.hint.clear()

    # -- one board ---------------------------------------------------------------------------------------------------

    async def _measure(self, slot: KnownSlot, programmer: Programmer, plan: ProbePlan) -> Seen:
        """Measure the board in this plug; keep, record and say what came of it."""
        self.plugs += 1
        plug = Plug(slot=slot.label, programmer=programmer, number=self.plugs)
        entry = ProbeEntry(self.books, self.order, plug)
        stop, deadline = Stop(), _Deadline(self.config.flashing.progress_deadline_s)
        loop = asyncio.get_running_loop()

        def tell(progress: Progress) -> None:
            deadline.moved(progress.allow_s)
            loop.call_soon_threadsafe(self.person.show, slot.label, progress)

        link = self._link(slot, programmer, stop, entry, tell)
        probe = BoardProbe(
            link,
            plan=plan,
            recipe=self.order.recipe,
            make_repl=RawRepl,
            boot_deadline_s=self.config.flashing.boot_deadline_s,
            check_deadline_s=self.config.flashing.check_deadline_s,
            clock=time.monotonic,
            stop=stop,
            tell=tell,
            admit=entry.admit,
            begin=entry.begin,
        )
        await asyncio.to_thread(entry.open)
        running = loop.run_in_executor(None, entry.measure, probe, link)
        while not running.done():
            await asyncio.wait([running], timeout=_TICK_S)
            self._stop_if_due(stop, slot, programmer, deadline)
        verdict = _verdict_of(running.exception())
        result = _result(probe.seen, verdict, link.properties)
        if entry.begun or probe.seen.complete:
            await asyncio.to_thread(self._keep, slot, adapter_kind(programmer), result)
        await asyncio.to_thread(entry.close, result, verdict)
        self.person.say(_said(slot.label, result, kept=entry.begun))
        return probe.seen

    def _stop_if_due(self, stop: Stop, slot: KnownSlot, programmer: Programmer, deadline: _Deadline) -> None:
        """End the measuring where its programmer, its time or the person's patience is gone."""
        if self.person.finish.is_set():
            stop.request(StopCause.SHUTDOWN)
        if deadline.is_over:
            stop.request(StopCause.DEADLINE)
        if self.hint.is_set() or deadline.looks_again(self.config.usb.reconcile_s):
            self.hint.clear()
            there = self._attached(slot)
            if there is None or there.generation != programmer.generation:
                stop.request(StopCause.UNPLUGGED)

    def _link(
        self, slot: KnownSlot, programmer: Programmer, stop: Stop, entry: ProbeEntry, tell: Callable[[Progress], None]
    ) -> ProbeLink:
        """What the lines reach is found out anew; where the configuration says that they reach nothing, nobody tries."""
        ladder = ladder_for(self.config.flashing.baud_ladder, slot.place, "", NOTHING)
        told = self.config.slot_properties(slot.label)
        reset = told.reset if told.reset is Reset.NONE else None

        def learn(learned: Learned) -> None:
            link.properties = link.properties.learned(reset=learned.reset, gpio0=learned.gpio0)

        link = ProbeLink(
            programmer=programmer,
            opener=self.opener,
            flasher=self.flasher,
            stop=stop,
            settings=msgspec.structs.replace(self.config.flashing, baud_ladder=ladder),
            evidence=entry.evidence,
            clock=time.monotonic,
            tell=tell,
            properties=SlotProperties(reset=reset, moves=told.moves),
            learn=learn,
        )
        return link

    def _keep(self, slot: KnownSlot, adapter: str, result: BoardResult) -> None:
        """Put it into the file at once; another kind of adapter in the same place begins anew."""
        if self.adapters.setdefault(slot.label, adapter) != adapter:
            self.adapters[slot.label], self.boards[slot.label] = adapter, []
        boards = self.boards.setdefault(slot.label, [])
        boards.append(result)
        measured = SlotResult(
            slot=slot.label,
            place=slot.place,
            adapter=adapter,
            made_at=result.measured_at,
            versions={
                "station": self.order.facts.station_version,
                "esptool": self.order.facts.esptool_version,
                "kernel": self.order.facts.kernel_version,
            },
            boards=tuple(boards),
        )
        keep(self.config.state_dir, measured)
        self.done[slot.label] = measured


class _Deadline:
    """When a board that gives no sign of progress is given up, or one that takes for ever. Told from a thread."""

    def __init__(self, progress_deadline_s: float) -> None:
        self._progress_s, self._end = progress_deadline_s, time.monotonic() + BOARD_DEADLINE_S
        self._due, self._looked = time.monotonic() + progress_deadline_s, time.monotonic()

    def moved(self, allow_s: float | None) -> None:
        """There is progress; the next sign of it may take so long."""
        self._due = time.monotonic() + (allow_s or self._progress_s)

    @property
    def is_over(self) -> bool:
        """Whether it is to be given up now."""
        return time.monotonic() > min(self._due, self._end)

    def looks_again(self, every_s: float) -> bool:
        """Whether it is time to look at the sockets again without a hint."""
        if time.monotonic() < self._looked + every_s:
            return False
        self._looked = time.monotonic()
        return True


def _recipe_of(config: Config) -> Recipe:
    recipe = load_work(config)
    if recipe is None:
        raise ConfigurationError(
            file="the configuration",
            key="work.recipe",
            problem="it names no recipe, and every board gets the image of one at the end",
            fix="name one; station recipe new makes it",
        )
    return recipe


def _slots_of(config: Config, labels: Sequence[str]) -> tuple[KnownSlot, ...]:
    known = load_slot_map(config)
    unknown = [label for label in labels if label not in known]
    if unknown or not known:
        problem = f"there is no slot {', '.join(unknown)}" if unknown else "there are no slots yet"
        raise ConfigurationError(
            file=str(config.state_dir),
            problem=problem,
            fix="station slots list shows them, station slots teach makes them",
        )
    return tuple(known[label] for label in labels) or tuple(known.values())


def _verdict_of(error: BaseException | None) -> Verdict | None:
    """What ended the measuring; None for its own end. Raises what is no matter of one board."""
    match error:
        case None:
            return None
        case LineStopped():
            return verdict_of_stop(error.cause)
        case RecordsUnwritable():
            raise error
        case StationError():
            return verdict_of(error)
        case _:
            raise error


def _result(seen: Seen, verdict: Verdict | None, slot: SlotProperties) -> BoardResult:
    ended = words_for(verdict.reason or Reason.STATION_BUG, verdict.detail, slot) if verdict is not None else ""
    if seen.lost_at_baud is not None:
        ended = f"lost at {seen.lost_at_baud} baud, and nothing in this slot resets it ({ended})"
    return BoardResult(
        mac=seen.identity.mac if seen.identity is not None else "",
        measured_at=utc_now().isoformat(timespec="seconds"),
        flash=f"{seen.chip.jedec_id:#08x}" if seen.chip is not None else "",
        size_bytes=seen.chip.size_bytes if seen.chip is not None else None,
        complete=seen.complete,
        ended=one_line(ended),
        values={name: round(value, 4) if isinstance(value, float) else value for name, value in seen.values.items()},
        rates=tuple(seen.rates),
    )


def _said(label: str, result: BoardResult, *, kept: bool) -> str:
    if result.complete:
        clean = f"clean up to {result.clean_baud} baud" if result.clean_baud else "not clean even at the lowest rate"
        return f"{label}: {result.mac} is measured: {clean}"
    parts = (
        f"{label}: {result.ended}",
        _KEPT if kept else "",
        "unplug it, then this board or another one can be measured here",
    )
    return "; ".join(part for part in parts if part)
