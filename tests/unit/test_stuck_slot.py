"""A slot whose thread does not come back: FAULT, alone, until it is back and its programmer was plugged in anew."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.adapters.records import utc_now
from station.errors import LineStopped
from station.lineowners import LET_GO_S
from station.model import Light, Outcome, Phase, Programmer, StopCause
from station.ports import Stop
from station.reasons import Reason
from station.slot import Slot
from station.threads import OwnThreads
from station.transitions import SlotState
from station.views import Progress
from tests.e2e.quick_board import QuickLine
from tests.unit.test_floor import World, play
from tests.unit.test_slot import FLASHING, PASS, Stage, finding, job, plugged, programmer, run, settle, shows, state_of

STUCK = finding(Reason.ADAPTER_HUNG)


async def overdue(stage: Stage, slot: Slot) -> None:
    """A visit that is past its deadline, and whose thread has not come back for as long as it may take."""
    await plugged(slot)
    stage.clock.now_s += FLASHING.progress_deadline_s
    slot.tick()
    assert stage.going[-1].stop.cause is StopCause.DEADLINE
    stage.clock.now_s += LET_GO_S
    slot.tick()
    await settle()


def test_a_visit_that_does_not_end_is_a_fault_with_a_reason() -> None:
    """Past the deadline and past the time its port may take: FAULT, the technician is called, said once."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        stage.clock.now_s += FLASHING.progress_deadline_s
        slot.tick()
        stage.clock.now_s += LET_GO_S - 1
        slot.tick()
        assert shows(slot) is Light.BUSY
        stage.clock.now_s += 1
        slot.tick()
        slot.tick()
        view = slot.view()
        assert (view.light, view.headline, view.reason) == (Light.FAULT, "CALL", "adapter_hung")
        assert stage.stuck == ["A1"]
        assert (slot.line_is_back, slot.busy) == (False, False)

    run(story)


@pytest.mark.parametrize("late", [job(outcome=Outcome.ERROR, reason="deadline"), PASS, finding(Reason.NO_ANSWER)])
def test_what_a_late_thread_brings_is_told_and_changes_no_light(late) -> None:  # type: ignore[no-untyped-def]
    """Its job is on record whatever it says, the light stays until the replug, and never becomes green."""

    async def story(stage: Stage, slot: Slot) -> None:
        await overdue(stage, slot)
        await stage.end(late)
        assert (shows(slot), slot.view().reason) == (Light.FAULT, "adapter_hung")
        assert (stage.ended, slot.visits_ended, slot.line_is_back) == ([late], 1, True)
        assert Light.PASS not in stage.lights
        slot.unplugged()
        assert shows(slot) is Light.EMPTY
        stage.clock.now_s += 10
        await plugged(slot, "2")
        assert shows(slot) is Light.BUSY
        await stage.end(PASS)
        assert shows(slot) is Light.PASS

    run(story)


def test_a_replug_before_the_thread_is_back_waits_as_a_fault_and_then_goes_on() -> None:
    """Nothing is opened while the old thread has the line; when it gives it back the new board begins by itself."""

    async def story(stage: Stage, slot: Slot) -> None:
        await overdue(stage, slot)
        slot.unplugged()
        assert (shows(slot), slot.free) == (Light.EMPTY, False)
        await plugged(slot, "2")
        slot.try_to_start()
        assert (shows(slot), slot.view().reason, len(stage.going)) == (Light.FAULT, "adapter_hung", 1)
        await stage.end(job(outcome=Outcome.ERROR, reason="deadline"))
        stage.clock.now_s += 10
        slot.try_to_start()
        await settle()
        assert (shows(slot), len(stage.going)) == (Light.BUSY, 2)

    run(story)


def test_a_pulled_visit_that_does_not_end_lets_the_next_programmer_say_so() -> None:
    """CLOSING for too long: the tile calls, and what was plugged in meanwhile waits, visibly, for the thread."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        slot.unplugged()
        slot.plugged(programmer("2"))
        stage.clock.now_s += LET_GO_S
        slot.tick()
        assert (state_of(slot), slot.view().reason) == (SlotState.WAITING, "adapter_hung")
        slot.unplugged()
        assert shows(slot) is Light.EMPTY
        await stage.end(STUCK)
        assert slot.line_is_back

    run(story)


def test_a_pulled_visit_that_does_not_end_is_said_of_an_empty_socket_too() -> None:
    """Nothing was plugged in after it: the tile keeps calling until somebody plugs a programmer in."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        slot.unplugged()
        stage.clock.now_s += LET_GO_S
        slot.tick()
        assert (state_of(slot), slot.view().reason, slot.view().headline) == (SlotState.PULLED, "adapter_hung", "CALL")

    run(story)


def test_a_thread_that_dies_late_frees_its_slot() -> None:
    """A mistake of ours after the slot was given up is logged as one, and the slot goes on after a replug."""

    async def story(stage: Stage, slot: Slot) -> None:
        await overdue(stage, slot)
        await stage.end(ZeroDivisionError("late"))
        assert (len(stage.broken), slot.line_is_back, shows(slot)) == (1, True, Light.FAULT)
        slot.unplugged()
        await plugged(slot, "2")
        assert shows(slot) is Light.BUSY

    run(story)


def test_a_stuck_slot_is_not_asked_for_its_board() -> None:
    """Whether its board is there cannot be looked up: its line is not free, so nobody waits for an answer."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        mac = "5c:cf:7f:dd:c1:42"
        stage.going[-1].tell(Progress(phase=Phase.CONNECT, mac=mac, chip_id=0xDDC142))
        await settle()
        stage.clock.now_s += FLASHING.job_deadline_s
        slot.tick()
        stage.clock.now_s += LET_GO_S
        slot.tick()
        assert shows(slot) is Light.FAULT
        assert not await asyncio.wait_for(slot.answers(mac), 5)
        assert stage.looks == []

    run(story)


def test_the_end_waits_for_no_slot_that_is_stuck_already() -> None:
    """A station that stops asks such a slot for nothing."""

    async def story(stage: Stage, slot: Slot) -> None:
        await overdue(stage, slot)
        await asyncio.wait_for(slot.stop(StopCause.SHUTDOWN), 5)
        slot.abandon()

    run(story)


# -- with real threads -------------------------------------------------------------------------------------------------


class Grip:
    """Lines in one place that are never given back: their close blocks until the test ends, as in a driver that hangs."""

    def __init__(self, world: World, place: str) -> None:
        self.over, self.holds = threading.Event(), threading.Event()
        self._open, self._place = world.bench.open, place
        world.bench.open = self.open

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> QuickLine:
        """Open it; closing it takes as long as the test does."""
        line = self._open(programmer, baud, stop, may_reset=may_reset)
        if programmer.place == self._place:
            line.close = self.close
        return line

    def close(self) -> None:
        """Never come back."""
        self.holds.set()
        self.over.wait()


@contextlib.contextmanager
def held(world: World, place: str) -> Iterator[Grip]:
    """The lines of this place are held until the context is left."""
    grip = Grip(world, place)
    try:
        yield grip
    finally:
        grip.over.set()


def test_one_stuck_slot_touches_no_other_and_its_job_is_on_record_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one close blocks, the next slot makes boards; the row runs on until the thread is back, and is then closed."""
    monkeypatch.setattr("station.lineowners.LET_GO_S", 0.2)

    async def story(world: World) -> None:
        world.start()
        with held(world, "hub:1"):
            world.plug("hub:1", 0, "hangs")
            await world.until(lambda: "hub:1" in world.bench.lines)
            world.floor.slots["A1"]._line.take(StopCause.DEADLINE)
            await world.shows("A1", SlotState.FAULT)
            assert world.view("A1").words == "programmer hangs: re-plug it"
            for number in (1, 2):
                world.plug("hub:2", number)
                await world.until(lambda: world.light("A2") is Light.PASS)
                world.pull("hub:2")
            world.pull("hub:1")
            world.plug("hub:1", 3)
            await world.until(lambda: world.view("A1").reason == "adapter_hung")
            assert len(world.records.visits(10)) == 3
        await world.until(lambda: world.light("A1") is Light.PASS)
        assert all(visit.ended_at is not None for visit in world.records.visits(10))

    play(tmp_path, story)


def test_the_end_of_the_station_is_bounded_though_a_thread_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a close that never returns the floor closes all the same; what ran is found running at the next start."""
    monkeypatch.setattr("station.floor.GIVE_BACK_S", 0.3)
    kept: list[Grip] = []

    async def story(world: World) -> None:
        world.start()
        kept.append(Grip(world, "hub:1"))
        reached = threading.Event()
        world.records.after_begin = lambda _start: reached.set()
        world.plug("hub:1", 0, "fails")
        await world.until(lambda: reached.is_set() and kept[0].holds.is_set())
        await asyncio.wait_for(world.floor.close(0.0), 10)
        assert [row.state for row in world.records.jobs(10)] == ["running"]
        assert world.records.recover_running(utc_now()) == 1

    try:
        play(tmp_path, story)
    finally:
        kept[0].over.set()


def test_a_thread_is_joined_when_its_work_is_done_and_not_waited_for_before() -> None:
    """Results, exceptions and what is not even an exception reach who waits; a blocked one keeps nobody."""

    def boom() -> None:
        raise ZeroDivisionError("x")

    def stopped() -> None:
        raise LineStopped(StopCause.UNPLUGGED)

    async def main() -> None:
        threads, gate = OwnThreads("own"), threading.Event()
        assert await threads.begin(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await threads.begin(boom)
        with pytest.raises(LineStopped):
            await threads.begin(stopped)
        blocked = threads.begin(gate.wait)
        assert threads.join_finished() == 1
        assert [thread.daemon for thread in threading.enumerate() if thread.name == "own"] == [True]
        gate.set()
        assert await blocked
        assert threads.join_finished() == 0

    asyncio.run(main())
