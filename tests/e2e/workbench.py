"""A running station on a virtual bench inside a test, and the hands at it: what `station demo` puts together, in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from station.bench.bench import BenchOpener, BenchWatcher, VirtualBench
from station.bench.chip import Chip, make_chip
from station.bench.faults import parse_fault
from station.bench.programmer import ProgrammerKind
from station.config import (
    Config,
    FlashingSection,
    HttpSection,
    ShutdownSection,
    SlotDefaultsSection,
    StationSection,
    UsbSection,
    WorkSection,
)
from station.daemon import run_station
from station.demo import write_demo_recipe
from station.doctor.rounds import Examine
from station.floor import Floor
from station.model import Light
from station.panel.server import Address
from station.ports import LightDriver, LineOpener, ProgrammerWatcher
from station.properties import Gpio0, Reset
from station.views import SlotView
from tests.e2e.command import get

PATIENCE_S = 90.0
JUMPER = ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.HAND)
"""The common stick: no line reaches the board, and a jumper grounds GPIO0."""
_MACS = itertools.count(0x100)


def a_board(*faults: str, mac: bytes = b"") -> Chip:
    """A board with a MAC of its own and these faults."""
    number = next(_MACS)
    mac = mac or b"\x5c\xcf\x7f" + number.to_bytes(3, "big")
    return make_chip(mac=mac, faults=tuple(parse_fault(fault) for fault in faults), seed=number)


def config_for(tmp_path: Path, recipe: Path | None, *, slots: int = 1, **sections: msgspec.Struct) -> Config:
    """A station with its state in `tmp_path`; `sections` replace those of the configuration."""
    config = Config(
        station=StationSection(id="test", state_dir=str(tmp_path / "state")),
        slots=VirtualBench.places(slots),
        usb=UsbSection(reconcile_s=0.5),
        work=WorkSection(recipe=str(recipe or "")),
        flashing=FlashingSection(progress_deadline_s=20.0, identity_reads_over_s=0.02),
        http=HttpSection(listen="127.0.0.1:0"),
        shutdown=ShutdownSection(finish_s=0.0),
    )
    return msgspec.structs.replace(config, **sections)


def jumper_bench(
    directory: Path, *, slots: int = 1, policy: str = 'cold_boot = "all"', **sections: msgspec.Struct
) -> Config:
    """A station of jumper sticks, which knows them, with its state in `directory` and a recipe with this policy.

    Without another policy every board has to start from its power alone: that takes a second plug.
    """
    recipe, _ = write_demo_recipe(directory / "recipe", f"\n[policy]\n{policy}\n")
    kind = SlotDefaultsSection(reset=Reset.NONE, gpio0=Gpio0.HAND)
    return config_for(directory, recipe, slots=slots, slot_defaults=kind, **sections)


class WatchedLight:
    """A light driver that keeps what it was told, and calls `on_show` before anybody else can see it."""

    def __init__(self, on_show: Callable[[str, Light], None] = lambda _slot, _light: None) -> None:
        self.shown: list[tuple[str, Light]] = []
        self.on_show = on_show

    def show(self, slot: str, light: Light) -> None:
        """Keep it."""
        self.on_show(slot, light)
        self.shown.append((slot, light))

    def of(self, slot: str) -> list[Light]:
        """The lights of one slot in order, without repetitions."""
        return [light for light, _ in itertools.groupby(shown for label, shown in self.shown if label == slot)]

    def healthy(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Nothing to switch off."""


@dataclass(slots=True, kw_only=True)
class Workbench:
    """The station at work, and its bench."""

    bench: VirtualBench
    floor: Floor
    address: Address
    config: Config
    light: WatchedLight
    finish: asyncio.Event
    station: asyncio.Task[None]
    failed: list[BaseException] = field(default_factory=list)

    async def plug(self, label: str, chip: Chip | None) -> None:
        """Plug a programmer with this board in."""
        await asyncio.to_thread(self.bench.plug, label, chip)

    async def unplug(self, label: str) -> None:
        """Pull it out."""
        await asyncio.to_thread(self.bench.unplug, label)

    async def seat(self, label: str, chip: Chip) -> None:
        """Seat a board in the programmer that stays plugged in."""
        await asyncio.to_thread(self.bench.seat, label, chip)

    async def lift(self, label: str) -> None:
        """Take the board out, and leave the programmer."""
        await asyncio.to_thread(self.bench.lift, label)

    async def exchange(self, label: str, chip: Chip) -> None:
        """Put this board into the place of the one that is there, as fast as a hand can."""
        await self.lift(label)
        await self.seat(label, chip)

    async def jumper(self, label: str, *, low: bool) -> None:
        """Set or take off the jumper between GPIO0 and GND."""
        await asyncio.to_thread(lambda: self.bench.set_jumper(label, low=low))

    async def plug_and_wait(self, label: str, chip: Chip, *, low: bool = True) -> SlotView:
        """Set the jumper, plug this board in, wait for the end of the visit, and return what the slot shows then."""
        slot = self.floor.slots[label]
        ended = slot.visits_ended
        await self.jumper(label, low=low)
        await self.plug(label, chip)
        await self.until(lambda: slot.visits_ended > ended and not slot.busy)
        return self.view(label)

    async def visit(self, label: str, chip: Chip, *, low: bool = True) -> SlotView:
        """The same, and pull it out again."""
        seen = await self.plug_and_wait(label, chip, low=low)
        await self.pull(label)
        return seen

    async def pull(self, label: str) -> None:
        """Pull the programmer out, whatever goes on, and wait until the visit is on record."""
        slot = self.floor.slots[label]
        await self.unplug(label)
        await self.until(lambda: slot.programmer is None and not slot.busy)

    def view(self, label: str = "A1") -> SlotView:
        """What a person sees of one slot."""
        return next(slot for slot in self.floor.view().slots if slot.slot == label)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait, looking whenever something changes."""
        seen = -1
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                seen = await self.floor.wait_change(seen)

    async def until_light(self, label: str, light: Light) -> None:
        """Wait for a light."""
        await self.until(lambda: self.view(label).light is light)

    async def until_flashing(self, label: str = "A1") -> None:
        """Wait until the first bytes of the image are in flash."""
        await self.until(lambda: (self.view(label).fraction or 0.0) > 0.0)

    async def get(self, path: str) -> tuple[int, Any]:
        """One GET on the station's page."""
        return await asyncio.to_thread(get, str(self.address), path)

    def rows(
        self, query: str = "SELECT slot, state, outcome, reason FROM job ORDER BY sequence"
    ) -> list[tuple[Any, ...]]:
        """Ask the records over a connection of our own."""
        return rows_of(self.config, query)


def rows_of(config: Config, query: str) -> list[tuple[Any, ...]]:
    """Ask a station's records over a connection of our own."""
    with contextlib.closing(sqlite3.connect(config.database_url.removeprefix("sqlite:///"))) as connection:
        return connection.execute(query).fetchall()


def every_slot(config: Config, kind: ProgrammerKind) -> dict[str, ProgrammerKind]:
    """The same kind of programmer in all slots."""
    return dict.fromkeys(config.slots, kind)


@contextlib.asynccontextmanager
async def at_work(
    config: Config,
    *,
    pace: float = 0.0,
    light: WatchedLight | None = None,
    bench: VirtualBench | None = None,
    kinds: Mapping[str, ProgrammerKind] | None = None,
    watcher: Callable[[VirtualBench], ProgrammerWatcher] = BenchWatcher,
    opener: Callable[[VirtualBench], LineOpener] = BenchOpener,
    examine: Examine | None = None,
) -> AsyncIterator[Workbench]:
    """Run the station until the context is left; what `run_station` raises comes out here.

    `bench` outlives it; without one there is a bench of its own, whose programmers are what `kinds` says.
    """
    with contextlib.ExitStack() as stack:
        bench = bench or stack.enter_context(VirtualBench(slots=len(config.slots), pace=pace, seed=1, kinds=kinds))
        light = light or WatchedLight()
        lights: list[LightDriver] = [light]
        finish, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        station = asyncio.create_task(
            run_station(
                config,
                file="test",
                watcher=watcher(bench),
                opener=opener(bench),
                lights=lights,
                finish=finish,
                examine=examine,
                ready=lambda floor, address: ready.set_result((floor, address)),
            )
        )
        await asyncio.wait([station, ready], return_when=asyncio.FIRST_COMPLETED)
        if station.done():
            await station
        floor, address = ready.result()
        try:
            yield Workbench(
                bench=bench,
                floor=floor,
                address=address,
                config=config,
                light=light,
                finish=finish,
                station=station,
            )
        finally:
            finish.set()
            await station


def open_ttys() -> list[str]:
    """The ptys that this process has open on the client's side."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(descriptor.readlink()))
    return [target for target in found if target.startswith("/dev/pts/") and target != "/dev/pts/ptmx"]
