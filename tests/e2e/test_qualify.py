"""A first day with real boards, played on the virtual bench: measured, kept, and obeyed by the station afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from station.adapters.host import only_daemon
from station.adapters.recipe_file import with_images
from station.adapters.records import BoardEvent, BoardEventRow, Database, new_id
from station.bench.bench import BenchLine, BenchOpener, BenchWatcher, VirtualBench
from station.bench.chip import Chip
from station.bench.image import make_image
from station.bench.programmer import ProgrammerKind
from station.config import Config, FlashingSection, WorkSection
from station.demo import write_demo_recipe
from station.errors import ConfigurationError
from station.model import Light, Programmer, format_mac
from station.ports import LineOpener, Stop
from station.properties import Gpio0, Reset
from station.qualification import SlotResult, load
from station.qualifying.probing import RATES, ProbePlan
from station.qualifying.qualify import Person, QualifyRequest, qualify
from tests.e2e.command import station
from tests.e2e.workbench import JUMPER, a_board, at_work, config_for, rows_of

PATIENCE_S = 90.0
FAST = (921_600, 460_800, 230_400, 115_200)
QUICK = ProbePlan(bauds=(115_200, 460_800), rounds=1, round_bytes=4096)
"""Too little to prove a rate, and quick."""
TO_FAST = ProbePlan(bauds=(115_200, 460_800, 921_600))
JOBS = "SELECT state, outcome, reason, flash_touched FROM job ORDER BY sequence"


class BadWire(BenchLine):
    """A line on which bytes from the board arrive damaged, or none at all, at high rates."""

    from_baud = 0
    every = 0
    _count = 0

    def _take(self, limit: int) -> bytes:
        taken = bytearray(super()._take(limit))
        if self.from_baud and self.baudrate >= self.from_baud:
            if not self.every:
                return b""
            for position in range(len(taken)):
                self._count += 1
                if self._count % self.every == 0:
                    taken[position] ^= 0x10
        return bytes(taken)


class OneBadBlock(BenchLine):
    """A line that damages one block on its way to the board, at 460800, and is fine ever after."""

    done = False

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # as SerialLine has it
        """Flip a bit of the first compressed block."""
        if not self.done and self.baudrate == 460_800 and data[2] == 0x11:
            self.done = True
            hurt = bytearray(data)
            hurt[1000] = 0x55 if hurt[1000] != 0x55 else 0x54
            super().write(bytes(hurt))
            return len(data)
        return super().write(data)


class OneBadBlockOpener(BenchOpener):
    """Opens such lines."""

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> BenchLine:
        """Open it as ever, and let it damage one block."""
        line = super().open(programmer, baud, stop, may_reset=may_reset)
        line.__class__ = OneBadBlock
        return line


class BadWireOpener(BenchOpener):
    """Opens lines that are bad from this rate on: one damaged byte in so many, or (0) not a byte gets through."""

    def __init__(self, bench: VirtualBench, *, from_baud: int, every: int) -> None:
        super().__init__(bench)
        self.from_baud, self.every = from_baud, every

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> BenchLine:
        """Open it as ever, and make it bad."""
        line = super().open(programmer, baud, stop, may_reset=may_reset)
        line.__class__ = BadWire
        assert isinstance(line, BadWire)
        line.from_baud, line.every = self.from_baud, self.every
        return line


class OtherAdapters(VirtualBench):
    """The same sockets with another kind of adapter in each."""

    def attached(self) -> tuple[Programmer, ...]:
        """What is plugged in, as this kind says of itself."""
        return tuple(dataclasses.replace(each, adapter_version="0304") for each in super().attached())

    def socket_of(self, programmer: Programmer) -> Any:
        """Where it is plugged in."""
        return super().socket_of(dataclasses.replace(programmer, adapter_version="0264"))


@dataclasses.dataclass
class Day:
    """One run of `station qualify`, and the hands at the bench."""

    bench: VirtualBench
    config: Config
    person: Person
    said: list[str]
    shown: list[str]
    running: asyncio.Task[tuple[SlotResult, ...]]

    async def plug(self, chip: Chip, label: str = "A1") -> None:
        """Plug it in, unplugged or not."""
        await asyncio.to_thread(self.bench.unplug, label)
        await asyncio.to_thread(self.bench.plug, label, chip)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait, and do not wait for what has broken down."""
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                if self.running.done():
                    self.running.result()
                    raise AssertionError(f"it has ended: {self.said}")
                await asyncio.sleep(0.01)

    async def until_said(self, words: str) -> None:
        """Wait until the person was told so."""
        await self.until(lambda: any(words in line for line in self.said))

    async def until_shown(self, words: str) -> None:
        """Wait until it is at that step."""
        await self.until(lambda: any(words in line for line in self.shown))

    async def result(self) -> tuple[SlotResult, ...]:
        """What was measured when all is done."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.running


@asynccontextmanager
async def a_day(
    config: Config,
    request: QualifyRequest,
    *,
    kind: ProgrammerKind | None = None,
    opener: Callable[[VirtualBench], LineOpener] = BenchOpener,
) -> AsyncIterator[Day]:
    """Run it on a bench of its own, as fast as possible; whatever still runs at the end is told to finish."""
    with ExitStack() as stack:
        kinds = dict.fromkeys(config.slots, kind) if kind else None
        bench = stack.enter_context(VirtualBench(slots=len(config.slots), pace=0.0, seed=1, kinds=kinds))
        said: list[str] = []
        shown: list[str] = []
        person = Person(say=said.append, show=lambda slot, progress: shown.append(f"{slot} {progress.note}"))
        running = asyncio.create_task(
            qualify(config, request, person, watcher=BenchWatcher(bench), opener=opener(bench))
        )
        try:
            yield Day(bench=bench, config=config, person=person, said=said, shown=shown, running=running)
        finally:
            person.finish.set()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A station with one slot and a fast ladder."""
    return bench_of(tmp_path)


def bench_of(tmp_path: Path, *, slots: int = 1) -> Config:
    """A station with so many slots and a fast ladder."""
    recipe, _ = write_demo_recipe(tmp_path / "recipe")
    flashing = FlashingSection(baud_ladder=FAST, progress_deadline_s=20.0, identity_reads_over_s=0.02)
    return config_for(tmp_path, recipe, slots=slots, flashing=flashing)


def made_by_the_daemon(config: Config, *, kind: type[VirtualBench] = VirtualBench) -> tuple[str, int]:
    """Let the daemon make one board in A1; return outcome and rate of its job."""

    async def main() -> tuple[str, int]:
        with kind(slots=1, pace=0.0, seed=1) as bench:
            async with at_work(config, bench=bench) as work:
                await work.plug_and_wait("A1", a_board())
                (row,) = work.rows("SELECT outcome, baud_used FROM job ORDER BY sequence DESC LIMIT 1")
                return row[0], row[1]

    return asyncio.run(main())


def test_a_healthy_slot_is_measured_and_goes_faster_afterwards(config: Config) -> None:
    """Without a measurement 460800 is used; after it 921600; with another kind of adapter there 460800 again."""
    assert made_by_the_daemon(config) == ("PASS", 460_800)
    board = a_board()

    async def main() -> tuple[SlotResult, ...]:
        async with a_day(config, QualifyRequest()) as day:
            await day.until_said("A1: put a board into the programmer and plug it in (board 1 of 1)")
            await day.plug(board)
            return await day.result()

    (slot,) = asyncio.run(main())
    (measured,) = slot.boards
    assert (measured.complete, measured.ended, slot.ceiling_baud) == (True, "", RATES[-1])
    assert [rate.baud for rate in measured.rates] == list(RATES)
    assert all(rate.is_clean and rate.write_s and rate.read_s for rate in measured.rates)
    expected = {
        "en_by_rts": True,
        "gpio0_by_dtr": True,
        "boot_text_baud": 74_880,
        "sync_attempts": 1,
        "direct_sync_baud": 921_600,
        "software_start": True,
        "identity_agrees": True,
    }
    assert {name: measured.values[name] for name in expected} == expected
    timed = {"sync_s", "stub_start_s", "direct_stub_start_s", "legacy_stub_start_s", "chip_erase_s", "block_erase_s"}
    timed |= {"sector_erase_s", "md5_s_per_mib", "first_boot_s", "second_boot_s"}
    assert timed | set(expected) == set(measured.values)
    assert load(config.state_dir).slots == (slot,)
    assert made_by_the_daemon(config) == ("PASS", 921_600)
    assert made_by_the_daemon(config, kind=OtherAdapters) == ("PASS", 460_800)


def test_a_measured_board_is_left_with_the_image_and_no_pass(config: Config) -> None:
    """Its flash holds the recipe's image and a filesystem; on record it is a stopped job of an order of its own."""
    board, image = a_board(), make_image(variant="1M")

    async def main() -> None:
        async with a_day(config, QualifyRequest(plan=QUICK)) as day:
            await day.plug(board)
            await day.result()

    asyncio.run(main())
    assert bytes(board.flash.data[4 : len(image)]) == image[4:]
    assert b"littlefs" in board.flash.data[len(image) :]
    assert rows_of(config, JOBS) == [("closed", "ABORTED", "stopped_by_request", 1)]
    assert rows_of(config, "SELECT lot.product FROM job JOIN lot ON lot.id = job.lot_id") == [("qualification",)]
    assert rows_of(config, "SELECT finding FROM visit") == [("",)]
    with Database.open(config.database_url) as books:
        known = books.known_board(format_mac(board.mac))
    assert known is not None
    assert (known.passes, known.attempts, known.judged_attempts) == ((), 1, 0)


def test_of_several_images_a_board_gets_the_one_for_its_flash(config: Config) -> None:
    """A recipe that begins with a smaller build leaves the board with its own, and the row names that very image."""
    board, image, recipe = a_board(), make_image(variant="1M"), Path(config.work.recipe)
    for name, content in (("1M.bin", image), ("512K.bin", make_image(variant="512K"))):
        (recipe.parent / name).write_bytes(content)
    recipe.write_text(with_images(recipe, "", [recipe.parent / "512K.bin", recipe.parent / "1M.bin"]))

    async def main() -> None:
        async with a_day(config, QualifyRequest(plan=QUICK)) as day:
            await day.plug(board)
            await day.result()

    asyncio.run(main())
    assert bytes(board.flash.data[4 : len(image)]) == image[4:]
    assert rows_of(config, "SELECT firmware_sha256 FROM job") == [(hashlib.sha256(image).hexdigest(),)]


def test_a_line_that_damages_bytes_at_921600_has_its_ceiling_below(config: Config) -> None:
    """460800 is clean and 921600 is not: the ceiling lies between, the counts say what happened, the daemon obeys."""
    plan = dataclasses.replace(TO_FAST, bauds=(*TO_FAST.bauds, 2_000_000))

    async def main() -> tuple[SlotResult, ...]:
        def opener(bench: VirtualBench) -> LineOpener:
            return BadWireOpener(bench, from_baud=921_600, every=30_000)

        async with a_day(config, QualifyRequest(plan=plan), opener=opener) as day:
            await day.plug(a_board())
            return await day.result()

    (slot,) = asyncio.run(main())
    rates = {rate.baud: rate for rate in slot.boards[0].rates}
    assert slot.ceiling_baud == 460_800
    assert slot.boards[0].complete
    assert rates[460_800].clean == 3
    assert set(rates) == set(plan.bauds), "where the board can be reset the higher rates are measured all the same"
    for baud in (921_600, 2_000_000):
        assert rates[baud].clean == 0
        assert rates[baud].corrupted + rates[baud].silent + rates[baud].wrong == rates[baud].rounds == 3
    assert made_by_the_daemon(config) == ("PASS", 460_800)


def test_a_block_that_was_mended_is_an_error_of_its_rate(config: Config) -> None:
    """A job would not have noticed: the block was sent again and all content is right. The rate is not clean for all that."""

    async def main() -> tuple[SlotResult, ...]:
        plan = ProbePlan(bauds=(115_200, 460_800))
        async with a_day(config, QualifyRequest(plan=plan), opener=OneBadBlockOpener) as day:
            await day.plug(a_board())
            return await day.result()

    (slot,) = asyncio.run(main())
    rate = slot.boards[0].rates[1]
    # The first blocks at 460800 are those of the rounds: until then nothing was written at all.
    assert (rate.rounds, rate.clean, rate.repeated_blocks, rate.wrong, rate.corrupted, rate.silent) == (
        3,
        2,
        1,
        0,
        0,
        0,
    )
    assert slot.ceiling_baud == 115_200


def test_bad_contact_is_no_ground_for_a_fast_rate(config: Config) -> None:
    """Noise that grows with the rate: 921600 is never clean, however far below it the ceiling is."""

    async def main() -> tuple[SlotResult, ...]:
        plan = ProbePlan(bauds=(115_200, 921_600))
        async with a_day(config, QualifyRequest(plan=plan)) as day:
            await day.plug(a_board("noise@0.00002"))
            await day.until(lambda: bool(load(config.state_dir).slots))
            return load(config.state_dir).slots

    (slot,) = asyncio.run(main())
    assert (slot.ceiling_baud or 0) < 921_600
    assert not any(rate.is_clean for board in slot.boards for rate in board.rates if rate.baud == 921_600)
    assert 921_600 not in slot.clean_bauds


def test_where_nothing_resets_a_board_what_was_lost_is_tried_again_below(config: Config) -> None:
    """Silent from 921600 on, the board cannot be fetched back: it is plugged in again, and measured below that rate."""
    board = a_board()

    async def main() -> tuple[SlotResult, ...]:
        def opener(bench: VirtualBench) -> LineOpener:
            return BadWireOpener(bench, from_baud=921_600, every=0)

        async with a_day(config, QualifyRequest(plan=TO_FAST), kind=JUMPER, opener=opener) as day:
            await day.plug(board)
            await day.until_said("lost at 921600 baud, and nothing in this slot resets it")
            await day.plug(board)
            return await day.result()

    (slot,) = asyncio.run(main())
    lost, whole = slot.boards
    assert (lost.complete, whole.complete) == (False, True)
    assert [rate.baud for rate in lost.rates] == list(TO_FAST.bauds)
    assert (lost.rates[-1].clean, lost.rates[-1].rounds) == (0, 1)
    assert [rate.baud for rate in whole.rates] == [115_200, 460_800]
    assert slot.ceiling_baud == 460_800
    assert whole.values["en_by_rts"] is False
    assert whole.values["software_start"] is True
    assert whole.values["first_boot_s"]
    assert "second_boot_s" not in whole.values
    assert "sync_s" not in whole.values


@pytest.mark.parametrize(
    ("faults", "kind", "value", "found"),
    [
        (("no_soft_start",), None, "software_start", False),
        ((), ProgrammerKind(reset=Reset.LINES, gpio0=Gpio0.ALWAYS_LOW), "gpio0_by_dtr", False),
        (("no_soft_start",), JUMPER, "software_start", False),
    ],
    ids=["lines", "soldered", "jumper"],
)
def test_what_is_not_as_assumed_is_measured_and_ends_nothing(
    config: Config,
    faults: tuple[str, ...],
    kind: ProgrammerKind | None,
    value: str,
    found: bool,  # noqa: FBT001
) -> None:
    """A firmware that software does not start, a GPIO0 that stays at GND: that is a result, and the board is complete."""

    async def main() -> tuple[SlotResult, ...]:
        async with a_day(config, QualifyRequest(plan=QUICK), kind=kind) as day:
            await day.plug(a_board(*faults))
            return await day.result()

    (slot,) = asyncio.run(main())
    assert slot.boards[0].complete
    assert slot.boards[0].values[value] is found
    assert slot.ceiling_baud is None, "one short round proves no rate"


def test_lines_that_must_not_be_moved_are_not(config: Config) -> None:
    """Where the configuration says that nothing resets the board, the lines are left alone and count as not seen."""

    async def main() -> tuple[SlotResult, ...]:
        async with a_day(config_with(config, reset="none"), QualifyRequest(plan=QUICK), kind=JUMPER) as day:
            await day.plug(a_board())
            return await day.result()

    (slot,) = asyncio.run(main())
    assert slot.boards[0].complete
    assert "en_by_rts" not in slot.boards[0].values
    assert "gpio0_by_dtr" not in slot.boards[0].values


def config_with(config: Config, **defaults: str) -> Config:
    """The same with these defaults of its slots."""
    section = msgspec.convert(defaults, type(config.slot_defaults))
    return msgspec.structs.replace(config, slot_defaults=section)


# -- the hand ------------------------------------------------------------------------------------------------------------


def test_pulled_in_the_middle_what_was_measured_is_kept_and_the_slot_is_asked_again(config: Config) -> None:
    """The person is told, the file has what there was, the record says that it was written, and another board goes on."""
    first, second = a_board(), a_board()

    async def main() -> tuple[SlotResult, ...]:
        async with a_day(config, QualifyRequest(plan=TO_FAST)) as day:
            await day.plug(first)
            await day.until_shown("460800 baud, round 1 of 3")
            await asyncio.to_thread(day.bench.unplug, "A1")
            await day.until_said("A1: pulled too early")
            (kept,) = load(config.state_dir).slots
            assert kept.boards[0].rates[0].is_clean
            assert kept.boards[0].values["chip_erase_s"]
            assert (kept.boards[0].complete, kept.ceiling_baud) == (False, None)
            await day.plug(second)
            return await day.result()

    (slot,) = asyncio.run(main())
    assert [(board.mac, board.complete) for board in slot.boards] == [
        (format_mac(first.mac), False),
        (format_mac(second.mac), True),
    ]
    assert slot.ceiling_baud == 921_600
    assert rows_of(config, JOBS) == [("closed", "ABORTED", "stopped_by_request", 1)] * 2


def test_boards_go_round_the_slots_as_told(tmp_path: Path) -> None:
    """Three boards over two slots: A1, A2, and A1 again with the next board, after which its plug is another."""
    config = bench_of(tmp_path, slots=2)

    async def main() -> tuple[SlotResult, ...]:
        async with a_day(config, QualifyRequest(boards=3, plan=QUICK)) as day:
            await day.plug(a_board(), "A2")
            await day.until_said("A1: put a board into the programmer and plug it in (board 1 of 3)")
            await day.plug(a_board(), "A1")
            await day.until_said("A1: put a board into the programmer and plug it in (board 3 of 3)")
            await day.plug(a_board(), "A1")
            return await day.result()

    slots = asyncio.run(main())
    assert [(slot.slot, len(slot.whole_boards)) for slot in slots] == [("A1", 2), ("A2", 1)]
    assert [slot.slot for slot in load(config.state_dir).slots] == ["A1", "A2"]


def test_a_programmer_that_stays_waits_for_the_person(tmp_path: Path) -> None:
    """A board that was changed without unplugging makes no event: a key says so, and the next board is measured."""
    config, second = bench_of(tmp_path), a_board()

    async def main() -> tuple[SlotResult, ...]:
        async with a_day(config, QualifyRequest(boards=2, plan=QUICK)) as day:
            await day.plug(a_board())
            await day.until_said("(board 2 of 2)")
            await asyncio.to_thread(day.bench.lift, "A1")
            await asyncio.to_thread(day.bench.seat, "A1", second)
            day.person.pressed.set()
            return await day.result()

    (slot,) = asyncio.run(main())
    assert [board.mac for board in slot.whole_boards][1:] == [format_mac(second.mac)]


def test_an_empty_programmer_and_a_board_without_loader_are_said_and_leave_nothing(config: Config) -> None:
    """Nobody answers, or a firmware does: words for the person, a finding on record, and not a byte written."""
    running = a_board("run_mode")
    running.flash.data[: len(make_image())] = make_image()

    async def main() -> None:
        async with a_day(config, QualifyRequest(plan=QUICK)) as day:
            await day.plug(a_board("no_answer"))
            await day.until_said("A1: no answer")
            await day.plug(running)
            await day.until(lambda: len([line for line in day.said if "another one can be measured" in line]) == 2)

    asyncio.run(main())
    assert [finding for (finding,) in rows_of(config, "SELECT finding FROM visit ORDER BY sequence")][:2] == [
        "no_answer",
        "not_in_download_mode",
    ]
    assert rows_of(config, JOBS) == []
    assert load(config.state_dir).slots == ()
    assert bytes(running.flash.data[: len(make_image())]) == make_image()


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(config: Config, board: Chip, words: str, *, again: bool = False) -> None:
    """This board is refused with these words, and nothing of it is touched."""
    before = bytes(board.flash.data)

    async def main() -> None:
        async with a_day(config, QualifyRequest(plan=QUICK, again=again)) as day:
            await day.plug(board)
            await day.until_said(words)

    asyncio.run(main())
    assert bytes(board.flash.data) == before


def test_a_board_that_passed_is_taken_only_when_asked_and_is_no_pass_afterwards(config: Config) -> None:
    """Refused first; with --again it is measured, and then on record as flashed again since its PASS."""
    board = a_board()

    async def make() -> None:
        async with at_work(config) as work:
            await work.plug("A1", board)
            await work.until_light("A1", Light.PASS)

    async def again() -> None:
        async with a_day(config, QualifyRequest(plan=QUICK, again=True)) as day:
            await day.plug(board)
            await day.result()

    asyncio.run(make())
    refused(config, board, "it is not measured without --again")
    asyncio.run(again())
    with Database.open(config.database_url) as books:
        known = books.known_board(format_mac(board.mac))
    assert known is not None
    assert (len(known.passes), known.attempts_since_pass) == (1, 1)


@pytest.mark.parametrize(
    ("mark", "again"), [(BoardEvent.MARK_GOLDEN, True), (BoardEvent.MARK_RED, True), (BoardEvent.MARK_RETURNED, False)]
)
def test_a_marked_board_is_not_touched(config: Config, mark: BoardEvent, again: bool) -> None:  # noqa: FBT001
    """Golden and red boards never, whatever is asked; one that came back from a customer only when asked."""
    board = a_board()
    config.state_dir.mkdir(parents=True, exist_ok=True)
    with Database.open(config.database_url) as books:
        books.add_board_event(
            BoardEventRow(id=new_id(), mac=format_mac(board.mac), event=mark, person="Eva", reason="a sample")
        )
    refused(config, board, "board: never flashed", again=again)


def test_beside_a_daemon_it_does_not_start(config: Config) -> None:
    """One program owns the programmers: the refusal names the one that runs."""

    async def main() -> None:
        async with a_day(config, QualifyRequest()) as day:
            await day.result()

    with only_daemon(config.state_dir), pytest.raises(ConfigurationError, match="another station"):
        asyncio.run(main())


@pytest.mark.parametrize("without", ["recipe", "slots"])
def test_without_recipe_or_slots_it_says_what_is_missing(config: Config, without: str) -> None:
    """Neither is guessed."""
    changed = (
        msgspec.structs.replace(config, work=WorkSection())
        if without == "recipe"
        else msgspec.structs.replace(config, slots={})
    )

    async def main() -> None:
        with VirtualBench(slots=1, pace=0.0, seed=1) as bench:
            person = Person(say=print)
            await qualify(changed, QualifyRequest(), person, watcher=BenchWatcher(bench), opener=BenchOpener(bench))

    with pytest.raises(ConfigurationError, match=without[:-1]):
        asyncio.run(main())


def written(config: Config, tmp_path: Path) -> Path:
    """The same configuration as a file."""
    file = tmp_path / "station.toml"
    places = "\n".join(f'{label} = "{place}"' for label, place in config.places.items())
    file.write_text(
        f'[station]\nid = "bench 7"\nstate_dir = "{config.state_dir}"\n[work]\nrecipe = "{config.work.recipe}"\n'
        f"[flashing]\nbaud_ladder = {list(FAST)}\n[slots]\n{places}\n"
    )
    return file


def test_the_command_asks_before_it_overwrites(config: Config, tmp_path: Path) -> None:
    """Where nobody can answer it takes --yes, and says what happens to the boards."""
    said = station("qualify", "--config", written(config, tmp_path)).refused(64)
    assert "--yes" in said
    assert "erased" in said
    assert not config.state_dir.exists()


def test_the_command_names_a_slot_that_is_not_there(config: Config, tmp_path: Path) -> None:
    """Wrong labels are said before anything is opened."""
    said = station("qualify", "--config", written(config, tmp_path), "--slots", "A1, Z9", "--yes").refused(78)
    assert "there is no slot Z9" in said


def test_the_configuration_check_says_which_rates_are_left_out(config: Config, tmp_path: Path) -> None:
    """A ladder that no slot has earned is a note, and nothing is wrong with the configuration."""
    file = written(config, tmp_path)
    checked = station("config", "check", file)
    assert checked.code == 0, checked.err
    assert "A1: 921600 baud left out: not measured there; run: station qualify" in checked.err
    assert not (config.state_dir / "qualification.json").exists()


def test_the_file_is_what_other_programs_can_read(config: Config) -> None:
    """Place, adapter, ceiling, versions and every board with its values stand in it by name."""
    asyncio.run(a_measured(config))
    (slot,) = json.loads((config.state_dir / "qualification.json").read_text("utf-8"))["slots"]
    assert (slot["slot"], slot["place"], slot["adapter"]) == ("A1", config.places["A1"], "1a86:7523 0264")
    assert set(slot["versions"]) == {"station", "esptool", "kernel"}
    assert slot["boards"][0]["values"]["software_start"] is True
    assert "ceiling_baud" in slot


async def a_measured(config: Config) -> None:
    """One board, quickly."""
    async with a_day(config, QualifyRequest(plan=QUICK)) as day:
        await day.plug(a_board())
        await day.result()
