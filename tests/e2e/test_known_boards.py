"""Boards that the records know, at the running station, and what people say about them by the real commands beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from station.bench.bench import VirtualBench
from station.bench.chip import PUYA_1M, Chip, make_chip
from station.config import Config, WorkSection
from station.demo import write_demo_recipe
from station.model import Light, format_mac
from station.views import SlotView
from tests.e2e.command import station, write_config
from tests.e2e.workbench import JUMPER, Workbench, a_board, at_work, config_for, every_slot, jumper_bench, rows_of

SAID = ("--by", "Ada", "--reason", "looked at it")
OUTCOMES = "SELECT outcome, reason FROM job ORDER BY sequence"
FINDINGS = "SELECT finding FROM visit ORDER BY sequence"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A station with lines to both pins, and the recipe of the demo as it is."""
    return with_policy(tmp_path)


def with_policy(tmp_path: Path, policy: str = "") -> Config:
    """A station whose recipe has this policy."""
    recipe, _ = write_demo_recipe(tmp_path / "recipe", f"\n[policy]\n{policy}\n" if policy else "")
    return config_for(tmp_path, recipe)


def shift(config: Config, work: Callable[[Workbench], Awaitable[None]], *, pace: float = 0.0) -> None:
    """Do this work at the running station."""

    async def main() -> None:
        async with at_work(config, pace=pace) as at:
            await work(at)

    asyncio.run(main())


async def say(config: Config, *words: object) -> str:
    """Run a command beside the station, on its records; return what it printed."""
    done = await asyncio.to_thread(station, *words, "--db", config.database_url)
    assert done.code == 0, done.err
    return done.out


async def about(config: Config, chip: Chip, *words: str) -> None:
    """A named person says something about this board."""
    await say(config, *words, format_mac(chip.mac), *SAID)


def shown(view: SlotView) -> tuple[str, str, Light]:
    """The one big word, the reason and the light."""
    return view.headline, view.reason, view.light


DONE = ("ALREADY DONE", "already_done", Light.ACTION)
GOOD = ("GOOD", "", Light.PASS)


class Untouched:
    """Checks that nothing was written to a board meanwhile."""

    def __init__(self, chip: Chip) -> None:
        self._chip, self._before = chip, (chip.flash.erases, chip.flash.programs)

    def check(self) -> None:
        """Not an erase, not a byte; a firmware that writes its own files does not run in these tests."""
        assert (self._chip.flash.erases, self._chip.flash.programs) == self._before


# --- passed before -------------------------------------------------------------------------------------------------------


def test_a_board_that_is_done_is_said_so_and_left_alone(config: Config) -> None:
    """ALREADY DONE in its own words and not in green, nothing written, no job, and in no yield a second time."""
    board = a_board()
    jobs = 'station_jobs_total{outcome="PASS",slot="A1"}'

    async def work(at: Workbench) -> None:
        assert shown(await at.visit("A1", board)) == GOOD
        untouched = Untouched(board)
        seen = await at.visit("A1", board)
        assert shown(seen) == DONE
        assert (seen.words, seen.deed) == ("already done", "unplug, put into GOOD")
        assert seen.mac == format_mac(board.mac)
        untouched.check()
        assert [light for light in at.light.of("A1") if light is Light.PASS] == [Light.PASS]
        (sample,) = [line for line in (await at.get("/metrics"))[1].splitlines() if line.startswith(jobs)]
        assert sample.endswith(" 1.0")

    shift(config, work)
    assert rows_of(config, OUTCOMES) == [("PASS", "")]
    assert rows_of(config, FINDINGS) == [("",), ("already_done",)]


def test_a_recipe_may_want_every_board_made_again(tmp_path: Path) -> None:
    """With `repeat = "flash"` a board that passed is flashed again, as attempt 2; first pass yield stays what it was."""
    config = with_policy(tmp_path, 'repeat = "flash"')
    board = a_board()

    async def work(at: Workbench) -> None:
        await at.visit("A1", board)
        assert (await at.visit("A1", board)).words == "passed on attempt 2"

    shift(config, work)
    row = station("report", "yield", "--format", "json", "--db", config.database_url).json[-1]
    assert (row["boards_attempted"], row["passed_first"], row["passed_later"]) == (1, 1, 0)


def test_a_rework_allows_exactly_one_more_job(config: Config) -> None:
    """A named person opens it beside the running station; the next job uses it up, and one that was closed is worth nothing."""
    board = a_board()

    async def work(at: Workbench) -> None:
        await at.visit("A1", board)
        await about(config, board, "rework", "open")
        await about(config, board, "rework", "close")
        assert shown(await at.visit("A1", board)) == DONE
        await about(config, board, "rework", "open")
        assert (await at.visit("A1", board)).words == "passed on attempt 2"
        assert shown(await at.visit("A1", board)) == DONE

    shift(config, work)
    assert rows_of(config, OUTCOMES) == [("PASS", ""), ("PASS", "")]


def test_a_board_that_a_rework_left_half_flashed_is_not_done(config: Config) -> None:
    """Its old PASS is worth nothing any more: pulled in mid-write it is no ALREADY DONE, but is made."""
    board = a_board()

    async def work(at: Workbench) -> None:
        await at.visit("A1", board)
        await about(config, board, "rework", "open")
        await at.plug("A1", board)
        await at.until_flashing()
        await at.pull("A1")
        assert at.view().words == "pulled too early: half-flashed, do not ship"
        assert shown(await at.visit("A1", board)) == GOOD

    shift(config, work, pace=0.1)
    assert rows_of(config, OUTCOMES) == [("PASS", ""), ("ABORTED", "unplugged"), ("PASS", "")]


def test_a_board_that_passed_as_another_product_calls_somebody(config: Config, tmp_path: Path) -> None:
    """Under another recipe it is not flashed by itself; a named person may allow it, once."""
    other, _ = write_demo_recipe(tmp_path / "other", "\n[policy]\nattempts = 2\n")
    board = a_board()

    async def main() -> None:
        with VirtualBench(slots=1, pace=0.0, seed=1) as bench:
            async with at_work(config, bench=bench) as at:
                await at.visit("A1", board)
            elsewhere = config_for(tmp_path, other)
            async with at_work(elsewhere, bench=bench) as at:
                untouched = Untouched(board)
                seen = await at.visit("A1", board)
                assert shown(seen) == ("CALL", "passed_before", Light.FAULT)
                assert seen.words == "passed before as demo: not flashed again"
                untouched.check()
                await about(config, board, "rework", "open")
                assert shown(await at.visit("A1", board)) == GOOD

    asyncio.run(main())
    hashes = rows_of(config, "SELECT recipe_hash FROM job ORDER BY sequence")
    assert len(set(hashes)) == len(hashes) == 2


def test_a_board_of_a_closed_lot_is_done_although_the_recipe_wants_repeats(tmp_path: Path) -> None:
    """What was delivered with its lot is not made again for the next one."""
    recipe, _ = write_demo_recipe(tmp_path / "recipe", '\n[policy]\nrepeat = "flash"\n')
    config = config_for(tmp_path, None, work=WorkSection(recipe=str(recipe), require_lot=True))
    file = write_config(tmp_path, recipe=recipe, require_lot=True)
    board = a_board()

    async def work(at: Workbench) -> None:
        for deeds, expected in ((("open",), GOOD), (("close", "open"), DONE)):
            for deed in deeds:
                done = await asyncio.to_thread(station, "lot", deed, "--config", file, "--by", "Eva")
                assert done.code == 0, done.err
            await at.floor.keep_books()
            assert shown(await at.visit("A1", board)) == expected

    shift(config, work)
    assert rows_of(config, OUTCOMES) == [("PASS", "")]


# --- not good, too often -------------------------------------------------------------------------------------------------


def test_attempts_are_limited_and_a_rework_allows_one_more(tmp_path: Path) -> None:
    """Two judgements are enough for this recipe: then BAD without another write, until a named person allows one job."""
    config = with_policy(tmp_path, "attempts = 2")
    board = a_board("write_protected")

    async def work(at: Workbench) -> None:
        for _ in range(2):
            assert (await at.visit("A1", board)).reason == "flash_write_protected"
        seen = await at.visit("A1", board)
        assert shown(seen) == ("BAD", "attempts_used_up", Light.FAIL)
        assert seen.words == "judged not good 2 times"
        await about(config, board, "rework", "open")
        assert (await at.visit("A1", board)).reason == "flash_write_protected"
        assert (await at.visit("A1", board)).reason == "attempts_used_up"

    shift(config, work)
    assert rows_of(config, OUTCOMES) == [("FAIL", "flash_write_protected")] * 3


def test_a_board_that_was_pulled_early_has_not_used_up_an_attempt(tmp_path: Path) -> None:
    """ABORTED judges nobody: with one attempt allowed, the board is made all the same, and is no first pass."""
    config = with_policy(tmp_path, "attempts = 1")
    board = a_board()

    async def work(at: Workbench) -> None:
        await at.plug("A1", board)
        await at.until_flashing()
        await at.pull("A1")
        assert at.view().words == "pulled too early: half-flashed, do not ship"
        assert (await at.visit("A1", board)).words == "passed on attempt 2"

    shift(config, work, pace=0.1)
    row = station("report", "yield", "--format", "json", "--db", config.database_url).json[-1]
    assert (row["passed_first"], row["passed_later"], row["first_pass_yield"]) == (0, 1, 0.0)


# --- marks, and another flash ------------------------------------------------------------------------------------------


def test_a_returned_board_is_never_flashed_by_itself(config: Config) -> None:
    """It is evidence, and stays what it is; a person may have it reworked once."""
    board = a_board()

    async def work(at: Workbench) -> None:
        await at.visit("A1", board)
        await about(config, board, "board", "mark", "returned")
        untouched = Untouched(board)
        seen = await at.visit("A1", board)
        assert shown(seen) == ("CALL", "marked_board", Light.FAULT)
        assert seen.words == "returned board: never flashed"
        untouched.check()
        await about(config, board, "rework", "open")
        assert (await at.visit("A1", board)).reason == ""
        await about(config, board, "board", "unmark")
        assert shown(await at.visit("A1", board)) == DONE

    shift(config, work)
    assert rows_of(config, OUTCOMES) == [("PASS", ""), ("PASS", "")]


@pytest.mark.parametrize(
    ("mark", "code", "finding"),
    [("golden", (), "golden_passed"), ("red", ("--reason-code", "no_boot"), "red_missed")],
)
def test_golden_and_red_boards_stay_what_they_are_whatever_is_said(
    config: Config, mark: str, code: tuple[str, ...], finding: str
) -> None:
    """They are judged and never made, also while a rework is open; without their mark they are boards like all others."""
    board = a_board()

    async def work(at: Workbench) -> None:
        await at.visit("A1", board)
        await say(config, "board", "mark", mark, format_mac(board.mac), *SAID, *code)
        await about(config, board, "rework", "open")
        erases, program = board.flash.erases, board.flash.read(0, 0x90000)
        assert (await at.visit("A1", board)).reason == finding
        assert (await at.visit("A1", board)).reason == finding
        assert board.flash.read(0, 0x90000) == program
        await about(config, board, "board", "unmark")
        if mark == "red":
            assert (await at.visit("A1", board)).reason == "slot_quarantined"
            await say(config, "slots", "release", "A1", *SAID)
        assert shown(await at.visit("A1", board)) == GOOD
        assert board.flash.erases > erases

    shift(config, work)
    assert rows_of(config, OUTCOMES) == [("PASS", ""), ("PASS", "")]


def test_another_flash_under_a_known_mac_takes_a_named_person(config: Config) -> None:
    """The first time an ERROR row and no PASS; once this very chip was accepted, the board is made."""
    board = a_board()
    impostor = make_chip(mac=board.mac, seed=7, jedec_id=PUYA_1M)

    async def work(at: Workbench) -> None:
        await at.visit("A1", board)
        untouched = Untouched(impostor)
        seen = await at.visit("A1", impostor)
        assert shown(seen) == ("CALL", "mac_reused", Light.FAULT)
        untouched.check()
        accepted = f"{PUYA_1M:#08x}"
        await say(config, "board", "accept-flash", format_mac(board.mac), accepted, *SAID)
        await about(config, board, "rework", "open")
        assert shown(await at.visit("A1", impostor)) == GOOD

    shift(config, work)
    assert rows_of(config, OUTCOMES) == [("PASS", ""), ("ERROR", "mac_reused"), ("PASS", "")]


# --- boards that run a firmware, and nobody waits for them -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected", "jobs"),
    [
        ("ignore", ("ACTION", "not_in_download_mode", Light.ACTION), []),
        ("test", GOOD, [("PASS", 0, "cold")]),
        ("refuse", ("CALL", "not_flashed_here", Light.FAULT), []),
    ],
)
def test_a_stranger_that_runs_its_firmware_is_met_as_the_recipe_says(
    tmp_path: Path, policy: str, expected: tuple[str, str, Light], jobs: list[tuple[Any, ...]]
) -> None:
    """Left alone, tested without being flashed (in no yield, and not done by that), or refused."""
    config = jumper_bench(tmp_path, policy=f'run_mode_board = "{policy}"')
    image = next((tmp_path / "recipe").glob("*.bin")).read_bytes()
    board = make_chip(mac=a_board().mac, seed=3, image=image)

    async def main() -> None:
        async with at_work(config, kinds=every_slot(config, JUMPER)) as at:
            assert shown(await at.visit("A1", board, low=False)) == expected

    asyncio.run(main())
    assert rows_of(config, "SELECT outcome, flash_touched, boot_evidence FROM job") == jobs
    row = station("report", "yield", "--format", "json", "--db", config.database_url).json[-1]
    assert row["boards_attempted"] == 0


# --- modules that never told a name ----------------------------------------------------------------------------------------


def test_silent_modules_are_booked_by_hand_and_shown_apart_from_the_yield(config: Config, tmp_path: Path) -> None:
    """One command beside the running station: a row without MAC, on the page, and in no figure of the yield."""
    file = write_config(tmp_path, recipe=Path(config.work.recipe))

    async def work(at: Workbench) -> None:
        await at.visit("A1", a_board())
        assert (await at.visit("A1", a_board("no_answer"))).reason == "no_answer"
        command = ("lot", "reject", "--config", file, "--reason", "no_answer", "--slot", "A1", "--by", "Ada")
        done = await asyncio.to_thread(station, *command)
        assert done.code == 0, done.err
        await at.floor.keep_books()
        assert at.floor.view().rejected_count == 1

    shift(config, work)
    assert rows_of(config, "SELECT reason, person, slot FROM reject") == [("no_answer", "Ada", "A1")]
    row = station("report", "yield", "--format", "json", "--db", config.database_url).json[-1]
    assert (row["boards_attempted"], row["first_pass_yield"], row["rejected_by_hand"]) == (1, 1.0, 1)
