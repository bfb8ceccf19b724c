"""A running station on a virtual bench inside a test, and the hands at it: what `station demo` puts together, in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from station.bench.bench import BenchOpener, BenchWatcher, VirtualBench
from station.bench.chip import Chip, make_chip
from station.bench.faults import parse_fault
from station.config import (
    Config,
    FlashingSection,
    HttpSection,
    ShutdownSection,
    StationSection,
    UsbSection,
    WorkSection,
)
from station.daemon import run_station
from station.floor import Floor
from station.model import Light, SlotView
from station.panel.server import Address
from station.ports import LightDriver, LineOpener, ProgrammerWatcher
from tests.e2e.command import get

PATIENCE_S = 90.0
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


@contextlib.asynccontextmanager
async def at_work(
    config: Config,
    *,
    pace: float = 0.0,
    light: WatchedLight | None = None,
    bench: VirtualBench | None = None,
    watcher: Callable[[VirtualBench], ProgrammerWatcher] = BenchWatcher,
    opener: Callable[[VirtualBench], LineOpener] = BenchOpener,
) -> AsyncIterator[Workbench]:
    """Run the station until the context is left; what `run_station` raises comes out here."""
    with contextlib.ExitStack() as stack:
        bench = bench or stack.enter_context(VirtualBench(slots=len(config.slots), pace=pace, seed=1))
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
