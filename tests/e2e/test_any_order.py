"""Random orders of plugs, pulls, restarts and a database that fails: what must hold always (faults.md section 7)."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from station.adapters.metrics import Metrics, new_registry
from station.adapters.records import Database, new_id, utc_now
from station.bookkeeping import WorkNow
from station.claims import Claims
from station.config import Config, FlashingSection, StationSection
from station.demo import write_demo_recipe
from station.errors import RecordsUnwritable
from station.floor import Floor
from station.model import HostFacts, JobState, Light, Outcome
from station.orders import standing_lot
from station.recipe import Recipe, load_recipe
from station.slotmap import load_slot_map
from station.visit import Tools
from tests.e2e.quick_board import QuickBench, QuickBoard, QuickFlasher, quick_repl_maker

PLACES = {"A1": "hub:1", "A2": "hub:2", "A3": "hub:3"}
MACS = [f"5c:cf:7f:00:00:0{number}" for number in range(4)]
FACTS = HostFacts(
    station_id="test",
    station_version="0",
    esptool_version="0",
    kernel_version="0",
    boot_id="0",
    clock_synchronised=True,
)
SETTLE_S = 20.0


@dataclasses.dataclass(frozen=True)
class Event:
    """One thing that happens to the station."""

    kind: str
    place: str = ""
    mac: str = ""
    behaves: str = "passes"


plugs = st.builds(
    Event,
    kind=st.just("plug"),
    place=st.sampled_from(sorted(PLACES.values())),
    mac=st.sampled_from(MACS),
    behaves=st.sampled_from(["passes", "passes", "passes", "fails", "silent", "hangs"]),
)
pulls = st.builds(Event, kind=st.just("pull"), place=st.sampled_from(sorted(PLACES.values())))
others = st.sampled_from([Event("settle"), Event("settle"), Event("restart"), Event("full"), Event("space")])
orders = st.lists(st.one_of(plugs, plugs, pulls, others), min_size=3, max_size=14)


class FlakyRecords(Database):
    """The real records, which refuse every write while `refuse` is set: a full disk."""

    refuse = False

    def _write(self, work):  # type: ignore[no-untyped-def]
        if self.refuse:
            raise RecordsUnwritable("full")
        return super()._write(work)


class World:
    """One station from start to restart, on records that outlive it."""

    def __init__(self, directory: Path, recipe: Recipe) -> None:
        self.bench = QuickBench()
        self.recipe = recipe
        self.config = Config(
            station=StationSection(id="test", state_dir=str(directory)),
            slots=PLACES,
            flashing=FlashingSection(identity_reads_over_s=0.0, progress_deadline_s=2.0),
        )
        self.greens: set[str] = set()

    def start(self) -> None:
        """Start the station as the daemon does: recovery first."""
        self.records = FlakyRecords.open(self.config.database_url, station_id="test")
        self.records.recover_running(utc_now())
        metrics = Metrics(new_registry(), host=FACTS, slots=PLACES)
        tools = Tools(
            opener=self.bench,
            flasher=QuickFlasher(),
            make_repl=quick_repl_maker(self.recipe.firmware_version),
            recorder=self.records,
            settings=self.config.flashing,
            claims=Claims(),
            host=lambda: FACTS,
            clock=time.monotonic,
            now=utc_now,
            new_id=new_id,
            on_record=lambda _start, _end: None,
        )
        lot = standing_lot(self.config, self.records, self.recipe)
        self.floor = Floor(
            config=self.config,
            slot_map=load_slot_map(self.config),
            recipe=self.recipe,
            lot=lot,
            orders=lambda: WorkNow(lot=lot),
            watcher=self.bench,
            tools=tools,
            books=self.records,
            gauges=metrics,
            lights=(),
        )

    async def stop(self) -> None:
        """Bring it down; a refusing database loses nothing but what was held."""
        await self.floor.close(0.0)
        self.records.close()

    async def play(self, event: Event) -> None:
        """Let one event happen and let the station see it."""
        match event.kind:
            case "plug":
                self.bench.unplug(event.place)
                self.bench.plug(event.place, QuickBoard(event.mac, event.behaves))  # type: ignore[arg-type]
            case "pull":
                self.bench.unplug(event.place)
            case "full" | "space":
                self.records.refuse = event.kind == "full"
            case "restart":
                self.records.refuse = False
                await self.stop()
                self.start()
            case _:
                await self.settle()
        self.floor.reconcile()
        await asyncio.sleep(0)

    async def settle(self) -> None:
        """Tick until nothing runs any more."""
        began = time.monotonic()
        while any(slot.busy for slot in self.floor.slots.values()):
            assert time.monotonic() - began < SETTLE_S, "a slot stays busy for ever"
            self.floor.tick()
            await asyncio.sleep(0.01)

    def check(self) -> None:
        """What must hold at every moment."""
        rows = {row.id: row for row in self.records.jobs(1000)}
        for slot in self.floor.slots.values():
            attached = self.bench.boards.get(slot.place)
            view = slot.view()
            if view.light is Light.PASS:
                # 1 and 2: green means a committed PASS, of the board and the plug that are there.
                row = rows[view.job_id]
                assert (row.state, row.outcome, row.slot) == (JobState.CLOSED, Outcome.PASS, slot.label)
                assert all(measurement.within for measurement in row.measurements)
                assert attached is not None
                assert attached[1] is not None
                assert row.mac == attached[1].mac
                assert bytes(attached[1].flash[: len(self.recipe.image)])[4:] == self.recipe.image[4:]
                self.greens.add(row.id)
            if attached is None:
                assert view.light in (Light.EMPTY, Light.ACTION)
        # 4: every row is in exactly one state, and a closed one says how it ended.
        for row in rows.values():
            assert (row.state is JobState.CLOSED) == (row.outcome is not None)
            assert row.outcome is not Outcome.PASS or not row.reason
        assert self.greens <= rows.keys()


def _recipe(directory: Path) -> Recipe:
    return load_recipe(write_demo_recipe(directory)[0])


async def _run(world: World, order: Sequence[Event]) -> None:
    world.start()
    try:
        for event in order:
            await world.play(event)
            world.check()
        world.records.refuse = False
        await world.floor.keep_books()
        await world.settle()
        world.check()
        assert not any(row.state is JobState.RUNNING for row in world.records.jobs(1000)), "a job was lost"
    finally:
        world.records.refuse = False
        await world.stop()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(order=orders)
def test_what_must_hold_in_any_order(recipe_of_the_bench: Recipe, order: list[Event]) -> None:
    """Whatever happens in whatever order, green is a committed PASS of the board that is there, and nothing is lost."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_run(World(Path(directory), recipe_of_the_bench), order))


def test_a_healthy_board_passes_in_this_world(recipe_of_the_bench: Recipe, tmp_path: Path) -> None:
    """The property above is not empty: a plugged healthy board gets its green light here."""
    world = World(tmp_path, recipe_of_the_bench)
    asyncio.run(_run(world, [Event("plug", "hub:1", MACS[0]), Event("settle")]))
    assert len(world.greens) == 1


def test_a_full_disk_holds_the_result_and_writes_it_later(recipe_of_the_bench: Recipe, tmp_path: Path) -> None:
    """A job that ends while the records cannot be written is not green; when they can, its row appears and then the light."""
    world = World(tmp_path, recipe_of_the_bench)

    async def main() -> tuple[Light, Light, int]:
        world.start()
        world.bench.plug("hub:1", QuickBoard(MACS[0]))
        original = world.records.finish_job
        refusals = itertools.count()

        def finish_when_there_is_space(job_id, end):  # type: ignore[no-untyped-def]
            if next(refusals) == 0:
                world.records.refuse = True
            return original(job_id, end)

        world.records.finish_job = finish_when_there_is_space  # type: ignore[method-assign]
        world.floor.reconcile()
        await world.settle()
        held = world.floor.slots["A1"].light
        world.records.refuse = False
        await world.floor.keep_books()
        written, rows = world.floor.slots["A1"].light, len(world.records.jobs(10))
        await world.stop()
        return held, written, rows

    assert asyncio.run(main()) == (Light.FAULT, Light.PASS, 1)


def test_the_same_error_in_two_slots_is_the_boards(recipe_of_the_bench: Recipe, tmp_path: Path) -> None:
    """An ERROR sends the board to an empty slot; the same ERROR there is a FAIL of the board, and it goes into BAD."""
    world = World(tmp_path, recipe_of_the_bench)
    said: list[str] = []

    async def main() -> list[tuple[str, Light, Outcome | None]]:
        world.start()
        seen = []
        for place, slot in (("hub:1", "A1"), ("hub:1", "A1"), ("hub:2", "A2")):
            await world.play(Event("plug", place, MACS[0], "unstable"))
            await world.settle()
            view = world.floor.slots[slot].view()
            seen.append((view.headline, view.light, world.records.jobs(1)[0].outcome))
            said.append(view.words)
            await world.play(Event("pull", place))
        await world.stop()
        return seen

    assert asyncio.run(main()) == [
        ("AGAIN", Light.ACTION, Outcome.ERROR),
        ("AGAIN", Light.ACTION, Outcome.ERROR),
        ("BAD", Light.FAIL, Outcome.FAIL),
    ]
    assert said[0] == "supply or contact: try slot A2"
