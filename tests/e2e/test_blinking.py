"""The LED on the board as its light, through the real daemon and the real MicroPython: what a pin does, and until when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from station.bench.bench import VirtualBench
from station.blinking import FAST_HZ, SLOW_HZ
from station.config import SlotDefaultsSection
from station.demo import write_demo_recipe
from station.model import Light
from station.properties import Gpio0, Moves, Reset
from tests.bench.firmware_rig import files_in
from tests.e2e.workbench import JUMPER, PATIENCE_S, Workbench, a_board, at_work, config_for, every_slot, open_ttys

HALF = 512


def blinking_bench(directory: Path, led: str, **sections):
    """A station whose recipe wants this LED."""
    recipe, _ = write_demo_recipe(directory / "recipe", f'\n[signal]\nled = "{led}"\n')
    return config_for(directory, recipe, **sections)


@pytest.mark.parametrize(("led", "pin"), [("gpio1", 1), ("gpio2", 2)])
@pytest.mark.parametrize(
    ("fault", "light", "rate"), [((), Light.PASS, SLOW_HZ), (("out_of_limits",), Light.FAIL, FAST_HZ)]
)
def test_a_board_blinks_as_it_was_judged_until_it_is_unplugged(tmp_path, led, pin, fault, light, rate) -> None:
    """Slowly for PASS, fast for FAIL, by its hardware, with no file left behind; without power it is over."""
    config = blinking_bench(tmp_path, led)
    chip = a_board(*fault)

    async def main() -> None:
        async with at_work(config) as at:
            assert (await at.plug_and_wait("A1", chip)).light is light
            # What was said last may still be on its way.
            await asyncio.to_thread(until, lambda: bool(chip.pwm))
            assert chip.pwm == {pin: (rate, HALF)}
            assert at.rows("SELECT outcome FROM job") == [(light.name,)]
            assert set(files_in(chip)) == {"boot.py"}
            await at.pull("A1")
            await at.plug("A1", chip)
            await asyncio.to_thread(until, lambda: not chip.pwm)

    with capture_logs() as said:
        asyncio.run(main())
    assert "board.does_not_blink" not in [event["event"] for event in said]


def test_the_board_blinks_after_its_record(tmp_path) -> None:
    """When the pin begins to blink the PASS can be read from the records already, and before that it never does."""
    config = blinking_bench(tmp_path, "gpio2")
    chip = a_board()
    on_record: list[list[tuple[str]]] = []

    class Pins(dict[int, tuple[int, int]]):
        """The pins of a chip that look into the records when one of them begins to blink."""

        def __setitem__(self, pin: int, rate: tuple[int, int]) -> None:
            on_record.append(at_bench[0].rows("SELECT outcome FROM job"))
            super().__setitem__(pin, rate)

    chip.pwm = Pins()
    at_bench: list[Workbench] = []

    async def main() -> None:
        async with at_work(config) as at:
            at_bench.append(at)
            await at.visit("A1", chip)

    asyncio.run(main())
    assert on_record
    assert all(rows == [("PASS",)] for rows in on_record)


def test_a_board_that_cannot_blink_passes_all_the_same(tmp_path, monkeypatch) -> None:
    """Whatever becomes of the light on the board, the verdict stands: here its firmware has no PWM."""
    monkeypatch.setattr("station.blinking.code_for", lambda _pin, _rate: "import no_such_module")
    config = blinking_bench(tmp_path, "gpio2")
    chip = a_board()

    async def main() -> None:
        async with at_work(config) as at:
            assert (await at.visit("A1", chip)).light is Light.PASS
            assert at.rows("SELECT outcome FROM job") == [("PASS",)]

    asyncio.run(main())
    assert chip.pwm == {}


def test_no_board_blinks_unless_the_recipe_wants_it(tmp_path) -> None:
    """`led = "none"`, the default: no pin of the board is touched."""
    chip = a_board()

    async def main() -> None:
        async with at_work(blinking_bench(tmp_path, "none")) as at:
            assert (await at.plug_and_wait("A1", chip)).light is Light.PASS

    asyncio.run(main())
    assert chip.pwm == {}


def test_no_board_blinks_where_the_station_asks_its_loader_again(tmp_path) -> None:
    """Where boards move and lines reset them, the firmware ends with the visit: nothing is shown, nothing is disturbed."""
    defaults = SlotDefaultsSection(moves=Moves.BOARD)
    config = blinking_bench(tmp_path, "gpio1", slot_defaults=defaults)
    chip = a_board()

    async def main() -> None:
        async with at_work(config) as at:
            await at.plug("A1", None)
            await at.until_light("A1", Light.EMPTY)
            await at.seat("A1", chip)
            await at.until_light("A1", Light.PASS)
            assert chip.pwm == {}
            await at.lift("A1")
            await at.until_light("A1", Light.EMPTY)

    asyncio.run(main())


@pytest.mark.parametrize("led", ["gpio1", "gpio2"])
def test_without_lines_a_blinking_board_makes_room_for_the_next_one(tmp_path, led) -> None:
    """A stick whose lines reach nothing: the port is free, pulling is noticed, and the next board is made; both stay PASS."""
    config = blinking_bench(tmp_path, led, slot_defaults=SlotDefaultsSection(reset=Reset.NONE, gpio0=Gpio0.HAND))
    chips = [a_board(), a_board()]

    async def main() -> None:
        async with at_work(config, kinds=every_slot(config, JUMPER)) as at:
            for chip in chips:
                assert (await at.plug_and_wait("A1", chip)).light is Light.PASS
                await asyncio.to_thread(until, partial(bool, chip.pwm))
                assert open_ttys() == []
                await at.pull("A1")
                await at.until_light("A1", Light.EMPTY)
            assert at.rows() == [("A1", "closed", "PASS", "")] * 2

    asyncio.run(main())


@pytest.mark.parametrize("led", ["gpio1", "gpio2"])
def test_the_next_board_in_the_same_socket_is_noticed_while_one_blinks(tmp_path, led) -> None:
    """Boards move and no line resets them: the blinking one goes on, the next one is seen to start and is made."""
    defaults = SlotDefaultsSection(reset=Reset.NONE, gpio0=Gpio0.HAND, moves=Moves.BOARD)
    config = blinking_bench(tmp_path, led, slot_defaults=defaults)
    first, second = a_board(), a_board()

    async def main() -> None:
        async with at_work(config, kinds=every_slot(config, JUMPER)) as at:
            await at.plug("A1", None)
            await at.until_light("A1", Light.EMPTY)
            await at.jumper("A1", low=True)
            await at.seat("A1", first)
            await at.until_light("A1", Light.PASS)
            await asyncio.to_thread(until, lambda: bool(first.pwm))
            # The second one is known by its boot message, and by nothing else: somebody has to listen by then.
            await at.until(lambda: at.view().unwatched)
            await at.exchange("A1", second)
            await at.until(lambda: len(at.rows()) == 2 and at.view().light is Light.PASS)
            await asyncio.to_thread(until, lambda: bool(second.pwm))
            assert at.rows() == [("A1", "closed", "PASS", "")] * 2

    asyncio.run(main())


@pytest.mark.parametrize(("led", "said"), [("gpio1", "no_answer"), ("gpio2", "already_done")])
def test_a_station_that_starts_again_makes_nothing_of_a_blinking_board(tmp_path, led, said) -> None:
    """It is not flashed anew and stays PASS; where its LED is the UART's TX the station cannot hear it, and says so."""
    config = blinking_bench(tmp_path, led, slot_defaults=SlotDefaultsSection(reset=Reset.NONE, gpio0=Gpio0.HAND))
    chip = a_board()

    async def main() -> None:
        with VirtualBench(slots=1, pace=0.0, seed=1, kinds=every_slot(config, JUMPER)) as bench:
            async with at_work(config, bench=bench) as at:
                assert (await at.plug_and_wait("A1", chip)).light is Light.PASS
                await asyncio.to_thread(until, lambda: bool(chip.pwm))
            async with at_work(config, bench=bench) as at:
                await at.until(lambda: at.floor.slots["A1"].visits_ended == 1 and not at.floor.slots["A1"].busy)
                assert at.rows() == [("A1", "closed", "PASS", "")]
                assert (at.view().light, at.view().reason) == (Light.ACTION, said)

    asyncio.run(main())


def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
