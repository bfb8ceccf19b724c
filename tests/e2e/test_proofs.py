"""Golden and red boards, quarantine and the first article, at the running station on the virtual bench."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from station.adapters.records import Database, Span
from station.bench.chip import Chip, make_chip
from station.bench.faults import parse_fault
from station.bench.programmer import ProgrammerKind
from station.config import Config, SlotDefaultsSection, WorkSection
from station.demo import write_demo_recipe
from station.model import Light, format_mac
from station.properties import Gpio0, Moves, Reset
from station.views import SlotView
from tests.e2e.command import station, write_config
from tests.e2e.workbench import JUMPER, Workbench, a_board, at_work, config_for, every_slot, rows_of

BY = ("--by", "Ada")
SAID = (*BY, "--reason", "shift check")
JOBS = "SELECT outcome, reason FROM job ORDER BY sequence"
PROOFS = "SELECT slot, mark, finding, enrolled FROM proof ORDER BY sequence"
WORDS = "SELECT slot, event, release_by, person FROM slot_event ORDER BY sequence"
GOOD = ("GOOD", "", Light.PASS)
EMPTY = ("EMPTY", "", Light.EMPTY)
PROVEN_GOLDEN = ("PROVEN", "golden_passed", Light.ACTION)
PROVEN_RED = ("PROVEN", "red_caught", Light.ACTION)
MISSED = ("CALL", "red_missed", Light.FAULT)
PROVE_FIRST = ("PROVE FIRST", "proof_needed", Light.ACTION)
QUARANTINED = ("QUARANTINED", "slot_quarantined", Light.FAULT)


def with_policy(
    directory: Path, policy: str = "", *, slots: int = 1, limits: str = "", network: bool = False, **work: Any
) -> Config:
    """A station with this policy in its recipe, and this in its `[work]`; without `network` radios stay as they are."""
    more = (f"\n[policy]\n{policy}\n" if policy else "") + (f"\n[limits]\n{limits}\n" if limits else "")
    more += "" if network else '\n[network]\naccess_point = "keep"\n'
    recipe, _ = write_demo_recipe(directory / "recipe", more)
    return config_for(directory, recipe, slots=slots, work=WorkSection(recipe=str(recipe), **work))


def flashed(config: Config, *faults: str) -> Chip:
    """A board that carries the firmware of the recipe already."""
    image = next(Path(config.work.recipe).parent.glob("*.bin")).read_bytes()
    blank = a_board()
    return make_chip(mac=blank.mac, seed=blank.mac[-1], image=image, faults=tuple(map(parse_fault, faults)))


def shift(
    config: Config,
    work: Callable[[Workbench], Awaitable[None]],
    *,
    kind: ProgrammerKind | None = None,
    pace: float = 0.0,
) -> None:
    """Do this work at the running station."""

    async def main() -> None:
        kinds = every_slot(config, kind) if kind else None
        async with at_work(config, pace=pace, kinds=kinds) as at:
            await work(at)

    asyncio.run(main())


async def say(config: Config, *words: str) -> None:
    """A named person says something, by the real command, beside the station."""
    done = await asyncio.to_thread(station, *words, "--db", config.database_url)
    assert done.code == 0, done.err


async def mark_golden(config: Config, chip: Chip) -> None:
    """Enrol it as known good."""
    await say(config, "board", "mark", "golden", format_mac(chip.mac), *SAID)


async def mark_red(config: Config, chip: Chip, code: str) -> None:
    """Enrol it as known bad, for this reason."""
    await say(config, "board", "mark", "red", format_mac(chip.mac), *SAID, "--reason-code", code)


def shown(view: SlotView) -> tuple[str, str, Light]:
    """The one big word, the reason and the light."""
    return view.headline, view.reason, view.light


async def looked(at: Workbench, label: str = "A1") -> tuple[str, str, Light]:
    """What an empty slot shows after the station has asked its records again."""
    await at.floor.keep_books()
    return shown(at.view(label))


class Program:
    """The firmware's own part of a board's flash, as it was."""

    def __init__(self, chip: Chip, size_bytes: int = 0x90000) -> None:
        self._chip, self._size = chip, size_bytes
        self._before = chip.flash.read(0, size_bytes)

    def check(self) -> None:
        """Not a byte of it is another."""
        assert self._chip.flash.read(0, self._size) == self._before


# -- golden and red boards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [True, False], ids=["loader", "firmware"])
@pytest.mark.parametrize("kind", [None, JUMPER], ids=["lines", "jumper"])
def test_a_golden_board_is_judged_and_neither_flashed_nor_counted(
    tmp_path: Path,
    kind: ProgrammerKind | None,
    low: bool,  # noqa: FBT001 - the jumper
) -> None:
    """Whether it answers as loader or as firmware: one row of proof with what was measured, no job, no yield, no write."""
    config = with_policy(tmp_path)
    if kind is not None:
        config = msgspec.structs.replace(config, slot_defaults=SlotDefaultsSection(reset=Reset.NONE, gpio0=Gpio0.HAND))
    golden = flashed(config)

    async def work(at: Workbench) -> None:
        await mark_golden(config, golden)
        program = Program(golden)
        assert shown(await at.visit("A1", golden, low=low)) == PROVEN_GOLDEN
        program.check()
        _, metrics = await at.get("/metrics")
        assert 'station_visit_findings_total{reason="golden_passed"} 1.0' in metrics
        assert 'station_jobs_total{outcome="PASS",slot="A1"} 0.0' in metrics

    shift(config, work, kind=kind)
    assert rows_of(config, JOBS) == []
    assert rows_of(config, PROOFS) == [("A1", "golden", "golden_passed", "")]
    ((measured,),) = rows_of(config, "SELECT measurements FROM proof")
    assert {"free_ram", "boot_to_prompt"} <= {each["name"] for each in msgspec.json.decode(measured)}
    row = station("report", "yield", "--format", "json", "--db", config.database_url).json[-1]
    assert row["boards_attempted"] == 0


def test_a_board_of_the_bench_itself_becomes_golden_and_one_with_its_radio_on_does_not(tmp_path: Path) -> None:
    """Made, enrolled and judged under one recipe: what the station sets up on a board, it asks of a golden one as it is."""
    config = with_policy(tmp_path, network=True)
    golden, never_set_up = a_board(), flashed(config)

    async def work(at: Workbench) -> None:
        assert shown(await at.visit("A1", golden)) == GOOD
        await mark_golden(config, golden)
        assert shown(await at.visit("A1", golden)) == PROVEN_GOLDEN
        await mark_golden(config, never_set_up)
        assert (await at.visit("A1", never_set_up)).words == "golden board judged bad: own access point stays on"

    shift(config, work)
    assert rows_of(config, JOBS) == [("PASS", "")]


DATA = """
[serial]
pool = "sensors"

[files]
tree = "tree"
fill_in = ["told.txt"]
method = "repl"

[[check]]
name = "tell"
file = "tell.py"
"""
TELL = "def check():\n    said = open('told.txt').read()\n    print(said)\n    return {'said': said}\n"
KEY = "Sommerregen-2031"


def test_a_known_board_gets_no_number_no_files_and_leaves_no_secret(tmp_path: Path) -> None:
    """A golden board of a product with data of its own: what it says of it is in no row, and it takes no number twice."""
    config = with_policy(tmp_path, secrets=str(tmp_path / "secrets"))
    recipe = Path(config.work.recipe)
    recipe.write_text(recipe.read_text() + DATA)
    (recipe.parent / "tree").mkdir()
    (recipe.parent / "tree/told.txt").write_text("${secret.key} and ${serial}\n")
    (recipe.parent / "tell.py").write_text(TELL)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").touch(mode=0o600)
    (tmp_path / "secrets/key").write_text(KEY)
    with_numbers(config)
    golden, bare = a_board(), flashed(config)

    async def work(at: Workbench) -> None:
        assert shown(await at.visit("A1", golden)) == GOOD
        await mark_golden(config, golden)
        assert shown(await at.visit("A1", golden)) == PROVEN_GOLDEN
        await mark_golden(config, bare)
        # It has no file to tell of: the check crashes, and nothing is uploaded for its sake.
        assert (await at.visit("A1", bare)).words == "golden board judged bad: check tell crashed"

    shift(config, work)
    assert rows_of(config, "SELECT number FROM serial_number") == [(1,)]
    assert [finding for _, _, finding, _ in rows_of(config, PROOFS)] == ["golden_passed", "golden_failed"]
    left = b"".join(file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file())
    assert b"golden_failed" in left
    assert KEY.encode() not in left


def with_numbers(config: Config) -> None:
    """Grant this station some serial numbers."""
    config.state_dir.mkdir(parents=True, exist_ok=True)
    with Database.open(config.database_url, station_id="test") as database:
        database.numbers.grant(Span(pool="sensors", first=1, last=9), "Ada", "first delivery")


def test_a_red_board_proves_by_its_enrolled_reason_alone(tmp_path: Path) -> None:
    """The value that it is enrolled with, and no other one: what fails for another reason is missed, and so is a pass."""
    config = with_policy(tmp_path)
    wrong_frequency, good = flashed(config, "out_of_limits"), flashed(config)

    async def work(at: Workbench) -> None:
        await mark_red(config, wrong_frequency, "out_of_limits:cpu_frequency")
        assert shown(await at.visit("A1", wrong_frequency)) == PROVEN_RED
        assert await looked(at) == EMPTY
        await mark_red(config, wrong_frequency, "out_of_limits:free_ram")
        seen = await at.visit("A1", wrong_frequency)
        assert shown(seen) == MISSED
        assert "instead of out_of_limits:free_ram" in seen.words
        assert await looked(at) == QUARANTINED
        await mark_red(config, good, "out_of_limits")
        seen = await at.visit("A1", good)
        assert shown(seen) == MISSED
        assert "it passed" in seen.words

    shift(config, work)
    assert rows_of(config, JOBS) == []
    assert [finding for _, _, finding, _ in rows_of(config, PROOFS)] == ["red_caught", "red_missed", "red_missed"]


def test_an_empty_socket_is_no_red_board(tmp_path: Path) -> None:
    """Silence proves nothing, whatever boards are enrolled: the slot goes on asking for the red board."""
    config = with_policy(tmp_path, 'prove = ["red"]')
    red, dead = flashed(config, "no_boot"), a_board("no_answer")

    async def work(at: Workbench) -> None:
        await mark_red(config, red, "no_boot")
        await mark_red(config, dead, "no_boot")
        assert (await at.visit("A1", None)).reason == "no_answer"  # type: ignore[arg-type]
        assert (await at.visit("A1", dead)).reason == "no_answer"
        assert await looked(at) == PROVE_FIRST
        assert shown(await at.visit("A1", red)) == PROVEN_RED
        assert await looked(at) == EMPTY

    shift(config, work)
    assert rows_of(config, PROOFS) == [("A1", "red", "red_caught", "no_boot")]


def test_a_slot_makes_nothing_until_golden_and_red_board_were_judged_as_they_must(tmp_path: Path) -> None:
    """The empty tile says which board it wants; an ordinary one is turned away unwritten; then production begins."""
    config = with_policy(tmp_path, 'prove = ["golden", "red"]')
    golden, red, board = flashed(config), flashed(config, "traceback"), a_board()

    async def work(at: Workbench) -> None:
        await mark_golden(config, golden)
        await mark_red(config, red, "check_raised")
        assert await looked(at) == PROVE_FIRST
        assert (at.view().words, at.view().deed) == ("first a golden board", "plug in a golden board")
        before = (board.flash.erases, board.flash.programs)
        assert shown(await at.visit("A1", board)) == PROVE_FIRST
        assert shown(await at.visit("A1", red)) == PROVEN_RED
        assert shown(await at.visit("A1", board)) == PROVE_FIRST
        assert shown(await at.visit("A1", golden)) == PROVEN_GOLDEN
        assert (board.flash.erases, board.flash.programs) == before
        assert shown(await at.visit("A1", board)) == GOOD
        assert await looked(at) == EMPTY

    shift(config, work)
    assert rows_of(config, JOBS) == [("PASS", "")]


def test_a_proof_holds_for_its_slot_its_shift_and_its_lot_and_survives_a_restart(tmp_path: Path) -> None:
    """Another slot proves itself; after a restart the proof stands; after the next shift began it does not."""
    config = with_policy(tmp_path, 'prove = ["golden"]', slots=2)
    golden = flashed(config)

    async def first(at: Workbench) -> None:
        await mark_golden(config, golden)
        assert shown(await at.visit("A1", golden)) == PROVEN_GOLDEN
        assert shown(await at.visit("A2", a_board())) == PROVE_FIRST

    async def second(at: Workbench) -> None:
        assert shown(await at.visit("A1", a_board())) == GOOD

    async def next_shift(at: Workbench) -> None:
        assert shown(await at.visit("A1", a_board())) == PROVE_FIRST

    shift(config, first)
    shift(config, second)
    rows_changed(config, "UPDATE proof SET happened_at = '2020-01-01 05:59:00.000000'")
    shift(msgspec.structs.replace(config, work=msgspec.structs.replace(config.work, shifts=("06:00",))), next_shift)
    # Without shifts the very same proof holds on: for the whole lot.
    shift(config, second)


def rows_changed(config: Config, statement: str) -> None:
    """Let time pass, in the records."""
    with contextlib.closing(sqlite3.connect(config.database_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(statement)


def test_a_golden_board_that_fails_takes_its_slot_out_of_use(tmp_path: Path) -> None:
    """No board is made there any more, whatever the recipe demands; the same slot judging a golden board good ends it."""
    config = with_policy(tmp_path)
    bad, golden = flashed(config, "out_of_limits"), flashed(config)

    async def work(at: Workbench) -> None:
        await mark_golden(config, bad)
        seen = await at.visit("A1", bad)
        assert shown(seen) == ("CALL", "golden_failed", Light.FAULT)
        assert "cpu_frequency" in seen.words
        assert await looked(at) == QUARANTINED
        assert shown(await at.visit("A1", a_board())) == QUARANTINED
        assert any("A1 quarantined" in notice for notice in at.floor.view().notices)
        _, metrics = await at.get("/metrics")
        assert "station_slots_quarantined 1.0" in metrics
        await mark_golden(config, golden)
        assert shown(await at.visit("A1", golden)) == PROVEN_GOLDEN
        assert shown(await at.visit("A1", a_board())) == GOOD
        assert await looked(at) == EMPTY

    shift(config, work)
    assert rows_of(config, WORDS) == [("A1", "quarantine", "golden", ""), ("A1", "release", "golden", "")]


def test_a_golden_board_under_the_recipe_of_another_lot_is_judged_bad_and_stays_what_it_is(tmp_path: Path) -> None:
    """The slot is taken out of use until the right board is found; the wrong one is not written."""
    other = with_policy(tmp_path, limits="cpu_frequency_hz = [160000000, 160000000]")
    golden = flashed(other)

    async def work(at: Workbench) -> None:
        await mark_golden(other, golden)
        program = Program(golden)
        seen = await at.visit("A1", golden)
        assert shown(seen) == ("CALL", "golden_failed", Light.FAULT)
        assert "golden for another recipe" in seen.cause
        program.check()
        assert await looked(at) == QUARANTINED

    shift(other, work)
    assert rows_of(other, JOBS) == []


def test_a_slot_that_missed_a_red_board_is_not_released_by_a_golden_one(tmp_path: Path) -> None:
    """A slot that passes everything passes golden boards as well: the red one has to be caught."""
    config = with_policy(tmp_path)
    red, golden, caught = flashed(config), flashed(config), flashed(config, "traceback")

    async def work(at: Workbench) -> None:
        await mark_red(config, red, "check_raised")
        await mark_golden(config, golden)
        assert shown(await at.visit("A1", red)) == MISSED
        assert shown(await at.visit("A1", golden)) == PROVEN_GOLDEN
        assert shown(await at.visit("A1", a_board())) == QUARANTINED
        await mark_red(config, caught, "check_raised")
        assert shown(await at.visit("A1", caught)) == PROVEN_RED
        assert shown(await at.visit("A1", a_board())) == GOOD

    shift(config, work)


def test_a_disabled_check_is_noticed_by_the_red_board(tmp_path: Path) -> None:
    """A limit so wide that it lets everything through passes every board, and misses the one that is known to be bad."""
    config = with_policy(tmp_path, limits="cpu_frequency_hz = [0, 1000000000]")
    red = flashed(config, "out_of_limits")

    async def work(at: Workbench) -> None:
        await mark_red(config, red, "out_of_limits:cpu_frequency")
        assert shown(await at.visit("A1", red)) == MISSED

    shift(config, work)


def test_a_golden_board_that_is_pulled_early_proves_nothing(tmp_path: Path) -> None:
    """Neither good nor bad: no proof, no quarantine, and the slot still wants it."""
    config = with_policy(tmp_path, 'prove = ["golden"]')
    golden = flashed(config)

    async def work(at: Workbench) -> None:
        await mark_golden(config, golden)
        await at.plug("A1", golden)
        await at.until(lambda: at.view().phase == "SELF_TEST")
        await at.pull("A1")
        assert await looked(at) == PROVE_FIRST

    shift(config, work, pace=0.05)
    assert rows_of(config, PROOFS) == []
    assert rows_of(config, WORDS) == []
    assert rows_of(config, "SELECT finding FROM visit") == [("unplugged",)]


def test_where_boards_are_seated_known_boards_prove_the_slot_too(tmp_path: Path) -> None:
    """The tile asks to seat them, and goes on with the next board by itself."""
    config = with_policy(tmp_path, 'prove = ["golden"]')
    kind = ProgrammerKind(reset=Reset.LINES, gpio0=Gpio0.LINES)
    moves = SlotDefaultsSection(reset=Reset.LINES, gpio0=Gpio0.LINES, moves=Moves.BOARD)
    config = msgspec.structs.replace(config, slot_defaults=moves)
    golden, board = flashed(config), a_board()

    async def work(at: Workbench) -> None:
        await mark_golden(config, golden)
        await at.plug("A1", None)
        await at.until(lambda: at.view().reason == "proof_needed")
        assert at.view().deed == "seat a golden board"
        await at.seat("A1", golden)
        await at.until(lambda: at.view().reason == "golden_passed")
        await at.exchange("A1", board)
        await at.until(lambda: at.view().light is Light.PASS)

    shift(config, work, kind=kind)


def test_a_board_that_restarts_where_a_golden_board_did_is_not_blamed(tmp_path: Path) -> None:
    """ERROR supply_weak behind the same hub; when a golden board passes in its slot, a restart is the board's again."""
    config = with_policy(tmp_path, slots=2)
    sags, steady = flashed(config, "brownout_wifi"), flashed(config)

    async def work(at: Workbench) -> None:
        await mark_golden(config, sags)
        await mark_golden(config, steady)
        assert (await at.visit("A1", sags)).reason == "golden_failed"
        board = a_board("brownout_wifi")
        view = await at.visit("A2", board)
        assert (view.headline, view.reason, view.light) == ("CALL", "supply_weak", Light.FAULT)
        assert view.words == "supply too weak: golden board in slot A1 reset, too"
        assert shown(await at.visit("A2", steady)) == PROVEN_GOLDEN
        assert (await at.visit("A2", board)).reason == "brownout"

    shift(config, work)
    assert rows_of(config, JOBS) == [("ERROR", "supply_weak"), ("FAIL", "brownout")]


# -- quarantine by counting ------------------------------------------------------------------------------------------------


def test_a_slot_that_fails_board_after_board_is_quarantined_while_its_sibling_does_well(tmp_path: Path) -> None:
    """Three different boards, and the sibling passed one meanwhile: no fourth is touched, the sibling works on."""
    config = with_policy(tmp_path, slots=2, quarantine_after=3)

    async def work(at: Workbench) -> None:
        for number in range(3):
            assert (await at.visit("A1", a_board("flash_dead"))).reason == "flash_no_answer"
            if number == 1:
                assert shown(await at.visit("A2", a_board())) == GOOD
        assert await looked(at) == QUARANTINED
        board = a_board()
        before = (board.flash.erases, board.flash.programs)
        assert shown(await at.visit("A1", board)) == QUARANTINED
        assert (board.flash.erases, board.flash.programs) == before
        assert shown(await at.visit("A2", board)) == GOOD

    shift(config, work)
    assert rows_of(config, WORDS) == [("A1", "quarantine", "golden", "")]


def test_a_restart_keeps_the_count(tmp_path: Path) -> None:
    """Two bad boards before it and one after it are three; in a bench of one slot they are nobody's fault."""
    config = with_policy(tmp_path, slots=2, quarantine_after=3)
    alone = with_policy(tmp_path / "alone", quarantine_after=3)

    async def first(at: Workbench) -> None:
        for _ in range(2):
            assert (await at.visit("A1", a_board("flash_dead"))).reason == "flash_no_answer"
        assert shown(await at.visit("A2", a_board())) == GOOD

    async def second(at: Workbench) -> None:
        assert await looked(at) == EMPTY
        assert (await at.visit("A1", a_board("flash_dead"))).reason == "flash_no_answer"
        assert await looked(at) == QUARANTINED

    async def lonely(at: Workbench) -> None:
        for _ in range(4):
            assert (await at.visit("A1", a_board("flash_dead"))).reason == "flash_no_answer"
        assert await looked(at) == EMPTY

    shift(config, first)
    shift(config, second)
    shift(alone, lonely)


def test_one_bad_board_accuses_no_slot_and_a_bad_batch_none_either(tmp_path: Path) -> None:
    """The same board again and again is one board; and where nobody passes, nobody is quarantined."""
    config = with_policy(tmp_path, slots=2, quarantine_after=2)
    bad = a_board("flash_dead")

    async def work(at: Workbench) -> None:
        assert shown(await at.visit("A2", a_board())) == GOOD
        for _ in range(2):
            assert (await at.visit("A1", bad)).reason == "flash_no_answer"
        assert await looked(at) == EMPTY
        await at.visit("A2", a_board("flash_dead"))
        await at.visit("A1", a_board("flash_dead"))
        assert await looked(at, "A1") == EMPTY
        assert await looked(at, "A2") == EMPTY

    shift(config, work)
    assert rows_of(config, WORDS) == []


def test_a_person_takes_a_slot_out_of_use_and_brings_it_back(tmp_path: Path) -> None:
    """By name and reason, beside the running station; it holds over a restart, and twice is refused."""
    config = with_policy(tmp_path)
    file = write_config(tmp_path, recipe=Path(config.work.recipe))
    with file.open("a") as text:
        text.write("\n[slots]\n" + "".join(f'{label} = "{place}"\n' for label, place in config.slots.items()))
    words = ("--config", str(file), *SAID)

    async def first(at: Workbench) -> None:
        assert (await asyncio.to_thread(station, "slots", "quarantine", "Z9", *words)).code == 64
        done = await asyncio.to_thread(station, "slots", "quarantine", "A1", *words)
        assert done.code == 0, done.err
        seen = await at.visit("A1", a_board())
        assert shown(seen) == QUARANTINED
        assert "shift check (Ada)" in seen.words

    async def second(at: Workbench) -> None:
        assert await looked(at) == QUARANTINED
        done = await asyncio.to_thread(station, "slots", "release", "A1", *words)
        assert done.code == 0, done.err
        assert shown(await at.visit("A1", a_board())) == GOOD
        assert (await asyncio.to_thread(station, "slots", "release", "A1", *words)).code == 78

    shift(config, first)
    shift(config, second)
    assert [row[3] for row in rows_of(config, WORDS)] == ["Ada", "Ada"]


# -- the first article -----------------------------------------------------------------------------------------------------


def test_the_first_article_is_made_alone(tmp_path: Path) -> None:
    """While it is made every other slot waits and says for whom; with its PASS they begin by themselves."""
    config = with_policy(tmp_path, 'first_article = "lot"', slots=3)
    boards = {label: a_board() for label in ("A1", "A2", "A3")}

    async def work(at: Workbench) -> None:
        await at.plug("A1", boards["A1"])
        await at.until_light("A1", Light.BUSY)
        for label in ("A2", "A3"):
            await at.plug(label, boards[label])
            await at.until(lambda label=label: at.view(label).reason == "first_article_runs")  # type: ignore[misc]
        assert at.view("A2").words == "wait: first article in slot A1"
        assert at.view("A1").light is Light.BUSY
        for label in boards:
            await at.until_light(label, Light.PASS)

    shift(config, work, pace=0.05)
    first, *others = rows_of(config, "SELECT slot, outcome, started_at, ended_at FROM job ORDER BY sequence")
    assert first[:2] == ("A1", "PASS")
    assert all(outcome == "PASS" and started >= first[3] for _, outcome, started, _ in others)


async def wants_first_article(at: Workbench) -> bool:
    """Whether boards are made one at a time, after the station has asked its records again."""
    await at.floor.keep_books()
    return at.floor._gate.bars.wants_first_article


def test_a_first_article_that_is_pulled_is_none(tmp_path: Path) -> None:
    """Two slots wait for it: with its ABORTED one of them makes the next one, alone, and the other waits on for that."""
    config = with_policy(tmp_path, 'first_article = "lot"', slots=3)

    async def work(at: Workbench) -> None:
        await at.plug("A1", a_board())
        await at.until_flashing("A1")
        for label in ("A2", "A3"):
            await at.plug(label, a_board())
        await at.until(lambda: at.view("A3").reason == "first_article_runs")
        await at.pull("A1")
        for label in ("A2", "A3"):
            await at.until_light(label, Light.PASS)

    shift(config, work, pace=0.05)
    rows = rows_of(config, "SELECT outcome, reason, started_at, ended_at FROM job ORDER BY sequence")
    assert [row[:2] for row in rows] == [("ABORTED", "unplugged"), ("PASS", ""), ("PASS", "")]
    assert rows[2][2] >= rows[1][3] >= rows[0][3]


def test_a_board_that_was_only_tested_is_no_first_article(tmp_path: Path) -> None:
    """It passed, and was not made here: not for a moment does the next board find company."""
    config = with_policy(tmp_path, 'first_article = "lot"\nrun_mode_board = "test"')
    stick = SlotDefaultsSection(reset=Reset.NONE, gpio0=Gpio0.HAND)
    config = msgspec.structs.replace(config, slot_defaults=stick)

    async def work(at: Workbench) -> None:
        assert shown(await at.visit("A1", flashed(config), low=False)) == GOOD
        assert at.floor._gate.bars.wants_first_article
        assert await wants_first_article(at)

    shift(config, work, kind=JUMPER)
    assert rows_of(config, "SELECT outcome, flash_touched FROM job") == [("PASS", 0)]


def test_a_first_article_that_fails_is_none(tmp_path: Path) -> None:
    """The next board is made alone as well, in whatever slot; after a restart the PASS of the lot still counts."""
    config = with_policy(tmp_path, 'first_article = "lot"', slots=2)

    async def first(at: Workbench) -> None:
        assert (await at.visit("A1", a_board("flash_dead"))).reason == "flash_no_answer"
        assert await wants_first_article(at)
        assert shown(await at.visit("A2", a_board())) == GOOD
        assert not await wants_first_article(at)

    async def second(at: Workbench) -> None:
        assert not await wants_first_article(at)
        assert shown(await at.visit("A1", a_board())) == GOOD

    shift(config, first)
    shift(config, second)


def test_slots_prove_themselves_beside_the_first_article(tmp_path: Path) -> None:
    """A slot that still has to judge a golden board makes nothing, so it need not wait for the one that does."""
    config = with_policy(tmp_path, 'first_article = "lot"\nprove = ["golden"]', slots=2)
    goldens = [flashed(config), flashed(config)]

    async def work(at: Workbench) -> None:
        for golden in goldens:
            await mark_golden(config, golden)
        assert shown(await at.visit("A1", goldens[0])) == PROVEN_GOLDEN
        await at.floor.keep_books()
        await at.plug("A1", a_board())
        await at.until_light("A1", Light.BUSY)
        await at.plug("A2", goldens[1])
        await at.until_light("A2", Light.BUSY)
        assert at.view("A1").light is Light.BUSY
        await at.until(lambda: at.view("A2").reason == "golden_passed")
        await at.pull("A2")
        await at.until_light("A1", Light.PASS)
        await at.floor.keep_books()
        assert shown(await at.visit("A2", a_board())) == GOOD

    shift(config, work, pace=0.1)
