"""One test per mistake of the closest competitor, each through the real daemon on the virtual bench.

It forgets the boards that are there at start, keeps the tty open when its board is pulled, enumerates before it listens,
lets a board that hangs keep its slot, and shows a light before anything is written down.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from station.adapters.records import Database
from station.bench.bench import BenchLine, BenchOpener, BenchWatcher, VirtualBench
from station.config import FlashingSection, UsbSection
from station.errors import LineStopped, PortGone
from station.model import CommittedJob, JobEnd, Light, Programmer
from station.ports import Stop
from station.recipe import Recipe
from tests.e2e.workbench import WatchedLight, a_board, at_work, config_for, open_ttys, rows_of

LOOK_ONCE = UsbSection(reconcile_s=3600.0)
"""No periodic look comes to the help of a first look that came too early."""


def test_boards_that_are_there_at_start_are_done(recipe_of_the_bench: Recipe, tmp_path: Path) -> None:
    """What was plugged in before the station started is made like everything else, without being touched again."""
    config = config_for(tmp_path, Path(recipe_of_the_bench.file), slots=2, usb=LOOK_ONCE)

    async def main() -> None:
        with VirtualBench(slots=2, pace=0.0, seed=1) as bench:
            for label in ("A1", "A2"):
                await asyncio.to_thread(bench.plug, label, a_board())
            async with at_work(config, bench=bench) as work:
                for label in ("A1", "A2"):
                    await work.until_light(label, Light.PASS)
                assert sorted(work.rows()) == [("A1", "closed", "PASS", ""), ("A2", "closed", "PASS", "")]

    asyncio.run(main())


class KeepingOpener(BenchOpener):
    """Keeps the lines it opened."""

    def __init__(self, bench: VirtualBench, lines: list[BenchLine]) -> None:
        super().__init__(bench)
        self.lines = lines

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> BenchLine:
        """Open as ever."""
        line = super().open(programmer, baud, stop, may_reset=may_reset)
        self.lines.append(line)
        return line


class ForgetfulWatcher(BenchWatcher):
    """Says that everything is gone as soon as `gone` is set, while the ttys live on: so the station must let go itself."""

    gone = False

    def snapshot(self) -> tuple[Programmer, ...]:
        """What is there, or nothing."""
        return () if self.gone else super().snapshot()


def test_on_unplug_the_tty_is_released_before_anything_else(
    recipe_of_the_bench: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulled in mid-write: the line refuses its user before the light changes, and is closed before the row is written."""
    config = config_for(tmp_path, Path(recipe_of_the_bench.file))
    lines: list[BenchLine] = []
    told: list[tuple[Light, bool, list[tuple[object, ...]]]] = []
    open_at_record: list[list[str]] = []

    def on_show(_slot: str, light: Light) -> None:
        if lines and light is not Light.BUSY:
            told.append((light, is_released(lines[-1]), rows_of(config, "SELECT outcome, reason FROM job")))

    finish_job = Database.finish_job

    def watched_finish(records: Database, job_id: str, end: JobEnd) -> CommittedJob:
        open_at_record.append(open_ttys())
        return finish_job(records, job_id, end)

    monkeypatch.setattr(Database, "finish_job", watched_finish)

    async def main() -> None:
        with VirtualBench(slots=1, pace=0.2, seed=1) as bench:
            watcher = ForgetfulWatcher(bench)
            async with at_work(
                config,
                bench=bench,
                light=WatchedLight(on_show),
                watcher=lambda _: watcher,
                opener=lambda _: KeepingOpener(bench, lines),
            ) as work:
                await work.plug("A1", a_board())
                await work.until_flashing()
                assert len(open_ttys()) == 1
                watcher.gone = True
                work.floor.reconcile()
                await work.until(lambda: work.view().reason == "unplugged" and not work.floor.slots["A1"].busy)
                assert open_ttys() == []
                assert work.view().headline == "AGAIN"
                assert "do not ship" in work.view().words

    asyncio.run(main())
    assert open_at_record == [[]]
    # First the hand is told that it was too early; what stays on the tile is said when it is on record.
    assert [(light, released) for light, released, _ in told] == [(Light.ACTION, True), (Light.ACTION, True)]
    assert told[-1][2] == [("ABORTED", "unplugged")]


def is_released(line: BenchLine) -> bool:
    """Whether nobody can use the line any more: it was taken away, or is closed."""
    try:
        line.read_some(0.0)
    except LineStopped:
        return True
    except PortGone:
        return not line.is_open
    return False


class LateWatcher(BenchWatcher):
    """A bench at which somebody plugs a board in at the worst moment, and whose uevent nobody ever hears."""

    label = "A1"

    def __init__(self, bench: VirtualBench) -> None:
        super().__init__(bench)
        self.bench = bench
        self.listening = False
        self.snapshots_unheard = 0

    def start(self, on_hint) -> None:  # type: ignore[no-untyped-def]
        """Listen; then a board is plugged in, and its hint is lost."""
        super().start(on_hint)
        self.listening = True
        self.bench.on_hint(lambda: None)
        self.bench.plug(self.label, a_board())

    def snapshot(self) -> tuple[Programmer, ...]:
        """Count the looks that came too early."""
        self.snapshots_unheard += not self.listening
        return super().snapshot()


def test_the_monitor_starts_before_the_first_look(recipe_of_the_bench: Recipe, tmp_path: Path) -> None:
    """A board that is plugged in between listening and looking is found by the first look, with no uevent at all."""
    config = config_for(tmp_path, Path(recipe_of_the_bench.file), usb=LOOK_ONCE)
    watchers: list[LateWatcher] = []

    def watcher(bench: VirtualBench) -> LateWatcher:
        watchers.append(LateWatcher(bench))
        return watchers[0]

    async def main() -> None:
        async with at_work(config, watcher=watcher) as work:
            await work.until_light("A1", Light.PASS)

    asyncio.run(main())
    assert watchers[0].snapshots_unheard == 0


def test_a_board_that_hangs_never_keeps_its_slot(recipe_of_the_bench: Recipe, tmp_path: Path) -> None:
    """A board that never answers again is ended by the deadline, or by being pulled; the next one in that slot passes."""
    flashing = FlashingSection(progress_deadline_s=4.0, identity_reads_over_s=0.02)
    config = config_for(tmp_path, Path(recipe_of_the_bench.file), slots=2, flashing=flashing)

    async def main() -> None:
        async with at_work(config) as work:
            for label in ("A1", "A2"):
                await work.plug(label, a_board("hang@40"))
            await work.until_flashing("A2")
            await work.unplug("A2")
            await work.plug("A2", a_board())
            await work.until_light("A2", Light.PASS)
            await work.until(lambda: work.view("A1").reason == "deadline")
            assert work.view("A1").headline == "AGAIN"
            await work.unplug("A1")
            await work.plug("A1", a_board())
            await work.until_light("A1", Light.PASS)
            assert sorted(work.rows()) == [
                ("A1", "closed", "ERROR", "deadline"),
                ("A1", "closed", "PASS", ""),
                ("A2", "closed", "ABORTED", "unplugged"),
                ("A2", "closed", "PASS", ""),
            ]

    asyncio.run(main())


def test_results_are_committed_before_any_light(recipe_of_the_bench: Recipe, tmp_path: Path) -> None:
    """At the moment a light tells a result, another connection to the records reads that very result."""
    config = config_for(tmp_path, Path(recipe_of_the_bench.file), slots=3)
    results = {"A1": Light.PASS, "A2": Light.FAIL, "A3": Light.FAULT}
    seen: dict[tuple[str, Light], list[tuple[object, ...]]] = {}

    def on_show(slot: str, light: Light) -> None:
        if light in (Light.PASS, Light.FAIL, Light.FAULT):
            seen[slot, light] = rows_of(config, f"SELECT state, outcome FROM job WHERE slot = '{slot}'")  # noqa: S608

    async def main() -> None:
        async with at_work(config, light=WatchedLight(on_show)) as work:
            await work.plug("A1", a_board())
            await work.plug("A2", a_board("small_flash"))
            await work.plug("A3", a_board("flash_unknown"))
            for label, light in results.items():
                await work.until_light(label, light)
            shown = {row["slot"]: row["light"] for row in (await work.get("/api/slots"))[1]["slots"]}
            assert shown == results

    asyncio.run(main())
    assert seen == {
        ("A1", Light.PASS): [("closed", "PASS")],
        ("A2", Light.FAIL): [("closed", "FAIL")],
        ("A3", Light.FAULT): [("closed", "ERROR")],
    }
