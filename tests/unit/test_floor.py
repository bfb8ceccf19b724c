"""The floor with real slots, threads and records, and boards that answer at once: plugs, gates, and the end of a shift."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from station.adapters.metrics import Metrics
from station.adapters.records import Database, LotRequest, RejectReason, RejectRow, new_id, utc_now
from station.bookkeeping import WorkNow, count_job
from station.claims import Claims
from station.config import Config, FlashingSection, SlotSection, StationSection, UsbSection, WorkSection
from station.errors import RecordsUnwritable
from station.floor import Floor
from station.job import run_visit
from station.model import CommittedJob, JobEnd, JobStart, JobState, Light, Lot, LotState, Outcome
from station.orders import orders_for, remember_recipe, standing_lot
from station.properties import Gpio0, Learned, Moves, Reset, Role
from station.recipe import Recipe
from station.slotmap import load_slot_map, read_taught, write_taught
from station.transitions import SlotState
from station.views import SlotView
from station.visit import Tools, Visit, VisitResult
from tests.e2e.quick_board import QuickBench, QuickBoard, QuickFlasher, quick_repl_maker
from tests.unit.memory_records import FACTS, MemoryRecords, tools_for, visit_for
from tests.unit.scripted_board import ScriptedBoard
from tests.unit.small_image import make_small_image, small_recipe, write_recipe

PLACES = {"A1": "hub:1", "A2": "hub:2", "A3": "hub:3"}
MACS = [f"5c:cf:7f:00:00:0{number}" for number in range(5)]
PATIENCE_S = 30.0


class MoodyRecords(Database):
    """The real records, which refuse every write while `refuse` is set, and the end of a job after `refuse_ends`."""

    refuse = False
    refuse_ends = False
    after_begin: Callable[[JobStart], None] = staticmethod(lambda _start: None)

    def _write(self, work):  # type: ignore[no-untyped-def]
        if self.refuse:
            raise RecordsUnwritable("full")
        return super()._write(work)

    def begin_job(self, start: JobStart) -> None:
        """Let the test do something as soon as the row is durable."""
        super().begin_job(start)
        self.after_begin(start)

    def finish_job(self, job_id: str, end: JobEnd) -> CommittedJob:
        """Refuse from the first end on."""
        self.refuse |= self.refuse_ends
        return super().finish_job(job_id, end)


class Lamp:
    """A light that keeps what it showed."""

    def __init__(self) -> None:
        self.shown: dict[str, list[Light]] = {}
        self.works = True

    def show(self, slot: str, light: Light) -> None:
        """Keep it."""
        self.shown.setdefault(slot, []).append(light)

    def healthy(self) -> bool:
        """As the test wants it."""
        return self.works

    def close(self) -> None:
        """Nothing to switch off."""


class World:
    """A floor on a bench of quick boards."""

    def __init__(self, directory: Path, **sections) -> None:
        self.bench = QuickBench()
        self.directory = directory
        (directory / "recipe").mkdir()
        self.recipe: Recipe | None = small_recipe(directory / "recipe")
        self.config = Config(
            station=StationSection(id="test", state_dir=str(directory)),
            slots=sections.pop("slots", PLACES),
            flashing=FlashingSection(identity_reads_over_s=0.0, progress_deadline_s=20.0),
            **sections,
        )
        self.records = MoodyRecords.open(self.config.database_url, station_id="test")
        self.registry = CollectorRegistry()
        self.lamp = Lamp()
        self.claims = Claims()
        self.counted: list[str] = []
        self.floor: Floor

    def start(self, lot: Lot | None = None) -> Floor:
        """Start the floor, under a standing lot unless another is given or none is wanted."""
        assert self.recipe is not None or lot is None
        given = WorkNow(lot=lot)
        orders = orders_for(self.config, self.records, self.recipe) if lot is None else lambda: given
        lot = orders().lot
        metrics = Metrics(self.registry, host=FACTS, slots=PLACES)

        def on_record(start: JobStart, end: JobEnd) -> None:
            self.counted.append(start.id)
            count_job(metrics, start, end)

        tools = Tools(
            opener=self.bench,
            flasher=QuickFlasher(),
            make_repl=quick_repl_maker("1.27.0"),
            recorder=self.records,
            settings=self.config.flashing,
            claims=self.claims,
            host=lambda: FACTS,
            clock=time.monotonic,
            now=utc_now,
            new_id=new_id,
            on_record=on_record,
        )
        self.floor = Floor(
            config=self.config,
            slot_map=load_slot_map(self.config),
            recipe=self.recipe,
            lot=lot,
            watcher=self.bench,
            tools=tools,
            books=self.records,
            gauges=metrics,
            lights=[self.lamp],
            orders=orders,
        )
        return self.floor

    def plug(self, place: str, number: int = 0, behaves: str = "passes") -> QuickBoard:
        """Plug a board in and let the floor look."""
        board = QuickBoard(MACS[number], behaves)  # type: ignore[arg-type]
        self.bench.plug(place, board)
        self.floor.reconcile()
        return board

    def pull(self, place: str) -> None:
        """Pull it out and let the floor look."""
        self.bench.unplug(place)
        self.floor.reconcile()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for it, ticking as the daemon does."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < PATIENCE_S, "it never happened"
            self.floor.tick()
            await asyncio.sleep(0.005)

    async def settle(self) -> None:
        """Until no visit runs."""
        await self.until(lambda: not any(slot.busy for slot in self.floor.slots.values()))

    async def shows(self, slot: str, state: SlotState) -> SlotView:
        """Wait until the slot is in this state; what a person sees of it then."""
        await self.until(lambda: self.floor.slots[slot].state is state)
        return self.view(slot)

    def light(self, slot: str) -> Light:
        """What the slot shows."""
        return self.floor.slots[slot].light

    def view(self, slot: str) -> SlotView:
        """What a person sees of it."""
        return next(view for view in self.floor.view().slots if view.slot == slot)

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value."""
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value


def play(directory: Path, story: Callable[[World], Awaitable[None]], **sections) -> World:
    """Play a story on a floor of its own, and bring it down."""
    world = World(directory, **sections)

    async def main() -> None:
        try:
            await story(world)
        finally:
            world.records.refuse = world.records.refuse_ends = False
            if hasattr(world, "floor"):
                await world.floor.close(0.0)

    try:
        asyncio.run(main())
    finally:
        world.records.close()
    return world


# -- who is plugged in -------------------------------------------------------------------------------------------------


def test_boards_present_at_the_start_are_done(tmp_path: Path) -> None:
    """What is plugged in before the floor looks for the first time is flashed like any other, all slots at once."""

    async def story(world: World) -> None:
        for number, place in enumerate(PLACES.values()):
            world.bench.plug(place, QuickBoard(MACS[number]))
        world.start()
        world.floor.reconcile()
        assert [world.light(slot) for slot in PLACES] == [Light.BUSY] * 3
        await world.settle()
        assert [world.light(slot) for slot in PLACES] == [Light.PASS] * 3
        rows = world.records.jobs(10)
        assert sorted(row.slot for row in rows) == ["A1", "A2", "A3"]
        assert {row.mac for row in rows} == set(MACS[:3])
        assert len(world.floor.jobs(10)) == 3

    play(tmp_path, story)


def test_looking_again_changes_nothing(tmp_path: Path) -> None:
    """A uevent is a hint only: however often the floor looks, a plug is one visit."""

    async def story(world: World) -> None:
        world.start()
        world.plug("hub:1")
        for _ in range(5):
            world.floor.reconcile()
        await world.settle()
        for _ in range(5):
            world.floor.reconcile()
        await world.settle()
        assert len(world.records.jobs(10)) == 1
        world.pull("hub:1")
        assert world.light("A1") is Light.EMPTY

    play(tmp_path, story)


def test_a_replug_seen_in_one_look_is_two_plugs(tmp_path: Path) -> None:
    """Pulled and plugged between two looks: the generation tells, the old light goes out, and a new visit begins."""

    async def story(world: World) -> None:
        world.start()
        world.plug("hub:1", 0)
        await world.settle()
        first = world.view("A1").job_id
        world.plug("hub:1", 1)
        assert world.light("A1") is Light.BUSY
        assert world.view("A1").job_id == ""
        await world.settle()
        assert world.light("A1") is Light.PASS
        assert world.view("A1").job_id != first
        assert [row.mac for row in world.records.jobs(10)] == [MACS[1], MACS[0]]

    play(tmp_path, story)


def test_a_replug_during_a_job_aborts_it_and_starts_the_next(tmp_path: Path) -> None:
    """A board exchanged in mid-job: the first visit is closed on record before the second one begins."""

    async def story(world: World) -> None:
        world.start()
        board = world.plug("hub:1", 0, "hangs")
        await world.until(lambda: world.view("A1").phase is not None)
        world.plug("hub:1", 1)
        assert world.light("A1") is Light.ACTION
        await world.until(lambda: world.light("A1") is Light.PASS)
        visits = world.records.visits(10)
        assert len(visits) == 2
        assert visits[0].plugged_at >= visits[1].ended_at  # type: ignore[operator]
        assert bytes(board.flash) == b"\xff" * len(board.flash)
        assert world.records.jobs(1)[0].mac == MACS[1]

    play(tmp_path, story)


def test_an_unknown_place_is_shown_and_never_flashed(tmp_path: Path) -> None:
    """A programmer outside the map is a tile that says so; nothing is opened, nothing written, and it goes with its plug."""

    async def story(world: World) -> None:
        world.start()
        board = world.plug("hub:9")
        world.floor.tick()
        await asyncio.sleep(0.05)
        stranger = world.view("hub:9")
        assert (stranger.known, stranger.light, stranger.reason) == (False, Light.ACTION, "unknown_place")
        assert world.records.visits(10) == ()
        assert bytes(board.flash) == b"\xff" * len(board.flash)
        assert "hub:9" not in world.floor.slots
        assert "hub:9" not in world.lamp.shown
        assert world.sample("station_unknown_places") == 1
        world.pull("hub:9")
        assert [slot.slot for slot in world.floor.view().slots] == list(PLACES)

    play(tmp_path, story)


def test_a_stranger_named_like_a_slot_is_a_stranger_all_the_same(tmp_path: Path) -> None:
    """Whether a place is known is asked of the place, not of the name it is shown under."""

    async def story(world: World) -> None:
        world.start()
        world.plug("A1")
        await asyncio.sleep(0.05)
        world.floor.tick()
        assert world.records.visits(10) == ()
        shown = [view for view in world.floor.view().slots if view.place == "A1"]
        assert [(view.known, view.reason) for view in shown] == [(False, "unknown_place")]

    play(tmp_path, story)


def test_auto_enrolment_gives_the_next_label_and_writes_the_map(tmp_path: Path) -> None:
    """With `enroll = "auto"` a new place becomes the next free slot, works at once, and is known after a restart."""

    async def story(world: World) -> None:
        write_taught(world.directory, {"Z1": "elsewhere"})
        world.start()
        world.plug("hub:9")
        await world.until(lambda: world.light("A4") is Light.PASS)
        assert read_taught(world.directory) == {"Z1": "elsewhere", "A4": "hub:9"}
        assert world.view("A4").known
        assert world.lamp.shown["A4"][-1] is Light.PASS
        world.pull("hub:9")
        world.plug("hub:9", 1)
        await world.settle()
        assert list(read_taught(world.directory)) == ["Z1", "A4"]

    play(tmp_path, story, usb=UsbSection(enroll="auto"))


def test_a_map_that_cannot_be_written_does_not_stop_the_floor(tmp_path: Path) -> None:
    """A place that cannot be enrolled is shown as unknown; the slots beside it work on."""

    async def story(world: World) -> None:
        (world.directory / "slots.new").mkdir()
        world.start()
        world.plug("hub:9")
        assert not world.view("hub:9").known
        world.plug("hub:1", 1)
        await world.settle()
        assert world.light("A1") is Light.PASS
        assert read_taught(world.directory) == {}

    play(tmp_path, story, usb=UsbSection(enroll="auto"))


# -- what keeps the bench from working ---------------------------------------------------------------------------------


def test_without_a_recipe_the_bench_is_idle_and_says_what_to_do(tmp_path: Path) -> None:
    """No recipe: not ready, a notice with the way out, and a plugged board waits under the fault light."""

    async def story(world: World) -> None:
        world.recipe = None
        floor = world.start()
        await floor.keep_books()
        world.plug("hub:1")
        world.floor.tick()
        view = floor.view()
        assert (view.ready, view.recipe_loaded, view.product, view.recipe_hash) == (False, False, "", "")
        assert any("work.recipe" in notice for notice in view.notices)
        assert (world.light("A1"), world.view("A1").headline) == (Light.FAULT, "NO RECIPE")
        assert world.records.visits(10) == ()

    play(tmp_path, story)


def test_a_ready_bench_says_what_it_makes(tmp_path: Path) -> None:
    """Product, version, short hash and lot are always there to be seen."""

    async def story(world: World) -> None:
        floor = world.start()
        await floor.keep_books()
        view = floor.view()
        assert world.recipe is not None
        assert (view.ready, view.notices) == (True, ())
        assert (view.product, view.recipe_version) == ("thing", "1")
        assert view.recipe_hash == world.recipe.hash[:8]
        assert (view.lot_state, view.lot_person) == ("open", "test")
        assert world.sample("station_ready") == 1

    play(tmp_path, story)


@pytest.mark.parametrize("name", ["thing.bin", "thing.toml"])
def test_an_image_changed_on_disk_stops_the_line(tmp_path: Path, name: str) -> None:
    """A changed file is found within one look: fault light, not ready, a notice that names it, and nothing flashed."""

    async def story(world: World) -> None:
        floor = world.start()
        with (world.directory / "recipe" / name).open("ab") as file:
            file.write(b"#")
        await floor.keep_books()
        board = world.plug("hub:1")
        await asyncio.sleep(0.05)
        floor.tick()
        view = floor.view()
        assert not view.ready
        assert any(name in notice for notice in view.notices)
        assert (world.light("A1"), world.view("A1").reason) == (Light.FAULT, "image_changed")
        assert bytes(board.flash) == b"\xff" * len(board.flash)
        assert world.records.jobs(10) == ()

    play(tmp_path, story)


def test_a_job_that_finds_the_image_changed_stops_every_slot(tmp_path: Path) -> None:
    """When a job notices first, its board is not touched, the visit is on record, and no other slot begins."""

    async def story(world: World) -> None:
        floor = world.start()
        write_recipe(world.directory / "recipe", make_small_image(filling=b"other"))
        first = world.plug("hub:1")
        await world.settle()
        second = world.plug("hub:2", 1)
        await asyncio.sleep(0.05)
        assert [visit.finding for visit in world.records.visits(10)] == ["image_changed"]
        assert [world.light(slot) for slot in ("A1", "A2")] == [Light.FAULT, Light.FAULT]
        for board in (first, second):
            assert bytes(board.flash) == b"\xff" * len(board.flash)
        assert not floor.view().ready

    play(tmp_path, story)


def test_a_lot_is_waited_for_and_paused_and_begun_again(tmp_path: Path) -> None:
    """With `require_lot` a board waits for the work order, is begun by itself when it opens, and waits again when paused."""

    async def story(world: World) -> None:
        assert world.recipe is not None
        remember_recipe(world.records, world.recipe)
        request = LotRequest(recipe_hash=world.recipe.hash, product="thing", person="Ada")
        floor = world.start()
        board = world.plug("hub:1")
        await floor.keep_books()
        floor.tick()
        assert (world.view("A1").headline, world.light("A1")) == ("NO WORK ORDER", Light.ACTION)
        assert any("station lot open" in notice for notice in floor.view().notices)
        assert bytes(board.flash) == b"\xff" * len(board.flash)
        lot = world.records.open_lot(request)
        await floor.keep_books()
        await world.until(lambda: world.light("A1") is Light.PASS)
        assert floor.view().lot_person == "Ada"
        world.records.pause_lot(lot.id, "Ada")
        await floor.keep_books()
        world.plug("hub:2", 1)
        floor.tick()
        assert (world.view("A2").headline, floor.view().lot_state) == ("NO WORK ORDER", "paused")
        world.records.close_lot(lot.id, "Ada")
        await floor.keep_books()
        assert (world.view("A2").headline, floor.view().lot_state) == ("NO WORK ORDER", "")
        assert len(world.records.visits(10)) == 1

    play(tmp_path, story, work=WorkSection(require_lot=True))


def test_a_lot_for_another_recipe_is_no_work_order_for_this_one(tmp_path: Path) -> None:
    """An open lot that asks for something else than what is loaded makes nobody flash the loaded recipe."""

    async def story(world: World) -> None:
        (tmp_path / "other").mkdir()
        other = small_recipe(tmp_path / "other", filling=b"x")  # type: ignore[arg-type]
        remember_recipe(world.records, other)
        lot = world.records.open_lot(LotRequest(recipe_hash=other.hash, product="other", person="Ada"))
        floor = world.start(lot)
        await floor.keep_books()
        world.plug("hub:1")
        floor.tick()
        assert floor.view().lot_state == LotState.OPEN
        assert world.view("A1").headline == "NO WORK ORDER"
        assert world.records.visits(10) == ()

    play(tmp_path, story, work=WorkSection(require_lot=True))


# -- the records -------------------------------------------------------------------------------------------------------


def test_records_that_cannot_be_written_begin_nothing(tmp_path: Path) -> None:
    """A full disk: fault light, not ready, nothing flashed; when there is space again the waiting board is begun by itself."""

    async def story(world: World) -> None:
        floor = world.start()
        world.records.refuse = True
        await floor.keep_books()
        board = world.plug("hub:1")
        floor.tick()
        assert (world.light("A1"), world.view("A1").reason) == (Light.FAULT, "records_unwritable")
        assert (floor.view().ready, floor.view().database_writable) == (False, False)
        assert bytes(board.flash) == b"\xff" * len(board.flash)
        world.records.refuse = False
        await floor.keep_books()
        await world.until(lambda: world.light("A1") is Light.PASS)
        assert floor.view().ready

    play(tmp_path, story)


def test_a_held_result_is_written_once_and_then_shown(tmp_path: Path) -> None:
    """A result that came to a full disk is held under the fault light, written later exactly once, and then green."""

    async def story(world: World) -> None:
        floor = world.start()
        world.records.refuse_ends = True
        world.plug("hub:1")
        await world.settle()
        await floor.keep_books()
        assert (world.light("A1"), world.view("A1").words) == (Light.FAULT, "records cannot be written")
        assert any("do not switch the station off" in notice for notice in floor.view().notices)
        assert world.sample("station_database_backlog") == 1
        assert world.counted == []
        world.records.refuse = world.records.refuse_ends = False
        await asyncio.gather(floor.keep_books(), floor.keep_books(), floor.keep_books())
        assert world.light("A1") is Light.PASS
        assert len(world.counted) == 1
        assert world.sample("station_jobs_total", slot="A1", outcome="PASS") == 1
        assert world.sample("station_database_backlog") == 0
        assert [row.outcome for row in world.records.jobs(10)] == [Outcome.PASS]

    play(tmp_path, story)


def test_a_held_result_of_a_board_that_is_gone_lights_nothing(tmp_path: Path) -> None:
    """The board was taken before its result was written: the row appears, the slot stays dark."""

    async def story(world: World) -> None:
        floor = world.start()
        world.records.refuse_ends = True
        world.plug("hub:1")
        await world.settle()
        world.pull("hub:1")
        world.records.refuse = world.records.refuse_ends = False
        await floor.keep_books()
        assert world.light("A1") is Light.EMPTY
        assert [row.outcome for row in world.records.jobs(10)] == [Outcome.PASS]
        assert Light.PASS not in world.lamp.shown["A1"]

    play(tmp_path, story)


# -- one MAC in two places ---------------------------------------------------------------------------------------------


def test_a_second_board_with_the_same_mac_puts_the_first_ones_green_out(tmp_path: Path) -> None:
    """A board that passed is not green any more when its MAC shows up in another slot, and the second one is an ERROR."""

    async def story(world: World) -> None:
        world.start()
        world.plug("hub:1", 0)
        await world.settle()
        assert world.light("A1") is Light.PASS
        world.plug("hub:2", 0)
        await world.settle()
        await world.until(lambda: world.light("A1") is not Light.PASS)
        assert [world.light(slot) for slot in ("A1", "A2")] == [Light.FAULT, Light.FAULT]
        assert [(row.slot, row.reason) for row in world.records.jobs(10)] == [("A2", "duplicate_mac"), ("A1", "")]
        assert world.lamp.shown["A1"][-1] is Light.FAULT

    play(tmp_path, story)


def test_a_board_that_moves_to_another_slot_is_no_duplicate(tmp_path: Path) -> None:
    """Pulled out in A1, plugged in in A2: one board, no contest; it is done already."""

    async def story(world: World) -> None:
        world.start()
        world.plug("hub:1", 0)
        await world.settle()
        world.bench.unplug("hub:1")
        world.plug("hub:2", 0)
        await world.settle()
        assert (world.light("A1"), world.view("A2").reason) == (Light.EMPTY, "already_done")
        assert len(world.records.jobs(10)) == 1

    play(tmp_path, story)


def test_a_board_taken_from_a_programmer_that_stayed_is_no_duplicate(tmp_path: Path) -> None:
    """Lifted from the stick in A1 and put into A2 without any uevent: A1 is asked, goes dark, and A2 makes the board."""

    async def story(world: World) -> None:
        world.start()
        board = world.plug("hub:1", 0, "fails")
        await world.settle()
        assert world.light("A1") is Light.FAIL
        world.bench.seat("hub:1", None)
        board.behaves = "passes"
        world.bench.plug("hub:2", board)
        world.floor.reconcile()
        await world.shows("A2", SlotState.PASS)
        gone = await world.shows("A1", SlotState.LIFTED)
        assert (gone.light, gone.words, gone.mac) == (Light.EMPTY, "board gone: plug in again", "")
        assert world.view("A2").words == "passed on attempt 2"
        assert [(row.slot, row.outcome) for row in world.records.jobs(10)] == [("A2", "PASS"), ("A1", "FAIL")]
        world.pull("hub:1")
        assert world.floor.slots["A1"].state is SlotState.EMPTY

    play(tmp_path, story)


def test_two_boards_with_one_mac_at_the_same_moment_are_both_held(tmp_path: Path) -> None:
    """Plugged in together: whoever asks second gets its answer from the first one's progress, and nobody turns green."""

    async def story(world: World) -> None:
        world.bench.plug("hub:1", QuickBoard(MACS[0]))
        world.bench.plug("hub:2", QuickBoard(MACS[0]))
        world.start()
        world.floor.reconcile()
        await world.settle()
        await world.until(lambda: {world.light(slot) for slot in ("A1", "A2")} == {Light.FAULT})
        assert "duplicate_mac" in {row.reason for row in world.records.jobs(10)}

    play(tmp_path, story)


# -- boards that move while the programmer stays -----------------------------------------------------------------------


def fixture(place: str) -> SlotSection:
    """A socket with reset lines in which boards come and go."""
    return SlotSection(place=place, reset=Reset.LINES, gpio0=Gpio0.LINES, moves=Moves.BOARD)


FIXTURES = {label: fixture(place) for label, place in PLACES.items()}


def test_boards_come_and_go_in_a_programmer_that_stays(tmp_path: Path) -> None:
    """Seated, made, lifted, the next one seated, and one swapped for another without a pause: each is a plug of its own."""

    async def story(world: World) -> None:
        world.start()
        world.bench.plug("hub:1", None)
        world.floor.reconcile()
        ready = await world.shows("A1", SlotState.READY)
        assert (ready.light, ready.headline, ready.words) == (Light.EMPTY, "EMPTY", "seat a board")
        assert ready.properties == "reset lines, gpio0 lines, board moves, make"
        for number in (0, 1):
            world.bench.seat("hub:1", QuickBoard(MACS[number]))
            passed = await world.shows("A1", SlotState.PASS)
            assert (passed.mac, passed.deed) == (MACS[number], "take the board out, put it into GOOD")
            world.bench.seat("hub:1", None)
            await world.shows("A1", SlotState.READY)
        world.bench.seat("hub:1", QuickBoard(MACS[2]))
        await world.shows("A1", SlotState.PASS)
        world.bench.seat("hub:1", QuickBoard(MACS[3]))
        await world.until(lambda: world.view("A1").mac == MACS[3] and world.light("A1") is Light.PASS)
        assert [row.mac for row in world.records.jobs(10)] == [MACS[3], MACS[2], MACS[1], MACS[0]]
        assert world.floor.slots["A1"].plug.number == 4  # type: ignore[union-attr]
        world.pull("hub:1")
        assert world.light("A1") is Light.EMPTY

    play(tmp_path, story, slots=FIXTURES)


def test_a_board_lifted_in_mid_write_is_said_until_the_next_one_is_seated(tmp_path: Path) -> None:
    """No uevent tells it: the job is ABORTED, the words stay over the empty socket, and the same board is made anew."""

    async def story(world: World) -> None:
        world.start()
        board = QuickBoard(MACS[0])
        world.records.after_begin = lambda _start: world.bench.seat("hub:1", None)
        world.bench.plug("hub:1", board)
        world.floor.reconcile()
        lifted = await world.shows("A1", SlotState.PULLED)
        assert (lifted.reason, lifted.light) == ("board_removed", Light.ACTION)
        assert lifted.deed == "seat the board again"
        world.records.after_begin = lambda _start: None
        world.bench.seat("hub:1", board)
        await world.shows("A1", SlotState.PASS)
        rows = world.records.jobs(10)
        assert [(row.outcome, row.reason) for row in rows] == [("PASS", ""), ("ABORTED", "board_removed")]

    play(tmp_path, story, slots=FIXTURES)


def test_a_lot_that_pauses_over_an_empty_socket_meets_the_next_board(tmp_path: Path) -> None:
    """READY stays as it is; the board that is seated then shows the gate, and is begun by itself when the lot goes on."""

    async def story(world: World) -> None:
        assert world.recipe is not None
        remember_recipe(world.records, world.recipe)
        request = LotRequest(recipe_hash=world.recipe.hash, product="thing", person="Ada")
        lot = world.records.open_lot(request)
        floor = world.start()
        await floor.keep_books()
        world.bench.plug("hub:1", None)
        floor.reconcile()
        await world.shows("A1", SlotState.READY)
        world.records.pause_lot(lot.id, "Ada")
        await floor.keep_books()
        assert world.view("A1").words == "seat a board"
        world.bench.seat("hub:1", QuickBoard(MACS[0]))
        waiting = await world.shows("A1", SlotState.WAITING)
        assert waiting.headline == "NO WORK ORDER"
        assert world.records.visits(10) == ()
        world.records.open_lot(request)
        await floor.keep_books()
        await world.shows("A1", SlotState.PASS)
        assert len(world.records.visits(10)) == 1

    play(tmp_path, story, work=WorkSection(require_lot=True), slots=FIXTURES)


def test_a_station_that_stops_lets_go_of_its_sockets(tmp_path: Path) -> None:
    """Sockets that are watched do not hold up the end: their lines are taken and released."""

    async def story(world: World) -> None:
        floor = world.start()
        for number, place in enumerate(PLACES.values()):
            world.bench.plug(place, QuickBoard(MACS[0]) if number == 0 else None)
        floor.reconcile()
        await world.shows("A1", SlotState.PASS)
        await world.shows("A2", SlotState.READY)
        await asyncio.wait_for(floor.close(0.0), PATIENCE_S)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("slot")]
        floor.tick()
        world.bench.seat("hub:2", QuickBoard(MACS[1]))
        assert len(world.records.visits(10)) == 1

    play_to_the_end(tmp_path, story, slots=FIXTURES)


# -- what a slot is ----------------------------------------------------------------------------------------------------


def test_what_a_visit_finds_out_about_its_slot_is_shown_and_remembered(tmp_path: Path) -> None:
    """Reset and GPIO0 by the lines: on the tile after the first board, in the file with the evidence, and at the next start."""

    async def story(world: World) -> None:
        world.start()
        assert world.view("A1").properties == "reset ?, gpio0 ?, programmer moves, make"
        world.plug("hub:1")
        await world.settle()
        assert world.view("A1").properties == "reset lines, gpio0 lines, programmer moves, make"
        assert world.view("A2").properties == "reset ?, gpio0 ?, programmer moves, make"

    world = play(tmp_path, story)
    again = load_slot_map(world.config)["A1"]
    assert (again.properties.reset, again.properties.gpio0) == (Reset.LINES, Gpio0.LINES)
    assert "boot message" in again.evidence["reset"]


def test_what_is_configured_is_never_learned_otherwise(tmp_path: Path) -> None:
    """A slot that says `reset = "none"` keeps it, whatever answers there."""

    async def story(world: World) -> None:
        world.start()
        world.plug("hub:1", 0, "fails")
        await world.settle()
        assert world.view("A1").properties.startswith("reset none, gpio0 hand")

    world = play(tmp_path, story, slots={"A1": SlotSection(place="hub:1", reset=Reset.NONE, gpio0=Gpio0.HAND)})
    assert load_slot_map(world.config)["A1"].evidence["reset"] == "configured"


def test_what_makes_no_sense_is_not_learned(tmp_path: Path) -> None:
    """GPIO0 is configured to be by the lines: a port without lines does not make a combination of it that is refused."""

    async def story(world: World) -> None:
        world.start()
        world.floor.reconcile()
        world.floor._learned("A1", Learned(reset=Reset.NONE, evidence="this port has no modem lines"))
        await asyncio.sleep(0.05)
        assert world.view("A1").properties.startswith("reset ?, gpio0 lines")

    world = play(tmp_path, story, slots={"A1": SlotSection(place="hub:1", gpio0=Gpio0.LINES)})
    assert not (world.directory / "slots.json").exists()


def test_another_kind_of_adapter_is_found_out_anew(tmp_path: Path) -> None:
    """What one stick taught says nothing about the next one in the same place."""

    async def story(world: World) -> None:
        world.start()
        for number, (kind, behaves) in enumerate((("1a86:7523", "passes"), ("1a86:55d4", "hangs"))):
            world.bench.unplug("hub:1")
            world.bench.plug("hub:1", QuickBoard(MACS[number], behaves))  # type: ignore[arg-type]
            stick, board = world.bench.boards["hub:1"]
            world.bench.boards["hub:1"] = (replace(stick, usb_id=kind), board)
            world.floor.reconcile()
            assert world.view("A1").properties == "reset ?, gpio0 ?, programmer moves, make"
            if behaves == "passes":
                await world.settle()
                assert world.view("A1").properties == "reset lines, gpio0 lines, programmer moves, make"

    play(tmp_path, story)


# -- boards that wait for their test -----------------------------------------------------------------------------------

TWO_STEPS = {
    "A1": SlotSection(place="hub:1", reset=Reset.LINES, gpio0=Gpio0.LINES, role=Role.FLASH),
    "A2": SlotSection(place="hub:2", reset=Reset.LINES, gpio0=Gpio0.LINES, role=Role.TEST),
}


def test_a_board_that_waits_for_its_test_is_listed_until_it_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flashed in A1: the tile and the list name A2, the metric counts it; tested in A2: it is gone from the list."""
    visits: list[Visit] = []

    def noted(visit: Visit, tools: Tools) -> VisitResult:
        visits.append(visit)
        return run_visit(visit, tools)

    monkeypatch.setattr("station.floor.run_visit", noted)

    async def story(world: World) -> None:
        floor = world.start()
        board = world.plug("hub:1")
        await world.settle()
        assert world.view("A1").words == "flashed, not tested: next, test slot A2"
        await floor.keep_books()
        (waits,) = floor.view().pending
        assert (waits.mac, waits.slot, waits.product) == (MACS[0], "A1", "thing")
        assert waits.words == world.view("A1").words
        assert (floor.view().pending_count, floor.pending()) == (1, (waits,))
        assert world.sample("station_pending_jobs") == 1
        world.pull("hub:1")
        world.bench.plug("hub:2", board)
        floor.reconcile()
        await world.shows("A2", SlotState.PASS)
        assert [(visit.test_slots, visit.some_pending) for visit in visits] == [(("A2",), False), ((), True)]
        assert [visit.properties.role for visit in visits] == [Role.FLASH, Role.TEST]
        # Its tile says GOOD: no list may say at the same moment that it was not tested.
        assert floor.view().pending == ()
        await floor.keep_books()
        world.plug("hub:1", 1, "silent")
        await world.settle()
        assert not visits[-1].some_pending
        assert (floor.view().pending, floor.view().pending_count) == ((), 0)
        assert world.sample("station_pending_jobs") == 0
        assert [(row.outcome, row.attempt) for row in world.records.jobs(10)] == [("PASS", 1)]

    play(tmp_path, story, slots=TWO_STEPS)


def test_a_bench_that_flashes_and_cannot_test_says_so(tmp_path: Path) -> None:
    """Slots that only flash, and no slot where the boards could be tested: a notice with the way out."""

    async def story(world: World) -> None:
        floor = world.start()
        await floor.keep_books()
        (notice,) = floor.view().notices
        assert notice == 'no slot can test what A1 flashed: give a slot role = "test" in the configuration'

    play(tmp_path, story, slots={"A1": TWO_STEPS["A1"]})


def test_modules_that_were_booked_out_are_counted(tmp_path: Path) -> None:
    """What a person rejected of the lot is on the page and in the metrics, and in no yield."""

    async def story(world: World) -> None:
        floor = world.start()
        await floor.keep_books()
        lot = standing_lot(world.config, world.records, world.recipe)  # type: ignore[arg-type]
        row = RejectRow(id=new_id(), lot_id=lot.id, reason=RejectReason.DAMAGED, person="Ada")
        world.records.add_rejects([row, replace(row, id=new_id())])
        await floor.keep_books()
        assert floor.view().rejected_count == 2
        assert world.sample("station_rejected_modules") == 2

    play(tmp_path, story)


def test_the_log_says_what_the_page_says(tmp_path: Path) -> None:
    """Words and deed of a job and of a finding are the very same on the tile and in the log."""

    async def story(world: World) -> None:
        world.start()
        with capture_logs() as events:
            for number, behaves in ((0, "passes"), (1, "silent"), (2, "fails")):
                world.plug("hub:1", number, behaves)
                await world.settle()
                event = [event for event in events if event["event"] in ("job.ended", "visit.found")][-1]
                view = world.view("A1")
                assert (event["words"], event["deed"]) == (view.words, view.deed)
                assert view.words

    play(tmp_path, story)


# -- lights, changes, metrics ------------------------------------------------------------------------------------------


def test_the_light_follows_the_slot(tmp_path: Path) -> None:
    """Every slot is dark first; then busy, green and dark again, in this order."""

    async def story(world: World) -> None:
        world.start()
        world.plug("hub:1")
        await world.settle()
        world.pull("hub:1")
        assert [light for light, _ in itertools.groupby(world.lamp.shown["A1"])] == [
            Light.EMPTY,
            Light.ACTION,
            Light.BUSY,
            Light.PASS,
            Light.EMPTY,
        ]
        assert set(world.lamp.shown["A2"]) == {Light.EMPTY}

    play(tmp_path, story)


def test_a_dead_light_is_said_and_stops_nobody(tmp_path: Path) -> None:
    """The page says that the light is dead; the board passes and is on record."""

    async def story(world: World) -> None:
        floor = world.start()
        world.lamp.works = False
        world.plug("hub:1")
        await world.settle()
        view = floor.view()
        assert not view.light_healthy
        assert any("status light is dead" in notice for notice in view.notices)
        assert world.records.jobs(1)[0].outcome is Outcome.PASS

    play(tmp_path, story)


def test_a_silent_udev_is_said_and_boards_are_found_by_looking(tmp_path: Path) -> None:
    """Without hints the station is not ready in the strict sense, says so, and still finds what is plugged in."""

    async def story(world: World) -> None:
        floor = world.start()
        world.bench.heard = lambda: False  # type: ignore[method-assign]
        world.plug("hub:1")
        await world.settle()
        view = floor.view()
        assert (view.ready, view.udev_heard) == (False, False)
        assert any("udev is silent" in notice for notice in view.notices)
        assert world.light("A1") is Light.PASS

    play(tmp_path, story)


def test_who_waits_for_a_change_sees_the_next_one(tmp_path: Path) -> None:
    """Page and operator wait without polling: a change wakes all of them, a change already missed returns at once."""

    async def story(world: World) -> None:
        floor = world.start()
        seen = await floor.wait_change(-1)
        waiting = [asyncio.create_task(floor.wait_change(seen)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        floor.changed()
        assert await asyncio.gather(*waiting) == [seen + 1] * 3
        assert await floor.wait_change(seen) == seen + 1
        cancelled = asyncio.create_task(floor.wait_change(seen + 1))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        floor.changed()

    play(tmp_path, story)


def test_what_is_on_record_is_counted(tmp_path: Path) -> None:
    """Metrics count closed jobs by slot and outcome, first attempts once per board, findings, bytes and phases that ran."""

    async def story(world: World) -> None:
        assert world.recipe is not None
        world.start()
        for number, behaves in ((0, "passes"), (1, "fails"), (1, "passes"), (2, "silent")):
            world.plug("hub:1", number, behaves)
            await world.settle()
        assert world.sample("station_jobs_total", slot="A1", outcome="PASS") == 2
        assert world.sample("station_jobs_total", slot="A1", outcome="FAIL") == 1
        assert world.sample("station_job_reasons_total", reason="out_of_limits") == 1
        assert world.sample("station_first_attempts_total", outcome="PASS") == 1
        assert world.sample("station_first_attempts_total", outcome="FAIL") == 1
        assert world.sample("station_visit_findings_total", reason="no_answer") == 1
        assert world.sample("station_bytes_flashed_total", slot="A1") == 3 * len(world.recipe.image)
        assert world.sample("station_phase_duration_seconds_count", phase="FLASH") == 3
        assert world.sample("station_phase_duration_seconds_count", phase="PROVISION") == 0
        assert world.sample("station_slot_to_busy_seconds_count") == 4

    play(tmp_path, story)


def test_waiting_jobs_and_steps_down_the_ladder_are_counted_for_what_they_are(tmp_path: Path) -> None:
    """A pending job is no closed one; each fallback counts; an attempt that never touched flash is no first attempt."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, host=FACTS, slots=["A1"])
    board = ScriptedBoard()
    records = MemoryRecords(board)
    run_visit(visit_for(board, small_recipe(tmp_path)), tools_for(board, records))
    start, end = records.starts["job-1"], records.ends["job-1"]
    count_job(metrics, start, replace(end, state=JobState.PENDING, outcome=None, reason="awaits_run_mode"))
    assert registry.get_sample_value("station_jobs_total", {"slot": "A1", "outcome": "PASS"}) == 0
    count_job(metrics, start, replace(end, baud_fallbacks=2, flash_touched=False))
    assert registry.get_sample_value("station_baud_fallbacks_total", {"slot": "A1"}) == 2
    assert registry.get_sample_value("station_jobs_total", {"slot": "A1", "outcome": "PASS"}) == 1
    assert registry.get_sample_value("station_first_attempts_total", {"outcome": "PASS"}) == 0
    count_job(metrics, start, end)
    assert registry.get_sample_value("station_first_attempts_total", {"outcome": "PASS"}) == 1


# -- the end of the shift ----------------------------------------------------------------------------------------------


def test_closing_lets_running_jobs_finish(tmp_path: Path) -> None:
    """Within the configured time a job that runs ends as it ends, and is on record when `close` returns."""

    async def story(world: World) -> None:
        floor = world.start()
        world.plug("hub:1")
        assert world.light("A1") is Light.BUSY
        await floor.close(PATIENCE_S)
        assert [row.outcome for row in world.records.jobs(10)] == [Outcome.PASS]

    play_to_the_end(tmp_path, story)


def test_closing_aborts_what_does_not_finish_and_records_it(tmp_path: Path) -> None:
    """A job that hangs is taken its line after the configured time; its record says that the station was stopped."""

    async def story(world: World) -> None:
        floor = world.start()
        boards: dict[str, QuickBoard] = {}

        def hang(start: JobStart) -> None:
            boards[start.observed_mac].behaves = "hangs"

        world.records.after_begin = hang
        boards[MACS[0]] = QuickBoard(MACS[0])
        world.bench.plug("hub:1", boards[MACS[0]])
        world.plug("hub:2", 1, "hangs")
        await world.until(lambda: bool(world.records.jobs(1)))
        await floor.close(0.05)
        (row,) = world.records.jobs(10)
        assert (row.slot, row.state, row.outcome) == ("A1", JobState.CLOSED, Outcome.ABORTED)
        assert row.reason == "station_stopped"
        assert [(visit.slot, visit.finding) for visit in world.records.visits(10)] == [
            ("A2", "station_stopped"),
            ("A1", ""),
        ]
        assert all(visit.ended_at is not None for visit in world.records.visits(10))

    play_to_the_end(tmp_path, story)


def test_nothing_is_begun_while_closing(tmp_path: Path) -> None:
    """A board plugged in while the station goes down is not touched."""

    async def story(world: World) -> None:
        floor = world.start()
        world.plug("hub:1", 0, "hangs")
        closing = asyncio.create_task(floor.close(0.2))
        await asyncio.sleep(0)
        board = world.plug("hub:2", 1)
        floor.tick()
        await closing
        assert bytes(board.flash) == b"\xff" * len(board.flash)
        assert [visit.slot for visit in world.records.visits(10)] == ["A1"]

    play_to_the_end(tmp_path, story)


def test_closing_writes_what_was_held(tmp_path: Path) -> None:
    """A result that could not be written is offered once more before the station goes."""

    async def story(world: World) -> None:
        floor = world.start()
        world.records.refuse_ends = True
        world.plug("hub:1")
        await world.settle()
        world.records.refuse = world.records.refuse_ends = False
        await asyncio.gather(floor.keep_books(), floor.close(0.0))
        assert [row.outcome for row in world.records.jobs(10)] == [Outcome.PASS]
        assert len(world.counted) == 1

    play_to_the_end(tmp_path, story)


def play_to_the_end(directory: Path, story: Callable[[World], Awaitable[None]], **sections) -> None:
    """Play a story that brings the floor down itself."""
    world = World(directory, **sections)
    try:
        asyncio.run(story(world))  # type: ignore[arg-type]
    finally:
        world.records.close()
