"""How soon the station notices: a board that is seated where the programmer stays, and what is there after a plug.

At pace 1, so that wire, adapter and flash take the time of the measured reference chip, and all kinds of slot at once in one
station. Boards are seated at random moments between two looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from station.bench.bench import SwappingHand, VirtualBench
from station.bench.chip import Chip
from station.bench.image import make_image
from station.bench.programmer import ProgrammerKind
from station.config import Config, FlashingSection, SlotSection
from station.model import Light
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties
from station.transitions import SlotState
from tests.benchmarks.figures import Figure, Shown, Target, milliseconds
from tests.e2e.workbench import Workbench, a_board, at_work, config_for

SEATINGS = 20
PLUGS = 8
BUSY_TARGET = Target(at_most=1000.0)
KNOWN_TARGET = Target(at_most=2000.0, of_worst=True)
AT_READY_S = 0.25
NOT_SEEN_S = 10.0
FIRST_START_S = 3.0
LINES = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES)
LINES_AND_HAND = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.HAND)
JUMPER = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND)
SEATED_LINES = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES, moves=Moves.BOARD)
SEATED_SOLDERED = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW, moves=Moves.BOARD)
SEATED_TEST = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.NEVER_LOW, moves=Moves.BOARD, role=Role.TEST)


def kind_of(properties: SlotProperties) -> ProgrammerKind:
    """How the programmer of a slot like this is built; a jumper is set, and taken off by hand."""
    assert properties.reset is not None
    assert properties.gpio0 is not None
    return ProgrammerKind(reset=properties.reset, gpio0=properties.gpio0)


def config_with(directory: Path, recipe: Path, slots: Mapping[str, SlotProperties]) -> Config:
    """A station that knows what its slots are, with the waits of a real one."""
    config = config_for(directory, recipe, slots=len(slots))
    sections = {
        label: SlotSection(
            place=config.places[label], reset=slot.reset, gpio0=slot.gpio0, moves=slot.moves, role=slot.role
        )
        for label, slot in slots.items()
    }
    return msgspec.structs.replace(config, slots=sections, flashing=FlashingSection())


def bench_with(slots: Mapping[str, SlotProperties]) -> VirtualBench:
    """The bench to it, at pace 1."""
    kinds = {label: kind_of(slot) for label, slot in slots.items()}
    return VirtualBench(slots=len(slots), pace=1.0, seed=1, kinds=kinds)


def a_running_board(image: bytes) -> Chip:
    """A board with a firmware in its flash."""
    chip = a_board()
    chip.flash.data[: len(image)] = image
    return chip


def flash_after_first_start(image: bytes) -> bytes:
    """What is in a flash with this image once its firmware has made its filesystem, which takes a while at the first start."""
    chip = a_running_board(image)
    with VirtualBench(slots=1, pace=0.0, seed=1, kinds={"A1": kind_of(SEATED_TEST)}) as bench:
        bench.plug("A1", chip)
        time.sleep(FIRST_START_S)
        bench.unplug("A1")
    return bytes(chip.flash.data)


class AtFirmware:
    """An AT firmware as it comes from the factory: says that it is ready, echoes, and knows no command but its own."""

    baud = 115200

    def __init__(self, _chip: Chip, emit: Callable[[bytes], None], _on_reset: Callable[[str], None]) -> None:
        self._emit = emit
        self._ready = asyncio.get_running_loop().call_later(AT_READY_S, emit, b"\r\nready\r\n")

    def receive(self, data: bytes) -> None:
        """Echo all but the line feed, which ends a command."""
        for byte in data:
            self._emit(bytes([byte]) if byte != ord("\n") else b"\r\nERROR\r\n")

    def power_off(self) -> None:
        """It says no more."""
        self._ready.cancel()


# -- from the seat to BUSY -------------------------------------------------------------------------------------------------


async def seat_to_busy(work: Workbench, shown: Shown, label: str, board: Callable[[], Chip]) -> list[float]:
    """From the hand at the empty socket to the BUSY light; the programmer is plugged in anew before each."""
    took, slot, dice = [], work.floor.slots[label], random.Random(f"seat {label}")
    for _ in range(SEATINGS):
        await work.plug(label, None)
        await work.until(lambda: slot.state is SlotState.READY)
        took.append(await _seated(work, shown, label, board(), 1.0 + dice.random()))
        await work.unplug(label)
        await work.until(lambda: not slot.busy and slot.programmer is None)
    return took


async def exchange_to_busy(work: Workbench, shown: Shown, label: str, board: Callable[[], Chip]) -> list[float]:
    """From the hand that seats the next board, while the last one's result still shows, to the BUSY light.

    A board that was not noticed within `NOT_SEEN_S` counts as infinite.
    """
    took, slot, dice = [], work.floor.slots[label], random.Random(f"exchange {label}")
    await work.plug(label, None)
    await work.until(lambda: slot.state is SlotState.READY)
    for _ in range(SEATINGS // 2 + 1):
        took.append(await _seated(work, shown, label, board(), 1.5 + dice.random()))
        await work.until(lambda: not slot.busy)
        await asyncio.sleep(0.5)
        await work.lift(label)
    return took[1:]


async def _seated(work: Workbench, shown: Shown, label: str, chip: Chip, after_s: float) -> float:
    await asyncio.sleep(after_s)
    shown.at_s.pop((label, Light.BUSY), None)
    began_s = time.perf_counter()
    await work.seat(label, chip)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(NOT_SEEN_S):
            await work.until(lambda: (label, Light.BUSY) in shown.at_s)
    return milliseconds(began_s, shown.at_s.get((label, Light.BUSY), math.inf))


async def seatings(directory: Path, recipe: Path) -> list[Figure]:
    """Every kind of slot at once."""
    image = make_image()
    started = await asyncio.to_thread(flash_after_first_start, image)
    slots = {"A1": SEATED_LINES, "A2": SEATED_SOLDERED, "A3": SEATED_TEST, "A4": SEATED_TEST, "A5": SEATED_TEST}
    shown = Shown()
    with bench_with(slots) as bench:
        async with at_work(config_with(directory, recipe, slots), bench=bench, light=shown.light) as work:
            lines, soldered, test, first, exchanged = await asyncio.gather(
                seat_to_busy(work, shown, "A1", a_board),
                seat_to_busy(work, shown, "A2", a_board),
                seat_to_busy(work, shown, "A3", lambda: a_running_board(started)),
                seat_to_busy(work, shown, "A4", lambda: a_running_board(image)),
                exchange_to_busy(work, shown, "A5", lambda: a_running_board(started)),
            )
    rows = {
        "seating to BUSY light, reset lines, gpio0 lines": lines,
        "seating to BUSY light, reset none, gpio0 always_low": soldered,
        "seating to BUSY light, reset none, gpio0 never_low, role test": test,
        "  there, a board whose firmware starts for the first time": first,
        "  there, with the last board's result still on the light": exchanged,
    }
    return [Figure(what=what, values=values, target=BUSY_TARGET) for what, values in rows.items()]


# -- from the plug to the words --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is plugged in where."""

    slot: str
    wiring: str
    what: str
    board: Callable[[], Chip | None]
    jumper_low: bool = True
    at_firmware: bool = False


def cases(image: bytes, started: bytes) -> list[Case]:
    """All that can be at the other end, at a programmer with lines and at one without."""

    def running() -> Chip:
        return a_running_board(started)

    def starting() -> Chip:
        return a_running_board(image)

    def echoing() -> Chip:
        return a_board("echo")

    both = (("A1", "A2", "lines"), ("A3", "A3", "none"))
    found: list[Case] = []
    for slot, jumper, wiring in both:
        found += (
            Case(slot=slot, wiring=wiring, what="loader", board=a_board),
            Case(slot=jumper, wiring=wiring, what="MicroPython", board=running, jumper_low=False),
            Case(slot=jumper, wiring=wiring, what="its first start", board=starting, jumper_low=False),
            Case(slot=jumper, wiring=wiring, what="AT firmware", board=running, jumper_low=False, at_firmware=True),
            Case(slot=slot, wiring=wiring, what="echo", board=echoing),
            Case(slot=slot, wiring=wiring, what="nothing", board=lambda: None),
        )
    return found


@dataclass(slots=True, kw_only=True)
class Known:
    """How long it took until the tile said what is there, and what it said."""

    said: deque[str]
    took: list[float]
    noted: list[float]
    """Until the note of a busy tile said that a firmware runs, where it did."""


async def plug_to_known(work: Workbench, case: Case) -> Known:
    """From the hand at the socket to the MAC of a loader on the tile, or the words of a finding."""
    slot, usual = work.floor.slots[case.slot], work.bench.sockets[case.slot].hand
    known = Known(said=deque(), took=[], noted=[])
    if case.at_firmware:
        work.bench.sockets[case.slot].hand = SwappingHand(AtFirmware)
    await work.jumper(case.slot, low=case.jumper_low)
    for _ in range(PLUGS):
        chip, began_s = case.board(), time.perf_counter()
        await work.plug(case.slot, chip)
        await work.until(lambda: slot.plug is not None)
        await work.until(lambda: bool(slot.view().note.startswith("a firmware runs") or _says(work, case.slot)))
        if not _says(work, case.slot):
            known.noted.append(milliseconds(began_s, time.perf_counter()))
            await work.until(lambda: bool(_says(work, case.slot)))
        known.took.append(milliseconds(began_s, time.perf_counter()))
        known.said.append(_says(work, case.slot))
        await work.unplug(case.slot)
        await work.until(lambda: not slot.busy and slot.programmer is None)
    work.bench.sockets[case.slot].hand = usual
    return known


def _says(work: Workbench, label: str) -> str:
    """The reason that the words are about, or `MAC` while a board of which the MAC is known is being made."""
    view = work.view(label)
    if view.light is Light.BUSY:
        return "MAC" if view.mac and not view.note.startswith("a firmware runs") else ""
    return view.reason


async def plugs(directory: Path, recipe: Path) -> list[Figure]:
    """The two wirings at once, their cases one after the other."""
    image = make_image()
    played = cases(image, await asyncio.to_thread(flash_after_first_start, image))
    slots = {"A1": LINES, "A2": LINES_AND_HAND, "A3": JUMPER}
    with bench_with(slots) as bench:
        async with at_work(config_with(directory, recipe, slots), bench=bench) as work:

            async def in_turn(wiring: str) -> list[Figure]:
                figures: list[Figure] = []
                for case in played:
                    if case.wiring == wiring:
                        figures += figures_of(case, await plug_to_known(work, case))
                return figures

            both: list[Coroutine[None, None, list[Figure]]] = [in_turn("lines"), in_turn("none")]
            lines, none = await asyncio.gather(*both)
    return lines + none


def figures_of(case: Case, known: Known) -> list[Figure]:
    """The lines of the table for one case."""
    said = ", ".join(sorted(set(known.said)))
    what = f"plug to known, reset {case.wiring}: {case.what} ({said})"
    figures = [Figure(what=what, values=known.took, target=KNOWN_TARGET)]
    if known.noted:
        figures.append(Figure(what="  the busy tile notes that a firmware runs", values=known.noted))
    return figures
