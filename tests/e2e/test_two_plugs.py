"""Two visits of one board at a bench of jumper sticks: whatever comes between them, the job is bound by MAC."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from station.bench.bench import VirtualBench
from station.bench.chip import Chip
from station.config import Config, WorkSection
from station.demo import write_demo_recipe
from station.model import Light, Phase, format_mac
from tests.e2e.command import station, write_config
from tests.e2e.killing import run_killable
from tests.e2e.two_plug_station import SHOWS
from tests.e2e.workbench import JUMPER, Workbench, a_board, at_work, every_slot, jumper_bench, rows_of

MAC = "5c:cf:7f:aa:bb:cc"
EVERY_JOB = "SELECT board_mac, slot, state, outcome, reason, boot_evidence FROM job ORDER BY sequence"
EVERY_VISIT = "SELECT slot, finding FROM visit ORDER BY sequence"


def shift(config: Config, work: Callable[[Workbench], Awaitable[None]], *, pace: float = 0.0) -> None:
    """Do this work at a bench of jumper sticks."""

    async def main() -> None:
        async with at_work(config, pace=pace, kinds=every_slot(config, JUMPER)) as at:
            await work(at)

    asyncio.run(main())


def mac_of(chip: Chip) -> str:
    """Its MAC as the records write it."""
    return format_mac(chip.mac)


async def flashed(work: Workbench, label: str, chip: Chip) -> None:
    """The first visit: with the jumper, and out again."""
    seen = await work.visit(label, chip)
    assert (seen.headline, seen.light) == ("TEST NEXT", Light.ACTION)
    assert seen.deed == "take GPIO0 off GND and plug in again"


# --- kill -9 -------------------------------------------------------------------------------------------------------------


def plug(directory: Path, slot: str, *, jumper: bool, moment: str = "never") -> tuple[int, str]:
    """Plug the board in at a station in a process of its own; return its exit code and the slot's big word."""
    pin = "on" if jumper else "off"
    done = run_killable("two_plug_station", directory, slot, MAC, pin, moment, timeout_s=120)
    shown = [line.removeprefix(SHOWS) for line in done.stdout.splitlines() if line.startswith(SHOWS)]
    return done.returncode, "".join(shown)


def jobs_in(directory: Path) -> list[tuple[object, ...]]:
    """What is on record there."""
    return rows_of(jumper_bench(directory, slots=2), EVERY_JOB)


@pytest.fixture(scope="module")
def flashed_and_killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board that was flashed in A1, by a station that was killed after that."""
    directory = tmp_path_factory.mktemp("flashed")
    assert plug(directory, "A1", jumper=True, moment="ended") == (-signal.SIGKILL, "TEST NEXT")
    return directory


def test_a_station_that_is_killed_between_the_visits_knows_the_board_again(
    flashed_and_killed: Path, tmp_path: Path
) -> None:
    """`kill -9` after the first visit; the next station, in another slot, finishes the same job: one row, PASS, cold."""
    directory = Path(shutil.copytree(flashed_and_killed, tmp_path / "state of things"))
    assert jobs_in(directory) == [(MAC, "A1", "pending", None, "awaits_run_mode", None)]
    assert plug(directory, "A2", jumper=False) == (0, "GOOD")
    assert jobs_in(directory) == [(MAC, "A1", "closed", "PASS", "", "cold")]
    config = jumper_bench(directory, slots=2)
    assert rows_of(config, EVERY_VISIT) == [("A1", ""), ("A2", "")]
    assert rows_of(config, "SELECT visit_id FROM job_visit") == rows_of(config, "SELECT id FROM visit")


@pytest.mark.parametrize("moment", ["before:SELF_TEST", "after:SELF_TEST", "unrecorded"])
def test_killed_in_the_second_visit_the_job_waits_for_a_third(
    flashed_and_killed: Path, tmp_path: Path, moment: str
) -> None:
    """`kill -9` while the board is tested: nothing is half-flashed, the job is pending as before, a third plug passes."""
    directory = Path(shutil.copytree(flashed_and_killed, tmp_path / "state of things"))
    assert plug(directory, "A2", jumper=False, moment=moment)[0] == -signal.SIGKILL
    assert [row[2:4] for row in jobs_in(directory)] == [("pending", None)]
    assert plug(directory, "A1", jumper=False) == (0, "GOOD")
    assert jobs_in(directory) == [(MAC, "A1", "closed", "PASS", "", "cold")]
    assert len(rows_of(jumper_bench(directory, slots=2), "SELECT visit_id FROM job_visit")) >= 2


def test_killed_after_the_commit_of_the_second_visit_the_board_is_done(
    flashed_and_killed: Path, tmp_path: Path
) -> None:
    """The PASS was on record before the light: the next station says ALREADY DONE, and nothing is counted twice."""
    directory = Path(shutil.copytree(flashed_and_killed, tmp_path / "state of things"))
    assert plug(directory, "A2", jumper=False, moment="committed")[0] == -signal.SIGKILL
    assert plug(directory, "A1", jumper=False) == (0, "ALREADY DONE")
    assert jobs_in(directory) == [(MAC, "A1", "closed", "PASS", "", "cold")]


# --- which board comes back ----------------------------------------------------------------------------------------------


def test_another_board_comes_back_and_the_first_stays_flashed_not_tested(tmp_path: Path) -> None:
    """C-4: what a stranger is, is its own story; the flashed board is listed on the page and by the command, and waits."""
    config = jumper_bench(tmp_path, slots=2)
    flashed_one, stranger = a_board(), a_board()

    async def work(at: Workbench) -> None:
        await flashed(at, "A1", flashed_one)
        stranger.flash.data[:] = flashed_one.flash.data
        seen = await at.visit("A2", stranger, low=False)
        assert (seen.reason, seen.light) == ("not_in_download_mode", Light.ACTION)
        assert at.rows(EVERY_JOB) == [(mac_of(flashed_one), "A1", "pending", None, "awaits_run_mode", None)]
        await at.floor.keep_books()
        (shown,) = at.floor.view().pending
        assert (shown.mac, shown.slot) == (mac_of(flashed_one), "A1")
        assert shown.words.startswith("flashed, not tested")
        status, listed = await at.get("/api/pending")
        assert status == 200
        assert [(row["mac"], row["slot"], row["words"]) for row in listed["pending"]] == [
            (shown.mac, shown.slot, shown.words)
        ]
        command = ("pending", "list", "--json", "--db", config.database_url)
        (row,) = (await asyncio.to_thread(station, *command)).json
        assert (row["mac"], row["slot"], row["reason"]) == (shown.mac, "A1", "awaits_run_mode")
        assert (await at.visit("A2", flashed_one, low=False)).light is Light.PASS
        await at.floor.keep_books()
        assert at.floor.view().pending_count == 0

    shift(config, work)
    assert rows_of(config, EVERY_JOB) == [(mac_of(flashed_one), "A1", "closed", "PASS", "", "cold")]
    assert rows_of(config, EVERY_VISIT) == [("A1", ""), ("A2", "not_in_download_mode"), ("A2", "")]


def test_two_boards_that_were_swapped_between_their_visits_both_pass(tmp_path: Path) -> None:
    """Each board finishes its own job in the other one's slot, both at the same time."""
    config = jumper_bench(tmp_path, slots=2)
    first, second = a_board(), a_board()

    async def work(at: Workbench) -> None:
        await asyncio.gather(flashed(at, "A1", first), flashed(at, "A2", second))
        seen = await asyncio.gather(at.visit("A1", second, low=False), at.visit("A2", first, low=False))
        assert [(view.light, view.mac) for view in seen] == [
            (Light.PASS, mac_of(second)),
            (Light.PASS, mac_of(first)),
        ]

    shift(config, work)
    assert sorted(rows_of(config, "SELECT board_mac, slot, outcome FROM job")) == [
        (mac_of(first), "A1", "PASS"),
        (mac_of(second), "A2", "PASS"),
    ]


def test_a_board_that_comes_back_with_the_jumper_on_is_not_written_again(tmp_path: Path) -> None:
    """The hand forgot the jumper: the words say so once more, not a byte is written, and the third plug passes."""
    config = jumper_bench(tmp_path)
    board = a_board()

    async def work(at: Workbench) -> None:
        await flashed(at, "A1", board)
        programs = board.flash.programs
        await flashed(at, "A1", board)
        assert board.flash.programs == programs
        assert (await at.visit("A1", board, low=False)).light is Light.PASS

    shift(config, work)
    assert rows_of(config, EVERY_JOB) == [(mac_of(board), "A1", "closed", "PASS", "", "cold")]
    assert rows_of(config, EVERY_VISIT) == [("A1", ""), ("A1", "awaits_run_mode"), ("A1", "")]


# --- what comes between --------------------------------------------------------------------------------------------------


def test_pulled_during_the_second_visit_the_board_is_flashed_and_not_tested(tmp_path: Path) -> None:
    """Nothing is half-flashed: a finding of that visit, the words say not tested, and the next plug passes the same job."""
    config = jumper_bench(tmp_path)
    board = a_board()

    async def work(at: Workbench) -> None:
        await flashed(at, "A1", board)
        await at.jumper("A1", low=False)
        await at.plug("A1", board)
        await at.until(lambda: at.view().phase is Phase.SELF_TEST)
        await at.pull("A1")
        assert at.view().words == "taken out during the test: flashed, not tested, do not ship"
        assert at.rows(EVERY_JOB) == [(mac_of(board), "A1", "pending", None, "awaits_run_mode", None)]
        assert (await at.visit("A1", board, low=False)).light is Light.PASS

    shift(config, work, pace=0.2)
    assert rows_of(config, EVERY_JOB) == [(mac_of(board), "A1", "closed", "PASS", "", "cold")]
    assert rows_of(config, EVERY_VISIT) == [("A1", ""), ("A1", "test_interrupted"), ("A1", "")]


def test_a_board_that_nobody_waits_for_any_more_is_flashed_anew(tmp_path: Path) -> None:
    """A person drops the job beside the running station: without the jumper nothing waits, with it the board is attempt 2."""
    config = jumper_bench(tmp_path)
    board = a_board()

    async def work(at: Workbench) -> None:
        await flashed(at, "A1", board)
        erases = board.flash.erases
        command = ("pending", "drop", mac_of(board), "--by", "Ada", "--reason", "lost", "--db", config.database_url)
        assert (await asyncio.to_thread(station, *command)).code == 0
        assert (await at.visit("A1", board, low=False)).reason == "not_in_download_mode"
        await flashed(at, "A1", board)
        assert board.flash.erases > erases
        assert (await at.visit("A1", board, low=False)).words == "passed on attempt 2"

    shift(config, work)
    assert [row[2:5] for row in rows_of(config, EVERY_JOB)] == [
        ("closed", "ABORTED", "stopped_by_request"),
        ("closed", "PASS", ""),
    ]


def test_a_board_that_waits_under_another_recipe_calls_somebody(tmp_path: Path) -> None:
    """The station was restarted with another recipe: neither tested by it nor written; under its own it passes."""
    config = jumper_bench(tmp_path)
    other, _ = write_demo_recipe(tmp_path / "other", "\n[policy]\nattempts = 2\n")
    board = a_board()

    async def main() -> None:
        kinds = every_slot(config, JUMPER)
        with VirtualBench(slots=1, pace=0.0, seed=1, kinds=kinds) as bench:
            async with at_work(config, bench=bench) as at:
                await flashed(at, "A1", board)
            elsewhere = jumper_bench(tmp_path, work=WorkSection(recipe=str(other)))
            before = bytes(board.flash.data)
            async with at_work(elsewhere, bench=bench) as at:
                for low in (True, False):
                    seen = await at.visit("A1", board, low=low)
                    assert (seen.reason, seen.headline, seen.light) == ("pending_elsewhere", "CALL", Light.FAULT)
                    assert not low or bytes(board.flash.data) == before
            async with at_work(config, bench=bench) as at:
                assert (await at.visit("A1", board, low=False)).light is Light.PASS

    asyncio.run(main())
    assert [row[2:4] for row in rows_of(config, EVERY_JOB)] == [("closed", "PASS")]


def test_a_lot_that_was_closed_meanwhile_keeps_its_board(tmp_path: Path) -> None:
    """The next lot makes the same recipe: the board finishes the job of its own lot, and nothing is flashed for it twice."""
    work_order = WorkSection(recipe=str(tmp_path / "recipe" / "demo.toml"), require_lot=True)
    config = jumper_bench(tmp_path, work=work_order)
    file = write_config(tmp_path, recipe=Path(work_order.recipe), require_lot=True)
    board = a_board()

    async def say(at: Workbench, deed: str) -> None:
        done = await asyncio.to_thread(station, "lot", deed, "--config", file, "--by", "Eva")
        assert done.code == 0, done.err
        await at.floor.keep_books()

    async def work(at: Workbench) -> None:
        await say(at, "open")
        await flashed(at, "A1", board)
        await say(at, "close")
        await say(at, "open")
        assert (await at.visit("A1", board, low=False)).light is Light.PASS

    shift(config, work)
    lots = rows_of(config, "SELECT id FROM lot ORDER BY sequence")
    assert len(lots) == 2
    assert rows_of(config, "SELECT outcome, lot_id FROM job") == [("PASS", lots[0][0])]


def test_a_board_that_takes_two_plugs_is_one_board_and_a_first_attempt(tmp_path: Path) -> None:
    """First pass yield counts it once, and as passed at first; while it waits it lowers the yield."""
    config = jumper_bench(tmp_path)
    board = a_board()
    report = ("report", "yield", "--format", "json", "--db", config.database_url)

    async def counted() -> tuple[object, ...]:
        row = (await asyncio.to_thread(station, *report)).json[-1]
        return tuple(row[key] for key in ("boards_attempted", "passed_first", "waiting", "first_pass_yield"))

    async def work(at: Workbench) -> None:
        await flashed(at, "A1", board)
        assert await counted() == (1, 0, 1, 0.0)
        assert (await at.visit("A1", board, low=False)).words == "passed"
        assert await counted() == (1, 1, 0, 1.0)

    shift(config, work)
    assert rows_of(config, "SELECT attempt FROM job") == [(1,)]
