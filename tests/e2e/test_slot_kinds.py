"""Every kind of slot that makes sense: one healthy board, a careful operator who obeys the words, and what is on record."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from station.bench.bench import VirtualBench
from station.bench.chip import Chip, make_chip
from station.bench.image import make_image
from station.bench.operator import Manner, Operator
from station.bench.programmer import ProgrammerKind
from station.config import SlotSection
from station.demo import write_demo_recipe
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties, refusal
from tests.e2e.workbench import a_board, at_work, config_for, rows_of

UNDER_TEST, PARTNER = "A1", "A2"
AUTO = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES, role=Role.FLASH)
TESTER = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.NEVER_LOW, role=Role.TEST)


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What the records say when the board is put away."""

    jobs: list[tuple[str, str | None, str, str | None]]
    """State, outcome, reason, boot evidence."""
    visits: list[tuple[str, str]]
    """Slot and finding, in order."""


def played(
    tmp_path: Path,
    slots: Mapping[str, SlotProperties],
    *,
    first: str,
    chip: Chip | None = None,
    policy: str = "",
    told: bool = True,
) -> OnRecord:
    """A shift of one board that begins in slot `first`; the slots are what they say, and the station is told so, or not."""
    recipe, _ = write_demo_recipe(tmp_path / "recipe", policy)
    config = config_for(tmp_path, recipe, slots=len(slots))
    sections = {
        label: SlotSection(
            place=str(place),
            reset=slots[label].reset if told else None,
            gpio0=slots[label].gpio0 if told else None,
            moves=slots[label].moves,
            role=slots[label].role,
        )
        for label, place in config.slots.items()
    }
    config = msgspec.structs.replace(config, slots=sections)
    kinds = {
        label: ProgrammerKind(reset=kind.reset or Reset.NONE, gpio0=kind.gpio0 or Gpio0.HAND)
        for label, kind in slots.items()
    }
    moving = [label for label, kind in slots.items() if kind.board_moves]
    board = chip or a_board()

    async def work() -> None:
        with VirtualBench(slots=len(slots), pace=0.0, seed=1, kinds=kinds) as bench:
            async with at_work(config, bench=bench) as at:
                operator = Operator(
                    bench, at.floor, {first: [board]}, manner=Manner.CAREFUL, board_moves=moving, seed=1
                )
                async with asyncio.timeout(120):
                    await operator.work()

    asyncio.run(work())
    return OnRecord(
        jobs=[
            tuple(row)
            for row in rows_of(config, "SELECT state, outcome, reason, boot_evidence FROM job ORDER BY sequence")
        ],
        visits=[tuple(row) for row in rows_of(config, "SELECT slot, finding FROM visit ORDER BY sequence")],
    )


def kinds(*roles: Role) -> list[SlotProperties]:
    """Every combination that makes sense with these roles."""
    every = itertools.product(Reset, Gpio0, (Moves.PROGRAMMER, Moves.BOARD), roles)
    combined = [SlotProperties(reset=reset, gpio0=gpio0, moves=moves, role=role) for reset, gpio0, moves, role in every]
    return [properties for properties in combined if not refusal(properties)]


def name_of(properties: SlotProperties) -> str:
    """For the test's id."""
    return f"{properties.reset}-{properties.gpio0}-{properties.moves}"


@pytest.mark.parametrize("kind", kinds(Role.MAKE), ids=name_of)
def test_a_slot_that_makes_needs_one_plug_whatever_its_wiring(tmp_path: Path, kind: SlotProperties) -> None:
    """Lines that reach both pins start the firmware by a reset; where GPIO0 stays at GND it is started by software."""
    record = played(tmp_path, {UNDER_TEST: kind, PARTNER: TESTER}, first=UNDER_TEST)
    evidence = "reset_line" if kind.gpio0 is Gpio0.LINES else "soft"
    assert record.jobs == [("closed", "PASS", "", evidence)]
    assert record.visits == [(UNDER_TEST, "")]


@pytest.mark.parametrize("kind", kinds(Role.MAKE), ids=name_of)
def test_a_recipe_that_wants_a_cold_start_gets_one_whatever_the_wiring(tmp_path: Path, kind: SlotProperties) -> None:
    """A reset line is enough; a jumper comes off for a second plug in the same slot; a soldered one means the test slot."""
    policy = '\n[policy]\ncold_boot = "all"\n'
    record = played(tmp_path, {UNDER_TEST: kind, PARTNER: TESTER}, first=UNDER_TEST, policy=policy)
    [(state, outcome, reason, evidence)] = record.jobs
    assert (state, outcome, reason) == ("closed", "PASS", "")
    match kind.gpio0:
        case Gpio0.LINES:
            assert (evidence, [slot for slot, _ in record.visits]) == ("reset_line", [UNDER_TEST])
        case Gpio0.HAND:
            hardware = "cold" if kind.reset is Reset.NONE else "reset_line"
            assert (evidence, [slot for slot, _ in record.visits]) == (hardware, [UNDER_TEST, UNDER_TEST])
        case _:
            assert (evidence, [slot for slot, _ in record.visits]) == ("cold", [UNDER_TEST, PARTNER])


@pytest.mark.parametrize("kind", kinds(Role.FLASH), ids=name_of)
def test_a_slot_that_only_flashes_names_the_test_slot(tmp_path: Path, kind: SlotProperties) -> None:
    """The words carry the board to the slot that tests; one job, two visits, two slots."""
    record = played(tmp_path, {UNDER_TEST: kind, PARTNER: TESTER}, first=UNDER_TEST)
    assert record.jobs == [("closed", "PASS", "", "cold")]
    assert record.visits == [(UNDER_TEST, ""), (PARTNER, "")]


@pytest.mark.parametrize("kind", kinds(Role.TEST), ids=name_of)
def test_a_slot_that_tests_finishes_what_was_flashed_elsewhere(tmp_path: Path, kind: SlotProperties) -> None:
    """Bound by MAC: by the ROM where both lines reach, else over the REPL after a plug without GPIO0 at GND."""
    record = played(tmp_path, {UNDER_TEST: kind, PARTNER: AUTO}, first=PARTNER)
    [(state, outcome, reason, evidence)] = record.jobs
    assert (state, outcome, reason) == ("closed", "PASS", "")
    assert evidence == ("cold" if kind.reset is Reset.NONE else "reset_line")
    assert record.visits[0] == (PARTNER, "")
    assert record.visits[-1] == (UNDER_TEST, "")
    # The hand brings the jumper along from the last slot: the words of this one take it off.
    assert all(finding == "awaits_run_mode" for _, finding in record.visits[1:-1])


@pytest.mark.parametrize("kind", kinds(Role.INSPECT), ids=name_of)
def test_a_slot_that_inspects_changes_nothing(tmp_path: Path, kind: SlotProperties) -> None:
    """One row with what it saw, no job, and every byte of the flash as it was."""
    runs = kind.gpio0 is Gpio0.NEVER_LOW
    # Without GPIO0 at GND only a firmware can tell who it is; at its first start it makes its filesystem by itself.
    image = make_image(variant="1M") if runs else b""
    chip = make_chip(mac=b"\x5c\xcf\x7f\x00\xee\x01", seed=1, image=image)
    before = bytes(chip.flash.data)
    record = played(tmp_path, {UNDER_TEST: kind}, first=UNDER_TEST, chip=chip)
    assert record.jobs == []
    assert record.visits == [(UNDER_TEST, "inspected")]
    assert bytes(chip.flash.data[: len(image) or None]) == before[: len(image) or None]


@pytest.mark.parametrize(
    ("reset", "gpio0"), [(Reset.LINES, Gpio0.LINES), (Reset.LINES, Gpio0.HAND), (Reset.NONE, Gpio0.HAND)]
)
def test_what_nobody_told_the_station_it_finds_out(tmp_path: Path, reset: Reset, gpio0: Gpio0) -> None:
    """Nothing is configured: the first board is made all the same, and the map remembers what was learned, and from what."""
    kind = SlotProperties(reset=reset, gpio0=gpio0)
    record = played(tmp_path, {UNDER_TEST: kind}, first=UNDER_TEST, told=False)
    assert record.jobs == [("closed", "PASS", "", "reset_line" if gpio0 is Gpio0.LINES else "soft")]
    learned = msgspec.json.decode((tmp_path / "state" / "slots.json").read_bytes())[UNDER_TEST]
    assert learned["reset"] == reset
    assert learned["reset_evidence"]
    # Without reset lines nothing on the line can tell a jumper from a soldered pin.
    assert learned.get("gpio0") == (gpio0 if reset is Reset.LINES else None)
