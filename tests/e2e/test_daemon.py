"""The daemon from start to end on the virtual bench: what keeps it from working, what it leaves behind, who it lets in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from station.adapters.records import Database, LotRequest
from station.bench.bench import BenchWatcher, VirtualBench
from station.config import Config, DatabaseSection, FlashingSection, ShutdownSection, UsbSection, WorkSection
from station.errors import ConfigurationError
from station.floor import Floor
from station.model import Light
from station.orders import remember_recipe
from station.recipe import Recipe
from tests.e2e.workbench import WatchedLight, Workbench, a_board, at_work, config_for, rows_of

EVERY_JOB = "SELECT slot, state, outcome, reason FROM job ORDER BY sequence"


@pytest.fixture
def recipe(recipe_of_the_bench: Recipe, tmp_path: Path) -> Path:
    """A copy of the recipe and its image that a test may damage."""
    source = Path(recipe_of_the_bench.file)
    copy = tmp_path / "recipe"
    shutil.copytree(source.parent, copy)
    return copy / source.name


@pytest.fixture
def config(recipe: Path, tmp_path: Path) -> Config:
    """A station with one slot and that recipe."""
    return config_for(tmp_path, recipe)


def flash_of(work: Workbench, label: str = "A1") -> bytes:
    """What is in the flash of the board in this slot."""
    chip = work.bench.chip(label)
    assert chip is not None
    return bytes(chip.flash.data)


# --- what keeps it from working ------------------------------------------------------------------------------------


def test_without_a_recipe_boards_wait_and_the_page_says_what_to_do(tmp_path: Path) -> None:
    """No recipe: alive, not ready, the notice names the key, a plugged board is CALL and never touched."""
    config = config_for(tmp_path, None)

    async def main() -> None:
        async with at_work(config) as work:
            await work.plug("A1", a_board())
            await work.until_light("A1", Light.FAULT)
            assert work.view().headline == "NO RECIPE"
            assert (await work.get("/healthz"))[0] == 200
            status, readiness = await work.get("/readyz")
            assert (status, readiness["recipe_loaded"], readiness["database_writable"]) == (503, False, True)
            assert any("work.recipe" in notice for notice in readiness["notices"])
            assert set(flash_of(work)) == {0xFF}
            await work.unplug("A1")
            await work.until_light("A1", Light.EMPTY)
            assert work.rows("SELECT * FROM visit") == []

    asyncio.run(main())


@pytest.mark.parametrize("what", ["image", "recipe", "missing"])
def test_a_firmware_file_that_changes_stops_the_bench(config: Config, recipe: Path, what: str) -> None:
    """One byte changed on disk while the station runs: FAULT with the reason, a notice, not ready, and nothing is flashed."""
    changed = recipe if what == "recipe" else next(recipe.parent.glob("*.bin"))

    async def main() -> None:
        async with at_work(config) as work:
            if what == "missing":
                changed.unlink()
            else:
                changed.write_bytes(changed.read_bytes() + b"\n")
            await work.plug("A1", a_board())
            await work.until_light("A1", Light.FAULT)
            assert (work.view().reason, work.view().headline) == ("image_changed", "CALL")
            await work.until(lambda: any(changed.name in notice for notice in work.floor.view().notices))
            assert (await work.get("/readyz"))[0] == 503
            assert set(flash_of(work)) == {0xFF}
            assert work.rows() == []

    asyncio.run(main())


def test_a_board_waits_for_the_work_order(config: Config, recipe_of_the_bench: Recipe, recipe: Path) -> None:
    """With work.require_lot a board waits as NO WORK ORDER, is made when a lot is opened, and the lot restarts paused."""
    config = _with(config, work=WorkSection(recipe=str(recipe), require_lot=True))

    async def main() -> None:
        async with at_work(config) as work:
            await work.plug("A1", a_board())
            await work.until_light("A1", Light.ACTION)
            assert work.view().headline == "NO WORK ORDER"
            assert work.rows() == []
            await asyncio.to_thread(_open_lot, config, recipe_of_the_bench)
            await work.until_light("A1", Light.PASS)
            assert work.rows("SELECT person, standing FROM lot") == [("Eva", 0)]
        async with at_work(config) as work:
            assert work.floor.view().lot_state == "paused"
            await work.plug("A1", a_board())
            await work.until_light("A1", Light.ACTION)
            assert work.view().headline == "NO WORK ORDER"

    asyncio.run(main())
    assert rows_of(config, EVERY_JOB) == [("A1", "closed", "PASS", "")]


def test_a_locked_database_holds_the_result_and_nothing_is_green(config: Config) -> None:
    """Locked before the job ends: FAULT, the next board waits, not ready; unlocked: first the row, then the green light."""
    config = _with(config, slots=VirtualBench.places(2))
    rows_at_green: list[int] = []

    def on_show(_slot: str, light: Light) -> None:
        if light is Light.PASS:
            rows_at_green.append(len(rows_of(config, "SELECT * FROM job WHERE outcome = 'PASS'")))

    async def main() -> None:
        async with at_work(config, light=WatchedLight(on_show)) as work:
            await work.plug("A1", a_board())
            await work.until_flashing()
            async with _locked(config):
                await work.until_light("A1", Light.FAULT)
                assert (work.view("A1").reason, work.view("A1").headline) == ("records_unwritable", "CALL")
                assert any("wait to be written" in notice for notice in work.floor.view().notices)
                await work.plug("A2", a_board())
                await work.until_light("A2", Light.FAULT)
                assert set(flash_of(work, "A2")) == {0xFF}
                status, readiness = await work.get("/readyz")
                assert (status, readiness["database_writable"]) == (503, False)
                assert work.rows(EVERY_JOB) == [("A1", "running", None, "")]
                assert rows_at_green == []
            await work.until_light("A1", Light.PASS)
            await work.until_light("A2", Light.PASS)

    asyncio.run(main())
    assert rows_of(config, EVERY_JOB) == [("A1", "closed", "PASS", ""), ("A2", "closed", "PASS", "")]
    assert rows_at_green == [1, 2]


def test_an_unknown_place_is_shown_and_never_flashed(config: Config) -> None:
    """A programmer in a place that is not in the slot map is on the page, waits, and is left alone; so is its record."""
    whole = VirtualBench.places(2)
    config = _with(config, slots={"A1": whole["A1"]})

    async def main() -> None:
        with VirtualBench(slots=2, pace=0.0, seed=1) as bench:
            async with at_work(config, bench=bench) as work:
                await work.plug("A2", a_board())
                await work.until(lambda: len(work.floor.view().slots) == 2)
                stranger = work.floor.view().slots[1]
                assert (stranger.place, stranger.known, stranger.light) == (whole["A2"], False, Light.ACTION)
                await work.plug("A1", a_board())
                await work.until_light("A1", Light.PASS)
                assert set(flash_of(work, "A2")) == {0xFF}
                await work.unplug("A2")
                await work.until(lambda: len(work.floor.view().slots) == 1)

    asyncio.run(main())
    assert rows_of(config, "SELECT slot FROM visit") == [("A1",)]


def test_with_enroll_auto_an_unknown_place_becomes_the_next_slot(config: Config, tmp_path: Path) -> None:
    """usb.enroll = "auto": a programmer in an unknown place gets the next free label, is made, and the map is kept."""
    whole = VirtualBench.places(2)
    config = _with(config, slots={"A1": whole["A1"]}, usb=UsbSection(enroll="auto"))

    async def main() -> None:
        with VirtualBench(slots=2, pace=0.0, seed=1) as bench:
            async with at_work(config, bench=bench) as work:
                await work.plug("A2", a_board())
                await work.until(lambda: "A2" in work.floor.slots)
                await work.until_light("A2", Light.PASS)

    asyncio.run(main())
    kept = json.loads((tmp_path / "state" / "slots.json").read_text())
    assert {label: (slot["place"], slot["reset"], slot["gpio0"]) for label, slot in kept.items()} == {
        "A2": (whole["A2"], "lines", "lines")
    }
    assert rows_of(config, EVERY_JOB) == [("A2", "closed", "PASS", "")]


# --- the end -------------------------------------------------------------------------------------------------------


def test_the_end_waits_for_running_jobs_as_long_as_configured(config: Config) -> None:
    """Asked to finish in mid-write with time enough, the station ends only when the job has passed and is on record."""
    config = _with(config, shutdown=ShutdownSection(finish_s=60.0))

    async def main() -> list[Light]:
        async with at_work(config, pace=0.1) as work:
            await work.plug("A1", a_board())
            await work.until_flashing()
        return work.light.of("A1")

    assert asyncio.run(main())[-1] is Light.PASS
    assert rows_of(config, EVERY_JOB) == [("A1", "closed", "PASS", "")]


def test_the_end_aborts_what_takes_longer_and_records_it(config: Config) -> None:
    """With no time to finish, a job in mid-write becomes ABORTED station_stopped, on record before the station has ended."""

    async def main() -> list[Light]:
        async with at_work(config, pace=1.0) as work:
            await work.plug("A1", a_board())
            await work.until_flashing()
        return work.light.of("A1")

    assert Light.PASS not in asyncio.run(main())
    assert rows_of(config, EVERY_JOB) == [("A1", "closed", "ABORTED", "station_stopped")]
    assert rows_of(config, "SELECT count(*) FROM visit WHERE ended_at IS NULL") == [(0,)]


def test_nothing_is_left_behind(config: Config) -> None:
    """After run_station has returned there is no task, thread or descriptor that was not there before, whatever happened."""
    config = _with(
        config, slots=VirtualBench.places(4), flashing=FlashingSection(identity_reads_over_s=0.02, port_busy_s=0.2)
    )
    tasks: list[set[asyncio.Task[object]]] = []

    async def main() -> None:
        async with at_work(config) as work:
            await work.plug("A1", a_board())
            await work.plug("A2", a_board("unplug@40"))
            await work.plug("A3", a_board("port_busy"))
            await work.until_light("A1", Light.PASS)
            await work.until(lambda: work.view("A2").reason == "unplugged" and work.view("A3").reason == "port_busy")
            await work.plug("A4", a_board("hang@40"))
            await work.until_flashing("A4")
            assert (await work.get("/metrics"))[0] == 200
        tasks.append(asyncio.all_tasks() - {asyncio.current_task()})  # type: ignore[arg-type]

    asyncio.run(main())  # whatever a process opens once and keeps
    before = _descriptors(), _threads()
    asyncio.run(main())
    assert (_descriptors(), _threads()) == before
    assert tasks == [set(), set()]


def test_a_loop_that_breaks_ends_the_station(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in one of the daemon's own loops ends it with that exception: without deadlines it must not go on."""

    def broken(_floor: Floor) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(Floor, "tick", broken)

    async def main() -> None:
        async with at_work(config) as work:
            await work.finish.wait()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


# --- who is let in -------------------------------------------------------------------------------------------------


def test_a_second_daemon_on_the_state_directory_is_refused(config: Config) -> None:
    """The second station names the first one's process; the first goes on working, and when it has ended the next may start."""

    async def main() -> None:
        async with at_work(config) as work:
            with pytest.raises(ConfigurationError, match=f"PID {os.getpid()}"):
                await _start_and_end(config)
            await work.plug("A1", a_board())
            await work.until_light("A1", Light.PASS)
        await _start_and_end(config)

    asyncio.run(main())


async def _start_and_end(config: Config) -> None:
    async with at_work(config):
        pass


def test_what_ran_when_the_station_died_is_aborted_and_what_waited_waits(config: Config) -> None:
    """At start a running job becomes ABORTED station_restarted, a pending one stays, and both visits are at their end."""

    async def make_one(pace: float) -> None:
        async with at_work(config, pace=pace) as work:
            await work.plug("A1", a_board())
            await work.until_light("A1", Light.PASS)

    asyncio.run(make_one(0.0))
    asyncio.run(make_one(0.0))
    with contextlib.closing(sqlite3.connect(config.database_url.removeprefix("sqlite:///"))) as records, records:
        # What a kill leaves behind; test_kill.py does it for real, at every boundary.
        unfinished = "outcome = NULL, reason = '', ended_at = NULL"
        records.execute(f"UPDATE job SET state = 'running', {unfinished} WHERE sequence = 1")  # noqa: S608
        records.execute(f"UPDATE job SET state = 'pending', {unfinished} WHERE sequence = 2")  # noqa: S608
    asyncio.run(_start_and_end(config))
    assert rows_of(config, EVERY_JOB) == [
        ("A1", "closed", "ABORTED", "station_restarted"),
        ("A1", "pending", None, ""),
    ]


def test_plugs_that_nobody_hears_of_are_found_by_looking(config: Config) -> None:
    """With uevents lost the board is found by the periodic look, and so is its unplug."""

    class DeafWatcher(BenchWatcher):
        """Hears nothing, and says so."""

        def start(self, on_hint) -> None:  # type: ignore[no-untyped-def]
            """Do not listen."""

        def heard(self) -> bool:
            """Never."""
            return False

    async def main() -> None:
        async with at_work(config, watcher=DeafWatcher) as work:
            status, readiness = await work.get("/readyz")
            assert (status, readiness["udev_heard"]) == (503, False)
            await work.plug("A1", a_board())
            await work.until_light("A1", Light.PASS)
            await work.unplug("A1")
            await work.until_light("A1", Light.EMPTY)

    asyncio.run(main())


def test_a_database_of_its_own_may_be_named(config: Config, tmp_path: Path) -> None:
    """database.url says where the records go; the state directory then holds none."""
    config = _with(config, database=DatabaseSection(url=f"sqlite:///{tmp_path / 'elsewhere.db'}"))
    asyncio.run(_start_and_end(config))
    assert rows_of(config, "SELECT standing FROM lot") == [(1,)]
    assert not (tmp_path / "state" / "station.db").exists()


# --- small things --------------------------------------------------------------------------------------------------


def _with(config: Config, **sections: object) -> Config:
    """The same configuration with other sections."""
    return msgspec.structs.replace(config, **sections)


def _open_lot(config: Config, recipe: Recipe) -> None:
    """What `station lot open` does, from beside the daemon."""
    with Database.open(config.database_url) as records:
        remember_recipe(records, recipe)
        records.open_lot(LotRequest(recipe_hash=recipe.hash, product=recipe.name, person="Eva"))


@contextlib.asynccontextmanager
async def _locked(config: Config):  # type: ignore[no-untyped-def]
    """Hold the records' write lock from another connection."""
    file = config.database_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(file, timeout=20, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def _descriptors() -> Counter[str]:
    """What this process has open, pipes and sockets without their numbers."""
    found: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[str(descriptor.readlink()).split(":")[0]] += 1
    return found


def _threads() -> list[str]:
    """The names of the threads that are running."""
    return sorted(thread.name for thread in threading.enumerate())
