"""Programmers that stay while boards come and go: nothing tells the station but the line itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest

from station.bench.bench import VirtualBench
from station.bench.programmer import ProgrammerKind
from station.config import Config, FlashingSection, SlotDefaultsSection
from station.model import Light, Phase, format_mac
from station.properties import Moves
from station.recipe import Recipe
from tests.e2e.workbench import JUMPER, Workbench, a_board, at_work, config_for, every_slot, rows_of

Wired = Literal["lines", "none"]
KINDS: dict[Wired, ProgrammerKind] = {"lines": ProgrammerKind(), "none": JUMPER}
"""A pogo fixture with both lines, and a stick with a jumper in which only the board is exchanged."""
QUICK = FlashingSection(progress_deadline_s=20.0, identity_reads_over_s=0.02, boot_deadline_s=8.0, check_deadline_s=4.0)
EVERY_JOB = "SELECT outcome, reason FROM job ORDER BY sequence"
EVERY_VISIT = "SELECT slot, plug_number, finding FROM visit ORDER BY sequence"
BOTH = pytest.mark.parametrize("wired", ["lines", "none"])


class Fixture:
    """Fixtures of one kind, and the station that knows them."""

    def __init__(self, recipe: Recipe, directory: Path, wired: Wired, slots: int, moves: Moves = Moves.BOARD) -> None:
        kind = KINDS[wired]
        self.config: Config = config_for(
            directory,
            Path(recipe.file),
            slots=slots,
            slot_defaults=SlotDefaultsSection(reset=kind.reset, gpio0=kind.gpio0, moves=moves),
            flashing=QUICK,
        )
        self.kinds = every_slot(self.config, kind)

    def shift(self, work: Callable[[Workbench], Awaitable[None]], *, pace: float = 0.0) -> None:
        """Do this work at the running station."""

        async def main() -> None:
            async with at_work(self.config, pace=pace, kinds=self.kinds) as at:
                await work(at)

        asyncio.run(main())

    def rows(self, query: str = EVERY_JOB) -> list[tuple[object, ...]]:
        """What is on record."""
        return rows_of(self.config, query)


@pytest.fixture
def fixture(recipe_of_the_bench: Recipe, tmp_path: Path) -> Callable[..., Fixture]:
    """Make one of a kind, with one slot unless more are asked for."""

    def make(wired: Wired, slots: int = 1, moves: Moves = Moves.BOARD) -> Fixture:
        return Fixture(recipe_of_the_bench, tmp_path, wired, slots, moves)

    return make


async def ready(at: Workbench, *labels: str) -> None:
    """Plug in programmers without boards, and wait until their sockets are watched."""
    for label in labels:
        await at.plug(label, None)
        await until_ready(at, label)


async def until_ready(at: Workbench, label: str = "A1") -> None:
    """Wait until the next board may be seated."""
    await at.until(lambda: (at.view(label).light, at.view(label).words) == (Light.EMPTY, "seat a board"))


async def until_said(at: Workbench, label: str, reason: str) -> None:
    """Wait until a slot gives this reason."""
    await at.until(lambda: at.view(label).reason == reason)


# --- boards come and go ------------------------------------------------------------------------------------------------


def test_boards_are_made_one_after_the_other_as_they_are_seated(fixture: Callable[..., Fixture]) -> None:
    """Seated: a job; lifted: the light goes out and the slot is ready; each seating counts as a plug of its own."""
    made = fixture("lines")

    async def work(at: Workbench) -> None:
        await ready(at, "A1")
        for _ in range(2):
            await at.seat("A1", a_board())
            await at.until_light("A1", Light.PASS)
            assert at.view().deed == "take the board out, put it into GOOD"
            await at.lift("A1")
            await until_ready(at)
            assert at.view().mac == ""

    made.shift(work)
    assert made.rows() == [("PASS", ""), ("PASS", "")]
    assert made.rows(EVERY_VISIT) == [("A1", 1, ""), ("A1", 2, "")]


def test_a_firmware_that_cannot_be_asked_is_left_alone_until_a_new_board_speaks(
    fixture: Callable[..., Fixture],
) -> None:
    """No reset line: the result stays and is said to be unwatched, also when the board is gone; the next board is heard."""
    made = fixture("none")

    async def work(at: Workbench) -> None:
        await ready(at, "A1")
        first, second = a_board(), a_board()
        await at.seat("A1", first)
        await at.until(lambda: at.view().light is Light.PASS and at.view().unwatched)
        programs = first.flash.programs
        await at.lift("A1")
        await asyncio.sleep(2.5)
        assert (at.view().light, at.view().mac, at.view().unwatched) == (Light.PASS, format_mac(first.mac), True)
        assert first.flash.programs == programs
        await at.seat("A1", second)
        await at.until(lambda: at.view().light is Light.PASS and at.view().mac == format_mac(second.mac))

    made.shift(work)
    assert made.rows() == [("PASS", ""), ("PASS", "")]


@BOTH
def test_an_empty_fixture_leaves_no_rows(fixture: Callable[..., Fixture], wired: Wired) -> None:
    """Nobody is seated for seconds: no visit, no light, and not a word about a board."""
    made = fixture(wired)

    async def work(at: Workbench) -> None:
        await ready(at, "A1")
        await asyncio.sleep(2.5)
        assert (at.view().headline, at.view().words, at.view().reason) == ("EMPTY", "seat a board", "")
        assert set(at.light.of("A1")) <= {Light.EMPTY, Light.ACTION}

    made.shift(work)
    assert made.rows("SELECT id FROM visit") == []


@BOTH
def test_a_board_that_is_seated_when_the_station_starts_is_made(fixture: Callable[..., Fixture], wired: Wired) -> None:
    """It said its boot message long ago; it is found all the same, without a hand."""
    made = fixture(wired)

    async def main() -> None:
        with VirtualBench(slots=1, pace=0.0, seed=1, kinds=made.kinds) as bench:
            await asyncio.to_thread(bench.plug, "A1", a_board())
            async with at_work(made.config, bench=bench) as at:
                await at.until_light("A1", Light.PASS)

    asyncio.run(main())
    assert made.rows() == [("PASS", "")]


@BOTH
def test_two_boards_that_are_exchanged_at_once_are_told_apart(fixture: Callable[..., Fixture], wired: Wired) -> None:
    """Within one probe interval: the second board is no continuation of the first one's PASS, but has a job of its own."""
    made = fixture(wired)
    first, second = a_board(), a_board()

    async def work(at: Workbench) -> None:
        await ready(at, "A1")
        await at.seat("A1", first)
        # Without lines the second one is known by its boot message, and by nothing else: somebody has to listen by then.
        await at.until(lambda: at.view().light is Light.PASS and (wired == "lines" or at.view().unwatched))
        await at.exchange("A1", second)
        await at.until(lambda: at.view().light is Light.PASS and at.view().mac == format_mac(second.mac))

    made.shift(work)
    macs = made.rows("SELECT board_mac, outcome FROM job ORDER BY sequence")
    assert macs == [(format_mac(first.mac), "PASS"), (format_mac(second.mac), "PASS")]


# --- lifted too early ----------------------------------------------------------------------------------------------------


@BOTH
def test_lifted_in_mid_write_it_is_the_hand_and_not_the_link(fixture: Callable[..., Fixture], wired: Wired) -> None:
    """ABORTED board_removed, no step of the baud ladder; the words stay in the empty slot until the next board is seated."""
    made = fixture(wired)

    async def work(at: Workbench) -> None:
        await ready(at, "A1")
        await at.seat("A1", a_board())
        await at.until_flashing()
        await at.lift("A1")
        await until_said(at, "A1", "board_removed")
        await asyncio.sleep(1.5)
        assert at.view().words == "lifted too early: half-flashed, do not ship"
        assert (at.view().headline, at.view().deed) == ("AGAIN", "seat the board again")
        await at.seat("A1", a_board())
        await at.until_light("A1", Light.PASS)

    made.shift(work, pace=0.05)
    assert made.rows() == [("ABORTED", "board_removed"), ("PASS", "")]
    assert made.rows("SELECT baud_fallbacks FROM job") == [(0,), (0,)]


@pytest.mark.parametrize(
    ("wired", "phase"), [("lines", Phase.BOOT), ("lines", Phase.SELF_TEST), ("none", Phase.SELF_TEST)]
)
def test_lifted_while_it_starts_or_is_tested_it_is_no_bad_board(
    fixture: Callable[..., Fixture], wired: Wired, phase: Phase
) -> None:
    """The silence of a board that is not there is never a FAIL: ABORTED board_removed, and the same board passes again."""
    made = fixture(wired)
    board = a_board()

    async def work(at: Workbench) -> None:
        await ready(at, "A1")
        await at.seat("A1", board)
        await at.until(lambda: at.view().phase is phase)
        await at.lift("A1")
        await until_said(at, "A1", "board_removed")
        await at.seat("A1", board)
        await at.until_light("A1", Light.PASS)

    made.shift(work, pace=0.05)
    assert made.rows() == [("ABORTED", "board_removed"), ("PASS", "")]


def test_lifted_in_the_moment_of_its_start_it_was_lifted_or_waits(fixture: Callable[..., Fixture]) -> None:
    """Without lines nobody can tell a board that hangs in its start from one that is gone: at worst its test is still due."""
    made = fixture("none")
    board = a_board()

    async def work(at: Workbench) -> None:
        await ready(at, "A1")
        await at.seat("A1", board)
        await at.until(lambda: at.view().phase is Phase.BOOT)
        await at.lift("A1")
        await at.until(lambda: at.view().reason in ("board_removed", "awaits_run_mode"))
        await at.jumper("A1", low=at.view().reason == "board_removed")
        await at.seat("A1", board)
        await at.until_light("A1", Light.PASS)

    made.shift(work, pace=0.05)
    assert made.rows() in ([("PASS", "")], [("ABORTED", "board_removed"), ("PASS", "")])


@pytest.mark.parametrize(
    ("wired", "phase"),
    [("lines", Phase.FLASH), ("lines", Phase.BOOT), ("none", Phase.FLASH), ("none", Phase.SELF_TEST)],
)
def test_exchanged_in_the_middle_of_its_job_neither_board_is_blamed(
    fixture: Callable[..., Fixture], wired: Wired, phase: Phase
) -> None:
    """What the second board says is not held against the first one; and the second one is made, by itself."""
    made = fixture(wired)
    first, second = a_board(), a_board()

    async def work(at: Workbench) -> None:
        await ready(at, "A1")
        await at.seat("A1", first)
        await at.until(lambda: at.view().phase is phase and (phase is not Phase.FLASH or bool(at.view().fraction)))
        await at.exchange("A1", second)
        await at.until(lambda: at.view().light is Light.PASS and at.view().mac == format_mac(second.mac))

    made.shift(work, pace=0.05)
    assert made.rows("SELECT board_mac, outcome, reason FROM job ORDER BY sequence") == [
        (format_mac(first.mac), "ABORTED", "board_removed"),
        (format_mac(second.mac), "PASS", ""),
    ]


# --- one MAC in two places -----------------------------------------------------------------------------------------------


@BOTH
def test_a_board_that_was_carried_over_is_no_duplicate_of_itself(fixture: Callable[..., Fixture], wired: Wired) -> None:
    """Its result is still on screen in A1 when it answers in A2: there it is ALREADY DONE, and A1's light goes out."""
    made = fixture(wired, slots=2)
    board = a_board()

    async def work(at: Workbench) -> None:
        await ready(at, "A1", "A2")
        await at.seat("A1", board)
        await at.until_light("A1", Light.PASS)
        await at.lift("A1")
        await at.seat("A2", board)
        await until_said(at, "A2", "already_done")
        await until_ready(at, "A1")

    made.shift(work)
    assert made.rows() == [("PASS", "")]


@BOTH
def test_a_board_that_left_its_stick_is_no_duplicate_of_itself(fixture: Callable[..., Fixture], wired: Wired) -> None:
    """The same where programmers should move: the stick in A1 is still plugged, without its board, and shows nothing of it."""
    made = fixture(wired, slots=2, moves=Moves.PROGRAMMER)
    board = a_board()

    async def work(at: Workbench) -> None:
        await at.plug("A1", board)
        await at.until_light("A1", Light.PASS)
        await at.lift("A1")
        await at.plug("A2", board)
        await until_said(at, "A2", "already_done")
        await at.until(lambda: at.view("A1").light is Light.EMPTY)
        assert (at.view("A1").words, at.view("A1").mac) == ("board gone: plug in again", "")

    made.shift(work)
    assert made.rows() == [("PASS", "")]


@pytest.mark.parametrize("moves", [Moves.BOARD, Moves.PROGRAMMER])
@BOTH
def test_two_boards_with_one_mac_are_both_held_although_the_first_has_passed(
    fixture: Callable[..., Fixture], wired: Wired, moves: Moves
) -> None:
    """Both answer a fresh probe: the green light goes out, and both slots call somebody."""
    made = fixture(wired, slots=2, moves=moves)
    first = a_board()
    twin = a_board(mac=first.mac)

    async def work(at: Workbench) -> None:
        await at.plug("A1", first)
        await at.until_light("A1", Light.PASS)
        await at.plug("A2", twin)
        for label in ("A1", "A2"):
            await until_said(at, label, "duplicate_mac")
            assert (at.view(label).light, at.view(label).headline) == (Light.FAULT, "CALL")

    made.shift(work)
    assert made.rows() == [("PASS", ""), ("ERROR", "duplicate_mac")]
    assert twin.flash.programs == 0


@BOTH
def test_two_boards_with_one_mac_that_come_together_are_both_held(
    fixture: Callable[..., Fixture], wired: Wired
) -> None:
    """Neither gets a green light, whoever was first."""
    made = fixture(wired, slots=2)
    first = a_board()
    twin = a_board(mac=first.mac)

    async def work(at: Workbench) -> None:
        await ready(at, "A1", "A2")
        await asyncio.gather(at.seat("A1", first), at.seat("A2", twin))
        for label in ("A1", "A2"):
            await until_said(at, label, "duplicate_mac")
        assert Light.PASS not in {*at.light.of("A1"), *at.light.of("A2")}

    made.shift(work, pace=0.05)
    assert made.rows() == [("ERROR", "duplicate_mac"), ("ERROR", "duplicate_mac")]
